"""The one bridge from synchronous code to the event loop; nothing here patches a running loop.

A bridge is a daemon thread with an event loop that lives as long as the process, so that connection pools
made on it stay good. There is one bridge per nesting depth: code that runs for a bridge, on its loop or on
any thread it reached with its context, waits on the next bridge and so never on the loop it may be blocking.

One case is not supported: a step blocks our loop on a plain thread (one without the context), and that thread
calls back in here.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import socket
import sys
import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, TypeVarTuple, Unpack

from cottonpalm import clock
from cottonpalm.runtime.threads import BLOCKS_A_LOOP, Crew, loop_here

if sys.platform == "win32":
    from asyncio import ProactorEventLoop as PlatformLoop
else:
    from asyncio import SelectorEventLoop as PlatformLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine
    from concurrent.futures import Executor

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
STEP_THREADS: Final = 512
NAME_THREADS: Final = 32
# Seconds of one wait in a row of them. Ctrl-C cannot interrupt one without a timeout on some systems; and an exception
# that another thread raises in this one, as schedulers do whose tasks run on threads, comes only between two waits.
LOOK_S: Final = 1.0
DEPTH: Final[contextvars.ContextVar[int]] = contextvars.ContextVar("cottonpalm_bridge_depth", default=0)

_bridges: dict[int, Bridge] = {}
_lock = threading.Lock()
# the parent's, in a forked child: closing one would act on the parent's selector
_inherited: list[Bridge] = []


def bridge() -> Bridge:
    """Return the bridge for this caller: one that no outer caller is waiting on.

    Raises:
        RuntimeError: Python is shutting down, as where a finalizer calls late: the bridges' threads run no more.
    """
    if sys.is_finalizing():
        raise RuntimeError(
            "Python is shutting down and runs no more rows: call this earlier, at the latest by atexit"
        )
    here = threading.get_ident()
    with _lock:
        blocked = [found.depth + 1 for found in _bridges.values() if found.ident == here]
        depth = max(DEPTH.get(), *blocked, 0)
        if depth not in _bridges:
            _bridges[depth] = Bridge(depth)
        return _bridges[depth]


class BridgeLoop(PlatformLoop):
    """An event loop with many threads, which are daemons and run in the caller's context.

    Separate threads resolve host names. If they shared the threads of the steps, steps that wait for a permit
    could occupy all threads, and the holder of a permit could never reach its provider.
    """

    lasting = True  # nobody closes it: what is pooled on it by us may stay

    def __init__(self) -> None:
        super().__init__()
        self._wires: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()
        self._steps = Crew(STEP_THREADS, loop=self)
        self._names = Crew(NAME_THREADS, loop=self, name="cottonpalm-names")

    def time(self) -> float:
        """Return the time by which timers go: it goes on where a test has stopped asyncio's."""
        return clock.steady()

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Run `func` on our crew of threads, or on `executor` if one is given."""
        if executor is not None:
            return super().run_in_executor(executor, func, *args)
        return self._steps.run(partial(func, *args))

    async def create_connection(self, *args: Any, **options: Any) -> Any:
        """Connect, and remember what pools may keep open."""
        transport, protocol = await super().create_connection(*args, **options)
        self._wires.add(transport)
        return transport, protocol

    def hang_up(self, except_for: Collection[Any]) -> None:
        """Close the idle connections that HTTP clients keep here, for they may be used on other loops, too.

        Their pools notice a closed connection and open another. Drivers of databases speak other protocols; they know
        their loop, and are left alone.
        """
        for wire in set(self._wires).difference(except_for):
            protocol = wire.get_protocol()
            reading = getattr(protocol, "read_event", None)  # anyio's, which httpx and httpx2 stand on
            if reading is not None and not getattr(reading, "_waiters", ()):
                wire.close()

    async def getaddrinfo(self, host: Any, port: Any, **kinds: int) -> Any:
        """Resolve a host name."""
        return await self._names.run(partial(socket.getaddrinfo, host, port, **kinds))

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> tuple[str, str]:
        """Find the name of an address."""
        return await self._names.run(partial(socket.getnameinfo, sockaddr, flags))


class BridgeCall(Generic[T]):
    """One coroutine on its way through a bridge, as seen from outside the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, T], depth: int) -> None:
        self._loop, self._coro = loop, coro
        self._context = contextvars.copy_context()
        self._context.run(DEPTH.set, depth)
        if here := loop_here():  # else a loop that our caller's callers block is blocked still
            self._context.run(BLOCKS_A_LOOP.set, here)
        self._task: asyncio.Task[T] | None = None
        self._ended = False
        self.error: BaseException | None = None  # what the coroutine raised, unless cancelled
        # This is not an Event: acquiring a lock is a single step, so a Ctrl-C cannot leave it half done.
        self._end = threading.Lock()
        self._end.acquire()

    def begin(self) -> None:
        """Start the coroutine. A second call does nothing."""
        self._loop.call_soon_threadsafe(self._begin, context=self._context)

    def _begin(self) -> None:
        if self._task is None:
            self._task = self._loop.create_task(self._coro, context=self._context)
            self._task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[T]) -> None:
        if not task.cancelled():
            self.error = task.exception()
        self._ended = True
        self._end.release()

    def cancel(self) -> None:
        """Cancel the coroutine, from any thread."""
        self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        self._begin()  # a task that was cancelled before its first step closes its coroutine
        assert self._task is not None
        self._task.cancel()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait at most `timeout_s` seconds for the coroutine to end; return whether it has ended."""
        while not self._ended:
            if self._end.acquire(timeout=LOOK_S if timeout_s is None else timeout_s):
                self._end.release()  # so that the next waiter can acquire it
            if timeout_s is not None:
                break
        return self._ended

    def result(self) -> T:
        """Return what the ended coroutine returned, or raise what it raised."""
        assert self._task is not None
        return self._task.result()


class Bridge:
    """One event loop on one daemon thread. Get it from `bridge()` each time; do not keep it."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.loop: asyncio.AbstractEventLoop = BridgeLoop()
        thread = threading.Thread(target=self._run, name=f"cottonpalm-loop-{depth}", daemon=True)
        thread.start()
        self.ident = thread.ident

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        while True:
            try:
                self.loop.run_forever()
            except (SystemExit, KeyboardInterrupt):
                continue  # a task raised this; the task keeps the exception, and the other tasks go on

    def start(self, coro: Coroutine[Any, Any, T]) -> BridgeCall[T]:
        """Run `coro` on the loop, in a copy of the caller's context, without waiting for it."""
        call = BridgeCall(self.loop, coro, self.depth + 1)
        call.begin()
        return call

    def wait(
        self, coro: Coroutine[Any, Any, T], stop: Callable[[], object] = lambda: None, grace_s: float = 5.0
    ) -> T:
        """Run `coro` on the loop and wait for its result, in a copy of the caller's context.

        Args:
            coro: what to run.
            stop: called on the loop at the first Ctrl-C; `coro` is to end soon by itself, then KeyboardInterrupt is
                raised here, with what `coro` raised as its cause.
            grace_s: seconds a cancelled `coro` has to tidy up before the caller is let go without it.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed. At the second one, or at any other exception that a signal
                handler raises, `coro` is cancelled.
            RuntimeError: called on the thread of this very loop.
        """
        if threading.get_ident() == self.ident:
            coro.close()
            raise RuntimeError("this would wait for the loop it is blocking; call bridge() where you wait")
        call = BridgeCall(self.loop, coro, self.depth + 1)
        try:
            interrupt = self._attend(call, stop)
        except BaseException:
            call.cancel()
            call.join(grace_s)
            raise
        if interrupt is not None:
            raise interrupt from call.error
        return call.result()

    def _attend(self, call: BridgeCall[Any], stop: Callable[[], object]) -> KeyboardInterrupt | None:
        """Wait until `call` ends. The first Ctrl-C is returned after that; a second one is raised at once."""
        interrupt = None
        try:
            call.begin()
            call.join()
        except KeyboardInterrupt as exc:
            interrupt = exc
            self.loop.call_soon_threadsafe(stop)
            call.begin()  # the Ctrl-C may have come before the coroutine was started
            call.join()
        return interrupt


def _after_fork() -> None:
    global _lock  # noqa: PLW0603 - another thread of the parent may have held it
    _lock = threading.Lock()
    _inherited.extend(_bridges.values())
    _bridges.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
