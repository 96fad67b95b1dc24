"""Brings a finished row to the reader: groups it with others, writes the group, and hands it over once durable."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from cottonpalm import clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.protocols import RunStore, Spent, StoredRow
    from cottonpalm.types import Outcome

GROUP_ROWS: Final = 512  # larger ones take no less for each row
GROUP_BYTES: Final = 4 << 20  # of records, from which a group is full with fewer rows
MOST_BYTES: Final = 4 * GROUP_BYTES  # that wait for a group to be written: no row starts meanwhile
GROUP_S: Final = 0.1  # a row waits at most this long for its group to fill
LATE_S: Final = 0.5  # a group that takes longer may never be stored...
LATE: Final = 4.0  # ...if it also takes so many times as long as the quickest one: some disks are slow


class Delivery:
    """Writes outcomes in groups, one group at a time, and emits an outcome only when its group is durable.

    A group is written when it holds 512 rows or 4 MiB, 100 ms after its first row, or when `flush` is called. Rows
    that finish during a write form the next group.
    """

    def __init__(
        self,
        store: RunStore | None,
        emit: Callable[[list[Outcome]], None],
        failed: Callable[[BaseException, list[Outcome]], None],
        loop: asyncio.AbstractEventLoop,
        spent: Callable[[], Spent | None] | None = None,
        *,
        waited: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._spent = spent  # returns what the run has spent; it is made durable together with the rows
        self._store, self._emit, self._failed, self._loop = store, emit, failed, loop
        self._waited, self._began_s = waited, 0.0  # `waited` is called with the seconds each group took
        self._quickest_s = 0.0  # that one took; 0: none was written yet
        self._late_s = LATE_S  # from so many on, the group that is being written is late
        self._rows: list[StoredRow] = []
        self._outcomes: list[Outcome] = []
        self._bytes = 0  # of the records in `_rows`
        self._timer: asyncio.TimerHandle | None = None
        self.under_way = False
        self._writing = 0  # outcomes of the group that is being written
        self._asked = False  # True: somebody asked for a flush while a group was being written
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def held(self) -> int:
        """How many outcomes are not durable yet."""
        return self._writing + len(self._outcomes)

    @property
    def gathered(self) -> int:
        """How many of them no write has begun for."""
        return len(self._outcomes)

    @property
    def late(self) -> bool:
        """Whether no row should start.

        The store may be away: what is asked meanwhile would be lost with what waits, and paid again. Or it is too slow
        for records as large as these, and memory would fill with them.
        """
        return self.under_way and (self._bytes > MOST_BYTES or clock.now() - self._began_s > self._late_s)

    async def drained(self) -> None:
        """Flush, and wait until all outcomes are durable and handed over; on a closed loop, only until durable."""
        if self._loop.is_closed():
            self.under_way = False
            self.flush()
            return
        self.flush()
        await self._idle.wait()

    def put(self, outcome: Outcome, row: StoredRow) -> None:
        """Take the outcome of a finished row, and what the store is to keep of it."""
        rows = self._rows
        rows.append(row)
        self._outcomes.append(outcome)
        self._bytes += len(row.record)
        if len(rows) == 1:
            self._idle.clear()
            if not (self.under_way or self._loop.is_closed()):
                self._timer = self._loop.call_later(GROUP_S, self.flush)
        if len(rows) >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the group now, or as soon as the group that is being written is durable."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._rows:
            return
        if self.under_way:
            self._asked = True
            return
        assert self._store is not None
        rows, outcomes = self._rows, self._outcomes
        self._rows, self._outcomes, self._bytes = [], [], 0
        self.under_way, self._asked = True, False
        spent = None if self._spent is None else self._spent()
        self._writing, self._began_s = len(rows), clock.now()
        self._late_s = max(LATE_S, LATE * self._quickest_s)
        self._store.write(rows, lambda error: self._written(outcomes, error), spent)

    def _written(self, outcomes: list[Outcome], error: BaseException | None) -> None:
        """Take note of a write that ended. The writer's thread calls this; a store in memory, inside `write`."""
        try:
            self._loop.call_soon_threadsafe(self._durable, outcomes, error)
        except RuntimeError:
            return  # the loop is closed: the rows are stored, and nobody reads them any more

    def _durable(self, outcomes: list[Outcome], error: BaseException | None) -> None:
        self.under_way, self._writing = False, 0
        took_s = clock.now() - self._began_s
        self._quickest_s = min(took_s, self._quickest_s or took_s)
        self._waited(took_s)
        if error is not None:
            self._failed(error, outcomes)
        if self._asked or len(self._rows) >= GROUP_ROWS:
            self.flush()
        elif self._rows and self._timer is None:
            self._timer = self._loop.call_later(GROUP_S, self.flush)
        if error is None:
            self._emit(outcomes)
        if not self.under_way and not self._rows:
            self._idle.set()
