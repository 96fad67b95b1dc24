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
    from collections.abc import Callable

    from cottonpalm.types import ErrorRecord

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
        self._flushed_at = clock.wall()

    def see(self, event: Event) -> None:
        """Write one event."""
        at = clock.wall()
        line = as_line(event, at)
        with self._lock:
            self._file.write(line)
            if (
                not 0 <= at - self._flushed_at < FLUSH_S or type(event) not in _MANY
            ):  # that clock may be set back
                self._file.flush()
                self._flushed_at = at
        if isinstance(event, RunEnded):
            self.close()

    def close(self) -> None:
        """Write what is waiting."""
        self._file.close()


def as_line(event: Event, at: float) -> bytes:
    """An event as a line of JSON: its name, when it was told (Unix seconds), and its fields."""
    kind = type(event)
    if kind is RowStarted:  # such lines are the quickest to write by hand
        return b'{"v":%d,"at":%.3f,"event":"RowStarted","index":%d}\n' % (VERSION, at, event.index)  # type: ignore[attr-defined]
    told: dict[str, Any] = {"v": VERSION, "at": round(at, 3), "event": kind.__name__}
    tell: Callable[[Any, dict[str, Any]], None] = _TOLD.get(kind, _fields)
    tell(event, told)
    return orjson.dumps(told, default=str, option=orjson.OPT_APPEND_NEWLINE)


def _fields(event: Event, found: dict[str, Any]) -> None:
    kind: Any = type(event)
    for name in _names(kind):
        value = getattr(event, name)
        if value.__class__ is Usage:
            value = _usage(value)
        elif isinstance(value, str):
            value = _shown(value)
        found[name] = value


@cache
def _names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(each.name for each in fields(kind))


def _request(event: RequestFinished, found: dict[str, Any]) -> None:
    found["index"] = event.index
    found["key"] = _shown(event.key)
    found["status"] = event.status
    found["kind"] = event.kind
    found["latency_s"] = event.latency_s
    found["usage"] = None if event.usage is None else _usage(event.usage)
    found["run_id"] = event.run_id


def _finished(event: RowFinished, found: dict[str, Any]) -> None:
    outcome = event.outcome
    found["index"] = outcome.index
    found["id"] = None if outcome.id is None else _shown(outcome.id)
    found["status"] = outcome.status
    found["attempts"] = outcome.attempts
    found["latency_s"] = outcome.latency_s
    found["usage"] = None if outcome.usage is None else _usage(outcome.usage)
    found["cost_usd"] = outcome.cost_usd
    found["cached"] = outcome.cached
    found["stored"] = outcome.stored
    found["model"] = outcome.model
    found["truncated"] = outcome.truncated
    found["error"] = None if outcome.error is None else _error(outcome.error)


def _error(error: ErrorRecord) -> dict[str, Any]:
    return {
        "kind": error.kind.value,
        "type": error.type,
        "message": _shown(error.message),
        "retryable": error.retryable,
    }


def _usage(usage: Usage) -> dict[str, int]:
    """The first two counts, and those of the others that are not 0."""
    found, others = (
        {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens},
        usage.counts()[2:],
    )
    if any(others):
        found.update((name, count) for name, count in zip(_names(Usage)[2:], others, strict=True) if count)
    return found


_TOLD: Final[dict[type[Event], Callable[[Any, dict[str, Any]], None]]] = {
    RequestFinished: _request,
    RowFinished: _finished,
}


def _shown(text: str) -> str:
    """Cut, and without what JSON cannot hold."""
    text = text[:LONGEST]
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
