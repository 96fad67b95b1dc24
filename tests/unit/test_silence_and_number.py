"""The way back after a rejection, how many may be in flight, and the gates together: worked examples."""

from __future__ import annotations

import math
from random import Random

import pytest

from cottonpalm.request.limiter.rules.admission import Admission
from cottonpalm.request.limiter.rules.causes import CHANCE, Doubt, Refusals
from cottonpalm.request.limiter.rules.ceilings import WINDOW_S, Ceiling
from cottonpalm.request.limiter.rules.circuit import OPENS_AT, PATIENT_S, Circuit, Enough, Standing, Streak
from cottonpalm.request.limiter.rules.concurrency import Concurrency
from cottonpalm.request.limiter.rules.recovery import BACKOFF, LONGEST_S, Recovery, State
from cottonpalm.request.limiter.rules.sent import Sent
from cottonpalm.types import Quota, Usage
from tests.support.sent import sent_at

# -- a silence


def held(named_s: float = 0.0, least_s: float = 0.2, now: float = 100.0) -> Recovery:
    recovery = Recovery(8.0)
    recovery.begin(now)
    recovery.hold(now, named_s, least_s)
    return recovery


def test_a_silence_is_as_long_as_is_named_or_a_third_of_itself_more_with_each_refused_probe() -> None:
    recovery, ends = held(), []
    now = 100.0
    for _ in range(6):
        ends.append(recovery.until_s - now)
        now = recovery.until_s
        recovery.refuse(now)
        recovery.hold(now, 0.0, 0.2)
    assert ends[:2] == pytest.approx([0.2, 0.2])
    lengths = [sum(ends[: n + 1]) for n in range(6)]
    for before, after, wait in zip(lengths, lengths[1:], ends[1:], strict=False):
        assert after - before == pytest.approx(max(0.2, 0.33 * before))
        assert wait == pytest.approx(after - before)
    assert held(named_s=7.0).until_s == 107.0
    assert held(named_s=0.1).until_s == pytest.approx(100.2)
    long = held()
    long.hold(1_000.0, 0.0, 0.2)
    assert long.until_s == 1_013.0, "never longer by itself than that"
    long.hold(1_000.0, 60.0, 0.2)
    assert long.until_s == 1_060.0, "but what is named is kept"
    long.hold(1_001.0, 5.0, 0.2)
    assert long.until_s == 1_060.0, "a shorter word does not end a longer one"


def test_a_probe_that_is_admitted_tells_how_long_it_took_and_the_next_silence_begins_from_there() -> None:
    recovery = held()
    recovery.refused = 1
    assert recovery.revive(112.0, 4.0) == 12.0
    assert (recovery.state, recovery.window, recovery.probe) == (State.RAMP, 4.0, None)
    recovery.begin(200.0)
    assert (recovery.refused, recovery.silent_s) == (0, 200.0)
    recovery.hold(200.0, 0.0, 0.2)
    assert recovery.until_s == pytest.approx(200.0 + 0.33 * 12.0)
    assert recovery.revive(203.0, 4.0) == 3.0
    recovery.state = State.OPEN
    recovery.begin(300.0)
    recovery.hold(300.0, 0.0, 0.2)
    assert recovery.until_s == pytest.approx(300.0 + 0.33 * 0.33 * 12.0), "the first probe was let in: less"
    assert Recovery(8.0).revive(-5.0, 1.0) == 0.0


def test_a_refused_probe_shows_that_nothing_had_come_back_by_then() -> None:
    recovery = held()
    recovery.refuse(104.0)
    recovery.refuse(109.0)
    assert recovery.revive(112.0, 4.0) == 3.0
    recovery.begin(200.0)
    recovery.hold(200.0, 0.0, 0.2)
    assert recovery.until_s == pytest.approx(200.0 + 0.33 * 12.0), "it took twelve all the same"


def test_at_first_it_ramps_up_unless_the_number_is_known() -> None:
    first, known = Recovery(8.0), Recovery(8.0, known=True)
    assert (first.state, first.window, known.state) == (State.RAMP, 8.0, State.OPEN)
    known.ramp(5.0)
    assert (known.state, known.window) == (State.RAMP, 5.0)


# -- how many in flight


def test_blind_it_grows_to_four_times_the_first_number_by_two_for_each_that_was_admitted() -> None:
    limit, seen = Concurrency(10.0), []
    for _ in range(40):
        limit.admitted(int(limit.limit), 1.0, may_test=True)
        seen.append(limit.limit)
    assert seen[0] == 12.0
    assert max(seen) == 40.0
    idle = Concurrency(10.0)
    for _ in range(40):
        idle.admitted(4, 1.0, may_test=True)
    assert idle.limit == 10.0, "less than half of it is used"
    idle.admitted(5, 1.0, may_test=True)
    assert idle.limit == 12.0


