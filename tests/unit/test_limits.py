"""The pure parts of admission: the number in flight, the learnt pace, quotas shown, ceilings of the user's own."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cottonpalm.request.limiter.rules.admission import Admission, Sent
from cottonpalm.request.limiter.rules.ceilings import MINUTE_S, Ceiling
from cottonpalm.request.limiter.rules.concurrency import Concurrency
from cottonpalm.request.limiter.rules.pace import Pace
from cottonpalm.request.limiter.rules.quotas import Mirror
from cottonpalm.types import Quota, Unit

pytestmark = pytest.mark.core


def one_round(limit: Concurrency, now: float, seconds: float, in_flight: int | None = None) -> float:
    """As many accepted calls as the limit allows, spread over so many seconds; the moment after."""
    calls = int(limit.limit)
    for number in range(calls):
        limit.peak = max(limit.peak, int(limit.limit) if in_flight is None else in_flight)
        limit.accepted(now + seconds * (number + 1) / calls)
    return now + seconds


# How many in flight


@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 700), st.floats(0, 10)), max_size=200),
    st.integers(1, 20),
    st.integers(0, 50),
    st.integers(0, 500),
)
def test_a_limit_stays_within_its_bounds(steps: list, minimum: int, more: int, most: int) -> None:
    limit, now = Concurrency(minimum + more, minimum, minimum + more + most), 0.0
    for accepted, in_flight, passed in steps:
        now += passed
        limit.peak = max(limit.peak, in_flight)
        if accepted:
            limit.accepted(now)
        else:
            limit.rejected(in_flight, in_flight)
        assert limit.minimum <= limit.limit <= limit.maximum


@given(st.integers(1, 60))
def test_a_used_limit_triples_each_round_trip_until_it_is_opposed(start: int) -> None:
    limit, now = Concurrency(start, 1, 10_000), 0.0
    for round_ in range(1, 5):
        now = one_round(limit, now, 5.0)
        assert limit.limit == start * 3**round_


@given(st.integers(2, 500), st.integers(0, 500))
def test_a_limit_that_is_not_used_does_not_grow(start: int, in_flight: int) -> None:
    limit = Concurrency(start, 1, 1000)
    if in_flight < 0.8 * start:
        one_round(limit, 0.0, 5.0, in_flight)
        assert limit.limit == start


@given(st.integers(4, 500))
def test_a_rejection_leaves_what_fitted(limit: int) -> None:
    concurrency = Concurrency(limit, 1, 500)
    concurrency.rejected(limit, limit)
    assert concurrency.limit == limit - 1


@given(st.integers(2, 500), st.integers(1, 500))
def test_no_single_rejection_cuts_deeper_than_to_three_quarters_of_what_is_in_flight(
    limit: int, ordinal: int
) -> None:
    concurrency = Concurrency(limit, 1, 500)
    concurrency.rejected(min(ordinal, limit), limit)
    assert concurrency.limit >= max(1, 0.75 * limit)


def held(limit: int, most: int = 500) -> Concurrency:
    """A limit that met a rejection just above."""
    concurrency = Concurrency(limit, 1, most)
    concurrency.rejected(limit + 1, limit + 1)
    return concurrency


def accept(limit: Concurrency, calls: int, now: float) -> float:
    """So many accepted calls a tenth of a second apart, all places taken; the moment after."""
    for _ in range(calls):
        limit.peak = max(limit.peak, int(limit.limit))
        now += 0.1
        limit.accepted(now)
    return now


def test_a_limit_that_fits_is_held_until_enough_calls_paid_for_a_test_with_one_more() -> None:
    limit = held(100)
    now = accept(limit, limit.hold_calls - 1, 0.0)
    assert limit.limit == 100
    accept(limit, 1, now)
    assert limit.limit == 101


def test_a_test_that_is_not_rejected_is_followed_by_larger_ones_and_then_by_a_new_start() -> None:
    limit, seen = held(100), [100.0]
    now = accept(limit, limit.hold_calls, 0.0)
    while limit.phase == "hold":
        if limit.limit != seen[-1]:
            seen.append(limit.limit)
        now = accept(limit, 1, now)
    assert seen == [100, 101, 103, 106, 111, 119, 131]
    assert (limit.phase, limit.limit) == ("start", 131)


def test_a_failed_test_costs_one_rejection_and_leaves_what_is_known() -> None:
    limit = held(100)
    accept(limit, limit.hold_calls, 0.0)
    limit.rejected(101, 101)
    assert limit.limit == 100


def test_a_number_that_scatters_is_followed_in_steps_of_one_until_it_has_clearly_moved() -> None:
    limit, seen = held(200), [200.0]
    limit.scatters = True
    limit.rejected(200, 200)
    now = 0.0
    while limit.phase == "hold":
        if limit.limit != seen[-1]:
            seen.append(limit.limit)
        now = accept(limit, 1, now)
    assert seen[:12] == [200, *range(198, 209)]
    assert (limit.phase, seen[12] - seen[11]) == ("start", 2)


def test_a_call_that_fails_for_other_reasons_calls_a_test_off() -> None:
    limit = held(100)
    now = accept(limit, limit.hold_calls, 0.0)
    limit.failed()
    assert limit.limit == 100
    accept(limit, 100, now)
    assert limit.limit > 100, "the test is made up for soon"


def test_nothing_is_tested_while_it_rests() -> None:
    limit = held(100)
    limit.rest(1000)
    accept(limit, 999, 0.0)
    assert limit.limit == 100


def test_the_most_that_is_allowed_is_not_tested() -> None:
    limit = held(100, most=100)
    accept(limit, 1000, 0.0)
    assert (limit.phase, limit.limit) == ("hold", 100)


def test_a_server_that_does_no_more_with_more_in_flight_is_not_given_more() -> None:
    limit, now, slots, wait_s = Concurrency(10, 1, 500), 0.0, 80, 4.0
    for _ in range(60):
        in_flight = int(limit.limit)
        now = one_round(limit, now, max(wait_s, wait_s * in_flight / slots))
    assert limit.phase == "knee"
    assert 60 <= limit.limit <= 130


def waiting_in_line(limit: Concurrency, slots: int, line: int) -> None:
    """Forty rounds against a server that works on `slots`, keeps a line, and rejects what is above both."""
    now = 0.0
    for _ in range(40):
        for _ in range(int(limit.limit)):
            limit.peak = in_flight = int(limit.limit)
            if in_flight > slots + line:
                limit.rejected(in_flight, in_flight)
                break
            now += 4.0 / min(in_flight, slots)
            limit.accepted(now, work=100.0, took_s=4.0 * max(1.0, in_flight / slots))


def test_a_line_that_has_an_end_is_not_kept_full() -> None:
    limit = Concurrency(10, 1, 500)
    waiting_in_line(limit, slots=80, line=60)
    assert limit.phase == "knee"
    assert 64 <= limit.limit <= 110


def test_a_limit_without_a_line_is_held() -> None:
    limit = Concurrency(10, 1, 500)
    waiting_in_line(limit, slots=140, line=0)
    assert 130 <= limit.limit <= 144


# The learnt pace


@given(st.floats(5, 200), st.floats(0.2, 3.0))
def test_what_was_accepted_between_two_rejections_is_the_rate_of_the_bucket(
    rate: float, haste: float
) -> None:
    """A bucket without burst, asked at `haste` times its rate: what it gives between two rejections is its rate."""
    pace, now, level, rejections = Pace(), 0.0, 0.0, 0
    rng, ours, last_s = Random(1), rate * (1 + haste), 0.0
    while rejections < 400 and now < 400:
        now += rng.expovariate(ours)
        level, last_s = min(30.0, level + (now - last_s) * rate), now
        pace.take()
        if level >= 1:
            level -= 1
            pace.accepted(1.0)
        else:
            rejections += 1
            pace.rejected(now, now, ours, 1.0, explained=True)
    assert pace.rate == 0, "what the number in flight explains sets no pace"
    assert pace.learnt == pytest.approx(rate, rel=0.5)


def test_a_pace_lets_through_no_more_than_its_rate() -> None:
    pace, now, gone = Pace(), 0.0, 0
    for _ in range(100):
        pace.take()
    pace.rejected(0.0, 0.0, 50.0, 1.0, explained=False)
    rate = pace.rate
    while now < 10:
        if (wait_s := pace.wait_s(now)) > 0:
            now += wait_s
        else:
            pace.take()
            gone += 1
    assert gone == pytest.approx(rate * 10, abs=2 + 0.1 * rate)


# Quotas that the provider shows


@pytest.mark.parametrize(
    ("unit", "free"), [("input tokens", 4), ("output tokens", 3), ("tokens", 2), ("requests", 5)]
)
def test_each_unit_of_a_quota_is_counted_in_that_unit(unit: Unit, free: int) -> None:
    """Requests of 250 tokens, 150 of them in the answer, against what is left of one quota; a hundredth is kept."""
    left = {"input tokens": 460.0, "output tokens": 500.0, "tokens": 600.0, "requests": 5.0}[unit]
    admission, sent = Admission(Concurrency(100, 1, 500)), 0
    first = Sent(0.0, 1, 0, 250, (0.0, 0.0, 0.0))
    admission.sent(first)
    admission.accepted(1.0, first, 0, work=150.0, used=250.0)
    margin = 0.01 * 10 * left
    admission.heard(1.0, first, (Quota(unit, 10 * left, left + margin),), rejected=False)
    while admission.wait_s(1.0, sent, 250) == 0:
        admission.sent(Sent(1.0, sent + 1, 0, 250, (0.0, 0.0, 0.0)))
        sent += 1
    assert sent == free
    assert admission.binding == unit


def run_against_bucket(
    per_minute: float, others_per_s: float, seconds: float, lag_s: float
) -> tuple[int, int]:
    """Send through a mirror against a bucket whose answers come late; accepted and rejected."""
    rate, level, capacity = per_minute / 60, per_minute, per_minute
    mirror, now, sent, rejected, total = None, 0.0, 0, 0, 0.0
    late: list[tuple[float, float, float, Quota]] = []
    while now < seconds:
        now += 0.01
        level = min(capacity, level + 0.01 * (rate - others_per_s))
        while late and late[0][0] <= now:
            _, sent_s, upto, quota = late.pop(0)
            if mirror is None:
                mirror = Mirror(now, quota)
                mirror.take(total - upto)
            else:
                mirror.heard(now, quota, sent_s, total - upto, rejected=False)
        if mirror is not None and mirror.wait_s(now, 1.0) > 0:
            continue
        if mirror is None and total >= 10:
            continue
        total += 1
        if mirror is not None:
            mirror.take(1.0)
        if level < 1:
            rejected += 1
            continue
        level -= 1
        sent += 1
        late.append((now + lag_s, now, total, Quota("requests", capacity, level, (capacity - level) / rate)))
    return sent, rejected


@pytest.mark.parametrize("others", [0.0, 10.0])
def test_a_quota_that_is_shown_is_used_up_and_not_overrun(others: float) -> None:
    sent, rejected = run_against_bucket(1_800, others, 300, lag_s=3.0)
    possible = 1_800 + 300 * (30 - others)
    assert sent >= 0.93 * possible
    assert rejected <= 0.01 * sent


def test_a_window_is_told_from_a_bucket_and_its_end_is_waited_for() -> None:
    mirror = Mirror(0.0, Quota("requests", 1000, 1000, 60.0))
    mirror.heard(10.0, Quota("requests", 1000, 900, 50.0), 10.0, 0, rejected=False)
    mirror.heard(40.0, Quota("requests", 1000, 5, 20.0), 40.0, 0, rejected=False)
    assert mirror.windowed
    assert mirror.wait_s(41.0, 1.0) == pytest.approx(19.0)
    assert mirror.wait_s(60.5, 1.0) == 0.0


def test_nobody_goes_before_a_window_is_over_though_requests_are_sent_after_their_permits() -> None:
    """The window ends at 60. A burst of permits at 10 reaches the provider 0.5 s later, the next may do so at once."""
    mirror = Mirror(0.0, Quota("requests", 1000, 1000, 60.0))
    mirror.heard(9.0, Quota("requests", 1000, 900, 53.0), 7.0, 0, rejected=False)
    for lag_s, trip_s in ((0.5, 0.9), (0.6, 0.7), (0.9, 2.0)):
        told = Quota("requests", 1000, 5, 50.0 - lag_s)
        mirror.heard(10.0 + trip_s, told, 10.0, 0, rejected=False)
    assert mirror.windowed
    assert mirror.wait_s(59.99, 1.0) > 0
    assert mirror.wait_s(60.2, 1.0) == 0.0  # the fastest answer took 0.1 s


def test_a_window_of_which_no_answer_tells_anything_is_over_some_day() -> None:
    """All of its requests failed without headers, say."""
    mirror = Mirror(0.0, Quota("requests", 1000, 1000, 60.0))
    mirror.heard(10.0, Quota("requests", 1000, 900, 50.0), 10.0, 0, rejected=False)
    mirror.heard(40.0, Quota("requests", 1000, 5, 20.0), 40.0, 0, rejected=False)
    assert mirror.wait_s(60.5, 1.0) == 0.0
    mirror.take(1000)
    assert mirror.wait_s(109.0, 1.0) > 0
    assert mirror.wait_s(110.5, 1.0) == 0.0  # it is as long as the longest reset that was named


@given(
    st.lists(
        st.tuples(st.floats(0, 5), st.floats(1, 1e6), st.floats(0, 1e6), st.none() | st.floats(0, 1e5)),
        max_size=60,
    )
)
def test_whatever_a_provider_shows_somebody_may_go_some_day(shown: list) -> None:
    now, mirror = 0.0, Mirror(0.0, Quota("tokens", 100, 50, 30.0))
    for passed, limit, remaining, reset_s in shown:
        now += passed
        mirror.heard(now, Quota("tokens", limit, min(limit, remaining), reset_s), now, 0.0, rejected=False)
    for _ in range(300):
        if (wait_s := mirror.wait_s(now, 10.0)) == 0:
            return
        assert wait_s > 0
        now += wait_s
    raise AssertionError("it never lets anybody go")


# Ceilings of the user's own


@given(
    st.integers(1, 50),
    st.lists(st.tuples(st.floats(0, 20), st.integers(1, 60)), min_size=1, max_size=200),
)
def test_no_sliding_minute_holds_more_than_the_ceiling(most: int, wishes: list) -> None:
    ceiling, now, sent = Ceiling(most), 0.0, []
    for passed, amount in wishes:
        now += passed
        if ceiling.wait_s(now, amount) == 0:
            ceiling.take(now, amount)
            sent.append((now, amount))
    for moment, amount in sent:
        minute = [this for at, this in sent if moment - MINUTE_S < at <= moment]
        assert sum(minute) <= most or minute == [amount]


@given(st.integers(1, 50), st.integers(0, 200))
def test_the_wait_of_a_ceiling_is_enough_and_not_too_long(most: int, amount: int) -> None:
    ceiling = Ceiling(most)
    for moment in range(most):
        ceiling.take(float(moment) / most, 1.0)
    wait_s = ceiling.wait_s(1.0, amount)
    assert ceiling.wait_s(1.0 + wait_s + 1e-6, amount) == 0
    assert wait_s <= MINUTE_S


def test_tokens_that_were_not_used_go_back_under_the_ceiling() -> None:
    ceiling = Ceiling(1000)
    entry = ceiling.take(0.0, 900.0)
    assert ceiling.wait_s(1.0, 200) > 0
    ceiling.settle(entry, 100.0)
    assert ceiling.wait_s(1.0, 200) == 0
    ceiling.settle(ceiling.take(2.0, 100.0), 900.0)
    assert ceiling.wait_s(3.0, 200) > 0


# All together


def test_a_rejection_that_a_quota_explains_cuts_nothing() -> None:
    admission = Admission(Concurrency(50, 1, 500))
    sent = Sent(0.0, 50, 0, 10, (0.0, 0.0, 0.0))
    admission.sent(sent)
    assert admission.rejected(0.1, sent, 49, (Quota("requests", 100, 0, 30.0),))
    assert (admission.concurrency.limit, admission.pace.rate) == (50, 0)


def test_a_limit_far_below_what_is_in_flight_is_cut_down_to_and_not_taken_for_a_pace() -> None:
    """Rejections come out of order: a low ordinal first, and the cut goes no deeper than to three quarters."""
    admission = Admission(Concurrency(142, 1, 500))
    burst = [Sent(0.0, ordinal, 0, 10, (0.0, 0.0)) for ordinal in range(1, 143)]
    for sent in burst:
        admission.sent(sent)
    admission.concurrency.peak = 142
    for late, ordinal in enumerate((90, 120, 130, 110)):
        admission.rejected(0.1, burst[ordinal - 1], 141 - late)
    assert admission.concurrency.limit == 0.75 * 142
    probe, next_too_many = (
        Sent(at_s, ordinal, 1, 10, (0.0, 0.0)) for at_s, ordinal in ((1.0, 60), (2.0, 95))
    )
    admission.sent(probe)
    admission.accepted(1.5, probe, 59, 1.0, None)
    admission.sent(next_too_many)
    admission.rejected(2.1, next_too_many, 94)
    assert admission.concurrency.limit == 94
    assert admission.pace.rate == 0


def test_an_overloaded_provider_is_asked_by_one_probe_and_the_limit_stays() -> None:
    admission = Admission(Concurrency(50, 1, 500))
    sent = Sent(0.0, 50, 0, 10, (0.0, 0.0, 0.0))
    admission.sent(sent)
    admission.rejected(0.1, sent, 49, overload=True)
    assert admission.concurrency.limit == 50
    assert (admission.wait_s(0.1, 49, 10) or 0) > 0
    assert admission.binding == "probe"
