"""The learnt rate: worked examples of what it tells from rejections, how it paces, and how it tries for more."""

from __future__ import annotations

import math
import random

import pytest

from cottonpalm.request.limiter.rules.bucket import Bucket
from cottonpalm.request.limiter.rules.causes import HOLD

SOON_S = 0.1
NEVER = 1_000_000


class Counted(Bucket):
    """Knows all that was admitted, where what is taken is."""

    total = 100.0

    def take(self, now: float, cost: float) -> None:
        super().take(now, cost)
        self.total += cost

    def news(self, at_s: float, *, chance: float = 0.01) -> None:
        self.admitted(at_s, self.total, self.total, SOON_S, chance)

    def lose(self, now: float) -> None:
        self.drained(now, now, self.total)


def known(rate: float, *, depth: float = 1.0, now: float = 0.0, hold: int = HOLD) -> Counted:
    """One whose rate is known, and which is empty now; after `hold` admitted it tries more."""
    bucket = Counted()
    bucket.begin(now)
    bucket.rate, bucket.depth, bucket._depth_known = rate, depth, True
    bucket._at = bucket._next_s = now
    bucket._hold = hold
    bucket.set_mark(now, 100.0)
    return bucket


# -- pacing


def test_without_a_rate_nobody_waits_and_nothing_is_counted() -> None:
    bucket = Bucket()
    bucket.begin(5.0)
    bucket.take(6.0, 1.0)
    assert bucket.wait_s(6.0, 1.0) == 0.0
    assert (bucket.level, bucket.trial) == (0.0, False)


def test_requests_go_at_98_of_100_of_the_rate() -> None:
    bucket, now, went = known(10.0), 0.0, 0
    while now < 100.0:
        wait_s = bucket.wait_s(now, 1.0)
        if wait_s <= 1e-6:
            bucket.take(now, 1.0)
            went += 1
        else:
            now += wait_s
    assert went == pytest.approx(980, abs=2)


def test_what_was_saved_up_is_spent_at_twice_the_rate_and_not_at_once() -> None:
    bucket = known(10.0, depth=20.0)
    now, times = 50.0, list[float]()
    while len(times) < 20:
        wait_s = bucket.wait_s(now, 1.0)
        if wait_s <= 1e-6:
            bucket.take(now, 1.0)
            times.append(now)
        else:
            now += wait_s
    assert times[-1] - times[0] == pytest.approx(19 / 20.0, rel=0.02)


def test_it_saves_up_no_more_than_its_depth() -> None:
    bucket = known(10.0, depth=5.0)
    bucket.wait_s(1_000.0, 1.0)
    assert bucket.level == 5.0


def test_a_large_one_waits_until_so_much_came_back_and_the_largest_until_it_is_full() -> None:
    bucket = known(10.0, depth=50.0)
    assert bucket.wait_s(1.0, 30.0) == pytest.approx((30 - 9.8) / 9.8)
    assert bucket.wait_s(1.0, 500.0) == pytest.approx((50 - 9.8) / 9.8)
    shallow = known(10.0, depth=0.5)
    assert shallow.wait_s(0.0, 5.0) == pytest.approx(1 / 9.8), "one at least goes in the end"


def test_a_probe_that_goes_without_asking_is_counted() -> None:
    bucket = known(10.0, depth=5.0)
    bucket.take(0.0, 1.0)
    assert bucket.level == -1.0
    assert bucket.wait_s(0.0, 1.0) == pytest.approx(2 / 9.8)


# -- what a rejection tells


def test_the_rate_is_what_was_admitted_over_the_time_since_the_last_one() -> None:
    bucket = Bucket()
    bucket.begin(0.0)
    bucket.empty(20.0, 20.0, 200.0, 0.0, SOON_S)
    assert bucket.rate == pytest.approx(10.0)
    assert (bucket.level, bucket.learning, bucket.extra) == (0.0, False, 0.0)
    bucket.empty(30.0, 30.0, 308.0, 0.0, SOON_S)
    assert bucket.rate == pytest.approx(0.5 * (10.0 + 10.8)), "one like it: the mean of both"
    bucket.empty(40.0, 40.0, 308.0 + 200.0, 0.0, SOON_S)
    assert bucket.rate == pytest.approx(20.0), "another one"
    assert bucket.rejections == 3