def test_the_kth_that_is_rejected_says_that_one_less_fits() -> None:
    limit = Concurrency(50.0)
    limit.known = 45.0
    limit.rejected(41, 0.0, 1.0)
    assert (limit.limit, limit.wall, limit.known, limit.starting) == (40, 41.0, 40, False)
    limit.fewer()
    assert (limit.limit, limit.wall, limit.known) == (39, 40.0, 39)
    lowest = Concurrency(50.0, minimum=5)
    lowest.rejected(1, 0.0, 1.0)
    assert lowest.limit == 5


def more_after(limit: Concurrency) -> int:
    """After how many admitted it lets go more than fits."""
    before = limit.limit
    for count in range(1, 3_000):
        limit.admitted(int(limit.limit), limit.limit, may_test=True)
        if limit.limit > before:
            return count
    raise AssertionError("never")


def test_one_more_is_tested_then_two_four_and_eight_and_with_a_quarter_more_it_is_looked_for_anew() -> None:
    limit = Concurrency(200.0, 1, 500)
    limit.rejected(101, 0.0, 1.0)
    assert more_after(limit) == 16
    seen = [limit.limit]
    while not limit.starting:
        limit.admitted(int(limit.limit), limit.limit, may_test=False)  # one that has begun goes on
        if limit.limit != seen[-1]:
            seen.append(limit.limit)
    assert seen == [101, 103, 107, 115, 131, 163, 227]
    assert limit.wall is None
    assert not limit.testing


def test_no_test_begins_while_another_gate_is_tested_nor_below_the_limit() -> None:
    limit = Concurrency(50.0)
    limit.rejected(41, 0.0, 1.0)
    for _ in range(100):
        limit.admitted(40, 40, may_test=False)
        limit.admitted(39, 39, may_test=True)
    assert limit.limit == 40
    limit.admitted(40, 40, may_test=True)
    assert limit.limit == 41


def test_a_test_of_many_more_waits_until_they_are_in_flight() -> None:
    """As many come back meanwhile as half of those that go, so every other one takes a place that came free."""
    limit = Concurrency(200.0, 1, 500)
    limit.rejected(101, 0.0, 1.0)
    in_flight, sent = 100, 0
    while not limit.starting:
        sent += 1
        limit.admitted(in_flight, in_flight, may_test=True)
        in_flight = min(int(limit.limit), in_flight + sent % 2)
        assert sent < 300
    assert limit.limit > 125


@pytest.mark.parametrize(("rejected", "kept"), [(1, True), (6, False)])
def test_a_number_that_is_one_too_many_does_not_pass_for_chance(rejected: int, kept: bool) -> None:
    """One in ten is rejected by chance, whatever their number. Of those that fill it, so many of ten are."""
    limit = Concurrency(200.0, 1, 500)
    limit.rejected(101, 0.0, 1.0)
    for nth in range(1_000):
        if limit.limit != 100:
            break
        if nth % 10 < rejected:
            limit.lost(100, 0.1)
        else:
            limit.admitted(100, 100, may_test=False)
    assert (limit.limit == 100) is kept
    assert kept or (limit.limit, limit.wall) == (99, 100)


def test_after_a_failed_test_the_next_comes_twice_as_late_and_much_later_where_it_cost_a_wait() -> None:
    def next_test(cost: float, ordinal: int = 41) -> int:
        limit = Concurrency(50.0)
        limit.rejected(41, 0.0, 1.0)
        more_after(limit)
        limit.rejected(ordinal, 0.0, cost)
        return more_after(limit)

    assert next_test(1.0) == 32
    assert next_test(5.0) == 160
    assert next_test(1.0, ordinal=42) == 32, "within the step of the test: the same wall"
    assert next_test(1.0, ordinal=30) == 16, "another wall: from the beginning"
    small = Concurrency(50.0)
    small.rejected(5, 0.0, 1.0)
    assert more_after(small) == 5, "a small limit is tested soon"
    tiny = Concurrency(50.0)
    tiny.rejected(2, 0.0, 9.0)
    assert more_after(tiny) == 2


def test_what_the_providers_count_may_be_off_by_is_no_other_wall() -> None:
    limit = Concurrency(50.0)
    limit.rejected(41, 0.0, 1.0)
    limit.rejected(36, 4.0, 1.0)
    assert limit._held == 32
    other = Concurrency(50.0)
    other.rejected(41, 0.0, 1.0)
    other.rejected(36, 3.0, 1.0)
    assert other._held == 16


def test_a_share_of_a_limit_that_others_gave_or_took() -> None:
    limit = Concurrency(50.0, 2, 60)
    limit.moved(20.0, firm=False)
    assert (limit.limit, limit.wall, limit.starting) == (20.0, None, True)
    limit.moved(1.0, firm=True)
    assert (limit.limit, limit.wall, limit.starting) == (2, 3, False), "within the bounds"
    assert more_after(limit) == 16
    limit.moved(40.0, firm=True)
    assert not limit.testing, "what was tested there says nothing here"
    full = Concurrency(60.0, 1, 60)
    assert not full.starting, "all that is allowed needs no looking for"


