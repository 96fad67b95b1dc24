"""Where the next row goes among several endpoints, and when one of them is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cottonpalm.pure.replicas import RESTS_AFTER, Health, Standing, choose, spread

pytestmark = pytest.mark.core

STANDINGS = st.lists(
    st.builds(
        Standing,
        free=st.integers(-20, 20).map(float),
        limit=st.floats(1, 500),
        waiting=st.integers(0, 30),
        trip_s=st.floats(0.01, 60),
        opens_in_s=st.sampled_from([0.0, 0.5, 30.0]),
        ill=st.booleans(),
        refused=st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


@given(STANDINGS, st.integers(0, 1_000))
def test_a_row_waits_only_where_no_endpoint_has_room(standings: list[Standing], turn: int) -> None:
    chosen = standings[choose(standings, turn)]
    assert chosen.has_room or not any(one.has_room for one in standings)
    assert not chosen.opens_in_s or all(one.opens_in_s for one in standings)


@given(st.integers(2, 6), st.integers(0, 1_000))
def test_equal_endpoints_take_turns(count: int, turn: int) -> None:
    standings = [Standing(5.0, 10.0)] * count
    assert sorted(choose(standings, turn + n) for n in range(count)) == list(range(count))


def test_the_least_used_goes_before_the_one_with_the_most_places() -> None:
    assert choose([Standing(5.0, 10.0), Standing(40.0, 100.0)], 0) == 0


def test_without_room_the_shortest_wait_is_chosen_not_the_shortest_line() -> None:
    slow, quick = Standing(-2, 10.0, waiting=1, trip_s=30.0), Standing(-4, 10.0, waiting=3, trip_s=1.0)
    assert choose([slow, quick], 0) == 1


def test_where_all_are_closed_a_pause_goes_before_an_illness_and_that_before_a_refusal() -> None:
    refused = Standing(1, 10, opens_in_s=1.0, ill=True, refused=True)
    ill, paused = Standing(1, 10, opens_in_s=2.0, ill=True), Standing(1, 10, opens_in_s=60.0)
    assert choose([refused, ill, paused], 0) == 2
    assert choose([refused, ill], 0) == 1


@given(STANDINGS)
def test_no_more_rows_change_their_place_than_there_are_permits_and_rows_in_line(
    standings: list[Standing],
) -> None:
    transfers = spread(standings)
    for number, standing in enumerate(standings):
        came = sum(one.rows for one in transfers if one.target == number)
        went = sum(one.rows for one in transfers if one.source == number)
        assert came <= (max(0, standing.free) if standing.has_room else 0)
        assert went <= standing.waiting
    assert all(one.rows > 0 and one.source != one.target for one in transfers)
    left = [one.waiting - sum(t.rows for t in transfers if t.source == n) for n, one in enumerate(standings)]
    room = [
        int(one.free) - sum(t.rows for t in transfers if t.target == n) if one.has_room else 0
        for n, one in enumerate(standings)
    ]
    assert not any(left[a] > 0 and room[b] > 0 for a in range(len(left)) for b in range(len(room)) if a != b)


def test_rows_of_a_closed_endpoint_go_first() -> None:
    closed, long, free = (
        Standing(-5, 10, waiting=5, opens_in_s=9.0),
        Standing(-9, 10, waiting=9),
        Standing(6, 10),
    )
    assert [tuple(one) for one in spread([long, closed, free])] == [(1, 2, 5), (0, 2, 1)]


def test_an_endpoint_rests_after_three_failures_in_a_row_and_ever_longer() -> None:
    health, now, rests = Health(), 0.0, []
    for _ in range(RESTS_AFTER - 1):
        assert health.failure(now, now, refusal=False) == 0.0
    for _ in range(7):
        rests.append(health.failure(now, now, refusal=False))
        now = health.rests_until
    assert rests == [1, 2, 4, 8, 16, 30, 30]
    assert health.ill
    health.accepted()
    assert not health.ill
    assert health.failure(now, now, refusal=False) == 0.0


def test_what_was_under_way_when_a_rest_began_says_nothing_new() -> None:
    health = Health()
    rests = [health.failure(10.0, 5.0, refusal=False) for _ in range(50)]
    assert rests == [0.0, 0.0, 1.0] + [0.0] * 47
    assert health.failure(12.0, 5.0, refusal=False) == 0.0, "sent before the rest, failed after it"
    assert health.failure(12.0, 11.5, refusal=False) == 2.0


def test_a_refusal_counts_at_once_and_rests_for_minutes() -> None:
    health = Health()
    assert [health.failure(1.0, 0.0, refusal=True) for _ in range(3)] == [60.0, 0.0, 0.0]
    assert health.refused
    assert health.failure(61.0, 61.0, refusal=True) == 120.0
    health = Health()
    for _ in range(3):
        health.failure(0.0, 0.0, refusal=False)
    assert health.failure(0.5, 0.0, refusal=True) == 60.0, "a dead endpoint that says it is the key"
