"""Counts of runs as Prometheus reads them: an observer for one's own server. Needs the extra `metrics`.

Names and units follow Prometheus's conventions: base units, `_total` for what only grows. Labels are few: the run's
name, the model, a status or a kind; never a row.

Events are added up here, and made into metrics when they are asked for: the client's own counters would take a lock
and look for their labels at each event.
"""

from __future__ import annotations

import threading
from collections import Counter
from itertools import accumulate
from operator import add
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.events import (
    Binding,
    CacheHit,
    Event,
    LimitChanged,
    Paused,
    RowRestarted,
    RunEnded,
    RunStarted,
)
from cottonpalm.observers.measures.bounded import in_buckets
from cottonpalm.observers.told import Told
from cottonpalm.observers.words.formatting import label
from cottonpalm.types import PICO

try:
    from prometheus_client import REGISTRY
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
    from prometheus_client.registry import Collector
    from prometheus_client.utils import floatToGoString as said
except ImportError as missing:
    raise ImportError("metrics need prometheus_client: pip install 'cottonpalm[metrics]'") from missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from cottonpalm.observers.told import Ended, Tries

SECONDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 600.0)
MANY: Final = 1000  # values that are kept before they are sorted
STATUSES: Final = ("ok", "failed", "skipped")
UNNAMED: Final = ""


class _Spread:
    """How many values fell into each bucket, and their sum. Values are sorted into buckets many at once."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        # what was added up, its sum, and the values since: in one, as another thread reads it
        self._seen: tuple[list[int], float, list[float]] = [0] * (len(SECONDS) + 1), 0.0, []

    def note(self, seconds: Sequence[float]) -> None:
        self._seen[2].extend(seconds)
        if len(self._seen[2]) >= MANY:
            self._seen = (*self.summed(), [])

    def add(self, other: _Spread) -> None:
        (mine, total), (theirs, more) = self.summed(), other.summed()
        self._seen = list(map(add, mine, theirs)), total + more, []

    def summed(self) -> tuple[list[int], float]:
        """The buckets, each without those below it, and the sum."""
        buckets, total, values = self._seen
        since = values.copy()
        return list(map(add, buckets, in_buckets(since, SECONDS))), total + sum(since)

    def cumulated(self) -> tuple[list[tuple[str, float]], float]:
        """As the client wants them: each bucket with all below it; and the sum."""
        buckets, total = self.summed()
        return list(zip([*map(said, SECONDS), "+Inf"], accumulate(buckets), strict=True)), total


class _Model:
    """What one host and model was asked."""

    __slots__ = ("given", "got", "seconds", "statuses")

    def __init__(self) -> None:
        self.statuses: Counter[int | None] = Counter()  # None: no answer came
        self.seconds = _Spread()
        self.given = self.got = 0

    def add(self, other: _Model) -> None:
        self.statuses.update(other.statuses.copy())
        self.seconds.add(other.seconds)
        self.given, self.got = self.given + other.given, self.got + other.got


class _Counts:
    """What has happened in one run, or in several of one name. One thread writes, any reads."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.hits: Counter[str] = Counter()
        self.pauses: Counter[str] = Counter()
        self.models: dict[str, _Model] = {}
        self.limits: dict[str, int] = {}
        self.bounds: dict[str, int] = {}
        self.row_s = _Spread()
        self.active = self.open = self.restarts = self.cost_pico = 0

    def add(self, other: _Counts) -> None:
        """Another run of the same name."""
        self.rows.update(other.rows.copy())  # a copy is made at once, whatever others write meanwhile
        self.kinds.update(other.kinds.copy())
        self.hits.update(other.hits.copy())
        self.pauses.update(other.pauses.copy())
        for name, model in other.models.copy().items():
            self.models.setdefault(label(name), _Model()).add(model)
        self.limits.update(other.limits.copy())
        self.bounds.update(other.bounds.copy())
        self.row_s.add(other.row_s)
        self.active, self.open = self.active + other.active, self.open + other.open
        self.restarts, self.cost_pico = self.restarts + other.restarts, self.cost_pico + other.cost_pico


