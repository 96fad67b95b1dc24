"""The rows of a run as the local executor sees them under the batch lane: one row comes once for each of its rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cottonpalm.engine.executors.batch.rows_out import RECORDED, UNREAD, WAITS
from cottonpalm.types import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.engine.executors.batch.post import Post
    from cottonpalm.engine.executors.batch.rescue import Rescue
    from cottonpalm.engine.executors.batch.rows_out import RowsOut
    from cottonpalm.protocols import Admitted, Later, RowSource
    from cottonpalm.request.flow import Flow
    from cottonpalm.types import Item, Parked


class RowsInRounds:
    """Gives rows whose answers have come before new ones, and holds back the outcome of a row that waits.

    Args:
        rows: where new rows come from, and outcomes go.
        out: where the rows are between two rounds.
        post: the batches.
        flow: whose limits hold for rows that are finished live.
        rescue: what keeps the deadline, if there is one.
        cancels: the run only cancels what is out: its rows wait for nothing.
        look: called when no more rows may come for now.

    Attributes:
        active: how many rows are in a round now.
        first: any row, to say who pays for what is out; None: there was none yet.
        alive: rows may still wait for batches.
        spent: why no money is left, and its cause: only rows that have answers, or wait for them, go on; None: some is.
    """

    def __init__(
        self,
        rows: RowSource,
        out: RowsOut,
        post: Post,
        flow: Flow,
        *,
        rescue: Rescue | None,
        cancels: bool,
        look: Callable[[], None],
    ) -> None:
        self._rows, self._out, self._post, self._flow = rows, out, post, flow
        self._rescue, self._cancels, self._look = rescue, cancels, look
        self._wake: Callable[[], None] = lambda: None
        self.active = 0
        self.first: Item | None = None
        self.alive = True
        self.spent: tuple[str, BaseException | None] | None = None

    @property
    def busy(self) -> int:
        """How many of the active rows are recorded or answered here, so that more of them may be asked soon."""
        return self.active - self._out.sending

    @property
    def wake(self) -> Callable[[], None]:
        """See `protocols.RowSource`."""
        return self._wake

    @wake.setter
    def wake(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._rows.wake = self._woken

    def _woken(self) -> None:
        if self._rows.closing:
            self.give_up_waiting()
        self._wake()

    @property
    def closing(self) -> bool:
        """See `protocols.RowSource`."""
        return self._rows.closing

    @closing.setter
    def closing(self, closing: bool) -> None:
        self._rows.closing = closing

    @property
    def ended(self) -> bool:
        """See `protocols.RowSource`."""
        return self._rows.ended and not self._out.ready and not self._out.waiting

    @property
    def dry(self) -> bool:
        """See `protocols.RowSource`."""
        return (self._rows.dry or self._no_more) and not self._out.ready

    @property
    def _no_more(self) -> bool:
        """No row is left to be read that something was paid for, and others cannot be paid."""
        return self.spent is not None and not self._out.left

    @property
    def taken(self) -> bool:
        """All that is paid for is taken, as far as its rows are here."""
        out = self._out
        return not (self.active or out.ready or out.waiting) and (self._rows.ended or not out.left)

    @property
    def unread(self) -> int:
        """See `protocols.RowSource`."""
        return self._rows.unread

    @property
    def passed(self) -> Item | None:
        """See `protocols.RowSource`."""
        return self._rows.passed

    def next(self) -> Item | None:
        """A row whose answers have come, else a new one."""
        if self._out.ready and not self._rows.closing:
            if not self._may_go_on():
                return None
            back = self._out.go_on()
            self._rows.aside(back, out=False)
            self.active += 1
            return back
        if self._rescue is not None and not self._rescue.may_start(self.active):
            return None
        if self._cancels and (self.active or not self._post.open or self._post.reachable):
            return None
        if self._no_more:
            return None
        item = self._rows.next()
        self.active += item is not None
        return item

    def _may_go_on(self) -> bool:
        """Whether one more row may begin its next round: a batch brings back tens of thousands at once."""
        live, limit = self._out.sending, self._flow.limit()
        if self._rows.unread >= UNREAD:
            return False
        return self.busy < RECORDED and live < max(RECORDED, 2 * limit)

    def admit(self, item: Item) -> Admitted | Later:
        """A row passes the gates once."""
        return None if item.slot in self._out.begun else self._rows.admit(item)

    def finish(self, item: Item, outcome: Outcome | Parked) -> None:
        """A row that waits is not finished yet."""
        self.active -= 1
        self.first = self.first or item
        if getattr(outcome, "output", None) is WAITS:
            if self._rows.closing or not self.alive or self._cancels:
                self._skip(item)
            else:
                self._out.wait(item)
            return
        self._out.finish(item.slot)
        if getattr(outcome, "status", "skipped") != "skipped":
            self._out.done.append(item.slot)
        self._rows.finish(item, outcome)

    def aside(self, item: Item, out: bool) -> None:
        """See `protocols.RowSource`."""
        self._rows.aside(item, out)

    def flush_if_idle(self) -> None:
        """See `protocols.RowSource`; also the moment to submit what there is."""
        self._rows.flush_if_idle()
        self._look()

    def give_up_waiting(self) -> None:
        """The run ends here: these rows are to be done by another call."""
        for item in self._out.all_back():
            self._skip(item)

    def _skip(self, item: Item) -> None:
        self._out.finish(item.slot)
        self._rows.finish(item, Outcome(item.index, "skipped"))
