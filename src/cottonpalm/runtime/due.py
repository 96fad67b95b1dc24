"""Things that are due at some time, on one loop, with one timer for all: a timer for each costs as much as the rest."""

from __future__ import annotations

import math
from contextvars import Context
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

T = TypeVar("T")
LATE_S: Final = 1.0  # a timer that rings so much too late tells that the loop stood still


class Due(Generic[T]):
    """Calls `act` with each thing that is still there when it is due, and drops it. Not thread-safe.

    Where the loop stood still (the process was stopped, the machine slept, a step blocked it), an answer may have come
    in time of which nobody could hear: what is due waits a moment longer, once, so that what came is read first.

    Args:
        loop: all is done on it.
        when: a thing -> the loop's time at which it is due; None: not known yet, see `look`. It may become later.
        act: what to do with what is due.
    """

    __slots__ = ("_act", "_at", "_context", "_loop", "_put_off", "_things", "_timer", "_when")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, when: Callable[[T], float | None], act: Callable[[T], None]
    ) -> None:
        self._loop, self._when, self._act = loop, when, act
        self._things: dict[T, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._at = math.inf  # when the timer rings
        self._put_off = False
        self._context = Context()  # the timer may outlive whoever sets it, whose context it would keep

    def add(self, thing: T) -> None:
        """From now on it counts."""
        self._things[thing] = None
        at = self._when(thing)
        if at is not None and at < self._at:
            self._ring(at)

    def discard(self, thing: T) -> None:
        """It is no longer due."""
        things = self._things
        things.pop(thing, None)
        if not things and self._timer is not None:
            self._silence()

    def look(self) -> None:
        """Act on what is due, and set the timer for the next; call it where `when` may say something earlier."""
        self._silence()
        now, first = self._loop.time(), math.inf
        for thing in list(self._things):
            at = self._when(thing)
            if at is None:
                continue
            if at > now:
                first = min(first, at)
            elif thing in self._things:  # what was done for another one may have ended it
                del self._things[thing]
                self._act(thing)
        if first < self._at:
            self._ring(first)

    def _ring(self, at: float) -> None:
        self._silence()
        self._at = at
        self._timer = self._loop.call_at(at, self._rung, context=self._context)

    def _rung(self) -> None:
        now = self._loop.time()
        self._put_off = not self._put_off and now - self._at > LATE_S
        if self._put_off:
            self._ring(now + LATE_S)
        else:
            self.look()

    def _silence(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._at = None, math.inf

    def __len__(self) -> int:
        return len(self._things)
