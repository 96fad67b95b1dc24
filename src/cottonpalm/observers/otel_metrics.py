"""Model requests as OpenTelemetry metrics, by the conventions for generative AI: an observer.

Needs the extra `metrics`.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.events import Event, RunEnded, RunStarted
from cottonpalm.observers.otel.conventions import asked_of, error_of
from cottonpalm.observers.otel.sdk import before_collections, measure_all
from cottonpalm.observers.told import Told
from cottonpalm.observers.words.formatting import label
from cottonpalm.types import PICO

try:
    from opentelemetry import metrics
except ImportError as missing:
    raise ImportError("metrics need opentelemetry-api: pip install 'cottonpalm[metrics]'") from missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.metrics import Histogram, MeterProvider

    from cottonpalm.observers.told import Tries

# The bounds that the conventions ask for.
TOKENS: Final = tuple(4**power for power in range(14))
SECONDS: Final = tuple(2**power / 100 for power in range(14))
MOST: Final = 1024  # events that are kept before they are measured


class OpenTelemetryMetrics:
    """An observer that measures: `BatchProcessor(chain, observers=[OpenTelemetryMetrics()])`.

    Of each try of a request `gen_ai.client.operation.duration`, and where the answer says it
    `gen_ai.client.token.usage`; of each row `cottonpalm.rows` and `cottonpalm.cost`.

    Args:
        provider: of meters; the global one unless given.
    """

    def __init__(self, provider: MeterProvider | None = None) -> None:
        self._provider = provider
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
        self._lock = threading.Lock()  # a collection comes from another thread
        self._values: defaultdict[tuple[Histogram, str, str, str | None], list[float]] = defaultdict(list)
        self._run: dict[str, Any] = {"cottonpalm.run": ""}
        self._ended: Counter[str] = Counter()  # rows by their status
        self._spent_pico = 0
        self._kept, self._most = 0, 1

    def of_run(self) -> OpenTelemetryMetrics:
        """One for a single run; all measure by the same provider."""
        return type(self)(self._provider)

    def see(self, event: Event) -> None:
        """Measure one event."""
        self.see_all([(0.0, event)])

    def see_all(self, events: Sequence[tuple[float, Event]]) -> None:
        """Measure several."""
        told = Told.of(events)
        with self._lock:
            for tries in told.tries:
                self._requests_finished(tries)
            for rows in told.ended:
                self._ended[rows.status] += len(rows.seconds)
                self._spent_pico += rows.cost_pico
            for _, event in told.kinds.rest:
                if type(event) is RunStarted:
                    self._started(event)
            self._kept += len(told)
            hands_over = self._kept >= self._most or type(events[-1][1]) is RunEnded
        if hands_over:
            self._hand_over()

    def _started(self, event: RunStarted) -> None:
        self._measure()
        self._run = {"cottonpalm.run": label(event.name or "")}

    def _requests_finished(self, tries: Tries) -> None:
        values, key = self._values, tries.key
        values[self._seconds, key, "error.type", error_of(tries)] += tries.seconds
        values[self._tokens, key, "gen_ai.token.type", "input"] += tries.input_tokens
        values[self._tokens, key, "gen_ai.token.type", "output"] += tries.output_tokens

    def _hand_over(self) -> None:
        """Measure what is kept, from any thread; several events at a time if a collection is known to wait for that."""
        with self._lock:
            self._measure()
        if self._most == 1 and before_collections(self._rows.add, self._hand_over):
            self._most = MOST

    def _measure(self) -> None:
        self._kept = 0
        for (histogram, key, name, value), values in self._values.items():
            more = {} if value is None else {name: value}
            measure_all(histogram.record, {**asked_of(key), **more}, values)
        self._values.clear()
        for status, rows in self._ended.items():
            self._rows.add(rows, {**self._run, "cottonpalm.row.status": status})
        self._ended.clear()
        if self._spent_pico:
            self._cost.add(self._spent_pico / PICO, self._run)
            self._spent_pico = 0
