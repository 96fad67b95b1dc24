"""The durable store: one database, one writer thread, any number of readers."""

from __future__ import annotations

import logging
import threading
import weakref
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import orjson

from cottonpalm import clock
from cottonpalm.errors import RunBusy, StoreError
from cottonpalm.protocols import RunInfo, RunStore, Spent, StoredRows
from cottonpalm.runtime import process_end
from cottonpalm.store_extras import Orders
from cottonpalm.stores.opening import renews
from cottonpalm.stores.sql import batch_rows, facts, order_rows, run_rows, share_rows, spending_rows
from cottonpalm.stores.sql.database import BUSY_S, SLOT_BITS
from cottonpalm.stores.sql.lease import MayReturn, busy, holder_of, is_gone, is_leaving
from cottonpalm.stores.sql.reader import Reader
from cottonpalm.stores.sql.rescue import RescueFile, folders
from cottonpalm.stores.sql.rescued_rows import take_in
from cottonpalm.stores.sql.run_store import Parts, SqlRunStore
from cottonpalm.stores.sql.share_rows import all_known
from cottonpalm.stores.sql.stored_rows import SqlRows
from cottonpalm.stores.sql.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.providers.batches.stages import Batch
    from cottonpalm.stores.sql.connection import Connection
    from cottonpalm.stores.sql.database import Database, Home
    from cottonpalm.stores.sql.lease import Holder, Lease
    from cottonpalm.types import Known

T = TypeVar("T")
log = logging.getLogger("cottonpalm")
_DYING_S = 5.0  # the server of a store ends the connection of a process that was killed within so long
_LEASE_TRIES = 10  # the `status` command may hold the lock for a moment, to see if it is free


