"""Runs, rows and model requests as OpenTelemetry spans: an observer. Needs the extra `metrics`.

A run is a span, each of its rows is one below it, and each try of a model request one below its row, named and
described by the conventions for generative AI. No text of a row, of an answer or of a message is part of a span.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cottonpalm import clock
from cottonpalm.events import Event, RequestFinished, RowFinished, RowStarted, RunEnded, RunStarted

try:
    from opentelemetry import trace
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode
except ImportError as missing:
    raise ImportError("traces need opentelemetry-api: pip install 'cottonpalm[metrics]'") from missing

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import Tracer, TracerProvider

_PROVIDERS: Final = {
    "openai.com": "openai",
    "anthropic.com": "anthropic",
    "googleapis.com": "gcp.gemini",
    "mistral.ai": "mistral_ai",
    "groq.com": "groq",
    "deepseek.com": "deepseek",
    "x.ai": "x_ai",
}
NANO: Final = 10**9


@dataclass(slots=True)
class _Row:
    """A row that is under way."""

    span: Span
    requests: int = field(default=0)


class OpenTelemetrySpans:
    """An observer that makes spans: `BatchProcessor(chain, observers=[OpenTelemetrySpans()])`.

    The run's span belongs to the span that is current when the run begins. Spans end when what they stand for ends.

    Args:
        provider: of tracers; the global one unless given.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracer: Tracer = trace.get_tracer("cottonpalm", tracer_provider=provider)
        self._run: Span | None = None
        self._inside: Any = None
        self._rows: dict[int, _Row] = {}
        self._sees: dict[type[Event], Callable[[Any], None]] = {
            RunStarted: self._started,
            RowStarted: self._row_started,
            RequestFinished: self._request,
            RowFinished: self._row_finished,
            RunEnded: self._ended,
        }

    def see(self, event: Event) -> None:
        """Begin or end a span."""
        if (sees := self._sees.get(type(event))) is not None:
            sees(event)

    def _started(self, event: RunStarted) -> None:
        attributes: dict[str, Any] = {"cottonpalm.run": event.name or ""}
        if event.total is not None:
            attributes["cottonpalm.rows"] = event.total
        self._run = self._tracer.start_span(
            f"run {event.name}" if event.name else "run", attributes=attributes
        )
        self._inside = trace.set_span_in_context(self._run)

    def _row_started(self, event: RowStarted) -> None:
        if event.index not in self._rows:
            self._rows[event.index] = self._begin(event.index, None)

    def _begin(self, index: int, start: int | None) -> _Row:
        attributes = {"cottonpalm.row.index": index}
        span = self._tracer.start_span("row", self._inside, attributes=attributes, start_time=start)
        return _Row(span)

    def _request(self, event: RequestFinished) -> None:
        if (row := self._rows.get(event.index)) is None:
            return
        row.requests += 1
        now = int(clock.wall() * NANO)
        host, _, model = event.key.partition("/")
        span = self._tracer.start_span(
            f"chat {model}" if model else "chat",
            trace.set_span_in_context(row.span),
            kind=SpanKind.CLIENT,
            start_time=now - int(event.latency_s * NANO),
            attributes=_described(event, host, model, row.requests),
        )
        if event.kind is not None:
            span.set_status(Status(StatusCode.ERROR, event.kind.value))
        span.end(now)

    def _row_finished(self, event: RowFinished) -> None:
        outcome = event.outcome
        if outcome.stored:
            return
        if (row := self._rows.pop(outcome.index, None)) is None:  # it was answered at a gate
            row = self._begin(outcome.index, int((clock.wall() - outcome.latency_s) * NANO))
        span = row.span
        span.set_attributes(
            {"cottonpalm.row.status": outcome.status, "cottonpalm.row.attempts": outcome.attempts}
        )
        if outcome.id is not None:
            span.set_attribute("cottonpalm.row.id", str(outcome.id))
        if outcome.cost_usd is not None:
            span.set_attribute("cottonpalm.row.cost_usd", outcome.cost_usd)
        if outcome.cached:
            span.set_attribute("cottonpalm.row.cached", True)
        if outcome.error is not None:
            span.set_attribute("error.type", outcome.error.type)
            span.set_status(Status(StatusCode.ERROR, outcome.error.kind.value))
        span.end()

    def _ended(self, event: RunEnded) -> None:
        for row in self._rows.values():
            row.span.end()
        self._rows.clear()
        if self._run is not None:
            if event.reason is not None:
                self._run.set_status(Status(StatusCode.ERROR))
            self._run.end()


def _described(event: RequestFinished, host: str, model: str, attempt: int) -> dict[str, Any]:
    """By the conventions for generative AI."""
    server, _, port = host.partition(":")
    found: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider_of(server),
        "server.address": server,
        "cottonpalm.attempt": attempt,
    }
    if model:
        found["gen_ai.request.model"] = model
    if port.isdecimal():
        found["server.port"] = int(port)
    if event.status is not None:
        found["http.response.status_code"] = event.status
    if event.usage is not None:
        found["gen_ai.usage.input_tokens"] = event.usage.input_tokens
        found["gen_ai.usage.output_tokens"] = event.usage.output_tokens
    if event.kind is not None:
        found["error.type"] = str(event.status) if event.status is not None else event.kind.value
    return found


def provider_of(host: str) -> str:
    """The name by which the conventions know a provider; the host itself where they know none."""
    return next((name for end, name in _PROVIDERS.items() if host == end or host.endswith(f".{end}")), host)
