"""What the limiter's rules make of rejections, one rule at a time: moments are passed in."""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from cottonpalm.request.limiter.rules.admission import Admission
from cottonpalm.request.limiter.rules.bucket import Bucket
from cottonpalm.request.limiter.rules.causes import CHANCE, Cause, Doubt, Refusals
from cottonpalm.request.limiter.rules.concurrency import Concurrency
from cottonpalm.request.limiter.rules.recovery import LONGEST_S
from tests.support.sent import sent_at

if TYPE_CHECKING:
    from cottonpalm.request.limiter.rules.sent import Sent

pytestmark = pytest.mark.core


def test_rejections_that_take_no_time_leave_some_patience() -> None:
    refusals = Refusals(0.1)
    for _ in range(200):
        refusals.took(0.0)
    assert 0.01 <= refusals.patience_s < 0.02


def test_what_goes_on_being_rejected_is_chance_and_what_ends_was_none() -> None:
    doubt = Doubt()
    for which in range(1, 7):
        doubt.went(doubt.sent + 10, trial=False)
        doubt.surprising(which * 10, told=False, silent=False, trial=False)
        doubt.settled()  # whatever cause was found for it
    at_once = doubt.share
    assert at_once == pytest.approx((0.5 + 6) / 110)
    doubt.went(doubt.sent + 1_000, trial=False)  # none more: the limit that was found holds
    assert doubt.share == CHANCE[0] < at_once


def test_a_rejection_that_was_to_be_expected_or_explains_itself_is_no_sign_of_chance() -> None:
    tried, told = Doubt(), Doubt()
    for which in range(1, 11):
        tried.surprising(which * 100, told=False, silent=False, trial=True)
        told.surprising(which * 100, told=True, silent=False, trial=False)
    assert tried.share == told.share == CHANCE[0]


def test_a_probe_takes_what_had_come_back_and_not_more() -> None:
    bucket = Bucket()
    bucket.rate = 2.0
    bucket.take(10.0, 1.0)  # nobody asked it for ten seconds: it was full
    assert bucket.level == 0.0
    assert bucket.wait_s(10.1, 1.0) == pytest.approx(0.5 - 0.1, rel=0.1)


def test_few_admitted_move_a_known_rate_little_and_many_all_the_way() -> None:
    few, many = Bucket(), Bucket()
    for bucket in (few, many):
        bucket.rate = 4.0
        bucket.set_mark(0.0, 100.0)
    few.empty(2.0, 2.0, 102.0, 0.0, 0.1)  # two in two seconds
    many.empty(20.0, 20.0, 120.0, 0.0, 0.1)  # twenty in twenty
    assert 2.0 < few.rate < 4.0
    assert many.rate == pytest.approx(2.0)  # half of it is left by one rejection, at least


def sends(admission: Admission, now: float, ordinal: int) -> Sent:
    sent = sent_at(now, ordinal)
    admission.sent(sent)
    return sent


def test_a_rejection_where_time_alone_had_helped_before_gives_a_rate() -> None:
    admission = Admission(Concurrency(10.0))
    sends(admission, 0.0, 1)
    two = sends(admission, 0.0, 2)
    admission.rejected(0.1, two, named_s=1.0)
    assert admission.cause is Cause.BOTH
    assert admission.wait_s(1.2, 1, 0.0) == 0.0  # the probe, with the first still under way
    sends(admission, 1.2, 2)
    assert admission.wait_s(2.0, 2, 0.0) is not None  # it was not rejected in time
    assert admission.bucket.blamed
    assert admission.bucket.rate == 0.0
    more = [sends(admission, 2.0 + 0.1 * n, 3 + n) for n in range(5)]
    admission.rejected(2.5, more[-1], named_s=1.0)
    assert 0 < admission.bucket.rate < 5


def test_what_a_full_server_drops_at_once_is_a_wall_and_what_it_drops_late_is_not_by_itself() -> None:
    def after(drop_s: float) -> Admission:
        admission = Admission(Concurrency(10.0))
        for n in range(8):  # the first answers: a second each
            admission.answered(10.0 * n + 1.0, sends(admission, 10.0 * n, 1), 0)
        for n in range(4):
            sent = sends(admission, 100.0 + n, 6)
            admission.failed(100.0 + n + drop_s, sent, 5)
        return admission

    assert after(0.05).concurrency.wall == 6.0
    assert after(0.9).concurrency.wall is None