class Runs(Collector):
    """All runs of one registry: those that go, and what those that are over came to, by name."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry  # which must outlive its id
        self._over: dict[str, _Counts] = {}
        self._going: list[tuple[str, _Counts]] = []
        self._lock = threading.Lock()

    def begins(self, run: str, counts: _Counts) -> None:
        """From now on it is counted."""
        with self._lock:
            self._going.append((run, counts))

    def ends(self, run: str, counts: _Counts) -> None:
        """It counts no more; what it came to stays."""
        with self._lock:
            self._going = [(name, each) for name, each in self._going if each is not counts]
            self._over.setdefault(run, _Counts()).add(counts)

    def collect(self) -> Iterator[Metric]:
        """All metrics as they are now."""
        found: dict[str, _Counts] = {}
        with self._lock:
            for run, counts in (*self._over.items(), *self._going):
                found.setdefault(run, _Counts()).add(counts)
        yield from _rows(found)
        yield from _requests(found)
        yield from _state(found)


def _counter(name: str, what: str, labels: str, values: Iterable[tuple[Iterable[str], float]]) -> Metric:
    family = CounterMetricFamily(f"cottonpalm_{name}", what, labels=labels.split())
    for names, value in values:
        family.add_metric([*names], value)
    return family


def _gauge(name: str, what: str, labels: str, values: Iterable[tuple[Iterable[str], float]]) -> Metric:
    family = GaugeMetricFamily(f"cottonpalm_{name}", what, labels=labels.split())
    for names, value in values:
        family.add_metric([*names], value)
    return family


def _seconds(name: str, what: str, labels: str, values: Iterable[tuple[Iterable[str], _Spread]]) -> Metric:
    family = HistogramMetricFamily(f"cottonpalm_{name}_seconds", what, labels=labels.split())
    for names, spread in values:
        family.add_metric([*names], *spread.cumulated())
    return family


def _rows(runs: Mapping[str, _Counts]) -> Iterator[Metric]:
    each = runs.items()
    rows = (((run, status), counts.rows[status]) for run, counts in each for status in STATUSES)
    kinds = (((run, kind), number) for run, counts in each for kind, number in counts.kinds.items())
    hits = (((run, where), number) for run, counts in each for where, number in counts.hits.items())
    yield _counter("rows", "Rows that have ended in this process.", "run status", rows)
    yield _counter("rows_failed", "Rows that failed, by kind of fault.", "run kind", kinds)
    yield _seconds(
        "row_duration",
        "From a row's start to its answer.",
        "run",
        (((run,), counts.row_s) for run, counts in each),
    )
    yield _counter("cache_hits", "Rows answered by the cache, by where.", "run source", hits)
    restarts = (((run,), counts.restarts) for run, counts in each)
    yield _counter("stream_restarts", "Streams that broke off and began again.", "run", restarts)
    cost = (((run,), counts.cost_pico / PICO) for run, counts in each)
    yield _counter("cost_dollars", "What rows cost, in US dollars, as far as it is known.", "run", cost)


def _requests(runs: Mapping[str, _Counts]) -> Iterator[Metric]:
    each = [(run, name, model) for run, counts in runs.items() for name, model in counts.models.items()]
    tries = (
        ((run, name, "none" if status is None else str(status)), number)
        for run, name, used in each
        for status, number in used.statuses.items()
    )
    yield _counter("requests", "Tries of model requests.", "run model status", tries)
    spreads = (((run, name), model.seconds) for run, name, model in each)
    yield _seconds("request_duration", "One try of a model request.", "run model", spreads)
    tokens = (
        ((run, name, way), number)
        for run, name, model in each
        for way, number in (("input", model.given), ("output", model.got))
    )
    yield _counter("tokens", "Tokens of model requests.", "run model direction", tokens)
    pauses = (((run, name), waited) for run, counts in runs.items() for name, waited in counts.pauses.items())
    yield _counter("pause_seconds", "Waits that providers asked for.", "run model", pauses)


def _state(runs: Mapping[str, _Counts]) -> Iterator[Metric]:
    each = runs.items()
    limits = (((run, name), limit) for run, counts in each for name, limit in counts.limits.items())
    bounds = (((run, what), binds) for run, counts in each for what, binds in counts.bounds.items())
    yield _gauge(
        "runs_active", "Runs that are going.", "run", (((run,), counts.active) for run, counts in each)
    )
    begun = (((run,), counts.open) for run, counts in each)
    yield _gauge("rows_in_progress", "Rows that have started and not ended.", "run", begun)
    yield _gauge("concurrency_limit", "Requests that may be in flight.", "run model", limits)
    yield _gauge("bound", "What keeps a run from being faster now: 1.", "run by", bounds)


_collectors: dict[int, Runs] = {}  # by the id of the registry


class PrometheusMetrics:
    """An observer that counts: `BatchProcessor(chain, observers=[PrometheusMetrics()])`.

    It serves nothing: `prometheus_client.start_http_server(9100)` does, or any server of one's own.

    Args:
        registry: where the metrics are registered; the client's own unless given.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        registry = REGISTRY if registry is None else registry
        if (runs := _collectors.get(id(registry))) is None:
            runs = _collectors[id(registry)] = Runs(registry)
            registry.register(runs)
        self._runs = runs
        self._run, self._counts = UNNAMED, _Counts()
        self._sees: dict[type[Event], Callable[[Any], None]] = {
            CacheHit: self._cache_hit,
            RowRestarted: self._restarted,
            Paused: self._paused,
            LimitChanged: self._limit_changed,
            Binding: self._binding,
            RunStarted: self._started,
            RunEnded: self._ended,
        }

    def of_run(self) -> PrometheusMetrics:
        """One for a single run; all count into the same registry."""
        return type(self)(self._runs.registry)

    def see(self, event: Event) -> None:
        """Count one event."""
        self.see_all([(0.0, event)])

    def see_all(self, events: Sequence[tuple[float, Event]]) -> None:
        """The same of several."""
        told = Told.of(events)
        self._counts.open += len(told.kinds.started)
        for tries in told.tries:
            self._requests_finished(tries)
        for rows in told.ended:
            self._rows_finished(rows)
        for _, row in told.kinds.failed:
            if (error := row.outcome.error) is not None and not row.outcome.stored:
                self._counts.kinds[error.kind.value] += 1
        for _, event in told.kinds.rest:
            if (sees := self._sees.get(type(event))) is not None:
                sees(event)

    def _started(self, event: RunStarted) -> None:
        self._run, self._counts = label(event.name or UNNAMED), _Counts()
        self._counts.active = 1
        self._runs.begins(self._run, self._counts)

    def _rows_finished(self, rows: Ended) -> None:
        counts, ended = self._counts, len(rows.seconds)
        counts.rows[rows.status] += ended
        counts.open -= min(counts.open, ended - rows.cached)  # who was answered at a gate has not started
        if rows.status != "skipped":
            counts.row_s.note(rows.seconds)
        counts.cost_pico += rows.cost_pico

    def _requests_finished(self, tries: Tries) -> None:
        models = self._counts.models
        if (model := models.get(tries.key)) is None:
            model = models[tries.key] = _Model()
        model.statuses[tries.status] += len(tries.seconds)
        model.seconds.note(tries.seconds)
        model.given += sum(tries.input_tokens)
        model.got += sum(tries.output_tokens)

    def _cache_hit(self, event: CacheHit) -> None:
        self._counts.hits[event.source] += 1

    def _restarted(self, _: RowRestarted) -> None:
        self._counts.restarts += 1

    def _paused(self, event: Paused) -> None:
        self._counts.pauses[label(event.key)] += event.seconds  # type: ignore[assignment]  # a counter of seconds

    def _limit_changed(self, event: LimitChanged) -> None:
        self._counts.limits[label(event.key)] = event.limit

    def _binding(self, event: Binding) -> None:
        bounds = self._counts.bounds
        self._counts.bounds = {**dict.fromkeys(bounds, 0), **({label(event.what): 1} if event.what else {})}

    def _ended(self, _: RunEnded) -> None:
        counts = self._counts
        counts.active = counts.open = 0
        self._binding(Binding("", ""))
        self._runs.ends(self._run, counts)
        self._counts = _Counts()
