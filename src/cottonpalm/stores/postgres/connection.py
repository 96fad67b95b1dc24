"""One connection to Postgres that understands the store's statements, and connects anew after it was cut."""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

import psycopg

from cottonpalm import clock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from psycopg.abc import PQGen

T = TypeVar("T")
log = logging.getLogger("cottonpalm")

SCHEMA: Final = "cottonpalm"
SILENT_S: Final = 10.0  # a statement that takes longer is told of
STALLED_S: Final = 20.0  # the server ends a transaction whose process says nothing for so long
_BEGIN: Final = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = {:.0f}"  # milliseconds
_DURABLE: Final = "; SET LOCAL synchronous_commit = on"
_TABLES: Final = (
    r"answer|batch(_answer|_line|_row|_tool)?|claim|item|known_limit|learnt|lease|orders|record|run|share(_secret)?|shown|spending|spent"
    r"|version"
)
_WRITES: Final = ("INSERT", "UPDATE", "DELETE")
_NAMED: Final = re.compile(rf"\b(FROM|INTO|UPDATE|JOIN|TABLE|ON) (?=({_TABLES})\b)")


@cache
def spoken(sql: str) -> str:
    """Return a statement of the store as Postgres and its driver understand it.

    Tables get their schema by name, since a pooler keeps no `search_path` from one transaction to the next.
    """
    return _NAMED.sub(rf"\1 {SCHEMA}.", sql.replace("%", "%%").replace("?", "%s"))


class Demoted(psycopg.OperationalError):
    """A server that this connection has written to takes no more writes: it became a standby, or is being moved."""


class Silence:
    """Says that a server does not answer, and when the wait is over: once for all connections to it.

    A server that hangs keeps its connections, so no timeout of the network ends a statement there. Nor do we: it may be
    a commit that succeeds.
    """

    def __init__(self, shown: str) -> None:
        self._shown, self._told = shown, False

    def over(self, waiting: PQGen[T]) -> PQGen[T]:
        """Pass on what the driver waits for; it looks in ten times a second."""
        begun, silent = clock.now(), False
        ready: Any = None  # the first value that a generator is sent
        try:
            while True:
                ready = yield waiting.send(ready)
                if not ready and not silent and clock.now() - begun > SILENT_S:
                    silent = True
                    self._tell()
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            if silent:
                self._tell_end(clock.now() - begun)

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            log.warning(
                "the store %s has not answered for %.0f s: look at the server, which may hang or hold a lock. It is"
                " waited for; answers that it does not have yet would be asked again if the run were killed now",
                self._shown,
                SILENT_S,
            )

    def _tell_end(self, seconds: float) -> None:
        if self._told:
            self._told = False
            log.warning("the store %s is waited for no more, after %.0f s", self._shown, seconds)


class _Watched(psycopg.Connection[Any]):
    """A driver's connection that tells of silence, once it is connected."""

    silence: Silence | None = None

    def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        """Wait for the server."""
        return super().wait(gen if self.silence is None else self.silence.over(gen), *args, **kwargs)


class PgConnection:
    """A connection for one thread at a time. See `sql.database.Connection`.

    Attributes:
        times: how often it was connected.
        direct: False where a pooler stands between: then a backend says nothing of the process that uses it.
        begin: the statement that begins a transaction.
    """

    def __init__(self, conninfo: str, *, durable: bool = True, silence: Silence | None = None) -> None:
        """Connect. `durable`: a commit waits for the server's disk, also where the server is set up not to.

        Raises:
            psycopg.Error: the server cannot be reached, or refuses.
        """
        self._conninfo, self._durable, self._silence, self.times = conninfo, durable, silence, 0
        self._has_written = False
        self._connect()

    def _connect(self) -> None:
        # Prepared statements belong to one backend, which a pooler may exchange.
        self._db = _Watched.connect(self._conninfo, autocommit=True, prepare_threshold=None)
        self._db.silence = self._silence
        sql = "SELECT pg_backend_pid(), current_setting('synchronous_commit')"
        [(backend, waits)] = self._db.execute(sql).fetchall()
        self.times += 1
        self.direct = backend == self._db.info.backend_pid
        # In each transaction: a pooler keeps no setting from one to the next. The server notices only after hours that
        # a machine is gone, and all others would wait as long for what its transaction has locked.
        begin = _BEGIN.format(STALLED_S * 1000)
        self.begin = begin + _DURABLE if self._durable and waits == "off" else begin

    def execute(self, sql: str, values: Sequence[Any] = ()) -> psycopg.Cursor[Any]:
        """Run one statement; outside of a transaction, once more if the connection was cut."""
        idle = not self.in_transaction
        try:
            return self._run(sql, lambda: self._db.execute(spoken(sql), values))
        except psycopg.OperationalError:
            if not (idle and self._db.broken):
                raise
            self._connect()
            return self._run(sql, lambda: self._db.execute(spoken(sql), values))

    def executemany(self, sql: str, rows: Sequence[Any]) -> None:
        """Run one statement for each of these rows of values, in few round trips."""
        with self._db.cursor() as cursor:
            self._run(sql, lambda: cursor.executemany(spoken(sql), rows))

    def _run(self, sql: str, run: Callable[[], T]) -> T:
        """Run a statement; leave a server that was demoted, so that the next one finds its successor.

        Raises:
            Demoted: the server has taken writes of this connection before, and only reads now.
        """
        try:
            done = run()
        except psycopg.errors.ReadOnlySqlTransaction as exc:
            if not self._has_written:
                raise
            self._db.pgconn.finish()
            raise Demoted(str(exc)) from None
        self._has_written = self._has_written or sql.startswith(_WRITES)
        return done

    @property
    def in_transaction(self) -> bool:
        """Whether one was begun; not where the connection broke."""
        return self._db.info.transaction_status != psycopg.pq.TransactionStatus.IDLE and not self._db.closed

    def is_lost(self) -> bool:
        """Whether it is cut, as far as is known here without asking the server."""
        with suppress(psycopg.Error):
            self._db.pgconn.consume_input()  # it waits for nothing
        return self._db.closed

    def close(self) -> None:
        """Close it."""
        with suppress(psycopg.Error):
            self._db.close()
