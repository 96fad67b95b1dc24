"""Model requests as OpenTelemetry metrics, by the conventions for generative AI: an observer.

Needs the extra `metrics`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cottonpalm.events import Event, RequestFinished, RowFinished, RunStarted
from cottonpalm.observers.conventions import asked_of, error_of
from cottonpalm.types import PICO

try:
    from opentelemetry import metrics
except ImportError as missing:
    raise ImportError("metrics need opentelemetry-api: pip install 'cottonpalm[metrics]'") from missing

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

# The bounds that the conventions ask for.
TOKENS: Final = tuple(4**power for power in range(14))
SECONDS: Final = tuple(2**power / 100 for power in range(14))


class OpenTelemetryMetrics:
    """An observer that measures: `BatchProcessor(chain, observers=[OpenTelemetryMetrics()])`.

    Of each try of a request `gen_ai.client.operation.duration`, and where the answer says it
    `gen_ai.client.token.usage`; of each row `cottonpalm.rows` and `cottonpalm.cost`.

    Args:
        provider: of meters; the global one unless given.
    """

    def __init__(self, provider: MeterProvider | None = None) -> None:
        meter = metrics.get_meter("cottonpalm", meter_provider=provider)
        self._seconds = meter.create_histogram(
            "gen_ai.client.operation.duration",
            "s",
            "GenAI operation duration.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=TOKENS,
        )
        self._rows = meter.create_counter("cottonpalm.rows", "{row}", "Rows that have ended.")
        self._cost = meter.create_counter(
            "cottonpalm.cost", "{USD}", "What rows cost, as far as it is known."
        )
        self._run: dict[str, Any] = {"cottonpalm.run": ""}

    def see(self, event: Event) -> None:
        """Measure one event."""
        match event:
            case RequestFinished():
                self._request(event)
            case RowFinished() if not event.outcome.stored:
                self._rows.add(1, {**self._run, "cottonpalm.row.status": event.outcome.status})
                if event.outcome.cost_pico:
                    self._cost.add(event.outcome.cost_pico / PICO, self._run)
            case RunStarted():
                self._run = {"cottonpalm.run": event.name or ""}

    def _request(self, event: RequestFinished) -> None:
        asked, usage = asked_of(event.key), event.usage
        error = error_of(event)
        self._seconds.record(event.latency_s, asked if error is None else {**asked, "error.type": error})
        if usage is not None:
            self._tokens.record(usage.input_tokens, {**asked, "gen_ai.token.type": "input"})
            self._tokens.record(usage.output_tokens, {**asked, "gen_ai.token.type": "output"})
