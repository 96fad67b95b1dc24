"""Whether more in flight does more: worked examples of the evidence, and servers whose knee is known."""

from __future__ import annotations

import heapq
import math
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cottonpalm.request.limiter.rules.causes import ENOUGH
from cottonpalm.request.limiter.rules.concurrency import Concurrency
from cottonpalm.request.limiter.rules.knee import Knee, Round, Seen
from tests.support.sent import sent_at

if TYPE_CHECKING:
    from cottonpalm.request.limiter.rules.sent import Sent


def taught(*seconds: float) -> Knee:
    """One that has heard of answers that took so long, one a second."""
    knee = Knee()
    for at, took_s in enumerate(seconds):
        knee.took(float(at), took_s, 1, 1, first=False)
    knee._work_in()
    return knee


# -- the evidence of two rounds


def test_half_as_much_more_and_no_more_are_equally_strong_evidence() -> None:
    knee = Knee()
    same = knee._ratio_of(Seen(10, 5.0, 50), Seen(20, 5.0, 50))
    more = knee._ratio_of(Seen(10, 5.0, 50), Seen(20, 5.0 * math.sqrt(2), 50))
    assert more == pytest.approx(-same)
    assert more == pytest.approx(
        (math.log(2) / 2) ** 2 / 2 * 25
    )  # over the noise of two rounds of fifty: 1/50 + 1/50
    between = knee._ratio_of(Seen(10, 5.0, 50), Seen(20, 5.0 * 2**0.25, 50))
    assert between == pytest.approx(0.0, abs=1e-9), "half of that speaks for neither"
    twice = knee._ratio_of(Seen(10, 5.0, 50), Seen(20, 10.0, 50))
    assert twice == pytest.approx(3 * more), "and all of it the more"


@given(st.integers(1, 100), st.floats(1.05, 4), st.floats(0.5, 4), st.integers(9, 500), st.integers(9, 500))
def test_more_answers_are_more_evidence_of_the_same_sign(
    crowd: int, times: float, gain: float, one: int, other: int
) -> None:
    knee = Knee()
    before, after = Seen(crowd, 3.0, one), Seen(crowd * times, 3.0 * gain, other)
    weak = knee._ratio_of(before, after)
    strong = knee._ratio_of(before._replace(answers=2 * one), after._replace(answers=2 * other))
    assert strong == pytest.approx(2 * weak)
    expected = math.log(times) / 2 * (math.log(gain) - math.log(times) / 4)
    assert weak == pytest.approx(expected / (1 / one + 1 / other), abs=1e-9)


def test_answers_whose_times_differ_much_are_weaker_evidence() -> None:
    even, odd = taught(*[2.0] * 200), taught(*[1.0, 3.0] * 100)
    rounds = Seen(10, 5.0, 50), Seen(20, 10.0, 50)
    assert even._ratio_of(*rounds) > 10 * odd._ratio_of(*rounds) > 0
    assert odd._varies == pytest.approx(0.25, rel=0.35), "a mean of 2, and 1 off it: a quarter"
    assert even._varies < 0.01
    assert even._mean_s == 2.0


def test_one_answer_that_took_a_hundred_times_as_long_counts_as_three_times_off() -> None:
    knee = taught(*[1.0] * 500)
    before = knee._varies
    knee.took(501.0, 1_000.0, 1, 1, first=False)
    knee._work_in()
    assert knee._varies - before <= 4 / 16


# -- late answers, while the limit grows


def test_the_first_answers_say_what_is_usual_by_their_median() -> None:
    knee = Knee()
    for seconds in (9.0, 1.0, 2.0, 8.0, 3.0, 7.0, 4.0):
        knee.took(1.0, seconds, 1, 1, first=True)
        assert knee.usual_s == 0.0
        assert not knee.late(100.0), "nobody knows yet"
    knee.took(1.0, 0.1, 1, 1, first=False)
    assert knee.usual_s == 0.0, "it was not among the first"
    knee.took(1.0, 5.0, 1, 1, first=True)
    assert knee.usual_s == 9.0, "of twice as many that were sent first, those eight came first"


