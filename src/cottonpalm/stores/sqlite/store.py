"""The durable store: one SQLite file, one writer thread, any number of readers."""

from __future__ import annotations

import sqlite3
import threading
import weakref
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from cottonpalm import clock
from cottonpalm.errors import StoreError
from cottonpalm.protocols import Orders, RunInfo, RunStore, Slot, Spent, StoredRow, StoredRows
from cottonpalm.stores.opening import Decision, decide
from cottonpalm.stores.sqlite import batch_rows, order_rows, run_rows, share_rows, spending_rows
from cottonpalm.stores.sqlite.database import BUSY_S, OPENING_BUSY_S, Home, explained, file_at, prepare
from cottonpalm.stores.sqlite.lease import Holder, Lease, holder_of, is_held, is_leaving
from cottonpalm.stores.sqlite.reader import SLOT_BITS, Reader
from cottonpalm.stores.sqlite.stored_rows import SqliteRows
from cottonpalm.stores.sqlite.writer import Group, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from cottonpalm.providers.batches.stages import Batch, Book

_LEASE_TRIES = 10  # the `status` command may hold the lock for a moment, to see if it is free


class Parts(NamedTuple):
    """What a store shares with its runs."""

    home: Home
    writer: Writer
    reader: Reader


class SqliteStore:
    """A store of runs in one file that only its owner may read. `protocols.Store` says what each method promises."""

    def __init__(self, path: Path, *, busy_s: float = BUSY_S) -> None:
        """Open or make the file.

        Args:
            path: where; its folder must exist.
            busy_s: seconds to wait for another process that writes to the same file.

        Raises:
            StoreError: it is foreign, newer than this version, locked, read-only, or cannot be made.
        """
        self.path = path
        self._home = Home(path)
        prepare(path, busy_s=min(busy_s, OPENING_BUSY_S))
        try:
            self._reader = Reader(path, busy_s)
            try:
                self._writer = Writer(path, busy_s)
            except BaseException:
                self._reader.close()
                raise
            self._file = file_at(path)
        except (OSError, sqlite3.Error) as exc:
            raise explained(exc, path) from exc
        self._parts = Parts(self._home, self._writer, self._reader)
        self._open: weakref.WeakSet[SqliteRunStore] = weakref.WeakSet()
        self._finish = weakref.finalize(self, _shut, self._home, self._writer, self._reader)

    def open_run(self, name: str, fingerprint: dict[str, Any] | None, *, fresh: bool = False) -> RunStore:
        """See `protocols.Store`."""
        self._home.check()
        run, created = self._writer.call(lambda db: _ensure_run(db, name))
        lease = self._lease(run, name)
        try:
            self._check_file()
            self._writer.call(lambda db: _enter(db, lease, fingerprint, fresh=fresh))
        except BaseException:
            lease.unlock()
            raise
        self._writer.hold(lease)
        opened = SqliteRunStore(self, self._parts, run, name, lease, created=created)
        self._open.add(opened)
        return opened

    def _lease(self, run: int, name: str) -> Lease:
        lease, until = Lease(self.path, run, name), clock.now() + BUSY_S
        holder: Holder | None = None
        tries = 0
        while not lease.lock():
            holder, tries = self._writer.call(lambda db: holder_of(db, run)), tries + 1
            if is_leaving(holder):  # lost without `close` in this process: its store gives it back by and by
                if clock.now() > until:
                    raise lease.busy(holder)
            elif tries >= (_LEASE_TRIES if holder is None else 2):  # the first may have met the end of one
                raise lease.busy(holder)
            threading.Event().wait(0.05)
        return lease

    def _check_file(self) -> None:
        """Refuse to work in a file that was deleted after it was opened: what we write there would be lost."""
        if file_at(self.path) != self._file:
            raise StoreError(
                f"the store {self.path} was deleted or replaced by another process just now: try again"
            )

    def runs(self) -> list[RunInfo]:
        """See `protocols.Store`."""
        self._home.check()
        holders = {
            row[0]: Holder(*row[1:])
            for row in self._reader.rows("SELECT run, token, host, machine, pid, since, beat FROM lease")
        }
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
        run, name, created, meta, ok, retryable, final, cost = row
        live = holder is not None and is_held(self.path, run, holder)
        shown = f"{holder.host} {holder.pid} {holder.since:.0f}" if holder is not None and live else None
        uncertain = spent.uncertain if live else max(spent.uncertain, spent.leased - spent.reported)
        return RunInfo(
            name, created, ok, retryable + final, retryable, cost, orjson.loads(meta), shown, uncertain
        )

    def look(self, name: str) -> StoredRows | None:
        """See `protocols.Store`."""
        run = self._number(name)
        return None if run is None else SqliteRows(self._reader, run)

    def batches(self, name: str) -> list[Batch]:
        """Return the batches of a run as last stored, oldest first; this needs no lease."""
        self._home.check()
        found = self._reader.rows("SELECT id FROM run WHERE name = ?", (name,))
        if not found:
            return []
        from cottonpalm.stores.sqlite.batches import batches_of  # noqa: PLC0415 - few runs have any

        return batches_of(self._reader.rows, found[0][0])

    def order(self, name: str, **wishes: Any) -> None:
        """See `protocols.GivesOrders`."""
        if (run := self._number(name)) is not None:
            self._writer.call(lambda db: order_rows.put(db, run, wishes))

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
        self._home.check()
        found = self._reader.rows("SELECT id FROM run WHERE name = ?", (name,))
        if not found:
            return
        [(run,)] = found
        lease = self._lease(run, name)
        try:
            self._writer.call(lambda db: _remove(db, run, lease))
        finally:
            lease.unlock()
        self._reader.forget(run)

    def close(self) -> None:
        """Close the open runs, write what is queued, close files and end threads."""
        if self._home.here:
            with ExitStack() as stack:  # the last one first, and each whatever the others raise
                stack.callback(self._finish)
                for run in tuple(self._open):
                    stack.callback(run.close)