def test_where_a_number_does_as_much_with_fewer_the_wall_is_forgotten() -> None:
    limit = Concurrency(50.0)
    limit.rejected(41, 0.0, 1.0)
    limit.drowned(0.0, 12.0)
    assert (limit.limit, limit.wall, limit.starting, limit.knee.found) == (12.0, None, False, True)
    limit.rejected(10, 0.0, 1.0)
    assert (limit.limit, limit.knee.found) == (9, False), "a wall ends the search"
    limit.restart(30.0)
    assert (limit.limit, limit.wall, limit.starting, limit.testing) == (30.0, None, True, False)


# -- likelihood of chance


def test_the_share_of_chance_is_counted_within_bounds() -> None:
    doubt = Doubt()
    assert doubt.share == pytest.approx(0.01)
    doubt.went(1_000, trial=False)
    assert doubt.share == CHANCE[0]
    for which in range(30):
        doubt.surprising(which, told=False, silent=False, trial=False)
    assert doubt.share == pytest.approx(30.5 / 1_050)
    for which in range(300):
        doubt.surprising(which, told=False, silent=False, trial=False)
    assert doubt.share == CHANCE[1] == 0.15


def test_those_of_a_trial_tell_nothing_of_chance_beyond_the_first_thousand() -> None:
    """One of ten is rejected, and nine of ten requests are sent in trials."""
    doubt = Doubt()
    for nth in range(1, 101):
        doubt.went(nth * 100 - 90, trial=False)
        doubt.surprising(nth * 100 - 90, told=False, silent=False, trial=False)
        doubt.went(nth * 100, trial=True)
        for rejected in range(9):
            doubt.surprising(nth * 100 - 10 * rejected, told=False, silent=False, trial=True)
        if nth == 20:
            assert doubt.share == pytest.approx(20.5 / (50 + 1_000)), "the first thousand all count"
    assert doubt.share == pytest.approx(100.5 / (50 + 1_000))


@pytest.mark.parametrize(
    ("gap", "trial", "surprising"), [(5, False, True), (6, False, False), (6, True, True)]
)
def test_two_rejections_are_no_chance_if_hardly_anybody_was_admitted_between(
    gap: int, trial: bool, surprising: bool
) -> None:
    """Twice -ln(0.02) is 7.82: 0.66 less for each that was admitted between, against 5, or 3.8 in a trial."""
    doubt = Doubt()
    doubt.went(10_000, trial=False)
    assert not doubt.surprising(100, told=False, silent=False, trial=False)
    assert doubt.surprising(100 + gap, told=False, silent=False, trial=trial) is surprising


def test_older_rejections_count_with_what_was_admitted_since_and_eight_are_remembered() -> None:
    doubt = Doubt()
    doubt.went(10_000, trial=False)
    weight, found = -math.log(0.02), []
    for nth in range(1, 12):
        found.append(doubt.surprising(nth * 6, told=False, silent=False, trial=False))
        if found[-1]:
            break
    ratios = [k * weight - 0.66 * 5 * (k - 1) for k in range(1, 12)]
    bars = (5.0 + math.log1p(before / 8) for before in range(11))
    assert found.index(True) == next(
        n for n, (ratio, bar) in enumerate(zip(ratios, bars, strict=True)) if ratio > bar
    )
    assert len(doubt._recent) <= 8


def test_the_more_are_rejected_by_chance_the_more_have_to_fall_together() -> None:
    """One of a hundred, of 20,000 that all asked as much: without that a dozen pairs would pass for a limit."""
    chance, doubt, found = Random(1), Doubt(), 0
    for nth in range(20_000):
        doubt.went(nth, trial=False)
        if chance.random() < 0.01 and doubt.surprising(nth, told=False, silent=False, trial=False):
            doubt.settled()
            found += 1
    assert found <= 4
    for rejected in range(1, 6):
        if doubt.surprising(20_000 + rejected, told=False, silent=False, trial=False):
            break
    assert rejected <= 4, "a limit rejects all"


def test_what_led_to_a_cause_does_not_make_the_next_one_harder_to_find() -> None:
    doubt, took = Doubt(), list[int]()
    for time in range(200):
        asked = 1_000 * (time + 1)
        doubt.went(asked, trial=False)
        for rejected in range(1, 10):
            if doubt.surprising(asked + rejected, told=False, silent=False, trial=False):
                break
        took.append(rejected)
        doubt.settled()
    assert set(took) == {2}


def test_a_silent_one_where_others_speak_weighs_little_and_one_that_speaks_is_enough() -> None:
    doubt = Doubt()
    found = [doubt.surprising(nth, told=False, silent=True, trial=False) for nth in range(1, 12)]
    assert found.index(True) == next(k for k in range(12) if -(k + 1) * math.log(2 * CHANCE[1]) > 5.0)
    assert Doubt().surprising(1, told=True, silent=False, trial=False)
    late = Doubt()
    late.surprising(1, told=True, silent=False, trial=False)
    assert late.surprising(2, told=False, silent=True, trial=False), "right behind one that spoke"


