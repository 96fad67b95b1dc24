"""What each observer costs a row: microseconds of CPU, for the events of one row. `python -m bench.observers`.

Where OpenTelemetry's SDK does part of the work, what it takes for that is measured beside it.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry

from cottonpalm.events import RequestFinished, RowFinished, RowStarted, RunStarted
from cottonpalm.observers.event_lines import EventLines
from cottonpalm.observers.metrics import PrometheusMetrics
from cottonpalm.observers.notes import Notes
from cottonpalm.observers.otel_metrics import OpenTelemetryMetrics
from cottonpalm.observers.progress import Progress
from cottonpalm.observers.tracing import OpenTelemetrySpans
from cottonpalm.types import Outcome, Usage

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = "api.openai.com/gpt-4o-mini"


def events(rows: int) -> list[tuple[Any, Any, Any]]:
    usage = Usage(400, 30)
    return [
        (
            RowStarted(n),
            RequestFinished(n, KEY, 200, None, 0.7, usage),
            RowFinished(Outcome(n, "ok", "x", attempts=1, usage=usage, cost_pico=9_000_000, latency_s=0.8)),
        )
        for n in range(rows)
    ]


def cost_us(observer: Any, rows: list[tuple[Any, Any, Any]]) -> float:
    def see() -> None:
        for row in rows:
            for event in row:
                observer.see(event)

    return best_us(see, len(rows))


def best_us(work: Callable[[], None], rows: int) -> float:
    """The best of three, as others use the machine too."""
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        work()
        best = min(best, (time.process_time() - began) / rows * 1e6)
    return best


def of_the_sdk(rows: int) -> dict[str, float]:
    """What the SDK takes for two spans, and for the measurements of a row, whoever asks it."""
    tracer = TracerProvider().get_tracer("bench")
    meter = MeterProvider([InMemoryMetricReader()]).get_meter("bench")
    histogram, counter = meter.create_histogram("h"), meter.create_counter("c")
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o-mini"}

    def spans() -> None:
        for _ in range(2 * rows):
            tracer.start_span("chat", attributes=attributes, start_time=1).end(2)

    def measurements() -> None:
        for _ in range(rows):
            for _ in range(3):
                histogram.record(1, attributes)
            counter.add(1, attributes)
            counter.add(1, attributes)

    return {"two spans by its tracer": best_us(spans, rows), "five measurements": best_us(measurements, rows)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    rows = events(parser.parse_args().rows)
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        observers = {
            "what the live page tells of": Notes(),
            "the terminal": Progress(live=False, lines=False),
            "events as lines": EventLines(nowhere),
            "Prometheus": PrometheusMetrics(CollectorRegistry()),
            "OpenTelemetry spans": OpenTelemetrySpans(TracerProvider()),
        }
        besides = {
            "OpenTelemetry spans, share=0.1": OpenTelemetrySpans(TracerProvider(), share=0.1),
            "OpenTelemetry metrics": OpenTelemetryMetrics(MeterProvider([InMemoryMetricReader()])),
        }
        whole = 0.0
        for name, observer in (observers | besides).items():
            if not isinstance(observer, Progress):  # which would begin to draw
                observer.see(RunStarted("bench", len(rows)))
            spent = cost_us(observer, rows)
            whole += spent if name in observers else 0
            print(f"{name:<36}{spent:8.2f} µs a row")
            if name == [*observers][-1]:
                print(f"{'all of these':<36}{whole:8.2f} µs a row\n\nbesides:")
    for name, spent in of_the_sdk(len(rows)).items():
        print(f"{f'the SDK alone, {name}':<36}{spent:8.2f} µs a row")


if __name__ == "__main__":
    main()