def _shut(home: Home, writer: Writer, reader: Reader) -> None:
    if home.here:
        try:
            writer.close()
        finally:
            reader.close()


def _ensure_run(db: sqlite3.Connection, name: str) -> tuple[int, bool]:
    made = (
        db.execute("INSERT OR IGNORE INTO run (name, created) VALUES (?, ?)", (name, clock.wall())).rowcount
        == 1
    )
    (run,) = db.execute("SELECT id FROM run WHERE name = ?", (name,)).fetchone()
    return run, made


def _enter(db: sqlite3.Connection, lease: Lease, fingerprint: dict[str, Any] | None, *, fresh: bool) -> None:
    """Write the lease and the fingerprint in one transaction."""
    run, name = lease.run, lease.name
    row = db.execute("SELECT fingerprint FROM run WHERE id = ? AND name = ?", (run, name)).fetchone()
    if row is None:
        raise StoreError(f"run {name!r} was removed by another process just now: try again")
    lease.enter(db)
    order_rows.forget(db, run)
    stored = None if row[0] is None else orjson.loads(row[0])
    decision = decide(name, stored, fingerprint, fresh=fresh)
    if fresh:
        batch_rows.check_none_out(db, run, name)
        _delete_rows(db, run)
        db.execute("UPDATE run SET created = ?, meta = '{}' WHERE id = ?", (clock.wall(), run))
    if decision is Decision.RENEW:
        text = None if fingerprint is None else orjson.dumps(fingerprint).decode()
        db.execute("UPDATE run SET fingerprint = ? WHERE id = ?", (text, run))


def _delete_rows(db: sqlite3.Connection, run: int) -> None:
    bounds = (run << SLOT_BITS, (run + 1) << SLOT_BITS)
    db.execute("DELETE FROM item WHERE id >= ? AND id < ?", bounds)
    db.execute("DELETE FROM record WHERE id >= ? AND id < ?", bounds)
    run_rows.forget(db, run)
    spending_rows.forget(db, run)
    share_rows.forget(db, run)
    batch_rows.forget(db, run)
    order_rows.forget(db, run)


def _remove(db: sqlite3.Connection, run: int, lease: Lease) -> None:
    lease.enter(db)
    batch_rows.check_none_out(db, run, lease.name)
    _delete_rows(db, run)
    db.execute("DELETE FROM lease WHERE run = ?", (run,))
    db.execute("DELETE FROM run WHERE id = ?", (run,))


class SqliteRunStore:
    """One run of a `SqliteStore`, held under its lease. See `protocols.RunStore`."""

    def __init__(
        self, store: SqliteStore, parts: Parts, run: int, name: str, lease: Lease, *, created: bool
    ) -> None:
        self.name, self.created = name, created
        self._store = store  # a run keeps its store alive
        self._home, self._writer, self._reader = parts
        self._run, self._lease = run, lease
        self._seq = run_rows.read(
            self._reader.rows, run
        ).seq  # the number of the outcome that was written last
        self._numbering = (
            threading.RLock()
        )  # a closed store reports in place, and may be written to from there
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
            self._writer.write(Group(self._run << SLOT_BITS, rows, self._lease, done, spent, seq=first))

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
        [(text,)] = self._reader.rows("SELECT meta FROM run WHERE id = ?", (self._run,))
        return orjson.loads(text)  # type: ignore[no-any-return]

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
        from cottonpalm.stores.sqlite.batches import SqlBook  # noqa: PLC0415 - few runs have any

        return SqlBook(self._under_the_lease, self._reader.rows, self._run)

    def _under_the_lease(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        """Run `work` durably. Refuse if another machine took the run over: it may submit the same requests."""
        self._check()

        def guarded(db: sqlite3.Connection) -> Any:
            self._lease.beat(db)
            if self._lease.lost:
                raise StoreError(f"run {self.name!r} was taken over by another machine: stop one of them")
            return work(db)

        return self._writer.call(guarded)

    def place(self) -> tuple[Path, int]:
        """See `protocols.SharesLimits`."""
        return self._store.path, self._run

    def close(self) -> None:
        """See `protocols.RunStore`."""
        if self._home.here and self._finish.detach() is not None:
            self._writer.drop(self._lease)
            with (
                ExitStack() as stack
            ):  # the last one first: a store that cannot be written still gives back the lock
                stack.callback(self._reader.forget, self._run)
                stack.callback(self._lease.unlock)
                self._writer.call(self._lease.leave)


def _merge_meta(db: sqlite3.Connection, run: int, values: dict[str, Any]) -> None:
    (text,) = db.execute("SELECT meta FROM run WHERE id = ?", (run,)).fetchone()
    merged = orjson.dumps(orjson.loads(text) | values).decode()
    db.execute("UPDATE run SET meta = ? WHERE id = ?", (merged, run))


def _abandon(home: Home, writer: Writer, lease: Lease) -> None:
    """Give the lease back for an object that was never closed; first the writer writes what the object had queued."""
    if home.here:
        writer.drop(lease)
        lease.leaving()
        if not writer.post(
            lambda db: _leave(db, lease)
        ):  # its thread is over, and no lock may be waited for here
            threading.Thread(target=lease.unlock, daemon=True).start()


def _leave(db: sqlite3.Connection, lease: Lease) -> None:
    try:
        lease.leave(db)
    finally:
        lease.unlock()
