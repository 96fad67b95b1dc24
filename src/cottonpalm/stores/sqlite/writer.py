"""The only thread that writes: groups and small jobs in the order they came. It reports each one when it is durable."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cottonpalm import clock
from cottonpalm.errors import StoreError
from cottonpalm.stores.sqlite import run_rows, spending_rows
from cottonpalm.stores.sqlite.database import connect, explained, keep, let_go
from cottonpalm.stores.sqlite.lease import BEAT_S, Lease

if TYPE_CHECKING:
    from pathlib import Path

    from cottonpalm.protocols import Spent, StoredRow

T = TypeVar("T")
Done = Callable[[BaseException | None], None]
log = logging.getLogger("cottonpalm")
_JOINED_ROWS: Final = 4096  # groups in the queue share a transaction up to this many rows
_SIZES: Final = tuple(
    2**n for n in reversed(range(9))
)  # rows per statement: nine statements, each prepared once


class Group:
    """Rows of one run that become durable together."""

    __slots__ = ("done", "first_id", "lease", "rows", "seq", "spent")

    def __init__(
        self,
        first_id: int,
        rows: Sequence[StoredRow],
        lease: Lease,
        done: Done,
        spent: Spent | None = None,
        *,
        seq: int = 0,
    ) -> None:
        """`first_id` is that of the run's slot 0; `seq` the number of the first row's outcome."""
        self.first_id, self.rows, self.lease, self.done, self.spent = first_id, rows, lease, done, spent
        self.seq = seq


class _Job:
    """A function of the connection, to be run in its own transaction."""

    __slots__ = ("future", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], Any]) -> None:
        self.work = work
        self.future: Future[Any] = Future()


class Writer:
    """Owns the connection for writing, and its thread. All public methods may be called from any thread."""

    def __init__(self, path: Path, busy_s: float) -> None:
        self._path = path
        self._queue: deque[Group | _Job] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._leases: set[Lease] = set()
        self._last_beat = clock.now()
        self._db = keep(connect(path, busy_s=busy_s))
        self._thread = threading.Thread(target=self._work, name="cottonpalm-writer", daemon=True)
        self._thread.start()

    def write(self, group: Group) -> None:
        """Queue a group; the writer's thread calls its `done`."""
        with self._wake:
            if not self._closing:
                self._queue.append(group)
                self._wake.notify()
                return
        group.done(StoreError(f"the store {self._path} is closed"))

    def call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a transaction after everything queued before it, and wait for it to be durable.

        Raises:
            StoreError: the store failed; or whatever `work` raised.
        """
        job = _Job(work)
        if (
            threading.current_thread() is self._thread
        ):  # a `done` callback calls us on the writer's own thread: to wait here would hang
            self._run_job(job)
            return job.future.result()  # type: ignore[no-any-return]
        with self._wake:
            if self._closing:
                raise StoreError(f"the store {self._path} is closed")
            self._queue.append(job)
            self._wake.notify()
        return job.future.result()  # type: ignore[no-any-return]

    def post(self, work: Callable[[sqlite3.Connection], Any]) -> bool:
        """Queue `work` without waiting: the only way in for a finalizer, which may run inside any lock.

        Returns:
            False where the thread has ended, or is about to: `work` will not be done.
        """
        with self._wake:
            if not self._closing:
                self._queue.append(_Job(work))
                self._wake.notify()
            return not self._closing

    def hold(self, lease: Lease) -> None:
        """Write this lease's heartbeat regularly from now on."""
        self._leases.add(lease)

    def drop(self, lease: Lease) -> None:
        """Stop this lease's heartbeat."""
        self._leases.discard(lease)

    def close(self) -> None:
        """Write what is queued, then end the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _work(self) -> None:
        while (batch := self._next()) is not None:
            self._show_life()
            if isinstance(batch, _Job):
                self._run_job(batch)
            elif batch:
                self._commit(batch)
        let_go(self._db)

    def _next(self) -> list[Group] | _Job | None:
        """Return the next job, or groups for one transaction (none: write a heartbeat now); None at the end."""
        with self._wake:
            if not self._queue and not self._closing:
                self._wake.wait(BEAT_S)
            if not self._queue:
                return None if self._closing else []
            if isinstance(self._queue[0], _Job):
                job = self._queue.popleft()
                return job if isinstance(job, _Job) else None
            return self._joined()

    def _joined(self) -> list[Group]:
        groups: list[Group] = []
        rows = 0
        while (
            self._queue and isinstance(group := self._queue[0], Group) and (not rows or rows < _JOINED_ROWS)
        ):
            self._queue.popleft()
            groups.append(group)
            rows += len(group.rows)
        return groups

    def _show_life(self) -> None:
        if clock.now() - self._last_beat < BEAT_S or not self._leases:
            return
        self._last_beat = clock.now()
        with suppress(Exception):  # if the store cannot be written, the next write reports that
            self._in_transaction(self._beat)

    def _beat(self, db: sqlite3.Connection) -> None:
        for lease in tuple(self._leases):
            lease.beat(db)

    def _run_job(self, job: _Job) -> None:
        try:
            result = self._in_transaction(job.work)
        except sqlite3.Error as exc:
            job.future.set_exception(explained(exc, self._path))
        except BaseException as exc:  # noqa: BLE001 - it belongs to the caller, on the other thread
            job.future.set_exception(exc)
        else:
            job.future.set_result(result)

    def _commit(self, groups: list[Group]) -> None:
        try:
            self._in_transaction(partial(_insert_all, groups=groups))
        except Exception as exc:  # noqa: BLE001 - reported to each group's owner
            if len(groups) > 1:  # one group may be at fault, so write them one by one
                for group in groups:
                    self._commit([group])
            else:
                self._report(groups, explained(exc, self._path))
        else:
            self._report(groups, None)

    def _report(self, groups: list[Group], error: BaseException | None) -> None:
        for group in groups:
            try:
                group.done(error)
            except Exception:
                log.exception("a callback of the store failed")

    def _in_transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            result = work(self._db)
            self._db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # with a full disk, SQLite has already rolled back
                self._db.execute("ROLLBACK")
            raise
        return result


def _insert_all(db: sqlite3.Connection, groups: list[Group]) -> None:
    for group in groups:
        _insert(db, group)


def _insert(db: sqlite3.Connection, group: Group) -> None:
    """Insert the group's rows with few statements; each one inserts a power of two of rows."""
    if group.lease.lost:
        raise StoreError(
            "the run was taken over by another machine while this process was silent: stop one of them"
        )
    if group.spent is not None:
        spending_rows.put(db, group.lease.run, group.spent)
    rows, first = group.rows, group.first_id
    if not rows:
        return
    run_rows.count(db, group.lease.run, rows, before=_statuses(db, group), last_seq=group.seq + len(rows) - 1)
    at = 0
    for size in _SIZES:
        while len(rows) - at >= size:
            part = rows[at : at + size]
            items: list[Any] = []
            records: list[Any] = []
            for seq, (slot, key, content, status, record, cost) in enumerate(part, group.seq + at):
                items += (first + slot, key, None if content == key else content, status, cost, seq)
                records += (first + slot, record)
            db.execute(_item_sql(size), items)
            db.execute(_record_sql(size), records)
            at += size