def test_a_silence_in_between_may_have_run_over_so_the_rate_lies_between_both_readings() -> None:
    bucket = Bucket()
    bucket.begin(0.0)
    bucket.silent_s = 15.0
    assert bucket.sample(20.0, 100.0, SOON_S) == pytest.approx(math.sqrt(100 / 20 * 100 / 5))
    bucket.silent_s = 20.0
    assert bucket.sample(20.0, 100.0, SOON_S) == pytest.approx(math.sqrt(100 / 20 * 100 / SOON_S)), (
        "the time of a rejection at least"
    )
    bucket._depth_known, bucket.depth, bucket.silent_s = True, 40.0, 15.0
    assert bucket.sample(20.0, 100.0, SOON_S) == pytest.approx((100 - 40) / 5), "what was saved up is known"
    bucket.depth = 90.0
    assert bucket.sample(20.0, 100.0, SOON_S) == pytest.approx(100 / 20)


def test_what_was_saved_up_counts_once_for_each_silence() -> None:
    bucket = Bucket()
    bucket.begin(0.0)
    bucket._depth_known, bucket.depth = True, 3.5
    bucket.silent(1.0)
    bucket.silent(1.0)
    assert bucket.sample(3.2, 10.0, SOON_S) == pytest.approx(10 / 3.2), "none of them ran over"
    bucket.depth = 1.0
    assert bucket.sample(3.2, 10.0, SOON_S) == pytest.approx((10 - 2) / 1.2)


@pytest.mark.parametrize(("at_s", "total"), [(0.05, 50.0), (20.0, 0.5), (20.0, 0.0)])
def test_too_short_a_time_or_too_few_tell_nothing(at_s: float, total: float) -> None:
    bucket = Bucket()
    bucket.begin(0.0)
    assert bucket.sample(at_s, total, SOON_S) == 0.0


def test_one_rejection_leaves_half_of_a_known_rate_at_least() -> None:
    bucket = known(10.0)
    bucket.empty(100.0, 100.0, 120.0, 0.0, SOON_S)
    assert bucket.rate == 5.0, "20 in 100 s would be a fiftieth"


def test_few_admitted_weigh_little_against_what_is_known() -> None:
    for admitted in (1.0, 2.0, 4.0, 7.0):
        bucket = known(10.0)
        bucket.empty(1.0, 1.0, 100.0 + admitted, 0.0, SOON_S)
        told = (8 + admitted) / (8 / 10.0 + 1.0)
        expected = 0.5 * (10.0 + told) if told > 7.5 else told
        assert bucket.rate == pytest.approx(expected), admitted
    enough = known(10.0)
    enough.empty(1.0, 1.0, 108.0, 0.0, SOON_S)
    assert enough.rate == 0.5 * (10.0 + 8.0), "eight say it by themselves"
    more = known(10.0)
    more.empty(0.2, 0.2, 104.0, 0.0, SOON_S)
    assert more.rate == 10.0, "few that went faster than it say nothing"


def test_a_rate_is_never_slower_than_one_in_the_longest_silence() -> None:
    bucket = Bucket()
    bucket.begin(0.0)
    bucket.empty(10_000.0, 10_000.0, 9.0, 0.0, SOON_S)
    assert bucket.rate == pytest.approx(1 / 13.0)


def test_the_first_burst_beyond_the_rate_is_the_depth() -> None:
    bucket = Bucket()
    bucket.begin(0.0)
    bucket.learn(1.0, 60.0)  # sixty at once, then rejected
    bucket.empty(21.0, 21.0, 60.0 + 200.0, 0.0, SOON_S)
    assert bucket.rate == pytest.approx(10.0)
    assert bucket.depth == pytest.approx(60 - 10.0 * 1.0)


