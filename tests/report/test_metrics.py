"""Metrics by Prometheus's own parser, and spans by OpenTelemetry's own memory, of runs whose truth is known."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

import httpx2
import pytest
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers import BaseTracer
from langchain_openai import ChatOpenAI
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler, TraceIdRatioBased
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.attributes.gen_ai_attributes import (
    GenAiProviderNameValues as Providers,
)
from opentelemetry.semconv._incubating.metrics.gen_ai_metrics import (
    GEN_AI_CLIENT_OPERATION_DURATION,
    GEN_AI_CLIENT_TOKEN_USAGE,
)
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from cottonpalm import BatchProcessor
from cottonpalm.events import Binding, LimitChanged, RequestFinished, RunEnded, RunStarted
from cottonpalm.observers.metrics import PrometheusMetrics
from cottonpalm.observers.otel.conventions import asked_of, error_type, provider_of
from cottonpalm.observers.otel_metrics import OpenTelemetryMetrics
from cottonpalm.observers.tracing import OpenTelemetrySpans
from cottonpalm.testing import FlakyTransport
from cottonpalm.types import Kind
from tests.support.prometheus_text import faults, promtool_says

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.core, pytest.mark.waits]
MODEL = "gpt-4o-mini"
KEY = f"api.openai.com/{MODEL}"


def batch(
    observer: Any, *flaws: Any, rows: int = 20, before: Any = None, callbacks: Any = None, **more: Any
) -> None:
    """Rows of one request each; the first requests meet these flaws."""
    transport = FlakyTransport(*flaws)
    model = ChatOpenAI(
        model=MODEL,
        max_retries=0,
        api_key="sk-0123456789",  # type: ignore[arg-type]
        http_async_client=httpx2.AsyncClient(transport=transport),
    )
    chain = model if before is None else before | model
    processor = BatchProcessor(chain, observers=[observer], concurrency=1, **more)
    config = None if callbacks is None else {"callbacks": callbacks}
    processor.batch([f"say {n}" for n in range(rows)], config, return_exceptions=True)


def samples(registry: CollectorRegistry) -> dict[tuple[Any, ...], float]:
    found = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        assert family.documentation, family.name
        assert family.type != "unknown", family.name
        for sample in family.samples:
            found[sample.name, *sorted(sample.labels.values())] = sample.value
    return found


@pytest.mark.parametrize("run", ["night", 'a "b" \\ \n{c}=,é\x1b[31m\u202e', "x" * 5_000])
def test_a_scrape_is_as_prometheus_wants_it(run: str) -> None:
    registry = CollectorRegistry()
    observer = PrometheusMetrics(registry)
    assert faults(generate_latest(registry).decode()) == []
    batch(observer, 400, 503, store="memory:", run=run)
    batch(observer, 429, store="memory:", run=f"{run}2")
    text = generate_latest(registry).decode()
    assert "cottonpalm_rows_total" in text
    assert faults(text) == []
    assert promtool_says(text) == ""


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("# TYPE a gauge\na 1\n", "a has no HELP"),
        ("# HELP a b\n# TYPE a counter\na 1\n", "a is a counter"),
        ('# HELP a b\n# TYPE a gauge\na{x="1"} 1\na{x="1"} 2\n', "twice"),
        ('# HELP a b\n# TYPE a gauge\na{x="1"y} 1\n', "labels cannot be read"),
        (
            '# HELP a b\n# TYPE a histogram\na_bucket{le="1"} 3\na_bucket{le="+Inf"} 2\na_sum 1\na_count 2\n',
            "buckets",
        ),
        ("# HELP a b\n# TYPE a gauge\nb 1\n", "b stands under a"),
    ],
)
def test_what_is_wrong_with_a_scrape_is_seen(text: str, fault: str) -> None:
    assert fault in " ".join(faults(text))


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


def test_the_buckets_hold_each_request_and_each_run_adds_to_those_before() -> None:
    registry = CollectorRegistry()
    for times in (1, 2):
        observer = PrometheusMetrics(registry)
        observer.see(RunStarted("night", 5))
        for seconds in (0.1, 0.11, 3.0, 700.0):
            observer.see(RequestFinished(0, KEY, 200, None, seconds, None))
        observer.see(LimitChanged(KEY, 7, 3))
        observer.see(Binding("tokens", KEY))
        found = samples(registry)
        assert found["cottonpalm_runs_active", "night"] == 1
        assert found["cottonpalm_bound", "night", "tokens"] == 1
        observer.see(Binding("pace", KEY))
        observer.see(RunEnded(None))
        found = samples(registry)
        name = "cottonpalm_request_duration_seconds"
        held = {
            bound: found[f"{name}_bucket", *sorted((bound, KEY, "night"))] for bound in ("0.1", "0.25", "5.0")
        }
        assert held == {"0.1": times, "0.25": 2 * times, "5.0": 3 * times}
        assert (
            found[f"{name}_bucket", "+Inf", KEY, "night"] == found[f"{name}_count", KEY, "night"] == 4 * times
        )
        assert found[f"{name}_sum", KEY, "night"] == pytest.approx(703.21 * times)
        assert found["cottonpalm_concurrency_limit", KEY, "night"] == 7
        assert found["cottonpalm_bound", "night", "tokens"] == found["cottonpalm_bound", "night", "pace"] == 0
        assert found["cottonpalm_runs_active", "night"] == 0


def test_two_runs_of_one_registry_are_told_apart() -> None:
    registry = CollectorRegistry()
    for run in ("one", "two"):
        batch(PrometheusMetrics(registry), rows=3, store="memory:", run=run)
    found = samples(registry)
    assert (found["cottonpalm_rows_total", "ok", "one"], found["cottonpalm_rows_total", "ok", "two"]) == (
        3,
        3,
    )


def test_runs_at_the_same_time_are_told_apart_by_one_observer_of_each_kind(tmp_path: Path) -> None:
    registry, reader = CollectorRegistry(), InMemoryMetricReader()
    memory, provider = recorded()
    meters = MeterProvider([reader])
    observers = [PrometheusMetrics(registry), OpenTelemetrySpans(provider), OpenTelemetryMetrics(meters)]
    client = httpx2.AsyncClient(
        transport=FlakyTransport(*[0.05] * 13)
    )  # each request waits, so all are under way
    model = ChatOpenAI(model=MODEL, api_key="sk-0123456789", http_async_client=client)  # type: ignore[arg-type]
    many, few = (
        BatchProcessor(model, observers=observers, store=tmp_path / "runs.db", run=run)
        for run in ("many", "few")
    )

    async def together() -> None:
        ones = (many.ainvoke(f"ask {n}") for n in range(7))
        await asyncio.gather(many.abatch(["a", "b", "c", "d"]), few.abatch(["e", "f"]), *ones)

    asyncio.run(together())
    rows = {"many": 4, "few": 2, "": 7}
    found, spans = samples(registry), memory.get_finished_spans()
    for run, asked in rows.items():
        assert found["cottonpalm_rows_total", *sorted((run, "ok"))] == asked
        assert found["cottonpalm_requests_total", *sorted((run, KEY, "200"))] == asked
        assert found["cottonpalm_runs_active", run] == 0
    for name, wanted in {"row": 13, f"chat {MODEL}": 13, "run many": 1, "run few": 1, "run": 7}.items():
        assert [span.name for span in spans].count(name) == wanted, name
    inside = Counter(span.parent.span_id for span in spans if span.name == "row" and span.parent)
    for span in spans:
        if span.name.startswith("run"):
            assert inside[span.context.span_id] == (rows[span.name[4:]] if span.name != "run" else 1)
    data = reader.get_metrics_data()
    assert data is not None
    [counted] = [m for m in data.resource_metrics[0].scope_metrics[0].metrics if m.name == "cottonpalm.rows"]
    assert {point.attributes["cottonpalm.run"]: point.value for point in counted.data.data_points} == rows


class OwnCount(PrometheusMetrics):
    """An observer of a user, who adds to what ours does."""

    seen: ClassVar[list[Any]] = []

    def see_all(self, events: Any) -> None:
        self.seen.extend(events)
        super().see_all(events)


class OwnSpans(OpenTelemetrySpans):
    """The same for spans."""

    seen: ClassVar[list[Any]] = []

    def see_all(self, events: Any) -> None:
        self.seen.extend(events)
        super().see_all(events)


class OwnMeasures(OpenTelemetryMetrics):
    """The same for OpenTelemetry's metrics."""

    seen: ClassVar[list[Any]] = []

    def see_all(self, events: Any) -> None:
        self.seen.extend(events)
        super().see_all(events)


