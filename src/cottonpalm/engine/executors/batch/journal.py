"""What tools answered in earlier rounds of a row: a tool runs once, however often its row runs again.

A tool is known by its name, its arguments, and how often it was called with them. An answer that the store cannot give
back as it was is not kept: that tool runs again in the row's next round.
"""

from __future__ import annotations

import functools
import threading
from collections import Counter
from contextlib import contextmanager
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool

from cottonpalm.errors import CannotStore
from cottonpalm.providers.answer import written
from cottonpalm.request.recording import ANSWERED
from cottonpalm.request.row_account import ROW
from cottonpalm.stores.codec.values import check, decode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cottonpalm.request.recording import Recording

_NUMBER: Final = 2  # bytes
_OURS: Final = "cottonpalm"
_lock: Final = threading.Lock()


class _Found(NamedTuple):
    output: Any


class Journal:
    """The tools of one row in one round. Thread-safe.

    Args:
        known: what tools answered in earlier rounds, by key.
        news: what they have answered since; this round adds to it.
        types: the classes from which answers are rebuilt.
    """

    def __init__(
        self, known: Mapping[bytes, bytes], news: dict[bytes, bytes], types: Mapping[str, type]
    ) -> None:
        self._known, self._news, self._types = known, news, types
        self._times: Counter[bytes] = Counter()
        self._lock = threading.Lock()

    def key(self, tool: str, given: Any) -> bytes | None:
        """Return the key of this call of a tool; None where its arguments do not tell calls apart."""
        try:
            text = written([tool, given], ordered=True)
        except (TypeError, ValueError):
            return None
        digest = blake2b(text, digest_size=16).digest()
        with self._lock:
            self._times[digest] += 1
            return digest + self._times[digest].to_bytes(_NUMBER)

    def look_up(self, key: bytes, recording: Recording, call_id: str | None) -> _Found | None:
        """Return what the tool answered; the questions that it asked models count as asked."""
        if (body := self._known.get(key) or self._news.get(key)) is None:
            return None
        kept = orjson.loads(body)
        recording.skip([bytes.fromhex(one) for one in kept["asked"]])
        output = decode(kept["output"], self._types)
        if call_id is not None and isinstance(output, ToolMessage):
            output = output.model_copy(update={"tool_call_id": call_id})
        return _Found(output)

    def note(self, key: bytes, output: Any, asked: set[bytes]) -> None:
        """Keep what the tool answered, and which questions to models were answered meanwhile."""
        try:
            kept = {"output": check(output, self._types), "asked": sorted(one.hex() for one in asked)}
        except CannotStore:
            return
        self._news[key] = orjson.dumps(kept)


def hook() -> None:
    """Make tools look into the journal of the row that calls them, once per process; other calls go straight on."""
    with _lock:
        if not getattr(BaseTool.run, _OURS, False):
            for name, once in (("run", _once), ("arun", _once_async)):
                hooked = once(getattr(BaseTool, name))
                setattr(hooked, _OURS, True)
                setattr(BaseTool, name, hooked)


class _ToolCall:
    """One call of a tool: from the journal, or run and written down."""

    def __init__(self, tool: Any, given: Any, kwargs: Mapping[str, Any]) -> None:
        row = ROW.get()
        self._recording = None if row is None else row.recording
        self._journal: Journal | None = None if self._recording is None else self._recording.journal
        self._key = None if self._journal is None else self._journal.key(tool.name, given)
        self._call_id = kwargs.get("tool_call_id")

    def found(self) -> _Found | None:
        if self._journal is None or self._recording is None or self._key is None:
            return None
        return self._journal.look_up(self._key, self._recording, self._call_id)

    @contextmanager
    def running(self) -> Iterator[Callable[[Any], None]]:
        """Yield what to call with the output."""
        asked: set[bytes] = set()
        outer = ANSWERED.get()
        token = ANSWERED.set(asked)

        def note(output: Any) -> None:
            if self._journal is not None and self._key is not None:
                self._journal.note(self._key, output, asked)

        try:
            yield note
        finally:
            ANSWERED.reset(token)
            if outer is not None:
                outer.update(asked)


def _once(run: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(run)
    def once(self: Any, tool_input: Any, *args: Any, **kwargs: Any) -> Any:
        call = _ToolCall(self, tool_input, kwargs)
        if found := call.found():
            return found.output
        with call.running() as note:
            output = run(self, tool_input, *args, **kwargs)
            note(output)
        return output

    return once


def _once_async(run: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(run)
    async def once(self: Any, tool_input: Any, *args: Any, **kwargs: Any) -> Any:
        call = _ToolCall(self, tool_input, kwargs)
        if found := call.found():
            return found.output
        with call.running() as note:
            output = await run(self, tool_input, *args, **kwargs)
            note(output)
        return output

    return once
