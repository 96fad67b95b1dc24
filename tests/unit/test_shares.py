"""How processes divide a limit, decided on the rows alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cottonpalm.request.limiter.limiter import IN_FLIGHT, Limiter
from cottonpalm.request.limiter.portions import Given
from cottonpalm.request.limiter.rules.concurrency import Concurrency
from cottonpalm.stores.rules.division import (
    KEPT_S,
    POOL,
    TTL_S,
    Row,
    division,
    fair,
    parts_used,
    portion,
    wanted,
)

NOW = 1_000_000.0
needs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), min_size=1, max_size=6)


def row(name: str, amount: float, want: float, *, total: float = 0.0, firm: bool = True) -> Row:
    return Row(name.encode(), amount, min(1.0, want), want, total, firm, NOW + TTL_S)


@given(needs, st.integers(0, 100), st.integers(0, 9))
def test_fair_parts_add_up_to_the_total(given_needs: list[tuple[int, int]], total: int, turn: int) -> None:
    parts = fair([(bytes([n]), *need) for n, need in enumerate(given_needs)], total, turn)
    assert sum(parts.values()) == total
    assert min(parts.values()) >= 0


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(0, 100), st.integers(0, 9))
def test_nobody_has_less_than_another_but_by_one_or_by_its_own_want(
    wants: list[int], total: int, turn: int
) -> None:
    parts = fair([(bytes([n]), 1, want) for n, want in enumerate(wants)], total, turn)
    wanting = [parts[bytes([n])] for n, want in enumerate(wants) if parts[bytes([n])] < want]
    assert not wanting or max(parts.values()) <= min(wanting) + 1
    if total >= len(wants):
        assert min(parts.values()) >= 1


def test_what_cannot_be_divided_is_anothers_in_each_turn() -> None:
    two = [(b"a", 1, 9), (b"b", 1, 9)]
    turns = [fair(two, 1, turn) for turn in range(4)]
    assert [parts[b"a"] for parts in turns] == [1, 0, 1, 0]
    assert [fair(two, 5, turn)[b"a"] for turn in range(4)] == [3, 2, 3, 2]


def test_a_request_larger_than_an_even_part_has_its_turn() -> None:
    two = [(b"a", 80, 100), (b"b", 80, 100)]
    assert [fair(two, 100, turn) for turn in (0, 1)] == [{b"a": 90, b"b": 10}, {b"b": 90, b"a": 10}]


def test_whoever_is_alone_has_all_of_it() -> None:
    assert portion([], row("me", 0, 1, total=90.5), NOW) == (90.5, 90.5)


def test_a_newcomer_takes_only_what_is_free() -> None:
    a, b = row("a", 10, 10, total=10), row("b", 0, 10, total=10)
    assert portion([a], b, NOW) == (0, 5), "it would be fair, but it is not free yet"
    assert portion([a, b], a, NOW) == (5, 5), "so the other one cedes"
    assert portion([a._replace(amount=5.0)], b, NOW) == (5, 5)


def test_the_smallest_total_that_anybody_was_told_counts() -> None:
    assert portion([row("a", 4, 20, total=20)], row("b", 0, 8, total=8), NOW) == (4, 4)


def test_what_a_dead_one_may_have_sent_is_not_free_while_its_row_counts() -> None:
    dead = row("a", 6, 10, total=10)._replace(expires=NOW - 1)
    assert portion([dead], row("b", 0, 10, total=10), NOW) == (4, 10)


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=5), st.integers(0, 30)
)
def test_the_portions_never_exceed_the_total_in_whatever_order_they_are_renewed(
    holders: list[tuple[int, int]], total: int
) -> None:
    rows: dict[bytes, Row] = {}
    for step in range(3 * len(holders)):
        name = str(step * 7 % len(holders))
        _, want = holders[int(name)]
        mine = row(name, 0, want, total=total)
        amount, _ = portion(list(rows.values()), mine, NOW + step)
        rows[name.encode()] = mine._replace(amount=amount)
        assert sum(one.amount for one in rows.values()) <= total


def test_of_a_dead_ones_minute_only_what_it_used_is_taken_and_each_part_until_a_minute_is_over() -> None:
    dead = row("a", 10, 10, total=10)._replace(expires=NOW - 1, used=((NOW + 9, 2.0), (NOW + 19, 3.0)))
    me = row("b", 0, 10, total=10)
    assert [portion([dead], me, NOW + later)[0] for later in (0, 8.9, 9, 18.9, 19)] == [5, 5, 7, 7, 10]
    assert portion([dead._replace(expires=NOW + 99)], me, NOW)[0] == 0, "alive, it may use all that it holds"
    assert portion([dead._replace(used=((NOW + 9, 99.0),))], me, NOW)[0] == 0


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(0, 30), st.floats(0, 1)), max_size=30))
def test_parts_of_a_minute_add_up_to_what_counts_and_none_ends_before_its_minute_is_over(
    steps: list[tuple[float, int, float]],
) -> None:
    now, sent, parts = NOW, list[tuple[float, int]](), ()
    for passed, number, when in steps:
        sent.append((now + when * passed, number))  # at some time since the last look
        now += passed
        sent = [one for one in sent if one[0] > now - 60]
        parts = parts_used(parts, number, sum(number for _, number in sent), now, 60.0)
        assert len(parts) <= 60 / TTL_S + 2
        for later in range(66):
            counts = sum(number for at, number in sent if at + 60 > now + later)
            assert counts <= sum(amount for until, amount in parts if now + later < until)
        assert sum(amount for _, amount in parts) == sum(number for _, number in sent)


def test_what_was_used_less_than_it_seemed_is_taken_from_what_ends_first() -> None:
    first = parts_used((), 50.0, 50.0, NOW, 60.0)
    later = NOW + TTL_S
    assert [amount for _, amount in parts_used(first, 30.0, 80.0, later, 60.0)] == [50.0, 30.0]
    assert [amount for _, amount in parts_used(first, 30.0, 60.0, later, 60.0)] == [30.0, 30.0]
    assert [amount for _, amount in parts_used(first, 30.0, 20.0, later, 60.0)] == [20.0]


def test_only_who_uses_its_share_and_has_somebody_waiting_wants_more() -> None:
    assert wanted(8, 1, 10, 100, waits=True) == (1, 100)
    assert wanted(2, 1, 10, 100, waits=True) == (1, 3.5)
    assert wanted(8, 1, 10, 100, waits=False) == (1, 11)
    assert wanted(0, 1, 10, 100, waits=False) == (0, 0)


def test_nothing_is_divided_before_somebody_met_resistance() -> None:
    mine, other = row("me", 10, 500, firm=False), row("a", 40, 500, firm=False)
    assert not division([other], mine, 0, NOW, new=True).divided


def test_a_learnt_limit_is_ceded_by_whoever_has_more_than_is_fair_and_taken_from_the_pool() -> None:
    old, new = row("a", 100, 500), row("b", 0, 500, firm=False)
    first = division([old], new, 0, NOW, new=True)
    assert (first.amount, first.divided) == (0, True)
    ceded = division([new], old, 0, NOW, new=False)
    assert ceded.amount == 50
    pool = Row(POOL, 50, 0, 0, 0, True, NOW + TTL_S)
    taken = division([old._replace(amount=50.0), pool], new, 0, NOW, new=False)
    assert (taken.amount, taken.pool, taken.firm) == (50, 0, True)


def test_what_a_dead_one_knew_to_fit_is_taken_by_whoever_wants_it() -> None:
    dead = row("a", 60, 500)._replace(expires=NOW - 1)
    mine = row("me", 40, 500)
    assert division([dead], mine, 0, NOW, new=False).amount == 100
    idle = division([dead], mine._replace(want=41.0), 0, NOW, new=False)
    assert (idle.amount, idle.pool) == (41, 59)


def test_who_comes_when_nobody_lives_begins_as_if_alone() -> None:
    dead = row("a", 60, 500)._replace(expires=NOW - 1)
    assert not division([dead], row("me", 0, 500, firm=False), 0, NOW, new=True).divided


@given(
    st.lists(st.tuples(st.floats(0, 200), st.integers(0, 500)), min_size=2, max_size=5),
    st.floats(0, 50),
    st.integers(0, 9),
)
def test_dividing_a_learnt_limit_neither_makes_nor_loses_any_of_it(
    holders: list[tuple[float, int]], free: float, seconds: int
) -> None:
    rows = {str(n): row(str(n), amount, want) for n, (amount, want) in enumerate(holders)}
    before, pool = sum(one.amount for one in rows.values()) + free, free
    for step in range(3 * len(holders)):
        name = str(step % len(holders))
        mine = rows[name]
        others = [one for other, one in rows.items() if other != name]
        now = NOW + seconds * step / 10
        divided = division([*others, Row(POOL, pool, 0, 0, 0, True, now + TTL_S)], mine, 0, now, new=False)
        if not divided.divided and divided.total < 1:
            return
        pool = divided.pool + max(0.0, mine.amount - divided.amount)
        rows[name] = mine._replace(amount=divided.amount, expires=NOW + 100)
        assert sum(one.amount for one in rows.values()) + pool == pytest.approx(before)


def test_from_eight_tenths_of_its_share_on_whoever_has_somebody_waiting_wants_all() -> None:
    assert wanted(7, 1, 10, 100, waits=True) == (1, 100)
    assert wanted(6.9, 1, 10, 100, waits=True) == (1, pytest.approx(1.25 * 6.9 + 1))
    assert wanted(0, 1, 10, 100, waits=True) == (1, 1), "it needs one to begin"
    assert wanted(90, 200, 100, 100, waits=False) == (100, 100), "no more than it could ever use"
    assert wanted(90, 200, 100, 100, waits=True) == (100, 100)


def test_the_least_that_does_not_fit_any_more_is_not_taken_from_the_next() -> None:
    assert fair([(b"a", 8, 8), (b"b", 3, 3), (b"c", 2, 2)], 10) == {b"a": 8, b"b": 0, b"c": 2}
    assert fair([(b"a", 5, 5), (b"b", 5, 5)], 10) == {b"a": 5, b"b": 5}


def test_what_nobody_wants_is_divided_evenly() -> None:
    assert fair([(b"a", 1, 2), (b"b", 1, 4)], 20) == {b"a": 9, b"b": 11}


def test_an_idle_one_has_no_part_and_a_dead_one_only_what_it_may_have_used() -> None:
    idle = row("a", 0, 0, total=3)
    assert portion([idle], row("b", 0, 10, total=10), NOW) == (10, 10)
    edge = row("a", 4, 10, total=6)._replace(expires=NOW)
    assert portion([edge], row("b", 0, 10, total=10), NOW) == (6, 10), (
        "its time is over, and its total with it"
    )
    assert portion([edge], row("b", 0, 10, total=10), NOW - 1) == (2, 3)
    assert portion([row("a", 12, 10, total=10)], row("b", 0, 10, total=10), NOW) == (0.0, 5)
    assert portion([row("b", 9, 9, total=1)], row("b", 0, 10, total=10), NOW) == (10, 10), (
        "its own row is no other"
    )


def test_turns_last_ten_seconds() -> None:
    a, b = row("a", 0, 9, total=1)._replace(expires=NOW + 99), row("b", 0, 9, total=1)
    mine = [portion([a], b, NOW + second)[1] for second in (0, 9.9, 10, 19.9, 20)]
    assert mine in ([0, 0, 1, 1, 0], [1, 1, 0, 0, 1])


def test_a_learnt_limit_that_is_firm_in_the_pool_alone_is_divided_and_one_of_less_than_one_is_not() -> None:
    mine = row("me", 10, 500, firm=False)
    pool = Row(POOL, 1, 0, 0, 0, True, NOW - 99)
    assert division([pool], mine, 0, NOW, new=False) == (11, 0, 11, True, True)
    assert not division([pool._replace(amount=0.9)], mine, 0, NOW, new=False).divided
    assert not division([pool._replace(firm=False)], mine, 0, NOW, new=False).divided
    assert division([], mine._replace(firm=True), 0, NOW, new=False) == (10, 0, 10, True, True)
    small = mine._replace(amount=0.5, firm=True)
    assert division([], small, 0, NOW, new=False) == (0.5, 0.0, 0.5, False, False)
    assert division([], small, 0.5, NOW, new=False).divided, "what it owes is a part of it"


def test_who_has_more_than_its_part_cedes_only_to_somebody_who_wants_it_and_not_for_a_fraction() -> None:
    mine, other = row("me", 60, 500), row("a", 40, 500)
    assert division([other], mine, 0, NOW, new=False).amount == 50
    assert division([other._replace(want=40.0)], mine, 0, NOW, new=False).amount == 60
    assert division([row("a", 49, 500)], row("me", 51, 500), 0, NOW, new=False).amount == 51
    assert division([row("a", 48.9, 500)], row("me", 51.1, 500), 0, NOW, new=False).amount == 50
    dead = other._replace(expires=NOW)
    assert division([dead], mine._replace(want=60.0), 0, NOW, new=False) == (60, 40, 100, True, True)


def test_more_is_taken_only_from_the_pool_up_to_the_part_and_what_is_wanted() -> None:
    mine, other, pool = row("me", 10, 500), row("a", 50, 500), Row(POOL, 40, 0, 0, 0, True, NOW)
    assert division([other, pool], mine, 0, NOW, new=False)[:3] == (50, 0, 100)
    assert division([other, pool], mine._replace(want=15.0), 0, NOW, new=False)[:2] == (15, 35)
    assert division([other, pool._replace(amount=5.0)], mine, 0, NOW, new=False)[:3] == (15, 0, 65)
    assert division([other, pool], mine._replace(want=9.0, least=1.0), 0, NOW, new=False)[0] == 10


def test_who_must_cede_keeps_to_its_smaller_part_before_the_others_read_of_it() -> None:
    """Else both would use it, from when the row is written until the limiter hears of it."""
    limiter = Limiter("k", Concurrency(50, 1, 50))
    gate = Given(limiter, IN_FLIGHT, 10.0)
    renewed = gate._renew([row("a", 5, 10, total=10)], b"me", NOW)
    assert limiter.shares[IN_FLIGHT] == 5
    assert [written.amount for written in renewed.rows] == [5]


def test_one_that_wants_more_or_knows_of_resistance_is_enough_among_several() -> None:
    mine, content = row("me", 60, 500, firm=False), row("a", 20, 20)
    wants, knows = row("b", 20, 500, firm=False), row("c", 5, 5)
    assert division([content, wants], mine, 0, NOW, new=False).amount == 40
    assert division([content], mine, 0, NOW, new=False).amount == 60
    assert division([wants, knows], mine, 0, NOW, new=False).divided
    assert not division([wants, wants._replace(holder=b"d")], mine, 0, NOW, new=False).divided


def test_a_part_grows_only_to_what_is_wanted_and_the_rest_is_the_others() -> None:
    assert fair([(b"a", 2, 3), (b"b", 1, 20)], 12) == {b"a": 3, b"b": 9}
    assert fair([(b"a", 2, 3), (b"b", 1, 20), (b"c", 0, 0)], 9) == {b"a": 3, b"b": 6, b"c": 0}
    assert fair([(b"a", 0, 9), (b"b", 0, 9), (b"c", 0, 9)], 2) == {b"a": 1, b"b": 1, b"c": 0}


def test_of_a_learnt_limit_too_what_cannot_be_divided_is_anothers_every_ten_seconds() -> None:
    pool = Row(POOL, 1, 0, 0, 0, True, NOW)
    a, b = row("a", 0, 9)._replace(expires=NOW + 99), row("b", 0, 9)
    mine = [division([a, pool], b, 0, NOW + second, new=True).amount for second in (0, 9.9, 10, 19.9, 20)]
    assert mine in ([0, 0, 1, 1, 0], [1, 1, 0, 0, 1])


def test_what_is_not_divided_counts_with_what_the_others_hold() -> None:
    mine, other = row("me", 10, 500, firm=False), row("a", 40, 500, firm=False)
    assert division([other], mine, 0, NOW, new=False) == (10, 0, 50, False, False)


def test_of_a_large_pool_only_the_fair_part_is_taken() -> None:
    mine, other, pool = row("me", 10, 500), row("a", 10, 500), Row(POOL, 80, 0, 0, 0, True, NOW)
    assert division([other, pool], mine, 0, NOW, new=False)[:3] == (50, 40, 100)


def test_who_needs_less_than_it_holds_keeps_it_while_nobody_lacks_any() -> None:
    mine, content = row("me", 60, 30), row("a", 40, 40)
    assert division([content], mine, 0, NOW, new=False).amount == 60
    assert division([content._replace(want=41.0)], mine, 0, NOW, new=False).amount < 60


def test_a_fraction_is_ceded_only_by_who_has_no_part_at_all() -> None:
    first, last = row("a", 0.7, 9)._replace(expires=NOW + 99), row("me", 0.6, 9)
    held = [division([first], last, 0, NOW + turn, new=False).amount for turn in (0, 10)]
    assert sorted(held) == [0, 0.6], "one in all: in its turn it keeps what it has, else it has none"
    assert division([row("a", 0.8, 9)], row("me", 1.5, 9), 0, NOW, new=False).amount == 1.5


def test_a_holder_may_miss_five_renewals_and_what_it_sent_counts_for_its_minute() -> None:
    assert (TTL_S, KEPT_S) == (5.0, 60.0)
