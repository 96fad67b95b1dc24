"""Rejections that come at random are told from those of a limit."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cottonpalm.request.limiter.rules.admission import Admission, Sent
from cottonpalm.request.limiter.rules.concurrency import Concurrency
from cottonpalm.request.limiter.rules.strays import FEW, FORGOTTEN, PROBES, SpuriousRejections

pytestmark = pytest.mark.core

TAKES_S, REFUSAL_S = 2.0, 0.1


def doubted(share: float, calls: int, seed: int) -> list[bool]:
    """For each rejection, whether it counted as a stray where so large a share of the calls is rejected at random."""
    strays, rng, seen = SpuriousRejections(), Random(seed), []
    for _ in range(calls):
        if rng.random() < share:
            strays.rejected()
            seen.append(strays.likely(0))
        else:
            strays.accepted()
    return seen


@given(st.integers(0, 1000))
def test_one_rejection_in_a_hundred_is_hardly_ever_taken_for_a_limit(seed: int) -> None:
    seen = doubted(0.01, 5_000, seed)
    assert seen.count(False) <= 0.1 * len(seen) + 1


@given(st.integers(0, 1000))
def test_one_in_five_is_taken_for_a_limit_soon_and_nearly_always(seed: int) -> None:
    seen = doubted(0.2, 2_000, seed)
    assert seen.count(True) <= 0.25 * len(seen)


def test_the_fourth_in_a_row_is_no_stray_and_a_probe_refused_twice_says_so_too() -> None:
    strays = SpuriousRejections()
    for _ in range(FEW):
        strays.rejected()
        assert strays.likely(PROBES - 1)
    assert not strays.likely(PROBES)
    strays.rejected()
    assert not strays.likely(0)


def test_accepted_calls_make_up_for_rejections() -> None:
    strays = SpuriousRejections()
    for _ in range(FEW + 1):
        strays.rejected()
    for _ in range(int(1 / FORGOTTEN)):
        strays.accepted()
    assert strays.likely(0)
    for _ in range(1_000):
        strays.accepted()
    assert strays.count == 0


def test_after_a_limit_was_blamed_the_second_in_a_row_is_no_stray() -> None:
    strays = SpuriousRejections()
    strays.rejected()
    strays.blamed()
    strays.rejected()
    assert strays.likely(0)
    strays.rejected()
    assert not strays.likely(0)


# What admission makes of it


def full(limit: int, *, phase: str = "start") -> tuple[Admission, list[Sent]]:
    """All that fit are in flight."""
    admission = Admission(Concurrency(limit, 1, 500))
    admission.concurrency.phase = phase
    calls = [send(admission, 0.0, ordinal) for ordinal in range(1, limit + 1)]
    admission.concurrency.peak = limit
    return admission, calls


def send(admission: Admission, at_s: float, ordinal: int) -> Sent:
    sent = Sent(at_s, ordinal, admission.generation, 10, (0.0, 0.0, 0.0))
    admission.sent(sent)
    return sent


def test_one_rejection_costs_a_probe_and_cuts_nothing_once_that_is_accepted() -> None:
    admission, calls = full(50)
    admission.rejected(REFUSAL_S, calls[30], 49)
    assert (admission.wait_s(REFUSAL_S, 49, 10) or 0) > 0
    assert admission.binding == "probe"
    send(admission, 1.0, 50)
    assert admission.wait_s(5.0, 49, 10) == 0
    assert (admission.concurrency.limit, admission.concurrency.phase) == (50, "start")
    assert (admission.pace.rate, admission.generation) == (0, 0)


def test_calls_in_flight_at_a_stray_still_let_the_limit_grow() -> None:
    admission, calls = full(50)
    admission.rejected(REFUSAL_S, calls[30], 49)
    send(admission, 1.0, 50)
    assert admission.wait_s(5.0, 49, 10) == 0
    admission.accepted(TAKES_S, calls[0], 48, 1.0, None)
    assert admission.concurrency.limit > 50


def test_a_probe_refused_twice_cuts_as_the_first_rejection_said() -> None:
    admission, calls = full(50)
    admission.rejected(REFUSAL_S, calls[44], 49)
    for at_s in (1.0, 2.0):
        assert admission.concurrency.limit == 50
        admission.rejected(at_s + REFUSAL_S, send(admission, at_s, 50), 49)
    assert admission.concurrency.limit == 44


def test_many_rejected_at_once_cut_before_any_probe_goes() -> None:
    admission, calls = full(50)
    for late, call in enumerate(calls[-4:]):
        admission.rejected(REFUSAL_S, call, 49 - late)
    assert admission.concurrency.limit == 46


def test_a_test_of_one_more_is_believed_at_once() -> None:
    admission, calls = full(50)
    for late, call in enumerate(calls[-4:]):
        admission.rejected(REFUSAL_S, call, 49 - late)
    assert admission.concurrency.phase == "hold"
    for number in range(100):
        probe = send(admission, 1.0 + number, 30)
        admission.accepted(1.5 + number, probe, 29, 1.0, None)
    admission.concurrency.limit = 47.0
    admission.rejected(200.1, send(admission, 200.0, 47), 46)
    assert admission.concurrency.limit == 46


def test_a_rejection_that_names_a_wait_is_believed_at_once() -> None:
    admission, calls = full(50)
    admission.rejected(REFUSAL_S, calls[44], 49)
    admission.believe(REFUSAL_S, calls[44])
    assert admission.concurrency.limit == 44