def test_what_was_thought_to_be_left_at_a_rejection_was_not_there() -> None:
    bucket = known(10.0, depth=30.0)
    bucket.empty(100.0, 100.0, 100.0 + 8.0, 0.0, SOON_S)  # it was thought to be full
    assert bucket.depth == 1.0
    little, none = known(10.0, depth=30.0), known(10.0, depth=30.0)
    little.empty(0.15, 0.15, 101.0, 0.0, SOON_S)
    none.empty(0.1, 0.1, 101.0, 0.0, SOON_S)
    assert (little.depth, none.depth) == (pytest.approx(30 - 1.47), 30.0), "one at least, else it is nothing"
    half = known(10.0, depth=30.0)
    half.empty(1.0, 1.0, 108.0, 0.0, SOON_S)
    assert half.depth == pytest.approx(30 - 9.8)


def test_rejections_that_follow_each_other_with_few_between_are_told_from_one_mark() -> None:
    bucket = known(10.0)
    bucket._first = 1.0
    bucket.empty(5.0, 5.0, 103.0, 0.0, SOON_S)
    assert (bucket.mark_s, bucket.mark) == (0.0, 100.0)
    bucket.empty(6.0, 6.0, 109.0, 0.0, SOON_S)
    assert (bucket.mark_s, bucket.mark) == (6.0, 109.0)


def test_a_rejection_by_chance_takes_what_was_saved_up_and_leaves_the_rate() -> None:
    bucket = known(10.0, depth=20.0)
    bucket.lose(1.0)
    assert (bucket.level, bucket.rate) == (0.0, 10.0)
    bucket.take(1.0, 3.0)
    bucket.lose(1.0)
    assert bucket.level == -3.0, "what is owed stays owed"
    off = Counted()
    off.lose(5.0)
    assert off.level == 0.0


# -- trying for more


def admit(bucket: Counted, times: int, now: float, *, chance: float = 0.01) -> float:
    """So many go as soon as they may, all held back by it, and are admitted; the time after."""
    for _ in range(times):
        now += max(0.0, bucket.wait_s(now, 1.0))
        bucket.take(now, 1.0)
        bucket.news(now, chance=chance)
    return now


def steps(bucket: Counted, most: int) -> list[tuple[int, float]]:
    """After how many admitted which share more was tried."""
    seen, now, before = list[tuple[int, float]](), 0.0, bucket.extra
    for nth in range(1, most + 1):
        now = admit(bucket, 1, now)
        if bucket.extra != before:
            seen.append((nth, round(bucket.extra, 6)))
            before = bucket.extra
        if not bucket.rate:
            break
    return seen


def test_after_sixteen_admitted_a_little_more_is_tried_then_twice_as_much_until_it_is_let_go() -> None:
    bucket = known(10.0)
    found = steps(bucket, 200)
    assert found == [(16, 0.12), (24, 0.24), (32, 0.48), (40, 0.96), (48, 1.92), (56, 0.0)]
    assert bucket.rate == 0.0, "three times the rate fits: it was not what stood in the way"
    assert not bucket.blamed


@pytest.mark.parametrize(("told", "first"), [(4, (8, 0.27)), (5, (8, 0.22)), (40, (16, 0.12))])
def test_the_fewer_told_a_rate_the_sooner_and_the_more_is_tried(told: int, first: tuple[int, float]) -> None:
    bucket = Counted()
    bucket.begin(0.0)
    bucket.set_mark(0.0, 100.0)
    bucket.empty(told / 10, told / 10, 100.0 + told, 0.0, SOON_S)
    assert bucket.rate == pytest.approx(10.0)
    assert steps(bucket, 30)[0] == (first[0], pytest.approx(first[1])), "a stage has eight at least"


def test_fewer_than_four_tell_no_rate() -> None:
    bucket = Counted()
    bucket.begin(0.0)
    bucket.set_mark(0.0, 100.0)
    bucket.empty(3.0, 3.0, 103.0, 0.0, SOON_S)
    assert bucket.rate == 0.0, "it may as well be an outage"
    bucket.empty(6.0, 6.0, 106.0, 0.0, SOON_S)
    assert bucket.rate == pytest.approx(1.0), "what was admitted since then counts from the first on"


def test_one_more_rejection_soon_after_makes_no_rate_that_was_known_a_guess() -> None:
    bucket = known(10.0)
    bucket.empty(0.2, 0.2, 102.0, 0.0, SOON_S)
    assert 9.0 < bucket.rate <= 10.0
    assert steps(bucket, 30)[0] == (16, pytest.approx(0.12))