def usual(knee: Knee, seconds: float = 1.0) -> Knee:
    for _ in range(ENOUGH):
        knee.took(0.0, seconds, 1, 1, first=True)
    knee._count = knee._most = 0
    return knee


def test_an_answer_is_late_half_way_to_twice_the_usual_time() -> None:
    knee = usual(Knee(), 2.0)
    assert not knee.late(2.82)
    assert knee.late(2.83)
    knee.took(1.0, 9.0, 1, 1, first=True)
    assert knee.usual_s == 2.0, "known once, it stays"


def test_eight_more_late_answers_than_others_are_a_full_server() -> None:
    knee = usual(Knee())
    for _ in range(7):
        knee.late(2.0)
    assert not knee.full
    for _ in range(3):
        knee.late(1.0)
    for nth in range(4):
        assert not knee.full, nth
        knee.late(2.0)
    assert knee.full
    other = usual(Knee())
    for _ in range(100):
        other.late(1.0)
    for _ in range(8):
        other.late(2.0)
    assert other.full, "answers in time are no credit for later"


def test_what_fits_is_the_most_that_was_answered_in_the_time_of_one() -> None:
    knee = usual(Knee(), 1.0)
    assert knee.fits == 1.0
    for at in (0.0, 0.1, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0, 4.0, 4.1):
        knee.took(at, 1.0, 1, 1, first=False)
    assert knee.fits == 6.0
    blind = Knee()
    for at in range(30):
        blind.took(float(at), 1.0, 1, 1, first=False)
    assert blind.fits >= 29.0, "all of them, as long as nobody knows how long one takes"


# -- rounds


def test_a_round_begins_once_those_have_left_that_were_sent_with_another_number() -> None:
    knee = taught(*[2.0] * 50)
    knee.begin(100.0)
    for at in (100.5, 101.0, 101.9):
        assert knee.answered(at, sent_at(at, 4), 4, 10.0, gated=False) is None
    assert knee._round.answers == 0
    for at in (102.0, 102.1, 102.2):
        knee.answered(at, sent_at(at, 4), 4, 10.0, gated=False)
    assert (knee._round.answers, knee._round.mean) == (3, 4.0)


def test_while_more_are_in_flight_than_the_limit_it_drains_and_no_round_counts() -> None:
    knee = taught(*[1.0] * 50)
    for at in range(200, 230):
        assert knee.answered(float(at), sent_at(float(at), 30), 12, 10.0, gated=False) is None
    assert knee._round.answers == 0
    knee.answered(300.0, sent_at(300.0, 11), 11, 10.0, gated=False)
    assert knee._round.answers == 1, "one above is no draining"


def test_a_round_has_nine_answers_and_lasts_as_long_as_one_takes() -> None:
    def rounds(gap_s: float, answers: int) -> int:
        knee, ended = taught(*[1.0] * 50), 0
        for nth in range(answers):
            before = knee._round
            knee.answered(100.0 + nth * gap_s, sent_at(100.0 + nth * gap_s, 10), 10, 10.0, gated=False)
            ended += knee._round is not before
        return ended

    assert rounds(0.5, 8) == 0
    assert rounds(0.5, 9) == 1
    assert rounds(0.01, 60) == 0, "too short: its pace would be chance"
    assert rounds(0.01, 101) == 1


def test_a_round_in_which_something_else_held_requests_back_says_nothing() -> None:
    knee = taught(*[1.0] * 50)
    knee.settle(0.0, 10.0, 10.0)
    knee.times = None
    for nth in range(30):
        assert knee.answered(100.0 + nth, sent_at(100.0 + nth, 10), 10, 10.0, gated=nth % 7 == 0) is None
    for nth in range(30):
        limit = knee.answered(200.0 + nth, sent_at(200.0 + nth, 10), 10, 10.0, gated=False)
        if limit is not None:
            assert limit == 15.0, "the first trial is half as many more"
            return
    pytest.fail("a round that nothing held back was no round")


