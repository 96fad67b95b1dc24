"""The display of a run while it goes: right in any width, without colour, without UTF-8, and in a log."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from random import Random

import pytest
from rich.console import Console, Group

from cottonpalm import clock
from cottonpalm.events import Binding, RowFinished, RunEnded, RunStarted
from cottonpalm.observers.measures.pace import SLOT_S, SLOTS, Left, Pace
from cottonpalm.observers.terminal.panel import Faults, Numbers, ShownFault, line, panel, sparks
from cottonpalm.observers.terminal.progress import Progress
from cottonpalm.types import ErrorRecord, Kind, Outcome
from tests.cli.test_progress import Numbers as Going
from tests.report.stories import HOSTILE

pytestmark = pytest.mark.core
SHOWN = Numbers(
    name="reviews-nov",
    done=24_310,
    total=48_000,
    exact=True,
    in_flight=41,
    limit=96.0,
    binds="token quota",
    fails=False,
    per_s=12.1,
    bars=[1.0, 4.0, 8.0, 12.0, 12.1],
    left=Left(1980.0, 1860.0, 2280.0),
    before_s=None,
    ready="14:22",
    cost_usd=10.42,
    cost_known=True,
    budget_usd=25.0,
    failed=203,
    kinds={"reask": 142, "fail_row": 61},
    faults=(
        ShownFault(24_288, "reask", "at label: 'mixed' is not one of ['positive', 'negative']", 0),
        ShownFault(7, "fail_row", "filtered", 3),
    ),
)


def text(numbers: Numbers, width: int = 80, *, unicode: bool = True) -> list[str]:
    return [shown.plain for shown in panel(numbers, width, unicode=unicode)]


def test_seven_lines_say_all_of_it() -> None:
    assert text(SHOWN) == [
        "reviews-nov  ━━━━━━━━━━━━━━━━━━━━────────────────────    24,310 of 48,000 (50 %)",
        "  now    12.1/s ▁▃▆██  41/96 in flight, token quota",
        "  left   33 min (31 to 38 min), ready about 14:22",
        "  money  $10.42 of $25.00 ━━━━━━─────────  about $20.57 at the end",
        "  failed 203: 142 reask, 61 fail_row",
        "         row 24,289 reask: at label: 'mixed' is not one of ['positive', 'negati…",
        "         row 8 fail_row: filtered (3 like it)",
    ]


def test_a_run_that_was_stopped_has_no_end_to_come() -> None:
    """Its last picture stays in its cell: it said how much longer it would take, and what it would cost."""
    assert text(replace(SHOWN, over=True))[:4] == [
        "reviews-nov  ━━━━━━━━━━━━━━━━━━━━────────────────────    24,310 of 48,000 (50 %)",
        "  now    12.1/s ▁▃▆██  41/96 in flight",
        "  money  $10.42 of $25.00 ━━━━━━─────────",
        "  failed 203: 142 reask, 61 fail_row",
    ]


def test_failed_rows_are_as_many_as_their_kinds_which_are_told_a_moment_later() -> None:
    assert "  failed 203: 142 reask, 61 fail_row" in text(replace(SHOWN, failed=204))
    assert "  failed 1" in text(replace(SHOWN, failed=1, kinds={}, faults=()))


def test_without_utf_8_there_is_nothing_but_ascii() -> None:
    lines = text(replace(SHOWN, faults=(ShownFault(1, "reask", "\u0628 caf\u00e9 " * 30, 2),)), unicode=False)
    assert lines[0].startswith("reviews-nov  [###################...................]")
    assert lines[1] == "  now    12.1/s, 41/96 in flight, token quota"
    assert lines[-1].endswith("... (2 like it)")
    assert all(shown.isascii() and len(shown) <= 80 for shown in lines)
    narrow = text(
        replace(SHOWN, why="tokens per second: about 1,500, found from 13 rejections"), 40, unicode=False
    )
    assert "  why    tokens per second: about 1,5..." in narrow


@pytest.mark.parametrize("unicode", [True, False])
@pytest.mark.parametrize("width", [12, 20, 30, 40, 60, 79, 80, 200])
@pytest.mark.parametrize("done", [0, 1, 999_999_999])
@pytest.mark.parametrize("total", [None, 0, 1_000_000_000])
@pytest.mark.parametrize("per_s", [None, 0.0, 0.0001, 123_456.0])
def test_no_numbers_make_a_line_wider_than_the_terminal(
    done: int, total: int | None, per_s: float | None, width: int, unicode: bool
) -> None:
    left = Left(1e9, 1e8, 1e10) if per_s else None
    faults = tuple(ShownFault(10**9, "stop_run", said, 10**6) for said in ("\u4f60\u597d" * 200, "x" * 500))
    numbers = replace(
        SHOWN,
        done=done,
        total=total,
        per_s=per_s,
        left=left,
        in_flight=100_000,
        cost_usd=1e7,
        faults=faults,
        more="chunks 1,000/2,000",
    )
    for shown in panel(numbers, width, unicode=unicode):
        assert shown.cell_len <= width
    assert len(line(numbers)) <= 80


def test_what_is_not_known_or_off_is_left_out_or_said_so() -> None:
    bare = replace(
        SHOWN, total=None, left=None, cost_usd=None, failed=0, kinds={}, faults=(), binds="", bars=[]
    )
    assert text(bare) == ["reviews-nov  24,310 rows", "  now    12.1/s, 41/96 in flight"]
    still = replace(
        SHOWN, per_s=0.0, left=None, before_s=1740.0, binds="provider down, 12 s to go", fails=True
    )
    assert text(still)[1].startswith("  now    0/s ")
    assert text(still)[2] == "  left   not known while nothing moves; 29 min at the pace before"
    assert text(replace(SHOWN, budget_usd=None))[3] == "  money  $10.42  about $20.57 at the end"
    assert text(replace(SHOWN, exact=False))[0].endswith("24,310 of about 48,000 (50 %)")
    assert text(replace(SHOWN, cost_known=False))[3].startswith("  money  at least $10.42 of $25.00 ")
    assert text(replace(SHOWN, name=""))[0].startswith("━━━")
    whole = "\n".join(text(replace(SHOWN, done=48_000, left=None, per_s=0.0)))
    assert "at the end" not in whole
    assert "left" not in whole, "all rows are done"
    assert SHOWN.binds not in whole, "so nothing binds any more"


def test_rows_that_failed_in_an_earlier_process_are_told_apart() -> None:
    assert "  failed 203: 142 reask, 61 fail_row, 7 before" in text(replace(SHOWN, failed_before=7))
    none_now = replace(SHOWN, failed=0, kinds={}, faults=(), failed_before=7)
    assert "  failed 7 before" in text(none_now)
    assert ", 0 failed (7 before), " in line(none_now, 120)


def test_what_passes_is_yellow_what_failed_is_red_and_nothing_needs_the_colour() -> None:
    lines = panel(replace(SHOWN, fails=True), 80)
    assert [
        str(span.style) for span in lines[1].spans if "token" in lines[1].plain[span.start : span.end]
    ] == ["yellow"]
    assert "red" in {str(span.style) for span in lines[4].spans}
    done = lines[0].plain
    assert done.count("━") == done.count("─") == 20, "thick and thin, not bright and dark"


def test_a_log_has_one_plain_line() -> None:
    wanted = "24,310 of 48,000 (50 %), 33 min 00 s left, 203 failed, 41/96 in flight"
    assert line(SHOWN) == wanted
    assert line(SHOWN, 200) == f"{wanted}, token quota, 12.1/s, $10.42"


def test_errors_are_folded_the_latest_first() -> None:
    faults = Faults()
    for row, said in enumerate(["a", "b", "a", "a", "c"]):
        faults.add(row, "reask", said)
    assert faults.kinds == {"reask": 5}
    assert faults.last == (ShownFault(4, "reask", "c", 0), ShownFault(3, "reask", "a", 2))


def test_hostile_errors_move_no_cursor_and_colour_nothing() -> None:
    faults = Faults()
    for row, said in enumerate(HOSTILE):
        faults.add(row, "reask", said)
        out = io.StringIO()
        console = Console(file=out, width=80, force_terminal=True, color_system=None, highlight=False)
        console.print(Group(*panel(replace(SHOWN, faults=faults.last), 80)))
        assert not re.search("[\x00-\x09\x0b-\x1f\u202a-\u202e\u2066-\u2069]", out.getvalue())


def test_the_display_takes_its_errors_from_the_events_and_its_numbers_from_the_run() -> None:
    from tests.cli.test_progress import Numbers as Stats

    now = 0.0
    clock.replace(lambda: now, lambda: 1_800_000_000.0 + now)
    try:
        progress = Progress(console=Console(file=io.StringIO(), width=80), live=False, budget_usd=2.0)
        progress.see(RunStarted("night", 1000))
        error = ErrorRecord(Kind.REASK, "InvalidAnswer", "no such label")
        progress.see(RowFinished(Outcome(7, "failed", error=error)))
        for second in range(61):
            now = float(second)
            numbers = progress.numbers(Stats(total=1000, ok=2 * second, failed=1, cost_usd=0.1))
        progress.see(RunEnded(None))
    finally:
        clock.replace()
    assert numbers.per_s == pytest.approx(2.0)
    assert numbers.left is not None
    assert numbers.left.seconds == pytest.approx(879 / 2)
    assert re.fullmatch(r"\d\d:\d\d", numbers.ready)
    lines = text(numbers)
    assert lines[-1] == "         row 8 reask: InvalidAnswer: no such label"
    assert "$0.10 of $2.00" in lines[3]


# -- how fast, and how much longer


def test_the_pace_is_that_of_the_last_half_minute() -> None:
    pace = Pace()
    assert pace.note(0.0, 0) is None
    assert pace.note(10.0, 100) == pytest.approx(10.0)
    for second in range(11, 60):
        last = pace.note(float(second), 100)
    assert last == 0.0
    assert pace.before > 0
    assert pace.left(100) is None


def test_the_last_rows_are_told_to_take_as_long_again_as_nothing_has_moved() -> None:
    pace = Pace()
    for quarter in range(81):
        pace.note(quarter / 4, min(399, 10 * quarter))  # all but one row after ten seconds
    assert (pace.left(1) or Left(0.0)).seconds == pytest.approx(10, abs=0.5)
    pace.note(20.25, 400)
    assert (pace.left(1) or Left(0.0)).seconds < 0.1


def test_slots_hold_every_row_once_however_the_samples_lie() -> None:
    rng, pace, now, done = Random(3), Pace(), 0.0, 0
    pace.note(now, done)
    while now < SLOTS * SLOT_S - 1:
        now, done = now + rng.uniform(0.01, 5.0), done + rng.randrange(40)
        pace.note(now, done)
    if now < SLOTS * SLOT_S:
        assert sum(pace.bars) * SLOT_S + pace._open == pytest.approx(done)
    for _ in range(1000):
        now, done = now + 1.0, done + 5
        pace.note(now, done)
    assert len(pace.bars) == SLOTS
    assert pace.per_s == pytest.approx(5.0)


def test_a_steady_pace_has_a_narrow_range_and_an_unsteady_one_a_wide_one() -> None:
    def left(rates: list[int]) -> Left:
        pace, done = Pace(), 0
        for second in range(60):
            pace.note(float(second), done)
            done += rates[second // 3 % len(rates)]
        found = pace.left(3000)
        assert found is not None
        return found

    steady, unsteady = left([10]), left([4, 16, 9, 11])
    assert steady.seconds == pytest.approx(300)
    assert (steady.least, steady.most) == (pytest.approx(300), pytest.approx(300))
    assert unsteady.least is not None
    assert unsteady.most is not None
    assert unsteady.least < 270 < 330 < unsteady.most
    assert unsteady.least < unsteady.seconds < unsteady.most


def test_a_pace_that_changed_has_the_end_that_it_now_goes_to_in_its_range() -> None:
    pace, done = Pace(), 0
    for second in range(50):
        pace.note(float(second), done)
        done += 30 if second < 42 else 12
    found = pace.left(600)
    assert found is not None
    assert found.most is not None
    assert found.most >= 600 / 12 - 1, "at the pace of the last seconds"


def test_the_last_rows_have_no_range_as_they_do_not_come_at_the_pace_of_those_before() -> None:
    """Two rows were left for four seconds while 0.1 to 0.3 s were told."""
    progress, now = Progress(console=Console(file=io.StringIO())), 0.0
    clock.replace(lambda: now)
    try:
        for second in range(30):
            now = float(second)
            progress.numbers(Going(ok=10 * second, total=292))
        last = progress.numbers(Going(ok=290, total=292, binding=Binding("tail", "")))
        before = progress.numbers(Going(ok=290, total=292))
    finally:
        clock.replace()
    assert last.left is not None
    assert last.left.most is None
    assert before.left is not None
    assert before.left.most is not None


def test_sparks_are_as_high_as_the_rate() -> None:
    assert sparks([0, 5, 10]) == "▁▄█"
    assert sparks([0, 0]) == "▁▁"
    assert sparks([]) == ""


def test_what_all_will_cost_is_reckoned_by_the_rows_of_this_process() -> None:
    """Rows that an earlier life had done are done, but what they cost is no part of what this one has spent."""
    resumed = replace(SHOWN, done=950, stored=900, total=1000, cost_usd=0.5, budget_usd=None)
    assert "  money  $0.50  about $1.00 at the end" in text(resumed)
    assert not [said for said in text(replace(resumed, done=900, cost_usd=0.0)) if "at the end" in said]


def test_a_budget_that_ends_the_run_sooner_says_how_long_it_lasts() -> None:
    """It was told that all would cost five times the budget, and how long all rows would take."""
    progress = Progress(console=Console(file=io.StringIO()), budget_usd=0.5)
    now = 0.0
    clock.replace(lambda: now)
    try:
        for second in range(21):
            now = float(second)
            seen = Going(ok=5 * second, total=1000, cost_usd=0.0025 * 5 * second)
            numbers = progress.numbers(seen)
    finally:
        clock.replace()
    assert numbers.enough_for == 200
    assert numbers.left is not None
    assert numbers.left.seconds == pytest.approx(20.0), "a hundred rows more, at five a second"
    assert "budget lasts 20 s" in line(numbers, 120)
    shown = "\n".join(text(numbers))
    assert "left   20 s, then the budget is spent" in shown
    assert "enough for about 200 rows" in shown
    assert "at the end" not in shown


def test_what_earlier_processes_spent_of_the_budget_is_spent() -> None:
    """A run that went on showed its own few cents against the whole budget, and that it would be enough."""
    progress = Progress(console=Console(file=io.StringIO()), budget_usd=0.5)
    seen = Going(ok=100, stored=100, total=1000, cost_usd=0.25, budget_spent_usd=0.45)
    numbers = progress.numbers(seen)
    assert numbers.enough_for == 220, "five cents are left, for 20 rows"
    assert "  money  $0.45 of $0.50 ━━━━━━━━━━━━━──  enough for about 220 rows" in text(numbers)
    enough = progress.numbers(replace(seen, cost_usd=0.02, budget_spent_usd=0.04))
    assert "  money  $0.04 of $0.50 ━──────────────  about $0.20 at the end" in text(enough)
