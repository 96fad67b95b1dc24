"""Metrics by OpenTelemetry: many values handed over at once are what the SDK's own API makes of them one by one."""

from __future__ import annotations

import gc
import threading
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.metrics import set_meter_provider
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.trace import TracerProvider

from cottonpalm.events import Event, RequestFinished, RowFinished, RunEnded, RunStarted
from cottonpalm.observers.otel.conventions import asked_of, error_of
from cottonpalm.observers.otel_metrics import MOST, SECONDS, TOKENS, OpenTelemetryMetrics
from cottonpalm.types import PICO, Kind, Outcome, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.core
KEYS = ("api.openai.com/gpt-4o-mini", "localhost:8000/m", "api.x.ai/grok")
DELTA = dict.fromkeys((Counter, Histogram), AggregationTemporality.DELTA)
VIEWS = {
    "plain": [],
    "fewer attributes": [View(instrument_name="*", attribute_keys={"gen_ai.token.type", "error.type"})],
    "two views": [View(instrument_name="gen_ai.client.token.usage", name=name) for name in ("a", "b")],
    "exponential": [
        View(instrument_type=Histogram, aggregation=ExponentialBucketHistogramAggregation()),
    ],
}


class OneByOne:
    """The same measurements by the API alone."""

    def __init__(self, provider: MeterProvider) -> None:
        meter = provider.get_meter("cottonpalm")
        self.seconds = meter.create_histogram(
            "gen_ai.client.operation.duration", "s", explicit_bucket_boundaries_advisory=SECONDS
        )
        self.tokens = meter.create_histogram(
            "gen_ai.client.token.usage", "{token}", explicit_bucket_boundaries_advisory=TOKENS
        )
        self.rows = meter.create_counter("cottonpalm.rows", "{row}")
        self.cost = meter.create_counter("cottonpalm.cost", "{USD}")
        self.run = {"cottonpalm.run": ""}

    def see(self, event: Event) -> None:
        match event:
            case RunStarted():
                self.run = {"cottonpalm.run": event.name or ""}
            case RowFinished(outcome=Outcome(stored=False) as row):
                self.rows.add(1, {**self.run, "cottonpalm.row.status": row.status})
                if row.cost_pico:
                    self.cost.add(row.cost_pico / PICO, self.run)
            case RequestFinished():
                asked, error = asked_of(event.key), error_of(event)
                self.seconds.record(event.latency_s, {**asked, **({"error.type": error} if error else {})})
                if event.usage is not None:
                    self.tokens.record(event.usage.input_tokens, {**asked, "gen_ai.token.type": "input"})
                    self.tokens.record(event.usage.output_tokens, {**asked, "gen_ai.token.type": "output"})


def story(chance: Random, many: int) -> Iterator[Event | None]:
    """Events of two runs; None: somebody collects."""
    for run in ("night", None):
        yield RunStarted(run, many)
        for row in range(many):
            fault = chance.choice([None, None, None, (Kind.THROTTLE, 429), (Kind.TRANSIENT, None)])
            usage = None if fault else Usage(chance.randrange(9000), chance.randrange(300))
            kind, status = fault or (None, 200)
            yield RequestFinished(row, chance.choice(KEYS), status, kind, chance.expovariate(1), usage)
            ended = chance.choice(["ok", "ok", "failed", "skipped"])
            yield RowFinished(
                Outcome(row, ended, cost_pico=chance.choice([None, 0, chance.randrange(10**9)]))
            )  # type: ignore[arg-type]
            yield RowFinished(Outcome(row, "ok", cost_pico=5, stored=True))
            if chance.random() < 5 / many:
                yield None
        yield RunEnded(None)
        yield None


def points(reader: InMemoryMetricReader) -> Any:
    """All that was collected but times and exemplars; sums as near as adding up in another order leaves them."""
    data = reader.get_metrics_data()
    if data is None:
        return {}
    found = {}
    for metric in (
        m for all_ in data.resource_metrics for scope in all_.scope_metrics for m in scope.metrics
    ):
        for point in metric.data.data_points:
            values = {
                name: value
                for name in (
                    "value",
                    "sum",
                    "count",
                    "min",
                    "max",
                    "bucket_counts",
                    "explicit_bounds",
                    "zero_count",
                )
                if (value := getattr(point, name, None)) is not None
            }
            values |= {name: pytest.approx(values[name]) for name in ("value", "sum") if name in values}
            found[metric.name, frozenset((point.attributes or {}).items())] = values
    return found


