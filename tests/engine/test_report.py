"""`run.report`: right counts, times and money, no content, bounded, readable."""

from __future__ import annotations

import asyncio
import json
import threading
from random import Random
from statistics import quantiles
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor, Cache, RetryPolicy
from cottonpalm.events import RequestFinished
from cottonpalm.testing import virtual_run
from tests.engine.helpers import Probe, aread
from tests.support.loopback import Loopback
from tests.support.replies import cut_body, fails, too_many

if TYPE_CHECKING:
    from pathlib import Path

    from cottonpalm.observers.report import Report

pytestmark = pytest.mark.core
QUICK = RetryPolicy(retries=2, base_s=0.001, cap_s=0.01)


def report_of(chain: Any, rows: Any, **more: Any) -> Report:
    """The report of a run on a virtual clock."""

    async def main() -> Report:
        async with BatchProcessor(chain, **more).astart(rows) as run:
            await aread(run)
        return run.report

    return virtual_run(main())


def chain_of(server: Loopback) -> Any:
    model = ChatOpenAI(
        base_url=server.openai_url, api_key="sk-test-0123456789", model="gpt-4o-mini", stream_usage=True
    )
    return ChatPromptTemplate.from_template("{x}") | model | StrOutputParser()


def test_rows_are_counted_by_how_they_ended_and_errors_by_kind_and_type() -> None:
    faults = {3: [KeyError("3")], 5: [ValueError("5")], 8: [KeyError("8")], 9: [ConnectionError("once")]}
    report = report_of(Probe(faults=faults), range(50), retry=QUICK)
    assert (report.counts.ok, report.counts.failed, report.counts.skipped) == (47, 3, 0)
    assert report.counts.retries == 1
    assert sum(sum(types.values()) for types in report.errors.values()) == 3
    assert {name for types in report.errors.values() for name in types} == {"KeyError", "ValueError"}


def test_the_latencies_are_those_of_the_rows() -> None:
    rng = Random(7)
    delays = [rng.lognormvariate(0, 0.7) for _ in range(400)]
    report = report_of(Probe(delay_s=lambda row: delays[row]), range(400), concurrency=20)
    exact = quantiles(delays, n=100, method="inclusive")
    spread = report.row_latency_s
    assert spread.count == 400
    assert [spread.p50, spread.p90, spread.p95, spread.p99] == pytest.approx(
        [exact[49], exact[89], exact[94], exact[98]], rel=0.05
    )
    assert spread.max == pytest.approx(max(delays))
    slowest = sorted(range(400), key=lambda row: -delays[row])[:10]
    assert [row.index for row in report.slowest] == slowest


def test_throughput_over_time_adds_up_and_stays_short_however_long_the_run() -> None:
    report = report_of(Probe(delay_s=100.0), range(600), concurrency=3)
    assert report.wall_s == pytest.approx(20_000, rel=0.01)
    assert len(report.over_time) <= 120
    ends = [*(moment.at_s for moment in report.over_time[1:]), report.wall_s]
    rows = sum(m.rows_per_s * (end - m.at_s) for m, end in zip(report.over_time, ends, strict=True))
    assert rows == pytest.approx(600)
    assert report.rows_per_s == pytest.approx(0.03, rel=0.01)


def test_duplicates_and_the_cache_are_told_apart() -> None:
    rows = [n % 10 for n in range(40)]
    counts = report_of(Probe(), rows, cache=Cache(), concurrency=20).counts
    assert (counts.ok, counts.cached, counts.cache_misses) == (40, 30, 10)
    assert 0 < counts.coalesced <= 30
    assert report_of(Probe(), rows).counts.cache_misses == 0


def test_what_the_store_held_is_counted_apart_and_the_wait_for_the_disk_is_there(tmp_path: Path) -> None:
    processor = BatchProcessor(Probe(delay_s=0), store=tmp_path / "runs.db", run="r", fingerprint="1")
    processor.batch(list(range(30)))
    processor.batch(list(range(50)))
    assert processor.last_run is not None
    report = processor.last_run.report
    assert (report.counts.ok, report.counts.stored) == (20, 30)
    assert report.waits_s["store"].count > 0
    assert report.row_latency_s.count == 20


def test_requests_tokens_money_and_waits_come_from_the_requests_themselves() -> None:
    troubles = {"row 1": fails(500), "row 2": too_many(retry_after_ms=30)}

    def script(request: Any) -> Any:
        return troubles.get(request.text) if request.nth == 1 else None

    with Loopback(script=script) as server:
        processor = BatchProcessor(chain_of(server), retry=QUICK, concurrency=4)
        processor.batch([{"x": f"row {n}"} for n in range(20)])
        assert processor.last_run is not None
        report = processor.last_run.report
        assert report.counts.requests == server.requests == 22
        assert report.counts.retries == 2
        [used] = report.by_model.values()
        assert (used.requests, used.failed) == (22, 2)
        assert used.input_tokens == report.usage.input_tokens == server.billed.input_tokens
        assert used.output_tokens == report.usage.output_tokens == server.billed.output_tokens
        assert used.cost_usd == pytest.approx(report.cost_usd)
        assert report.cost_per_row_usd == pytest.approx((report.cost_usd or 0) / 20)
        assert report.request_latency_s.count == 22
        assert report.waits_s["backoff"].count == 1
        assert len(report.dearest) == 10


