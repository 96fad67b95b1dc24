"""How long answers take with one number in flight: told early, and as it is in the mean."""

from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING

import pytest

from cottonpalm.request.limiter.rules.answer_times import FEW, AnswerTimes
from tests.support.sent import sent_at

if TYPE_CHECKING:
    from cottonpalm.request.limiter.rules.sent import Sent


def numbered(at_s: float, number: int) -> Sent:
    sent = sent_at(at_s, 1)
    sent.number = number
    return sent


def watched(times_s: list[float], now: float) -> AnswerTimes:
    """All were sent at once; by now those are answered that take no longer."""
    times = AnswerTimes()
    times.drained = True
    sents = [numbered(0.0, number) for number in range(len(times_s))]
    for sent in sents:
        times.sent(sent)
    for took_s, sent in sorted(zip(times_s, sents, strict=True), key=lambda pair: pair[0]):
        if took_s <= now:
            times.answered(took_s, sent)
    return times


def test_what_was_sent_while_others_had_to_leave_tells_nothing() -> None:
    times, sent = AnswerTimes(), numbered(0.0, 1)
    times.sent(sent)
    assert not times.answered(1.0, sent)
    assert times.known == []


def test_only_the_first_are_watched() -> None:
    times = watched([1.0] * 100, now=2.0)
    assert len(times.known) == 2 * FEW


def test_who_failed_is_no_answer_that_takes_for_ever() -> None:
    times = watched([1.0, 1.1, 0.9, 50.0], now=2.0)
    late = times.likely(40.0, 0.0, 0.04)[0]
    times.left(numbered(0.0, 3))
    assert times.likely(40.0, 0.0, 0.04)[0] == pytest.approx(1.0, rel=0.1) != late


def test_with_all_answered_it_is_their_median_and_as_many_as_they_are() -> None:
    found_s, answers = watched([0.5, 1.0, 2.0, 1.0], now=9.0).likely(9.0, math.log(3.0), 1.0)
    assert found_s == pytest.approx(1.0)
    assert answers == 4.0


@pytest.mark.parametrize("deviation", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_told_when_a_part_is_answered_it_is_right_in_the_mean(deviation: float, share: float) -> None:
    """The quick ones come first: without those under way it would be taken for far less."""
    draws, logs, quick = Random(5), list[float](), list[float]()
    for _ in range(200):
        times_s = [3.0 * math.exp(draws.gauss(0.0, deviation)) for _ in range(2 * FEW)]
        now = sorted(times_s)[int(share * len(times_s)) - 1]
        times = watched(times_s, now)
        found_s, answers = times.likely(now, math.log(1.5), deviation**2)
        assert len(times.known) <= answers <= 2 * FEW
        logs.append(math.log(found_s / 3.0))
        quick.append(math.log(times.known[len(times.known) // 2] / 3.0))
    mean = sum(logs) / len(logs)
    assert abs(mean) < 0.1
    assert abs(mean) < abs(sum(quick) / len(quick)) or share > 0.8


def test_one_that_takes_a_hundred_times_as_long_counts_as_two_deviations_off() -> None:
    usual = [1.0] * 7
    found_s, _ = watched([*usual, 100.0], now=200.0).likely(200.0, 0.0, 0.25)
    assert 1.0 < found_s < 1.2
