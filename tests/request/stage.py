"""A stage for admission tests: one event loop whose time moves only when the test says so."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, Self, TypeVar

import pytest

from cottonpalm import clock

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

T = TypeVar("T")


class _SteppedLoop(asyncio.SelectorEventLoop):
    """A loop that believes what it is told about the time."""

    now_s = 1000.0

    def time(self) -> float:
        return self.now_s


class Stage:
    """Tasks on one loop, moved on by hand. `clock.now()` is its time while it is open."""

    def __init__(self) -> None:
        self.loop = _SteppedLoop()
        self.tasks: list[asyncio.Task[Any]] = []

    def __enter__(self) -> Self:
        clock.replace(self.loop.time)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        self.settle()
        clock.replace()
        self.loop.close()

    def start(self, coro: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin a task and let everything run until nothing is ready."""
        task = self.loop.create_task(coro)
        self.tasks.append(task)
        self.settle()
        return task

    def settle(self) -> None:
        for _ in range(6):  # a wake-up, the task's step, what it calls soon
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    def call(self, function: Any, *args: Any, **named: Any) -> Any:
        """Call on the running loop, as code of a task would."""

        async def inside() -> Any:
            return function(*args, **named)

        result = self.loop.run_until_complete(inside())
        self.settle()
        return result

    def advance(self, seconds: float) -> None:
        """Let time pass and its timers fire."""
        self.loop.now_s += seconds
        self.settle()

    def pass_by(self, seconds: float, step_s: float = 0.01) -> None:
        """Let time pass in steps, so that timers that follow on others fire too."""
        for _ in range(round(seconds / step_s)):
            self.advance(step_s)


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads that take turns every 20 microseconds, so that a storm meets in the middle of things."""
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(2e-5)
    yield
    sys.setswitchinterval(usual_s)
