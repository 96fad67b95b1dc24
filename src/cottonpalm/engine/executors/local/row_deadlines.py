"""The time that each row may take in all."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio


class Deadlines:
    """The deadlines of all rows in one table with one timer. While a row waits for money, its time does not run."""

    def __init__(self, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        self._seconds, self._loop = seconds, loop
        self._rows: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._still: dict[asyncio.Task[Any], float] = {}  # seconds left to each row that waits for money
        self._timer: asyncio.TimerHandle | None = None
        self._thread = threading.get_ident()

    def start(self, task: asyncio.Task[Any]) -> None:
        """Start the full time for the row that this task now works on."""
        self._rows[task] = self._loop.time() + self._seconds
        if self._timer is None:
            self._arm()

    def end(self, task: asyncio.Task[Any]) -> bool:
        """The row is over; return whether its time ran out. Undo the cancel, also if the chain swallowed it."""
        self._rows.pop(task, None)
        self._still.pop(task, None)
        if task not in self._late:
            return False
        self._late.discard(task)
        task.uncancel()
        return True

    def stand_still(self, task: asyncio.Task[Any], short: bool) -> None:
        """Stop the row's time while it waits for money (`short`), then let it run again. From any thread."""
        if threading.get_ident() != self._thread:
            with contextlib.suppress(RuntimeError):  # the loop is closed, so the run is over
                self._loop.call_soon_threadsafe(self.stand_still, task, short)
        elif short and (at := self._rows.pop(task, None)) is not None:
            self._still[task] = at - self._loop.time()
        elif not short and (left := self._still.pop(task, None)) is not None:
            self._rows[task] = self._loop.time() + left
            self._arm()

    def late(self, task: asyncio.Task[Any]) -> bool:
        """Whether this row was cancelled because its time ran out."""
        return task in self._late

    def close(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        first = min(self._rows.values(), default=None)
        self._timer = None if first is None else self._loop.call_at(first, self._due)

    def _due(self) -> None:
        now = self._loop.time()
        for task in [task for task, at in self._rows.items() if at <= now]:
            del self._rows[task]
            self._late.add(task)
            task.cancel()
        self._arm()
