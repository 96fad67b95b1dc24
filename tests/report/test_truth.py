"""Each number of a report against a run whose truth is known: a virtual clock, or a server that counts."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from langchain_openai import ChatOpenAI

from cottonpalm import (
    AdaptiveConcurrency,
    BatchLane,
    BatchProcessor,
    Budget,
    Cache,
    RateLimit,
    RetryPolicy,
    RunStopped,
    clock,
)
from cottonpalm.live.stories import rows_of, told
from cottonpalm.observers.advice.rules import advice_of
from cottonpalm.observers.measures.rates import widths as widths_of
from cottonpalm.stores import open_store
from cottonpalm.testing import Flaw, virtual_run
from cottonpalm.types import PICO
from tests.engine.combined import two_steps
from tests.engine.helpers import Probe
from tests.engine.test_report import chain_of, report_of
from tests.engine.test_seeing import Provider, seen
from tests.report.drawn import Page
from tests.support.loopback import Loopback
from tests.support.replies import Reply, fails, no_usage, ok

if TYPE_CHECKING:
    from pathlib import Path

    from cottonpalm.observers.report import Report

pytestmark = pytest.mark.core
QUICK = RetryPolicy(retries=2, base_s=0.001, cap_s=0.01)


def sums(report: Report) -> dict[str, float]:
    """What the moments add up to."""
    rows = sum(m.rows_per_s * width for m, width in zip(report.over_time, widths_of(report), strict=True))
    return {
        "rows": rows,
        "tokens": sum(m.tokens for m in report.over_time),
        "cost_usd": sum(m.cost_usd for m in report.over_time),
        "failed_tries": sum(m.failed_tries for m in report.over_time),
    }


def test_the_moments_add_up_to_the_whole_and_say_when_what_bound() -> None:
    _, _, report = seen(Provider(), 250, at_s=45, rate_limit=RateLimit(requests_per_minute=120))
    whole = sums(report)
    assert whole["rows"] == pytest.approx(250)
    assert whole["tokens"] == report.usage.input_tokens + report.usage.output_tokens > 0
    assert whole["cost_usd"] == pytest.approx(report.cost_usd)
    for state, seconds in report.bound_s.items():
        assert sum(m.bound_s.get(state, 0.0) for m in report.over_time) == pytest.approx(seconds)
    for moment, width in zip(report.over_time, widths_of(report), strict=True):
        assert sum(moment.bound_s.values()) <= width * 1.0001
    middle = [m for m in report.over_time if 30 < m.at_s < report.wall_s - 30]
    assert all(max(m.bound_s, key=lambda state: m.bound_s[state]) == "own requests" for m in middle)


def test_twice_a_ceiling_of_ones_own_would_halve_the_run_and_that_is_what_the_advice_says() -> None:
    slow = report_of(Probe(delay_s=1.0), range(1_200), rate_limit=RateLimit(requests_per_minute=120))
    fast = report_of(Probe(delay_s=1.0), range(1_200), rate_limit=RateLimit(requests_per_minute=240))
    [advice] = advice_of(slow)
    assert advice.what == "Raise your rpm ceiling."
    assert advice.bars.then == pytest.approx(fast.wall_s, rel=0.15), "the first requests may all go at once"
    assert "rows a minute came through" in advice.why


def test_twice_as_many_in_flight_would_halve_the_run_and_that_is_what_the_advice_says() -> None:
    def run(most: int) -> Report:
        concurrency = AdaptiveConcurrency(initial=most, minimum=most, maximum=most)
        return report_of(Probe(delay_s=1.0), range(1_500), concurrency=concurrency)

    [advice] = advice_of(run(10))
    assert advice.what == "Allow more requests in flight."
    assert advice.bars.then == pytest.approx(run(20).wall_s, rel=0.1)


def test_a_provider_that_was_down_is_seen_when_it_was_and_what_it_cost() -> None:
    def says(_: int) -> Any:
        return Flaw.DROP if 60 <= clock.now() < 180 else None

    _, _, report = seen(Provider(says), 600, at_s=100, concurrency=AdaptiveConcurrency(initial=4, maximum=4))
    down = [m.at_s for m in report.over_time if m.bound_s.get("down", 0) > 0]
    assert down
    assert min(down) >= 55
    assert max(down) <= 240
    assert (
        sum(m.failed_tries for m in report.over_time if 55 <= m.at_s < 240)
        == sums(report)["failed_tries"]
        > 0
    )
    assert any(advice.topic == "bound by down" for advice in advice_of(report))


def test_where_nothing_holds_a_run_back_nothing_is_advised() -> None:
    report = report_of(Probe(delay_s=lambda row: 1.0 + row % 3 / 10), range(2_000))
    assert [a.topic for a in advice_of(report) if a.unit != "s"] == []
    assert advice_of(report_of(Probe(delay_s=0.1), range(300), concurrency=30)) == ()


def test_a_reader_that_takes_half_the_time_is_told_so() -> None:
    async def main() -> Report:
        async with BatchProcessor(Probe(delay_s=0.01), concurrency=200).astart(range(3000)) as run:
            async for _ in run:
                await asyncio.sleep(0.1)
            return run.report

    report = virtual_run(main())
    [advice] = advice_of(report)
    assert advice.what == "Read the results faster."
    assert advice.gain == pytest.approx(report.wall_s, rel=0.1)


def test_equal_rows_are_counted_with_what_their_answers_cost_and_a_cache_saves_just_that(
    tmp_path: Path,
) -> None:
    rows = [{"x": f"row {n % 30}"} for n in range(120)]
    with Loopback() as server:
        plain = BatchProcessor(chain_of(server), store=tmp_path / "a.db", run="a", concurrency=8)
        plain.batch(rows)
        cached = BatchProcessor(
            chain_of(server), store=tmp_path / "b.db", run="b", concurrency=8, cache=Cache()
        )
        cached.batch(rows)
    assert plain.last_run is not None
    assert cached.last_run is not None
    without, with_cache = plain.last_run.report, cached.last_run.report
    assert (without.repeats.rows, without.repeats.exact) == (90, True)
    assert without.repeats.cost_usd == pytest.approx((without.cost_usd or 0) - (with_cache.cost_usd or 0))
    assert without.repeats.cost_usd == pytest.approx(with_cache.money.saved_usd)
    assert with_cache.repeats.rows == 0
    [advice] = advice_of(without)
    assert (advice.what, advice.exact) == ("Turn the cache on.", True)
    assert advice.gain == pytest.approx(without.repeats.cost_usd)
    assert advice_of(with_cache) == ()


@pytest.mark.parametrize(
    ("hosts", "options", "rows", "share"),
    [
        ({}, {}, 0, 0.0),  # nobody knows of a Batch API there
        ("openai", {}, 40, 0.5),
        ("openai", {"replicas": True}, 20, 0.25),  # half of the rows go elsewhere
    ],
)
def test_what_the_batch_lane_could_have_taken_is_what_ran_live_at_a_provider_that_has_one(
    hosts: Any, options: dict[str, Any], rows: int, share: float
) -> None:
    with Loopback() as server, Loopback() as other:
        lane = BatchLane(hosts={server.url.removeprefix("http://"): hosts} if hosts else {})
        more = {"replicas": [chain_of(other)]} if options else {}
        processor = BatchProcessor(chain_of(server), concurrency=1, lane=lane, **more)
        processor.batch([{"x": f"row {n}"} for n in range(40)])
        assert processor.last_run is not None
        report = processor.last_run.report
    assert report.cost_usd
    assert report.batch.rows == pytest.approx(rows, abs=rows / 4)
    assert report.batch.saves_usd == pytest.approx(share * report.cost_usd, rel=0.25)


def test_money_is_told_apart_by_what_it_brought_and_held_against_its_budget() -> None:
    def script(request: Any) -> Any:
        return fails(400) if request.text == "row 3" else fails(500) if request.nth == 1 else None

    with Loopback(script=script) as server:
        processor = BatchProcessor(chain_of(server), retry=QUICK, concurrency=4, budget=Budget(total=5.0))
        processor.batch([{"x": f"row {n}"} for n in range(20)], return_exceptions=True)
        assert processor.last_run is not None
        report = processor.last_run.report
    assert report.counts.failed == 1
    assert report.money.budget_usd == 5.0
    assert report.money.ok_usd + report.money.failed_usd == pytest.approx(report.cost_usd)
    assert sums(report)["failed_tries"] == sum(used.failed for used in report.by_model.values()) > 0


def test_what_was_spent_on_rows_that_are_left_amid_their_requests_is_in_every_sum(tmp_path: Path) -> None:
    """The second request of each row is under way as the run ends: the first is paid."""
    script = lambda request: Reply(ending="held") if request.text.startswith("again") else None  # noqa: E731
    with Loopback(script=script) as server:
        chain = two_steps(ChatOpenAI(model="gpt-4o-mini", base_url=server.openai_url, api_key="k"))
        processor = BatchProcessor(chain, concurrency=4, store=tmp_path / "a.db", run="a")
        with processor.start([{"x": f"row {n}"} for n in range(4)]) as run:
            server.wait(requests=8)
        report, billed = run.report, server.billed
    used = report.usage
    assert (used.input_tokens, used.output_tokens) == (billed.input_tokens, billed.output_tokens)
    assert report.counts.skipped == 4
    assert run.stats.binding.what == ""
    assert report.cost_usd == report.money.left_usd == run.stats.cost_usd == run.stats.reported_usd > 0
    assert sums(report)["cost_usd"] == pytest.approx(report.cost_usd)
    assert report.money.ok_usd == report.money.failed_usd == 0
    assert "Rows that are left" in Page(report.to_html()).section("Where it went").said
    with closing(open_store(tmp_path / "a.db")) as store:
        [info] = store.runs()
        story = told(info, None, rows_of(store.look("a")), "a.db")
    assert story.cost_usd == info.cost_pico / PICO == report.cost_usd


def test_what_rows_cost_that_were_asked_again_in_another_life_is_in_the_page_of_the_run(
    tmp_path: Path,
) -> None:
    """An answer of the first life is no answer in its eyes, and paid all the same."""
    with Loopback() as server:
        chain = chain_of(server)

        def never(_: object) -> None:
            raise ValueError("not this one")

        for validate in (never, None):
            processor = BatchProcessor(
                chain, store=tmp_path / "a.db", run="a", retry=0, validate=validate, max_failures=1.0
            )
            processor.batch([{"x": "row 1"}], return_exceptions=True)
            if validate is None:
                processor.retry()
        billed = server.billed
    with closing(open_store(tmp_path / "a.db")) as store:
        [info] = store.runs()
        story = told(info, None, rows_of(store.look("a")), "a.db")
    assert billed.answers > 1
    assert (story.ok, story.failed) == (1, 0)
    assert story.cost_usd == info.cost_pico / PICO


def test_what_is_estimated_is_told_apart_from_what_was_counted(tmp_path: Path) -> None:
    """Every fourth answer does not say what it used."""

    def script(request: Any) -> Any:
        return no_usage() if int(request.text.rpartition(" ")[2]) % 4 == 0 else None

    with Loopback(script=script) as server:
        processor = BatchProcessor(chain_of(server), concurrency=4, store=tmp_path / "a.db", run="a")
        processor.batch([{"x": f"row {n}"} for n in range(20)])
        run = processor.last_run
        assert run is not None
        report, outcomes = run.report, run.outcomes()
    estimated = [each for each in outcomes if each.cost_source == "estimated"]
    assert report.money.estimated_rows == len(estimated) == 5
    assert report.money.estimated_usd == pytest.approx(sum(each.cost_usd or 0.0 for each in estimated))
    assert 0 < report.money.estimated_usd < report.money.ok_usd
    assert "estimated for 5 rows whose answers did not say" in " ".join(report.text().split())
    page = Page(report.to_html())
    assert "5 rows had answers that did not say what they used" in page.section("Where it went").said
    assert "of it, estimated" in page.section("Where it went").said
    with Loopback() as server:
        counted = BatchProcessor(chain_of(server), concurrency=4)
        counted.batch([{"x": "row 1"}])
        assert counted.last_run is not None
        report = counted.last_run.report
    assert "estimated" not in report.text() + Page(report.to_html()).section("Where it went").said


def test_what_the_budget_sets_aside_for_answers_that_say_nothing_of_their_cost_is_shown() -> None:
    """A stream without `stream_usage`: what is known to be spent is a thousandth of what the budget counts."""
    with Loopback(script=lambda _: no_usage()) as server:
        processor = BatchProcessor(chain_of(server), concurrency=4, budget=Budget(total=0.05))
        with pytest.raises(RunStopped, match="is set aside for answers that never came, or did not say"):
            processor.batch([{"x": f"row {n}"} for n in range(2000)])
        run = processor.last_run
        assert run is not None
        report, stats = run.report, run.stats
    assert report.money.uncertain_usd == stats.uncertain_usd > 0.04
    assert report.cost_usd is not None
    assert report.cost_usd < 0.01
    said = "besides, for requests whose answer never came, or whose cost was not told or not stored"
    assert said in " ".join(report.text().split())
    page = Page(report.to_html())
    assert f"{said}; the budget counts it" in page.section("Where it went").said
    assert "is uncertain" in page.section("Money").said


def test_sizes_hold_all_rows_that_were_asked_their_tokens_and_their_money() -> None:
    with Loopback() as server:
        processor = BatchProcessor(chain_of(server), concurrency=4)
        processor.batch([{"x": "word " * (1 if n else 3000)} for n in range(20)])
        assert processor.last_run is not None
        report = processor.last_run.report
    assert [size.rows for size in report.sizes] == [19, 1]
    assert sum(size.cost_usd for size in report.sizes) == pytest.approx(report.cost_usd)
    assert sum(size.seconds for size in report.sizes) == pytest.approx(report.row_latency_s.total)
    assert report.sizes[1].tokens >= 2048


def test_the_bars_of_a_latency_hold_every_row_between_their_borders() -> None:
    delays = [0.05 * 1.1 ** (n % 60) for n in range(600)]
    spread = report_of(Probe(delay_s=lambda row: delays[row]), range(600), concurrency=50).row_latency_s
    assert sum(count for _, count in spread.bars) == 600
    for upper, _ in spread.bars:
        below = sum(count for end, count in spread.bars if end <= upper)
        assert (
            sum(delay <= upper * 0.98 for delay in delays)
            <= below
            <= sum(delay <= upper * 1.02 for delay in delays)
        )


def test_the_first_token_of_a_stream_is_timed_apart_from_its_last() -> None:
    with Loopback(script=lambda _: ok(delay_s=0.05, chunks=4, chunk_gap_s=0.05)) as server:
        model = ChatOpenAI(
            base_url=server.openai_url, api_key="sk-test-0123456789", model="gpt-4o-mini", streaming=True
        )
        processor = BatchProcessor(model, concurrency=4)
        processor.batch([f"row {n}" for n in range(4)])
        assert processor.last_run is not None
        report = processor.last_run.report
    first = report.waits_s["first"]
    assert first.count == 4
    assert 0.05 <= first.mean <= report.request_latency_s.mean - 0.1, "three gaps lie between"
