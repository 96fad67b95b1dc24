"""Each event of a run as one JSON line, for programs that look on: `tail -f`, log collectors, one's own scripts."""

from __future__ import annotations

import threading
from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import orjson

from cottonpalm import clock
from cottonpalm.events import CacheHit, Event, RequestFinished, RowFinished, RowStarted, RunEnded
from cottonpalm.types import Usage

if TYPE_CHECKING:
    from cottonpalm.types import ErrorRecord, Outcome

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
        now, line = clock.now(), orjson.dumps(as_json(event, clock.wall()), default=str)
        with self._lock:
            self._file.write(line + b"\n")
            if now - self._flushed_s >= FLUSH_S or type(event) not in _MANY:
                self._file.flush()
                self._flushed_s = now
        if isinstance(event, RunEnded):
            self.close()

    def close(self) -> None:
        """Write what is waiting."""
        self._file.close()


def as_json(event: Event, at: float) -> dict[str, Any]:
    """An event as JSON can hold it: its name, when it was told (Unix seconds), and its fields."""
    kind: Any = type(event)
    found: dict[str, Any] = {"v": VERSION, "at": round(at, 3), "event": kind.__name__}
    if isinstance(event, RowFinished):
        return found | _outcome(event.outcome)
    for name in _names(kind):
        value = getattr(event, name)
        if value.__class__ is Usage:
            value = _usage(value)
        elif isinstance(value, str):
            value = _shown(value)
        found[name] = value
    return found


@cache
def _names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(each.name for each in fields(kind))


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "index": outcome.index,
        "id": None if outcome.id is None else _shown(outcome.id),
        "status": outcome.status,
        "attempts": outcome.attempts,
        "latency_s": outcome.latency_s,
        "usage": None if outcome.usage is None else _usage(outcome.usage),
        "cost_usd": outcome.cost_usd,
        "cached": outcome.cached,
        "stored": outcome.stored,
        "model": outcome.model,
        "truncated": outcome.truncated,
        "error": None if outcome.error is None else _error(outcome.error),
    }


def _error(error: ErrorRecord) -> dict[str, Any]:
    return {
        "kind": error.kind.value,
        "type": error.type,
        "message": _shown(error.message),
        "retryable": error.retryable,
    }


def _usage(usage: Usage) -> dict[str, int]:
    """The first two counts, and those of the others that are not 0."""
    found = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
    others = usage.counts()[2:]
    if any(others):
        found.update((name, count) for name, count in zip(_names(Usage)[2:], others, strict=True) if count)
    return found


def _shown(text: str) -> str:
    """Cut, and without what JSON cannot hold."""
    text = text[:LONGEST]
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