def _statuses(db: sqlite3.Connection, group: Group) -> list[int]:
    """How those of the group's rows stood that were stored before."""
    ids, at, found = [group.first_id + row.slot for row in group.rows], 0, []
    for size in _SIZES:
        while len(ids) - at >= size:
            found += [status for (status,) in db.execute(_status_sql(size), ids[at : at + size])]
            at += size
    return found


@cache
def _status_sql(rows: int) -> str:
    return f"SELECT status FROM item WHERE id IN ({','.join('?' * rows)})"  # noqa: S608 - question marks


@cache
def _item_sql(rows: int) -> str:
    values = ",".join(["(?,?,?,?,?,?)"] * rows)
    return (
        f"INSERT INTO item (id, key, content, status, cost_pico, seq) VALUES {values}"  # noqa: S608 - question marks
        " ON CONFLICT (id) DO UPDATE SET key = excluded.key, content = excluded.content, status = excluded.status,"
        " cost_pico = cost_pico + excluded.cost_pico, seq = excluded.seq"
    )


@cache
def _record_sql(rows: int) -> str:
    values = ",".join(["(?,?)"] * rows)
    return (
        f"INSERT INTO record (id, body) VALUES {values} ON CONFLICT (id) DO UPDATE SET body = excluded.body"  # noqa: S608
    )
