"""What can be seen of a call from outside: what it gave or raised, and the run trees its tracers were shown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.tracers import BaseTracer

if TYPE_CHECKING:
    from langchain_core.tracers import Run

# Ids, addresses and times are chance; run ids that a test chose begin with zeros and stay.
_CHANCE = re.compile(
    r"(?!00000000-)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    r"|\b[0-9a-f]{32}\b|0x[0-9a-f]+|\d{4}-\d\d-\d\dT[0-9:.+]+"
)


class Seen(NamedTuple):
    """The outcome of one call."""

    gave: Any
    raised: tuple[str, str] | None
    told: list[str]  # run trees and callbacks, sorted: rows end in any order


def plain(value: Any) -> str:
    """A value as a text in which nothing is chance. Exceptions are their type and message."""
    return _CHANCE.sub("*", repr(value))


class Trees(BaseTracer):
    """Keeps each run tree as it ends."""

    def __init__(self) -> None:
        super().__init__()
        self.roots: list[str] = []

    def _persist_run(self, run: Run) -> None:
        self.roots.append(str(_tree(run)))


def besides(metadata: Any) -> dict[str, Any]:
    """Metadata without what says which row a tree is of: `tests/engine/test_run_trees.py` looks at that."""
    return {name: value for name, value in (metadata or {}).items() if not name.startswith("cottonpalm_")}


def _tree(run: Run) -> Any:
    metadata = besides((run.extra or {}).get("metadata"))
    error = None if run.error is None else run.error.partition("Traceback")[0]
    outputs = sorted((run.outputs or {}).items(), key=str)  # steps side by side end in any order
    shown = (run.run_type, run.name, sorted(run.tags or ()), metadata, run.inputs, outputs, error)
    return [plain((run.id, *shown)), *sorted((_tree(child) for child in run.child_runs), key=str)]


class Told(BaseCallbackHandler):
    """Keeps what a sync handler is told."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def on_chain_start(self, serialized: Any, inputs: Any, **more: Any) -> None:
        metadata = besides(more.get("metadata"))
        self.calls.append(plain(("start", more.get("name"), inputs, more.get("tags"), metadata)))

    def on_chain_end(self, outputs: Any, **more: Any) -> None:
        self.calls.append(plain(("end", outputs)))

    def on_chain_error(self, error: BaseException, **more: Any) -> None:
        self.calls.append(plain(("error", error)))

    def on_llm_new_token(self, token: str, **more: Any) -> None:
        self.calls.append(plain(("token", token)))


class ToldLater(AsyncCallbackHandler):
    """Keeps what an async handler is told."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def on_chain_start(self, serialized: Any, inputs: Any, **more: Any) -> None:
        metadata = besides(more.get("metadata"))
        self.calls.append(plain(("start", more.get("name"), inputs, more.get("tags"), metadata)))

    async def on_chain_end(self, outputs: Any, **more: Any) -> None:
        self.calls.append(plain(("end", outputs)))

    async def on_chain_error(self, error: BaseException, **more: Any) -> None:
        self.calls.append(plain(("error", error)))
