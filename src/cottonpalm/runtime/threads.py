"""Our own threads for steps that block. They hand their answers to one event loop.

asyncio's default executor wakes the loop once for each answer, has few threads, and keeps the process from
ending until every thread is done. A `Crew` hands back all answers of a loop turn at once, grows to the
wanted number of threads, and its threads are daemons.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import queue
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    Late: TypeAlias = Callable[[Any, BaseException | None], None]

T = TypeVar("T")
IDLE_S: Final = 30.0
# the id of the event loop on whose thread our caller waits for us: that loop stands still meanwhile; 0: there is none
BLOCKS_A_LOOP: Final[contextvars.ContextVar[int]] = contextvars.ContextVar(
    "cottonpalm_blocks_a_loop", default=0
)
_crews: weakref.WeakSet[Crew] = weakref.WeakSet()


def loop_here() -> int:
    """Return the id of the event loop that this thread runs right now; 0 if it runs none.

    gevent's threads are one to asyncio, to which the loop of each runs in all. But they have idents of their own.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return 0
    here = threading.get_ident()
    return id(loop) if getattr(loop, "_thread_id", here) == here else 0


def runs_a_loop() -> bool:
    """Whether this thread runs an event loop right now."""
    return loop_here() != 0


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the loop that runs here, for a call that awaits.

    Raises:
        RuntimeError: none of asyncio's does: the caller awaits under trio, or drives the coroutine by hand.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "no event loop of asyncio runs here, which an awaited call needs; under trio, call the one without `a` on "
            "a thread: await trio.to_thread.run_sync(processor.batch, rows)"
        ) from None


class Crew:
    """Runs functions on daemon threads and hands their answers back to one event loop.

    Use a crew only on the thread of that loop. A thread ends when it had nothing to do for `idle_s` seconds;
    all threads end after `close`. In a forked child, a crew starts with no threads and no jobs.

    Args:
        maximum: the most threads at once; further functions wait their turn, first come first served.
        loop: where answers go; the running loop if None. One that says `threadless` runs the functions itself.
        idle_s: seconds an unused thread stays.
        name: what the threads are called.
    """

    def __init__(
        self,
        maximum: int = 512,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        idle_s: float = IDLE_S,
        name: str = "cottonpalm-step",
    ) -> None:
        self.maximum = maximum
        self._loop = loop or asyncio.get_running_loop()
        self._threadless = getattr(self._loop, "threadless", False)
        self._idle_s, self._name = idle_s, name
        self._closed = False
        self._forget()
        _crews.add(self)

    def _forget(self) -> None:
        """Set the state of a crew without threads: at its start, and when it finds that it is in a forked child."""
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._answers: deque[tuple[_Job, Any, BaseException | None]] = deque()
        self._told = False  # True: the loop will call back, and will then see every answer appended so far
        self._lock = threading.Lock()  # guards `_threads` when a thread ends while a new job arrives
        self._threads = 0
        self._open = 0

    @property
    def threads(self) -> int:
        """Threads alive now, idle ones included."""
        return self._threads

    @property
    def busy(self) -> int:
        """Functions given and not yet ended, including those whose answer nobody awaits any more."""
        return self._open

    def run(self, fn: Callable[[], T], *, late: Late | None = None) -> asyncio.Future[T]:
        """Start `fn` in a copy of the current context; await the result for its answer.

        If the await is cancelled, a function that has not begun is never called. A function that has begun
        runs to its end, and the crew drops its answer.

        Args:
            fn: what to run. A StopIteration it raises arrives as a RuntimeError.
            late: called on the loop with (answer, error) when a function that nobody awaits any more has
            ended.
        """
        if self._closed:
            raise RuntimeError("this crew is closed")
        if self._threadless:
            return self._loop.run_in_executor(None, contextvars.copy_context().run, fn)
        future: asyncio.Future[T] = self._loop.create_future()
        self._open += 1
        self._jobs.put((future, contextvars.copy_context(), fn, late))
        with self._lock:
            grow = self._threads < self._open and self._threads < self.maximum
            self._threads += grow
        if grow:
            self._hire(future)
        return future

    def close(self) -> None:
        """Let the threads end after the functions already given. Does not wait for them."""
        self._closed = True
        self._jobs.put(None)

    def _hire(self, future: asyncio.Future[Any]) -> None:
        thread = threading.Thread(target=self._work, args=(self._jobs,), name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system gives no more threads: the existing ones do the work
            with self._lock:
                self._threads -= 1
            if not self._threads:
                future.cancel()
                raise

    # -- on the threads -----------------------------------------------------------------------------

    def _work(self, jobs: queue.SimpleQueue[_Job | None]) -> None:
        while (job := self._take(jobs)) is not None:
            self._answers.append((job, *_answer(job)))
            del job  # else an idle thread would keep the job's objects alive
            if not self._told:
                self._told = True
                try:
                    self._loop.call_soon_threadsafe(self._hand_back)
                except RuntimeError:  # the loop is closed, so nobody waits for the answer
                    self._answers.clear()

    def _take(self, jobs: queue.SimpleQueue[_Job | None]) -> _Job | None:
        """Return the next job, or None if this thread is to end; then it is no longer counted in `threads`."""
        while True:
            try:
                job = jobs.get(timeout=self._idle_s)
            except queue.Empty:
                job = None
            if job is not None:
                return job
            with self._lock:
                if self._closed or jobs.empty():
                    self._threads -= 1
                    break
        if self._closed:
            jobs.put(None)  # tells the next thread to end too
        return None

    # -- on the loop --------------------------------------------------------------------------------

    def _hand_back(self) -> None:
        self._told = False
        answers = self._answers
        while answers:
            (future, _, _, late), answer, error = answers.popleft()
            self._open -= 1
            if future.done():
                if late is not None:
                    late(answer, error)
            elif error is not None:
                future.set_exception(error)
            else:
                future.set_result(answer)


_Job: TypeAlias = "tuple[asyncio.Future[Any], contextvars.Context, Callable[[], Any], Late | None]"


def _answer(job: _Job) -> tuple[Any, BaseException | None]:
    future, context, fn, _ = job
    if future.cancelled():
        return None, asyncio.CancelledError()
    try:
        return context.run(fn), None
    except StopIteration as exc:  # asyncio refuses to set a StopIteration on a future
        error = RuntimeError("a step raised StopIteration")
        error.__cause__ = exc
        return None, error
    except BaseException as exc:  # noqa: BLE001 - a row's SystemExit ends the row, not the thread
        return None, exc


def _after_fork() -> None:
    for crew in _crews:
        crew._forget()  # noqa: SLF001 - its own module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
