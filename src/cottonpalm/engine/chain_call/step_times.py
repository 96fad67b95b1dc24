"""Measures the steps of a chain by name, on a sample of the rows: LangChain tells when each begins and ends."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from langchain_core.callbacks import BaseCallbackHandler

from cottonpalm import clock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

FIRST: Final = 16  # rows of the sample...
THEN_EVERY: Final = 256  # ...and later ones: to be told costs a row as much as some chains do
LONGEST: Final = 60  # characters of a name
IN_SEQUENCE: Final = "seq:step:"  # LangChain's tag of a sequence's step, before its place


def in_sample(index: int) -> bool:
    """Whether the steps of this row are measured."""
    return index < FIRST or index % THEN_EVERY == 0


def of_model(kind: str, model: object) -> str:
    """The name of a model's step: a chain may have several models of one class."""
    return f"{kind} ({model})" if model else kind


def _name(serialized: Mapping[str, Any], given: str | None, metadata: Mapping[str, Any]) -> str:
    """What names a step best: a name that it was given, or else its class."""
    kind = (serialized.get("id") or ["?"])[-1]
    name = given or serialized.get("name") or kind
    return of_model(name, metadata.get("ls_model_name")) if name == kind else name


class _Step:
    """A step that is under way. `inner_s`: the time of the steps inside it; `place`: in a sequence, from 1."""

    __slots__ = ("began_s", "inner_s", "name", "outer", "place")

    def __init__(self, name: str, outer: UUID | None, place: int) -> None:
        self.name, self.outer, self.place = name, outer, place
        self.began_s, self.inner_s = clock.now(), 0.0

    def feeds(self, other: _Step) -> bool:
        """Whether the other one takes what this one gives, while it comes."""
        return self.outer == other.outer and 0 < self.place < other.place


def _place(tags: Sequence[str]) -> int:
    """Which step of a sequence LangChain says it is; 0 for one of none."""
    of_sequence = [tag[len(IN_SEQUENCE) :] for tag in tags if tag.startswith(IN_SEQUENCE)]
    return int(of_sequence[0]) if of_sequence and of_sequence[0].isdecimal() else 0


class StepTimes(BaseCallbackHandler):
    """Listens to one call of a chain. It is told at once, not on another thread, so that the times are right.

    Args:
        told: called at the end, with how often each step ran, and for how many seconds in itself.
    """

    run_inline = True

    def __init__(self, told: Callable[[Mapping[str, tuple[int, float]]], None]) -> None:
        self._told = told
        self._open: dict[UUID, _Step] = {}
        self._found: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()

    def _begins(
        self, serialized: Any, _: Any, *, run_id: UUID, parent_run_id: UUID | None = None, **more: Any
    ) -> None:
        name = _name(serialized or {}, more.get("name"), more.get("metadata") or {})
        with self._lock:
            self._open[run_id] = _Step(str(name)[:LONGEST], parent_run_id, _place(more.get("tags") or ()))

    def _ends(self, _: Any, *, run_id: UUID, **__: Any) -> None:
        with self._lock:
            if (step := self._open.pop(run_id, None)) is None:
                return
            now = clock.now()
            for other in self._open.values():
                if step.feeds(other):  # a stream's pieces: what it took so far, it has waited for them
                    other.began_s, other.inner_s = now, 0.0
            fed = any(other.feeds(step) for other in self._open.values())
            took_s = 0.0 if fed else now - step.began_s
            calls, seconds = self._found.get(step.name, (0, 0.0))
            self._found[step.name] = calls + 1, seconds + max(0.0, took_s - step.inner_s)
            if step.outer in self._open:
                self._open[step.outer].inner_s += took_s
            over = not self._open
            found, self._found = self._found, {} if over else self._found
        if over:
            self._told(found)

    on_chain_start = on_llm_start = on_chat_model_start = on_tool_start = on_retriever_start = _begins  # type: ignore[assignment]
    on_chain_end = on_llm_end = on_tool_end = on_retriever_end = _ends  # type: ignore[assignment]
    on_chain_error = on_llm_error = on_tool_error = on_retriever_error = _ends  # type: ignore[assignment]