@pytest.mark.parametrize("temporality", [{}, DELTA], ids=["cumulative", "delta"])
@pytest.mark.parametrize("views", VIEWS)
@pytest.mark.parametrize("readers", [1, 2])
def test_each_collection_finds_what_the_api_alone_would_have_measured(
    temporality: dict[type, AggregationTemporality], views: str, readers: int
) -> None:
    for seed in range(3):
        sides = []
        for make in (OpenTelemetryMetrics, OneByOne):
            mine = [InMemoryMetricReader(preferred_temporality=temporality) for _ in range(readers)]
            sides.append((make(MeterProvider(mine, views=VIEWS[views])), mine))
        compared = 0
        for event in story(Random(seed), chance_of_size(seed)):
            if event is None:
                for ours, plain in zip(*(mine for _, mine in sides), strict=True):
                    assert points(ours) == points(plain)
                    compared += 1
            else:
                for observer, _ in sides:
                    observer.see(event)
        assert compared >= 2 * readers


def chance_of_size(seed: int) -> int:
    return (3, 100, 2 * MOST)[seed]


def test_what_happens_while_others_collect_is_measured_once() -> None:
    reader = InMemoryMetricReader(preferred_temporality=DELTA)
    observer = OpenTelemetryMetrics(MeterProvider([reader]))
    found: list[int] = []
    stop = threading.Event()

    def collect() -> None:
        while not stop.is_set():
            found.append(counted(reader))

    thread = threading.Thread(target=collect)
    thread.start()
    for row in range(20_000):
        observer.see(RequestFinished(row, KEYS[0], 200, None, 0.1, None))
    stop.set()
    thread.join()
    assert sum(found) + counted(reader) == 20_000
    assert len(found) > 2


def counted(reader: InMemoryMetricReader) -> int:
    return sum(each["count"] for (name, _), each in points(reader).items() if name.endswith("duration"))


def test_the_readers_of_many_observers_hear_of_all_and_dropped_ones_are_let_go() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    observers = [OpenTelemetryMetrics(provider) for _ in range(5)]
    for observer in observers:
        for row in range(7):
            observer.see(RequestFinished(row, KEYS[0], 200, None, 0.1, None))
    assert counted(reader) == 35
    [instrument] = provider._measurement_consumer._async_instruments
    del observers, observer
    gc.collect()
    OpenTelemetryMetrics(provider).see(RowFinished(Outcome(0, "ok")))
    assert len(instrument._tell) == 1  # type: ignore[attr-defined]


def test_a_provider_that_is_set_late_is_measured_by(monkeypatch: pytest.MonkeyPatch) -> None:
    import opentelemetry.metrics._internal as inside
    from opentelemetry.util._once import Once

    for name, value in {
        "_METER_PROVIDER": None,
        "_METER_PROVIDER_SET_ONCE": Once(),
        "_PROXY_METER_PROVIDER": inside._ProxyMeterProvider(),
    }.items():
        monkeypatch.setattr(inside, name, value)
    observer, reader = OpenTelemetryMetrics(), InMemoryMetricReader()
    observer.see(RequestFinished(0, KEYS[0], 200, None, 0.1, None))  # nobody is there to measure it
    set_meter_provider(MeterProvider([reader]))
    for row in range(7):
        observer.see(RequestFinished(row, KEYS[0], 200, None, 0.1, None))
    assert counted(reader) == 7


def test_a_measurement_inside_a_sampled_span_leaves_an_exemplar() -> None:
    reader = InMemoryMetricReader()
    observer = OpenTelemetryMetrics(MeterProvider([reader]))
    with TracerProvider().get_tracer("mine").start_as_current_span("outer") as span:
        for row in range(3 * MOST):
            observer.see(RequestFinished(row, KEYS[0], 200, None, 0.1, None))
    data = reader.get_metrics_data()
    assert data is not None
    [metric] = data.resource_metrics[0].scope_metrics[0].metrics
    [exemplar] = metric.data.data_points[0].exemplars
    assert exemplar.span_id == span.get_span_context().span_id


def test_a_meter_that_is_switched_off_measures_nothing() -> None:
    reader = InMemoryMetricReader()
    observer = OpenTelemetryMetrics(MeterProvider([reader]))
    observer.see(RequestFinished(0, KEYS[0], 200, None, 0.1, None))
    disabled: Callable[[], bool] = lambda: False  # noqa: E731
    if not hasattr(type(observer._seconds), "_is_enabled"):
        pytest.skip("this SDK cannot switch a meter off")
    observer._seconds._is_enabled = disabled  # type: ignore[attr-defined]
    for row in range(9):
        observer.see(RequestFinished(row, KEYS[0], 200, None, 0.1, None))
    assert counted(reader) == 1
