"""What observers cost a row: microseconds of CPU. `python -m bench.observers`.

First each observer alone, for the events of one row, told in groups as a run tells them; then each within a run of chat
rows, where its code and data have left the processor's caches, timed directly. Then all of them on and off in whole
runs, of chat rows over loopback HTTP by both transports, by the fast one with a store, a cache and a budget too, and
of a chain that asks nobody: there the difference is far less certain, but what a row costs is seen. Where the SDK of
OpenTelemetry does part of the work, what its API takes for that is measured beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bench import measure as m
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry
from tests.support.loopback import LoopbackProcess

from cottonpalm import BatchProcessor, Cache, clock
from cottonpalm.engine.output.telling import GROUP, Telling
from cottonpalm.events import Event, RequestFinished, RowFinished, RowStarted, RunStarted
from cottonpalm.observers.event_lines import EventLines
from cottonpalm.observers.metrics import PrometheusMetrics
from cottonpalm.observers.notes import Notes
from cottonpalm.observers.otel_metrics import OpenTelemetryMetrics
from cottonpalm.observers.terminal.progress import Progress
from cottonpalm.observers.told import Told
from cottonpalm.observers.tracing import OpenTelemetrySpans
from cottonpalm.providers.langchain import run_here
from cottonpalm.testing import ScriptedChain
from cottonpalm.types import Outcome, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MODEL = "gpt-4o-mini"
KEY = f"api.openai.com/{MODEL}"
REGISTRY, METERS, TRACERS = CollectorRegistry(), MeterProvider([InMemoryMetricReader()]), TracerProvider()
MOST_US, MOST_SHARE = 15.0, 0.02
SHARED = "sorted and added up, once for all"
ALL: dict[str, Callable[[], Any]] = {
    "what the live page tells of": Notes,
    "the terminal": lambda: Progress(live=False, lines=False),
    "events as lines": lambda: EventLines(Path(os.devnull).open("wb")),  # noqa: SIM115 - it closes the file
    "Prometheus": lambda: PrometheusMetrics(REGISTRY),
    "OpenTelemetry metrics": lambda: OpenTelemetryMetrics(METERS),
    "OpenTelemetry spans": lambda: OpenTelemetrySpans(TRACERS),
}


def events(rows: int) -> list[list[tuple[float, Event]]]:
    """The events of so many rows, in groups; no two rows are alike."""
    chance, at = Random(13), 1_750_000_000.0
    told: list[tuple[float, Event]] = []
    for n in range(rows):
        usage, latency_s = (
            Usage(chance.randrange(300, 500), chance.randrange(10, 60)),
            chance.uniform(0.3, 1.5),
        )
        cost = usage.input_tokens * 150_000 + usage.output_tokens * 600_000
        outcome = Outcome(
            n, "ok", "x", attempts=1, usage=usage, cost_pico=cost, latency_s=latency_s, model=MODEL
        )
        row = RowStarted(n), RequestFinished(n, KEY, 200, None, latency_s, usage), RowFinished(outcome)
        at += chance.expovariate(3000)
        told += [(at, event) for event in row]
    return [told[first : first + GROUP] for first in range(0, len(told), GROUP)]


def cost_us(observer: Any, groups: Sequence[Told], rows: int) -> float:
    def see() -> None:
        for group in groups:
            observer.see_all(group)

    if not isinstance(observer, Progress):  # which would begin to draw
        observer.see(RunStarted("bench", rows))
    return best_us(see, rows)


def best_us(work: Callable[[], None], rows: int) -> float:
    """The best of five, as others use the machine too."""
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        work()
        best = min(best, (time.process_time() - began) / rows * 1e6)
    return best


def of_the_sdk(rows: int) -> dict[str, float]:
    """What the SDK takes for two spans, and for the measurements of a row, whoever asks it."""
    tracer = TracerProvider().get_tracer("bench")
    meter = MeterProvider([InMemoryMetricReader()]).get_meter("bench")
    histogram, counter = meter.create_histogram("h"), meter.create_counter("c")
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": MODEL}

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


def prepare(groups: Sequence[Told]) -> None:
    """What the first observer that needs it does for the others."""
    for group in map(Told, groups):
        _ = group.kinds, group.tries, group.ended


def alone(rows: int) -> None:
    """A line for each observer."""
    told = [Told(group) for group in events(rows)]
    costs = {SHARED: best_us(lambda: prepare(told), rows)}
    costs |= {name: cost_us(made(), told, rows) for name, made in ALL.items()}
    for name, spent in costs.items():
        print(f"  {name:<36}{spent:8.2f} µs a row")
    whole = sum(costs.values())
    against = "at most" if whole <= MOST_US else "above"
    print(f"  {'all of these':<36}{whole:8.2f} µs a row, {against} {MOST_US:g}\n  besides:")
    some = OpenTelemetrySpans(TracerProvider(), share=0.1)
    print(f"  {'OpenTelemetry spans, share=0.1':<36}{cost_us(some, told, rows):8.2f} µs a row")
    for name, spent in of_the_sdk(rows).items():
        print(f"  {f'the SDK alone, {name}':<36}{spent:8.2f} µs a row")


async def in_runs(rows: int, repeats: int, observers_us: float) -> None:
    """Whole runs with all on and all off, turn by turn; what share of a row the observers' own time is."""
    inputs = [{"text": f"review number {number}"} for number in range(rows)]
    with LoopbackProcess(latency=0.02) as server, TemporaryDirectory() as folder:
        model = ChatOpenAI(model=MODEL, base_url=server.openai_url, api_key="not-a-key")  # type: ignore[arg-type]
        chat = ChatPromptTemplate.from_template("Is this review positive? {text}") | model | StrOutputParser()
        numbers = count()

        def kept() -> dict[str, Any]:
            store = Path(folder, f"{next(numbers)}.db")
            return {"store": store, "run": "observed", "cache": Cache(), "budget": 10_000}

        ways: dict[str, tuple[Any, Callable[[], dict[str, Any]]]] = {
            "chat row, stock": (chat, lambda: {"transport": "stock"}),
            "chat row, fast": (chat, dict),
            "chat row, fast, kept": (chat, kept),
            "no model asked": (None, dict),
        }

        def run(chain: Any, more: Callable[[], dict[str, Any]], on: bool) -> m.Work:
            async def work() -> None:
                seen = [made() for made in ALL.values()] if on else []
                asked = (
                    ScriptedChain(then=lambda row: row["text"]) if chain is None else chain
                )  # it keeps its rows
                await BatchProcessor(asked, observers=seen, concurrency=100, **more()).abatch(inputs)

            return work

        works = {(name, on): run(*way, on) for name, way in ways.items() for on in (False, True)}
        taken = await m.interleaved({f"{name}, {on}": work for (name, on), work in works.items()}, repeats)
    lines = []
    for name in ways:
        off, on = (m.per_row_us(taken[f"{name}, {on}"], rows) for on in (False, True))
        more = m.over(on, off)
        low, high = m.sure(on, off)
        share = f"{100 * observers_us / median(off):.2f} %"
        lines.append([name, median(off), median(on), more, f"{low:.0f} to {high:.0f}", share])
    timed = f"{observers_us:.1f} µs are"
    m.table(["CPU µs a row", "off", "on", "more", "95 % sure", timed], lines)