def test_a_round_tells_its_mean_crowd() -> None:
    round_ = Round()
    assert round_.mean == 0.0
    round_.answers, round_.crowd = 4, 30
    assert round_.mean == 7.5


# -- the search


def walk(knee: Knee, pace: object, steps: int, level: float, answers: int = 400) -> list[float]:
    """The limits that follow each other where so many in flight do `pace(number)` a second."""
    knee.settle(0.0, level, level)
    limits, now = [level], level
    for _ in range(steps):
        limit = knee._around(Seen(max(1.0, now), pace(max(1.0, now)), answers))  # type: ignore[operator]
        now = now if limit is None else max(1.0, limit)
        limits.append(now)
    return limits


@pytest.mark.parametrize("knee_at", [1, 2, 5, 17, 40, 160])
@pytest.mark.parametrize("start", [0.2, 1.0, 6.0])
def test_the_search_ends_round_the_knee_from_wherever_it_begins(knee_at: int, start: float) -> None:
    limits = walk(Knee(), lambda number: min(number, knee_at) / 2.0, 80, max(1.0, start * knee_at))
    last = limits[-30:]
    assert 0.75 * knee_at <= sorted(last)[15] <= max(1.6 * knee_at, knee_at + 1)


def test_where_more_does_more_each_trial_is_won_and_the_next_is_wider_again() -> None:
    limits = walk(Knee(), lambda number: number, 6, 10.0)
    assert limits[:3] == [10.0, 15.0, pytest.approx(22.5)]
    assert all(two > one for one, two in pairwise(limits))


def test_after_requests_that_came_to_nothing_the_steps_are_larger_as_the_number_is_a_guess() -> None:
    knee = Knee()
    knee.settle(0.0, 8.0, 0.0)
    assert [knee._around(Seen(n, n, 400)) for n in (8.0, 18.0, 40.5)] == [18.0, 40.5, pytest.approx(91.125)]
    knee.settle(0.0, 8.0, 8.0)
    assert knee._around(Seen(8.0, 8.0, 400)) == 12.0, "a number that was seen is looked round in smaller ones"


def test_where_less_does_as_much_the_number_falls_by_ever_smaller_steps() -> None:
    limits = walk(Knee(), lambda _: 5.0, 12, 90.0)
    assert limits[1] == 135.0, "up first"
    assert limits[2] == 90.0, "which was of no use"
    assert min(limits) < 45
    ratios = [before / after for before, after in pairwise(limits) if after < before < 90]
    assert ratios
    assert max(ratios) <= 1.5 + 1e-9


def test_without_a_winner_it_rests_ever_longer_and_then_tries_the_other_side() -> None:
    knee = Knee()
    tie = lambda number: number**0.25  # it speaks for neither  # noqa: E731
    limits = walk(knee, tie, 600, 10.0)
    trials = [at for at, limit in enumerate(limits) if limit != 10.0]
    assert {round(limits[at], 6) for at in trials} <= {15.0, *(round(10 * 1.5**by, 6) for by in (0.5, -0.5))}
    rests = [b - a for a, b in pairwise(trials) if b - a > 2]
    assert rests[:4] == [3, 4, 6, 10], "a pair of rounds, and 1, 2, 4, 8 ... rounds of rest"
    assert max(rests) <= 18
    assert any(limits[at] < 10 for at in trials)
    assert any(limits[at] > 10 for at in trials)


def test_evidence_of_before_a_rest_does_not_count_after_it() -> None:
    knee = Knee()
    walk(knee, lambda number: number**0.25, 17, 10.0)
    assert (knee._sum, knee._pairs, knee._up) == (0.0, 0, False), "eight pairs without a winner"


def test_what_the_winner_did_is_what_the_next_trial_is_compared_with() -> None:
    knee = Knee()
    knee.settle(0.0, 10.0, 10.0)
    assert knee._around(Seen(10.0, 10.0, 400)) == 15.0
    assert knee._around(Seen(15.0, 15.0, 400)) == pytest.approx(22.5), "it need not be measured again"
    assert knee._around(Seen(22.5, 15.0, 400)) == 15.0, "no more than fifteen did"
    assert (knee.level, knee._up) == (15.0, False)
    assert knee._ratio == pytest.approx(math.sqrt(1.5))
    assert knee._around(Seen(15.0, 15.0, 400)) == pytest.approx(15.0 / math.sqrt(1.5))


