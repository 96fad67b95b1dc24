"""What others may ask a limiter: is there room, is anybody there, is the provider dead; and what processes leave it."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

import pytest

from cottonpalm import clock
from cottonpalm.request.limiter.limiter import Limiter, Permit
from cottonpalm.request.limiter.rules.causes import ENOUGH
from cottonpalm.request.limiter.rules.circuit import OPENS_AT
from cottonpalm.request.limiter.rules.concurrency import Concurrency
from cottonpalm.request.limiter.rules.recovery import State
from cottonpalm.testing import virtual_run
from cottonpalm.types import Verdict
from tests.request.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.core
SUCCESS, IGNORED = Verdict.SUCCESS, Verdict.IGNORED


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as stage:
        yield stage


def fixed(limit: int) -> Limiter:
    return Limiter("host/model", Concurrency(limit, limit, limit))


def taken(limiter: Limiter) -> Permit:
    permit = limiter.try_acquire()
    assert permit is not None
    return permit


def test_vacancies_are_what_is_free_less_those_who_wait(stage: Stage) -> None:
    limiter = fixed(3)
    assert limiter.vacancies() == 3
    permits = [taken(limiter), taken(limiter)]
    assert limiter.vacancies() == 1
    permits.append(taken(limiter))
    for _ in range(2):
        stage.start(limiter.aacquire())
    assert limiter.vacancies() == -2
    stage.call(limiter.release, permits.pop(), IGNORED)
    assert (limiter.vacancies(), limiter.waiting) == (-1, 1)


def test_halving_a_full_server_begins_also_where_the_number_stays_as_it_was(stage: Stage) -> None:
    limiter = Limiter("host/model", Concurrency(10, 1, 24))
    number, limiter.admission.recovery.state = limiter.admission.concurrency, State.OPEN
    permits = [taken(limiter) for _ in range(10)]
    stage.advance(1.0)
    stage.call(limiter.release, permits.pop(), SUCCESS)
    knee, limit = number.knee, number.limit
    knee.usual_s, knee._most, knee._crowd, knee._lates = 1.0, limit, 5 * limit, ENOUGH - 1
    permits += [limiter.force() for _ in range(int(limit) - len(permits) + 1)]
    stage.advance(9.0)
    stage.call(limiter.release, permits.pop(0), SUCCESS)
    assert (number.limit, knee.found, knee.times is not None) == (limit, True, True)
    for _ in range(3 * int(limit)):
        if number.limit == limit:
            stage.call(limiter.release, permits.pop(0), SUCCESS)
            permits.append(limiter.force())
            stage.advance(0.1)
    assert number.limit < limit, "what they take is looked at"


def test_during_a_pause_there_is_no_vacancy(stage: Stage) -> None:
    limiter = fixed(3)
    stage.call(limiter.release, taken(limiter), SUCCESS, 5.0)
    waiting = stage.start(limiter.aacquire())
    assert limiter.vacancies() == -1
    stage.advance(5.1)
    assert waiting.done()


def test_it_is_idle_only_where_nobody_holds_a_permit_and_nobody_waits(stage: Stage) -> None:
    limiter = fixed(1)
    assert limiter.idle
    permit = taken(limiter)
    assert not limiter.idle
    stage.call(limiter.release, permit, SUCCESS, 5.0)
    assert limiter.idle, "a pause alone is nobody"
    waiting = stage.start(limiter.aacquire())
    assert (limiter.in_flight, limiter.idle) == (0, False)
    waiting.cancel()
    stage.settle()
    assert limiter.idle


def test_it_is_shut_while_a_dead_provider_is_left_alone_or_asked_by_one(stage: Stage) -> None:
    limiter = fixed(50)
    permits = [taken(limiter) for _ in range(OPENS_AT)]
    for permit in permits:
        stage.call(limiter.release, permit, IGNORED)
        opened = limiter.circuit.after(limiter.standing, last=0, probe=False)
    assert opened
    assert not limiter.shut, "it is dead, but nobody was told to wait"
    pause = taken(limiter)
    stage.call(limiter.release, pause, IGNORED, 5.0)
    assert limiter.shut
    stage.advance(5.1)
    assert not limiter.shut, "somebody may ask now"
    probe = taken(limiter)
    assert limiter.shut, "and is asking"
    stage.call(limiter.release, probe, SUCCESS)
    assert not limiter.shut, "it answered"


def test_one_that_is_itself_the_reason_makes_all_wait_as_named_and_nobody_for_an_answer(stage: Stage) -> None:
    """Else one row that is always rejected stopped a run for as long as the probe took."""
    limiter = Limiter("k", Concurrency(50, 1, 50))
    permits = [taken(limiter) for _ in range(9)]
    for permit in permits[1:]:
        stage.call(limiter.release, permit, SUCCESS)
    before = limiter.limit
    stage.call(limiter.release, permits[0], Verdict.ALONE, 5.0)
    waiting = [stage.start(limiter.aacquire()) for _ in range(9)]
    stage.advance(4.9)
    assert not any(one.done() for one in waiting), "a named wait is obeyed"
    stage.advance(0.2)
    assert sum(one.done() for one in waiting) == 1
    stage.pass_by(2)
    assert all(one.done() for one in waiting), "the probe was not rejected, that is enough"
    assert limiter.limit >= before, "and it teaches nothing"


def test_a_wait_that_is_named_by_chance_is_kept_by_the_one_that_it_was_named_to(stage: Stage) -> None:
    limiter = fixed(50)
    for _ in range(60):
        stage.call(limiter.release, taken(limiter), SUCCESS)
    limiter.admission._doubt.odd()  # waits tell nothing here
    assert limiter.release(taken(limiter), Verdict.DROPPED, 5.0) == 5.0
    assert (limiter.paused_until, limiter.try_acquire() is None) == (0.0, False), "the others go on"


def test_a_wait_that_is_named_for_a_limit_is_kept_by_all(stage: Stage) -> None:
    limiter = fixed(50)
    assert limiter.release(taken(limiter), Verdict.DROPPED, 5.0) == 0.0
    assert (limiter.paused_until, limiter.try_acquire()) == (clock.now() + 5.0, None)


def test_what_other_processes_leave_of_it_holds_at_once_and_is_lifted_at_once(stage: Stage) -> None:
    limiter = fixed(4)
    first = taken(limiter)

    def leave(**shares: int) -> None:
        limiter.adjust(lambda: (limiter.shares.clear(), limiter.shares.update(shares)))

    leave(one=3, other=1)
    assert (limiter.limit, limiter.held_by) == (1, "in flight")
    assert limiter.try_acquire() is None
    waiting = stage.start(limiter.aacquire())
    stage.call(leave, one=3, other=2)
    assert (waiting.done(), limiter.in_flight) == (True, 2)
    assert limiter.try_acquire() is None
    stage.call(leave)
    assert (limiter.limit, limiter.vacancies()) == (4, 2)
    stage.call(limiter.release, first, SUCCESS)


@pytest.mark.parametrize("priority", [-0.5, 0.5])
def test_who_names_no_priority_has_that_of_nought(stage: Stage, priority: float) -> None:
    limiter = fixed(1)
    permit = taken(limiter)
    plain, named = stage.start(limiter.aacquire()), stage.start(limiter.aacquire(priority))
    stage.call(limiter.release, permit, SUCCESS)
    assert (plain.done(), named.done()) == (priority < 0, priority > 0)


def test_who_waits_out_a_pause_is_not_woken_before_its_end() -> None:
    async def main() -> int:
        loop, limiter = asyncio.get_running_loop(), fixed(2)
        limiter.release(taken(limiter), SUCCESS, 60.0)
        began: int = loop.steps  # type: ignore[attr-defined]
        permit = await limiter.aacquire()
        limiter.release(permit, SUCCESS)
        return loop.steps - began  # type: ignore[attr-defined, no-any-return]

    assert virtual_run(main()) < 20


def test_a_limiter_that_nobody_answers_keeps_no_permit_that_was_given_back() -> None:
    limiter = fixed(3)
    for _ in range(50):
        limiter.release(taken(limiter), IGNORED)
    kept = [one for one in gc.get_objects() if type(one) is Permit and one.limiter is limiter]
    assert len(kept) <= 1


def test_nobody_looks_again_in_time_where_only_a_place_that_comes_free_helps(stage: Stage) -> None:
    """A moment at which time had helped, before that, is past: who looked then looked ever again."""
    limiter = Limiter("host/model", Concurrency(1, 1, 1), [("requests", 60)])
    taken(limiter)
    stage.advance(0.1)
    assert limiter.try_acquire() is None
    limiter.admission.gated, limiter._blocked_until = False, 0.0
    assert limiter._look_again_s() is None
