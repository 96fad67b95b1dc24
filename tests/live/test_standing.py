"""How far a run is, where its input is not read to its end."""

from __future__ import annotations

import re
from contextlib import closing, suppress
from dataclasses import replace
from threading import Event
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from langchain_core.runnables import RunnableLambda

from cottonpalm import BatchProcessor, RunStopped, clock
from cottonpalm.live import metrics, now_view, runs_view
from cottonpalm.live.ending import ending
from cottonpalm.live.frame import at
from cottonpalm.live.reading import SCRAPED_S, Reading, Standing
from cottonpalm.observers.kept import Kept
from cottonpalm.observers.measures.reported import Moment, Money
from cottonpalm.protocols import RunInfo
from cottonpalm.store_extras import Orders
from cottonpalm.stores import open_store
from tests.report.made import made

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.core


SAID = {
    "requests": 3,
    "total": None,
    "at": 0.0,
    "binding": "tokens",
    "pause_s": 0.0,
    "silent_s": 0.0,
    "trouble": "",
}


class Clocks:
    """Both clocks, which stand until time passes."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def passes(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def clocks() -> Iterator[Clocks]:
    found = Clocks()
    clock.replace(lambda: found.now_s, lambda: 1.7e9 + found.now_s)
    try:
        yield found
    finally:
        clock.replace()


def standing(facts: dict[str, Any], *, holder: str | None = "vm 12 now") -> Standing:
    """A run with 244 rows done, 44 of them failed."""
    info = RunInfo(
        name="r",
        created=0.0,
        ok=200,
        failed=44,
        retryable=0,
        cost_pico=0,
        meta={"facts": facts},
        holder=holder,
    )
    return Standing(info, None, SAID, Orders(), True)


def drawn(each: Standing) -> list[float]:
    """The widths of the bar's parts, in per cent."""
    bar = runs_view.bar(each)
    return [float(width) for width in re.findall(r'class="share[^"]*"[^>]*width="([\d.]+)%', bar)]


def test_a_guess_of_how_many_rows_there_are_is_told_as_one() -> None:
    each = standing({"total": 2000, "exact": False})
    assert runs_view.counts_of(each) == "244 of about 2,000, 44 failed"
    said = now_view.verdict(each, now_view.glanced(each.info, None, "s.db"), "running", None)
    assert said == "12 % done: 244 of about 2,000 rows."
    assert "about 1,756</b> left" in now_view.parts_of(each, "s.db")["progress"]
    assert sum(drawn(each)) == pytest.approx(12.2)


def test_a_run_of_which_nobody_knows_how_far_it_is_has_no_full_bar() -> None:
    assert sum(drawn(standing({}))) == 0
    assert sum(drawn(standing({}, holder=None))) == pytest.approx(100)


def test_a_guess_that_was_too_low_is_not_passed() -> None:
    each = standing({"total": 100, "exact": False})
    assert runs_view.counts_of(each) == "244, 44 failed"
    assert sum(drawn(each)) <= 100


def test_a_run_from_python_that_stopped_is_as_far_as_it_is_of_the_rows_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"

    stopped = Event()

    def answer(row: int) -> str:
        if row > 100:  # it is stopped before its end, however busy the machine is
            stopped.wait()
        return str(row)

    with (
        suppress(RunStopped),
        BatchProcessor(RunnableLambda(answer), store=path, run="early").start(list(range(500))) as run,
    ):
        for outcome in run:
            if outcome.index == 40:
                run.stop()
                stopped.set()
    store = open_store(path)
    each = Reading(store).run("early")
    done = each.ok + each.failed
    assert 40 <= done < 500
    assert each.total == 500
    assert sum(drawn(each)) == pytest.approx(done / 5, abs=0.1)
    [row] = re.findall(r"<tr><td>.*?</tr>", runs_view.parts_of([each], str(path))["runs"])
    assert f"{done} of 500" in row
    assert "none" in row, "no model was asked, so no price is missing"
    assert "why it stopped" in runs_view.parts_of([each], str(path))["runs"]
    store.close()


def test_a_run_that_is_going_says_in_the_list_when_it_may_be_ready() -> None:
    course = tuple(Moment(float(n), 10.0, 5, 5) for n in range(60))
    life = Kept(made(600, 60.0, over_time=course, over=False), 0.0, 60.0, None, ())
    each = replace(standing({"total": 2000, "exact": True}), life=life)
    assert ">about\u00a0" in runs_view.parts_of([each], "s.db")["runs"]


