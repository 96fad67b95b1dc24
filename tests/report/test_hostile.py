"""Names, errors and texts that want to do harm, in all that is shown beside the page and the terminal."""

from __future__ import annotations

import io
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from cottonpalm import BatchProcessor
from cottonpalm.events import (
    Binding,
    CacheHit,
    CostSpike,
    EndpointRests,
    Event,
    LimitChanged,
    Paused,
    RequestFinished,
    RowFinished,
    RowStarted,
    RunEnded,
    RunStarted,
    Unreachable,
)
from cottonpalm.observers.event_lines import EventLines
from cottonpalm.observers.metrics import PrometheusMetrics
from cottonpalm.observers.notebook import NotebookProgress
from cottonpalm.observers.notes import Notes
from cottonpalm.observers.otel_metrics import OpenTelemetryMetrics
from cottonpalm.observers.tracing import OpenTelemetrySpans
from cottonpalm.testing import ScriptedChain
from cottonpalm.types import ErrorRecord, Kind, Outcome, Usage
from tests.report.stories import HOSTILE

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.core
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def events(said: str) -> Iterator[Event]:
    error = ErrorRecord(Kind.REASK, said, said)
    yield RunStarted(said, 3)
    yield RowStarted(0)
    yield RequestFinished(0, f"{said}/{said}", 500, Kind.TRANSIENT, 0.1, None)
    yield RequestFinished(0, f"host/{said}", 200, None, 0.1, Usage(1, 2))
    yield RowFinished(Outcome(0, "failed", None, said, error, 2, Usage(1, 2), 5, model=said))
    yield CacheHit(1, "memory", None, None)
    yield RowFinished(Outcome(1, "ok", said, said, cached=True))
    yield from (Paused(said, 100.0), LimitChanged(said, 4, 2), Binding("tokens", said), Unreachable(said))
    yield from (CostSpike(1, 2.0, 1.0), EndpointRests(said, 60.0, said, Kind.TRANSIENT), RunEnded(said))


@pytest.mark.parametrize("said", HOSTILE, ids=range(len(HOSTILE)))
def test_metrics_are_read_back_with_their_labels_whatever_they_hold(said: str) -> None:
    registry = CollectorRegistry()
    observer = PrometheusMetrics(registry)
    for event in events(said):
        observer.see(event)
    text = generate_latest(registry).decode()
    assert len(text) < 200_000, "five megabytes are no label"
    found = {
        sample.name: sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.value
    }
    assert found["cottonpalm_rows_total"].value == 1
    assert not UNSEEN.search("".join("".join(sample.labels.values()) for sample in found.values()))


@pytest.mark.parametrize("said", HOSTILE, ids=range(len(HOSTILE)))
def test_spans_and_measurements_can_be_written_down(said: str) -> None:
    reader, memory, provider = InMemoryMetricReader(), InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    observers: list[Any] = [OpenTelemetryMetrics(MeterProvider([reader])), OpenTelemetrySpans(provider)]
    for event in events(said):
        for observer in observers:
            observer.see(event)
    spans = [span.to_json().encode() for span in memory.get_finished_spans()]
    data = reader.get_metrics_data()
    assert data is not None
    assert len(spans) == 5
    assert sum(map(len, [*spans, data.to_json().encode()])) < 200_000


@pytest.mark.parametrize("said", HOSTILE, ids=range(len(HOSTILE)))
def test_the_events_file_holds_a_line_for_each_and_no_text_of_a_row(said: str) -> None:
    file = io.BytesIO()
    file.close = lambda: None  # type: ignore[method-assign]  # to be looked at
    lines = EventLines(file)
    told = list(events(said))
    for event in told:
        lines.see(event)
    read = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [each["event"] for each in read] == [type(event).__name__ for event in told]
    assert len(file.getvalue()) < 30_000


@pytest.mark.parametrize("said", HOSTILE, ids=range(len(HOSTILE)))
def test_what_the_live_page_tells_of_is_one_short_line_each(said: str) -> None:
    notes = Notes()
    for event in events(said):
        notes.see(event)
    assert len(notes.lines()) >= 5
    for _, line in notes.lines():
        assert not UNSEEN.search(line)
        assert len(line) < 500


@pytest.mark.parametrize("said", HOSTILE, ids=range(len(HOSTILE)))
def test_a_notebook_shows_text_and_runs_nothing(said: str) -> None:
    def answer(row: Any) -> Any:
        if row == 3:
            raise ValueError(said)
        return said

    processor = BatchProcessor(ScriptedChain(then=answer), retry=0)
    display = NotebookProgress()
    processor.batch(range(5), return_exceptions=True)
    run = processor.last_run
    assert run is not None
    display.watch(lambda: run.stats)
    for event in events(said):
        if not isinstance(event, RunStarted | RunEnded):  # which begin and end its thread
            display.see(event)
    shown = display._shown()
    html = run.report._repr_html_()
    assert "<script" not in shown["text/html"]
    assert "<img" not in shown["text/html"]
    assert "<script" not in html, "the page is the text of an attribute"
    assert html.startswith("<iframe srcdoc=")
    assert html.count(">") == 2 + html.count("-->")
    for text in (shown["text/plain"], repr(run), *map(repr, run.outcomes())):
        assert not UNSEEN.search(text), text[:300]
        assert len(text) < 5_000
