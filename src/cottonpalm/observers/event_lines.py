"""Each event of a run as one JSON line, for programs that look on: `tail -f`, log collectors, one's own scripts.

Lines of the events that each row has are written already, but for their values. The values of many lines are made JSON
at once and parted at the commas: they are numbers, words and ids, none of which has one. That takes a quarter less than
a dictionary for each line.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from dataclasses import fields
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import orjson

from cottonpalm import clock
from cottonpalm.events import FREQUENT, Event, RequestFinished, RowFinished, RowStarted, RunEnded
from cottonpalm.types import PICO, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cottonpalm.types import ErrorRecord, Kind, Outcome, Status

log = logging.getLogger("cottonpalm")
VERSION: Final = 1
FLUSH_S: Final = 0.25  # events of single rows may wait so long
LONGEST: Final = 500  # characters of a message
BLOCK: Final = 96  # events; larger memory goes back to the system, and is cleared anew for each block
NAMES: Final = 1000  # models that are remembered


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
        with self._lock:
            if not self._file.closed:
                self._write(events)

    def _write(self, events: Sequence[tuple[float, Event]]) -> None:
        at, last = events[-1]
        try:
            for first in range(0, len(events), BLOCK):
                self._file.write(as_lines(events[first : first + BLOCK]))
            # that clock may be set back
            if not 0 <= at - self._flushed_at < FLUSH_S or type(last) not in FREQUENT:
                self._file.flush()
                self._flushed_at = at
            if type(last) is RunEnded:
                self._file.close()
        except OSError as error:  # a full disk: the run is worth more than its events
            log.warning("events cannot be written (%s): the run goes on without", error.strerror or error)
            with suppress(OSError):
                self._file.close()


def as_lines(events: Iterable[tuple[float, Event]]) -> bytes:
    """Each event as a line of JSON: its name, when it was told (Unix seconds), and its fields."""
    lines: list[bytes] = []
    values: list[Any] = []
    since = until = 0.0
    for at, event in events:
        if not since <= at < until:  # many events share a millisecond, and so the beginning of their lines
            since, until, begin = _from(at)
        line: Callable[[Any, list[Any]], bytes] = _LINES.get(type(event), _in_full)
        lines += begin, line(event, values)
    return b"".join(lines) % tuple(orjson.dumps(values)[1:-1].split(b",") if values else ())


def _from(at: float) -> tuple[float, float, bytes]:
    """When the millisecond began and ends in which this was told, and how a line begins then."""
    ms = int(at * 1000)
    return ms / 1000, (ms + 1) / 1000, b'{"v":%d,"at":%b,"event":' % (VERSION, orjson.dumps(ms / 1000))


# -- lines with places for values: each function adds those of one event


def _started(event: RowStarted, values: list[Any]) -> bytes:
    values.append(event.index)
    return _STARTED


def _request(event: RequestFinished, values: list[Any]) -> bytes:
    usage = event.usage
    if usage is None or _detailed(usage):
        return _in_full(event, values)
    values += event.index, event.latency_s, usage.input_tokens, usage.output_tokens, event.run_id
    return _request_line(event.key, event.status, event.kind)


def _finished(event: RowFinished, values: list[Any]) -> bytes:
    outcome = event.outcome
    usage, id_, cost = outcome.usage, outcome.id, outcome.cost_pico
    if usage is None or _detailed(usage) or outcome.error is not None or not (id_ is None or _is_word(id_)):
        return _in_full(event, values)
    values += (
        outcome.index,
        id_,
        outcome.attempts,
        outcome.latency_s,
        usage.input_tokens,
        usage.output_tokens,
        None if cost is None else cost / PICO,
    )
    return _finished_line(outcome.status, outcome.cached, outcome.stored, outcome.model, outcome.truncated)


def _detailed(usage: Usage) -> int:
    """Not 0 if anything was counted besides the input and the output. To ask for each is quicker than `counts`."""
    return (
        usage.cache_read_tokens
        or usage.cache_write_tokens
        or usage.reasoning_tokens
        or usage.cache_write_1h_tokens
        or usage.audio_input_tokens
        or usage.audio_cached_tokens
        or usage.audio_output_tokens
        or usage.image_output_tokens
        or usage.web_searches
        or usage.file_searches
    )


def _is_word(text: str) -> bool:
    return len(text) <= LONGEST and text.isascii() and "," not in text


def _line(kind: type[Event], rest: bytes) -> bytes:
    return b'"%b",%b}\n' % (kind.__name__.encode(), rest)


def _fixed(**known: Any) -> bytes:
    """Fields of an object of JSON, in which there is no place for a value."""
    return orjson.dumps(known, default=str)[1:-1].replace(b"%", b"%%")


_STARTED: Final = _line(RowStarted, b'"index":%b')
_USED: Final = b'"latency_s":%b,"usage":{"input_tokens":%b,"output_tokens":%b}'


@lru_cache(NAMES)
def _request_line(key: str, status: int | None, kind: Kind | None) -> bytes:
    ended = _fixed(key=_shown(key), status=status, kind=kind)
    return _line(RequestFinished, b'"index":%b,' + ended + b"," + _USED + b',"run_id":%b')


@lru_cache(NAMES)
def _finished_line(status: Status, cached: bool, stored: bool, model: str | None, truncated: bool) -> bytes:
    began = b'"index":%b,"id":%b,' + _fixed(status=status) + b',"attempts":%b,' + _USED + b',"cost_usd":%b,'
    ended = _fixed(cached=cached, stored=stored, model=_shown(model), truncated=truncated, error=None)
    return _line(RowFinished, began + ended)


def _in_full(event: Event, _: list[Any]) -> bytes:
    """A line that has no place for a value."""
    return _line(type(event), _fixed(**_told(event)))


_LINES: Final[dict[type[Event], Callable[[Any, list[Any]], bytes]]] = {
    RowStarted: _started,
    RequestFinished: _request,
    RowFinished: _finished,
}


# -- whole events


def _told(event: Event) -> dict[str, Any]:
    if isinstance(event, RowFinished):
        return _outcome(event.outcome)
    kind: Any = type(event)
    return {name: _value(getattr(event, name)) for name in _names(kind)}


@cache
def _names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(each.name for each in fields(kind))


def _value(value: Any) -> Any:
    if value.__class__ is Usage:
        return _usage(value)
    return _shown(value) if isinstance(value, str) else value


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "index": outcome.index,
        "id": _shown(outcome.id),
        "status": outcome.status,
        "attempts": outcome.attempts,
        "latency_s": outcome.latency_s,
        "usage": None if outcome.usage is None else _usage(outcome.usage),
        "cost_usd": outcome.cost_usd,
        "cached": outcome.cached,
        "stored": outcome.stored,
        "model": _shown(outcome.model),
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
    counts = zip(_names(Usage), usage.counts(), strict=True)
    return {name: count for at, (name, count) in enumerate(counts) if at < 2 or count}


def _shown(text: str | None) -> str | None:
    """Cut, and without what JSON cannot hold."""
    if text is None:
        return None
    text = text[:LONGEST]
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