def test_waits_that_are_named_though_no_more_was_asked_tell_nothing_from_then_on() -> None:
    doubt = Doubt()
    doubt.went(1_000, trial=False)
    assert doubt.waits_tell
    found = [doubt.odd() for _ in range(20)]
    assert found.index(True) == next(n for n in range(20) if (n + 1) / 1_050 > math.exp(-5.66) / 2)
    assert sum(found) == 1, "what was found is looked for again once"
    assert not doubt.waits_tell
    doubt.went(20_000, trial=False)
    assert doubt.waits_tell, "there were none for long"


def test_how_long_a_rejection_takes_is_a_mean_and_four_deviations_of_the_last_eight_or_so() -> None:
    refusals = Refusals(0.1)
    assert (refusals.mean_s, refusals.patience_s, refusals.seen) == (0.1, 0.2, 0)
    refusals.took(0.3)
    assert refusals.mean_s == pytest.approx(0.3), "the first one counts whole"
    assert refusals.patience_s == pytest.approx(0.3 + 4 * 0.2)
    refusals.took(0.5)
    assert refusals.mean_s == pytest.approx(0.4)
    assert refusals.patience_s == pytest.approx(0.4 + 4 * (0.2 + 0.5 * (0.2 - 0.2)))
    for _ in range(100):
        refusals.took(0.5)
    assert refusals.patience_s == pytest.approx(0.5 + 0.01), (
        "however alike they are, news may come a little later"
    )
    refusals.took(1.3)
    assert refusals.mean_s == pytest.approx(0.6, rel=0.01), "an eighth of what is new"
    assert refusals.seen == 103


# -- ceilings


def take(ceiling: Ceiling, at_s: float, amount: float = 1.0) -> Sent:
    """A request of so many tokens, or one request, is sent."""
    sent = sent_at(at_s, 1, amount)
    ceiling.book([sent])
    return sent


def test_a_minute_is_used_evenly_but_for_a_fiftieth_of_it() -> None:
    ceiling, now, went = Ceiling(600), 0.0, []
    while now < 60.0:
        wait_s = ceiling.wait_s(now, 1.0)
        if wait_s <= 0:
            take(ceiling, now)
            went.append(now)
        now += max(wait_s, 1e-4)
    assert sum(at < 0.01 for at in went) == 13, "12 are a fiftieth; and the one after them"
    assert len([at for at in went if 10 <= at < 20]) == pytest.approx(100, abs=2)
    assert len(went) <= 600
    assert ceiling.used == len(went)
    assert ceiling.used_at(200.0) == 0


def test_a_full_minute_waits_until_enough_of_it_is_over() -> None:
    ceiling = Ceiling(10.0)
    for at in range(10):
        take(ceiling, float(at))
    assert ceiling.wait_s(20.0, 1.0) == pytest.approx(WINDOW_S - 20)
    assert ceiling.wait_s(20.0, 3.0) == pytest.approx(WINDOW_S - 18)
    assert ceiling.wait_s(20.0, 99.0) == pytest.approx(WINDOW_S - 11), "all of it, once nothing else is in it"
    assert ceiling.wait_s(60.5, 1.0) <= 0
    assert ceiling.used == 9.0


def test_other_processes_leave_a_portion_of_it() -> None:
    ceiling = Ceiling(100.0)
    ceiling.portion = 10.0
    for at in range(10):
        take(ceiling, 6.0 * at)
    assert ceiling.wait_s(55.0, 1.0) == pytest.approx(WINDOW_S - 55)
    ceiling.portion = 100.0
    assert ceiling.wait_s(55.0, 1.0) == 0.0


def test_what_is_corrected_counts_as_it_is_and_not_any_more_once_it_is_over() -> None:
    ceiling = Ceiling(1_000.0, tokens=True)
    sent = take(ceiling, 0.0, 400.0)
    take(ceiling, 1.0, 100.0)
    ceiling.book([(sent, 900.0)])
    assert ceiling.used == 1_000.0
    assert ceiling.wait_s(2.0, 1.0) == pytest.approx(WINDOW_S - 2)
    assert ceiling.used_at(60.5) == 100.0
    ceiling.book([(sent, 10.0)])
    assert ceiling.used == 100.0, "its minute is over"
    small = Ceiling(10.0, tokens=True)
    small.book([(take(small, 0.0), 0.0)])
    assert small.wait_s(0.0, 1.0) == 0.0, "as if it had not gone"


def test_one_that_did_not_go_after_all_is_taken_out_and_those_sent_after_it_stay() -> None:
    ceiling = Ceiling(1_000.0, tokens=True)
    for at in range(3):
        take(ceiling, float(at), 100.0)
    gone = take(ceiling, 3.0, 500.0)
    take(ceiling, 4.0, 100.0)
    ceiling.undo(gone)
    assert ceiling.used_at(4.0) == 400.0
    assert [ceiling.used_at(WINDOW_S + at + 0.5) for at in (0, 1, 2, 3)] == [300.0, 200.0, 100.0, 100.0]
    ceiling.undo(gone)
    assert ceiling.used_at(100.0) == 0.0


