"""Each plot and each number of the page, read off as eyes do, against what the server and the caller saw themselves."""

from __future__ import annotations

import asyncio
import json
import math
from functools import cache
from itertools import accumulate, pairwise
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx2
import pytest
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI

from cottonpalm import (
    AdaptiveConcurrency,
    BatchProcessor,
    Budget,
    Cache,
    Limits,
    RateLimit,
    RetryPolicy,
    clock,
)
from cottonpalm.observers.page.compare import compare
from cottonpalm.observers.page.story import Story
from cottonpalm.testing import FlakyTransport, Flaw, ScriptedChain, virtual_run
from tests.report.drawn import Page, along, line, number, rows_of, scale, share, widths_of
from tests.report.drawn import seconds as in_seconds

if TYPE_CHECKING:
    from cottonpalm.observers.report import Report
    from cottonpalm.types import Outcome

pytestmark = pytest.mark.core
DOWN = (60.0, 100.0)  # seconds after the start in which the server cannot be reached
IN, OUT = 0.40e-6, 1.60e-6  # dollars a token of gpt-4.1-mini
IN_FLIGHT = 8
BUDGET = 0.7
LOOK_S = 0.6  # a run is looked at twice a second: so far may things be from where they are put


class Try(NamedTuple):
    """What the server saw of one request."""

    text: str
    start: float
    end: float
    status: int | None


class Server(FlakyTransport):
    """Takes a while for each answer, is away for a while, cannot answer bad rows, and fails worse ones."""

    def __init__(self, seed: int, away: tuple[float, float] | None) -> None:
        super().__init__(then=self._says)
        self._rng, self._away, self.seen = Random(seed), away, list[Try]()
        self.given, self.got = 0, 0

    async def handle_async_request(self, request: Any) -> Any:
        start, text = clock.now(), json.loads(request.content)["messages"][-1]["content"]
        try:
            answer = await super().handle_async_request(request)
        except Exception:
            self.seen.append(Try(text, start, clock.now(), None))
            raise
        await asyncio.sleep(self._rng.lognormvariate(0.5, 0.6) if answer.status_code == 200 else 0.2)
        if answer.status_code == 200:
            usage = json.loads(answer.content)["usage"]
            self.given, self.got = self.given + usage["prompt_tokens"], self.got + usage["completion_tokens"]
        self.seen.append(Try(text, start, clock.now(), answer.status_code))
        return answer

    def _says(self, request: Any) -> Any:
        text = json.loads(request.content)["messages"][-1]["content"]
        if self._away is not None and self._away[0] <= clock.now() < self._away[1]:
            return Flaw.DROP
        return 400 if "bad" in text else 500 if "worse" in text else None


class Known(NamedTuple):
    """A run, and what is known of it without its report."""

    server: Server
    outcomes: list[Outcome]
    ended_at: dict[int, float]
    report: Report
    page: Page


def text_of(row: int) -> str:
    kind = "bad" if row % 50 == 7 else "worse" if row % 100 == 23 else "good"
    return f"{kind} row {row} {'word ' * (1 + row * 7919 % 400)}"


def run_of(seed: int, rows: int, away: tuple[float, float] | None = DOWN, **options: Any) -> Known:
    server, ended_at = Server(seed, away), dict[int, float]()
    model = ChatOpenAI(
        model="gpt-4.1-mini",
        max_tokens=50,  # type: ignore[call-arg]  # by its alias
        api_key="sk-0123456789abcdef",  # type: ignore[arg-type]  # a text will do
        http_async_client=httpx2.AsyncClient(transport=server),
    )
    fixed = AdaptiveConcurrency(initial=IN_FLIGHT, minimum=IN_FLIGHT, maximum=IN_FLIGHT)
    usual = {"concurrency": fixed, "budget": Budget(total=BUDGET), "limits": Limits(), "hedge": False}

    async def main() -> tuple[list[Outcome], Report]:
        processor = BatchProcessor(
            model, retry=RetryPolicy(retries=3), max_failures=1.0, **{**usual, **options}
        )
        outcomes = []
        async with processor.astart([text_of(row) for row in range(rows)]) as run:
            async for outcome in run:
                outcomes.append(outcome)
                ended_at[outcome.index] = clock.now()
            return outcomes, run.report

    outcomes, report = virtual_run(main(), seed)
    return Known(server, outcomes, ended_at, report, Page(report.to_html(outcomes, name="known")))


