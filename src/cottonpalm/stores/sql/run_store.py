"""One run of the durable store, held under its lease."""

from __future__ import annotations

import threading
import weakref
from _thread import start_new_thread
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

from cottonpalm.errors import StoreError
from cottonpalm.stores.sql import facts, order_rows, run_rows, spending_rows
from cottonpalm.stores.sql.database import BUSY_S, SLOT_BITS
from cottonpalm.stores.sql.writer import Group, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from collections.abc import Set as AbstractSet

    from cottonpalm.protocols import Slot, Spent, StoredRow
    from cottonpalm.providers.batches.stages import Book
    from cottonpalm.store_extras import Orders
    from cottonpalm.stores.sql.connection import Connection
    from cottonpalm.stores.sql.database import Database, Home
    from cottonpalm.stores.sql.lease import Lease
    from cottonpalm.stores.sql.reader import Reader
    from cottonpalm.stores.sql.rescue import RescueFile


class Parts(NamedTuple):
    """What a store shares with its runs."""

    database: Database
    home: Home
    writer: Writer
    reader: Reader


class SqlRunStore:
    """One run of a `SqlStore`, held under its lease. See `protocols.RunStore`."""

    def __init__(
        self,
        store: object,
        parts: Parts,
        run: int,
        name: str,
        lease: Lease,
        *,
        rescue: RescueFile,
        created: bool,
    ) -> None:
        self.name, self.created = name, created
        self._store = store  # a run keeps its store alive
        self._database, self._home, self._writer, self._reader = parts
        self._run, self._lease, self._rescue = run, lease, rescue
        self._reader.wait_s = BUSY_S  # a run waits for a server that is away when it reads, as when it writes
        self._seq = run_rows.read(self._reader.rows, run).seq  # of the outcome that was written last
        # A closed store reports in place, and may be written to from there.
        self._numbering = threading.RLock()
        self._finish = weakref.finalize(self, _abandon, self._home, self._writer, lease)

    def _check(self) -> None:
        self._home.check()
        if not self._finish.alive:
            raise StoreError(f"run {self.name!r} is closed")

    def write(
        self,
        rows: Sequence[StoredRow],
        done: Callable[[BaseException | None], None],
        spent: Spent | None = None,
    ) -> None:
        """See `protocols.RunStore`."""
        self._check()
        with self._numbering:  # numbers follow the order in the queue
            first, self._seq = self._seq + 1, self._seq + len(rows)
            self._writer.write(
                Group(self._run << SLOT_BITS, rows, self._lease, done, spent, seq=first, rescue=self._rescue)
            )

    def spent(self) -> Spent:
        """See `protocols.RunStore`."""
        self._check()
        return spending_rows.read(self._reader.rows, self._run)

    def scan(self, after: int, limit: int) -> list[Slot]:
        """See `protocols.RunStore`."""
        self._check()
        return self._reader.scan(self._run, after, limit)

    def same_rows(
        self, first: int, keys: Sequence[bytes], contents: Sequence[bytes], statuses: AbstractSet[int]
    ) -> bool:
        """See `protocols.ComparesBlocks`."""
        self._check()
        return self._reader.same_rows(self._run, first, keys, contents, statuses)

    def find(self, key: bytes) -> list[Slot]:
        """See `protocols.RunStore`; the first call on a big run takes about a second per million rows."""
        self._check()
        return self._reader.find(self._run, key)

    def read(self, slots: Sequence[int]) -> dict[int, bytes]:
        """See `protocols.RunStore`."""
        self._check()
        return self._reader.read(self._run, slots)

    def counts(self) -> dict[int, int]:
        """See `protocols.RunStore`."""
        self._check()
        counts = run_rows.read(self._reader.rows, self._run)
        found = {1: counts.ok, 2: counts.retryable, 3: counts.failed}
        return {status: number for status, number in found.items() if number}

    def last_seq(self) -> int:
        """See `protocols.NumbersOutcomes`."""
        self._check()
        return run_rows.read(self._reader.rows, self._run).seq

    def newer(self, seq: int, after: int, limit: int) -> list[tuple[int, int]]:
        """See `protocols.NumbersOutcomes`."""
        self._check()
        return self._reader.newer(self._run, seq, after, limit)

    def last_slot(self) -> int:
        """See `protocols.RunStore`."""
        self._check()
        return self._reader.last_slot(self._run)

    def meta(self) -> dict[str, Any]:
        """See `protocols.RunStore`."""
        self._check()
        found = self._reader.rows("SELECT meta FROM run WHERE id = ?", (self._run,))
        if not found:
            raise StoreError(run_rows.GONE)
        return facts.read(found[0][0])

    def set_meta(self, **values: Any) -> None:
        """See `protocols.RunStore`."""
        self._check()
        self._writer.call(lambda db: _merge_meta(db, self._run, values))

    def orders(self) -> Orders:
        """See `protocols.TakesOrders`."""
        self._check()
        return order_rows.read(self._reader.rows, self._run)

    def show(self, said: bytes) -> None:
        """See `protocols.TakesOrders`."""
        self._check()
        run = self._run
        self._writer.post(lambda db: order_rows.show(db, run, said))

    def book(self) -> Book:
        """See `stages.KeepsBatches`."""
        self._check()
        from cottonpalm.stores.sql.batches import SqlBook  # noqa: PLC0415 - few runs have any

        return SqlBook(self._under_the_lease, self._reader.rows, self._run)

    def _under_the_lease(self, work: Callable[[Connection], Any]) -> Any:
        """Run `work` durably. Refuse if another machine took the run over: it may submit the same requests."""
        self._check()

        def guarded(db: Any) -> Any:
            self._lease.hold(db)
            return work(db)

        return self._writer.call(guarded)

    def place(self) -> tuple[Database, int]:
        """See `protocols.SharesLimits`."""
        return self._database, self._run

    def close(self) -> None:
        """See `protocols.RunStore`."""
        if self._home.here and self._finish.detach() is not None:
            self._writer.drop(self._lease)
            # The last one first: where nothing can be written, the lock is still given back.
            with ExitStack() as stack:
                stack.callback(self._reader.forget, self._run)
                stack.callback(self._lease.unlock)
                self._writer.call(self._lease.leave)


def _merge_meta(db: Connection, run: int, values: dict[str, Any]) -> None:
    found = db.execute("SELECT meta FROM run WHERE id = ?", (run,)).fetchone()
    if found is None:
        raise StoreError(run_rows.GONE)
    db.execute("UPDATE run SET meta = ? WHERE id = ?", (facts.merged(found[0], values), run))


def _abandon(home: Home, writer: Writer, lease: Lease) -> None:
    """Give the lease back for an object that was never closed; first the writer writes what the object had queued."""
    if home.here:
        writer.drop(lease)
        lease.leaving()
        if not writer.post(lambda db: _leave(db, lease)):
            # Its thread is over, and no lock may be waited for here, nor the other thread as by `Thread.start`.
            start_new_thread(lease.unlock, ())


def _leave(db: Connection, lease: Lease) -> None:
    try:
        lease.leave(db)
    finally:
        lease.unlock()