# -- a dead provider


def test_a_streak_ends_with_an_answer_to_what_was_sent_after_it_began() -> None:
    streak = Streak()
    assert streak.failed(good=3, sent=10)
    assert not streak.failed(good=10, sent=12)
    assert not streak.over(10)
    assert streak.over(11)
    assert streak.failed(good=11, sent=20)
    assert streak.failures == 1


def test_a_provider_that_does_a_quarter_of_its_work_is_not_dead() -> None:
    streak = Streak()
    for _ in range(30):
        streak.failed(good=0, sent=0)
    assert streak.tells(40)
    assert not streak.tells(41)


def fails(
    circuit: Circuit,
    now: float = 0.0,
    good: int = 0,
    sent: int = 0,
    *,
    first: bool = True,
    probe: bool = False,
) -> bool:
    """One more fails at a key whose first request was sent at 0, and that accepted as many as `good` says."""
    last = 0 if first else circuit.streak
    return circuit.after(Standing(now, 0.0, good, sent, accepted=good), last=last, probe=probe)


@pytest.mark.parametrize("first", [False, True])
def test_it_opens_after_twenty_different_requests_and_waits_a_third_longer_after_each_probe(
    first: bool,
) -> None:
    circuit = Circuit()
    opened = [fails(circuit, first=first) for _ in range(OPENS_AT)]
    assert opened == [False] * 19 + [first]
    if not first:
        return
    waits = [circuit.wait_s]
    for _ in range(12):
        fails(circuit, first=False, probe=True)
        waits.append(circuit.wait_s)
    assert waits == pytest.approx([min(LONGEST_S, (1 + BACKOFF) ** failed) for failed in range(13)])
    assert waits[-1] == LONGEST_S
    fails(circuit)
    assert circuit.wait_s == LONGEST_S
    assert circuit.is_open(0)
    assert not circuit.is_open(1), "an answer closes it"
    assert not fails(circuit, good=1, sent=5, probe=True)
    assert (circuit.failed, circuit.probes, circuit.wait_s) == (1, 0, 1.0)


@pytest.mark.parametrize(
    ("accepted", "alone", "few"), [(0, 0, 10), (8, 0, 4), (40, 0, 2), (100, 20, 4), (2000, 0, 2)]
)
def test_where_hardly_any_fail_for_themselves_few_tell_that_it_is_dead(
    accepted: int, alone: int, few: int
) -> None:
    circuit = Circuit()
    for good in range(1, alone + 1):  # each is a streak of its own, since one was accepted in between
        assert not fails(circuit, good=good, sent=good - 1)
    for _ in range(few - 1):
        assert not fails(circuit, 10.0, accepted, accepted)
    assert not fails(circuit, 10.0, accepted, accepted, first=False)
    assert fails(circuit, 10.0, accepted, accepted)


def test_few_do_not_tell_before_a_second_try_has_failed() -> None:
    circuit = Circuit()
    for _ in range(10):
        assert not fails(circuit, 10.0, 1_000, 1_000)
    assert fails(circuit, 10.0, 1_000, 1_000, first=False)


def test_few_that_can_go_elsewhere_use_their_tries_first() -> None:
    circuit = Circuit()
    for number in range(2 * OPENS_AT):  # each of them fails twice
        last = 0 if number % 2 == 0 else circuit.streak
        opened = circuit.after(
            Standing(10.0, 0.0, 1_000, 1_000, 1_000), last=last, probe=False, enough=Enough.MANY
        )
        assert opened is (number >= 2 * OPENS_AT - 2), number


def test_few_that_fail_for_as_long_as_all_had_worked_are_bad_themselves() -> None:
    circuit = Circuit()
    for number in range(8):
        opened = fails(circuit, 50.0, 100, 100, first=number % 2 == 0)
    assert opened
    assert fails(circuit, 99.0, 100, 100, first=False, probe=True)
    assert not fails(circuit, 101.0, 100, 100, first=False, probe=True)
    assert not circuit.is_open(100)
    for _ in range(OPENS_AT - circuit.failed):
        opened = fails(circuit, 102.0, 100, 100)
    assert opened, "many are not"
    assert fails(circuit, 1e6, 100, 100, first=False, probe=True)


def test_few_are_believed_for_three_minutes_at_the_most() -> None:
    circuit = Circuit()
    for number in range(8):
        fails(circuit, 5_000.0, 100, 100, first=number % 2 == 0)
    assert fails(circuit, 5_000.0 + PATIENT_S - 1, 100, 100, first=False)
    assert not fails(circuit, 5_000.0 + PATIENT_S + 1, 100, 100, first=False)


# -- the gates together


class Forced(Sent):
    """One that did not ask the gates."""

    __slots__ = ()

    forced = True