@pytest.mark.parametrize(
    ("quickest_s", "gives_up_s", "wall"),
    [
        (4.0, 0.4, 6.0),
        (0.3, 0.4, None),  # an answer may come by then
        (4.0, None, None),  # it crashes: all that are under way are cut at once
    ],
)
def test_what_a_full_gateway_gives_up_one_after_the_other_is_a_wall_though_it_was_taken_for_admitted(
    quickest_s: float, gives_up_s: float | None, wall: float | None
) -> None:
    admission = Admission(Concurrency(10.0))
    for n in range(7):
        admission.answered(10.0 * n + (4.0 if n else quickest_s), sends(admission, 10.0 * n, 1), 0)
    for n, sent in enumerate([sends(admission, 90.0, n + 1) for n in range(8)]):
        admission.answered(94.0, sent, 7 - n)  # so many fitted before
    served = [sends(admission, 97.0 + 0.3 * n, 1) for n in range(6)]
    above: list[Sent] = []
    for n in range(6):
        above.append(sends(admission, 100.0 + 0.3 * n, 6))
        if n and gives_up_s is not None:
            admission.failed(99.7 + 0.3 * n + gives_up_s, above[n - 1], 6)
        admission.answered(100.29 + 0.3 * n, served[n], 5)
    assert above[0].known  # it was not rejected for so long
    for sent in above[:-1] if gives_up_s is None else []:
        admission.failed(101.6, sent, 5)
    assert admission.concurrency.wall == wall


def test_a_number_that_was_too_high_at_a_full_gateway_is_not_taken_for_known_any_more() -> None:
    admission = Admission(Concurrency(10.0))
    young = [sends(admission, 0.01 * n, n + 1) for n in range(40)]
    admission.wait_s(1.0, 40, 0.0)
    assert admission.concurrency.known == 40
    admission.answered(1.9, young[0], 39)
    for n, sent in enumerate(young[8:]):
        admission.failed(2.0 + 0.01 * n, sent, 38 - n)
    assert admission.concurrency.known < 20
    admission.paused(2.5, 3.0, dead=True)  # as it seems, so the number is given back
    assert admission.concurrency.known < 20


def test_a_named_wait_is_kept_though_a_wall_is_found_and_a_place_comes_free_meanwhile() -> None:
    admission = Admission(Concurrency(10.0))
    first, *dropped = [sends(admission, 0.9 * (n > 0), n + 1) for n in range(6)]
    admission.answered(1.0, first, 5)
    admission.paused(1.0, 20.0)
    for sent in reversed(dropped[1:]):
        admission.failed(1.0, sent, 1)
    assert admission.cause is Cause.NUMBER
    admission.answered(1.1, dropped[0], 0)
    assert admission.wait_s(1.1, 0, 0.0) == pytest.approx(18.9)


def test_a_rejected_request_that_went_by_force_does_not_raise_the_limit() -> None:
    number = Concurrency(10.0)
    number.rejected(4, 0.0, 1.0)
    assert (number.limit, number.wall) == (3, 4.0)
    number.rejected(9, 0.0, 1.0)
    assert (number.limit, number.wall) == (3, 4.0)


def asked_until_done(
    rows: int, well_s: float, fits: int, rejected_after_s: float
) -> tuple[list[float], float]:
    """When requests were sent to a server that rejects all until it is well, then more than fit; and the end."""
    admission, now, in_flight, done, asked = Admission(Concurrency(10.0)), 0.0, 0, 0, list[float]()
    news: list[tuple[float, int, Sent, bool]] = []  # (when, ..., whether it is an answer)
    while done < rows:
        wait_s = None
        while len(news) < rows - done and (wait_s := admission.wait_s(now, in_flight, 0.0)) == 0.0:
            in_flight += 1
            sent = sends(admission, now, in_flight)
            good = now >= well_s and sum(each[3] for each in news) < fits
            asked.append(now)
            heappush(news, (now + (0.5 if good else rejected_after_s), len(asked), sent, good))
        if news and (wait_s is None or news[0][0] <= now + wait_s):
            now, _, sent, good = heappop(news)
            in_flight -= 1
            done += good
            if good:
                admission.answered(now, sent, in_flight)
            else:
                admission.rejected(now, sent)
        else:
            assert wait_s is not None
            now += wait_s
        admission.look()
    return asked, now


@pytest.mark.parametrize("rejected_after_s", [0.02, 0.2])
@pytest.mark.parametrize("well_s", [40.0, 95.0])
def test_who_was_rejected_from_the_first_on_is_asked_again_in_time_and_nothing_is_learnt_of_it(
    well_s: float, rejected_after_s: float
) -> None:
    asked, ended_s = asked_until_done(400, well_s, 6, rejected_after_s)
    silences = [later - sooner for sooner, later in pairwise(asked)]
    assert max(silences) < LONGEST_S + 1
    assert len([at_s for at_s in asked if at_s < well_s]) < 50
    six_at_once_s = 400 / 6 * 0.5
    assert ended_s < well_s + LONGEST_S + 1.3 * six_at_once_s
