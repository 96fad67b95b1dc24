"""Each event of a run as one JSON line, for programs that look on: `tail -f`, log collectors, one's own scripts."""

from __future__ import annotations

import threading
from dataclasses import fields
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import orjson

from cottonpalm import clock
from cottonpalm.events import CacheHit, Event, RequestFinished, RowFinished, RowStarted, RunEnded

if TYPE_CHECKING:
    from cottonpalm.types import Outcome, Usage

VERSION: Final = 1
FLUSH_S: Final = 0.25  # events of single rows may wait so long
LONGEST: Final = 500  # characters of a message
_MANY: Final = (RowStarted, RequestFinished, RowFinished, CacheHit)  # told for each row


class EventLines:
    """An observer that writes to a file. It holds no inputs and no answers.

    Args:
        file: open for writing; closed when the run ends.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._flushed_s = clock.now()

    def see(self, event: Event) -> None:
        """Write one event."""
        line = orjson.dumps(as_json(event, clock.wall()), option=orjson.OPT_APPEND_NEWLINE, default=str)
        with self._lock:
            self._file.write(line)
            if not isinstance(event, _MANY) or clock.now() - self._flushed_s >= FLUSH_S:
                self._file.flush()
                self._flushed_s = clock.now()
        if isinstance(event, RunEnded):
            self.close()

    def close(self) -> None:
        """Write what is waiting."""
        self._file.close()


def as_json(event: Event, at: float) -> dict[str, Any]:
    """An event as JSON can hold it: its name, when it was told (Unix seconds), and its fields."""
    found: dict[str, Any] = {"v": VERSION, "at": round(at, 3), "event": type(event).__name__}
    if isinstance(event, RowFinished):
        return found | _outcome(event.outcome)
    for each in fields(event):
        value = getattr(event, each.name)
        if each.name == "usage":
            value = _usage(value)
        elif isinstance(value, str):
            value = _shown(value)
        found[each.name] = value
    return found


def _outcome(outcome: Outcome) -> dict[str, Any]:
    error = outcome.error
    return {
        "index": outcome.index,
        "id": None if outcome.id is None else _shown(outcome.id),
        "status": outcome.status,
        "attempts": outcome.attempts,
        "latency_s": outcome.latency_s,
        "usage": _usage(outcome.usage),
        "cost_usd": outcome.cost_usd,
        "cached": outcome.cached,
        "stored": outcome.stored,
        "model": outcome.model,
        "truncated": outcome.truncated,
        "error": None
        if error is None
        else {
            "kind": error.kind.value,
            "type": error.type,
            "message": _shown(error.message),
            "retryable": error.retryable,
        },
    }


def _usage(usage: Usage | None) -> dict[str, int] | None:
    """The counts that are not 0, and both that always are there."""
    if usage is None:
        return None
    counts = {each.name: getattr(usage, each.name) for each in fields(usage)}
    always = ("input_tokens", "output_tokens")
    return {name: count for name, count in counts.items() if count or name in always}


def _shown(text: str) -> str:
    """Cut, and without what JSON cannot hold."""
    return text[:LONGEST].encode("utf-8", "replace").decode()