def test_it_binds_where_most_of_the_latest_waited_for_it() -> None:
    bucket = known(10.0)
    assert not bucket.binds
    for n in range(1, 5):
        assert bucket.wait_s(n * 0.2 - 0.15, 1.0) > 0
        bucket.take(n * 0.2, 1.0)
        bucket.news(n * 0.2)
    assert bucket.binds
    bucket.off()
    assert not bucket.binds


def test_a_rate_is_let_go_only_for_more_than_may_have_been_stored_up() -> None:
    shallow, deep = known(10.0), known(10.0, depth=300.0)
    steps(shallow, 100)
    found = steps(deep, 1_500)
    assert shallow.rate == 0.0
    assert deep.rate == 0.0
    assert found[-1][0] > 300, "the last stage lasts until all of it must have been spent"


def test_a_trial_goes_on_doubling_for_as_long_as_nothing_is_rejected() -> None:
    deep = known(10.0, depth=300.0)
    found = steps(deep, 90)
    assert found[4:] == [(48, 1.92), (56, 3.84), (64, 7.68), (72, 15.36), (80, 30.72), (88, 61.44)]
    assert deep.rate == 10.0, "all of it may have been stored up"


def test_whether_a_pace_was_reached_is_told_by_what_went_whatever_the_order_of_the_news() -> None:
    bucket, now, sent = known(10.0, hold=8), 0.0, list[float]()
    for _ in range(12):
        now += max(0.0, bucket.wait_s(now, 1.0))
        bucket.take(now, 1.0)
        sent.append(now)
    for at_s in (*sent[:4], *sent[8:]):  # the latest are known first: of twelve that went, eight
        bucket.news(at_s)
    assert bucket.extra == pytest.approx(0.145)


def test_who_was_sent_before_a_trial_tells_nothing_of_it() -> None:
    bucket = known(10.0)
    now = admit(bucket, 16, 0.0)
    assert bucket.extra == pytest.approx(0.12)
    for _ in range(50):
        bucket.news(now - 0.1)  # news of older ones
    assert bucket.extra == pytest.approx(0.12)
    admit(bucket, 8, now)
    assert bucket.extra == pytest.approx(0.24)


def test_a_trial_whose_pace_was_not_reached_proves_nothing_but_what_passed_before_it() -> None:
    """Something else holds requests back as well: each waits for the rate, and then for that."""
    bucket = known(10.0)
    now = admit(bucket, 24, 0.0)
    assert bucket.extra == pytest.approx(0.24)
    for _ in range(8):
        now += max(0.0, bucket.wait_s(now, 1.0)) + 0.03
        bucket.wait_s(now - 0.001, 1.0)
        bucket.take(now, 1.0)
        bucket.news(now)
    assert bucket.extra == 0.0
    assert bucket.rate == pytest.approx(10.0 * 1.1), "that much was sent, and none of it rejected"


@pytest.mark.parametrize("extra", [0.0, 0.12, 0.96])
def test_what_a_trial_lets_go_is_really_more(extra: float) -> None:
    bucket = known(10.0)
    bucket.extra = extra
    now = 0.0
    for _ in range(50):
        now += max(0.0, bucket.wait_s(now, 1.0))
        bucket.take(now, 1.0)
    assert 50 / now == pytest.approx(10.0 * (0.98 + extra), rel=0.03)


def test_where_it_holds_nobody_back_a_trial_proves_nothing() -> None:
    bucket = known(10.0)
    bucket.extra = 0.12
    for nth in range(40):
        bucket.take(10.0 * nth, 1.0)  # far apart
        bucket.news(10.0 * nth)
    assert bucket.extra == 0.0
    assert bucket.rate == 10.0


