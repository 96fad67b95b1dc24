"""A lease as a row: a heartbeat by the server's clock, and the backend that serves its holder.

When a holder dies, the server ends its backend at once, and others see that. It may also be no more than a connection
that was cut: then the holder is back in a second or two, and others wait for it unless they see it dead. Where a pooler
stands between, or the server does not notice that the holder's machine is gone, the heartbeat decides. Every write
locks the row and finds out whether the lease is still its own, so a holder that was believed dead writes nothing more.
"""

from __future__ import annotations

import os
from socket import gethostname
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from cottonpalm import clock
from cottonpalm.errors import StoreError
from cottonpalm.stores.sql.lease import (
    BEAT_S,
    COLUMNS,
    EXPIRES_S,
    TAKEN_OVER,
    MayReturn,
    busy,
    holder_of,
    is_gone,
    is_leaving,
    machine,
    note_leaving,
)

if TYPE_CHECKING:
    from cottonpalm.stores.postgres.connection import PgConnection
    from cottonpalm.stores.sql.lease import Holder

NOW: Final = "extract(epoch from clock_timestamp())::float8"
RETURNS_S: Final = BEAT_S + 5.0  # a holder whose connection was cut is there again by then, if it lives
BACK_S: Final = 5.0  # who wants the run of one whose connection is gone waits so long whether it comes back
_BACKEND: Final = "(SELECT pid FROM pg_stat_activity WHERE pid = pg_backend_pid() AND ?)"
_STARTED: Final = (
    "(SELECT extract(epoch from backend_start)::float8 FROM pg_stat_activity WHERE pid = pg_backend_pid())"
)
ALIVE: Final = (
    f"(lease.beat > {NOW} - {EXPIRES_S} AND (lease.backend IS NULL OR EXISTS (SELECT 1 FROM pg_stat_activity AS one"  # noqa: S608
    " WHERE one.pid = lease.backend AND"
    " coalesce(extract(epoch from one.backend_start)::float8 = lease.started, true))))"
)
_ENTER: Final = (
    f"INSERT INTO lease (run, {COLUMNS}, backend, started)"  # noqa: S608 - our own words
    f" VALUES (?, ?, ?, ?, ?, {NOW}, {NOW}, {_BACKEND}, {_STARTED})"
    " ON CONFLICT (run) DO UPDATE SET token = excluded.token, host = excluded.host, machine = excluded.machine,"
    " pid = excluded.pid, since = excluded.since, beat = excluded.beat, backend = excluded.backend,"
    f" started = excluded.started WHERE lease.token = excluded.token OR NOT {ALIVE}"
)
_BEAT: Final = (
    f"UPDATE lease SET beat = {NOW}, backend = {_BACKEND}, started = {_STARTED} WHERE run = ? AND token = ?"  # noqa: S608
)


class RowLease:
    """This process's right to work on one run. See `sql.lease.Lease`."""

    def __init__(self, number: int, name: str) -> None:
        self.run, self.name, self.lost = number, name, False
        self._token = uuid4().hex
        self._times = 0  # that the connection was made when the row was written
        self._missed_s: float | None = None  # since when we know that the other holder's connection is gone

    def lock(self) -> bool:
        """See `sql.lease.Lease`: `enter` finds out."""
        return True

    def enter(self, db: PgConnection) -> None:
        """See `sql.lease.Lease`."""
        if (holder := holder_of(db, self.run)) is not None and self._may_return(db, holder):
            raise MayReturn(str(busy(self.name, holder)))
        values = (self.run, self._token, gethostname(), machine(), os.getpid(), db.direct)
        if not db.execute(_ENTER, values).rowcount:
            raise busy(self.name, holder_of(db, self.run))
        self.lost, self._times = False, db.times

    def _may_return(self, db: PgConnection, holder: Holder) -> bool:
        """Whether the holder's connection is gone, but not for certain the holder."""
        if holder.token == self._token or is_gone(holder) or is_leaving(holder):
            return False
        cut = f"SELECT 1 FROM lease WHERE run = ? AND lease.beat > {NOW} - {EXPIRES_S} AND NOT {ALIVE}"  # noqa: S608
        if not db.execute(cut, (self.run,)).fetchall():
            return False
        if self._missed_s is None:
            self._missed_s = clock.now()
        return clock.now() - self._missed_s < BACK_S

    def beat(self, db: PgConnection) -> None:
        """See `sql.lease.Lease`."""
        self.lost = db.execute(_BEAT, (db.direct, self.run, self._token)).rowcount == 0
        self._times = db.times

    def keep(self, db: PgConnection) -> None:
        """See `sql.lease.Lease`: until then the row names a backend that is gone, as that of a dead holder does."""
        if self._times != db.times:
            self.beat(db)

    def hold(self, db: PgConnection) -> None:
        """See `sql.lease.Lease`: the row stays locked until the transaction ends."""
        self.keep(db)
        sql = "SELECT 1 FROM lease WHERE run = ? AND token = ? FOR UPDATE"
        if not db.execute(sql, (self.run, self._token)).fetchall():
            self.lost = True
            raise StoreError(TAKEN_OVER)

    def leave(self, db: PgConnection) -> None:
        """See `sql.lease.Lease`."""
        db.execute("DELETE FROM lease WHERE run = ? AND token = ?", (self.run, self._token))

    def unlock(self) -> None:
        """See `sql.lease.Lease`: a lease that leaves stays noted, since its row may still be seen until the commit."""

    def leaving(self) -> None:
        """See `sql.lease.Lease`."""
        note_leaving(self._token, leaves=True)
