"""Limits how many rows may be active, read ahead and owed: enough to keep the provider busy, few enough for memory."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from cottonpalm.engine.executors.batch.rows_out import RECORDED
from cottonpalm.engine.output.delivery import GROUP_ROWS

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.engine.input.window import Window
    from cottonpalm.engine.scheduler import Scheduler
    from cottonpalm.request.run_account import RunAccount
    from cottonpalm.types import Bottleneck

# Outcomes that may be owed to the reader: one group of the delivery. Rows that take no time wait while it is written;
# else the store's thread and the loop would take Python's lock from each other, which takes longer than to wait.
ROOM: Final = GROUP_ROWS
OUT_ROOM: Final = (
    500_000  # rows that may wait for batches: ten of the largest batches, below 1 kB for each row
)
READY: Final = 2  # rows at workers for each that may run there: their way takes longer than a short answer
AHEAD: Final = 4  # rows that may be read ahead, owed, or active, for each request that may be in flight


class Backpressure:
    """Says whether one more row may start. Follows the limits of the run's requests.

    Args:
        account: what the run's requests share.
        cap: the most rows at once, even if the limits allow more; None for no such cap.
        ordered: rows start by priority.
        whole: the source is a list that must be read to its end before a row starts.
        recorded: requests go out in batches: rows wait for their answers without being active.
        kept: the cap that the run's workers keep themselves, each to its share of it.

    Attributes:
        cap: the same; may be set during the run.
        held: True: no more rows may start for now; may be set during the run.
        workers: how many rows the run's workers want together; None: it has no workers.
    """

    def __init__(
        self,
        account: RunAccount,
        cap: int | None,
        *,
        ordered: bool,
        whole: bool,
        recorded: bool = False,
        kept: int | None = None,
    ) -> None:
        self.cap, self.held, self._kept = cap, False, kept
        self.workers: Callable[[], int] | None = None
        self._account, self._flow, self._allowance = account, account.flow, account.allowance
        self._whole, self._recorded = whole, recorded
        self._times = 2 * (AHEAD + 1) if ordered else AHEAD

    def want(self, active: int) -> bool:
        """Whether one more row may be active."""
        if self._recorded or self.workers is not None:
            return not self.held and active < self._most_out()
        if self.held or (self.cap is not None and active >= self.cap):
            return False
        flow = self._flow
        # Rows that always fail must not be the only ones that are ever asked. While the retry allowance is used up,
        # only one row at a time may start, to find out when that has ended.
        if active > flow.again and self._allowance.spent:
            return False
        limit, grain = flow.limit(), flow.grain
        if grain == "unknown" or (grain == "row" and active < limit):
            return active < limit
        return self._wanted_in_line(active, limit)

    def _most_out(self) -> float:
        """Rows that wait for batches, or are at workers.

        Under a cap that workers keep themselves, as many again lie ready there and have not begun.
        """
        if self._recorded or self.workers is None:
            return min(RECORDED, self.cap or RECORDED)
        if self.cap is None:
            return self.workers()
        return min(self.workers(), READY * self.cap if self.cap == self._kept else self.cap)

    def _wanted_in_line(self, active: int, limit: float) -> bool:
        """Whether one more is, so that somebody waits in line when a permit comes free."""
        flow, team = self._flow, self._account.team
        waiting, there = (flow.waiting, limit) if team is None else team.line()
        spare = there / 4 if there > 16 else 4.0
        if flow.grain == "row":
            return active < limit + spare
        idle = flow.again + flow.held  # who waits for a shared prompt leaves permits to other prompts
        return waiting - flow.again < spare and active - idle < AHEAD * limit + spare

    @property
    def room(self) -> int:
        """How many outcomes may be owed to the reader."""
        if self._recorded:
            return OUT_ROOM
        if self.workers is not None:
            return max(ROOM, 2 * self.workers())
        return max(ROOM, int(AHEAD * self._flow.limit()))

    @property
    def read_ahead(self) -> int:
        """How many rows the window may hold. The feed fills it up when it is half empty.

        A list with priorities is read to its end. From another source with priorities, the window holds so many rows
        that four times the limit remain to choose from even when a full limit of rows starts at once.
        """
        if self.workers is not None and not self._whole:
            return max(ROOM, 2 * self.workers())
        return sys.maxsize if self._whole else max(ROOM // 2, int(self._times * self._flow.limit()))

    def holding_back(self, rows: Scheduler, window: Window, room: int, out: int) -> Bottleneck:
        """Return why no more rows start; "concurrency" also when another limit may delay the requests.

        Args:
            rows: the rows of the run.
            window: those that were read ahead.
            room: how many outcomes may be owed to the reader.
            out: how many rows wait for batches.
        """
        if self.held:
            return "held"
        if rows.store_is_late:
            return "store"
        if 2 * max(rows.unread, rows.unwritten) >= room:
            return "reader" if rows.unread >= rows.unwritten else "store"
        if self._flow.waiting:
            return "concurrency"
        if out and not (rows.active and window):
            return "batch"
        return self._start_held_back(rows, window)

    def _start_held_back(self, rows: Scheduler, window: Window) -> Bottleneck:
        if not window:
            return "tail" if rows.feed.done else "source"
        if self.cap is not None and rows.active + 1 >= self.cap:
            return "cap"
        return "" if self.want(rows.active + 1) else "concurrency"
