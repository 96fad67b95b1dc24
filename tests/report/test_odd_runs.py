"""Reports of odd runs: stopped ones, those under way, one row, rows without a call, equal rows from the cache."""

from __future__ import annotations

import asyncio
import re
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor, Budget, Cache, RunStopped
from cottonpalm.live.stories import rows_of, told
from cottonpalm.observers import kept
from cottonpalm.observers.measures.reported import Counts, Money, Spread
from cottonpalm.observers.page.head import verdict
from cottonpalm.stores import open_store
from cottonpalm.testing import FlakyTransport, ScriptedChain, virtual_run
from tests.report.drawn import Page, share
from tests.report.made import NOTHING, made, moments

if TYPE_CHECKING:
    from cottonpalm.observers.report import Report
    from cottonpalm.run import AsyncRun, Run

pytestmark = pytest.mark.core


class Server(FlakyTransport):
    """Answers after a second."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await asyncio.sleep(1)
        return await super().handle_async_request(request)


def model(status: int = 200) -> ChatOpenAI:
    client = httpx2.AsyncClient(transport=Server(then=lambda _: status))
    return ChatOpenAI(
        model="gpt-4.1-mini",
        max_tokens=50,  # type: ignore[call-arg]  # by its alias
        api_key="sk-0123456789abcdef",  # type: ignore[arg-type]  # a text will do
        http_async_client=client,
    )


def page_of(chain: Any, rows: list[Any], **options: Any) -> tuple[Report, Page]:
    """The report of a run, however it ended."""

    async def main() -> tuple[Report, Page]:
        processor = BatchProcessor(chain, **options)
        await processor.abatch(rows, return_exceptions=True)
        run = processor.last_run
        assert run is not None
        return run.report, Page(run.report.to_html(run.outcomes(), name="odd"))

    return virtual_run(main())


def test_a_run_that_stopped_is_told_as_stopped_with_the_rows_it_was_given_and_why() -> None:
    report, page = page_of(model(401), ["row"] * 300)
    assert (report.total, report.over, report.stopped) == (300, True, "fatal")
    assert "Failed: 0 of 300 rows answered" in page.root.said
    assert "No row could be answered." in page.root.said
    assert "Done" not in page.root.said
    assert "No row could be answered." in " ".join(report.text().split())

    report, page = page_of(model(), [f"row {n}" for n in range(2000)], budget=Budget(total=0.004))
    assert report.stopped == "budget"
    assert f"Stopped: {report.counts.ok} of 2,000 rows answered" in page.root.said
    assert "The budget did not allow for more." in page.root.said


def test_a_run_that_came_to_its_end_and_one_under_way_are_told_as_such() -> None:
    report, page = page_of(RunnableLambda(str), [1, 2, 3])
    assert (report.total, report.over, report.stopped) == (3, True, None)
    assert "Done" in page.root.said

    async def main() -> Report:
        async with BatchProcessor(RunnableLambda(str)).astart(range(10)) as run:
            async for _ in run:
                return run.report
        raise AssertionError

    report = virtual_run(main())
    assert not report.over
    assert "So far" in Page(report.to_html()).root.said


def test_failed_rows_of_an_earlier_life_are_not_told_as_answered(tmp_path: Path) -> None:
    """Without the rows nobody knows how those ended that were done before."""
    run = None
    for _ in range(2):
        processor = BatchProcessor(
            ScriptedChain(ValueError("never"), then=str), retry=0, store=tmp_path / "s.db", run="r"
        )
        processor.batch([str(n) for n in range(12)], return_exceptions=True)
        run = processor.last_run
    assert run is not None
    assert "0 ok, 0 failed, 12 stored before" in repr(run)
    assert "12 of 12 rows done" in Page(run.report.to_html()).root.said
    assert "11 of 12 rows answered" in Page(run.report.to_html(run.outcomes())).root.said


def test_a_run_whose_rows_are_all_done_is_done_whatever_ended_the_life_that_did_them(tmp_path: Path) -> None:
    """It is stopped amid its last row, which is finished and kept; the call again finds nothing to do."""
    runs: list[Run[Any]] = []

    def says(row: str) -> str:
        if row == "b":
            runs[0].stop()
        return row

    def told_of(rows: list[str]) -> str:
        processor = BatchProcessor(
            ScriptedChain(then=says), store=tmp_path / "s.db", run="r", concurrency=1, fingerprint="v1"
        )
        run = processor.start(rows)
        runs.append(run)  # before it begins, as its last row may be asked at once
        with suppress(RunStopped), run:
            list(run)
        with closing(open_store(tmp_path / "s.db")) as store:
            [info] = store.runs()
            story = told(info, kept.read(info.meta[kept.META]), rows_of(store.look("r")), "s.db")
        return f"{story.state}: {story.ok} of {story.total}, {story.report.stopped}"

    assert told_of(["a", "b"]) == "stopped: 2 of 2, interrupted"
    assert told_of(["a"]) == "stopped: 2 of 2, interrupted", "that was only a part of it"
    assert told_of(["a", "b"]) == "done: 2 of 2, None"


def test_rows_that_were_refused_cost_nothing_and_the_page_says_one_thing_of_money() -> None:
    report, page = page_of(model(400), [f"row {n}" for n in range(30)], max_failures=1.0)
    assert (report.counts.failed, report.cost_usd) == (30, 0.0)
    assert "not known" not in page.root.said


def figures_of(page: Page) -> dict[str, tuple[str, str]]:
    """Each figure and what stands below it."""
    [figures] = page.root.all("div", "figures")
    parts = [figure.children for figure in figures.children if not isinstance(figure, str)]
    return {part[0].said: (part[1].said, part[-1].said) for part in parts}  # type: ignore[union-attr]


def test_a_chain_without_a_model_has_no_price_that_is_missing() -> None:
    _, page = page_of(RunnableLambda(str), list(range(150)))
    assert figures_of(page)["Money"] == ("none", "no model was seen")
    assert "money" not in page.root.all("body")[0].said.replace("Money", "", 1)
    heads = [head.said for head in page.section("Slowest rows").all("th")]
    assert "tokens" not in heads


def test_a_run_without_rows_says_so_and_nothing_of_it_is_unknown() -> None:
    async def main() -> Page:
        async with BatchProcessor(model()).astart([]) as run:
            assert [outcome async for outcome in run] == []
            return Page(run.report.to_html())

    page = virtual_run(main())
    assert page.root.all("h1")[0].said == "There were no rows."
    assert "not known" not in page.root.said
    assert "Nothing. No row was asked." in page.root.said


def test_what_cost_nothing_and_what_has_no_price_are_told_apart() -> None:
    _, refused = page_of(model(400), [f"row {n}" for n in range(30)], max_failures=1.0)
    assert refused.section("Money").said == "Money Nothing was spent."
    _, unknown = page_of(model().bind(model="nobody-s"), [f"row {n}" for n in range(30)])
    assert unknown.section("Money").said == "Money What the rows cost is not known."
    assert "$0" not in unknown.section("Where it went").said


def test_the_money_of_one_life_is_not_held_against_a_budget_that_counts_all_of_them() -> None:
    spent = Money(ok_usd=0.4, budget_usd=1.0)
    course = moments(40, 1.0)  # a cent each
    alone, later = (
        Page(made(counts=counts, cost_usd=0.4, money=spent, over_time=course).to_html())
        for counts in (Counts(ok=40), Counts(ok=40, stored=55))
    )
    assert alone.section("Money").said.startswith("Money $0.40 of $1.00. ")
    assert alone.section("Where it went").all("tr")[3].said == "In all $0.40"
    said = "Money $0.40 in this life; the budget of $1.00 counts earlier ones too. "
    assert later.section("Money").said.startswith(said)
    assert later.section("Where it went").all("tr")[3].said == "In this life $0.40"
    assert "budget $1.00" in alone.section("Money").said
    assert "budget $1.00" not in later.section("Money").said, "no line is drawn where it does not belong"


def test_of_few_rows_each_is_a_dot_and_no_share_of_them_is_named() -> None:
    _, page = page_of(model(), ["one", "two"])
    section = page.section("How long things took")
    assert "each dot is one" in section.said
    assert "p50" not in "".join(each.said for each in section.all("div", "spread head"))
    assert len(section.all("circle", "accent")) == 2


def test_rows_that_took_no_time_stand_apart_from_those_that_took_some() -> None:
    async def answer(row: int) -> int:
        await asyncio.sleep(row % 3)
        return row

    _, page = page_of(RunnableLambda(answer), list(range(90)))
    plot = page.plot("A row")
    [quick, *others] = [share(bar.attrs["x"]) for bar in plot.all("rect", "histogram")]
    assert quick == 0
    assert min(others) > 0.1
    axis = page.section("How long things took").all("svg", "axis-x")[-1]
    assert axis.all("text")[0].said == "less"


def test_a_request_looked_at_once_or_twice_is_told_and_not_drawn() -> None:
    _, page = page_of(RunnableLambda(nap), list(range(20)), concurrency=20)
    assert "Too few looks for a line." in page.section("Over time").said


async def nap(row: int) -> int:
    await asyncio.sleep(0.2)
    return row


def test_one_request_all_along_is_one_request_in_flight() -> None:
    _, page = page_of(model(), ["one"])
    assert re.search(r"In flight of the limit .*?([\d.]+) in flight", page.root.said)[1] in ("1", "1.0")  # type: ignore[index]


def test_rows_from_the_cache_do_not_make_the_others_long() -> None:
    report, _ = page_of(model(), [f"row {n % 50}" for n in range(500)], cache=Cache())
    assert report.counts.cached == 450
    assert [each.topic for each in report.advice()] == []


def test_short_times_are_not_told_as_nothing() -> None:
    said = made(rows=3, wall_s=0.0042).text()
    assert "0.0 s" not in said
    assert "4.2 ms" in said
    assert "0.0 s" not in NOTHING.text()


def test_a_million_rows_and_months_of_waiting_leave_the_columns_apart() -> None:
    waited = Spread(12_345_678, 123_456_789.0, 10.0, 5.0, 9_000.0, 9_500.0, 99_999.0, 123_456.0)
    said = made(wall_s=1e6, row_latency_s=waited, waits_s={"queue": waited}).text()
    [row, queue] = [line for line in said.splitlines() if "12,345,678" in line]
    assert row.split() == ["row", "12,345,678", *queue.split()[3:]]
    assert max(map(len, said.splitlines())) <= 80


@pytest.mark.parametrize("name", ["report.html", Path("report.html")])
def test_a_page_that_is_asked_to_go_to_a_file_says_how(name: Any) -> None:
    processor = BatchProcessor(RunnableLambda(lambda row: row))
    processor.batch([1])
    assert processor.last_run is not None
    with pytest.raises(TypeError, match=r"returns the page as text.*Path\('report.html'\)\.write_text"):
        processor.last_run.report.to_html(name)


def test_a_pause_by_hand_is_counted_to_the_second_and_binds_no_more_once_it_is_over() -> None:
    """Looks are seconds apart while nothing is accepted: "paused by you" was said of a run that went on."""

    async def main() -> tuple[list[str], Report]:
        async with BatchProcessor(model(), concurrency=4).astart([f"row {n}" for n in range(40)]) as run:
            rows = asyncio.create_task(_all_of(run))
            binds = []
            for wait_s, order in ((3.2, run.pause), (20.0, run.resume)):
                await asyncio.sleep(wait_s)
                order()
                binds.append(run.stats.binding.what)
            await rows
        return binds, run.report

    (paused, resumed), report = virtual_run(main())
    assert paused == "held"
    assert resumed != "held"
    assert report.bound_s["held"] == pytest.approx(20.0)
    assert report.wall_s - report.active_s == pytest.approx(20.0)


async def _all_of(run: AsyncRun) -> None:
    async for _ in run:
        pass


def test_a_run_that_has_not_read_its_input_to_the_end_has_not_answered_all_of_it(tmp_path: Path) -> None:
    """It was "Stopped: 8 of 8 rows answered", "100 % of 8", as if no row were left."""

    async def main() -> str:
        processor = BatchProcessor(model(), concurrency=4, store=tmp_path / "s.db", run="r")
        rows = (f"row {n}" for n in range(100_000))  # hundreds are read before the first ones are on disk
        async with processor.astart(rows) as run:
            with suppress(RunStopped):
                async for outcome in run:
                    if outcome.index >= 6:
                        run.stop()
            return run.report.to_html()

    page = virtual_run(main())
    assert re.search(r"Stopped: [\d,]+ rows answered", page)
    assert "of how many is not known" in page
    with closing(open_store(tmp_path / "s.db")) as store:
        [info] = store.runs()
        info.meta["facts"] = {"total": 95_000, "exact": False}  # as the command line judges a file
        story = told(info, kept.read(info.meta[kept.META]), rows_of(store.look("r")), "s.db")
    assert re.match(r"Stopped: [\d,]+ of about 95,000 rows answered", verdict(story))


def test_what_a_budget_counts_is_told_of_all_lives_of_a_run_and_of_all_that_share_it(tmp_path: Path) -> None:
    rows = [f"row {n}" for n in range(8)]
    spent = []
    for upto in (3, 8):
        processor = BatchProcessor(model(), store=tmp_path / "s.db", run="r", budget=Budget(total=1))
        virtual_run(processor.abatch(rows[:upto]))
        run = processor.last_run
        assert run is not None
        spent.append((run.stats.cost_usd, run.stats.budget_spent_usd))
    (first, alone), (second, both) = spent
    assert 0 < first == pytest.approx(alone)
    assert both == pytest.approx(first + second)
    shared = Budget(total=1)
    two = [BatchProcessor(model(), budget=shared) for _ in range(2)]
    for processor in two:
        virtual_run(processor.abatch(rows))
    stats = [processor.last_run.stats for processor in two if processor.last_run is not None]
    together = sum(each.cost_usd for each in stats)
    assert [each.budget_spent_usd for each in stats] == pytest.approx([together] * 2), "all that share it"
    plain = BatchProcessor(ScriptedChain(then=str.upper))
    plain.batch(["a"])
    assert plain.last_run is not None
    assert plain.last_run.stats.budget_spent_usd is None
