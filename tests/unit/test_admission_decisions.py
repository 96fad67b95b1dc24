"""The pure decisions of admission: the limit, the order, the waits, the money."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cottonpalm.request.backoff import backoff_s, hinted_s
from cottonpalm.request.money.rules.grants import Ask, Grant, Room, grant
from cottonpalm.runtime.priority import AGE_S, ageing_key

MONEY = st.integers(0, 10**15)


@given(st.integers(0, 5000), st.floats(0.01, 100), st.floats(0.01, 1000), st.randoms(use_true_random=False))
def test_a_backoff_lies_between_nothing_and_its_doubled_base(
    attempt: int, base_s: float, cap_s: float, rng: Random
) -> None:
    wait_s = backoff_s(attempt, base_s, cap_s, rng)
    assert 0 <= wait_s <= min(cap_s, base_s * 2.0 ** min(attempt, 64))


class Longest(Random):
    """Draws the upper end."""

    def uniform(self, a: float, b: float) -> float:
        return b


def test_the_longest_backoff_doubles_with_each_attempt_until_the_cap() -> None:
    waits = [backoff_s(attempt, 0.5, 60.0, Longest()) for attempt in range(9)]
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert backoff_s(10_000, 0.5, 60.0, Longest()) == 60.0
    assert hinted_s(8.0, Longest()) == 8.0 + 1.25
    assert hinted_s(2.0, Longest()) == 2.0 + 0.5


def test_backoffs_are_drawn_evenly_from_nothing_to_the_longest() -> None:
    rng = Random(4)
    drawn = sorted(backoff_s(3, 1.0, 60.0, rng) for _ in range(1_000))
    quarters = [drawn[at] / 8.0 for at in (0, 250, 500, 750, 999)]
    assert quarters == pytest.approx([0, 0.25, 0.5, 0.75, 1], abs=0.05)


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
