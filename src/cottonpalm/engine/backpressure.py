"""How many rows may be active, read ahead and owed: enough to keep the provider busy, few enough to stay in hand."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cottonpalm.engine.input.window import Window
    from cottonpalm.engine.scheduler import Scheduler
    from cottonpalm.request.run_account import RunAccount
    from cottonpalm.types import Bottleneck

ROOM: Final = 512  # outcomes owed to the reader: two groups, and far more than are in flight at first
AHEAD: Final = 4  # rows read ahead, rows owed and rows active, per request that may be in flight


class Backpressure:
    """Says whether one more row may start. Follows the limits of the run's requests.

    Args:
        account: what the run's requests share.
        cap: the most rows at once, whatever the limits say; None for no such bound.
        ordered: rows start by priority.
        whole: the source is a list that is to be read whole first.

    Attributes:
        cap: the same; may be set while the run goes.
        held: no more rows may start for now; may be set while the run goes.
    """

    def __init__(self, account: RunAccount, cap: int | None, *, ordered: bool, whole: bool) -> None:
        self.cap, self.held = cap, False
        self._account, self._whole = account, whole
        self._times = 2 * (AHEAD + 1) if ordered else AHEAD

    def want(self, active: int) -> bool:
        """Whether one more row may be active."""
        account = self._account
        if self.held or (self.cap is not None and active >= self.cap):
            return False
        # In a storm of retries there are no new rows, but one at a time to see it end.
        if active and account.allowance.spent:
            return False
        limit = account.flow.limit()
        waiting, there = (account.flow.waiting, limit) if account.team is None else account.team.line()
        spare = max(4.0, there / 4)
        if account.flow.grain == "unknown":
            return active < limit
        if account.flow.grain == "row":
            return active < limit + spare
        refused = account.flow.refused  # they wait behind whoever is new
        return waiting - refused < spare and active - refused < AHEAD * limit + spare

    @property
    def room(self) -> int:
        """Outcomes that may be owed to the reader."""
        return max(ROOM, int(AHEAD * self._account.flow.limit()))

    @property
    def read_ahead(self) -> int:
        """Rows to keep in the window, which is filled up when it is half empty.

        A list with priorities is read whole. Of other sources with priorities, four times the limit always wait to be
        chosen from, also where as many as the limit start at once.
        """
        return sys.maxsize if self._whole else max(ROOM // 2, int(self._times * self._account.flow.limit()))

    def holding_back(self, rows: Scheduler, window: Window, room: int) -> Bottleneck:
        """Why no more rows start; "concurrency" also where other limits may be in the way of the requests."""
        if self.held:
            return "held"
        if 2 * max(rows.unread, rows.unwritten) >= room:
            return "reader" if rows.unread >= rows.unwritten else "store"
        if self._account.flow.waiting:
            return "concurrency"
        if not window:
            return "tail" if rows.feed.done else "source"
        if self.cap is not None and rows.active + 1 >= self.cap:
            return "cap"
        return "" if self.want(rows.active + 1) else "concurrency"
