"""A limit on the time that a task may take for something: `asyncio.timeout`, with one timer for all of a loop."""

from __future__ import annotations

import asyncio
from operator import attrgetter
from typing import TYPE_CHECKING, Final, Self

from cottonpalm.runtime.due import Due

if TYPE_CHECKING:
    from types import TracebackType

_limits: Final[dict[asyncio.AbstractEventLoop, Due[TimeLimit]]] = {}  # those that are on now


class TimeLimit:
    """Raises TimeoutError from its block, in which a task awaits, when the time is over or it is `cut` off.

    Attributes:
        at: the loop's time at which it is over.
    """

    __slots__ = ("_before", "_due", "_loop", "_over", "_seconds", "_task", "at")

    at: float
    _before: int
    _due: Due[TimeLimit]
    _loop: asyncio.AbstractEventLoop

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._over = False
        self._task: asyncio.Task[object] | None = None  # while it is in the block

    def __enter__(self) -> Self:
        self._loop = loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        self._task, self._before = task, task.cancelling()
        self.at = loop.time() + self._seconds
        due = _limits.get(loop)
        if due is None:
            due = _limits[loop] = Due(loop, attrgetter("at"), TimeLimit.cut)
        self._due = due
        due.add(self)
        return self

    def cut(self) -> None:
        """It is over now; nothing if the block has been left."""
        if self._task is not None and not self._over:
            self._over = True
            self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task, due = self._task, None, self._due
        due.discard(self)
        if not due and _limits.get(self._loop) is due:
            del _limits[self._loop]  # the loop may be closed, or forgotten
        if not self._over:
            return
        assert task is not None
        mine = task.uncancel() <= self._before
        if mine and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise TimeoutError from error
