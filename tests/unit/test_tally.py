"""Counts, and when there are too many failures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cottonpalm.stats import SHARE_FROM, Tally
from cottonpalm.types import ErrorRecord, Kind, Outcome, Usage

FAILED = ErrorRecord(Kind.FAIL_ROW, "KeyError", "x")


def test_each_outcome_is_counted_where_it_belongs() -> None:
    tally = Tally()
    tally.add(Outcome(0, "ok", attempts=2, cost_pico=5))
    tally.add(Outcome(1, "failed", error=FAILED, attempts=3, cost_pico=7))
    tally.add(Outcome(2, "skipped"))
    assert (tally.ok, tally.failed, tally.skipped, tally.attempts, tally.cost_pico) == (1, 1, 1, 5, 12)
    assert tally.kinds == {"fail_row": 1}
    assert tally.cost_known, "a row that sent nothing cost nothing"
    tally.add(Outcome(4, "failed", error=FAILED, attempts=1))
    assert tally.cost_known, "nor one that was refused"
    tally.add(Outcome(3, "ok", attempts=1))
    assert not tally.cost_known, "a request whose price nobody knows"


def test_a_failed_row_that_used_tokens_of_an_unknown_price_leaves_the_sum_unknown() -> None:
    tally = Tally()
    tally.add(Outcome(0, "failed", error=FAILED, attempts=1, usage=Usage(3, 4)))
    assert not tally.cost_known


@given(st.lists(st.booleans(), max_size=400), st.one_of(st.integers(1, 50), st.floats(0.01, 0.99), st.none()))
def test_the_bound_is_reached_exactly_where_its_words_say(fails: list[bool], bound: float | None) -> None:
    tally = Tally(bound)
    for number, fail in enumerate(fails, 1):
        tally.add(Outcome(number, "failed", error=FAILED) if fail else Outcome(number, "ok"))
        failed = sum(fails[:number])
        if bound is None:
            over = False
        elif bound >= 1:
            over = failed > bound
        else:
            over = number >= SHARE_FROM and failed > bound * number
        assert (tally.too_many() is not None) == over


def test_no_failure_at_all_may_be_asked_for() -> None:
    tally = Tally(0)
    tally.add(Outcome(0, "ok"))
    assert tally.too_many() is None
    for number in range(SHARE_FROM):
        tally.add(Outcome(number, "ok"))
    tally.add(Outcome(1, "failed", error=FAILED))
    assert tally.too_many() is not None


def test_what_it_says_names_the_count_and_the_bound() -> None:
    tally = Tally(2)
    for number in range(3):
        tally.add(Outcome(number, "failed", error=FAILED))
    assert tally.too_many() == "3 rows failed, max_failures=2"


def test_one_failed_row_is_a_row() -> None:
    tally = Tally(0)
    tally.add(Outcome(0, "failed", error=FAILED))
    assert tally.too_many() == "1 row failed, max_failures=0"


@pytest.mark.parametrize(("bound", "most"), [(3, 3), (0.25, 50), (0.1, 20)])
def test_exactly_the_bound_may_fail_and_one_more_may_not(bound: float, most: int) -> None:
    tally = Tally(bound)
    for number in range(200 - most):
        tally.add(Outcome(number, "ok"))
    for number in range(most):
        tally.add(Outcome(number, "failed", error=FAILED))
    assert tally.too_many() is None
    tally.add(Outcome(200, "failed", error=FAILED))
    assert tally.too_many() is not None


def test_a_share_of_one_is_no_bound_and_the_number_one_is() -> None:
    whole, one = Tally(1.0), Tally(1)
    for number in range(300):
        for tally in (whole, one):
            tally.add(Outcome(number, "failed", error=FAILED))
    assert whole.too_many() is None
    assert one.too_many() == "300 rows failed, max_failures=1"