class Line:
    """Requests that go through the gates of one key, with what comes back told by hand."""

    def __init__(self, first: float = 10.0, most: float = 500.0, **more: object) -> None:
        self.gates = Admission(Concurrency(first, 1, most), **more)  # type: ignore[arg-type]
        self.now, self.out = 0.0, list[Sent]()

    def wait_s(self, ask: float = 0.0) -> float | None:
        self.gates.look()
        return self.gates.wait_s(self.now, len(self.out), ask)

    def send(self, ask: float = 0.0, *, forced: bool = False) -> Sent:
        sent = sent_at(self.now, len(self.out) + 1, ask, Forced if forced else Sent)
        self.gates.sent(sent)
        self.out.append(sent)
        return sent

    def fill(self, seconds: float = 0.0, most: int = 10_000) -> int:
        """Send as soon as it may for so long; how many went."""
        end, went = self.now + seconds, 0
        while went < most and (wait_s := self.wait_s()) is not None and self.now + wait_s <= end + 1e-9:
            self.now += max(0.0, wait_s)
            if wait_s <= 1e-6:  # else it is asked again
                self.send()
                went += 1
        self.now = end
        return went

    def answer(self, sent: Sent | None = None, used: float | None = None, output: float = 0.0) -> None:
        sent = sent or self.out[0]
        self.out.remove(sent)
        usage = None if used is None else Usage(used - output, output)  # type: ignore[arg-type]
        self.gates.answered(self.now, sent, len(self.out), usage)

    def reject(self, sent: Sent, **how: float) -> None:
        self.out.remove(sent)
        self.gates.rejected(self.now, sent, **how)  # type: ignore[arg-type]


def test_at_first_as_many_go_as_the_first_number_evenly_within_a_refusal_time() -> None:
    line = Line(10.0)
    assert line.wait_s() == pytest.approx(0.0, abs=1e-6) or line.wait_s() < 0
    went = line.fill(0.199)
    assert went == 10, "in the time after which a request counts as admitted"
    gaps = {round(b.at_s - a.at_s, 6) for a, b in zip(line.out, line.out[1:], strict=False)}
    assert gaps == {0.02}
    assert line.gates.binding == "in flight"


def test_each_that_is_admitted_makes_room_for_four_more_without_news_and_for_one_once_some_were_rejected() -> (
    None
):
    line = Line(10.0)
    line.fill(0.199)
    line.now = 0.2
    line.wait_s()
    assert line.gates.recovery.window == 14.0
    assert line.gates.concurrency.limit == 10.0
    line.now = 0.39
    line.wait_s()
    assert line.gates.recovery.window == 50.0
    assert line.gates.concurrency.limit == 22.0, "two more for each from the fifth on"
    before, admitted = line.gates.recovery.window, line.gates._good
    line.gates.refusals.seen = 1
    line.fill(0.3)
    assert line.gates._good > admitted
    assert line.gates.recovery.window - before == line.gates._good - admitted


def test_before_a_usual_time_is_known_only_answers_about_as_quick_as_the_first_make_room() -> None:
    line = Line(10.0)
    line.fill(3.0)
    many, first_s = len(line.out), line.now - line.out[0].at_s
    line.answer()
    line.now = line.out[0].at_s + 4 * first_s
    line.answer()
    assert line.gates.concurrency.limit == many + 8.0
    line.now += first_s
    line.answer()
    assert line.gates.concurrency.limit == many + 8.0, "later ones may be those of a server that many flooded"


@pytest.mark.parametrize("took_s", [50.0, 70.0])
def test_nobody_takes_the_place_of_those_answered_after_a_minute_among_many(took_s: float) -> None:
    own = Line(10.0, ceilings=[("requests", 1e9)])  # so that each request asks the gates
    assert own.fill(3.0) >= 160
    many = len(own.out)
    own.now = took_s
    for _ in range(5):
        own.answer()
        own.fill(0.01)
    assert len(own.out) == (many + 5 * 4 if took_s < 60 else many - 5)
    own.gates.concurrency.expects(100_000)
    own.now += 30.0
    own.fill(0.01)
    assert (len(own.out) <= many - 5) is (took_s > 60), "however many rows turn out to be left"


def test_a_limit_in_flight_waits_for_one_that_comes_back() -> None:
    line = Line(3.0, most=3.0)
    assert line.fill(1.0) == 3
    assert line.wait_s() is None
    assert line.gates.binding == "in flight"
    line.answer()
    assert line.wait_s() == 0.0
    assert line.gates.binding == ""


def test_after_a_rejection_one_probe_goes_and_the_others_only_once_it_was_not_rejected_in_time() -> None:
    line = Line(10.0)
    line.fill(0.1)
    line.now = 0.15
    line.reject(line.out[-1], named_s=3.0)
    assert line.wait_s() == pytest.approx(3.0)
    assert line.gates.binding == "probe"
    assert line.gates.free(line.now, 7) == 0
    line.now = 3.15
    assert line.wait_s() == 0.0
    assert line.gates.free(line.now, 7) == 1
    probe = line.send()
    assert line.gates.free(line.now, 7) == 0
    patience_s = line.gates.refusals.patience_s
    assert line.wait_s() == pytest.approx(patience_s)
    line.now += patience_s
    assert line.wait_s() is not None
    assert probe.known
    assert line.gates.recovery.state is State.RAMP
    assert line.gates.free(line.now, 7) == int(line.gates.recovery.window)