def test_each_run_is_seen_by_the_users_own_kind_of_our_observers() -> None:
    registry, (memory, spans) = CollectorRegistry(), recorded()
    observers = [OwnCount(registry), OwnSpans(spans), OwnMeasures(MeterProvider([InMemoryMetricReader()]))]
    BatchProcessor(RunnableLambda(str), observers=observers).batch([1, 2])
    for kind in (OwnCount, OwnSpans, OwnMeasures):
        assert kind.seen, kind
    assert samples(registry)["cottonpalm_rows_total", "", "ok"] == 2
    assert [span.name for span in memory.get_finished_spans()].count("row") == 2


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


def spans_of(observer: Any, memory: InMemorySpanExporter, *flaws: Any, **more: Any) -> list[ReadableSpan]:
    batch(observer, *flaws, **more)
    return sorted(memory.get_finished_spans(), key=lambda span: span.start_time)


def recorded(**how: Any) -> tuple[InMemorySpanExporter, TracerProvider]:
    memory, provider = InMemorySpanExporter(), TracerProvider(**how)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    return memory, provider


class Asked(Sampler):
    """A sampler of one's own, which is asked for every span."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def should_sample(self, parent_context: Any, trace_id: int, name: str, *more: Any, **named: Any) -> Any:
        self.names.append(name)
        return TraceIdRatioBased(1.0).should_sample(parent_context, trace_id, name, *more, **named)

    def get_description(self) -> str:
        return "asked"


def told(span: ReadableSpan) -> Any:
    """All of a span that is not chance."""
    scope = span.instrumentation_scope
    mine = (span.name, span.kind, span.status.status_code, sorted((span.attributes or {}).items()))
    return (*mine, span.resource.attributes.get("service.name"), scope and scope.name)


def test_spans_are_the_same_whichever_way_they_are_written() -> None:
    asked, ways = Asked(), []
    for how in ({}, {"sampler": asked}):
        memory, provider = recorded(**how)
        spans = spans_of(OpenTelemetrySpans(provider), memory, 503, 400, rows=3)
        ways.append(sorted(map(told, spans), key=repr))  # which of two began first is chance
    assert ways[0] == ways[1]
    assert len(ways[0]) == 1 + 3 + 4
    assert sorted(set(asked.names) - {"scope"}) == [f"chat {MODEL}", "row", "run"]


def test_of_many_rows_a_share_has_spans_and_every_one_that_met_a_fault() -> None:
    memory, provider = recorded()
    spans_of(OpenTelemetrySpans(provider, share=0), memory, 503, 400, rows=30)
    rows = [span for span in memory.get_finished_spans() if span.name == "row"]
    assert [span.attributes["cottonpalm.row.index"] for span in rows] == [0]
    assert [span.name for span in memory.get_finished_spans()].count(f"chat {MODEL}") == 2
    memory, provider = recorded()
    spans_of(OpenTelemetrySpans(provider, share=0.2), memory, rows=200)
    assert 30 <= [span.name for span in memory.get_finished_spans()].count("row") <= 50
    with pytest.raises(ValueError, match="between 0 and 1"):
        OpenTelemetrySpans(provider, share=2)


def test_a_run_that_nobody_samples_leaves_no_spans() -> None:
    memory, provider = recorded(sampler=ALWAYS_OFF)
    assert spans_of(OpenTelemetrySpans(provider), memory, 503, rows=3) == []


def test_a_request_names_the_langchain_run_in_which_it_was_made() -> None:
    class Roots(BaseTracer):
        def _persist_run(self, run: Any) -> None:
            ids.append(str(run.id))

    ids: list[str] = []
    memory, provider = recorded()
    batch(
        OpenTelemetrySpans(provider), rows=3, before=PromptTemplate.from_template("{x}"), callbacks=[Roots()]
    )
    found = [
        span.attributes["langchain.run_id"] for span in memory.get_finished_spans() if "chat" in span.name
    ]
    assert sorted(found) == sorted(ids)


def test_requests_are_measured_by_the_conventions() -> None:
    reader = InMemoryMetricReader()
    batch(OpenTelemetryMetrics(MeterProvider([reader])), 503, 400, rows=3, store="memory:", run="night")
    data = reader.get_metrics_data()
    assert data is not None
    [scope] = data.resource_metrics[0].scope_metrics
    found = {metric.name: (metric.unit, list(metric.data.data_points)) for metric in scope.metrics}
    unit, durations = found["gen_ai.client.operation.duration"]
    assert unit == "s"
    assert {point.attributes.get("error.type"): point.count for point in durations} == {
        None: 2,
        "503": 1,
        "400": 1,
    }
    asked = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": MODEL,
        "server.address": "api.openai.com",
    }
    assert all(asked.items() <= point.attributes.items() for point in durations)
    assert durations[0].explicit_bounds[:3] == (0.01, 0.02, 0.04)
    unit, tokens = found["gen_ai.client.token.usage"]
    assert unit == "{token}"
    assert {point.attributes["gen_ai.token.type"]: point.count for point in tokens} == {
        "input": 2,
        "output": 2,
    }
    assert tokens[0].explicit_bounds[:3] == (1, 4, 16)
    rows = {point.attributes["cottonpalm.row.status"]: point.value for point in found["cottonpalm.rows"][1]}
    assert rows == {"ok": 2, "failed": 1}
    assert found["cottonpalm.cost"][1][0].value > 0


HOSTS = {
    "api.openai.com": Providers.OPENAI,
    "api.anthropic.com": Providers.ANTHROPIC,
    "generativelanguage.googleapis.com": Providers.GCP_GEMINI,
    "europe-west4-aiplatform.googleapis.com": Providers.GCP_VERTEX_AI,
    "aiplatform.googleapis.com": Providers.GCP_VERTEX_AI,
    "bedrock-runtime.eu-west-1.amazonaws.com": Providers.AWS_BEDROCK,
    "mine.openai.azure.com": Providers.AZURE_AI_OPENAI,
    "mine.services.ai.azure.com": Providers.AZURE_AI_INFERENCE,
    "api.mistral.ai": Providers.MISTRAL_AI,
    "api.groq.com": Providers.GROQ,
    "api.deepseek.com": Providers.DEEPSEEK,
    "api.x.ai": Providers.X_AI,
    "api.cohere.com": Providers.COHERE,
    "api.perplexity.ai": Providers.PERPLEXITY,
    "us-south.ml.cloud.ibm.com": Providers.IBM_WATSONX_AI,
}


def test_providers_are_named_as_the_conventions_name_them() -> None:
    assert {host: provider_of(host) for host in HOSTS} == {host: name.value for host, name in HOSTS.items()}
    for host in ("127.0.0.1", "evilopenai.com", "openai.com.evil.example", "max.ai", ""):
        assert provider_of(host) == host


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (200, None, None),
        (503, Kind.TRANSIENT, "503"),
        (None, Kind.TRANSIENT, "transient"),
        (200, Kind.TRANSIENT, "transient"),
    ],
)
def test_a_stream_that_broke_off_did_not_fail_with_200(
    status: int | None, kind: Kind | None, said: str | None
) -> None:
    assert error_type(status, kind) == said


def test_all_names_are_those_that_the_conventions_know() -> None:
    assert set(asked_of("[::1]:8000/m")) | {"error.type", "gen_ai.token.type"} <= {
        *(value for value in vars(gen_ai_attributes).values() if isinstance(value, str)),
        *("server.address", "server.port", "error.type"),
    }
    assert (GEN_AI_CLIENT_OPERATION_DURATION, GEN_AI_CLIENT_TOKEN_USAGE) == (
        "gen_ai.client.operation.duration",
        "gen_ai.client.token.usage",
    )
    assert asked_of("h/m")["gen_ai.operation.name"] == gen_ai_attributes.GenAiOperationNameValues.CHAT.value


@pytest.mark.parametrize(
    ("key", "address", "port"),
    [
        ("api.x.ai/grok", "api.x.ai", None),
        ("localhost:8000/m", "localhost", 8000),
        ("[::1]:8000/m", "::1", 8000),
        ("[::1]/m", "::1", None),
        ("host:x/m", "host:x", None),
        ("", "", None),
    ],
)
def test_the_server_of_a_request_is_its_address_and_its_port(
    key: str, address: str, port: int | None
) -> None:
    asked = asked_of(key)
    assert (asked["server.address"], asked.get("server.port")) == (address, port)


def test_what_is_off_is_not_even_imported() -> None:
    code = (
        "import sys\n"
        "from cottonpalm import BatchProcessor\n"
        "from cottonpalm.testing import ScriptedChain\n"
        "BatchProcessor(ScriptedChain(then=str.upper)).batch(['a'])\n"
        "ours = ['cottonpalm.observers.' + name for name in ('tracing', 'otel_metrics', 'metrics')]\n"
        "off = ('prometheus_client', 'starlette', 'uvicorn', *ours)\n"
        "print([name for name in off if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