@pytest.mark.parametrize(("depth", "rate"), [(1.0, 11.0), (50.0, 10.0)])
def test_a_failed_trial_tells_what_it_let_through_beyond_the_depth_and_the_next_comes_later(
    depth: float, rate: float
) -> None:
    bucket = known(10.0, depth=depth)
    now = admit(bucket, 24, 0.0)
    assert bucket.extra == pytest.approx(0.24)
    bucket.empty(now, now, bucket.total, 0.0, SOON_S)
    assert bucket.rate == pytest.approx(rate, rel=0.02), "eight that went faster may have been stored up"
    assert bucket.extra == 0.0
    first = steps(bucket, 400)[0]
    assert first == (32, 0.03), "twice as many before the next, of a rate that was told twice: a smaller one"


def met(
    bucket: Counted, rate: float, depth: float, times: int, *, late_s: float = 0.0, chance: float = 0.01
) -> float:
    """So many go to a provider's bucket that is empty now. The share that it rejects.

    That one was rejected is known after so long; without a trial it looks like chance.
    """
    now, level, filled_s, rejected = bucket._at, 0.0, bucket._at, 0
    lost: list[float] = []
    for _ in range(times):
        now += max(0.0, bucket.wait_s(now, 1.0))
        while lost and lost[0] <= now:
            bucket.lose(lost.pop(0))
        now += max(0.0, bucket.wait_s(now, 1.0))
        level, filled_s = min(depth, level + rate * (now - filled_s)), now
        bucket.take(now, 1.0)
        if level >= 1:
            level -= 1
            bucket.news(now, chance=chance)
            continue
        rejected += 1
        bucket.total -= 1
        if bucket.extra:
            bucket.empty(now, now, bucket.total, 0.0, SOON_S)
        else:
            lost.append(now + late_s)
    return rejected / times


@pytest.mark.parametrize("depth", [1.0, 4.0, 50.0, 3_000.0])
def test_what_a_bucket_had_stored_up_does_not_teach_a_higher_rate(depth: float) -> None:
    bucket = known(10.0, depth=depth)
    rejected = met(bucket, 10.0, depth, 4_000)
    assert bucket.rate == pytest.approx(10.0, rel=0.04)
    assert rejected < 0.02


@pytest.mark.parametrize("depth", [1.0, 4.0, 50.0, 3_000.0])
def test_a_rate_that_is_a_little_too_high_does_not_pass_for_chance(depth: float) -> None:
    bucket = known(11.0, depth=depth)
    met(bucket, 10.0, depth, 400)
    assert bucket.rate == pytest.approx(10.0, rel=0.04)
    assert met(bucket, 10.0, depth, 1_000) < 0.03


@pytest.mark.parametrize("late_s", [0.0, 0.1, 0.2, 0.3])
def test_rejections_that_slow_us_down_still_tell_that_a_rate_is_far_too_high(late_s: float) -> None:
    """A rejection that is known a while later takes what was saved up since: so fewer go than the rate lets go."""
    bucket = known(3.0, depth=4.0)
    met(bucket, 1.7, 4.0, 60, late_s=late_s, chance=0.15)
    assert bucket.rate < 2.3


@pytest.mark.parametrize("depth", [1.0, 4.0, 50.0])
def test_a_rate_that_rose_is_found_whatever_the_bucket_holds(depth: float) -> None:
    bucket = known(10.0, depth=depth)
    met(bucket, 10.0, depth, 1_000)
    met(bucket, 15.0, depth, 1_500)
    assert bucket.rate == 0.0 or bucket.rate > 13.5, "found, or let go to be looked for again"


def test_a_first_trial_that_fails_has_proven_nothing() -> None:
    bucket = known(10.0)
    now = admit(bucket, 16, 0.0)
    assert bucket.extra == pytest.approx(0.12)
    bucket.empty(now, now, bucket.mark + 7.0 * now, 0.0, SOON_S)
    assert bucket.rate == pytest.approx(7.0)


def test_a_test_that_cost_a_wait_is_made_so_much_rarer() -> None:
    def pause_before_next(named_s: float) -> int:
        bucket = known(10.0)
        now = admit(bucket, 24, 0.0)
        bucket.empty(now, now, 100.0, named_s, SOON_S)
        return steps(bucket, 3_000)[0][0]

    assert pause_before_next(0.0) == 32
    assert pause_before_next(5.0) == pytest.approx(32 * (1 + 11.0 * 5 - 1), rel=0.15)