class Timed:
    """All observers as one, which takes the CPU time of each for every full group of events that a run tells."""

    def __init__(self) -> None:
        self.us: dict[str, list[float]] = {name: [] for name in (SHARED, *ALL)}
        self._observers = {name: made() for name, made in ALL.items()}

    def see(self, event: Event) -> None:
        self.see_all([(clock.wall(), event)])

    def see_all(self, events: Sequence[tuple[float, Event]]) -> None:
        told = Told.of(events)
        works = {SHARED: lambda: prepare([told])}
        works |= {name: partial(observer.see_all, told) for name, observer in self._observers.items()}
        took = {name: cpu_of(work) for name, work in works.items()}
        if len(events) >= GROUP:
            for name, spent in took.items():
                self.us[name].append(spent / len(told.kinds.finished) * 1e6)


def cpu_of(work: Callable[[], object]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began


async def in_one_run(rows: int) -> float:
    """One run of chat rows: what each observer takes there, a line for each; the µs of a row for all of them."""
    seen = Timed()
    with LoopbackProcess(latency=0.02) as server:
        model = ChatOpenAI(model=MODEL, base_url=server.openai_url, api_key="not-a-key")  # type: ignore[arg-type]
        chat = ChatPromptTemplate.from_template("Is this review positive? {text}") | model | StrOutputParser()
        processor = BatchProcessor(chat, observers=[seen], concurrency=100, transport="fast")
        await processor.abatch([{"text": f"review number {number}"} for number in range(rows)])
    whole = [sum(group) for group in zip(*seen.us.values(), strict=True)]
    lines = [[name, median(us), between(us)] for name, us in (*seen.us.items(), ("all of these", whole))]
    making = making_us(rows)
    lines.append(["events made and gathered, in a loop", making, ""])
    m.table([f"in a run of chat rows, {len(whole)} groups", "µs a row", "95 % sure"], lines)
    return making + median(whole)


def between(values: list[float]) -> str:
    """Between which two values their median lies."""
    low, high = m.sure(values, [0.0] * len(values))
    return f"{low:.1f} to {high:.1f}"


class Silent:
    """Hears everything and does nothing."""

    def see(self, event: Event) -> None:
        pass

    def see_all(self, events: Sequence[tuple[float, Event]]) -> None:
        pass


def making_us(rows: int) -> float:
    """What it takes to make a row's three events and to gather them for observers."""
    telling, usage, outcome = Telling([Silent()]), Usage(400, 30), Outcome(0, "ok", "x")
    telling.open(asyncio.get_running_loop())
    emit = telling.emit

    def make() -> None:
        for n in range(rows):
            emit(RowStarted(n))
            emit(RequestFinished(n, KEY, 200, None, 0.5, usage, run_here()))
            emit(RowFinished(outcome))

    took = best_us(make, rows)
    telling.close()
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rows", type=int, default=20_000, help="whose events each observer alone is told of"
    )
    parser.add_argument("--run-rows", type=int, default=500, help="of each whole run")
    parser.add_argument("--repeats", type=int, default=5, help="of the whole runs")
    given = parser.parse_args()
    m.headline(
        "What observers cost a row",
        f"all on: at most {MOST_US:g} µs, and {MOST_SHARE:.0%} of a chat row; off: 0",
    )
    alone(given.rows)
    observers_us = asyncio.run(in_one_run(given.rows))
    asyncio.run(in_runs(given.run_rows, given.repeats, observers_us))


if __name__ == "__main__":
    main()
