"""The pure decisions of admission: the limit, the order, the waits, the money."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cottonpalm.model import Verdict
from cottonpalm.pure.backoff import backoff_s, hinted_s
from cottonpalm.pure.grants import Ask, Grant, Room, grant
from cottonpalm.pure.limits import Doubling
from cottonpalm.pure.ordering import AGE_S, ageing_key

if TYPE_CHECKING:
    from random import Random

pytestmark = pytest.mark.core

STEPS = st.lists(st.tuples(st.sampled_from(Verdict), st.integers(0, 700)), max_size=200)
MONEY = st.integers(0, 10**15)


def one_round(limit: Doubling, in_flight: int) -> Doubling:
    """As many accepted calls as the limit allows, all of them in flight at once."""
    for _ in range(int(limit.limit)):
        limit = limit.after(Verdict.SUCCESS, in_flight)
    return limit.next_round()


@given(STEPS, st.integers(1, 20), st.integers(0, 50), st.integers(0, 500))
def test_a_limit_stays_within_its_bounds(steps: list, minimum: int, more: int, most: int) -> None:
    limit = Doubling(minimum + more, minimum, minimum + more + most)
    for verdict, in_flight in steps:
        limit = limit.after(verdict, in_flight)
        assert limit.minimum <= limit.limit <= limit.maximum


@given(st.integers(1, 60))
def test_a_used_limit_doubles_each_round_until_it_is_opposed(start: int) -> None:
    limit = Doubling(start, 1, 10_000)
    for round_ in range(1, 5):
        limit = one_round(limit, int(limit.limit))
        assert limit.limit == start * 2**round_


def test_a_limit_of_ten_reaches_five_hundred_in_six_rounds() -> None:
    limit = Doubling(10, 1, 500)
    for _ in range(6):
        limit = one_round(limit, int(limit.limit))
    assert limit.limit == 500


@given(st.integers(2, 500), st.integers(0, 500))
def test_a_limit_that_is_not_used_does_not_grow(start: int, in_flight: int) -> None:
    limit = Doubling(start, 1, 1000)
    if in_flight < 0.8 * start:
        assert one_round(limit, in_flight) == limit


@given(st.integers(1, 500), st.integers(0, 700))
def test_a_rejection_cuts_relative_to_what_was_in_flight(start: int, in_flight: int) -> None:
    cut = Doubling(start, 1, 500).after(Verdict.DROPPED, in_flight)
    assert cut.limit == max(1, 0.75 * min(start, max(1, in_flight)))


@given(STEPS)
def test_an_ignored_call_changes_nothing(steps: list) -> None:
    limit = Doubling(10, 1, 500)
    for verdict, in_flight in steps:
        limit = limit.after(verdict, in_flight)
        assert limit.after(Verdict.IGNORED, in_flight) is limit


def test_near_the_wall_the_limit_grows_by_a_twentieth_and_beyond_it_doubles_again() -> None:
    limit = Doubling(100, 1, 500).after(Verdict.DROPPED, 100)
    assert limit.limit == 75
    before = limit.limit
    while before <= 125:
        limit = one_round(limit, int(limit.limit))
        assert before + 1 <= limit.limit <= before * 1.05 + 1.01
        before = limit.limit
    assert one_round(limit, int(limit.limit)).limit >= 2 * before - 1


@pytest.mark.parametrize("limit", [1.0, 1.5, 1.99, 2.25, 2.9])
def test_a_limit_with_a_fraction_still_grows(limit: float) -> None:
    grown = one_round(Doubling(limit, 1, 500, wall=2, base=limit), int(limit))
    assert grown.limit >= limit + 1


@given(st.integers(0, 5000), st.floats(0.01, 100), st.floats(0.01, 1000), st.randoms(use_true_random=False))
def test_a_backoff_lies_between_nothing_and_its_doubled_base(
    attempt: int, base_s: float, cap_s: float, rng: Random
) -> None:
    wait_s = backoff_s(attempt, base_s, cap_s, rng)
    assert 0 <= wait_s <= min(cap_s, base_s * 2.0 ** min(attempt, 64))


@given(st.floats(0, 1e6), st.randoms(use_true_random=False))
def test_a_named_wait_is_never_undercut_and_little_exceeded(hint_s: float, rng: Random) -> None:
    assert hint_s <= hinted_s(hint_s, rng) <= hint_s + min(hint_s, 5.0) * 0.25


TIMES = st.integers(0, 10**6)
PRIORITIES = st.integers(-100, 100)


@given(TIMES, TIMES, PRIORITIES)
def test_among_equals_the_earlier_goes_first(one_s: int, other_s: int, priority: int) -> None:
    assert (ageing_key(one_s, priority) < ageing_key(other_s, priority)) == (one_s < other_s)


@given(TIMES, PRIORITIES, st.integers(1, 50))
def test_nobody_is_overtaken_by_who_came_later_than_ageing_allows(
    arrival_s: int, priority: int, steps: int
) -> None:
    first = ageing_key(arrival_s, priority)
    assert ageing_key(arrival_s + steps * AGE_S - 1, priority + steps) < first
    assert first < ageing_key(arrival_s + steps * AGE_S + 1, priority + steps)


@given(st.none() | MONEY, MONEY, MONEY, MONEY, MONEY, st.integers(1, 600), st.integers(0, 600))
def test_money_is_granted_only_under_the_ceiling_and_waited_for_only_if_it_may_come(
    ceiling: int | None, spent: int, reserved: int, least: int, more: int, slots: int, in_flight: int
) -> None:
    ask = Ask(least + more, least, slots)
    room = Room(None, None) if ceiling is None else Room(ceiling - spent - reserved, ceiling - spent)
    answer = grant(room, ask, in_flight)
    if ceiling is None:
        assert answer == ask.most
    elif spent + reserved + least <= ceiling:
        assert isinstance(answer, int)
        assert least <= answer <= ask.most
        assert spent + reserved + answer <= ceiling
    else:
        may_come = spent + least <= ceiling
        assert answer is (Grant.WAIT if may_come else Grant.STOP)
        assert answer is Grant.STOP or reserved > 0


@given(MONEY, MONEY, st.integers(1, 600), st.integers(0, 600))
def test_far_from_the_ceiling_nothing_is_tightened(most: int, spare: int, slots: int, in_flight: int) -> None:
    free = most * max(1, slots - in_flight) + spare
    assert grant(Room(free, free), Ask(most, 0, slots), in_flight) == most


def test_near_the_ceiling_what_is_left_is_shared_among_the_free_slots() -> None:
    assert grant(Room(1000, 5000), Ask(400, 100, 10), 5) == 200
    assert grant(Room(1000, 5000), Ask(400, 300, 10), 5) == 300, "never below what is worth a try"
