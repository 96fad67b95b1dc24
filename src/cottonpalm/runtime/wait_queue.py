"""A queue in which tasks of any event loop, and threads, wait for their turn.

A `WaitQueue` keeps one line, ordered by `ageing_key`. A subclass decides what the first in line gets (`_offer`)
and how to undo that (`_take_back`). This module does the hard parts of waiting: a waiter is cancelled just when
it is granted, an event loop is closed meanwhile, a thread is told to leave, a pause ends and the queue must
look again.

One lock guards all state, and the queue wakes nobody while it holds the lock. A place in line is WAITING,
GRANTED or GONE, and changes only under the lock. If a waiter is gone, the queue takes back what it granted
to that waiter and offers it to the next.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from abc import ABC, abstractmethod
from collections import deque
from enum import Enum
from heapq import heapify, heappop, heappush, nsmallest
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from cottonpalm import clock
from cottonpalm.errors import CottonpalmError
from cottonpalm.runtime.priority import ageing_key
from cottonpalm.runtime.threads import loop_here

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Handle
    from collections.abc import Callable, Iterable

T = TypeVar("T")

_THREAD_LOOKS_EVERY_S: Final = 1.0  # a thread's timed wait follows real time, but clock.now() may be virtual
_HEAP_SLACK: Final = 32  # the heap may hold this many places of waiters that left before it is cleaned


class RowClosed(CottonpalmError):
    """The row this thread works for has ended, so the thread gets no permit and no money any more."""


class Behind(NamedTuple):
    """A claim to a place behind others, whatever their priorities are; not behind those who come later.

    Attributes:
        many: of those who wait now, the first so many go before it; of the others, none. Where there are no more, those
            go before it that would by `priority`, too.
        priority: of the one who claims it.
    """

    many: float
    priority: float


Claim: TypeAlias = float | Behind  # to a place in line: a priority, higher goes first


class State(Enum):
    """Where a place in line stands."""

    WAITING = "waiting"
    GRANTED = "granted"
    GONE = "gone"


class Place:
    """One place in line. `ask` is what its holder wants, `prize` is what the queue granted.

    One that is `abandoned` gets nothing any more, though its holder may not have woken yet.
    """

    __slots__ = ("abandoned", "ask", "prize", "state")

    def __init__(self, ask: Any) -> None:
        self.ask = ask
        self.abandoned = False
        self.state = State.WAITING
        self.prize: Any = None

    @property
    def home(self) -> object:
        """Who must hear about a pause. Of all places with an equal home, the queue tells only one."""
        return self

    def wake(self) -> bool:
        """Tell the holder that its wish was granted. False: the holder no longer exists."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Wake the holder, from any thread; it raises RowClosed and holds nothing. Too late is harmless."""
        raise NotImplementedError

    def look_again(self, arm: Callable[[AbstractEventLoop], None]) -> None:
        """Make sure that the holder's loop or thread looks at the queue again when the pause is over."""
        raise NotImplementedError


class TaskPlace(Place):
    """The place of a task. Its future is only ever touched on its own loop."""

    __slots__ = ("future", "loop")

    def __init__(self, ask: Any) -> None:
        super().__init__(ask)
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self.loop.create_future()

    @property
    def home(self) -> object:
        """The loop: its tasks share one timer."""
        return self.loop

    def wake(self) -> bool:
        """Set the future's result, on its own loop. False: that loop is closed."""
        return _on_loop(self.loop, self._settle)

    def abandon(self) -> None:
        """Set RowClosed on the future, on its own loop; see `Place`."""
        self.abandoned = True
        _on_loop(self.loop, self._break_off)

    def look_again(self, arm: Callable[[AbstractEventLoop], None]) -> None:
        """Set the loop's timer, on that loop."""
        _on_loop(self.loop, arm, self.loop)  # if the loop is closed, none of its waiters needs the timer

    def _settle(self) -> None:
        if not self.future.done():
            self.future.set_result(None)

    def _break_off(self) -> None:
        if not self.future.done():
            self.future.set_exception(RowClosed("it was taken out of the line; its request was not sent"))


class Waiter(Place):
    """The place of a thread that waits. `on_wait` receives it, so that other code can tell the thread to leave."""

    __slots__ = ("event",)

    def __init__(self, ask: Any) -> None:
        super().__init__(ask)
        self.event = threading.Event()

    def abandon(self) -> None:
        """Wake the thread, from any thread; it raises RowClosed and holds nothing. Too late is harmless."""
        self.abandoned = True
        self.event.set()

    def wake(self) -> bool:
        """Wake the thread."""
        self.event.set()
        return True

    def look_again(self, arm: Callable[[AbstractEventLoop], None]) -> None:  # noqa: ARG002
        """Wake the thread, which then waits with a time limit."""
        self.event.set()


