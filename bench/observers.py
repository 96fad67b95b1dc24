"""What each observer costs a row: microseconds of CPU, for the events of one row. `python -m bench.observers`."""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry

from cottonpalm.events import RequestFinished, RowFinished, RowStarted, RunStarted
from cottonpalm.observers.event_lines import EventLines
from cottonpalm.observers.metrics import PrometheusMetrics
from cottonpalm.observers.notes import Notes
from cottonpalm.observers.progress import Progress
from cottonpalm.observers.tracing import OpenTelemetrySpans
from cottonpalm.types import Outcome, Usage

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
    """The best of three, as others use the machine too."""
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        for row in rows:
            for event in row:
                observer.see(event)
        best = min(best, (time.process_time() - began) / len(rows) * 1e6)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    rows = events(parser.parse_args().rows)
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        observers = {
            "what the live page tells of": Notes(),
            "the terminal": Progress(live=False, lines=False),
            "events as lines": EventLines(nowhere),
            "Prometheus": PrometheusMetrics(CollectorRegistry()),
            "OpenTelemetry, no exporter": OpenTelemetrySpans(TracerProvider()),
        }
        whole = 0.0
        for name, observer in observers.items():
            if not isinstance(observer, Progress):  # which would begin to draw
                observer.see(RunStarted("bench", len(rows)))
            spent = cost_us(observer, rows)
            whole += spent
            print(f"{name:<32}{spent:8.2f} µs a row")
        print(f"{'all of them':<32}{whole:8.2f} µs a row")


if __name__ == "__main__":
    main()