class SqlStore:
    """A store of runs in one database. `protocols.Store` says what each method promises."""

    def __init__(self, database: Database, *, busy_s: float = BUSY_S) -> None:
        """Open or make it.

        Args:
            database: where; it must exist as far as users make it themselves.
            busy_s: seconds to wait for another process that writes to the same store.

        Raises:
            StoreError: it is foreign, newer than this version, locked, read-only, or cannot be made.
        """
        self.database, self._home, self._folders = database, database.home, folders(database.folder)
        self._reader = Reader(database, database.open(busy_s))
        try:
            self._writer = Writer(database, busy_s)
        except BaseException as exc:
            self._reader.close()
            if isinstance(exc, database.errors):
                raise database.explained(exc) from exc
            raise
        self._parts = Parts(database, self._home, self._writer, self._reader)
        self._open: weakref.WeakSet[SqlRunStore] = weakref.WeakSet()
        self._finish = weakref.finalize(self, _shut, self._home, self._writer, self._reader)

    def open_run(self, name: str, fingerprint: dict[str, Any] | None, *, fresh: bool = False) -> RunStore:
        """See `protocols.Store`."""
        self._home.check()
        self.database.check()
        run, created = self._writer.call(lambda db: _ensure_run(db, name))
        lease = self._lease(run, name)
        entered = self._enter(lease, lambda db: self._entered(db, lease, fingerprint, fresh=fresh))
        entered.clear(name)
        self._writer.hold(lease)
        opened = SqlRunStore(self, self._parts, run, name, lease, rescue=entered.rescue, created=created)
        self._open.add(opened)
        return opened

    def _entered(self, db: Any, lease: Lease, fingerprint: dict[str, Any] | None, *, fresh: bool) -> _Entered:
        """Enter the lease, and take in what the store did not take the last time."""
        was, created = _enter(db, lease, fingerprint, fresh=fresh)
        rescue = self._rescue(lease, created)
        rows = 0 if fresh else take_in(self.database, db, lease, rescue)
        return _Entered(rescue, self._rescue(lease, was), rows)

    def _rescue(self, lease: Lease, created: float) -> RescueFile:
        return RescueFile(self._folders, lease.run, lease.name, created)

    def _lease(self, run: int, name: str) -> Lease:
        lease, until = self.database.lease(run, name), clock.now() + BUSY_S
        holder: Holder | None = None
        tries = 0
        while not lease.lock():
            holder, tries = self._writer.call(lambda db: holder_of(db, run)), tries + 1
            if is_leaving(holder):  # lost without `close` in this process: its store gives it back by and by
                if clock.now() > until:
                    raise busy(name, holder)
            elif tries >= (_LEASE_TRIES if holder is None else 2):  # the first may have met the end of one
                raise busy(name, holder)
            threading.Event().wait(0.05)
        return lease

    def _enter(self, lease: Lease, work: Callable[[Any], T]) -> T:
        """Do the work, which enters the lease, in a transaction. Where it fails, unlock the lease.

        A holder that is on its way out is waited for: a server that is in the middle of a statement of a process that
        was killed ends its connection only then. So is one that may be back in a moment, to see whether it is.
        """
        began = clock.now()
        try:
            self.database.check()
            while True:
                try:
                    return self._writer.call(work)
                except MayReturn:
                    pass
                except RunBusy:
                    holder = self._writer.call(lambda db: holder_of(db, lease.run))
                    waited_s = clock.now() - began
                    goes = holder is None or is_leaving(holder) or (is_gone(holder) and waited_s < _DYING_S)
                    if waited_s > BUSY_S or not goes:
                        raise
                threading.Event().wait(0.05)
        except BaseException:
            lease.unlock()
            raise

    def runs(self) -> list[RunInfo]:
        """See `protocols.Store`."""
        self._home.check()
        holders = self.database.living(self._reader.rows)
        runs = self._reader.rows(
            "SELECT id, name, created, meta, ok, retryable, failed, cost_pico FROM run ORDER BY created, id"
        )
        spent = {
            row[0]: Spent("", *row[1:])
            for row in self._reader.rows("SELECT run, reported, uncertain, leased FROM spending")
        }
        nothing = Spent("")
        return [self._info(row, holders.get(row[0]), spent.get(row[0], nothing)) for row in runs]

    def _info(self, row: tuple[Any, ...], holder: Holder | None, spent: Spent) -> RunInfo:
        _, name, created, meta, ok, retryable, final, cost = row
        shown = None if holder is None else f"{holder.host} {holder.pid} {holder.since:.0f}"
        uncertain = spent.uncertain if shown else max(spent.uncertain, spent.leased - spent.reported)
        cost = max(cost, spent.reported)  # also of answers whose rows are not done
        return RunInfo(
            name, created, ok, retryable + final, retryable, cost, facts.read(meta), shown, uncertain
        )

    def known_limits(self) -> list[Known]:
        """What runs have found of each host, model and account, by their names."""
        self._home.check()
        return all_known(self._reader.rows)

    def look(self, name: str) -> StoredRows | None:
        """See `protocols.Store`."""
        run = self._number(name)
        return None if run is None else SqlRows(self._reader, run)

    def batches(self, name: str) -> list[Batch]:
        """Return the batches of a run as last stored, oldest first; this needs no lease."""
        if (run := self._number(name)) is None:
            return []
        from cottonpalm.stores.sql.batches import batches_of  # noqa: PLC0415 - few runs have any

        return batches_of(self._reader.rows, run)

    def order(self, name: str, **wishes: Any) -> None:
        """See `protocols.GivesOrders`."""
        if (run := self._number(name)) is not None:
            self._writer.call(lambda db: order_rows.put(db, run, wishes))

    def watch(self, name: str, until: float) -> None:
        """See `protocols.GivesOrders`."""
        if (run := self._number(name)) is not None:
            self._writer.post(lambda db: order_rows.put(db, run, {"watched": until}))

    def ordered(self, name: str) -> Orders:
        """See `protocols.GivesOrders`."""
        run = self._number(name)
        return Orders() if run is None else order_rows.read(self._reader.rows, run)

    def shown(self, name: str) -> bytes | None:
        """See `protocols.GivesOrders`."""
        run = self._number(name)
        return None if run is None else order_rows.said(self._reader.rows, run)

    def _number(self, name: str) -> int | None:
        self._home.check()
        found = self._reader.rows("SELECT id FROM run WHERE name = ?", (name,))
        return found[0][0] if found else None

    def remove(self, name: str) -> None:
        """See `protocols.Store`."""
        if (run := self._number(name)) is None:
            return
        lease = self._lease(run, name)
        created = self._enter(lease, lambda db: _remove(db, run, lease))
        self._rescue(lease, created).remove()
        lease.unlock()
        self._reader.forget(run)

    def close(self) -> None:
        """Close the open runs, write what is queued, close files and end threads."""
        if self._home.here:
            with ExitStack() as stack:  # the last one first, and each whatever the others raise
                stack.callback(self._writer.join)
                stack.callback(self._finish)
                for run in tuple(self._open):
                    stack.callback(run.close)


