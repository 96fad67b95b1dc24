"""Model requests as OpenTelemetry metrics, by the conventions for generative AI: an observer.

Needs the extra `metrics`.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.events import Event, RequestFinished, RunEnded, RunStarted
from cottonpalm.observers.conventions import asked_of, error_of
from cottonpalm.observers.formatting import label
from cottonpalm.observers.otel_sdk import before_collections, measure_all
from cottonpalm.observers.told import Told
from cottonpalm.types import PICO

try:
    from opentelemetry import metrics
except ImportError as missing:
    raise ImportError("metrics need opentelemetry-api: pip install 'cottonpalm[metrics]'") from missing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.metrics import MeterProvider

    from cottonpalm.types import Outcome

# The bounds that the conventions ask for.
TOKENS: Final = tuple(4**power for power in range(14))
SECONDS: Final = tuple(2**power / 100 for power in range(14))
MOST: Final = 512  # events that are kept before they are measured


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
        self._lock = threading.Lock()  # a collection comes from another thread
        self._requests: dict[str, _Requests] = {}
        self._run: dict[str, Any] = {"cottonpalm.run": ""}
        self._ended: Counter[str] = Counter()  # rows by their status
        self._spent_pico = 0
        self._kept, self._most = 0, 1

    def see(self, event: Event) -> None:
        """Measure one event."""
        self.see_all([(0.0, event)])

    def see_all(self, events: Sequence[tuple[float, Event]]) -> None:
        """Measure several."""
        _, requests, finished, _, rest = Told.of(events).kinds
        with self._lock:
            for _, request in requests:
                self._request(request)
            for _, row in finished:
                self._row_finished(row.outcome)
            for _, event in rest:
                if type(event) is RunStarted:
                    self._started(event)
            self._kept += len(requests) + len(finished)
            hands_over = self._kept >= self._most or type(events[-1][1]) is RunEnded
        if hands_over:
            self._hand_over()

    def _started(self, event: RunStarted) -> None:
        self._measure()
        self._run = {"cottonpalm.run": label(event.name or "")}

    def _row_finished(self, outcome: Outcome) -> None:
        if outcome.stored:
            return
        self._ended[outcome.status] += 1
        if outcome.cost_pico:
            self._spent_pico += outcome.cost_pico

    def _request(self, event: RequestFinished) -> None:
        if (requests := self._requests.get(event.key)) is None:
            requests = self._requests[event.key] = _Requests(
                self._seconds.record, self._tokens.record, asked_of(event.key)
            )
        requests.keep(event)

    def _hand_over(self) -> None:
        """Measure what is kept, from any thread; several events at a time if a collection is known to wait for that."""
        with self._lock:
            self._measure()
        if self._most == 1 and before_collections(self._rows.add, self._hand_over):
            self._most = MOST

    def _measure(self) -> None:
        self._kept = 0
        for requests in self._requests.values():
            requests.hand_over()
        for status, rows in self._ended.items():
            self._rows.add(rows, {**self._run, "cottonpalm.row.status": status})
        self._ended.clear()
        if self._spent_pico:
            self._cost.add(self._spent_pico / PICO, self._run)
            self._spent_pico = 0


class _Requests:
    """What is to be measured of the requests to one host and model."""

    __slots__ = ("_asked", "_failed", "_given", "_got", "_record_s", "_tokens", "_went_well")

    def __init__(
        self, record_s: Callable[..., None], tokens: Callable[..., None], asked: dict[str, Any]
    ) -> None:
        self._record_s, self._tokens, self._asked = record_s, tokens, asked
        self._went_well: list[float] = []  # seconds, one a request
        self._failed: dict[str, list[float]] = {}  # likewise, by the error
        self._given: list[int] = []  # tokens
        self._got: list[int] = []

    def keep(self, event: RequestFinished) -> None:
        if (error := error_of(event)) is None:
            self._went_well.append(event.latency_s)
        else:
            self._failed.setdefault(error, []).append(event.latency_s)
        if (usage := event.usage) is not None:
            self._given.append(usage.input_tokens)
            self._got.append(usage.output_tokens)

    def hand_over(self) -> None:
        record_s, tokens, asked = self._record_s, self._tokens, self._asked
        measure_all(record_s, asked, self._went_well)
        for error, seconds in self._failed.items():
            measure_all(record_s, {**asked, "error.type": error}, seconds)
        measure_all(tokens, {**asked, "gen_ai.token.type": "input"}, self._given)
        measure_all(tokens, {**asked, "gen_ai.token.type": "output"}, self._got)
        self._went_well, self._failed, self._given, self._got = [], {}, [], []
