"""The only thread that writes: groups and small jobs in the order they came. It reports each one when it is durable."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cottonpalm import clock
from cottonpalm.errors import StoreError
from cottonpalm.stores.sql import run_rows, spending_rows
from cottonpalm.stores.sql.database import BUSY_S, in_transaction, through_cuts
from cottonpalm.stores.sql.lease import BEAT_S

if TYPE_CHECKING:
    from cottonpalm.protocols import Spent, StoredRow
    from cottonpalm.stores.sql.connection import Connection
    from cottonpalm.stores.sql.database import Database
    from cottonpalm.stores.sql.lease import Lease
    from cottonpalm.stores.sql.rescue import RescueFile

T = TypeVar("T")
Done = Callable[[BaseException | None], None]
log = logging.getLogger("cottonpalm")
_AWAY: Final = (
    "the store %s cannot be reached: answers wait for it in memory. It is tried again for up to %.0f s;"
    " then they are kept in a file, and the run stops. If it is killed before, they would be asked and paid again"
)
_BACK: Final = "the store %s is there again, after %.0f s: answers wait for it no more"
_LOOK_S: Final = 1.0  # seconds between two looks at an idle connection: cut, it makes us seem dead
_JOINED_ROWS: Final = 4096  # groups in the queue share a transaction up to this many rows
AWAY_S: Final = 5.0  # a server that is away for longer while answers wait is told of


class Group:
    """Rows of one run that become durable together."""

    __slots__ = ("done", "first_id", "lease", "rescue", "rows", "seq", "spent")

    def __init__(
        self,
        first_id: int,
        rows: Sequence[StoredRow],
        lease: Lease,
        done: Done,
        spent: Spent | None = None,
        *,
        seq: int = 0,
        rescue: RescueFile | None = None,
    ) -> None:
        """`first_id` is that of the run's slot 0; `seq` the number of the first row's outcome.

        `rescue` keeps the group if the store does not take it.
        """
        self.first_id, self.rows, self.lease, self.done, self.spent = first_id, rows, lease, done, spent
        self.seq, self.rescue = seq, rescue


class _Job:
    """A function of the connection, to be run in its own transaction; once more where the connection breaks."""

    __slots__ = ("future", "work")

    def __init__(self, work: Callable[[Connection], Any]) -> None:
        self.work = work
        self.future: Future[Any] = Future()


class Writer:
    """Owns the connection for writing, and its thread. All public methods may be called from any thread."""

    def __init__(self, database: Database, busy_s: float) -> None:
        self._database = database
        self._queue: deque[Group | _Job] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._leases: set[Lease] = set()
        self._last_beat = clock.now()
        self._db = database.connect(busy_s)
        self._thread = threading.Thread(target=self._work, name="cottonpalm-writer", daemon=True)
        self._thread.start()

    def write(self, group: Group) -> None:
        """Queue a group; the writer's thread calls its `done`."""
        with self._wake:
            if not self._closing:
                self._queue.append(group)
                self._wake.notify()
                return
        group.done(StoreError(f"the store {self._database} is closed"))

    def call(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction after everything queued before it, and wait for it to be durable.

        Where the connection breaks, nobody knows whether it took effect, and it is done once more: that must come
        to the same.

        Raises:
            StoreError: the store failed; or whatever `work` raised.
        """
        job = _Job(work)
        # A `done` callback calls us on the writer's own thread: to wait here would hang.
        if threading.current_thread() is self._thread:
            self._run_job(job)
            return job.future.result()  # type: ignore[no-any-return]
        with self._wake:
            if self._closing:
                raise StoreError(f"the store {self._database} is closed")
            self._queue.append(job)
            self._wake.notify()
        return job.future.result()  # type: ignore[no-any-return]

    def post(self, work: Callable[[Connection], Any]) -> bool:
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
        with self._wake:
            self._leases.add(lease)
            self._wake.notify()

    def drop(self, lease: Lease) -> None:
        """Stop this lease's heartbeat."""
        self._leases.discard(lease)

    def end(self) -> None:
        """Tell the thread to end once it has written what is queued. It waits for nobody, as a finalizer must not."""
        with self._wake:
            self._closing = True
            self._wake.notify()

    def join(self) -> None:
        """Wait until it has ended."""
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _work(self) -> None:
        while self._turn():
            pass
        self._database.let_go(self._db)

    def _turn(self) -> bool:
        """Do what there is to do; False: nothing will come any more. While it waits, the thread keeps no job alive."""
        if (batch := self._next()) is None:
            return False
        self._show_life(idle=not batch)
        if isinstance(batch, _Job):
            self._run_job(batch)
        elif batch:
            self._commit(batch)
        return True

    def _next(self) -> list[Group] | _Job | None:
        """Return the next job, or groups for one transaction (none: it is time to show life); None at the end."""
        with self._wake:
            if not self._queue and not self._closing:
                self._wake.wait(_LOOK_S if self._leases else BEAT_S)
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

    def _show_life(self, *, idle: bool) -> None:
        """Write a heartbeat if it is time, or if the connection, by which others know that we live, was cut."""
        due = clock.now() - self._last_beat >= BEAT_S or (idle and self._database.is_lost(self._db))
        if not (due and self._leases):
            return
        self._last_beat = clock.now()
        with suppress(Exception):  # if the store cannot be written, the next write reports that
            self._in_transaction(self._beat)

    def _beat(self, db: Connection) -> None:
        for lease in tuple(self._leases):
            lease.beat(db)

    def _run_job(self, job: _Job) -> None:
        try:
            # A job done once more comes to the same, also where it had taken effect.
            result = self._through_cuts(partial(self._in_transaction, job.work), self._look)
            # Whoever drops a cursor resets its statement, which may be running here by then.
            assert not hasattr(result, "fetchall"), "a cursor must not leave the writer's thread"
        except self._database.errors as exc:
            job.future.set_exception(self._database.explained(exc))
        except BaseException as exc:  # noqa: BLE001 - it belongs to the caller, on the other thread
            job.future.set_exception(exc)
        else:
            job.future.set_result(result)

    def _commit(self, groups: list[Group]) -> None:
        try:
            self._database.check()
            self._written(groups)
        except Exception as exc:  # noqa: BLE001 - reported to each group's owner
            if len(groups) > 1:  # one group may be at fault, so write them one by one
                for group in groups:
                    self._commit([group])
            else:
                self._report(groups, _rescued(groups[0], self._database.explained(exc)))
        else:
            self._report(groups, None)

    def _written(self, groups: list[Group]) -> None:
        """Write the groups in one transaction; if the connection breaks, write those again that are not there."""
        left = groups

        def write() -> None:
            self._in_transaction(partial(_insert_all, self._database, groups=left))

        def look() -> None:
            nonlocal left
            left = [group for group in left if not self._is_there(group)]

        self._through_cuts(write, look)

    def _through_cuts(self, work: Callable[[], T], look: Callable[[], object]) -> T:
        """Do the work, once more where the connection breaks. Answers that wait meanwhile are told of, and their end.

        They wait behind what is not rows, too.
        """
        began_s, told = clock.now(), False

        def again() -> None:
            nonlocal told
            with suppress(*self._database.errors):  # the server may need longer
                look()
                return
            if not told and self._leases and clock.now() - began_s > AWAY_S:
                told = True
                log.warning(_AWAY, self._database, BUSY_S)

        result = through_cuts(self._database, work, again)
        if told:
            log.warning(_BACK, self._database, clock.now() - began_s)
        return result

    def _look(self) -> None:
        """See whether the server is there.

        Raises:
            Exception: it is not.
        """
        self._db.execute("SELECT 1").fetchall()

    def _is_there(self, group: Group) -> bool:
        """Whether this group was committed, although we were not told: its last outcome has the run's last number.

        The number may be that of a holder who has taken the run over meanwhile; then it says nothing of our group.
        """
        if not group.rows:
            return False
        group.lease.hold(self._db)
        sql = "SELECT seq FROM run WHERE id = ?"
        [(last,)] = self._db.execute(sql, (group.lease.run,)).fetchall()
        return bool(last >= group.seq + len(group.rows) - 1)

    def _report(self, groups: list[Group], error: BaseException | None) -> None:
        for group in groups:
            try:
                group.done(error)
            except Exception:
                log.exception("a callback of the store failed")

    def _in_transaction(self, work: Callable[[Any], T]) -> T:
        def kept() -> T:
            for lease in tuple(self._leases):  # until then, those of a connection that was cut seem free
                lease.keep(self._db)
            return work(self._db)

        return in_transaction(self._database, self._db, kept)


def _rescued(group: Group, error: StoreError) -> StoreError:
    """Keep in a file what the store did not take, as it is paid for; the error says where."""
    if group.rescue is not None:
        try:
            error.kept_in = str(group.rescue.put(group.rows, group.spent))
        except Exception as exc:  # noqa: BLE001 - whatever it is, the group's owner must hear of the store's error
            log.warning("nor can it be kept in a file: %s", exc)
    return error


def _insert_all(database: Database, db: Any, *, groups: list[Group]) -> None:
    for group in groups:
        insert(database, db, group)


def insert(database: Database, db: Any, group: Group) -> None:
    """Write one group, in the caller's transaction."""
    lease, rows, first = group.lease, group.rows, group.first_id
    lease.hold(db)
    if group.spent is not None:
        spending_rows.put(db, lease.run, group.spent)
    if not rows:
        return
    before = database.statuses(db, [first + row.slot for row in rows])
    run_rows.count(db, lease.run, rows, before=before, last_seq=group.seq + len(rows) - 1)
    database.insert(db, first, rows, group.seq)
