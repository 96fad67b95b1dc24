"""Each event of a run as one JSON line, for programs that look on: `tail -f`, log collectors, one's own scripts."""

from __future__ import annotations

import threading
from dataclasses import fields
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import orjson

from cottonpalm import clock
from cottonpalm.events import CacheHit, Event, RequestFinished, RowFinished, RowStarted, RunEnded
from cottonpalm.types import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cottonpalm.types import ErrorRecord

VERSION: Final = 1
FLUSH_S: Final = 0.25  # events of single rows may wait so long
LONGEST: Final = 500  # characters of a message
_MANY: Final = frozenset({RowStarted, RequestFinished, RowFinished, CacheHit})  # told for each row


class EventLines:
    """An observer that writes to a file. It holds no inputs and no answers.

    Args:
        file: open for writing; closed when the run ends.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._flushed_at = clock.wall()

    def see(self, event: Event) -> None:
        """Write one event."""
        self.see_all([(clock.wall(), event)])

    def see_all(self, events: Sequence[tuple[float, Event]]) -> None:
        """Write several."""
        at, last = events[-1]
        with self._lock:
            # One line after the other: fresh memory for all of them would cost more than the lines.
            self._file.writelines(as_line(event, at) for at, event in events)
            # that clock may be set back
            if not 0 <= at - self._flushed_at < FLUSH_S or type(last) not in _MANY:
                self._file.flush()
                self._flushed_at = at
        if type(last) is RunEnded:
            self.close()

    def close(self) -> None:
        """Write what is waiting."""
        self._file.close()


def as_line(event: Event, at: float) -> bytes:
    """An event as a line of JSON: its name, when it was told (Unix seconds), and its fields."""
    at = int(at * 1000) / 1000
    if type(event) is RowStarted:  # such lines are the quickest to write by hand
        return b'{"v":%d,"at":%.3f,"event":"RowStarted","index":%d}\n' % (VERSION, at, event.index)
    tell: Callable[[Any, float], dict[str, Any]] = _TOLD.get(type(event), _fields)
    return orjson.dumps(tell(event, at), default=str, option=orjson.OPT_APPEND_NEWLINE)


def _fields(event: Event, at: float) -> dict[str, Any]:
    kind: Any = type(event)
    found: dict[str, Any] = {"v": VERSION, "at": at, "event": kind.__name__}
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


def _request(event: RequestFinished, at: float) -> dict[str, Any]:
    return {
        "v": VERSION,
        "at": at,
        "event": "RequestFinished",
        "index": event.index,
        "key": _shown(event.key),
        "status": event.status,
        "kind": event.kind,
        "latency_s": event.latency_s,
        "usage": None if event.usage is None else _usage(event.usage),
        "run_id": event.run_id,
    }


def _finished(event: RowFinished, at: float) -> dict[str, Any]:
    outcome = event.outcome
    return {
        "v": VERSION,
        "at": at,
        "event": "RowFinished",
        "index": outcome.index,
        "id": None if outcome.id is None else _shown(outcome.id),
        "status": outcome.status,
        "attempts": outcome.attempts,
        "latency_s": outcome.latency_s,
        "usage": None if outcome.usage is None else _usage(outcome.usage),
        "cost_usd": outcome.cost_usd,
        "cached": outcome.cached,
        "stored": outcome.stored,
        "model": None if outcome.model is None else _shown(outcome.model),
        "truncated": outcome.truncated,
        "error": None if outcome.error is None else _error(outcome.error),
    }


def _error(error: ErrorRecord) -> dict[str, Any]:
    return {
        "kind": error.kind.value,
        "type": _shown(error.type),
        "message": _shown(error.message),
        "retryable": error.retryable,
    }


def _usage(usage: Usage) -> dict[str, int]:
    """The first two counts, and those of the others that are not 0."""
    found = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
    if (others := _others(usage)) != _NONE:
        found.update((name, count) for name, count in zip(_OTHERS, others, strict=True) if count)
    return found


_OTHERS: Final = tuple(each.name for each in fields(Usage))[2:]
_NONE: Final = (0,) * len(_OTHERS)
_others: Final[Callable[[Usage], tuple[int, ...]]] = attrgetter(*_OTHERS)
_TOLD: Final[dict[type[Event], Callable[[Any, float], dict[str, Any]]]] = {
    RequestFinished: _request,
    RowFinished: _finished,
}


def _shown(text: str) -> str:
    """Cut, and without what JSON cannot hold."""
    text = text[:LONGEST]
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
