"""What admission makes of what comes back, told request by request: means, causes, silences, and what is restored."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from cottonpalm.request.limiter.rules.admission import MANY
from cottonpalm.request.limiter.rules.causes import ENOUGH, Cause, Overload, unlikely
from cottonpalm.request.limiter.rules.recovery import State
from cottonpalm.types import Quota, Usage
from tests.support.sent import sent_at
from tests.unit.test_silence_and_number import Line

if TYPE_CHECKING:
    from cottonpalm.request.limiter.rules.sent import Sent


def settled(first: float = 10.0, answers: int = 20, took_s: float = 1.0, most: float = 500.0) -> Line:
    """A line that has seen so many answers, one at a time."""
    line = Line(first, most)
    for _ in range(answers):
        line.send(ask=100.0)
        line.now += took_s
        line.answer(used=100.0)
    return line


def crowd(line: Line, number: int, gap_s: float = 0.01) -> list[Sent]:
    """So many more are sent, and not heard of yet."""
    sent = []
    for _ in range(number):
        line.now += gap_s
        sent.append(line.send(ask=100.0))
    return sent


def admitted_probe(line: Line) -> Sent:
    """After a wait of a second one goes, and is not rejected."""
    line.now += 1.0
    line.wait_s()
    probe = line.send(ask=100.0)
    line.now += line.gates.refusals.patience_s
    line.wait_s()
    return probe


# -- means


def test_the_time_of_an_answer_is_the_mean_of_all_and_then_of_about_the_last_hundred() -> None:
    line = Line(10.0)
    for seconds in (1.0, 2.0, 6.0):
        sent = line.send()
        line.now += seconds
        line.answer(sent)
    assert line.gates.trip_s == pytest.approx(3.0)
    for _ in range(97):
        sent = line.send()
        line.now += 3.0
        line.answer(sent)
    assert line.gates.trip_s == pytest.approx(3.0)
    sent = line.send()
    line.now += 103.0
    line.answer(sent)
    assert line.gates.trip_s == pytest.approx(4.0), "a hundredth of what is new"
    assert line.gates.answer_s(1e9) == line.gates.trip_s


def test_where_nobody_looks_at_each_answer_sixty_four_move_the_means_as_they_would_have_one_by_one() -> None:
    line = settled(answers=128)
    gates = line.gates
    gates.calm = True
    for _ in range(MANY):
        assert (gates.trip_s, gates.usual_ask) == (pytest.approx(1.0), pytest.approx(100.0)), "not before"
        sent = line.send(ask=300.0)
        line.now += 5.0
        gates.answered(line.now, sent, 0, Usage(10, 900))
    old = 0.99**MANY
    assert gates.trip_s == pytest.approx(1.0 * old + 5.0 * (1 - old))
    assert gates.usual_ask == pytest.approx(100.0 * old + 300.0 * (1 - old))
    assert gates.expected == pytest.approx(900 * (1 - old), abs=1)


def test_what_is_no_answer_has_the_means_take_up_the_answers_before_it() -> None:
    line = settled(answers=128)
    gates = line.gates
    gates.calm = True
    sent, failed = line.send(ask=100.0), line.send(ask=100.0)
    line.now += 101.0
    gates.answered(line.now, sent, 1)
    assert gates.trip_s == pytest.approx(1.0)
    gates.failed(line.now, failed, 0)
    assert gates.trip_s == pytest.approx(2.0)


def test_before_the_first_answer_one_takes_as_long_as_the_first_is_under_way() -> None:
    line = Line(10.0)
    assert line.gates.answer_s(50.0) == 0.0
    line.now = 5.0
    line.send()
    line.now = 12.0
    assert line.gates.answer_s(line.now) == 7.0


def test_the_output_counts_where_usage_is_known() -> None:
    line = Line(10.0)
    for used, output in ((100.0, 40.0), (None, 9_999.0), (100.0, 60.0)):
        sent = line.send(ask=100.0)
        line.now += 1.0
        line.answer(sent, used=used, output=output)
    assert line.gates.output_tokens(None) == int(40 + (60 - 40) / 3)


def test_what_is_not_rejected_in_time_was_admitted_and_an_answer_says_so_at_once() -> None:
    line = Line(10.0)
    early, late = line.send(), line.send()
    assert line.gates._unsure == 2
    line.now = 0.05
    line.answer(late)
    assert (early.known, late.known, line.gates._unsure, line.gates._good) == (False, True, 1, 1)
    line.now = 0.19
    line.wait_s()
    assert not early.known
    line.now = 0.2
    line.wait_s()
    assert (early.known, line.gates._unsure, line.gates._good) == (True, 0, 2)
    line.answer(early)
    assert line.gates._good == 2, "once"


def test_one_that_ended_without_a_word_is_no_news() -> None:
    line = Line(10.0)
    sent = line.send()
    line.out.remove(sent)
    line.gates.ignored(line.now, sent)
    assert (line.gates._unsure, line.gates._good, line.gates.trip_s) == (0, 0, 0.0)


# -- causes


def test_more_in_flight_than_ever_fitted_and_the_same_pace_is_the_number() -> None:
    line = settled()
    gates = line.gates
    gates.concurrency.starting = False
    gates.concurrency.rejected(6, 0.0, 1.0)  # five fit
    while not gates.concurrency.testing:
        gates.concurrency.admitted(int(gates.concurrency.limit), 5.0, may_test=True)
        assert gates.concurrency.limit < 50
    gates.concurrency.limit, gates.concurrency._step = 6.0, 1
    sent = crowd(line, 6)
    line.now += 0.05
    line.reject(sent[-1], named_s=2.0)
    assert gates.cause is Cause.NUMBER
    assert (gates.concurrency.limit, gates.concurrency.wall) == (5, 6.0)
    assert gates.bucket.rate == 0.0
    assert gates.recovery.state is State.HELD
    assert gates.recovery.until_s == pytest.approx(line.now + 2.0), "a wait that is named is kept"
    line.now += 0.5
    line.answer(sent[0])
    assert gates.recovery.until_s > line.now, "even if a place comes free"


def test_all_of_a_burst_that_are_rejected_make_it_one_fewer_each() -> None:
    line = settled(first=30.0)
    sent = crowd(line, 20, gap_s=0.001)
    line.now += 0.05
    line.reject(sent[-1], named_s=1.0)
    assert line.gates.cause is Cause.BOTH
    assert line.gates.concurrency.limit == 19
    for nth, late in enumerate(sent[15:19], start=1):
        line.reject(late, named_s=1.0)
        assert line.gates.concurrency.limit == 19 - nth
    assert line.gates.generation == 1, "one cause"
    later = settled(first=30.0)
    sent = crowd(later, 20, gap_s=0.001)
    later.reject(sent[10], named_s=1.0)
    assert later.gates.concurrency.limit == 10
    later.reject(sent[15], named_s=1.0)
    assert later.gates.concurrency.limit == 10, "that one was above it anyway"


def test_one_that_is_rejected_all_alone_was_not_rejected_for_their_number() -> None:
    line = settled(first=30.0)
    gates = line.gates
    before = gates.concurrency.limit
    line.now += 5.0
    alone = line.send(ask=100.0)
    others = crowd(line, 5, gap_s=0.001)
    line.reject(others[-1], named_s=1.0)
    assert gates.concurrency.limit == 5
    line.reject(alone, named_s=1.0)
    assert gates.cause is Cause.CHANGED
    assert gates.concurrency.limit == before, "what was blamed is restored"


def test_a_rejection_below_all_that_is_known_to_fit_says_that_something_changed() -> None:
    line = settled(first=30.0)
    gates = line.gates
    crowd(line, 12)
    line.now += 5.0
    line.wait_s()
    while line.out:
        line.answer()
    gates.bucket.rate, gates.bucket.depth = 100.0, 100.0
    before = gates.concurrency.limit
    sent = crowd(line, 4, gap_s=0.2)
    line.now += 0.05
    line.reject(sent[-1], named_s=1.0)
    assert gates.cause is Cause.CHANGED
    assert gates.concurrency.limit == before, "nothing is cut"
    assert gates.recovery.state is State.HELD
    line.now += 1.0
    assert line.wait_s() is not None
    probe = line.send(ask=100.0)
    line.now += 0.1
    line.reject(probe)
    line.now = gates.recovery.until_s
    line.wait_s()
    line.send(ask=100.0)
    line.now += 1.0
    line.wait_s()
    assert gates.recovery.state is not State.HELD
    assert gates.bucket.learning, "the rate is looked for again"
    assert gates.concurrency.starting, "and so is the number"


def test_where_the_probe_is_admitted_with_as_many_in_flight_it_was_time_that_helped() -> None:
    line = settled(first=30.0, took_s=30.0)
    gates = line.gates
    before = gates.concurrency.limit
    sent = crowd(line, 9, gap_s=0.001)
    line.now += 0.05
    line.reject(sent[-1], named_s=1.0)
    assert gates.concurrency.limit == 8
    line.now += 1.0
    assert line.wait_s() == 0.0, "a probe goes, with eight still under way"
    probe = line.send(ask=100.0)
    assert probe.ordinal == 9
    line.now += gates.refusals.patience_s
    line.wait_s()
    assert gates.concurrency.limit == before
    assert gates.concurrency.known == 9
    assert gates.bucket.blamed
    assert (gates.bucket.learning, gates.bucket.mark_s) == (True, sent[-1].at_s), "since when it was empty"
    assert gates.recovery.state is not State.PROBE


def test_who_was_rejected_while_the_probe_was_under_way_was_not_there_with_it() -> None:
    line = settled(first=30.0, took_s=30.0)
    gates = line.gates
    sent = crowd(line, 9, gap_s=0.001)
    line.now += 0.05
    line.reject(sent[4], named_s=1.0)
    for _ in range(3):
        line.answer()
    line.now += 1.0
    assert line.wait_s() == 0.0
    probe = line.send(ask=100.0)
    assert probe.ordinal == 6, "more than were rejected, as far as anybody knew then"
    for late in sent[5:]:
        line.reject(late)
    line.now += gates.refusals.patience_s
    line.wait_s()
    assert gates.recovery.state is not State.PROBE
    assert gates.concurrency.limit == 4
    assert not gates.bucket.blamed, "nothing says that time had helped"


def test_with_fewer_in_flight_the_probe_says_nothing_of_them() -> None:
    line = settled(first=30.0)
    gates = line.gates
    sent = crowd(line, 9, gap_s=0.001)
    line.now += 0.05
    line.reject(sent[-1], named_s=1.0)
    while line.out:
        line.now += 0.1
        line.answer()
    admitted_probe(line)
    assert gates.concurrency.limit == 8
    assert not gates.bucket.blamed
    assert gates.recovery.window == 3.0, "two without news, or a quarter of the number; and the one admitted"


def test_a_failed_test_of_what_is_known_costs_no_silence() -> None:
    line = settled(first=30.0, answers=40)
    gates = line.gates
    sent = crowd(line, 9, gap_s=0.001)
    line.now += 0.05
    line.reject(sent[-1], named_s=1.0)
    gates.recovery.state, gates._saved = State.OPEN, None
    gates.cause = Cause.NUMBER
    while line.out:
        line.now += 0.5
        line.answer()
    for _ in range(6):  # eight fit, over and over
        crowd(line, 8, gap_s=0.5)
        line.now += 3.0
        line.wait_s()
        while line.out:
            line.answer()
    gates.concurrency.limit, gates.concurrency._step = 9.0, 1
    gates.recovery.state = State.OPEN
    gates.bucket.learning = False
    sent = crowd(line, 9, gap_s=0.5)
    line.now += 0.05
    gates._speaks = False
    gates._doubt.surprising(sent[-1].asked, told=True, silent=False, trial=True)
    line.reject(sent[-1])
    assert gates.cause in (Cause.NUMBER, Cause.BOTH)
    assert gates.concurrency.limit == 8
    assert gates.recovery.state is State.OPEN, "what fits is known: nobody has to wait"


def test_a_rejection_that_comes_after_it_was_taken_for_admitted_takes_that_back() -> None:
    line = settled(first=30.0)
    gates = line.gates
    sent = crowd(line, 9, gap_s=0.001)
    line.now += 5.0
    line.wait_s()
    assert gates.concurrency.known >= 9
    line.reject(sent[-1], named_s=1.0)
    assert gates.concurrency.known <= 8
    assert gates.refusals.patience_s > 5.0, "rejections take that long here"


def test_before_the_first_answer_a_silence_lasts_a_third_of_the_time_so_far() -> None:
    line = Line(10.0)
    crowd(line, 9)
    line.now = 6.0
    line.wait_s()
    sent = line.send()
    line.now = 6.1
    line.reject(sent, named_s=0.01)
    silence_s = line.gates.recovery.until_s - line.now
    assert silence_s == pytest.approx(0.33 * 6.1, rel=0.05)
    known = settled()
    sent_ = crowd(known, 5)[-1]
    known.now += 0.1
    known.reject(sent_, named_s=0.01)
    assert known.gates.recovery.until_s - known.now == pytest.approx(known.gates.refusals.mean_s)


def test_a_wait_makes_the_next_test_rarer_by_what_could_have_been_sent_in_it() -> None:
    def hold(named_s: float, took_s: float) -> int:
        line = settled(first=30.0, took_s=took_s)
        number = line.gates.concurrency
        number.rejected(10, 0.0, 1.0)
        sent = crowd(line, 10, gap_s=0.001)
        line.now += 0.05
        line.reject(sent[-1], named_s=named_s)
        return number._hold

    assert hold(0.01, 1.0) == pytest.approx(20, abs=3)
    assert hold(3.0, 1.0) == pytest.approx(20 * (1 + 3.0 * 10 / 1.0), rel=0.05)
    assert hold(3.0, 2.0) == pytest.approx(20 * (1 + 3.0 * 10 / 2.0), rel=0.05)


# -- tokens


@pytest.mark.parametrize(("ask", "per_rejection"), [(1_000.0, math.log(10)), (50.0, math.log(0.5))])
def test_large_ones_that_are_rejected_speak_for_tokens_and_small_ones_against(
    ask: float, per_rejection: float
) -> None:
    line = settled()
    gates = line.gates
    seen = [gates.heavy]
    for _ in range(4):
        line.now += 30.0
        gates.recovery.state = State.OPEN
        line.wait_s()
        sent = line.send(ask=ask)
        line.now += 0.05
        line.reject(sent, named_s=1.0)
        seen.append(gates.heavy)
    assert seen[1] == pytest.approx(per_rejection, rel=0.02)
    assert abs(seen[-1]) <= 4.0, "within bounds, so that it can change its mind"


def test_an_overload_says_nothing_of_tokens() -> None:
    line = settled()
    sent = line.send(ask=10_000.0)
    line.reject(sent, overload=True)
    assert line.gates.heavy == 0.0
    assert line.gates.cause is Cause.OVERLOAD


# -- what comes to nothing


def drown(line: Line, took_s: float, number: int) -> None:
    sent = crowd(line, number, gap_s=0.001)
    line.now += took_s
    line.wait_s()
    for one in sent:
        if one.generation != line.gates.generation:
            break
        line.out.remove(one)
        line.gates.failed(line.now, one, len(line.out))


def test_many_that_fail_far_too_late_are_a_server_that_is_full() -> None:
    line = settled(first=40.0, answers=50)
    drown(line, 30.0, 20)
    assert line.gates.concurrency.limit < 12
    assert line.gates.concurrency.knee.found
    assert line.gates.generation == 1


def test_a_probe_that_is_under_way_when_a_server_is_found_to_be_full_is_admitted_all_the_same() -> None:
    line = settled(first=40.0, answers=50)
    lost, rejected = crowd(line, 20, gap_s=0.001), crowd(line, 2)
    for sent in rejected:
        line.now += 0.05
        line.reject(sent, named_s=1.0)
    line.now += 30.0
    assert line.wait_s() == 0.0
    probe = line.send()
    assert line.gates.recovery.probe is probe
    generation = line.gates.generation
    for sent in lost[:10]:
        line.out.remove(sent)
        line.gates.failed(line.now, sent, len(line.out))
    assert line.gates.generation == generation + 1
    assert line.gates.concurrency.limit < 10
    for sent in lost[10:]:
        line.out.remove(sent)
        line.gates.ignored(line.now, sent)
    line.now += 2 * line.gates.refusals.patience_s
    assert line.wait_s() == 0.0, "else nobody would ever go again"
    assert line.gates.recovery.state is not State.PROBE
    assert line.gates.concurrency.limit < 10, "and it gives no number back that is known to be too high"


def test_those_that_fail_in_the_time_of_an_answer_or_between_many_answers_are_not() -> None:
    soon = settled(first=40.0, answers=50)
    drown(soon, 0.9, 20)
    assert soon.gates.generation == 0
    few = settled(first=40.0, answers=50)
    for _ in range(20):
        drown(few, 30.0, 1)
        for _ in range(10):
            few.send(ask=100.0)
            few.now += 1.0
            few.answer(used=100.0)
    assert few.gates.generation == 0, "each answer takes some of the doubt"


def test_some_that_are_never_answered_while_many_others_are_say_nothing_of_the_number() -> None:
    line = settled(first=40.0, answers=50)
    hung = crowd(line, 20, gap_s=0.001)
    for _ in range(20):
        line.send(ask=100.0)
        line.now += 1.0
        line.answer(line.out[-1], used=100.0)
    for one in hung:
        line.out.remove(one)
        line.gates.failed(line.now, one, len(line.out))
    assert line.gates.generation == 0, "as many were answered since as were in flight with them"


def test_what_breaks_at_once_below_what_fits_is_no_wall() -> None:
    line = settled(first=40.0, answers=50)
    line.gates.concurrency.known = 10.0
    for _ in range(30):
        sent = crowd(line, 1)[0]
        line.now += 0.02
        line.out.remove(sent)
        line.gates.failed(line.now, sent, len(line.out))
    assert line.gates.generation == 0
    assert line.gates.concurrency.limit >= 40.0


# -- shown quotas


def test_a_rejection_that_shows_an_empty_quota_is_for_that_and_cuts_no_number() -> None:
    line = settled(first=30.0)
    gates = line.gates
    for nth in range(40):
        sent = line.send(ask=100.0)
        gates.heard(sent, [Quota("requests", 60.0, float(60 - nth % 50), 1.0 * (nth % 50))])
        line.now += 1.0
        line.answer(sent, used=100.0)
    limit = gates.concurrency.limit
    sent = line.send(ask=100.0)
    line.now += 0.05
    line.out.remove(sent)
    gates.rejected(line.now, sent, [Quota("requests", 60.0, 0.0, 30.0)])
    assert gates.cause is Cause.RATE, "one that shows a quota is never chance"
    assert gates.concurrency.limit == limit
    assert gates.quotas.shown["requests"].trusted, "one that is off once may be off by one; how far counts"


def test_a_rate_that_is_let_go_is_followed_by_a_ramp_and_not_by_a_burst() -> None:
    line = settled(first=200.0, most=500.0)
    gates = line.gates
    bucket = gates.bucket
    bucket.rate, bucket.depth, bucket._depth_known, bucket.extra = 20.0, 1.0, True, 1.9
    gates.recovery.state = State.OPEN
    for _ in range(200):
        wait_s = line.wait_s(ask=100.0)
        assert wait_s is not None
        line.now += max(0.0, wait_s)
        line.send(ask=100.0)
        if not bucket.rate:
            break
    assert bucket.rate == 0.0, "three times as much fitted"
    assert gates.recovery.state is State.RAMP
    pace = 20.0 * (1 + 1.9)
    assert gates.recovery.window == pytest.approx(pace * gates.refusals.patience_s + 4, rel=0.02)
    before_s = line.now
    wait_s = line.wait_s(ask=100.0)
    assert wait_s is not None
    assert wait_s > 0, "evenly spaced"
    assert line.now == before_s


# -- while nobody knows how long an answer takes


def go(line: Line, until_s: float) -> int:
    """Send whenever it may until then, and look again after each wait; how many are in flight."""
    while (wait_s := line.wait_s()) is not None and line.now + max(0.0, wait_s) <= until_s:
        if wait_s <= 1e-6:
            line.send()
        line.now += max(0.0, wait_s)
    line.now = until_s
    return len(line.out)


def grown(line: Line, seconds: float) -> object:
    """Half of the first number, times the square of the time, in times of patience; one less as they go evenly."""
    number = line.gates.concurrency.first / 2 * (seconds / line.gates.refusals.patience_s) ** 2
    return pytest.approx(number, rel=0.05)


def test_the_longer_nobody_answers_the_more_go_up_to_sixteen_times_the_first_number() -> None:
    line = Line(10.0)
    assert [go(line, until_s) for until_s in (0.8, 1.0, 60.0)] == [grown(line, 0.8), grown(line, 1.0), 160]
    line = Line(10.0)
    line.gates.concurrency.expects(2_000)
    moments = (0.5, 1.0, 1.5, 1.9)
    assert [go(line, until_s) for until_s in moments] == [grown(line, until_s) for until_s in moments]
    assert go(line, 60.0) == 500, "of so many, a quarter"
    assert go(Line(10.0, most=50.0), 60.0) == 50, "never more than are allowed"
    line = Line(10.0)
    line.send()
    line.now = 0.5
    line.answer()
    assert go(line, 60.0) == 40, "from the first answer on, only what is admitted and answered makes it more"
    line.gates.concurrency.expects(80)
    assert go(line, 120.0) == 160, "it tells nothing of others, whom it kept waiting"
    known = settled(first=100.0, answers=400)
    known.gates.concurrency.expects(80)
    assert go(known, known.now + 60.0) <= 400, (
        "once as many are answered as were let go at once, only answers make it more"
    )


def test_after_a_rejection_that_leaves_the_number_open_more_go_only_as_time_passes_since_then() -> None:
    line = Line(10.0)
    line.gates.concurrency.expects(2_000)
    before = go(line, 1.0)
    line.reject(line.out[-1], overload=True)
    moments = (3.0, 4.0)
    assert go(line, 1.5) == before, "as much time has to pass as at first"
    assert [go(line, until_s) for until_s in moments] == [grown(line, until_s - 1.0) for until_s in moments]


# -- one more than is known to fit


def tried(line: Line, fit: int) -> Line:
    """So many are known to fit, and one more is being tried."""
    number = line.gates.concurrency
    number.rejected(fit + 1, 0.0, 1.0)
    while not number.testing:
        number.admitted(int(number.limit), float(fit), may_test=True)
    line.gates.recovery.state = State.OPEN
    return line


def goes_at_once_up_to(line: Line, fit: int, gap_s: float) -> None:
    """As many as fit go at once, and the next one so long after the last of them."""
    for _ in range(fit):
        assert line.wait_s() == 0.0, "as many as are known to fit go at once"
        line.send(ask=100.0)
    assert line.wait_s() == pytest.approx(gap_s)
    line.now += gap_s
    assert line.wait_s() == pytest.approx(0.0, abs=1e-6)


def test_one_more_than_fits_does_not_go_in_one_breath_with_another() -> None:
    line = tried(settled(), 5)
    line.now += 5.0
    goes_at_once_up_to(line, 5, 1.0 / 12)  # half of the time in which one of six answers comes


def test_while_a_pace_is_suspected_more_than_fits_does_not_go_in_one_breath_with_another() -> None:
    line = settled()
    line.gates.recovery.state = State.OPEN
    line.gates.concurrency.set(10.0)
    line.gates.concurrency.known = 2.0
    line.now += 5.0
    line.gates.bucket.learn(line.now, 1.0)
    goes_at_once_up_to(line, 2, 1.0 / 20)  # half of the time in which one of ten answers comes


def test_what_held_requests_back_besides_their_number_says_nothing_of_the_number() -> None:
    def moves(**ceiling: float) -> bool:
        line = Line(10.0, ceilings=list(ceiling.items()))
        line.gates.concurrency.drowned(0.0, 10.0)
        line.gates.recovery.state = State.OPEN
        limits = set()
        for _ in range(400):
            wait_s = line.wait_s()
            if wait_s is None or wait_s > 1e-6:
                line.now += 0.05
                line.answer() if line.out else None
            else:
                line.send()
            limits.add(line.gates.concurrency.limit)
        return len(limits) > 1

    assert moves()
    assert not moves(requests=600.0)


# -- growing at the start


@pytest.mark.parametrize(("others", "limit"), [(3, 10.0), (4, 14.0)])
def test_an_answer_makes_room_for_four_more_where_half_of_the_limit_was_used(
    others: int, limit: float
) -> None:
    line = Line(10.0)
    sent = line.send()
    for _ in range(others):
        line.send()
    line.gates.concurrency.busy = True  # until they are admitted
    line.now += 1.0
    line.wait_s()
    line.gates.concurrency.busy = False
    line.answer(sent)
    assert line.gates.concurrency.limit == limit


# -- failures, to the last one


def test_nine_that_fail_too_late_are_a_full_server_of_which_half_as_many_fit() -> None:
    line = settled(first=40.0, answers=50)
    sent = crowd(line, 20, gap_s=0.001)
    line.now += 30.0
    line.wait_s()
    for one in sent[:8]:
        line.out.remove(one)
        line.gates.failed(line.now, one, len(line.out))
    assert line.gates.generation == 0
    line.out.remove(sent[8])
    line.gates.failed(line.now, sent[8], len(line.out))
    assert line.gates.generation == 1
    assert line.gates.concurrency.limit == (11 + 1) / 2


def test_before_the_first_answer_who_fails_soon_is_not_late_whoever_seemed_admitted_by_then() -> None:
    line = Line(40.0)
    first = line.send()
    for took_s, full in ((0.3, False), (60.0, True)):
        line.now += 10.0
        sent = crowd(line, 20, gap_s=0.001)
        line.now += took_s
        line.wait_s()
        for one in sent:
            assert one.known
            line.out.remove(one)
            line.gates.failed(line.now, one, len(line.out))
        assert line.gates.concurrency.knee.found is full
    assert line.out == [first]


def test_who_fails_in_just_the_time_of_an_answer_is_not_late_and_in_just_half_of_it_not_early() -> None:
    line = settled(first=40.0, answers=50)
    sent = [line.send(ask=100.0) for _ in range(20)]
    line.now += 1.0
    line.wait_s()
    for one in sent:
        line.out.remove(one)
        line.gates.failed(line.now, one, len(line.out))
    assert line.gates.generation == 0
    seen = line.gates.refusals.seen
    line.gates.refusals.patience_s = 2.0  # nobody is known to be admitted yet
    for early_s, more in ((0.5, 0), (0.49, 1)):
        one = line.send(ask=100.0)
        line.now += early_s
        line.out.remove(one)
        line.gates.failed(line.now, one, len(line.out))
        assert line.gates.refusals.seen == seen + more


def test_who_was_dropped_is_not_counted_among_those_that_were_admitted() -> None:
    line = Line(40.0, most=40.0)
    for _ in range(8):
        line.send()
        line.now += 1.0
        line.answer()
    line.gates.concurrency.known = 1.0
    dropped = 0
    while not line.gates.generation:
        crowd(line, 1)
        sent = crowd(line, 1)[0]
        line.now += 0.02
        line.out.remove(sent)
        line.gates.failed(line.now, sent, len(line.out))
        dropped += 1
    assert dropped > 1
    assert line.gates.recovery.until_s - line.now < 0.5, "nobody named a wait"
    assert line.gates._saved is not None
    admitted = line.gates._saved[2]
    assert admitted == pytest.approx(8 + dropped, abs=1), (
        "what went up to the last one, without what was dropped"
    )


# -- a dead provider, a pause


def test_an_answer_to_somebody_else_does_not_raise_a_dead_provider() -> None:
    line = Line(10.0)
    old = line.send()
    line.gates.paused(0.0, 5.0, dead=True)
    line.now = 5.0
    line.wait_s()
    probe = line.send()
    line.now = 6.0
    line.answer(old)
    assert line.gates.recovery.dead
    assert line.wait_s() is None
    line.answer(probe)
    assert not line.gates.recovery.dead


def test_a_pause_within_another_changes_nothing_of_it() -> None:
    line = Line(10.0)
    line.gates.paused(0.0, 10.0)
    line.gates.paused(9.0, 9.5)
    assert line.gates.recovery.until_s == 10.0


def test_a_probe_waits_until_there_is_a_place_for_it() -> None:
    line = Line(3.0, most=3.0)
    line.fill(0.5)
    line.gates.paused(line.now, line.now + 1.0)
    line.now += 1.0
    assert line.wait_s() is None
    line.answer()
    assert line.wait_s() == 0.0


# -- rejections that follow each other


def test_right_after_a_rejection_another_one_is_no_failed_test_and_all_wait_again() -> None:
    line = settled(first=30.0, answers=40)
    gates = line.gates
    gates.concurrency.rejected(9, 0.0, 1.0)  # it is known that eight fit
    states = []
    for _ in range(2):
        gates.recovery.state = State.OPEN
        gates.concurrency.limit, gates.bucket.learning = 9.0, False
        sent = crowd(line, 9, gap_s=0.3)
        gates._doubt.surprising(sent[-1].asked, told=True, silent=False, trial=True)
        line.reject(sent[-1])
        states.append(gates.recovery.state)
        line.out.clear()
        gates._young.clear()
    assert states == [State.OPEN, State.HELD]


def test_who_asks_nearly_as_much_as_one_that_was_rejected_counts_by_as_much_as_counts_may_differ() -> None:
    line = Line(100.0, most=200.0)
    for _ in range(200):
        line.send()
        line.now += 0.01
        line.answer()  # a hundred a second, and a rejection takes a tenth: ten are on their way
    line.gates.concurrency.known = 45.0
    sent = [line.send() for _ in range(41)]
    line.gates.rejected(line.now + 0.1, sent[-1])
    line.out.remove(sent[-1])
    before = sent[-1].asked
    counted = []
    for ordinal in (29, 33, 41):
        other = sent_at(line.now, ordinal)
        line.gates.sent(other)
        counted.append(other.asked - before)
    assert counted == [0, 1, 2]


# -- what it takes


def test_of_a_small_request_no_more_output_is_expected_than_it_asks_for() -> None:
    line = Line(10.0)
    for nth in range(3):
        sent = line.send(ask=300.0)
        line.gates.heard(sent, [Quota("tokens", 60_000.0, 50_000.0 - nth, 60.0)])
        line.now += 1.0
        line.answer(sent, used=300.0, output=200.0)
    line.wait_s()
    assert [line.send(ask=ask).use[2] for ask in (10.0, 300.0)] == [10.0, pytest.approx(200.0)]
    before, sent = line.gates.quotas.sent, line.send(ask=500.0)
    line.out.remove(sent)
    line.gates.undone(sent)
    assert line.gates.quotas.sent == pytest.approx(before), "one that did not go took nothing"


@pytest.mark.parametrize(("rejected", "admitted", "chance"), [(1, 99, 0.05), (1, 99, 0.01), (5, 95, 0.05)])
def test_a_share_that_chance_explains_is_no_evidence(rejected: int, admitted: int, chance: float) -> None:
    assert unlikely(rejected, admitted, chance) == 0.0


def test_a_share_above_chance_is_evidence_in_proportion_to_how_many_there_are() -> None:
    few = unlikely(2, 8, 0.1)
    assert few == pytest.approx(2 * math.log(2) + 8 * math.log(8 / 9))
    assert unlikely(20, 80, 0.1) == pytest.approx(10 * few)


def test_where_the_number_alone_was_blamed_and_time_helped_a_rate_is_looked_for() -> None:
    line = settled(first=30.0, took_s=30.0)
    gates = line.gates
    sent = crowd(line, 9, gap_s=0.001)
    line.now += 0.05
    line.reject(sent[-1], named_s=1.0)
    gates.cause = Cause.NUMBER
    gates.bucket.off()
    probe = admitted_probe(line)
    assert gates.bucket.blamed
    assert (gates.bucket.learning, gates.bucket.mark_s) == (True, sent[-1].at_s)
    assert gates.bucket.silent_s == pytest.approx(probe.at_s - gates.recovery.silent_s)


def test_after_a_wall_a_quarter_of_what_fits_goes_first() -> None:
    line = settled(first=60.0)
    gates = line.gates
    sent = crowd(line, 41, gap_s=0.001)
    line.now += 0.05
    line.reject(sent[-1], named_s=1.0)
    while line.out:
        line.now += 0.01
        line.answer()
    admitted_probe(line)
    assert (gates.concurrency.limit, gates.recovery.window) == (40, 10.0 + 1)


def test_a_chance_rejection_that_comes_too_late_takes_back_that_it_was_admitted() -> None:
    line = settled(first=30.0, most=30.0)
    line.gates.number = 10_000
    sent = crowd(line, 9, gap_s=0.001)
    line.now += 5.0
    line.wait_s()
    line.reject(sent[-1])
    assert line.gates.cause is Cause.CHANCE
    assert line.gates.concurrency.known == 8


def test_another_one_that_was_sent_with_as_many_in_flight_is_one_fewer_as_well() -> None:
    line = settled(first=30.0)
    sent = crowd(line, 20, gap_s=0.001)
    line.out.remove(sent[0])
    line.gates.ignored(line.now, sent[0])
    twin = crowd(line, 1, gap_s=0.001)[0]
    assert twin.ordinal == sent[-1].ordinal == 20
    line.now += 0.05
    line.reject(sent[-1], named_s=1.0)
    assert line.gates.concurrency.limit == 19
    line.reject(twin, named_s=1.0)
    assert line.gates.concurrency.limit == 18


def test_what_breaks_at_once_with_no_more_in_flight_than_fit_is_no_wall() -> None:
    line = settled(first=40.0, answers=50)
    line.gates.concurrency.known = 10.0
    crowd(line, 4)
    for _ in range(30):
        sent = crowd(line, 1)[0]
        line.now += 0.002
        line.out.remove(sent)
        line.gates.failed(line.now, sent, len(line.out))
    assert line.gates.generation == 0


def test_requests_are_numbered_and_know_how_many_were_rejected_before() -> None:
    line = Line(100.0)
    assert [line.send().number for _ in range(20)] == list(range(1, 21))
    other = Line(100.0)
    for _ in range(3):
        other.send()
        other.reject(other.out[-1])
    sent = other.send()
    assert (sent.number, sent.refusals) == (4, 3)


@pytest.mark.parametrize(("rate", "second"), [(0.0, Cause.RATE), (1_000.0, Cause.CHANGED)])
def test_a_quota_that_is_left_explains_no_rejection_but_a_rate_may(rate: float, second: Cause) -> None:
    line = settled(first=30.0)
    gates = line.gates
    for nth in range(40):
        sent = line.send(ask=100.0)
        gates.heard(sent, [Quota("requests", 600.0, 500.0, 10.0)])
        line.now += 0.1
        line.answer(sent, used=100.0)
        assert gates.concurrency.known > 0, nth
    assert gates.quotas.trusted
    gates.concurrency.known = 20.0
    gates.bucket.rate = rate  # one that is known and kept to is not the reason
    for cause in (Cause.CHANCE, second):  # one alone is none for a quota that is left
        sent = line.send(ask=100.0)
        line.now += 0.05
        line.out.remove(sent)
        gates.rejected(line.now, sent, [Quota("requests", 600.0, 500.0, 10.0)])
        assert gates.cause is cause, "who shows a minute may enforce seconds"


def test_of_a_pace_and_a_quota_the_one_that_waits_longer_counts() -> None:
    def waits(rate: float, left: float) -> tuple[float | None, str]:
        line = settled(first=30.0)
        gates = line.gates
        for _ in range(43):
            sent = line.send(ask=100.0)
            gates.heard(sent, [Quota("requests", 600.0, 500.0, 10.0)])
            line.now += 0.1
            line.answer(sent, used=100.0)
        sent = line.send(ask=100.0)
        gates.heard(sent, [Quota("requests", 600.0, left, 60.0)])
        gates.recovery.state = State.OPEN
        gates.bucket.rate, gates.bucket._at = rate, line.now
        return line.wait_s(), gates.binding

    pace_s, pace = waits(0.1, 0.0)
    assert (pace_s, pace) == (pytest.approx(10.0, rel=0.1), "pace")
    quota_s, quota = waits(1000.0, 0.0)
    assert quota == "requests"
    assert quota_s is not None
    assert 0.05 < quota_s < 1.0


def test_after_a_probe_was_refused_for_the_number_one_that_leaves_is_waited_for() -> None:
    line = settled(first=30.0, took_s=30.0)
    sent = crowd(line, 9, gap_s=0.001)
    line.now += 0.05
    line.reject(sent[-1], named_s=1.0)
    line.now += 1.0
    assert line.wait_s() == 0.0, "time may help"
    probe = line.send(ask=100.0)
    line.now += 0.05
    line.reject(probe)
    line.now = line.gates.recovery.until_s
    assert line.wait_s() is None, "it did not"
    line.out.remove(sent[0])
    line.gates.ignored(line.now, sent[0])
    assert line.wait_s() == 0.0


def test_time_helped_where_as_many_fit_as_the_last_one_of_the_burst_that_was_rejected() -> None:
    line = settled(first=30.0, took_s=30.0)
    sent = crowd(line, 20, gap_s=0.001)
    line.now += 0.05
    for late in reversed(sent[-3:]):
        line.reject(late, named_s=1.0)
    assert line.gates.concurrency.wall == 18
    line.now += 1.0
    assert line.wait_s() == 0.0
    probe = line.send(ask=100.0)
    assert probe.ordinal == 18
    line.now += line.gates.refusals.patience_s
    line.wait_s()
    assert line.gates.bucket.blamed


def eleven(of: int) -> tuple[Line, list[Sent], Sent]:
    """So many are sent; once ten of them are left, another one is the eleventh in flight."""
    line = settled(first=30.0, took_s=30.0)
    sent = crowd(line, of, gap_s=0.001)
    for early in sent[: of - 10]:
        line.answer(early)
    last = line.send(ask=100.0)
    assert last.ordinal == 11
    line.now += 0.05
    return line, sent, last


def test_who_is_rejected_too_with_fewer_beside_it_that_had_a_place_was_one_of_those_that_fit() -> None:
    line, sent, last = eleven(of=13)
    number = line.gates.concurrency
    line.reject(sent[9], named_s=1.0)
    assert number.limit == 9, "the tenth was one too many"
    for late in sent[10:]:
        line.reject(late, named_s=1.0)
    assert number.limit == 9, "and the eleventh, the twelfth and the thirteenth"
    line.reject(last, named_s=1.0)
    assert number.limit == 8, "four of the ten beside it had no place"


def test_who_is_rejected_with_fewer_beside_it_than_are_known_to_fit_says_nothing_of_the_number() -> None:
    """Where a window is used up, all are rejected, however few there are."""
    line, sent, last = eleven(of=15)
    number = line.gates.concurrency
    number.known = 14.0
    for late in (sent[14], last):
        line.reject(late, named_s=1.0)
    assert number.limit == 14


def test_who_is_rejected_had_not_beside_it_who_was_sent_before_and_is_rejected_already() -> None:
    line = settled(first=30.0, took_s=30.0)
    gates = line.gates
    sent = crowd(line, 20, gap_s=0.001)
    line.now += 0.05
    for late in reversed(sent[14:]):
        line.reject(late)
    assert gates.cause is Cause.BOTH
    assert gates.concurrency.limit == 14
    next_one = crowd(line, 1)[0]
    assert next_one.ordinal == 15
    assert gates._crowd(next_one) == 15, "of the others that were known when it went, none was there"


def test_time_did_not_help_where_others_that_were_in_flight_with_the_probe_are_rejected_too() -> None:
    """Where a rejection takes as long as an answer, they are known late; a rate was learnt where none was."""
    line = settled(first=30.0, took_s=30.0)
    gates = line.gates
    sent = crowd(line, 12, gap_s=0.001)
    line.now += 0.05
    line.reject(sent[8], named_s=1.0)
    assert gates.concurrency.limit == 8
    admitted_probe(line)
    assert gates.bucket.blamed
    assert gates.concurrency.limit == 30
    line.reject(sent[9])
    line.reject(sent[10])
    assert gates.bucket.blamed, "there were ten with it, more than fit"
    line.reject(sent[11])
    assert gates.bucket.blamed, "as many as were one too many"
    line.reject(sent[7])
    assert not gates.bucket.blamed
    assert gates.concurrency.limit == 7


def test_where_a_test_fails_and_a_probe_would_take_longer_than_an_answer_nobody_goes_before_the_others() -> (
    None
):
    for refused_s, probes in ((0.05, True), (2.0, False)):
        line = settled(answers=40)
        gates, number = line.gates, line.gates.concurrency
        number.starting, number.wall, number.known = False, 10.0, 9.0
        number.set(9.0)
        number._hold = 0
        gates.recovery.state = State.OPEN
        for _ in range(8):
            line.send()
        ninth = line.send()
        line.now += 1.0
        line.answer(ninth)
        assert number.testing
        crowd(line, 2, gap_s=0.001)
        tenth = line.out[-1]
        assert tenth.ordinal == 10
        line.now += refused_s
        for _ in range(20):  # they take so long
            gates.refusals.took(refused_s)
        gates._doubt.surprising(tenth.asked, told=True, silent=False, trial=True)
        line.reject(tenth, named_s=1.0)
        assert gates.recovery.state is State.HELD
        assert number.limit == 9
        line.now += 30.0
        line.wait_s()
        assert (gates.recovery.state is State.PROBE) is probes


def test_what_breaks_at_once_may_be_a_wall_where_the_counts_may_differ_by_as_much() -> None:
    line = Line(100.0, most=200.0)
    for _ in range(200):
        line.send()
        line.now += 0.01
        line.answer()
    line.gates.trip_s, line.gates.concurrency.known = 1.0, 30.0
    for _ in range(24):
        line.send()
    for _ in range(12):
        sent = line.send()
        assert sent.ordinal == 25
        line.out.remove(sent)
        line.gates.failed(line.now + 0.1, sent, len(line.out))
    assert line.gates.generation > 0


# -- what is no reason


def test_where_time_alone_had_helped_a_faster_pace_explains_a_rejection_and_no_wall_is_built() -> None:
    line = settled(first=30.0, took_s=30.0)
    gates = line.gates
    sent = crowd(line, 9, gap_s=0.001)
    line.now += 0.05
    line.reject(sent[-1], named_s=1.0)
    assert gates.cause is Cause.BOTH
    admitted_probe(line)
    assert gates.bucket.blamed, "with as many in flight"
    more = crowd(line, 4, gap_s=0.001)
    line.now += 0.05
    line.reject(more[-1], named_s=1.0)
    assert gates.cause is Cause.RATE, "the pace is on trial, and may be all there is"
    assert gates.concurrency.wall is None


def test_a_server_where_all_is_lost_is_full_whatever_rates_were_found_since() -> None:
    line = Line(160.0)
    sent = crowd(line, 160)
    line.now += 0.05
    line.reject(sent[-1], named_s=0.01)
    assert line.gates.generation == 1
    line.now += 400.0
    line.wait_s()
    for one in sent[:9]:
        line.out.remove(one)
        line.gates.failed(line.now, one, len(line.out))
    assert line.gates.concurrency.limit < 80, "half of them"
    assert line.gates.concurrency.knee.found
    drowned = line.gates.concurrency.limit
    for one in sent[9:60]:
        line.out.remove(one)
        line.gates.failed(line.now, one, len(line.out))
    assert line.gates.concurrency.limit == drowned, "they were sent before that was known"


def late(line: Line, answered: int, after_s: float) -> None:
    """Of those in flight, so many are answered one after the other; nine more are given up then."""
    for _ in range(answered):
        line.now += after_s / answered
        line.answer()
    for one in line.out[:9]:
        line.out.remove(one)
        line.gates.failed(line.now, one, len(line.out))


def test_a_line_that_is_answered_too_late_becomes_as_long_as_is_answered_in_time() -> None:
    line = Line(300.0)
    crowd(line, 300)
    late(line, 12, 60.0)
    assert line.gates.concurrency.limit == 12, "half of them would be given up again, but for twelve"
    late(line, 40, 3.0)
    assert line.gates.concurrency.limit == 12, "they were sent before that was known"


def test_a_server_that_answers_too_late_is_sent_no_more_than_before() -> None:
    line = Line(300.0)
    crowd(line, 300)
    number = line.gates.concurrency
    number.knee.usual_s = 1.0
    number.drowned(line.now, 20.0)
    line.now += 60.0
    line.wait_s()
    late(line, 0, 0.0)
    assert number.limit == 20, "it was found before that half of those that are left are more than fit"


def test_after_an_overload_a_quarter_of_what_fits_goes_first_as_nothing_was_cut() -> None:
    line = settled(first=40.0)
    line.reject(line.send(), overload=True)
    admitted_probe(line)
    assert line.gates.cause is Cause.OVERLOAD
    assert (line.gates.concurrency.limit, line.gates.recovery.window) == (40, 10.0 + 1)


def test_after_an_overload_that_comes_back_as_many_go_first_as_were_admitted_since() -> None:
    line = settled(first=40.0)
    line.reject(line.send(), overload=True)
    admitted_probe(line)
    line.reject(crowd(line, 3)[-1], overload=True)
    admitted_probe(line)
    assert line.gates.cause is Cause.OVERLOAD
    assert line.gates.recovery.window == max(2.0, line.gates._overload.since) + 1
    assert line.gates._overload.since <= 4


def test_who_says_overload_above_what_fits_soon_means_a_limit_of_ours() -> None:
    ours, all_users = Overload(), Overload()
    admitted = 0
    for nth in range(1 + ENOUGH):
        assert not ours.is_ours(admitted, 20.0, fits=5.0) or nth == ENOUGH
        assert not all_users.is_ours(admitted, 20.0)
        admitted += 4  # of five that fit
    assert ours.is_ours(admitted, 20.0, fits=5.0)
    assert ours.is_ours(admitted + 10_000, 20.0, fits=5.0), "from then on, however rarely it is said"


def test_an_overload_long_after_the_last_one_is_none_of_ours() -> None:
    rare = Overload()
    for nth in range(3 * ENOUGH):
        assert not rare.is_ours(nth * 1_000, 20.0, fits=5.0)


def test_an_overload_of_all_is_no_evidence_of_chance() -> None:
    line = settled(first=40.0)
    before = line.gates._doubt.share
    line.reject(line.send(), overload=True)
    assert line.gates._doubt.share <= before


@pytest.mark.parametrize(("silence_s", "full"), [(0.0, True), (0.4, True), (2.0, False)])
def test_those_left_of_a_long_silence_are_the_slow_ones_and_no_sign_of_a_full_server(
    silence_s: float, full: bool
) -> None:
    line = settled(first=30.0)
    sent = crowd(line, 20)
    line.now += 0.5
    line.wait_s()
    if silence_s:
        line.reject(line.send(), overload=True)
        line.now += silence_s
        line.gates.recovery.until_s = line.now
        line.wait_s()
        line.send()
        line.now += line.gates.refusals.patience_s
        line.wait_s()
        assert line.gates.recovery.state is State.RAMP
    line.now += 2.5 - silence_s  # thrice as long as the first ones took
    for one in sent:
        line.answer(one)
    assert line.gates.concurrency.knee.found is full