def test_a_round_with_as_many_in_flight_as_before_was_no_trial() -> None:
    knee = Knee()
    knee.settle(0.0, 10.0, 10.0)
    assert knee._around(Seen(10.0, 5.0, 50)) == 15.0
    assert knee._around(Seen(10.5, 9.0, 50)) == 10.0, "it never got there, so it proves nothing"
    assert knee._sum == 0.0
    assert knee._around(Seen(10.0, 5.0, 50)) == 15.0


# -- with the limit round it


class Server:
    """Does `most` at once, each in a second; more share its speed."""

    def __init__(self, most: int) -> None:
        self.most, self.now, self.limit = most, 0.0, Concurrency(8.0, 1, 500)
        self.out: list[tuple[float, int, Sent]] = []
        self.nth = self.done = 0

    def slower(self, number: int) -> float:
        """So many times as long each of so many takes."""
        return max(1.0, number / self.most)

    def run(self, answers: int) -> float:
        """Ask as many at once as it allows until so many are answered; how many a second, of the last half."""
        half = self.done + answers // 2
        end, since = self.done + answers, 0.0
        while self.done < end:
            while len(self.out) < int(self.limit.limit):
                self.nth += 1
                sent = sent_at(self.now, len(self.out) + 1)
                sent.number = self.nth
                slower = self.slower(len(self.out) + 1)
                if self.limit.knee.times is not None:
                    self.limit.knee.times.sent(sent)
                heapq.heappush(self.out, (self.now + slower * (0.98 + 0.04 * (self.nth % 2)), self.nth, sent))
            self.now, _, sent = heapq.heappop(self.out)
            self.limit.answered(self.now, sent, len(self.out) + 1)
            self.done += 1
            if self.done == half:
                since = self.now
        return (end - half) / (self.now - since)


@pytest.mark.parametrize("most", [2, 4, 12, 30, 100, 300])
def test_a_server_that_only_slows_down_is_used_fully_and_not_crowded(most: int) -> None:
    server = Server(most)
    pace = server.run(max(600, 25 * most))
    assert pace >= 0.8 * most
    assert server.limit.limit <= max(2.2 * most, most + 4)


class Batching(Server):
    """Does ever more with more, and ever less more: `most` at most, and half of that with `most` in flight."""

    def slower(self, number: int) -> float:
        return 1.0 + number / self.most


@pytest.mark.parametrize("most", [4, 12, 30, 60])
def test_of_a_server_whose_speed_grows_ever_less_most_is_used(most: int) -> None:
    server = Batching(most)
    assert server.run(max(1_000, 40 * most)) >= 0.7 * most


class Flooded:
    """Shares its speed. Two hundred were let go before the first answer; a crowd disturbs each other."""

    def __init__(self, most: int, alone_s: float) -> None:
        self.most, self.alone_s, self.now, self.done = most, alone_s, 0.0, 0
        self.limit = Concurrency(10.0, 1, 500)
        self.limit.set(200)
        self.limit.known = 200
        self.left: dict[int, float] = {}  # of what each has to do, by its number
        self.sent: dict[int, Sent] = {}
        self._chance, self._nth = Random(most), 0

    def run(self, answers: int) -> list[float]:
        """Ask as many at once as it allows until so many are answered; the limits meanwhile."""
        limits = []
        for _ in range(answers):
            while len(self.left) < int(self.limit.limit):
                self._send()
            least = min(self.left, key=self.left.__getitem__)
            work, more = self.left.pop(least), max(0.0, (len(self.left) + 1) / self.most - 1)
            self.now += work * self.alone_s * (1 + more) * (1 + 0.3 * more)
            self.left = {number: left - work for number, left in self.left.items()}
            self.limit.answered(self.now, self.sent.pop(least), len(self.left) + 1)
            limits.append(self.limit.limit)
        self.done += answers
        return limits

    def _send(self) -> None:
        self._nth += 1
        sent = sent_at(self.now, len(self.left) + 1)
        sent.number = self._nth
        self.left[sent.number], self.sent[sent.number] = self._chance.lognormvariate(0.0, 0.4), sent
        if self.limit.knee.times is not None:
            self.limit.knee.times.sent(sent)


