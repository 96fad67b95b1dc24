"""The small rules of money, to the cent and to the second: lengths, alarms, the hour and the grant."""

from __future__ import annotations

from math import inf
from random import Random

import pytest

from cottonpalm.request.money.rules.alarms import Shares, Spikes
from cottonpalm.request.money.rules.grants import Ask, Grant, Room, grant, narrower
from cottonpalm.request.money.rules.hour import Hour
from cottonpalm.request.money.rules.outputs import Outputs

MILLION = 1_000_000


def lengths(*some: int) -> Outputs:
    outputs = Outputs()
    for tokens in some:
        outputs.note(tokens, 0)
    return outputs


def test_a_length_is_given_from_twenty_answers_on() -> None:
    assert lengths(*range(1, 20)).likely() is None
    assert lengths(*range(1, 21)).likely() == 24, "a fifth more than the longest of twenty"


def test_of_many_answers_one_in_a_hundred_may_be_longer() -> None:
    assert lengths(*range(1, 201)).likely() == int(1.2 * 199)
    assert lengths(*range(1, 102)).likely() == 120
    assert lengths(*[10] * 99, 5_000).likely() == int(1.2 * 5_000)
    assert lengths(*[10] * 199, 5_000).likely() == 12


def test_only_the_latest_256_answers_count() -> None:
    assert lengths(*[5_000] * 3, *[10] * 253).likely() == 6_000
    assert lengths(*[5_000] * 3, *[10] * 254).likely() == 12


def test_a_length_is_worked_out_again_after_32_answers() -> None:
    outputs = lengths(*[10] * 20)
    assert outputs.likely() == 12
    for _ in range(31):
        outputs.note(1_000, 0)
    assert outputs.likely() == 12
    outputs.note(1_000, 0)
    assert outputs.likely() == 1_200
    for _ in range(31):
        outputs.note(5_000, 0)
    assert outputs.likely() == 1_200
    outputs.note(5_000, 0)
    assert outputs.likely() == 6_000


def test_one_answer_that_reasons_is_enough_to_say_so() -> None:
    outputs = lengths(10)
    assert not outputs.reasons
    outputs.note(10, 1)
    outputs.note(10, 0)
    assert outputs.reasons


def test_each_share_of_a_budget_is_told_once_and_the_highest_of_several() -> None:
    shares = Shares()
    assert (shares.next, shares.passed(0.49)) == (0.5, None)
    assert (shares.passed(0.5), shares.next) == (0.5, 0.8)
    assert (shares.passed(0.79), shares.next) == (None, 0.8)
    assert (shares.passed(1.0), shares.next) == (1.0, inf)
    assert shares.passed(2.0) is None
    assert Shares().passed(0.9) == 0.8


def seen(*costs: int) -> Spikes:
    spikes = Spikes()
    for cost in costs:
        spikes.found([cost])
    return spikes


def median_if_spike(spikes: Spikes, cost: int) -> int | None:
    found = spikes.found([cost])
    return found[0][1] if found else None


def test_a_spike_costs_more_than_fifty_times_the_median_of_at_least_twenty() -> None:
    assert median_if_spike(seen(*[10] * 19), 100_000) is None
    assert median_if_spike(seen(*[10] * 20), 100_000) == 10
    assert median_if_spike(seen(*[10] * 20), 500) is None
    assert median_if_spike(seen(*[10] * 20), 501) == 10
    assert median_if_spike(seen(*[0] * 40), 100_000) is None, "of what costs nothing there is no multiple"


def test_the_median_follows_after_twenty_costs_and_forgets_all_but_255() -> None:
    spikes = seen(*[10] * 20)
    assert median_if_spike(spikes, 501) == 10
    for _ in range(18):
        assert median_if_spike(spikes, 501) == 10, "the median is that of the rows before"
    long = seen(*[10] * 200, *[1_000] * 255)
    assert median_if_spike(long, 20_000) is None
    assert median_if_spike(seen(*[10] * 300, *[1_000] * 100), 20_000) == 10
    assert median_if_spike(seen(*[10] * 300, *[1_000] * 160), 20_000) is None


def test_rows_told_at_once_are_compared_as_if_they_were_told_one_by_one() -> None:
    chance = Random(7)
    for _ in range(50):
        usual, odd = chance.choice([10, 1_000]), chance.choice([1, 400, 700, 60_000])
        costs = [odd if chance.random() < chance.choice([0.0, 0.05]) else usual for _ in range(400)]
        single, many = Spikes(), Spikes()
        one_by_one = [(at, found[0][1]) for at, cost in enumerate(costs) if (found := single.found([cost]))]
        at_once, done = [], 0
        while done < len(costs):
            some = costs[done : done + chance.randrange(1, 90)]
            at_once += [(done + at, median) for at, median in many.found(some)]
            done += len(some)
        assert at_once == one_by_one
        dear = odd > 50 * usual
        assert [at for at, _ in at_once] == [
            at for at, cost in enumerate(costs) if at >= 20 and cost == odd and dear
        ]


