"""One connection to Postgres that understands the store's statements, and connects anew after it was cut."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import psycopg

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEMA: Final = "cottonpalm"
_BEGIN_DURABLE: Final = "BEGIN; SET LOCAL synchronous_commit = on"
_TABLES: Final = (
    r"answer|batch(_answer|_line|_row|_tool)?|claim|item|known_limit|learnt|lease|orders|record|run|share(_secret)?|shown|spending|spent"
    r"|version"
)
_NAMED: Final = re.compile(rf"\b(FROM|INTO|UPDATE|JOIN|TABLE|ON) (?=({_TABLES})\b)")


@cache
def spoken(sql: str) -> str:
    """Return a statement of the store as Postgres and its driver understand it.

    Tables get their schema by name, since a pooler keeps no `search_path` from one transaction to the next.
    """
    return _NAMED.sub(rf"\1 {SCHEMA}.", sql.replace("%", "%%").replace("?", "%s"))


class PgConnection:
    """A connection for one thread at a time. See `sql.database.Connection`.

    Attributes:
        times: how often it was connected.
        direct: False where a pooler stands between: then a backend says nothing of the process that uses it.
        begin: the statement that begins a transaction.
    """

    def __init__(self, conninfo: str, *, durable: bool = True) -> None:
        """Connect. `durable`: a commit waits for the server's disk, also where the server is set up not to.

        Raises:
            psycopg.Error: the server cannot be reached, or refuses.
        """
        self._conninfo, self._durable, self.times = conninfo, durable, 0
        self._connect()

    def _connect(self) -> None:
        # Prepared statements belong to one backend, which a pooler may exchange.
        self._db = psycopg.connect(self._conninfo, autocommit=True, prepare_threshold=None)
        sql = "SELECT pg_backend_pid(), current_setting('synchronous_commit')"
        [(backend, waits)] = self._db.execute(sql).fetchall()
        self.times += 1
        self.direct = backend == self._db.info.backend_pid
        # In each transaction: a pooler keeps no setting from one to the next.
        self.begin = _BEGIN_DURABLE if self._durable and waits == "off" else "BEGIN"

    def execute(self, sql: str, values: Sequence[Any] = ()) -> psycopg.Cursor[Any]:
        """Run one statement; outside of a transaction, once more if the connection was cut."""
        idle = not self._in_transaction
        try:
            return self._db.execute(spoken(sql), values)
        except psycopg.OperationalError:
            if not (idle and self._db.broken):
                raise
            self._connect()
            return self._db.execute(spoken(sql), values)

    def executemany(self, sql: str, rows: Sequence[Any]) -> None:
        """Run one statement for each of these rows of values, in few round trips."""
        with self._db.cursor() as cursor:
            cursor.executemany(spoken(sql), rows)

    @property
    def _in_transaction(self) -> bool:
        return self._db.info.transaction_status != psycopg.pq.TransactionStatus.IDLE and not self._db.closed

    def close(self) -> None:
        """Close it."""
        with suppress(psycopg.Error):
            self._db.close()