@pytest.mark.parametrize("most", [5, 20, 30])
def test_a_server_flooded_before_its_first_answer_is_not_kept_full(most: int) -> None:
    server = Flooded(most, 5.0)
    server.run(180)
    assert server.limit.knee.found
    assert server.limit.limit <= 200 / 4, "none takes the place of those that are answered so late"
    server.run(400)
    began_s = server.now
    server.run(400)
    assert 400 / (server.now - began_s) >= 0.7 * most / 5.0


@pytest.mark.parametrize(("alone_s", "least"), [(90.0, 50), (30.0, 204)])
def test_who_is_slow_and_not_full_is_asked_for_as_many_again(alone_s: float, least: int) -> None:
    server = Flooded(1_000, alone_s)
    limits = server.run(1_500)
    assert min(limits) == least, "fewer for a while only where an answer takes more than a minute"
    assert limits[-1] > 200, "and it grows from there"


def test_a_server_behind_a_gateway_that_shows_quotas_with_room_may_be_flooded_as_well() -> None:
    limit = Concurrency(10, 1, 500)
    limit.set(200)
    limit.known = 200
    for nth in range(4):
        sent = sent_at(0.0, nth + 1)
        sent.number = nth + 1
        limit.answered(100.0 + nth, sent, 200 - nth, room=1_000.0)
    assert limit.limit <= 200, "none takes the place of those that are answered so late"


def test_a_limit_that_our_own_work_holds_back_learns_nothing() -> None:
    server = Server(10)
    server.limit.own_work(True)
    server.run(200)
    assert server.limit.limit == 8.0
    assert not server.limit.knee.found


def fills(knee: Knee, took_s: float, limit: float = 10.0) -> float | None:
    """Answers that took so long, at this limit, until there is a new one."""
    for nth in range(40):
        at = 1_000.0 + nth
        sent = sent_at(at - took_s, int(limit))
        sent.number = nth
        if knee.times is not None:
            knee.times.sent(sent)
        new = knee.answered(at, sent, int(limit), limit, gated=False)
        if new is not None:
            return new
    return None


def crowded(crowd: int = 40, took_s: float = 4.0) -> Knee:
    """One that looked full with so many in flight, whose answers took so long, and where ten are to be enough."""
    knee = Knee()
    for nth in range(40):
        now_there = crowd if nth % 2 else crowd // 2
        knee.took(float(nth), took_s, now_there, crowd, first=False)
    knee.settle(math.inf, 10.0, float(crowd))
    return knee


def test_where_answers_take_as_long_among_a_quarter_as_many_it_was_not_full_after_all() -> None:
    knee = crowded()
    assert fills(knee, 4.0) == 40.0, "back to the crowd"
    assert not knee.found
    assert knee.usual_s == pytest.approx(4.0), "so long do answers take, among few as well"
    assert not knee.full, "what was counted is forgotten"
    for nth in range(8):
        assert not knee.full, nth
        knee.late(9.0)
    assert knee.full


@pytest.mark.parametrize("scale", [1.0, 0.01])
@pytest.mark.parametrize(("took_s", "full"), [(1.0, True), (2.1, True), (3.0, False), (4.0, False)])
def test_what_looked_full_is_taken_back_where_answers_surely_take_no_less_among_few(
    took_s: float, full: bool, scale: float
) -> None:
    """A quarter as many take a quarter of the time where it is full."""
    knee = crowded(took_s=4.0 * scale)
    assert fills(knee, took_s * scale) == (5.0 if full else 40.0)
    assert knee.found is full