def test_a_budget_that_ends_a_run_sooner_is_looked_at_by_the_page(clocks: Clocks) -> None:
    """It said when all rows would be ready, beside a panel that said how long the budget lasts."""
    course = tuple(Moment(float(n), 10.0, 5, 5) for n in range(60))
    report = made(244, 60.0, over_time=course, over=False, money=Money(budget_usd=0.5))
    life = Kept(report, 0.0, 60.0, None, ())
    said = {**SAID, "ok": 100, "failed": 0, "cost_usd": 0.25, "cost_known": True, "budget_spent_usd": 0.45}
    each = replace(standing({"total": 2000, "exact": True}), life=life, said={**said, "at": clock.wall()})
    shown = {name: part.replace("\xa0", " ") for name, part in now_view.parts_of(each, "s.db").items()}
    when = at(clock.wall() + 2.0)
    assert f"The budget is spent about {when}, after about 264 rows." in shown["head"], (
        "20 more, ten a second"
    )
    assert "2.0 s left, then the budget is spent" in shown["progress"]
    assert "the budget is spent then" in runs_view.parts_of([each], "s.db")["runs"]
    enough = replace(each, said={**each.said, "cost_usd": 0.002} if each.said else None)
    assert "Ready about" in now_view.parts_of(enough, "s.db")["head"]
    unknown = replace(each, said={**each.said, "cost_known": False} if each.said else None)
    assert "Ready about" in now_view.parts_of(unknown, "s.db")["head"]


def test_while_all_waits_for_batches_the_page_guesses_no_end_either() -> None:
    """A batch that came back a moment ago says nothing of when the next one does."""
    course = tuple(Moment(float(n), 5.0, None, None) for n in range(40))
    report = made(244, 40.0, over_time=course)
    each = standing({"total": 2000, "exact": True})
    assert ending(report, each) is not None
    assert ending(report, replace(each, said={**SAID, "binding": "batch"})) is None


def test_a_run_whose_name_would_reorder_it_has_a_title_that_does_not() -> None:
    each = standing({})
    each = replace(each, info=each.info._replace(name="a\u202eb" + "c" * 100))
    assert now_view.title_of(each) == "a\\u202eb" + "c" * 56 + "\u2026"


def test_who_comes_back_after_minutes_is_not_told_that_the_process_was_silent(
    tmp_path: Path, clocks: Clocks
) -> None:
    with closing(open_store(tmp_path / "s.db")) as store, closing(store.open_run("r", None)) as run:
        reading = Reading(store)

        def lede(after_s: float, *, says: bool) -> str:
            clocks.passes(after_s)
            if says:
                run.show(orjson.dumps({**SAID, "at": clock.wall(), "why": ""}))
                store.order("r")  # after all that was posted
            return now_view.parts_of(reading.run("r", watch=True), "s.db")["head"].replace("\xa0", " ")

        assert "What binds now" in lede(0, says=True)
        assert "Somebody looked last 5 min 00 s ago; how it stands now is here within" in lede(
            300, says=False
        )
        assert "What binds now" in lede(1, says=True)
        for _ in range(9):
            assert "Somebody looked" not in lede(1, says=False)
        assert "Its process has said nothing for 10 s" in lede(1, says=False)


def test_the_requests_of_a_process_that_says_nothing_are_no_number_of_now() -> None:
    said = {**SAID, "requests": 7, "limit": 9}
    old, new = (replace(standing({}), said={**said, "at": clock.wall() - ago}) for ago in (60.0, 0.0))
    assert b'cottonpalm_requests_in_flight{run="r"} 7.0' in metrics.exposed([new])
    assert b"in_flight{" not in metrics.exposed([old])
    assert b'cottonpalm_run_active{run="r"} 1.0' in metrics.exposed([old])


def test_a_scraper_that_comes_once_a_minute_keeps_a_run_telling_how_it_stands(
    tmp_path: Path, clocks: Clocks
) -> None:
    with closing(open_store(tmp_path / "s.db")) as store, closing(store.open_run("r", None)):
        reading = Reading(store)
        for _ in range(10):
            reading.runs(SCRAPED_S)
            reading.run("r", watch=True)  # who looks besides, and for a shorter time, takes nothing away
            store.order("r")  # after all that was posted
            clocks.passes(60)
            assert store.ordered("r").watched > clock.wall()