def test_a_probe_that_is_rejected_makes_the_silence_longer() -> None:
    line = Line(10.0)
    line.fill(0.1)
    line.reject(line.out[-1], named_s=1.0)
    began = line.now
    line.now += 1.0
    assert line.wait_s() == 0.0
    probe = line.send()
    line.now += 0.1
    line.reject(probe)
    assert line.wait_s() == pytest.approx(max(0.33 * (line.now - began), line.gates.refusals.mean_s), rel=0.5)
    assert line.gates.recovery.refused == 1


def test_while_the_provider_seems_dead_the_probe_has_to_be_answered() -> None:
    line = Line(10.0)
    line.gates.paused(0.0, 5.0, dead=True)
    assert line.wait_s() == pytest.approx(5.0)
    line.now = 5.0
    assert line.wait_s() == 0.0
    probe = line.send()
    line.now = 60.0
    assert line.wait_s() is None, "however long it takes"
    line.answer(probe)
    assert line.wait_s() is not None
    assert line.gates.recovery.state is State.RAMP


def full_at_twelve() -> Line:
    """A server that takes twelve at once, found and used."""
    line = Line(10.0)
    for _ in range(400):
        line.fill(0.2)
        line.now += 0.05
        for sent in line.out[12:]:
            line.reject(sent)
        line.answer()
    return line


@pytest.mark.parametrize(("answered", "kept"), [(False, True), (True, False)])
def test_what_came_to_nothing_until_the_provider_proved_dead_says_nothing_of_the_number(
    answered: bool, kept: bool
) -> None:
    line = full_at_twelve()
    number = line.gates.concurrency
    was = number.fitting
    assert (number.limit, number.wall) == (12, 13)
    for _ in range(3):
        sent = line.send()
        line.now += 0.02
        line.out.remove(sent)
        line.gates.failed(line.now, sent, len(line.out))
    assert number.limit < 12, "as if the server had room for fewer now"
    if answered:  # by a server that lives
        line.answer(line.send())
    line.gates.paused(line.now, line.now + 1.0, dead=True)
    assert (number.fitting == was) is kept


def test_a_probe_that_does_not_fail_as_soon_as_others_did_finds_the_provider_alive() -> None:
    """It failed at once, and an answer takes half a minute: nobody waits so long to know that it works again."""
    line = Line(10.0)
    for _ in range(8):
        sent = line.send()
        line.now += 0.3
        line.out.remove(sent)
        line.gates.ignored(line.now, sent)
    line.gates.paused(line.now, line.now + 5.0, dead=True)
    line.now += 5.0
    assert line.wait_s() == 0.0
    line.send()
    line.now += 0.25
    wait_s = line.wait_s()
    assert wait_s is not None
    assert 0.05 < wait_s < 2.0, "so soon it could fail as well"
    line.now += wait_s
    assert line.wait_s() is not None
    assert (line.gates.recovery.state, line.gates.recovery.dead) == (State.RAMP, False)


def test_where_failures_take_long_a_probe_has_to_live_as_long() -> None:
    line = Line(10.0)
    sent = [line.send() for _ in range(8)]
    line.now += 60.0
    for each in sent:
        line.out.remove(each)
        line.gates.failed(line.now, each, len(line.out))
    line.gates.paused(line.now, line.now + 5.0, dead=True)
    line.now += 5.0
    assert line.wait_s() == 0.0
    line.send()
    line.now += 30.0
    wait_s = line.wait_s()
    assert wait_s is not None
    assert wait_s >= 30.0


def test_a_request_that_goes_by_force_is_no_probe() -> None:
    line = Line(10.0)
    line.gates.paused(0.0, 5.0)
    line.now = 5.0
    line.wait_s()
    line.send(forced=True)
    assert line.gates.recovery.probe is None
    assert line.wait_s() == 0.0


def test_a_shorter_pause_does_not_end_a_longer_one_and_a_longer_one_holds() -> None:
    line = Line(10.0)
    line.gates.paused(0.0, 10.0)
    line.gates.paused(1.0, 4.0)
    assert line.gates.recovery.until_s == 10.0
    line.gates.paused(2.0, 20.0)
    assert line.gates.recovery.until_s == 20.0
    line.now = 9.0
    assert line.wait_s() == pytest.approx(11.0)


def test_a_probe_that_did_not_go_after_all_leaves_its_turn_to_the_next() -> None:
    line = Line(10.0)
    line.gates.paused(0.0, 1.0)
    line.now = 1.0
    line.wait_s()
    probe = line.send()
    assert line.gates.recovery.probe is probe
    line.out.remove(probe)
    line.gates.undone(probe)
    assert line.gates.recovery.probe is None
    assert line.wait_s() == 0.0


