"""Runs one case by a transport, heard or unheard, and tells every difference to LangChain's `ainvoke` by the SDK.

That is what runs where somebody listens and the transport is stock: answers, errors, what was sent, what was heard.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from difflib import unified_diff
from pprint import pformat
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from pydantic import BaseModel

from cottonpalm import BatchProcessor, RetryPolicy, RunStopped

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from tests.fast.cases import Case
    from tests.fast.wires import Sent, Server

OF_ONE_RUN = ("lc_run-", "run-")
WAYS = (("stock", False), ("fast", False), ("fast", True))  # transport, and whether somebody listens
UNSENT = ("content-length", "accept-encoding", "connection", "cookie")  # the lean client has its own


class Ear(BaseCallbackHandler):
    """Hears all, as a tree: run ids become numbers in the order of their beginnings."""

    run_inline = True  # else LangChain calls it on threads, and two steps at once are heard in any order

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self._numbers: dict[UUID | None, int | None] = {None: None}

    def _note(
        self, what: str, *said: object, run_id: UUID, parent_run_id: UUID | None = None, **more: Any
    ) -> None:
        self._numbers.setdefault(run_id, len(self._numbers))
        told = {
            name: more[name] for name in ("tags", "metadata", "name", "invocation_params") if name in more
        }
        self.heard.append(
            (what, self._numbers[run_id], self._numbers.get(parent_run_id), plain(said), plain(told))
        )

    def on_chain_start(self, serialized: Any, inputs: Any, **more: Any) -> None:
        self._note("chain", inputs, **more)

    def on_chain_end(self, outputs: Any, **more: Any) -> None:
        self._note("chain ends", outputs, **more)

    def on_chain_error(self, error: BaseException, **more: Any) -> None:
        self._note("chain fails", error, **more)

    def on_chat_model_start(self, serialized: Any, messages: Any, **more: Any) -> None:
        self._note("model", serialized, messages, **more)

    def on_llm_end(self, response: Any, **more: Any) -> None:
        self._note("model ends", response, **more)

    def on_llm_error(self, error: BaseException, **more: Any) -> None:
        self._note("model fails", error, more.get("response"), **more)


@dataclass
class Seen:
    """What one way gave."""

    outcomes: list[Any]
    sent: list[Any]
    raised: list[Any]
    heard: list[Any]
    fast: int
    why: Mapping[str, int]


def see(case: Case, server: Server, transport: str, *, listening: bool) -> Seen:
    """Run a case; one row after the other, so that what is learnt from each counts for the next."""
    return asyncio.run(_see(case, server, transport, listening=listening))


async def _see(case: Case, server: Server, transport: str, *, listening: bool) -> Seen:
    server.wire, server.sent = case.wire, []
    settings = dict(case.settings)
    once = RetryPolicy(retries=0, rejections=1, count_all=True, base_s=0.001, cap_s=0.001, throttle_wait_s=0)
    ear, raised = Ear(), []
    processor = BatchProcessor(
        case.make(server.url),
        concurrency=1,
        hedge=False,
        retry=once,
        transport=transport,
        classify=lambda error: raised.append(plain(error)),
        **settings,
    )
    config = {"callbacks": [ear]} if listening else None
    outcomes, fast, why = [], 0, {}
    for row in case.rows:  # each in a run of its own: a failure may end a run
        try:
            async with processor.astart([row], config=config) as run:
                async for outcome in run:
                    outcomes.append(_outcome(outcome))  # noqa: PERF401 - a run that stops keeps those so far
        except RunStopped as stopped:
            outcomes.append(plain(stopped))
        transports = run._engine.account.transports
        fast, why = fast + transports.fast, {**why, **transports.stock}
    return Seen(
        outcomes,
        [_sent(one) for one in server.sent],
        raised,
        ear.heard,
        fast,
        why,
    )


def differences(langchain: Seen, other: Seen, *, listening: bool) -> str:
    """A diff of all that differs; empty if nothing does."""
    told: list[str] = []
    for name in ("outcomes", "sent", "raised", "heard")[: 4 if listening else 3]:
        one, two = (pformat(getattr(seen, name), width=110).splitlines() for seen in (langchain, other))
        told += unified_diff(one, two, f"{name} by LangChain", f"{name} by the other way", lineterm="", n=1)
    return "\n".join(told)


def _outcome(outcome: Any) -> Any:
    names = (
        "index",
        "status",
        "value",
        "error",
        "usage",
        "cost_pico",
        "attempts",
        "model",
        "truncated",
        "partial",
    )
    return {name: plain(getattr(outcome, name, None)) for name in names}


def _sent(one: Sent) -> Any:
    headers = {name: value for name, value in one.headers.items() if name not in UNSENT}
    return one.line, headers, plain(one.body)


def plain(value: Any, depth: int = 0) -> Any:
    """A value as plain data with its types, without what differs between any two runs."""
    if depth > 12:
        return type(value).__name__
    if isinstance(value, BaseException):
        return _error(value, depth)
    if isinstance(value, BaseModel):
        fields = {name: plain(one, depth + 1) for name, one in sorted(vars(value).items())}
        if isinstance(value, BaseMessage) and str(value.id).startswith(OF_ONE_RUN):
            fields["id"] = "of one run"
        if "run" in fields:
            fields["run"] = "of one run"
        return type(value).__name__, fields
    if isinstance(value, dict):
        return {str(name): plain(one, depth + 1) for name, one in value.items() if name != "ls_run_depth"}
    if isinstance(value, list | tuple):
        return [plain(one, depth + 1) for one in value]
    return _fixed(value) if isinstance(value, str) else (type(value).__name__, _fixed(str(value)))


def _fixed(text: str) -> str:
    text = re.sub(r"lc_run-+[0-9a-f-]{36}(-\d+)?", "lc_run", text)
    text = re.sub(r"timed out( \([^)]*\)|\.)?'", "timed out'", re.sub(r"within [0-9.]+ s", "within", text))
    return re.sub(r"0x[0-9a-f]+|cottonpalm_\w+", "@", text)


def _error(error: BaseException, depth: int) -> Any:
    told: dict[str, Any] = {
        "type": [one.__name__ for one in type(error).__mro__[:4]],
        "args": plain(error.args, depth + 1),
    }
    for name in (
        "message",
        "body",
        "code",
        "param",
        "type",
        "status_code",
        "request_id",
        "partial",
        "llm_output",
    ):
        if name in vars(error):
            told[f".{name}"] = plain(vars(error)[name], depth + 1)
    if (response := getattr(error, "response", None)) is not None and hasattr(response, "status_code"):
        told[".response"] = (
            response.status_code,
            sorted((name, value) for name, value in response.headers.multi_items()),
            response.content,
            response.reason_phrase,
            response.http_version,
            str(response.request.url),
        )
    if (request := vars(error).get("request")) is not None and hasattr(request, "url"):
        told[".request"] = (request.method, str(request.url), request.content)
    for name in ("__cause__", "__context__"):
        if depth < 4 and (deeper := getattr(error, name)) is not None:
            told[name] = [one.__name__ for one in type(deeper).__mro__[:2]]
    return told