def test_restarts_of_streams_are_counted() -> None:
    def script(request: Any) -> Any:
        return cut_body() if request.nth == 1 else None

    async def main(processor: BatchProcessor) -> Report:
        stream = processor.stream_batch([{"x": f"row {n}"} for n in range(3)])
        await anext(stream)
        run = processor.last_run
        async for _ in stream:
            pass
        assert run is not None
        return run.report

    with Loopback(script=script) as server:
        report = asyncio.run(main(BatchProcessor(chain_of(server), retry=QUICK)))
    assert (report.counts.restarts, report.counts.retries, report.counts.ok) == (3, 3, 3)


def test_a_reader_that_is_slow_is_what_bound_the_run() -> None:
    async def main() -> Report:
        async with BatchProcessor(Probe(delay_s=0.01), concurrency=200).astart(range(3000)) as run:
            async for _ in run:
                await asyncio.sleep(0.1)
            return run.report

    report = virtual_run(main())
    assert "whoever reads the outcomes" in report.bound_by[0]
    assert report.active_s < report.wall_s / 2


def test_a_bound_of_ones_own_is_named() -> None:
    assert "Your own limit" in report_of(Probe(delay_s=1), range(300), concurrency=5).bound_by[0]


def test_a_report_holds_no_content_and_is_plain_json() -> None:
    secret = "sk-secret-0123456789"
    faults = {f"{secret} 1": [ValueError(f"refused {secret}")]}
    rows = [f"{secret} {n}" for n in range(20)]
    report = report_of(Probe(faults=faults), rows)
    assert secret not in json.dumps(report.to_dict())
    assert secret not in report.text() + repr(report)


def test_the_text_fits_eighty_columns_and_says_what_matters() -> None:
    faults = {n: [type(f"Strange{'Very' * 20}Error", (ValueError,), {})("x")] for n in range(5)}
    text = report_of(
        Probe(delay_s=lambda row: 1.0 + row % 7, faults=faults), range(2000), cache=Cache()
    ).text()
    assert max(map(len, text.splitlines())) <= 80
    for word in ("1,995 ok, 5 failed", "p95", "rows/s", "in flight", "slowest", "bound by"):
        assert word in text


def test_an_empty_run_has_a_report_too() -> None:
    report = report_of(Probe(), [])
    assert report.counts.ok == 0
    assert report.rows_per_s == 0.0
    assert report.text()


def test_a_run_can_be_asked_while_it_goes_and_stands_still_afterwards() -> None:
    async def main() -> None:
        async with BatchProcessor(Probe(delay_s=1.0), concurrency=2).astart(range(10)) as run:
            await anext(run)
            early = run.report
            assert 0 < early.counts.ok < 10
            await aread(run)
        ended = run.report
        await asyncio.sleep(100)
        assert run.report.wall_s == ended.wall_s == pytest.approx(5, abs=0.1)
        assert ended.counts.ok == 10

    virtual_run(main())


def test_a_first_try_that_failed_is_no_retry_before_it_is_sent_again() -> None:
    over = threading.Event()

    class Third:
        seen = 0

        def see(self, event: Any) -> None:
            self.seen += isinstance(event, RequestFinished)
            if self.seen == 3:
                over.set()

    refusal = too_many(retry_after_ms=600_000).after(1.0)  # when all three are on their way
    with Loopback(script=lambda _: refusal) as server:
        processor = BatchProcessor(chain_of(server), concurrency=3, observers=[Third()])
        with processor.start([{"x": f"row {n}"} for n in range(3)]) as run:
            assert over.wait(30)
            run.abort()
        report = run.report
    assert (report.counts.requests, report.counts.retries) == (3, 0)


def test_a_run_that_stops_counts_the_rows_that_were_in_flight_at_that_moment() -> None:
    chain = Probe(lambda row: 1.0 if row else 0.1, faults={0: [ValueError("no")]})

    async def main() -> tuple[int, str]:
        async with BatchProcessor(chain, concurrency=5, max_failures=0, retry=0).astart(range(99)) as run:
            outcomes, error = await aread(run)
        return len([outcome for outcome in outcomes if outcome.status != "skipped"]), str(error)

    done, message = virtual_run(main())
    assert done == 5
    assert message.startswith("the run stopped after 5 rows: 1 row failed, max_failures=0. ")


def test_where_no_request_was_seen_no_limit_of_a_provider_is_blamed() -> None:
    """Three hundred rows that fail at once are begun at a pace of ours, and no provider is there to ask for more."""

    def fails(_: int) -> str:
        raise ValueError("no")

    processor = BatchProcessor(RunnableLambda(fails), max_failures=1.0)
    processor.batch(list(range(40)), return_exceptions=True)
    run = processor.last_run
    assert run is not None
    report = run.report
    assert report.bound_s.get("pace"), "it is what held them"
    assert report.bound_by[0].startswith("The rate at which calls could begin bound ")
    page = report.to_html()
    assert "provider&#x27;s limits" not in page
    assert "the provider's limits" not in page
    assert "Rate of calls" in page
