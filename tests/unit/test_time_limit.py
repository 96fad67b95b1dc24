"""A limit on time with one timer for all of a loop: it ends like `asyncio.timeout`, and leaves nothing behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cottonpalm.runtime import time_limit
from cottonpalm.runtime.time_limit import TimeLimit
from cottonpalm.testing import VirtualLoop, virtual_run


async def ours(seconds: float, inside: float, seen: list[Any]) -> str:
    with TimeLimit(seconds):
        seen.append(await ends(inside, seen))
    return "in time"


async def stock(seconds: float, inside: float, seen: list[Any]) -> str:
    async with asyncio.timeout(seconds):
        seen.append(await ends(inside, seen))
    return "in time"


async def ends(inside: float, seen: list[Any]) -> str:
    try:
        await asyncio.sleep(inside)
    except asyncio.CancelledError:
        seen.append("cancelled within")
        raise
    return "slept"


async def seen_of(way: Any, seconds: float, inside: float, cancel_at: float | None) -> tuple[Any, ...]:
    """How it ended: what was raised, when, and what the task counts of its cancels."""
    loop, seen = asyncio.get_running_loop(), list[Any]()
    task = loop.create_task(way(seconds, inside, seen))
    if cancel_at is not None:
        loop.call_later(cancel_at, task.cancel)
    try:
        ended: Any = await asyncio.wait_for(asyncio.shield(task), 100)
    except BaseException as error:
        ended = type(error)
    return ended, seen, task.cancelling(), round(loop.time(), 6)


@pytest.mark.parametrize("cancel_at", [None, 0.5, 2.0, 5.0])
@pytest.mark.parametrize(("seconds", "inside"), [(2.0, 1.0), (2.0, 3.0), (3.0, 2.0), (0.0, 1.0)])
def test_it_ends_as_a_timeout_of_asyncio_does(seconds: float, inside: float, cancel_at: float | None) -> None:
    both = [virtual_run(seen_of(way, seconds, inside, cancel_at)) for way in (ours, stock)]
    assert both[0] == both[1]


def test_what_is_cut_off_ends_at_once_as_if_its_time_were_over_and_only_within_the_block() -> None:
    async def main() -> None:
        loop, limit = asyncio.get_running_loop(), TimeLimit(100)
        loop.call_later(1, limit.cut)
        loop.call_later(1, limit.cut)
        with pytest.raises(TimeoutError), limit:
            await asyncio.sleep(10)
        limit.cut()
        await asyncio.sleep(10)
        assert loop.time() == pytest.approx(11)

    virtual_run(main())


def test_each_of_many_is_over_in_its_own_time_and_the_last_one_leaves_no_loop_behind() -> None:
    async def one(seconds: float) -> float:
        with pytest.raises(TimeoutError), TimeLimit(seconds):
            await asyncio.sleep(1_000)
        return asyncio.get_running_loop().time()

    async def main() -> list[float]:
        return await asyncio.gather(*map(one, (5.0, 1.0, 3.0, 1.0)))

    assert virtual_run(main()) == pytest.approx([5.0, 1.0, 3.0, 1.0])
    assert not time_limit._limits


def test_an_error_of_the_block_passes_even_where_its_time_is_over() -> None:
    async def raising() -> None:
        try:
            await asyncio.sleep(2)
        except asyncio.CancelledError:
            raise KeyError from None

    async def main() -> None:
        with pytest.raises(KeyError), TimeLimit(1):
            await raising()
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()

    virtual_run(main())


class Standing(VirtualLoop):
    """A loop that can stand still, as that of a process which is stopped or whose machine sleeps."""

    def stand(self, seconds: float) -> None:
        self._now += seconds


def test_an_answer_that_came_while_the_loop_stood_still_is_read_before_its_time_is_over() -> None:
    async def main() -> None:
        loop, answer = asyncio.get_running_loop(), asyncio.Event()
        assert isinstance(loop, Standing)

        def stopped() -> None:
            loop.stand(3_600)
            # by some steps, as bytes go from the socket to the task
            loop.call_soon(loop.call_soon, loop.call_soon, answer.set)

        loop.call_later(1, stopped)
        with TimeLimit(5):
            await answer.wait()

    with asyncio.Runner(loop_factory=Standing) as runner:
        runner.run(main())


def test_what_did_not_come_while_the_loop_stood_still_is_over_a_moment_later_though_it_stands_again() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Standing)
        loop.call_later(1, loop.stand, 3_600)
        loop.call_later(3_601.5, loop.stand, 60)
        with pytest.raises(TimeoutError), TimeLimit(5):
            await asyncio.sleep(100_000)
        return loop.time()

    with asyncio.Runner(loop_factory=Standing) as runner:
        assert runner.run(main()) == pytest.approx(3_661.5)
