"""What the limiter promises, one case at a time, on a clock moved by hand."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
from typing import TYPE_CHECKING

import pytest

from cottonpalm import clock
from cottonpalm.config import AdaptiveConcurrency
from cottonpalm.request.limiter.limiter import Limiter, Permit
from cottonpalm.request.limiter.limiters import Limiters
from cottonpalm.request.limiter.rules.concurrency import Concurrency
from cottonpalm.request.limiter.together import Together
from cottonpalm.runtime.wait_queue import RowClosed, Waiter
from cottonpalm.types import Verdict
from tests.request.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.core
SUCCESS, DROPPED, IGNORED = Verdict.SUCCESS, Verdict.DROPPED, Verdict.IGNORED


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as stage:
        yield stage


def fixed(limit: int) -> Limiter:
    return Limiter("host/model", Concurrency(limit, limit, limit))


def take(limiter: Limiter, count: int = 1) -> list[Permit]:
    permits = [limiter.try_acquire() for _ in range(count)]
    assert None not in permits
    return permits  # type: ignore[return-value]


def granted(tasks: list[asyncio.Task[Permit]]) -> list[int]:
    return [number for number, task in enumerate(tasks) if task.done() and not task.cancelled()]


def park(limiter: Limiter, results: list[object], priority: float = 0) -> tuple[threading.Thread, Waiter]:
    """A thread that waits at the limiter, once it is in line."""
    waiters: list[Waiter] = []
    inside = limiter.waiting

    def wait() -> None:
        try:
            results.append(limiter.acquire(priority, waiters.append))
        except RowClosed as closed:
            results.append(closed)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    while limiter.waiting == inside:  # in line: a matter of microseconds
        thread.join(0.0005)
    return thread, waiters[0]


def test_no_more_than_the_limit_is_in_flight_and_the_next_goes_when_one_leaves(stage: Stage) -> None:
    limiter = fixed(2)
    tasks = [stage.start(limiter.aacquire()) for _ in range(4)]
    assert (granted(tasks), limiter.in_flight, limiter.waiting) == ([0, 1], 2, 2)
    stage.call(limiter.release, tasks[0].result(), IGNORED)
    assert (granted(tasks), limiter.in_flight, limiter.waiting) == ([0, 1, 2], 2, 1)


def test_try_acquire_never_overtakes_who_waits(stage: Stage) -> None:
    limiter = fixed(1)
    (permit,) = take(limiter)
    stage.call(limiter.release, permit, SUCCESS, 5.0)
    waiting = stage.start(limiter.aacquire())
    stage.loop.now_s += 6  # the pause is over; the waiter's timer has not fired yet
    assert limiter.try_acquire() is None
    stage.settle()
    assert waiting.done()


def test_the_higher_priority_goes_first_and_equals_by_arrival(stage: Stage) -> None:
    limiter = fixed(1)
    (permit,) = take(limiter)
    order: list[str] = []

    async def want(name: str, priority: float) -> None:
        mine = await limiter.aacquire(priority)
        order.append(name)
        limiter.release(mine, SUCCESS)

    for name, priority in [("a", 0), ("b", 1), ("c", 0), ("d", 1), ("e", 2)]:
        stage.start(want(name, priority))
    stage.call(limiter.release, permit, SUCCESS)
    stage.advance(0)
    assert "".join(order) == "ebdac"


def test_who_waited_long_enough_goes_before_a_newcomer_of_higher_priority(stage: Stage) -> None:
    limiter = fixed(1)
    (permit,) = take(limiter)
    old = stage.start(limiter.aacquire(0))
    stage.advance(31)
    new = stage.start(limiter.aacquire(1))
    stage.call(limiter.release, permit, SUCCESS)
    assert (old.done(), new.done()) == (True, False)


def test_who_waits_goes_too_where_a_newcomer_finds_that_more_fit(stage: Stage) -> None:
    limiter = Limiter("host/model", Concurrency(4, 1, 12))
    try_two(stage, limiter)
    behind = stage.start(limiter.aacquire(-1))
    stage.advance(0.5)  # so the second one was admitted, and nobody has looked yet
    assert (limiter.in_flight, limiter.limit) == (2, 2)
    newcomer = stage.start(limiter.aacquire(0))
    assert (limiter.in_flight, limiter.limit, newcomer.done()) == (3, 4, True)
    stage.advance(0.5)  # nobody comes or goes
    assert behind.done()


def try_two(stage: Stage, limiter: Limiter) -> None:
    """Of two in flight one is known to fit, the second one is tried."""
    stage.call(limiter.release, limiter.force(), SUCCESS)
    forced, first = limiter.force(), stage.start(limiter.aacquire())
    stage.call(limiter.release, forced, DROPPED)
    forced = limiter.force()
    stage.advance(0.5)
    stage.call(limiter.release, first.result(), DROPPED)
    stage.advance(0.5)
    stage.call(limiter.release, forced, SUCCESS)
    probe, _, _ = stage.start(limiter.aacquire()), limiter.force(), stage.start(limiter.aacquire())
    stage.advance(0.5)
    stage.call(limiter.release, probe.result(), SUCCESS)


def test_a_cancelled_waiter_leaves_the_line(stage: Stage) -> None:
    limiter = fixed(1)
    (permit,) = take(limiter)
    first, second = stage.start(limiter.aacquire()), stage.start(limiter.aacquire())
    first.cancel()
    stage.settle()
    assert limiter.waiting == 1
    stage.call(limiter.release, permit, SUCCESS)
    assert second.done()


def test_a_cancel_that_crosses_the_grant_passes_the_permit_on(stage: Stage) -> None:
    limiter = fixed(1)
    (permit,) = take(limiter)
    first, second = stage.start(limiter.aacquire()), stage.start(limiter.aacquire())

    def release_and_cancel() -> None:
        limiter.release(permit, SUCCESS)
        first.cancel()

    stage.call(release_and_cancel)
    assert first.cancelled()
    assert second.done()
    assert limiter.in_flight == 1


def test_many_cancels_leave_no_places_in_memory(stage: Stage) -> None:
    limiter = fixed(1)
    take(limiter)
    for _ in range(500):
        task = stage.loop.create_task(limiter.aacquire())
        stage.loop.call_soon(task.cancel)
        stage.tasks.append(task)
    stage.settle()
    assert limiter.waiting == 0
    assert len(limiter._heap) <= 32


def test_a_bound_on_all_keys_remembers_nothing_of_its_requests() -> None:
    """It learns nothing, so nobody would take them out of its memory again."""
    bound = Together("all", 4)
    for _ in range(1_000):
        (permit,) = take(bound)
        bound.release(permit, SUCCESS)
    assert (bound.in_flight, len(bound.admission._young)) == (0, 0)


def test_a_permit_given_back_twice_counts_once() -> None:
    limiter = fixed(2)
    permit, other = take(limiter, 2)
    limiter.release(permit, SUCCESS)
    limiter.release(permit, SUCCESS)
    assert (limiter.in_flight, limiter.accepted) == (1, 1)
    limiter.release(other, IGNORED)


def test_a_loop_that_closed_while_waiting_does_not_keep_the_permit(stage: Stage) -> None:
    limiter = fixed(1)
    (permit,) = take(limiter)
    dead = asyncio.new_event_loop()
    task = dead.create_task(limiter.aacquire(5))
    dead.call_soon(dead.stop)
    dead.run_forever()
    alive = stage.start(limiter.aacquire())
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio would complain of our abuse
    dead.close()
    stage.call(limiter.release, permit, SUCCESS)
    assert alive.done()
    assert limiter.in_flight == 1


def test_a_loop_that_closed_between_grant_and_wake_up_gives_the_permit_back() -> None:
    limiter = fixed(1)
    (permit,) = take(limiter)
    dead = asyncio.new_event_loop()
    task = dead.create_task(limiter.aacquire())
    dead.call_soon(dead.stop)
    dead.run_forever()
    limiter.release(permit, SUCCESS)  # from outside the loop: the wake-up is only queued there
    assert limiter.in_flight == 1
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    dead.close()
    del task
    gc.collect()
    assert limiter.in_flight == 0


def test_a_forced_permit_is_always_granted_and_counted(stage: Stage) -> None:
    limiter = fixed(1)
    (permit,) = take(limiter)
    forced = limiter.force()
    assert (forced.forced, limiter.in_flight, limiter.forced) == (True, 2, 1)
    waiting = stage.start(limiter.aacquire())
    stage.call(limiter.release, permit, SUCCESS)
    assert not waiting.done()  # the forced one still fills the limit
    stage.call(limiter.release, forced, SUCCESS)
    assert waiting.done()


def test_a_permit_above_the_limit_waits_for_what_time_alone_gives_and_takes_its_turn_back(
    stage: Stage,
) -> None:
    limiter, turns = Limiter("host/model", Concurrency(1, 1, 1), [("requests", 2)]), Together("turns", 1)
    take(limiter)
    (turn,) = take(turns)
    wait_s = limiter.force_in_time(0, turn)
    assert isinstance(wait_s, float), "the user's ceiling holds"
    stage.advance(wait_s)
    permit = limiter.force_in_time(0, turn)
    assert isinstance(permit, Permit)
    assert (permit.forced, limiter.in_flight, turns.in_flight) == (True, 2, 1)
    stage.call(limiter.release, permit, DROPPED, 90.0)
    assert (limiter.in_flight, turns.in_flight) == (1, 0)
    assert limiter.force_in_time(0, turn) == pytest.approx(90.0), "so does a pause"


# The shared pause


def test_a_pause_is_never_undercut_and_one_probe_goes_first(stage: Stage) -> None:
    limiter = fixed(8)
    permits = take(limiter, 3)
    for permit in permits:
        stage.call(limiter.release, permit, DROPPED, 3600.0)
    late = [stage.start(limiter.aacquire()) for _ in range(6)]
    stage.advance(3599.999)
    assert granted(late) == []
    stage.advance(0.001)
    assert granted(late) == [0]
    stage.pass_by(2)
    assert granted(late) == [0, 1, 2, 3, 4, 5], "a probe that is not rejected at once was admitted"


def test_after_a_probe_that_was_not_rejected_ever_more_follow_and_never_two_at_once(stage: Stage) -> None:
    limiter = fixed(100)
    (permit,) = take(limiter)
    stage.loop.now_s += 0.1
    stage.call(limiter.release, permit, DROPPED, 10.0)
    tasks = [stage.start(limiter.aacquire()) for _ in range(60)]
    stage.advance(10)
    assert granted(tasks) == [0]
    counts = [1]
    while counts[-1] < 60:
        stage.advance(0.01)
        counts.append(len(granted(tasks)))
    moments = [counts.index(next(n for n in counts if n >= count)) for count in (2, 16, 32, 60)]
    first, *rest = (later - sooner for sooner, later in itertools.pairwise(moments))
    assert max(rest) <= first, "it gets faster"
    assert max(after - before for before, after in itertools.pairwise(counts)) <= 8


def test_a_rejected_probe_starts_over_with_one(stage: Stage) -> None:
    limiter = Limiter("k", Concurrency(50, 1, 50))
    permits = take(limiter, 50)
    stage.call(limiter.release, permits[0], DROPPED, 10.0)
    for permit in permits[1:]:
        stage.call(limiter.release, permit, IGNORED)
    tasks = [stage.start(limiter.aacquire()) for _ in range(3)]
    stage.advance(10)
    stage.call(limiter.release, tasks[0].result(), DROPPED, 5.0)
    stage.advance(4.9)
    assert granted(tasks) == [0]
    stage.advance(0.1)
    assert granted(tasks) == [0, 1]


def test_a_cancelled_probe_lets_another_one_go(stage: Stage) -> None:
    limiter = fixed(10)
    (permit,) = take(limiter)
    stage.call(limiter.release, permit, DROPPED, 10.0)
    tasks = [stage.start(limiter.aacquire()) for _ in range(3)]
    stage.advance(10)
    stage.call(limiter.release, tasks[0].result(), IGNORED)
    assert granted(tasks) == [0, 1]


def test_success_of_a_request_sent_before_the_pause_lets_nobody_follow(stage: Stage) -> None:
    limiter = fixed(10)
    early, dropped = take(limiter, 2)
    stage.call(limiter.release, dropped, DROPPED, 10.0)
    tasks = [stage.start(limiter.aacquire()) for _ in range(3)]
    stage.advance(10)
    stage.call(limiter.release, early, SUCCESS)
    assert granted(tasks) == [0]


def test_the_longest_of_several_pauses_holds(stage: Stage) -> None:
    limiter = fixed(10)
    one, two, three = take(limiter, 3)
    waiting = None
    stage.call(limiter.release, one, DROPPED, 5.0)
    waiting = stage.start(limiter.aacquire())
    stage.call(limiter.release, two, DROPPED, 50.0)
    stage.call(limiter.release, three, DROPPED, 2.0)
    assert limiter.paused_until == clock.now() + 50
    stage.advance(49.9)
    assert not waiting.done()
    stage.advance(0.1)
    assert waiting.done()


def test_a_pause_that_begins_while_others_wait_is_timed_for_them(stage: Stage) -> None:
    limiter = fixed(2)
    permits = take(limiter, 2)
    waiting = stage.start(limiter.aacquire())
    for permit in permits:
        stage.call(limiter.release, permit, DROPPED, 7.0)
    assert limiter.waiting == 1
    stage.advance(7)
    assert waiting.done()


def test_the_end_of_a_pause_reaches_other_loops_when_one_has_closed(stage: Stage) -> None:
    limiter = fixed(1)
    (permit,) = take(limiter)
    dead = asyncio.new_event_loop()
    task = dead.create_task(limiter.aacquire())
    dead.call_soon(dead.stop)
    dead.run_forever()
    waiting = stage.start(limiter.aacquire())
    stage.call(limiter.release, permit, DROPPED, 5.0)
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    dead.close()
    stage.advance(5)
    assert waiting.done()
    assert limiter.in_flight == 1


def test_a_parked_thread_learns_that_a_pause_is_over(stage: Stage) -> None:
    limiter = fixed(1)
    (permit,) = take(limiter)
    results: list[object] = []
    thread, _ = park(limiter, results)
    limiter.release(permit, DROPPED, 100.0)
    stage.loop.now_s += 99
    assert limiter.try_acquire() is None
    assert results == []
    stage.loop.now_s += 1
    thread.join(30)
    assert isinstance(results[0], Permit)


# What the limit learns


def spread(stage: Stage, limiter: Limiter, count: int) -> list[Permit]:
    """So many permits, as time lets them go."""
    tasks = [stage.start(limiter.aacquire()) for _ in range(count)]
    while not all(task.done() for task in tasks):
        stage.advance(0.005)
    return [task.result() for task in tasks]


def test_a_start_is_spread_evenly_and_not_a_burst(stage: Stage) -> None:
    limiter = Limiter("k", Concurrency(10, 1, 500))
    moments = [permit.at_s for permit in spread(stage, limiter, 40)]
    gaps = [after - before for before, after in itertools.pairwise(moments)]
    assert min(gaps) > 0.0
    assert max(gaps) <= 0.11, "no longer than until the first are known to be admitted"


def test_of_a_burst_that_is_rejected_the_number_that_fitted_stays(stage: Stage) -> None:
    limiter = Limiter("k", Concurrency(100, 1, 500))
    permits = spread(stage, limiter, 60)
    for permit in permits[50:]:
        stage.call(limiter.release, permit, DROPPED)
    assert (limiter.limit, limiter.generation) == (50, 1), (
        "also the first one had no place, which seemed to be chance"
    )
    for permit in permits[:50]:
        stage.call(limiter.release, permit, SUCCESS)
    assert limiter.limit <= 52, "answered, but sent before: hardly a reason to grow"


def test_one_rejection_alone_is_no_evidence(stage: Stage) -> None:
    limiter = Limiter("k", Concurrency(100, 1, 500))
    permits = spread(stage, limiter, 60)
    before = limiter.limit
    stage.call(limiter.release, permits[30], DROPPED)
    assert (limiter.limit, limiter.generation) == (before, 0)


def test_after_rejections_one_goes_first_and_the_others_once_it_was_not_rejected(stage: Stage) -> None:
    limiter = Limiter("k", Concurrency(10, 1, 500))
    permits = spread(stage, limiter, 10)
    for permit in permits[5:]:
        stage.call(limiter.release, permit, DROPPED)
    for permit in permits[:5]:
        stage.call(limiter.release, permit, SUCCESS)
    waiting = [stage.start(limiter.aacquire()) for _ in range(6)]
    assert granted(waiting) == []
    while not granted(waiting):
        stage.advance(0.01)
    assert granted(waiting) == [0]
    stage.pass_by(2)
    assert len(granted(waiting)) >= 5


def test_while_all_are_rejected_ever_fewer_are_sent(stage: Stage) -> None:
    limiter = Limiter("k", Concurrency(10, 1, 500))
    for permit in spread(stage, limiter, 10):
        limiter.release(permit, DROPPED)
    rejected = 0
    for _ in range(6_000):
        stage.loop.now_s += 0.1
        if (permit := limiter.try_acquire()) is not None:
            stage.loop.now_s += 0.05
            limiter.release(permit, DROPPED)
            rejected += 1
    assert 3 <= rejected <= 60


def test_ignored_calls_teach_nothing() -> None:
    limiter = Limiter("k", Concurrency(10, 10, 10))
    for _ in range(20):
        for permit in take(limiter, 10):
            limiter.release(permit, IGNORED)
    assert (limiter.limit, limiter.accepted, limiter.last_accepted) == (10, 0, None)


def test_a_used_limit_reaches_five_hundred_within_ten_round_trips(stage: Stage) -> None:
    limiter = Limiter("k", Concurrency(10, 1, 500))
    began_s, held = stage.loop.now_s, []
    while limiter.limit < 500:
        while (permit := limiter.try_acquire()) is not None:
            held.append(permit)
        stage.loop.now_s += 0.01
        while held and held[0].at_s <= stage.loop.now_s - 5.0:
            limiter.release(held.pop(0), SUCCESS)
    assert stage.loop.now_s - began_s <= 10 * 5.0


def test_the_time_of_the_last_success_is_kept(stage: Stage) -> None:
    limiter = fixed(1)
    stage.call(limiter.release, take(limiter)[0], SUCCESS)
    assert limiter.last_accepted == clock.now()


# Threads, words, registry


def test_an_abandoned_thread_wakes_with_row_closed_and_holds_nothing() -> None:
    limiter = fixed(1)
    (permit,) = take(limiter)
    results: list[object] = []
    thread, waiter = park(limiter, results)
    waiter.abandon()
    thread.join(30)
    assert isinstance(results[0], RowClosed)
    limiter.release(permit, SUCCESS)
    assert (limiter.in_flight, limiter.waiting) == (0, 0)


def test_a_waiter_abandoned_before_it_is_parked_never_waits() -> None:
    limiter = fixed(1)
    take(limiter)
    with pytest.raises(RowClosed):
        limiter.acquire(on_wait=Waiter.abandon)
    assert limiter.waiting == 0


def test_an_abandon_that_crosses_the_grant_passes_the_permit_on(stage: Stage) -> None:
    limiter = fixed(1)
    (permit,) = take(limiter)

    def grant_then_abandon(waiter: Waiter) -> None:
        limiter.release(permit, SUCCESS)  # so that it is granted the moment it is in line
        waiter.abandon()

    with pytest.raises(RowClosed):
        limiter.acquire(on_wait=grant_then_abandon)
    assert limiter.in_flight == 0


def test_on_wait_is_not_called_where_a_permit_is_free() -> None:
    limiter = fixed(1)
    calls: list[Waiter] = []
    limiter.acquire(on_wait=calls.append)
    assert calls == []


def test_its_words_tell_its_state(stage: Stage) -> None:
    limiter = Limiter("api.example/m", Concurrency(10, 10, 10))
    permits = take(limiter, 4)
    assert repr(limiter) == "<Limiter api.example/m 4/10.0 in flight, 0 waiting, generation 0>"
    limiter.release(permits[0], DROPPED, 30.0)
    assert "paused for 30.0 s" in repr(limiter)
    assert repr(permits[0]) == "<Permit api.example/m generation 0 given back>"


def test_a_key_has_one_turnstile_that_starts_at_the_initial_limit() -> None:
    limiters = Limiters(AdaptiveConcurrency(initial=4, minimum=2, maximum=9))
    assert limiters.of("a") is limiters.of("a")
    assert limiters.of("a") is not limiters.of("b")
    assert (limiters.of("a").limit, limiters.initial, limiters.maximum) == (4, 4, 9)
    assert sorted(t.key for t in limiters) == ["a", "b"]
