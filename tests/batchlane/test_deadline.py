"""The deadline's policy: met wherever live could have met it, with as much in batches as could have come back."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cottonpalm.engine.executors.batch import deadline as rules
from tests.batchlane import scenario
from tests.batchlane.scenario import World


def world_of(seed: int) -> World:
    """Some world in which live plus the provider's cancel time could meet the deadline."""
    rng = Random(seed)
    rows, live = (
        rng.choice((500, 3_000, 10_000)),
        rules.Live(rng.choice((0.5, 2.0, 20.0)), rng.choice((2.0, 20.0))),
    )
    cancel_s = rng.choice((30.0, 600.0))
    least_s = rules.reserve_s(rows, live, cancel_s)
    deadline_s = least_s * rng.uniform(1.01, 6.0)
    return World(
        rows=rows,
        deadline_s=deadline_s,
        live=live,
        believed=live._replace(rows_per_s=live.rows_per_s * rng.uniform(0.3, 1.0)),
        median_s=rng.choice((0.1, 0.5, 1.0, 3.0, math.inf)) * deadline_s,
        cancel_s=cancel_s,
        reserve_s=cancel_s,
        hangs=rng.choice((0.0, 0.0, 0.2)),
        seed=seed,
    )


@pytest.mark.core
def test_the_deadline_is_met_in_every_world_in_which_live_plus_the_cancel_could_have() -> None:
    for seed in range(40):
        world = world_of(seed)
        came = scenario.run(world)
        assert came.at_s <= world.deadline_s, (world, came.at_s)
        assert came.batch + came.live == world.rows


def test_without_hanging_cancels_nothing_is_paid_twice() -> None:
    for seed in range(5):
        assert scenario.run(World(hangs=0.0, seed=seed, median_s=9000.0)).twice == 0


def test_where_cancels_hang_the_deadline_wins_and_what_was_paid_twice_is_counted() -> None:
    came = scenario.run(World(hangs=1.0, median_s=20_000.0, sigma=0.01))
    assert came.at_s <= World().deadline_s
    assert came.twice > 0


@pytest.mark.parametrize("median_s", [600.0, 3600.0, 7200.0])
def test_what_could_have_come_back_in_time_does_come_back_from_batches(median_s: float) -> None:
    for seed in range(3):
        came = scenario.run(World(median_s=median_s, seed=seed, live=rules.Live(20.0, 5.0)))
        assert came.batch >= 0.95 * came.could


def test_a_batch_is_pulled_back_only_when_live_would_otherwise_be_late_and_the_least_finished_first() -> None:
    live, sent = (
        rules.Live(1.0, 10.0),
        [rules.Sent("a", 500, 100), rules.Sent("b", 500, 500), rules.Sent("c", 300, 300)],
    )
    tight_s = rules.reserve_s(1300, live, 600.0)
    assert rules.to_cancel(tight_s + 1, 0, sent, live, 600.0) == []
    assert rules.to_cancel(tight_s, 0, sent, live, 600.0) == ["b", "c"]  # 800 rows: more than 600 s of work
    being_cancelled = [sent[0], rules.Sent("b", 500, 500, 1.0), rules.Sent("c", 300, 300, 1.0)]
    assert rules.to_cancel(tight_s, 0, being_cancelled, live, 600.0) == []
    assert rules.to_cancel(100.0, 0, sent, live, 600.0) == ["b", "c", "a"]


def test_rows_of_a_cancel_that_hangs_are_given_up_only_when_they_can_wait_no_longer() -> None:
    live, hanging = rules.Live(1.0, 10.0), [rules.Sent("a", 100, 50, 700.0), rules.Sent("b", 100, 50, 10.0)]
    assert rules.to_give_up(10_000.0, 0, hanging, live, 600.0) == []
    assert rules.to_give_up(rules.reserve_s(200, live, 600.0), 0, hanging, live, 600.0) == ["a"]


def test_a_batch_is_tried_where_a_tenth_of_the_past_ones_would_have_come_back() -> None:
    live = rules.Live(10.0, 1.0)
    left_s = 3600.0 + rules.reserve_s(100, live, 600.0)
    past = [rules.Past(1800.0, ended=True), *[rules.Past(7200.0, ended=True)] * 8]
    assert rules.worth_a_batch(left_s, 100, live, 600.0, past, loses=False)
    assert not rules.worth_a_batch(left_s, 100, live, 600.0, past[1:], loses=False)
    assert rules.worth_a_batch(left_s, 100, live, 600.0, [], loses=False)
    assert not rules.worth_a_batch(500.0, 100, live, 600.0, [], loses=False)


def test_where_a_cancel_may_lose_what_is_paid_only_a_batch_that_surely_comes_back_is_tried() -> None:
    live = rules.Live(10.0, 1.0)
    left_s = 3600.0 + rules.reserve_s(100, live, 600.0)
    assert not rules.worth_a_batch(left_s, 100, live, 600.0, [], loses=True)
    half = [rules.Past(1800.0, ended=True), rules.Past(7200.0, ended=True)]
    assert not rules.worth_a_batch(left_s, 100, live, 600.0, half, loses=True)
    assert rules.worth_a_batch(left_s, 100, live, 600.0, half[:1] * 10, loses=True)


def test_batches_that_were_cancelled_count_as_slower_than_they_ran() -> None:
    ended = [rules.Past(float(seconds), ended=True) for seconds in (100, 200, 300, 400)]
    assert rules.quantile(ended, 0.5) == 200.0
    assert rules.quantile([*ended, *[rules.Past(150.0, ended=False)] * 4], 0.5) == 300.0
    assert rules.quantile([*ended[:1], *[rules.Past(150.0, ended=False)] * 4], 0.5) == math.inf
    assert rules.quantile([rules.Past(150.0, ended=False)], 0.5) is None


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(1.0, 1e5), min_size=1, max_size=30), st.floats(0.05, 0.95))
def test_without_cancelled_ones_the_share_is_that_of_the_list(seconds: list[float], share: float) -> None:
    found = rules.quantile([rules.Past(one, ended=True) for one in seconds], share)
    assert found is not None
    assert sum(one <= found for one in seconds) >= share * len(seconds) - 1e-6
    assert sum(one < found for one in seconds) < share * len(seconds) + 1e-6


def test_a_batch_holds_what_live_does_during_a_cancel_and_grows_with_their_number() -> None:
    live = rules.Live(2.0, 5.0)
    assert rules.rows_in_a_batch(live, 600.0, 0) == 1200
    assert rules.rows_in_a_batch(live, 600.0, 20) == 2400
    assert rules.rows_in_a_batch(rules.Live(0.01, 5.0), 600.0, 0) == rules.FEWEST


def test_the_pace_is_believed_from_limits_until_it_was_measured() -> None:
    pace = rules.LivePace()
    assert pace.live(10, math.inf) == (10 / 30.0, 30.0)
    pace.done(1.0, 2.0)
    assert pace.live(10, math.inf) == (5.0, 2.0)
    assert pace.live(10, 0.5) == (0.5, 2.0)
    for number in range(30):
        pace.done(10.0 + number, 2.0)
    assert pace.live(10, 0.5).rows_per_s == pytest.approx(30 / 38)
    pace.starved()
    assert pace.live(10, 0.5).rows_per_s == 0.5
