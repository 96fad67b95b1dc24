"""The part of a run that an executor sees: it gives rows to start, and takes each outcome back."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.errors import CannotStore
from cottonpalm.events import RowFinished, RowStarted
from cottonpalm.protocols import FAILED, OK, RETRYABLE, StoredRow, known
from cottonpalm.types import ErrorRecord, Item, Kind, Outcome, Parked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cottonpalm.engine.chunks import Chunks
    from cottonpalm.engine.input.feeds import Feed
    from cottonpalm.engine.input.window import Window
    from cottonpalm.engine.output.delivery import Delivery
    from cottonpalm.engine.output.outbox import Outbox
    from cottonpalm.events import Event
    from cottonpalm.protocols import Admitted, Gate, Later

PARKED: Final = (
    4096  # rows that may wait for the answer of an equal one; further ones are not let in meanwhile
)


class Scheduler:
    """Takes rows through the gates, and counts how many are active.

    `active` rows hold a place; a row that sleeps holds none. `owed` outcomes are promised to the reader: their rows
    have started, or they wait in the outbox. This number bounds the memory of the run.

    Args:
        pack: outcome -> record for the store, or None if nothing is stored. Raises CannotStore.
        renew: a stored record and the row as it is now -> the record with that row.
        want: how many rows may be active now.
        on_finish: called with every outcome; decides whether the run must stop.
        events: called with every event; None if nobody listens.
        whole: the source is a list with priorities: no row starts before all are read, so the order is exact.
        slept: called with the seconds of each backoff of a whole row.
        chunks: counts the rows by chunk, and may hold the next chunk back; None: the run has no chunks.
    """

    feed: Feed

    def __init__(
        self,
        window: Window,
        gates: Sequence[Gate],
        delivery: Delivery,
        outbox: Outbox,
        *,
        pack: Callable[[Outcome], bytes] | None,
        want: Callable[[int], bool],
        on_finish: Callable[[Item, Outcome], None],
        events: Callable[[Event], None] | None,
        renew: Callable[[bytes, Any], bytes] = lambda record, _: record,
        whole: bool = False,
        chunks: Chunks | None = None,
        slept: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._window, self._gates, self._delivery, self._outbox = window, gates, delivery, outbox
        self._renew = renew
        self._pack, self._want, self._on_finish, self._events = pack, want, on_finish, events
        self._whole, self._chunks, self._slept = whole, chunks, slept
        self._told = events is not None or chunks is not None  # others hear of a row before its reader
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._asides: set[Item] = set()
        self.wake: Callable[[], None] = lambda: None  # the executor sets it
        self.active = 0
        self.parked = 0
        self._back = 0  # rows that were parked and wait to be let in again
        self.let_in = 0
        self.begun = 0  # rows let in; a parked row counts each time it is let in...
        self.finished = 0  # ...and rows that came back; each one let in comes back exactly once
        self.closing = False
        self._held = False  # a row could not start, as the store was late
        self._looking = False  # whether rows still end, in the loop's next round

    @property
    def owed(self) -> int:
        """How many outcomes were promised to the reader and not yet taken."""
        return self.let_in - self._outbox.taken

    @property
    def unread(self) -> int:
        """How many outcomes the reader could take now."""
        return len(self._outbox)

    @property
    def passed(self) -> Item | None:
        """See `protocols.RowSource`."""
        return self.feed.reader.passed

    @property
    def unwritten(self) -> int:
        """How many outcomes are on their way to the disk."""
        return self._delivery.held

    @property
    def store_is_late(self) -> bool:
        """Whether no row may start until the store has what it was given."""
        return self._delivery.late

    def next(self) -> Item | None:
        """Let one row in and return it; None: not now. Only this method lets rows in."""
        outbox, window = self._outbox, self._window
        if self.closing or self.let_in - outbox.taken >= outbox.room or not self._want(self.active):
            return None
        if self.parked >= PARKED and not self._back:
            return None
        more = window.size * 2 <= window.capacity
        if (more or self._whole) and not self.feed.done and self._must_wait(more):
            return None
        self._held = self._delivery.under_way and self._delivery.late
        if self._held or (self._chunks is not None and not self._may_begin(self._chunks)):
            return None
        if (item := window.pop()) is None:
            return None
        if self._back:  # those are the first in line
            self._back -= 1
        self.active += 1
        self.let_in += 1
        self.begun += 1
        if self._events is not None:
            self._events(RowStarted(item.index))
        return item

    def _must_wait(self, more: bool) -> bool:
        """Whether no row may start before all are read; read more of them if there is room."""
        if more:
            self.feed.more()
        return self._whole and not self.feed.done

    def _may_begin(self, chunks: Chunks) -> bool:
        return (first := self._window.first) is None or chunks.begin(first)

    @property
    def ended(self) -> bool:
        """Whether no row is left that could still be let in."""
        return self.closing or (self.feed.done and not self._window and not self.parked)

    @property
    def dry(self) -> bool:
        """No further row can start before one that was let in is finished."""
        full = self.let_in - self._outbox.taken >= self._outbox.room
        return self.closing or full or (self.feed.done and not self._window)

    def admit(self, item: Item) -> Admitted | Later:
        """Ask the gates in order. None: call the chain; `finish` then calls `settle` once on every gate passed.

        If a gate has to wait, this returns a coroutine that gives the same answer.
        """
        item.passed = 0
        if item.broken is not None:
            return Outcome(item.index, "failed", error=item.broken)
        for gate in self._gates:
            if (answer := gate.admit(item)) is not None:
                return self._go_on(item, answer) if isinstance(answer, Coroutine) else answer
            item.passed += 1
        return None

    async def _go_on(self, item: Item, answer: Later) -> Admitted:
        """Wait for the answer of a gate, then ask the gates behind it."""
        if (found := await answer) is not None:
            return found
        item.passed += 1
        for gate in self._gates[item.passed :]:
            if (found := await known(gate.admit(item))) is not None:
                return found
            item.passed += 1
        return Outcome(item.index, "skipped") if self.closing else None  # the run was stopped while it waited

    def finish(self, item: Item, outcome: Outcome | Parked) -> None:
        """Take an admitted row back, exactly once: encode it, settle the gates in reverse, store it, hand it over."""
        if self._asides and item in self._asides:
            self._asides.discard(item)
        else:
            self.active -= 1
        self.finished += 1
        if type(outcome) is Parked:
            self._settle(item, outcome)
            self.parked += 1
            self.let_in -= 1
            return
        outcome.id, outcome.input = item.id, item.row
        record = None if self._pack is None else self._record(item, outcome, self._pack)
        if item.passed:
            self._settle(item, outcome)
        if record is not None:
            self._delivery.put(outcome, record)
        else:
            if self._told:
                self._tell((outcome,))
            self._outbox.put_one(outcome)
        self._on_finish(item, outcome)

    def _settle(self, item: Item, outcome: Outcome | Parked) -> None:
        while item.passed:
            item.passed -= 1
            self._gates[item.passed].settle(item, outcome)

    def unpark(self, item: Item) -> None:
        """Let a parked row in again, before all others, since its twin is done."""
        self.parked -= 1
        self._back += 1
        self._window.push_back(item)
        self.wake()

    async def asleep(self, seconds: float) -> None:
        """Wait and give up the row's place, so that another row can run meanwhile."""
        self.active -= 1
        self.wake()
        try:
            await asyncio.sleep(seconds)
        finally:
            self.active += 1
            self._slept(seconds)

    def aside(self, item: Item, out: bool) -> None:
        """The row gives up its place (`out`), since all its open requests wait; or it takes its place back."""
        if threading.get_ident() != self._thread:
            with contextlib.suppress(RuntimeError):  # the loop is closed, so the run is over
                self._loop.call_soon_threadsafe(self.aside, item, out)
            return
        if out and item.account is not None and not self.closing and item not in self._asides:
            self._asides.add(item)
            self.active -= 1
            self.wake()
        elif not out and item in self._asides:
            self._asides.discard(item)
            self.active += 1

    def emitted(self, outcomes: list[Outcome]) -> None:
        """Tell the observers, then the reader, about outcomes that are now durable."""
        if self._told:
            self._tell(outcomes)
        self._outbox.put(outcomes)
        if self._held:
            self._held = False
            self.wake()

    def _tell(self, outcomes: Sequence[Outcome]) -> None:
        if self._events is not None:
            for outcome in outcomes:
                self._events(RowFinished(outcome))
        if self._chunks is not None:
            self._chunks.ended(outcomes)

    def flush_if_idle(self) -> None:
        """Write the finished rows at once if no further row will fill their group.

        That is where nothing runs; or where no row may start until those are handed over, and none of the others ends.
        """
        if not self.active:
            self._delivery.flush()
        elif self._stands and not self._looking:
            self._looking = True
            self._loop.call_soon(self._flush_if_none_ended, self.finished)

    @property
    def _stands(self) -> bool:
        """Whether no row may start, and most outcomes that are owed wait for their group, not for the reader."""
        room = self._outbox.room
        return self.let_in - self._outbox.taken >= room and 2 * self._delivery.gathered >= room

    def _flush_if_none_ended(self, finished: int) -> None:
        self._looking = False
        if self.finished != finished:
            self.flush_if_idle()
        elif self._stands:
            self._delivery.flush()

    def _record(self, item: Item, outcome: Outcome, pack: Callable[[Outcome], bytes]) -> StoredRow | None:
        if outcome.status == "skipped":
            return None
        if item.stored is not None:
            return self._as_it_is_now(item, outcome) if item.edited else None
        try:
            record = pack(outcome)
        except CannotStore as exc:
            refuse(outcome, exc)
            record = pack(outcome)
        assert item.key is not None
        assert item.content is not None
        status = OK if outcome.status == "ok" else status_code(outcome)
        parts = item.slot, item.key, item.content, status, record, outcome.cost_pico or 0
        return tuple.__new__(StoredRow, parts)  # for every row: a named tuple's own takes twice as long

    def _as_it_is_now(self, item: Item, outcome: Outcome) -> StoredRow:
        """The stored answer, with the row as it is now; it has cost nothing more."""
        assert item.stored is not None
        assert item.key is not None
        assert item.content is not None
        record = self._renew(item.stored, item.row)
        return StoredRow(item.slot, item.key, item.content, status_code(outcome), record, 0)


def refuse(outcome: Outcome, exc: CannotStore) -> None:
    """Turn an answer that cannot be stored into a failed row that keeps the answer's text."""
    outcome.status, outcome.exception = "failed", exc
    outcome.error = ErrorRecord(Kind.FAIL_ROW, "CannotStore", str(exc))
    outcome.output = getattr(exc, "text", None)


def status_code(outcome: Outcome) -> int:
    """Return the store's number for how the row ended."""
    if outcome.status == "ok":
        return OK
    return RETRYABLE if outcome.error is not None and outcome.error.retryable else FAILED