@cache
def known(seed: int = 1) -> Known:
    return run_of(seed, 900)


def borders(page: Page, wall_s: float) -> list[float]:
    """Where the moments of the time axis begin and end, in seconds."""
    [time] = page.root.all("div", "time")
    return [float(start) * wall_s for start in time.attrs["data-starts"].split()] + [wall_s]


def quantile(values: list[float], of: float) -> float:
    return sorted(values)[int(of * (len(values) - 1))]


SEEDS = [1, 2]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_rate_that_is_drawn_adds_up_to_the_rows_that_had_ended_by_then(seed: int) -> None:
    run = known(seed)
    wall_s = max(run.ended_at.values())
    ends = borders(run.page, wall_s)
    rates = [value for _, value in line(run.page.plot("Rows done per second"), "line", 112)][1:-1]
    assert len(rates) == len(ends) - 1 > 20
    so_far = 0.0
    for rate, start, end in zip(rates, ends, ends[1:], strict=False):
        so_far += rate * (end - start)
        least, most = (sum(at <= end + by for at in run.ended_at.values()) for by in (-LOOK_S, LOOK_S))
        assert least - 9 <= so_far <= most + 9, (start, end)
    assert so_far == pytest.approx(900, abs=9)
    assert not any(
        rate for rate, start, end in zip(rates, ends, ends[1:], strict=False) if start > 70 and end < 95
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_the_requests_in_flight_and_the_failed_tries_that_are_drawn_are_those_that_the_server_saw(
    seed: int,
) -> None:
    run = known(seed)
    plot, ends = run.page.plot("Requests in flight"), borders(run.page, run.report.wall_s)
    slots = list(pairwise(ends))
    compared = 0
    for x, value in line(plot, "line", 96)[1:-1]:  # a moment without a look has no point
        [(start, end)] = [slot for slot in slots if slot[0] <= x * run.report.wall_s < slot[1]]
        spent = sum(max(0.0, min(end, each.end) - max(start, each.start)) for each in run.server.seen)
        if not DOWN[0] - 5 < start < DOWN[1] + 40 and end - start > 2:  # four looks
            assert value == pytest.approx(spent / (end - start), abs=2.0), start
            compared += 1
    assert compared > 20
    assert {round(value) for _, value in line(plot, "limit", 96)} == {IN_FLIGHT}
    failed = [each for each in run.server.seen if each.status != 200]
    ticks = [share(tick.attrs["x1"]) * run.report.wall_s for tick in plot.all("line", "failed")]
    apart = {
        each: ends[1] - ends[0] + (8.0 if DOWN[0] < each.end < DOWN[1] else LOOK_S) for each in failed
    }  # while nothing is accepted the run looks every eight seconds
    assert all(any(abs(tick - each.end) < near for tick in ticks) for each, near in apart.items())
    assert all(any(abs(tick - each.end) < near for each, near in apart.items()) for tick in ticks)
    assert f"{len(failed)} tries failed" in plot.attrs["aria-label"]
    cells = rows_of(run.page.section("Over time").all("table")[0])
    assert sum(int(row[5].replace(",", "")) for row in cells) == len(failed)
    tokens = sum(int(row[4].replace(",", "")) for row in cells)
    assert tokens == run.server.given + run.server.got


@pytest.mark.parametrize("seed", SEEDS)
def test_what_bound_is_drawn_when_it_did(seed: int) -> None:
    run = known(seed)
    wall_s = run.report.wall_s
    lanes = {
        label.split(" bound ")[0]: svg
        for svg in run.page.section("Over time").all("svg")
        if " bound " in (label := svg.attrs.get("aria-label", ""))
    }
    away = lanes["Provider down"]
    spans = [
        (share(r.attrs["x"]) * wall_s, share(r.attrs["width"]) * wall_s) for r in away.all("rect", "fails")
    ]
    assert min(start for start, _ in spans) == pytest.approx(DOWN[0], abs=8)
    assert DOWN[1] - 3 <= max(start + long for start, long in spans) <= DOWN[1] + 40
    said = next(
        row.said for row in run.page.root.all("div", "lane-row") if row.said.startswith("Provider down")
    )
    drawn = sum(long for _, long in spans)
    assert number(said.removeprefix("Provider down ").split("%")[0] + "%") == pytest.approx(
        drawn / wall_s, abs=0.02
    )
    others = [
        (share(bar.attrs["x"]) * wall_s, share(bar.attrs["width"]) * wall_s)
        for name, svg in lanes.items()
        if name != "Provider down"
        for bar in svg.all("rect")
    ]
    assert all(start + long <= DOWN[0] + 8 or start >= DOWN[1] - 3 for start, long in others)
    assert sum(long for _, long in others) == pytest.approx(wall_s - drawn, rel=0.1)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_histograms_hold_what_rows_and_requests_took(seed: int) -> None:
    run = known(seed)
    section = run.page.section("How long things took")
    axis = next(svg for svg in section.all("svg", "axis-x"))
    seconds = along(axis, lambda said: math.log10(in_seconds(said)))
    answered = [each.end - each.start for each in run.server.seen]
    truth = {"A row": [outcome.latency_s for outcome in run.outcomes], "A request": answered}
    cells = {row[0].split(",")[0].strip(): row[1:] for row in rows_of(section.all("table")[0])}
    for name, values in truth.items():
        plot = run.page.plot(f"{name},")
        bars = plot.all("rect", "histogram")
        most = max(float(bar.attrs["height"]) for bar in bars)
        heights = [float(bar.attrs["height"]) for bar in bars]
        count = sum(heights)
        for bar, so_far in zip(bars, accumulate(heights), strict=True):
            upper = 10 ** seconds(share(bar.attrs["x"]) + share(bar.attrs["width"]) / 0.9)
            low, high = (sum(value <= upper * by for value in values) / len(values) for by in (0.97, 1.03))
            assert low - 0.03 <= so_far / count <= high + 0.03, (name, upper)
        assert most <= 46
        shown = [10 ** seconds(share(tick.attrs["x1"])) for tick in plot.all("line", "quantile")]
        exact = [quantile(values, of) for of in (0.5, 0.9, 0.99)]
        assert shown == pytest.approx(exact, rel=0.04)
        row = cells[name]
        assert int(row[0].replace(",", "")) == len(values)
        told = [number(cell) for cell in (row[2], row[3], row[4], row[6], row[7])]
        wanted = [sum(values) / len(values), *exact, max(values)]
        assert told == pytest.approx(wanted, rel=0.06), "two digits"


@pytest.mark.parametrize("seed", SEEDS)
def test_the_money_that_is_drawn_is_what_the_answers_cost_by_then(seed: int) -> None:
    run = known(seed)
    plot, wall_s = run.page.plot("Money over"), run.report.wall_s
    cost = {outcome.index: outcome.cost_usd or 0.0 for outcome in run.outcomes}
    whole = run.server.given * IN + run.server.got * OUT
    assert sum(cost.values()) == pytest.approx(whole, rel=1e-6)
    points = line(plot, "line", 196)
    assert points[-1] == (1.0, pytest.approx(whole, rel=0.01))
    for x, value in points[1:]:
        least, most = (
            sum(spent for row, spent in cost.items() if run.ended_at[row] <= x * wall_s + by)
            for by in (-LOOK_S, LOOK_S)
        )
        assert least - whole / 60 <= value <= most + whole / 60, x
    [ceiling] = plot.all("line", "budget")
    assert scale(plot, 196)(float(ceiling.attrs["y1"])) == pytest.approx(BUDGET, rel=0.02)
    [dot] = plot.all("circle")
    assert scale(plot, 196)(float(dot.attrs["cy"])) == pytest.approx(whole, rel=0.01)
    where = run.page.section("Where it went")
    spent, models = where.all("table")
    told = {row[0]: number(row[-1]) for row in rows_of(spent)}
    failed = sum(outcome.cost_usd or 0.0 for outcome in run.outcomes if outcome.status == "failed")
    assert told["In all"] == pytest.approx(whole, rel=0.02)
    assert told["Failed rows"] == pytest.approx(failed, abs=1e-6)
    assert told["Answered rows"] == pytest.approx(whole - failed, rel=0.02)
    [[model, requests, tries, *_]] = rows_of(models)
    assert model.startswith("gpt-4.1-mini")
    assert int(requests.replace(",", "")) == len(run.server.seen)
    assert int(tries) == sum(each.status != 200 for each in run.server.seen)


@pytest.mark.parametrize("seed", SEEDS)
def test_failed_rows_are_those_that_failed_with_what_their_tries_met(seed: int) -> None:
    run = known(seed)
    section = run.page.section("Failed rows")
    [table] = section.all("table")
    kinds: dict[str, list[int]] = {}
    for outcome in run.outcomes:
        if outcome.error is not None:
            kinds.setdefault(str(outcome.error.kind), []).append(outcome.index)
    cells = rows_of(table)
    assert {row[0].split()[0]: int(row[1]) for row in cells} == {
        kind: len(rows) for kind, rows in kinds.items()
    }
    assert len(kinds) == 2
    bars = [share(svg.all("rect")[0].attrs["width"]) for svg in table.all("svg", "cell-bar")]
    most = max(map(len, kinds.values()))
    assert bars == pytest.approx([len(kinds[row[0].split()[0]]) / most for row in cells], abs=0.001)
    for row, tr in zip(cells, table.all("tr")[1:], strict=True):
        example = int(row[4].split()[1].replace(",", "")) - 1
        assert example in kinds[row[0].split()[0]]
        row_began = run.ended_at[example] - next(o.latency_s for o in run.outcomes if o.index == example)
        met = [each for each in run.server.seen if each.text.split()[2] == str(example)]
        tries = tr.all("li")
        assert len(tries) == len(met)
        whole = max(each.end for each in met) - row_began
        for shown, each in zip(tries, met, strict=True):
            assert str(each.status or "") in shown.said
            [bar] = shown.all("rect")
            assert share(bar.attrs["x"]) == pytest.approx((each.start - row_began) / whole, abs=0.02)
            assert share(bar.attrs["width"]) == pytest.approx(
                max(0.004, (each.end - each.start) / whole), abs=0.02
            )


@pytest.mark.parametrize("seed", SEEDS)
def test_the_slowest_and_the_dearest_rows_are_those_of_a_full_sort(seed: int) -> None:
    run = known(seed)
    for title, value in (
        ("Slowest rows", lambda outcome: outcome.latency_s),
        ("Dearest rows", lambda outcome: outcome.cost_usd or 0.0),
    ):
        table = run.page.section(title).all("table")[0]
        shown = [[int(row[0].replace(",", "")) - 1, row] for row in rows_of(table)]
        truth = sorted(map(value, run.outcomes), reverse=True)[: len(shown)]
        by_row = {outcome.index: outcome for outcome in run.outcomes}
        assert [value(by_row[row]) for row, _ in shown] == pytest.approx(truth)
        assert widths_of(table) == pytest.approx([each / truth[0] for each in truth], abs=0.001)
        for row, cells in shown:
            usage = by_row[row].usage
            assert number(cells[3]) == (0 if usage is None else usage.input_tokens + usage.output_tokens)
            assert text_of(row)[:20].strip() in cells[4]


@pytest.mark.parametrize("seed", SEEDS)
def test_heading_and_figures_are_what_the_caller_counted(seed: int) -> None:
    run = known(seed)
    ok = sum(outcome.status == "ok" for outcome in run.outcomes)
    failed, whole = 900 - ok, run.server.given * IN + run.server.got * OUT
    wall_s = max(run.ended_at.values())
    [head] = run.page.root.all("h1")
    assert head.said.startswith(f"{ok} of 900 rows answered in {int(wall_s // 60)} min")
    assert head.said.endswith(f"; {failed} failed.")
    [figures] = run.page.root.all("div", "figures")
    told = {}
    for figure in figures.children:
        name, value, bar, note = figure.children  # type: ignore[union-attr]
        told[name.said] = (value.said, widths_of(bar), note.said)  # type: ignore[union-attr]
    assert told["Answered"][0] == str(ok)
    assert told["Answered"][1] == pytest.approx([ok / 900], abs=0.001)
    assert told["Failed"][0] == str(failed)
    assert told["Failed"][1] == pytest.approx([failed / 900], abs=0.001)
    assert number(told["Rate"][0].split("/")[0]) == pytest.approx(900 / wall_s, rel=0.05)
    assert number(told["Money"][0]) == pytest.approx(whole, rel=0.02)
    assert told["Money"][1] == pytest.approx([whole / BUDGET], abs=0.01)
    took = [outcome.latency_s for outcome in run.outcomes]
    assert number(told["One row, median"][0]) == pytest.approx(quantile(took, 0.5), rel=0.06)
    assert number(told["One row, median"][2].split("took ")[1]) == pytest.approx(
        quantile(took, 0.99), rel=0.06
    )
    asked = {
        row.all("dt")[0].said: row.all("dd")[0].said
        for row in run.page.section("Requests").all("div")
        if row.all("dt") and len(row.all("dt")) == 1
    }
    assert int(asked["requests"].replace(",", "")) == len(run.server.seen)
    assert int(asked["tries that failed"].replace(",", "")) == sum(
        each.status != 200 for each in run.server.seen
    )


class Late(FlakyTransport):
    """Takes a second for each answer, and a minute for the 150th."""

    begun = 0

    async def handle_async_request(self, request: Any) -> Any:
        self.begun += 1
        await asyncio.sleep(60.0 if self.begun == 150 else 1.0)
        return await super().handle_async_request(request)


def pairs_of(page: Page, title: str) -> dict[str, str]:
    return {
        row.all("dt")[0].said: row.all("dd")[0].said
        for row in page.section(title).all("div")
        if len(row.all("dt")) == 1
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_places_of_failed_rows_stand_where_they_are_in_the_input(seed: int) -> None:
    first = Random(seed).randrange(1000, 9000)

    def answer(row: Any) -> Any:
        if first <= row < first + 150:
            raise ValueError("no")
        return row

    processor = BatchProcessor(RunnableLambda(answer), max_failures=1.0, concurrency=50)
    outcomes, report = all_of(processor, range(10_000))
    page = Page(report.to_html(outcomes))
    plot = page.plot("Failed rows by their place")
    [path] = plot.all("path", "places")
    bars = [part.split(" 34V") for part in path.attrs["d"].split("M")[1:]]
    heights = {float(x) / 1000 * 10_000: 34 - float(y) for x, y in bars}
    highest = max(heights.values())
    assert sum(heights.values()) / highest * 50 == pytest.approx(150, rel=0.15)
    assert all(first - 50 <= place < first + 200 for place in heights)


def all_of(processor: BatchProcessor, rows: Any) -> tuple[list[Outcome], Report]:
    async def main() -> tuple[list[Outcome], Report]:
        async with processor.astart(rows) as run:
            return [outcome async for outcome in run], run.report

    return virtual_run(main())


def test_steps_have_the_share_of_the_time_that_they_took() -> None:
    def takes(seconds: float, name: str) -> RunnableLambda[Any, Any]:
        async def work(row: Any) -> Any:
            await asyncio.sleep(seconds)
            return row

        return RunnableLambda(work).with_config(run_name=name)

    processor = BatchProcessor(takes(1.0, "look up") | takes(3.0, "think"), concurrency=5)
    _, report = all_of(processor, range(64))
    page = Page(report.to_html())
    [table] = page.section("Steps of the chain").all("table")
    assert [(row[0], number(row[2]), row[4]) for row in rows_of(table)][:2] == [
        ("think", 3.0, "75 %"),
        ("look up", 1.0, "25 %"),
    ]
    assert widths_of(table)[:2] == pytest.approx([0.75, 0.25], abs=0.005)


def test_cache_and_hedges_are_told_as_they_were() -> None:
    chain = ScriptedChain(then=lambda row: row)
    processor = BatchProcessor(chain, cache=Cache(), concurrency=1)
    _, report = all_of(processor, [n % 30 for n in range(120)])
    told = pairs_of(Page(report.to_html()), "Cache")
    assert (told["state"], told["answered by it"], told["asked"]) == ("on", "90 (75 %)", "30")

    server = Late()
    model = ChatOpenAI(
        model="gpt-4.1-mini",
        api_key="sk-0123456789abcdef",  # type: ignore[arg-type]  # a text will do
        http_async_client=httpx2.AsyncClient(transport=server),
    )
    hedged = BatchProcessor(model, concurrency=4, limits=Limits())
    _, report = all_of(hedged, [f"row {n}" for n in range(300)])
    told = pairs_of(Page(report.to_html()), "Hedges")
    assert server.begun == 301, "one copy"
    assert told["copies of late requests"].startswith("1 (")
    assert told["answered before the request"] == "1"


def test_two_runs_are_drawn_beside_each_other_as_they_were() -> None:
    slow, fast = (
        run_of(3, 300, None, rate_limit=RateLimit(requests_per_minute=most), concurrency=40)
        for most in (60, 180)
    )
    a, b = (Story(run.report, name, "some failed") for run, name in ((slow, "slow"), (fast, "fast")))
    page = Page(compare(a, b))
    longest = max(slow.ended_at.values())
    plot = page.plot("Rows done per second: A")
    for run, class_ in ((slow, "other"), (fast, "line")):
        points = line(plot, class_, 150)
        wall_s = max(run.ended_at.values())
        assert points[-1][0] * longest <= wall_s
        steady = [rate for x, rate in points if 0.3 < x * longest / wall_s < 0.8]
        inside = [at for at in run.ended_at.values() if 0.3 < at / wall_s < 0.8]
        assert sum(steady) / len(steady) == pytest.approx(len(inside) / (0.5 * wall_s), rel=0.1)
    within = page.plot("Half of the rows")
    axis = page.section("Rows answered within").all("svg", "axis-x")[0]
    seconds = along(axis, lambda said: math.log10(in_seconds(said)))
    for run, class_ in ((slow, "other"), (fast, "line")):
        took = [outcome.latency_s for outcome in run.outcomes]
        for x, part in line(within, class_, 150)[1:-1]:
            low, high = (
                sum(value <= 10 ** seconds(x) * by for value in took) / len(took) for by in (0.96, 1.04)
            )
            assert low - 0.03 <= part <= high + 0.03
    changes = {row[0]: row for row in rows_of(page.section("What is different").all("table")[0])}
    assert number(changes["Rows a second"][1]) == pytest.approx(300 / longest, rel=0.06)
    assert number(changes["Rows a second"][2]) == pytest.approx(300 / max(fast.ended_at.values()), rel=0.06)
    assert changes["Time"][-1] == changes["Rows a second"][-1] == "better"
