"""A virtual clock: exactly one hour of backoff passes in a millisecond, and a deadlock is an error."""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, TypeVarTuple

from cottonpalm import clock

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterator
    from concurrent.futures import Executor
    from contextvars import Context

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
WALL_START_S: Final = 1_700_000_000.0


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock starts at 0 and jumps to the next timer whenever nothing else is ready.

    It does not support threads and sockets, since it would not wait for them. A function for an executor, or for a
    thread of ours, runs at once, on the loop, so that synchronous steps follow the virtual time too.

    Raises:
        RuntimeError: from the run, when no timer is set and no task can go on: a deadlock.
    """

    threadless = True  # see `Crew`

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0  # how many callbacks were scheduled; each step of each task is one
        self._alarm: tuple[int, Callable[[], object]] | None = None
        self._now = 0.0
        self._poll = self._selector.select  # type: ignore[attr-defined]  # private, only here
        self._selector.select = self._jump  # type: ignore[attr-defined]

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def at_step(self, step: int, alarm: Callable[[], object]) -> None:
        """Call `alarm` once, as soon as `steps` reaches `step`."""
        self._alarm = (step, alarm)

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Schedule a callback, counting it as a step."""
        handle = super().call_soon(callback, *args, context=context)
        self.steps += 1
        if self._alarm is not None and self.steps >= self._alarm[0]:
            (_, alarm), self._alarm = self._alarm, None
            alarm()
        return handle

    def run_in_executor(
        self, _executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Run `func` here and now; its future is done."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as exc:  # noqa: BLE001 - as an executor does
            future.set_exception(exc)
        return future

    def _jump(self, timeout: float | None) -> list[object]:
        if timeout is None:
            raise RuntimeError("deadlock: no timer is set and no task can run")
        ready: list[object] = self._poll(0)
        if not ready:
            self._now += timeout
        return ready


def virtual_run(main: Coroutine[Any, Any, T], seed: int | None = None) -> T:
    """Run `main` on a `VirtualLoop` with `cottonpalm.clock` on the loop's time, and give its result.

    Args:
        main: the coroutine to run.
        seed: if given, the module `random` is seeded with it for the run, and put back afterwards.
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        now = runner.get_loop().time
        clock.replace(now, lambda: WALL_START_S + now())
        try:
            with _seeded(seed):
                return runner.run(main)
        finally:
            clock.replace()


@contextlib.contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    state = random.getstate()
    if seed is not None:
        random.seed(seed)
    try:
        yield
    finally:
        if seed is not None:
            random.setstate(state)


@dataclass(frozen=True, slots=True)
class CutShort(Generic[T]):
    """How a coroutine under `cancel_at` ended. `awaits` counts its awaits up to its end, or to the cancel."""

    cancelled: bool
    awaits: int
    result: T | None = None


async def cancel_at(n: int, coro: Coroutine[Any, Any, T], *, anywhere: bool = False) -> CutShort[T]:
    """Run `coro` as a task, and cancel it at its n-th await that really waits; it may end before that.

    Args:
        n: counted from 1. To pick one at random, first run with a huge `n` and look at `awaits`.
        coro: what to run.
        anywhere: count the steps of all tasks of the loop, which must be a `VirtualLoop`. The cancel then comes at
            moments when `coro` itself just waits for others.

    Raises:
        Exception: what `coro` raised, except the CancelledError that follows our cancel.
    """
    counted = _Counted(coro, None if anywhere else n)
    task = asyncio.ensure_future(_await(counted))
    loop, begun = asyncio.get_running_loop(), 0
    if isinstance(loop, VirtualLoop) and anywhere:
        begun = loop.steps
        loop.at_step(begun + n, lambda: counted.cancel(task))
    elif anywhere:
        task.cancel()
        coro.close()
        raise TypeError("anywhere=True needs a VirtualLoop")
    await asyncio.wait([task])
    awaits = loop.steps - begun if isinstance(loop, VirtualLoop) and anywhere else counted.awaits
    if task.cancelled() and counted.cut:
        return CutShort(cancelled=True, awaits=awaits)
    return CutShort(cancelled=counted.cut, awaits=awaits, result=task.result())


async def _await(counted: _Counted[T]) -> T:
    return await counted


class _Counted(Generic[T]):
    """Awaits a coroutine, counting its suspensions; cancels the task at the n-th."""

    def __init__(self, coro: Coroutine[Any, Any, T], n: int | None) -> None:
        self._coro, self._n = coro, n
        self.awaits, self.cut = 0, False

    def cancel(self, task: asyncio.Task[Any] | None) -> None:
        if task is not None and not task.done():
            self.cut = task.cancel()

    def __await__(self) -> Generator[Any, Any, T]:
        inner, value, error = self._coro.__await__(), None, None
        while True:
            try:
                waited_on = inner.send(value) if error is None else inner.throw(error)
            except StopIteration as end:
                result: T = end.value
                return result
            self.awaits += 1
            if self.awaits == self._n:
                self.cancel(asyncio.current_task())
            value, error = None, None
            try:
                value = yield waited_on
            except BaseException as exc:  # noqa: BLE001 - handed on to the coroutine
                error = exc