def test_tests_grow_rarer_up_to_one_in_two_hundred() -> None:
    bucket = known(10.0)
    gaps = []
    for _ in range(8):
        begun = steps_until_trial(bucket)
        gaps.append(begun)
        bucket.empty(bucket._at, bucket._at, bucket.mark + begun, 0.0, SOON_S)
    assert gaps[0] == 16
    assert gaps[1:] == sorted(gaps[1:])
    assert gaps[-1] == 200


def steps_until_trial(bucket: Counted) -> int:
    now, count = bucket._at, 0
    while not bucket.extra:
        now = admit(bucket, 1, now)
        count += 1
        assert count < 1_000
    return count


def test_many_that_are_thought_to_be_rejected_by_chance_at_one_pace_are_none() -> None:
    bucket = known(10.0, hold=NEVER)
    now = 0.0
    for nth in range(40):
        now = admit(bucket, 1, now)
        if nth % 3 == 2:
            bucket.lose(now)
    assert bucket.rate < 8.5, "a quarter of all: the rest is the rate"
    for chance, kept in ((0.05, True), (0.01, False)):
        few = known(10.0, hold=NEVER)
        now = 0.0
        for nth in range(200):
            now = admit(few, 1, now, chance=chance)
            if nth % 20 == 19:
                few.lose(now)
        assert (few.rate == 10.0) is kept, "one in twenty-one is chance where as many were rejected before"


@pytest.mark.parametrize("seed", range(8))
def test_a_pace_at_which_no_more_is_rejected_than_ever_is_kept(seed: int) -> None:
    """One in eight is rejected whatever is sent. Few at a time, it would at times look like a rate."""
    bucket, now, rng = known(10.0, hold=NEVER), 0.0, random.Random(seed)
    for _ in range(400):
        now = admit(bucket, 1, now, chance=0.12)
        if rng.random() < 1 / 7:
            bucket.lose(now)
    assert bucket.rate > 5.0
    thrice = known(10.0, hold=NEVER)
    now = 0.0
    for _ in range(400):
        now = admit(thrice, 1, now, chance=0.12)
        if rng.random() < 1 / 2:
            thrice.lose(now)
    assert thrice.rate < 5.0, "three times as many as that"


def test_a_rate_that_is_in_nobodys_way_is_off() -> None:
    bucket = known(10.0)
    bucket.blamed = bucket.learning = True
    bucket.extra, bucket.rejections = 0.5, 3
    assert bucket.trial
    bucket.off()
    assert bucket.rejections == 0
    assert (bucket.rate, bucket.extra, bucket.learning, bucket.blamed, bucket.trial) == (
        0,
        0,
        False,
        False,
        False,
    )


def test_a_suspected_rate_is_on_trial_from_the_mark_on() -> None:
    bucket = Bucket()
    bucket.begin(0.0)
    bucket.silent_s = 3.0
    bucket.learn(7.0, 40.0)
    assert bucket.trial
    assert (bucket.mark_s, bucket.mark, bucket.silent_s) == (7.0, 40.0, 0.0)


def test_a_trial_that_loses_a_fifth_tells_the_rate() -> None:
    """None of them is known to be for the pace: they look like chance, and are too many for it."""
    bucket, gaps = known(10.0), list[int]()
    for _ in range(6):
        gaps.append(steps_until_trial(bucket))
        tried, now = bucket.rate * (0.98 + bucket.extra), bucket._at
        for nth in range(8):
            now = admit(bucket, 1, now)
            if nth < 2 and bucket.extra:
                bucket.lose(now)
        assert bucket.rate == pytest.approx(tried * 8 / 10)
        assert bucket.extra == 0.0
        bucket.rate = 10.0
    assert gaps == [16] * 6, "until the next one"


def test_a_stage_after_a_rejection_knows_nothing_of_the_one_before() -> None:
    bucket = known(10.0)
    now = admit(bucket, 6, 0.0)
    bucket.lose(now)
    bucket.lose(now)
    bucket.empty(now, now, 110.0, 0.0, SOON_S)
    rate = bucket.rate
    now = admit(bucket, 4, now)
    bucket.lose(now)
    admit(bucket, 4, now)
    assert bucket.rate == rate, "one in nine may be chance"


