"""Counts of runs as Prometheus reads them: an observer for one's own server. Needs the extra `metrics`.

Names and units follow Prometheus's conventions: base units, `_total` for what only grows. Labels are few: the run's
name, the model, a status or a kind; never a row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cottonpalm.events import (
    Binding,
    CacheHit,
    Event,
    LimitChanged,
    Paused,
    RequestFinished,
    RowFinished,
    RowRestarted,
    RowStarted,
    RunEnded,
    RunStarted,
)
from cottonpalm.types import PICO

try:
    from prometheus_client import REGISTRY, Counter, Gauge, Histogram
except ImportError as missing:
    raise ImportError("metrics need prometheus_client: pip install 'cottonpalm[metrics]'") from missing

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

SECONDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 600.0)
UNNAMED: Final = ""


class Families:
    """The metrics of one registry; several observers of a process share them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, said: str, *labels: str) -> Counter:
            return Counter(f"cottonpalm_{name}", said, labels, registry=registry)

        def gauge(name: str, said: str, *labels: str) -> Gauge:
            return Gauge(f"cottonpalm_{name}", said, labels, registry=registry)

        def seconds(name: str, said: str, *labels: str) -> Histogram:
            return Histogram(f"cottonpalm_{name}_seconds", said, labels, registry=registry, buckets=SECONDS)

        self.runs = gauge("runs_active", "Runs that are going.", "run")
        self.rows = counter("rows", "Rows that have ended in this process.", "run", "status")
        self.kinds = counter("rows_failed", "Rows that failed, by kind of fault.", "run", "kind")
        self.begun = gauge("rows_in_progress", "Rows that have started and not ended.", "run")
        self.row_s = seconds("row_duration", "From a row's start to its answer.", "run")
        self.restarts = counter("stream_restarts", "Streams that broke off and began again.", "run")
        self.hits = counter("cache_hits", "Rows answered by the cache, by where.", "run", "source")
        self.cost = counter("cost_dollars", "What rows cost, in US dollars, as far as it is known.", "run")
        self.requests = counter("requests", "Tries of model requests.", "run", "model", "status")
        self.request_s = seconds("request_duration", "One try of a model request.", "run", "model")
        self.tokens = counter("tokens", "Tokens of model requests.", "run", "model", "direction")
        self.pauses = counter("pause_seconds", "Waits that providers asked for.", "run", "model")
        self.limit = gauge("concurrency_limit", "Requests that may be in flight.", "run", "model")
        self.bound = gauge("bound", "What keeps a run from being faster now: 1.", "run", "by")


_families: dict[int, Families] = {}  # by the id of a registry that is kept alive by its own metrics


class PrometheusMetrics:
    """An observer that counts: `BatchProcessor(chain, observers=[PrometheusMetrics()])`.

    It serves nothing: `prometheus_client.start_http_server(9100)` does, or any server of one's own.

    Args:
        registry: where the metrics are registered; the client's own unless given.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        registry = REGISTRY if registry is None else registry
        if (found := _families.get(id(registry))) is None:
            found = _families[id(registry)] = Families(registry)
        self._to = found
        self._registry = registry  # which must outlive its id
        self._run, self._bound = UNNAMED, ""
        self._open = 0
        self._sees: dict[type[Event], Callable[[Any], None]] = {
            RowStarted: self._row_started,
            RowFinished: self._row_finished,
            RequestFinished: self._request_finished,
            CacheHit: lambda event: found.hits.labels(self._run, event.source).inc(),
            RowRestarted: lambda _: found.restarts.labels(self._run).inc(),
            Paused: lambda event: found.pauses.labels(self._run, event.key).inc(event.seconds),
            LimitChanged: lambda event: found.limit.labels(self._run, event.key).set(event.limit),
            Binding: self._binding,
            RunStarted: self._started,
            RunEnded: self._ended,
        }

    def see(self, event: Event) -> None:
        """Count one event."""
        if (sees := self._sees.get(type(event))) is not None:
            sees(event)

    def _started(self, event: RunStarted) -> None:
        self._run, self._open = event.name or UNNAMED, 0
        to, run = self._to, self._run
        to.runs.labels(run).inc()
        to.begun.labels(run).set_function(lambda: self._open)
        self._row_s, self._cost = to.row_s.labels(run), to.cost.labels(run)
        self._rows = {status: to.rows.labels(run, status) for status in ("ok", "failed", "skipped")}
        self._models: dict[tuple[str, int | None], tuple[Any, Any, Any, Any]] = {}

    def _row_started(self, _: RowStarted) -> None:
        self._open += 1

    def _row_finished(self, event: RowFinished) -> None:
        outcome = event.outcome
        if outcome.stored:
            return
        if self._open and not outcome.cached:  # a row that was answered at a gate has not started
            self._open -= 1
        self._rows[outcome.status].inc()
        if outcome.status != "skipped":
            self._row_s.observe(outcome.latency_s)
        if outcome.error is not None:
            self._to.kinds.labels(self._run, outcome.error.kind.value).inc()
        if outcome.cost_pico:
            self._cost.inc(outcome.cost_pico / PICO)

    def _request_finished(self, event: RequestFinished) -> None:
        name = event.key, event.status
        if (known := self._models.get(name)) is None:
            known = self._models[name] = self._labelled(*name)
        requests, seconds, given, got = known
        requests.inc()
        seconds.observe(event.latency_s)
        if event.usage is not None:
            given.inc(event.usage.input_tokens)
            got.inc(event.usage.output_tokens)

    def _labelled(self, model: str, status: int | None) -> tuple[Any, Any, Any, Any]:
        to, run = self._to, self._run
        return (
            to.requests.labels(run, model, "none" if status is None else str(status)),
            to.request_s.labels(run, model),
            to.tokens.labels(run, model, "input"),
            to.tokens.labels(run, model, "output"),
        )

    def _binding(self, event: Binding) -> None:
        if self._bound:
            self._to.bound.labels(self._run, self._bound).set(0)
        self._bound = event.what
        if event.what:
            self._to.bound.labels(self._run, event.what).set(1)

    def _ended(self, _: RunEnded) -> None:
        self._to.runs.labels(self._run).dec()
        self._open = 0
        self._binding(Binding("", ""))
