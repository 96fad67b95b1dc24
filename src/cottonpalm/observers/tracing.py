"""Runs, rows and model requests as OpenTelemetry spans: an observer. Needs the extra `metrics`.

A run is a span, each of its rows is one below it, and each try of a model request one below its row, named and
described by the conventions for generative AI. No text of a row, of an answer or of a message is part of a span.

The spans of a row are made when it is over, with the times at which things happened: until then a row is a few numbers.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, floor
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from cottonpalm import clock
from cottonpalm.events import Event, RequestFinished, RowStarted, RunEnded, RunStarted
from cottonpalm.observers.otel.conventions import KEYS, asked_of, error_type, span_name
from cottonpalm.observers.told import Told
from cottonpalm.observers.words.formatting import label
from cottonpalm.types import PICO

try:
    from opentelemetry import trace
    from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode
except ImportError as missing:
    raise ImportError("traces need opentelemetry-api: pip install 'cottonpalm[metrics]'") from missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.trace import Tracer, TracerProvider

    from cottonpalm.types import Kind, Outcome

NANO: Final = 1e9
SPREAD: Final = 0x9E3779B1  # odd: rows one after the other fall all over 32 bits
WHOLE: Final = 2**32
_FINE: Final = Status()

_Row: TypeAlias = "list[tuple[float, Any]]"  # what has happened of a row, and when: its start first
_What: TypeAlias = "tuple[str, SpanKind]"
_ROW: Final[_What] = ("row", SpanKind.INTERNAL)


class _Write(Protocol):
    def __call__(
        self,
        what: _What,
        times: tuple[int, int],
        attributes: dict[str, Any],
        status: Status,
        parent: SpanContext,
    ) -> SpanContext:
        """Write a span that is over, from when until when, below another one of the run; its own context."""


class OpenTelemetrySpans:
    """An observer that makes spans: `BatchProcessor(chain, observers=[OpenTelemetrySpans()])`.

    The run's span belongs to the span that is current when the run begins, and is sampled as that one.

    Args:
        provider: of tracers; the global one unless given.
        share: of the rows whose first try went well, how many have spans: 1 for all, 0.01 for one in a hundred. Rows
            that failed or were tried again always have them.
    """

    def __init__(self, provider: TracerProvider | None = None, *, share: float = 1.0) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"share={share!r} must be between 0 and 1")
        self._provider, self._share = provider, share
        self._tracer: Tracer = trace.get_tracer("cottonpalm", tracer_provider=provider)
        self._least = ceil(share * WHOLE)
        self._run: Span | None = None
        self._context: SpanContext | None = None  # of the run, where anybody records it
        self._write: _Write = _by_the_api(self._tracer)
        self._rows: dict[int, _Row] = {}

    def of_run(self) -> OpenTelemetrySpans:
        """One for a single run: rows of several have the same numbers."""
        return type(self)(self._provider, share=self._share)

    def see(self, event: Event) -> None:
        """Take note of one event; at the end of a row, write its spans."""
        self.see_all([(clock.wall(), event)])

    def see_all(self, events: Sequence[tuple[float, Event]]) -> None:
        """Take note of several."""
        started, requests, finished, _, rest = Told.of(events).kinds
        rows = self._rows
        for began in started if self._context is not None else ():
            rows.setdefault(began[1].index, [began])
        for asked in requests:
            if (row := rows.get(asked[1].index)) is not None:
                row.append(asked)
        for at, ended in finished:
            self._row_finished(ended.outcome, at)
        for at, event in rest:
            if type(event) is RunStarted:
                self._started(event, floor(at * NANO))
            elif type(event) is RunEnded:
                self._ended(event, at)

    def _started(self, event: RunStarted, at: int) -> None:
        name = label(event.name or "")
        attributes: dict[str, Any] = {"cottonpalm.run": name}
        if event.total is not None:
            attributes["cottonpalm.rows"] = event.total
        self._run = self._tracer.start_span(
            f"run {name}" if name else "run", attributes=attributes, start_time=at
        )
        self._context = self._run.get_span_context() if self._run.is_recording() else None
        if self._context is not None:
            self._write = _writer(self._tracer, self._context)

    def _row_finished(self, outcome: Outcome, at: float) -> None:
        row, run = self._rows.pop(outcome.index, None), self._context
        if outcome.stored or run is None:
            return
        if row is None:  # it was answered at a gate
            row = [(at - outcome.latency_s, RowStarted(outcome.index))]
        if outcome.error is not None:
            self._write_row(row, at, _told(outcome), _failed(outcome.error.kind), run)
        elif outcome.attempts > 1 or len(row) > 2 or outcome.index * SPREAD % WHOLE < self._least:
            self._write_row(row, at, _told(outcome), _FINE, run)

    def _write_row(
        self, row: _Row, end: float, attributes: dict[str, Any], status: Status, run: SpanContext
    ) -> None:
        write = self._write
        inside = write(_ROW, (floor(row[0][0] * NANO), floor(end * NANO)), attributes, status, run)
        for attempt in range(1, len(row)):
            at, event = row[attempt]
            what, known, status = _ended_so(event.key, event.status, event.kind)
            answered = floor(at * NANO)
            times = answered - floor(event.latency_s * NANO), answered
            write(what, times, _described(event, known, attempt), status, inside)

    def _ended(self, event: RunEnded, at: float) -> None:
        for index, row in self._rows.items():
            if self._context is not None:
                self._write_row(row, at, {"cottonpalm.row.index": index}, _FINE, self._context)
        self._rows.clear()
        if self._run is not None:
            if event.reason is not None:
                self._run.set_status(Status(StatusCode.ERROR))
            self._run.end(floor(at * NANO))


def _told(outcome: Outcome) -> dict[str, Any]:
    found: dict[str, Any] = {
        "cottonpalm.row.index": outcome.index,
        "cottonpalm.row.status": outcome.status,
        "cottonpalm.row.attempts": outcome.attempts,
    }
    if outcome.id is not None:
        found["cottonpalm.row.id"] = label(str(outcome.id))
    if outcome.cost_pico is not None:
        found["cottonpalm.row.cost_usd"] = outcome.cost_pico / PICO
    if outcome.cached:
        found["cottonpalm.row.cached"] = True
    if outcome.error is not None:
        found["error.type"] = label(outcome.error.type)
    return found


def _failed(kind: Kind) -> Status:
    return Status(StatusCode.ERROR, kind.value)


def _described(event: RequestFinished, known: dict[str, Any], attempt: int) -> dict[str, Any]:
    found = known.copy()
    found["cottonpalm.attempt"] = attempt
    if (usage := event.usage) is not None:
        found["gen_ai.usage.input_tokens"] = usage.input_tokens
        found["gen_ai.usage.output_tokens"] = usage.output_tokens
    if event.run_id is not None:
        found["langchain.run_id"] = str(event.run_id)
    return found


@lru_cache(KEYS)
def _ended_so(key: str, status: int | None, kind: Kind | None) -> tuple[_What, dict[str, Any], Status]:
    """What all tries have in common that end in this way, by the conventions for generative AI. Not to be changed."""
    known = asked_of(key).copy()
    if status is not None:
        known["http.response.status_code"] = status
    if kind is not None:
        known["error.type"] = error_type(status, kind)
    return (span_name(key), SpanKind.CLIENT), known, _FINE if kind is None else _failed(kind)


def _writer(tracer: Any, run: SpanContext) -> _Write:
    """How spans of a run that are over are written: to the SDK's span processor, else by the API.

    The SDK's tracer takes ten times as long, since its spans can still be changed. Where its sampler does not go by the
    parent it has to be asked for each span.
    """
    try:
        from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415 - it need not be installed
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased  # noqa: PLC0415

        known = tracer.sampler is ALWAYS_ON or isinstance(tracer.sampler, ParentBased)
        ended, new_id, resource = (
            tracer.span_processor.on_end,
            tracer.id_generator.generate_span_id,
            tracer.resource,
        )
        scope = tracer.start_span(
            "scope", trace.set_span_in_context(trace.INVALID_SPAN)
        ).instrumentation_scope
    except (ImportError, AttributeError):
        known = False
    if not known:
        return _by_the_api(tracer)
    trace_id, _, remote, flags, state, valid = run
    new = tuple.__new__  # its own constructor looks at all of a context again, and takes three times as long

    def write(
        what: _What,
        times: tuple[int, int],
        attributes: dict[str, Any],
        status: Status,
        parent: SpanContext,
    ) -> SpanContext:
        (name, kind), (start, end) = what, times
        own = new(SpanContext, (trace_id, new_id(), remote, flags, state, valid))
        ended(
            ReadableSpan(
                name, own, parent, resource, attributes, (), (), kind, None, status, start, end, scope
            )
        )
        return own

    return write


def _by_the_api(tracer: Tracer) -> _Write:
    def write(
        what: _What,
        times: tuple[int, int],
        attributes: dict[str, Any],
        status: Status,
        parent: SpanContext,
    ) -> SpanContext:
        (name, kind), (start, end) = what, times
        inside = trace.set_span_in_context(trace.NonRecordingSpan(parent))
        span = tracer.start_span(name, inside, kind=kind, attributes=attributes, start_time=start)
        if not status.is_ok and not status.is_unset:
            span.set_status(status)
        span.end(end)
        return span.get_span_context()

    return write
