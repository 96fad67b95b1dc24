"""The line of those who wait: somebody always looks again when time alone can move it."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from cottonpalm import clock
from cottonpalm.runtime.wait_queue import State, Waiter, WaitQueue
from cottonpalm.testing import virtual_run

LONG_S = 10_000.0


class Door(WaitQueue[float]):
    """Lets one in at a time, from a moment on; None: nobody knows when. What it is told moves the moment."""

    def __init__(self, opens_s: float | None) -> None:
        super().__init__()
        self.opens_s = opens_s

    def _offer(self, ask: Any) -> float | None:
        if self.opens_s is None or clock.now() < self.opens_s:
            return None
        self.opens_s = None
        return clock.now()

    def _take_back(self, prize: float, ask: Any) -> None:
        self.opens_s = clock.now()

    def _look_again_s(self) -> float | None:
        return None if self.opens_s is None else self.opens_s - clock.now()

    async def enter(self) -> float:
        """Wait until it is our turn; when that was."""
        return await self._wait_in_task(0)

    def told(self, opens_s: float) -> None:
        """Something happened: it opens then."""
        with self._lock:
            self.opens_s = opens_s
            served, told = self._serve(), self._who_must_know()
        self._wake(served)
        self._alert(told)


class LikeUvloop(asyncio.SelectorEventLoop):
    """What is due in less than a millisecond is called soon, and its handle does not know when: as uvloop has it."""

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
        if round(delay * 1000) == 0:
            return self.call_soon(callback, *args, context=context)
        return super().call_later(delay, callback, *args, context=context)


def test_a_loop_whose_short_timers_do_not_say_when_they_ring_serves_all() -> None:
    async def through(door: Door) -> None:
        door.told(await door.enter() + 0.0004)

    async def main() -> None:
        for _ in range(20):
            door = Door(clock.now() + 0.0004)
            await asyncio.gather(*(through(door) for _ in range(3)))

    with asyncio.Runner(loop_factory=LikeUvloop) as runner:
        runner.run(asyncio.wait_for(main(), 30))


def test_a_timer_that_was_early_is_not_taken_for_one_that_is_still_set() -> None:
    async def main() -> list[float]:
        door = Door(10.0)
        both = [asyncio.ensure_future(door.enter()) for _ in range(2)]
        await asyncio.sleep(1.0)
        door.told(20.0)  # everybody looks again by then
        door.opens_s = 15.0  # and before, without a word: the timer of the tenth second finds that
        await asyncio.sleep(15.0)
        assert both[0].done()
        door.told(30.0)  # at 16: nobody's timer is set any more, whatever was said of the twentieth second
        return list(await asyncio.wait_for(asyncio.gather(*both), LONG_S))

    assert virtual_run(main()) == [15.0, 30.0]


@pytest.mark.parametrize("seed", range(200))
def test_nobody_is_forgotten_whatever_moves_the_moment_and_how_it_is_told(seed: int) -> None:
    """Moments move forth and back, told and untold; people come and leave. The last word is told, and must be kept."""
    rng = Random(seed)

    async def main() -> None:
        door = Door(rng.choice([None, 3.0]))
        people = [asyncio.ensure_future(door.enter()) for _ in range(rng.randint(1, 8))]
        for _ in range(rng.randint(5, 60)):
            await asyncio.sleep(rng.choice([0.0, 0.5, 2.0, 5.0]))
            match rng.randrange(4):
                case 0:
                    door.told(clock.now() + rng.choice([0.0, 1.0, 4.0, 25.0]))
                case 1 if door.opens_s is not None:  # sooner than what was told, without a word
                    door.opens_s = min(door.opens_s, clock.now() + rng.choice([0.7, 3.0]))
                case 2:
                    people.append(asyncio.ensure_future(door.enter()))
                case 3 if rng.random() < 0.3:
                    rng.choice(people).cancel()
        while waiting := [one for one in people if not one.done()]:
            opens_s = clock.now() + rng.choice([0.5, 6.0, 40.0])
            door.told(opens_s)
            await asyncio.wait(waiting, timeout=LONG_S, return_when=asyncio.FIRST_COMPLETED)
            assert clock.now() <= opens_s + 1e-6, "somebody went when it opened"

    virtual_run(main())


def test_who_was_told_to_leave_gets_nothing_though_its_thread_sleeps_on() -> None:
    door = Door(None)
    left, stays = Waiter(0), Waiter(0)
    for place in (left, stays):
        door._line_up(place, 0)
    left.abandon()
    door.told(clock.now())
    assert (left.state, stays.state, door.waiting) == (State.GONE, State.GRANTED, 0)
    assert door.opens_s is None, "one went in"
