"""Storms: three event loops and three threads on one limiter, with cancels, rejections and closed loops.

Real loops and real threads, no virtual time. Counting is done under the test's own lock.
"""

from __future__ import annotations

import asyncio
import threading
from random import Random

import pytest

from cottonpalm.request.limiter.limiter import Limiter, Permit
from cottonpalm.request.limiter.rules.concurrency import Concurrency
from cottonpalm.runtime.wait_queue import RowClosed, Waiter
from cottonpalm.types import Verdict
from tests.request.stage import restless  # noqa: F401 - a fixture

pytestmark = pytest.mark.core
LARGEST = 8


class Storm:
    """Counts who is inside, and remembers the most there ever were."""

    def __init__(self, seed: int) -> None:
        self.limiter = Limiter("storm", Concurrency(4, 2, LARGEST))
        self.seed = seed
        self.lock = threading.Lock()
        self.inside = self.peak = self.entries = 0
        self.errors: list[BaseException] = []

    def enter(self) -> None:
        with self.lock:
            self.inside += 1
            self.entries += 1
            self.peak = max(self.peak, self.inside)

    def leave(self, permit: Permit, rng: Random) -> None:
        with self.lock:
            self.inside -= 1
        verdict = rng.choices([Verdict.SUCCESS, Verdict.DROPPED, Verdict.IGNORED], [16, 0.3, 2])[0]
        pause_s = 0.002 if verdict is Verdict.DROPPED and rng.random() < 0.3 else 0.0
        self.limiter.release(permit, verdict, pause_s)

    async def visit(self, rng: Random) -> None:
        permit = await self.limiter.aacquire(rng.randrange(3))
        self.enter()
        try:
            for _ in range(rng.randrange(3)):
                await asyncio.sleep(0)
        finally:
            self.leave(permit, rng)

    async def on_loop(self, number: int, visits: int) -> None:
        rng = Random(self.seed * 100 + number)
        tasks: set[asyncio.Task[None]] = set()
        for _ in range(visits):
            tasks.add(asyncio.create_task(self.visit(rng)))
            if rng.random() < 0.3:
                await asyncio.sleep(0)
            if rng.random() < 0.3:
                rng.choice(sorted(tasks, key=id)).cancel()
            tasks = {task for task in tasks if not task.done()}
        await asyncio.wait(tasks) if tasks else None

    async def leave_early(self, number: int) -> None:
        """A loop that ends with its tasks still in line."""
        rng = Random(self.seed * 100 + number)
        self.left = [asyncio.create_task(self.visit(rng)) for _ in range(20)]
        await asyncio.sleep(0.001)

    def on_thread(self, number: int, visits: int) -> None:
        rng = Random(self.seed * 100 + number)
        for _ in range(visits):
            try:
                permit = self.limiter.acquire(rng.randrange(3), lambda w: self.maybe_abandon(w, rng))
            except RowClosed:
                continue
            self.enter()
            self.leave(permit, rng)

    def maybe_abandon(self, waiter: Waiter, rng: Random) -> None:
        if rng.random() < 0.2:
            threading.Timer(rng.random() * 0.002, waiter.abandon).start()

    def guarded(self, work: object, *args: object) -> threading.Thread:
        def run() -> None:
            try:
                work(*args)  # type: ignore[operator]
            except BaseException as error:
                self.errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def run(self, visits: int) -> None:
        threads = [self.guarded(asyncio.run, self.on_loop(number, visits)) for number in range(3)]
        threads += [self.guarded(self.on_thread, number, visits) for number in range(3, 6)]
        threads += [self.guarded(asyncio.run, self.leave_early(number)) for number in range(6, 9)]
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive(), f"stuck: {self.limiter!r}"


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize("seed", range(6))
def test_a_storm_leaves_no_permit_and_never_exceeds_the_largest_limit(seed: int) -> None:
    storm = Storm(seed)
    storm.run(visits=250)
    assert storm.errors == []
    assert storm.peak <= LARGEST
    assert (storm.inside, storm.limiter.in_flight, storm.limiter.waiting) == (0, 0, 0)
    assert storm.entries > 750


def test_a_loop_abandoned_with_tasks_in_line_blocks_nobody() -> None:
    """Closed by force, without a cancel: its tasks never run again."""
    limiter = Limiter("k", Concurrency(2, 2, 2))
    held = [limiter.try_acquire(), limiter.try_acquire()]
    dead = asyncio.new_event_loop()
    tasks = [dead.create_task(limiter.aacquire(9)) for _ in range(50)]
    dead.call_soon(dead.stop)
    dead.run_forever()
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    dead.close()
    got: list[Permit] = []
    thread = threading.Thread(target=lambda: got.append(limiter.acquire()), daemon=True)
    thread.start()
    for permit in held:
        assert permit is not None
        limiter.release(permit, Verdict.SUCCESS)
    thread.join(30)
    assert len(got) == 1
    assert (limiter.in_flight, limiter.waiting) == (1, 0)


def test_threads_alone_sit_out_a_real_pause_and_all_get_through() -> None:
    limiter = Limiter("k", Concurrency(4, 4, 4))
    first = limiter.try_acquire()
    assert first is not None
    limiter.release(first, Verdict.DROPPED, 0.05)
    until, entered = limiter.paused_until, []

    def visit() -> None:
        permit = limiter.acquire()
        entered.append(limiter.paused_until == until)
        limiter.release(permit, Verdict.SUCCESS)

    threads = [threading.Thread(target=visit, daemon=True) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert entered == [True] * 10
    assert (limiter.in_flight, limiter.waiting) == (0, 0)
