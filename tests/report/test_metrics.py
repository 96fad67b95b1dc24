"""Metrics by Prometheus's own parser, and spans by OpenTelemetry's own memory, of runs whose truth is known."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import httpx2
import pytest
from langchain_openai import ChatOpenAI
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from cottonpalm import BatchProcessor
from cottonpalm.observers.metrics import PrometheusMetrics
from cottonpalm.observers.tracing import OpenTelemetrySpans, provider_of
from cottonpalm.testing import FlakyTransport

pytestmark = pytest.mark.core
MODEL = "gpt-4o-mini"
KEY = f"api.openai.com/{MODEL}"


def batch(observer: Any, *flaws: Any, rows: int = 20, **more: Any) -> None:
    """Rows of one request each; the first requests meet these flaws."""
    transport = FlakyTransport(*flaws)
    model = ChatOpenAI(
        model=MODEL,
        max_retries=0,
        api_key="sk-0123456789",  # type: ignore[arg-type]
        http_async_client=httpx2.AsyncClient(transport=transport),
    )
    processor = BatchProcessor(model, observers=[observer], concurrency=1, **more)
    processor.batch([f"say {n}" for n in range(rows)], return_exceptions=True)


def samples(registry: CollectorRegistry) -> dict[tuple[Any, ...], float]:
    found = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        assert family.documentation, family.name
        assert family.type != "unknown", family.name
        for sample in family.samples:
            found[sample.name, *sorted(sample.labels.values())] = sample.value
    return found


def test_what_is_counted_is_what_happened() -> None:
    registry = CollectorRegistry()
    batch(PrometheusMetrics(registry), 400, 503, store="memory:", run="night")
    found = samples(registry)
    assert found["cottonpalm_rows_total", "night", "ok"] == 19
    assert found["cottonpalm_rows_total", "failed", "night"] == 1
    assert found["cottonpalm_rows_failed_total", "fail_row", "night"] == 1
    assert found["cottonpalm_requests_total", "200", KEY, "night"] == 19
    assert found["cottonpalm_requests_total", "400", KEY, "night"] == 1
    assert found["cottonpalm_requests_total", "503", KEY, "night"] == 1
    assert found["cottonpalm_request_duration_seconds_count", KEY, "night"] == 21
    assert found["cottonpalm_row_duration_seconds_count", "night"] == 20
    assert found["cottonpalm_rows_in_progress", "night"] == 0
    assert found["cottonpalm_runs_active", "night"] == 0
    assert found["cottonpalm_tokens_total", KEY, "input", "night"] > 0
    assert found["cottonpalm_cost_dollars_total", "night"] > 0


def test_two_runs_of_one_registry_are_told_apart() -> None:
    registry = CollectorRegistry()
    for run in ("one", "two"):
        batch(PrometheusMetrics(registry), rows=3, store="memory:", run=run)
    found = samples(registry)
    assert (found["cottonpalm_rows_total", "ok", "one"], found["cottonpalm_rows_total", "ok", "two"]) == (
        3,
        3,
    )


def test_a_run_its_rows_and_their_requests_are_spans_by_the_conventions() -> None:
    memory, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    with provider.get_tracer("mine").start_as_current_span("outer") as outer:
        batch(OpenTelemetrySpans(provider), 503, 400, rows=3, store="memory:", run="night")
    spans = memory.get_finished_spans()
    [run] = [span for span in spans if span.name == "run night"]
    rows = sorted(
        (span for span in spans if span.name == "row"),
        key=lambda span: span.attributes["cottonpalm.row.index"],
    )
    requests = [span for span in spans if span.name == f"chat {MODEL}"]
    assert run.parent is not None
    assert run.parent.span_id == outer.get_span_context().span_id
    assert [span.attributes["cottonpalm.row.status"] for span in rows] == ["failed", "ok", "ok"]
    assert {span.parent.span_id for span in rows} == {run.context.span_id}
    first = [span for span in requests if span.parent.span_id == rows[0].context.span_id]
    assert [dict(span.attributes)["http.response.status_code"] for span in first] == [503, 400]
    assert [span.attributes["cottonpalm.attempt"] for span in first] == [1, 2]
    assert first[0].attributes["error.type"] == "503"
    good = requests[-1].attributes
    assert good["gen_ai.operation.name"] == "chat"
    assert good["gen_ai.provider.name"] == "openai"
    assert good["gen_ai.request.model"] == MODEL
    assert good["server.address"] == "api.openai.com"
    assert good["gen_ai.usage.input_tokens"] > 0
    assert all(span.end_time >= span.start_time for span in spans)
    assert "say 1" not in str([span.to_json() for span in spans])


def test_providers_are_named_as_the_conventions_name_them() -> None:
    hosts = ("api.anthropic.com", "generativelanguage.googleapis.com", "127.0.0.1", "evilopenai.com")
    assert [provider_of(host) for host in hosts] == ["anthropic", "gcp.gemini", "127.0.0.1", "evilopenai.com"]


def test_what_is_off_is_not_even_imported() -> None:
    code = (
        "import sys\n"
        "from cottonpalm import BatchProcessor\n"
        "from cottonpalm.testing import ScriptedChain\n"
        "BatchProcessor(ScriptedChain(then=str.upper)).batch(['a'])\n"
        "off = ('prometheus_client', 'cottonpalm.observers.tracing', 'starlette', 'uvicorn')\n"
        "print([name for name in off if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