def test_a_trial_goes_on_where_half_of_its_requests_were_held_back_and_not_with_fewer() -> None:
    def after(held: int) -> float:
        bucket = known(10.0)
        bucket.empty(50.0, 50.0, 600.0, 0.0, SOON_S)
        bucket.extra, now = 0.12, 50.0
        for nth in range(8):
            now += max(0.0, bucket.wait_s(now, 1.0)) if nth < held else 0.05
            bucket.take(now, 1.0)
            bucket.news(now)
        return bucket.extra

    assert [after(held) for held in (3, 4)] == [0.0, 0.24]


def test_one_that_may_go_at_the_very_moment_was_not_held_back() -> None:
    bucket = known(10.0, depth=5.0)
    bucket.extra = 0.12
    for nth in range(1, 9):
        assert bucket.wait_s(100.0 * nth, 5.0) == 0.0
        bucket.take(100.0 * nth, 5.0)
        bucket.news(100.0 * nth)
    assert bucket.extra == 0.0


def test_what_one_stage_lost_or_held_back_does_not_count_in_the_next() -> None:
    bucket, now = known(10.0, hold=NEVER), 0.0
    for _ in range(5):
        bucket.lose(now)
        now = admit(bucket, 8, now, chance=0.1)
    assert bucket.rate == 10.0, "one of nine, again and again, as before"
    bucket.extra = 0.12
    now = admit(bucket, 8, now)
    assert bucket.extra == 0.24
    for nth in range(8):
        now += max(0.0, bucket.wait_s(now, 1.0)) if nth < 3 else 0.05
        bucket.take(now, 1.0)
        bucket.news(now)
    assert bucket.extra == 0.0, "three of eight were held back"


def test_the_depth_is_told_once_and_eight_admitted_move_the_mark() -> None:
    bucket = Bucket()
    bucket.begin(0.0)
    bucket.learn(1.0, 60.0)
    bucket.empty(21.0, 21.0, 260.0, 0.0, SOON_S)
    assert bucket.depth == pytest.approx(50.0)
    bucket.empty(22.0, 22.0, 267.0, 0.0, SOON_S)
    assert (bucket.mark_s, bucket.mark) == (21.0, 260.0), "seven are too few"
    bucket.empty(22.0, 22.0, 268.0, 0.0, SOON_S)
    assert (bucket.mark_s, bucket.mark) == (22.0, 268.0)
    bucket.take(42.0, 60.0)  # more than was saved up
    bucket.empty(42.0, 42.0, 268.0 + 100.0, 0.0, SOON_S)
    assert bucket.depth == pytest.approx(40.2), (
        "another rate does not tell another depth, only what was not there"
    )


def test_one_that_was_admitted_in_just_the_time_of_a_rejection_tells_something() -> None:
    bucket = Bucket()
    bucket.begin(0.0)
    assert bucket.sample(SOON_S, 1.0, SOON_S) == pytest.approx(1 / SOON_S)


# -- what is no rate


def test_a_pace_of_which_an_eighth_is_rejected_as_well_was_not_the_reason() -> None:
    bucket, chance = known(16.0), random.Random(7)
    bucket._believe(16.0)
    now, rates = 0.0, []
    for _ in range(4_000):  # half of all are rejected, however few are sent
        wait_s = bucket.wait_s(now, 1.0)
        now += max(0.0, wait_s) + 1e-6
        bucket.take(now, 1.0)
        if chance.random() < 0.5:
            bucket.lose(now)
        else:
            bucket.news(now)
        rates.append(bucket.rate)
        if not bucket.rate:
            break
    assert rates[-1] == 0.0
    assert min(rate for rate in rates if rate) >= 16.0 / 8


def test_a_rate_that_was_raised_counts_from_there() -> None:
    bucket = known(1.0)
    bucket._believe(20.0)
    bucket._believe(3.0)
    assert bucket.rate == 3.0
    bucket._believe(2.4)
    assert bucket.rate == 0.0
    assert not bucket.trial
    bucket._believe(2.4)
    assert bucket.rate == 2.4, "found again, it begins anew"