@pytest.mark.parametrize("knee_at", [2, 5, 8, 30])
def test_a_full_server_is_left_by_halves_until_less_is_done(knee_at: int) -> None:
    """What was usual had been measured on a full server too, so it says nothing of where the knee is."""
    knee = Knee()
    for _ in range(ENOUGH):
        knee.took(0.0, 160.0 / knee_at, 160, 160, first=True)
    for nth in range(40):
        knee.took(float(nth), 320.0 / knee_at, 320, 320, first=False)
    knee.settle(math.inf, 160.0, 320.0)
    limits = [160.0]
    while knee.times is not None:
        new = fills(knee, max(1.0, limits[-1] / knee_at), limits[-1])
        assert new is not None
        limits.append(new)
    assert limits[1:4] == [80.0, 40.0, 20.0]
    assert min(limits) <= knee_at
    assert knee_at <= limits[-1] <= 1.5 * knee_at, "as many as are answered in the time of one"


def test_what_was_done_in_the_time_of_a_full_server_says_nothing_once_the_time_among_few_is_known() -> None:
    knee = Knee()
    for _ in range(ENOUGH):
        knee.took(0.0, 16.0, 160, 160, first=True)
    for nth in range(200):
        knee.took(nth / 10, 16.0, 160, 160, first=False)
    assert knee.fits > 100.0
    knee.settle(100.0, 80.0, 160.0)
    assert fills(knee, 8.0, 80.0) == 40.0
    assert knee.usual_s == pytest.approx(8.0)
    assert knee.fits < 100.0


def test_at_one_in_flight_the_next_trial_is_two() -> None:
    limits = walk(Knee(), lambda number: min(number, 6.0), 12, 1.0)
    assert limits[1] == 2.0
    assert max(limits) >= 6.0


def test_the_limit_goes_back_to_the_crowd_and_looks_for_more_from_there() -> None:
    limit = Concurrency(10.0, 1, 500)
    limit.knee = crowded()
    limit.starting = False
    for nth in range(40):
        at = 1_000.0 + nth
        sent = sent_at(at - 4.0, 10)
        sent.number, sent.stretch = nth, sent.stretch._replace(refusals=nth)
        if limit.knee.times is not None:
            limit.knee.times.sent(sent)
        limit.answered(at, sent, 10)
        if limit.starting:
            break
    assert (limit.limit, limit.starting, limit.wall) == (40.0, True, None)


def test_a_number_that_was_given_is_kept_however_long_answers_take() -> None:
    limit = Concurrency(50.0, 1, 50)
    now = 0.0
    for nth in range(400):
        now += 1.0
        sent = sent_at(now - (1.0 if nth < 16 else 200.0), 50)
        sent.number = nth + 1
        limit.answered(now, sent, 50)
    assert (limit.limit, limit.knee.found) == (50.0, False)


def test_a_server_that_fills_up_below_a_number_that_it_rejected_is_seen() -> None:
    limit = Concurrency(10.0, 1, 500)
    for nth in range(16):
        sent = sent_at(float(nth) - 1.0, 4)
        sent.number = nth + 1
        limit.answered(float(nth), sent, 4)
    limit.set(60.0)
    limit.rejected(61, 0.0, 1.0)
    assert not limit.starting
    now = 100.0
    for _ in range(40):
        now += 0.1
        sent = sent_at(now - 6.0, 60)
        sent.number = 100
        limit.answered(now, sent, 60)
        if limit.knee.found:
            break
    assert limit.knee.found
    assert limit.limit == pytest.approx(10.0, rel=0.3), "sixty that take six times as long do as much as ten"


def test_a_rejection_ends_the_halving_so_that_nobody_is_watched_for_it_any_more() -> None:
    limit = Concurrency(10.0, 1, 500)
    limit.knee = crowded()
    limit.set(10.0)
    assert limit.knee.times is not None
    limit.rejected(8, 0.0, 1.0)
    assert (limit.knee.found, limit.knee.times) == (False, None)


def test_where_it_was_not_full_after_all_nobody_is_watched_any_more() -> None:
    knee = crowded()
    assert fills(knee, 4.0) == 40.0
    assert knee.times is None