def test_what_was_spent_counts_until_an_hour_after_the_end_of_its_five_seconds() -> None:
    hour = Hour()
    hour.add(7, 12.0, MILLION)
    hour.add(5, 14.9, MILLION)
    hour.add(3, 15.0, MILLION)
    hour.add(0, 16.0, MILLION)
    hour.add(-9, 16.0, MILLION)
    assert hour.used(3_614.9) == 15
    assert hour.used(3_615.0) == 3
    assert hour.used(3_619.9) == 3
    assert hour.used(3_620.0) == 0


def test_a_request_may_be_a_minute_ahead_of_an_even_pace_and_no_more() -> None:
    hour = Hour()
    per_s = 1_000
    limit = per_s * 3_600
    assert hour.early_s(60 * per_s, 0.0, limit) == 0.0
    assert hour.early_s(61 * per_s, 0.0, limit) == pytest.approx(1.0)
    hour.add(40 * per_s, 0.0, limit)
    assert hour.early_s(20 * per_s, 0.0, limit) == 0.0
    assert hour.early_s(30 * per_s, 0.0, limit) == pytest.approx(10.0)
    assert hour.early_s(30 * per_s, 7.0, limit) == pytest.approx(3.0), "time passes"
    hour.add(10 * per_s, 10.0, limit)
    assert hour.early_s(30 * per_s, 10.0, limit) == pytest.approx(10.0)
    assert hour.early_s(61 * per_s, 5_000.0, limit) == pytest.approx(1.0), "nobody saves up"
    assert hour.early_s(30.0, 0.0, 0) == pytest.approx((50_000 + 30) * 3_600 - 60, rel=0.3)


def test_earlier_spending_may_be_loaded_in_any_order() -> None:
    hour = Hour()
    hour.load([(30.0, 5), (10.0, 7)], MILLION)
    assert hour.used(3_614.9) == 12
    assert hour.used(3_615.0) == 5


def test_far_from_the_limit_a_request_gets_all_and_near_it_its_share_and_at_least_the_least() -> None:
    ask = Ask(100, 20, 4)
    assert grant(Room(None, 0), ask, 9) == 100
    assert grant(Room(0, None), ask, 9) == 100
    assert grant(Room(400, 400), ask, 0) == 100
    assert grant(Room(399, 399), ask, 0) == 99
    assert grant(Room(200, 400), ask, 2) == 100
    assert grant(Room(60, 400), ask, 1) == 20
    assert grant(Room(30, 400), ask, 0) == 20, "at least the least"
    assert grant(Room(20, 20), ask, 9) == 20
    assert grant(Room(19, 20), ask, 9) is Grant.WAIT
    assert grant(Room(19, 19), ask, 9) is Grant.STOP
    assert grant(Room(90, 90), ask, 4) == 90, "nobody else is in line"


def test_what_an_ask_works_out_is_worked_out_once_and_only_near_the_limit() -> None:
    asked: list[str] = []

    def least() -> int:
        asked.append("least")
        return 20

    def slots() -> float:
        asked.append("slots")
        return 4.9

    ask = Ask(100, least, slots)
    assert grant(Room(None, None), ask, 0) == 100
    assert asked == []
    assert grant(Room(400, 400), ask, 0) == 100
    assert asked == ["slots"]
    assert grant(Room(80, 80), ask, 0) == 20
    assert (ask.least, asked.count("least")) == (20, 1)


def test_the_narrower_of_two_rooms_is_narrow_in_both_ways_and_no_limit_is_the_widest() -> None:
    assert narrower(Room(5, 9), Room(7, 8)) == Room(5, 8)
    assert narrower(Room(None, 9), Room(7, None)) == Room(7, 9)
    assert narrower(Room(None, None), Room(None, None)) == Room(None, None)
    assert Ask(1, 1).slots == 1


def test_the_first_median_is_of_all_twenty_rows_and_not_of_the_first() -> None:
    assert median_if_spike(seen(10_000, *[10] * 19), 501) == 10
    assert median_if_spike(seen(1, *[10] * 19), 490) is None


def test_the_twentieth_row_is_one_of_them() -> None:
    assert median_if_spike(seen(*[10] * 10, *[1] * 10), 51) == 1
    assert median_if_spike(seen(*[10] * 11, *[1] * 9), 51) is None


def test_a_median_is_worked_out_again_after_exactly_twenty_rows() -> None:
    spikes = seen(*[1] * 9, *[10] * 11, *[1] * 19)
    assert median_if_spike(spikes, 501) == 10, "the fortieth row: still that of the first twenty"
    assert median_if_spike(spikes, 501) == 1


def test_of_little_an_answer_costs_the_smallest_excess_is_seen() -> None:
    assert median_if_spike(seen(*[1] * 20), 51) == 1
    assert median_if_spike(seen(*[1] * 20), 50) is None