class _Armed(NamedTuple):
    """A loop's timer. We keep when it rings: uvloop's cannot say so where it rings in less than a millisecond."""

    at: float  # the loop's time
    timer: Handle


class WaitQueue(ABC, Generic[T]):
    """One line of tasks and threads that wait for a `T`. `waiting` counts them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # When they came, less what their priority is worth; among equals, after whom; who came first; and who it is.
        self._heap: list[tuple[float, int, int, Place]] = []
        self._arrivals = itertools.count()
        self._lost: deque[Place] = deque()
        self._armed: WeakKeyDictionary[AbstractEventLoop, _Armed] = WeakKeyDictionary()
        self.waiting = 0
        self._timed_until = 0.0  # every waiter's loop or thread looks at the queue again by this time

    # What a subclass decides; all three run with the lock held.

    @abstractmethod
    def _offer(self, ask: Any) -> T | None:
        """Book and return what the first in line gets now. None: the first and all behind it go on waiting."""

    @abstractmethod
    def _take_back(self, prize: T, ask: Any) -> None:
        """Undo `_offer`: the waiter that it was made for is gone."""

    def _look_again_s(self) -> float | None:
        """Seconds until the first in line may be granted without any other event; None: only an event helps."""
        return None

    # What a subclass calls.

    async def _wait_in_task(
        self, claim: Claim, ask: Any = 0, on_wait: Callable[[Place], None] | None = None
    ) -> T:
        """Wait in line as a task; a cancel leaves nothing behind. `on_wait` sees the place before it waits."""
        place = TaskPlace(ask)
        if on_wait is not None:
            on_wait(place)
        try:
            if (again_s := self._line_up(place, claim)) is not None:
                self._arm(place.loop, again_s)
            await place.future
        except GeneratorExit:
            self._lose(place)
            raise
        except BaseException:
            self._leave(place)
            raise
        return place.prize  # type: ignore[no-any-return]

    def _wait_in_thread(self, claim: Claim, ask: Any, on_wait: Callable[[Waiter], None] | None) -> T:
        """Wait in line and block this thread; `on_wait` sees the place before it does."""
        place = Waiter(ask)
        if on_wait is not None:
            on_wait(place)
        try:
            again_s = self._line_up(place, claim)
            while place.state is State.WAITING and not place.abandoned:
                place.event.wait(None if again_s is None else min(again_s, _THREAD_LOOKS_EVERY_S))
                place.event.clear()
                again_s = self._look()
        except BaseException:  # KeyboardInterrupt
            self._leave(place)
            raise
        if place.abandoned:
            self._leave(place)
            raise RowClosed("the row is over; its request was not sent")
        return place.prize  # type: ignore[no-any-return]

    def _serve(self) -> list[Place]:
        """Grant in order while the first in line can go. Call with the lock; wake the returned places without it."""
        while self._lost:
            self._strike(self._lost.popleft())
        served: list[Place] = []
        while self.waiting:
            place = self._heap[0][-1]
            if place.state is State.WAITING and place.abandoned:
                self._strike(place)  # which may make the heap anew
                continue
            if place.state is State.WAITING:
                if (prize := self._offer(place.ask)) is None:
                    break
                place.prize, place.state = prize, State.GRANTED
                self.waiting -= 1
                served.append(place)
            heappop(self._heap)
        return served

    def _goes_before_all(self, claim: Claim) -> bool:
        """Whether a newcomer would be the first in line. Call with the lock."""
        if self._first_ask() is None:
            return True
        return type(claim) is not Behind and ageing_key(clock.now(), claim) < self._heap[0][0]  # type: ignore[arg-type]

    def _first_ask(self) -> Any:
        """What the first in line wants; None: nobody waits. Call with the lock."""
        while self._heap and self._heap[0][-1].state is not State.WAITING:
            heappop(self._heap)
        return self._heap[0][-1].ask if self._heap else None

    def _wake(self, served: Iterable[Place]) -> None:
        """Wake the granted places; what a vanished holder was granted goes to the next. Call without the lock."""
        deaf = [place for place in served if not place.wake()]
        while deaf:
            with self._lock:
                for place in deaf:
                    self._strike(place)
                served, told = self._serve(), self._who_must_know()
            self._alert(told)
            deaf = [place for place in served if not place.wake()]

    def _who_must_look_again(self) -> list[Place]:
        """Return the places to tell that a pause began: one per loop, and one per thread. Call with the lock."""
        return list({p.home: p for *_, p in self._heap if p.state is State.WAITING}.values())

    def _who_must_know(self) -> list[Place]:
        """Return the places that must set a timer, since time will move the line; none if the timers are set already.

        Call with the lock.
        """
        if not self.waiting or (again_s := self._look_again_s()) is None:
            return []
        now = clock.now()
        if now < self._timed_until <= now + again_s:
            return []
        self._timed_until = now + again_s
        return self._who_must_look_again()

    def _alert(self, places: Iterable[Place]) -> None:
        """Make the holders of these places set a timer for the end of the pause. Call without the lock."""
        for place in places:
            place.look_again(self._arm)

    # The rest is private: neither subclasses nor callers use it.

    def _line_up(self, place: Place, claim: Claim) -> float | None:
        with self._lock:
            number = next(self._arrivals)
            key, after = (
                self._behind(claim, number) if isinstance(claim, Behind) else self._in_turn(claim, number)
            )
            heappush(self._heap, (key, after, number, place))
            self.waiting += 1
            served = self._serve()
            again_s = self._look_again_s() if place.state is State.WAITING else None
            if again_s is None:
                self._timed_until = 0.0
        self._wake(served)
        return again_s

    def _in_turn(self, priority: float, number: int) -> tuple[float, int]:
        return ageing_key(clock.now(), priority), number

    def _behind(self, claim: Behind, number: int) -> tuple[float, int]:
        own = self._in_turn(claim.priority, number)
        line = [(key, after) for key, after, _, place in self._heap if place.state is State.WAITING]
        if claim.many < len(line):
            return nsmallest(int(claim.many), line)[-1]
        return max(own, *line) if line else own

    def _look(self) -> float | None:
        """Grant what has become possible because time has passed; return in how many seconds to look again."""
        with self._lock:
            served = self._serve()
            again_s = self._look_again_s() if self.waiting else None
            if again_s is None or clock.now() + again_s > self._timed_until:
                self._timed_until = 0.0  # whoever looks now does not look again by then
        self._wake(served)
        return again_s

    def _arm(self, loop: AbstractEventLoop, again_s: float | None = None) -> None:
        """Set this loop's one timer, on this loop. Each loop with waiters has a timer, since others may be closed."""
        with self._lock:
            if again_s is None:
                again_s = self._look_again_s() if self.waiting else None
            armed = self._armed.get(loop)
            if again_s is None:
                return
            at = loop.time() + again_s
            if armed is not None and armed.at <= at:
                return
            self._armed[loop] = _Armed(at, loop.call_later(again_s, self._tick, loop))
        if armed is not None:
            armed.timer.cancel()

    def _tick(self, loop: AbstractEventLoop) -> None:
        with self._lock:
            self._armed.pop(loop, None)
        if (again_s := self._look()) is not None:
            self._arm(loop, again_s)

    def _leave(self, place: Place) -> None:
        with self._lock:
            self._strike(place)
            served, told = self._serve(), self._who_must_know()
        self._wake(served)
        self._alert(told)

    def _lose(self, place: Place) -> None:
        """Leave from a finalizer. It may run while this thread holds the lock, so it must not wait for the lock."""
        self._lost.append(place)
        if self._lock.acquire(blocking=False):
            try:
                served, told = self._serve(), self._who_must_know()
            finally:
                self._lock.release()
            self._wake(served)
            self._alert(told)

    def _strike(self, place: Place) -> None:
        """Remove a place from the line, or take back what it was granted. Call with the lock."""
        before, place.state = place.state, State.GONE
        if before is State.GRANTED:
            self._take_back(place.prize, place.ask)
        elif before is State.WAITING:
            self.waiting -= 1
            if len(self._heap) > 2 * self.waiting + _HEAP_SLACK:
                self._heap = [entry for entry in self._heap if entry[-1].state is State.WAITING]
                heapify(self._heap)


def _on_loop(loop: AbstractEventLoop, call: Callable[..., None], *args: object) -> bool:
    """Call at once if `loop` runs this code, else soon on that loop. False: that loop is closed."""
    if loop_here() == id(loop):
        call(*args)
        return True
    try:
        loop.call_soon_threadsafe(call, *args)
    except RuntimeError:
        return False
    return True