def test_ceilings_hold_requests_and_tokens_and_say_which() -> None:
    line = Line(100.0, most=100.0, ceilings=[("requests", 60.0), ("tokens", 6_000.0)])
    went = 0
    while (wait_s := line.wait_s(ask=10.0)) is not None and wait_s <= 0:
        line.send(ask=10.0)
        went += 1
    assert went == 2, "a fiftieth of a minute's worth, and one"
    assert line.gates.binding == "own requests"
    line.now = 30.0
    line.send(ask=5_000.0)
    wait_s = line.wait_s(ask=2_000.0)
    assert wait_s is not None
    assert wait_s > 20
    assert line.gates.binding == "own tokens"
    line.answer(line.out[-1], used=100.0)
    assert line.wait_s(ask=2_000.0) == pytest.approx(0.0, abs=1.5), "most of it was not used"


def test_one_that_did_not_go_is_none_of_the_ceilings() -> None:
    line = Line(100.0, most=100.0, ceilings=[("requests", 60.0), ("tokens", 6_000.0)])
    sent = line.send(ask=5_000.0)
    line.out.remove(sent)
    line.gates.undone(sent)
    assert [ceiling.used for _, ceiling in line.gates.ceilings] == [0.0, 0.0]


def test_the_output_of_an_answer_is_taken_as_that_of_the_last_ones_and_never_above_its_bound() -> None:
    line = Line(10.0)
    assert line.gates.output_tokens(None) == 1_024
    assert line.gates.output_tokens(50) == 50
    for _ in range(20):
        line.send()
        line.now += 1.0
        line.answer(used=300.0, output=200.0)
    assert line.gates.output_tokens(None) == 200
    assert line.gates.output_tokens(50) == 50
    assert line.gates.output_tokens(5_000) == 200
    assert line.gates.trip_s == pytest.approx(1.0)


def test_where_large_requests_are_rejected_the_rate_counts_tokens() -> None:
    line = Line(100.0, most=100.0)
    for _ in range(50):
        line.send(ask=100.0)
        line.now += 1.0
        line.answer(used=100.0)
    gates = line.gates
    assert gates._weigh(500.0) == 1.0
    for _ in range(6):
        line.now += 40.0
        line.wait_s()
        for _ in range(3):
            line.send(ask=100.0)
        sent = line.send(ask=1_000.0)
        line.now += 0.05
        line.reject(sent, named_s=1.0)
        while line.out:
            line.now += 0.5
            line.answer(used=100.0)
    assert gates.heavy > 2.0
    assert gates._weigh(2 * gates.usual_ask) == pytest.approx(2.0)
    assert line.send(ask=3 * gates.usual_ask).cost == pytest.approx(3.0)


def test_an_overloaded_provider_is_left_alone_for_a_moment_and_nothing_is_cut() -> None:
    line = Line(10.0, most=10.0)
    line.fill(0.5)
    before = line.gates.concurrency.limit
    line.reject(line.out[-1], overload=True)
    assert line.gates.concurrency.limit == before
    assert line.gates.bucket.rate == 0.0
    assert line.gates.recovery.state is State.HELD


def test_one_rejection_without_a_word_is_chance_and_costs_nothing() -> None:
    line = Line(20.0, most=20.0)
    line.fill(0.5)
    line.now = 1.0
    line.reject(line.out[4])
    assert line.gates.concurrency.limit == 20.0
    assert line.gates.recovery.state is not State.HELD
    assert line.wait_s() is not None


def test_connections_that_break_at_once_above_what_fits_are_a_wall() -> None:
    line = Line(40.0, most=40.0)
    for _ in range(8):
        line.send()
        line.now += 1.0
        line.answer()
    line.gates.concurrency.known = 4.0
    for _ in range(4):
        line.send()
    for _ in range(4):
        line.now += 0.01
        sent = line.send()
        line.out.remove(sent)
        line.now += 0.02
        line.gates.failed(line.now, sent, len(line.out))
    assert line.gates.concurrency.limit < 6


def test_quotas_hold_the_gate_they_are_of() -> None:
    line = Line(500.0, most=500.0)
    level, at, rejected, held = 50.0, 0.0, 0, set[str]()
    for _ in range(600):
        while (wait_s := line.wait_s(ask=10.0)) is None or wait_s > 1e-6:
            held.add(line.gates.binding)
            line.now += wait_s or 0.01
        sent = line.send(ask=10.0)
        level, at = min(50.0, level + 5.0 * (line.now - at)), line.now
        if level < 1:
            rejected += 1
            line.reject(sent, named_s=0.2)
            continue
        level -= 1
        line.gates.heard(sent, [Quota("requests", 50.0, float(int(level)), (50 - level) / 5.0)])
        line.now += 0.02
        line.answer(sent, used=10.0)
    assert line.gates.quotas.trusted
    assert "requests" in held
    assert rejected <= 6
    assert 600 / line.now >= 0.8 * 5.0