def _shut(home: Home, writer: Writer, reader: Reader) -> None:
    if home.here:
        writer.end()
        if process_end.is_here():
            writer.join()
        reader.close()


def _ensure_run(db: Connection, name: str) -> tuple[int, bool]:
    sql = "INSERT INTO run (name, created) VALUES (?, ?) ON CONFLICT DO NOTHING"
    made = db.execute(sql, (name, clock.wall())).rowcount == 1
    (run,) = db.execute("SELECT id FROM run WHERE name = ?", (name,)).fetchone()
    return run, made


class _Entered(NamedTuple):
    """A run that was entered.

    Attributes:
        rescue: the file of what the store does not take from now on.
        left: the file of what it did not take before, which is stored now, or forgotten.
        rows: how many rows of it were taken in.
    """

    rescue: RescueFile
    left: RescueFile
    rows: int

    def clear(self, name: str) -> None:
        """Say what was taken in, and delete the file."""
        if self.rows:
            text = "run %r: the store takes in %d rows that it did not take the last time, from %s"
            log.warning(text, name, self.rows, str(self.left))
        self.left.remove()


def _enter(
    db: Connection, lease: Lease, fingerprint: dict[str, Any] | None, *, fresh: bool
) -> tuple[float, float]:
    """Write the lease and the fingerprint in one transaction; return when the run began, before this and now."""
    run, name = lease.run, lease.name
    row = db.execute("SELECT fingerprint, created FROM run WHERE id = ? AND name = ?", (run, name)).fetchone()
    if row is None:
        raise StoreError(f"run {name!r} was removed by another process just now: try again")
    lease.enter(db)
    order_rows.forget(db, run)
    stored = None if row[0] is None else orjson.loads(row[0])
    new = renews(name, stored, fingerprint, fresh=fresh)
    created: float = row[1]
    if fresh:
        batch_rows.check_none_out(db, run, name)
        _delete_rows(db, run)
        created = clock.wall()
        db.execute("UPDATE run SET created = ?, meta = '{}' WHERE id = ?", (created, run))
    if new:
        text = None if fingerprint is None else orjson.dumps(fingerprint).decode()
        db.execute("UPDATE run SET fingerprint = ? WHERE id = ?", (text, run))
    return row[1], created


def _delete_rows(db: Connection, run: int) -> None:
    bounds = (run << SLOT_BITS, (run + 1) << SLOT_BITS)
    db.execute("DELETE FROM item WHERE id >= ? AND id < ?", bounds)
    db.execute("DELETE FROM record WHERE id >= ? AND id < ?", bounds)
    run_rows.forget(db, run)
    spending_rows.forget(db, run)
    share_rows.forget(db, run)
    batch_rows.forget(db, run)
    order_rows.forget(db, run)


def _remove(db: Connection, run: int, lease: Lease) -> float:
    """Delete a run; return when it began."""
    lease.enter(db)
    (created,) = db.execute("SELECT created FROM run WHERE id = ?", (run,)).fetchone()
    batch_rows.check_none_out(db, run, lease.name)
    _delete_rows(db, run)
    db.execute("DELETE FROM lease WHERE run = ?", (run,))
    db.execute("DELETE FROM run WHERE id = ?", (run,))
    return float(created)
