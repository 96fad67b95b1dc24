"""Connects to a Postgres database. Its errors say in one line what to do, and never show a password."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.errors import ConfigError, StoreError
from cottonpalm.redact import redact
from cottonpalm.stores.sql.database import BUSY_S, CannotWrite, Home, Patience, Turnwise
from cottonpalm.stores.sql.lease import COLUMNS, FIRST_HOLDER, Holder, is_gone

try:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict, make_conninfo
except ImportError as missing:
    raise ConfigError(
        'a store in Postgres needs one more package: pip install "cottonpalm[postgres]"'
    ) from missing

from cottonpalm.stores.postgres.connection import SCHEMA, PgConnection, Silence
from cottonpalm.stores.postgres.lease import ALIVE, NOW, RETURNS_S, RowLease
from cottonpalm.stores.postgres.migrations import lock, migrate, version_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from cottonpalm.protocols import StoredRow

_DEFAULTS: Final = {
    "connect_timeout": "10",
    "tcp_user_timeout": "30000",  # milliseconds; without it, a server that is gone is believed for a quarter of an hour
    # Seconds; without them, a server that vanished before it answered what it had taken is believed for two hours.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "4",
    "application_name": "cottonpalm",
}
_ITEMS: Final = (
    "INSERT INTO item (id, key, content, status, cost_pico, seq) SELECT * FROM"
    " unnest(?::bigint[], ?::bytea[], ?::bytea[], ?::smallint[], ?::bigint[], ?::bigint[])"
    " ON CONFLICT (id) DO UPDATE SET key = excluded.key, content = excluded.content, status = excluded.status,"
    " cost_pico = item.cost_pico + excluded.cost_pico, seq = excluded.seq"
)
_RECORDS: Final = (
    "INSERT INTO record (id, body) SELECT * FROM unnest(?::bigint[], ?::bytea[])"
    " ON CONFLICT (id) DO UPDATE SET body = excluded.body"
)
_COST: Final = 4  # the place of an item's cost in its row
_TROUBLES: Final = (
    (
        "password authentication failed",
        "refuses the password: check it in the address, PGPASSWORD or ~/.pgpass",
    ),
    ("no password supplied", "wants a password: give it in PGPASSWORD or ~/.pgpass"),
    ("resolve host", "is at a host that has no address: check the host's name"),
    ("could not translate host name", "is at a host that has no address: check the host's name"),
    (
        "must be owner",
        "was made by another user and by an older cottonpalm ({text}): run a command as that user once",
    ),
    (
        f'relation "{SCHEMA}.',
        "has lost tables ({text}): another program removed them. Put back a copy, or drop the schema to begin anew",
    ),
    ("does not exist", "refuses ({text}): create the database, or name one that is there"),
    *(
        (full, "takes no more connections: each run uses up to four; close some, or raise max_connections")
        for full in ("too many", "remaining connection slots")
    ),
    ("No space left", "cannot be written, its disk is full: free some space and run the same command again"),
    (
        "has no equivalent in encoding",
        "cannot hold this text ({text}): name a database that was made with ENCODING 'UTF8'",
    ),
    ("Connection refused", "cannot be reached: is the server running, and are host and port right? ({text})"),
)
_READ_ONLY: Final = (
    (
        "permission denied for database",
        "refuses ({text}): give this user the right to create a schema there",
    ),
    (
        "permission denied",
        "refuses ({text}): give this user the rights to use the schema cottonpalm, and to read and write its tables",
    ),
    (
        "read-only",
        "cannot be written, it is read-only: name the primary, or all servers with target_session_attrs=read-write",
    ),
)


class PostgresDatabase:
    """A Postgres database. See `sql.database.Database`."""

    errors: tuple[type[Exception], ...] = (psycopg.Error,)
    folder: Path | None = None
    like = "convert_from(body, 'UTF8') ILIKE ?"

    def __init__(self, url: str, shown: str) -> None:
        """Check the address; nothing is connected yet. `shown` is the address without a password.

        Raises:
            ConfigError: it is no address of a Postgres database.
        """
        try:
            given = conninfo_to_dict(url)
        except psycopg.Error:
            raise ConfigError(
                f"{shown} is no address of a database: write postgresql://USER@HOST:PORT/DATABASE"
            ) from None
        told = {key: str(value) for key, value in given.items()}
        # Else it is what the database or PGCLIENTENCODING says: of SQL_ASCII the driver makes no text at all.
        self._conninfo = make_conninfo(**(_DEFAULTS | told | {"client_encoding": "UTF8"}))
        self._password = str(given.get("password") or "")
        self.url, self._shown = url, shown
        self.home, self.patience, self._silence = Home(self._shown), Patience(), Silence(shown)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PostgresDatabase) and other._conninfo == self._conninfo

    def __hash__(self) -> int:
        return hash(self._conninfo)

    def __str__(self) -> str:
        return self._shown

    def __repr__(self) -> str:
        return f"<PostgresDatabase {self._shown}>"

    def prepare(self, busy_s: float = BUSY_S) -> None:
        """See `sql.database.Database`."""
        self.let_go(self.open(busy_s))

    def open(self, busy_s: float = BUSY_S) -> PgConnection:  # noqa: ARG002 - the server waits as long as it is told
        """See `sql.database.Database`."""
        try:
            db = PgConnection(self._conninfo, silence=self._silence)
            try:
                migrate(db, self._shown)
            except BaseException:
                db.close()
                raise
        except psycopg.Error as exc:
            raise self.explained(exc) from None
        return db

    def connect(self, busy_s: float = BUSY_S, *, durable: bool = True) -> PgConnection:  # noqa: ARG002
        """See `sql.database.Database`."""
        return PgConnection(self._conninfo, durable=durable, silence=self._silence)

    def begin(self, db: PgConnection, turnwise: Turnwise = Turnwise.NONE) -> None:
        """See `sql.database.Database`: what reads before it writes waits for its turn."""
        db.execute(db.begin)
        if turnwise is not Turnwise.NONE:
            try:
                lock(db, turnwise.value)
            except BaseException:
                with suppress(psycopg.Error):
                    db.execute("ROLLBACK")
                raise

    def let_go(self, db: PgConnection) -> None:
        """See `sql.database.Database`."""
        db.close()

    def explained(self, exc: BaseException) -> StoreError:
        """See `sql.database.Database`."""
        if isinstance(exc, StoreError):
            return exc
        text = " ".join(redact(str(exc)).split())
        if self._password:
            text = text.replace(self._password, "[redacted]")
        for kind, troubles in ((CannotWrite, _READ_ONLY), (StoreError, _TROUBLES)):
            for words, trouble in troubles:
                if words in text:
                    return kind(f"the store {self._shown} {trouble.format(text=text)}")
        return StoreError(
            f"the store {self._shown} failed ({type(exc).__name__}: {text}): check the server, then run the same"
            " command again"
        )

    def is_cut(self, exc: BaseException) -> bool:
        """See `sql.database.Database`; a full disk is an error of operation too, but cuts nothing."""
        if isinstance(exc, psycopg.errors.IdleInTransactionSessionTimeout):
            return True  # this process stood still for long
        return isinstance(exc, psycopg.OperationalError) and not isinstance(exc, psycopg.errors.DiskFull)

    def is_lost(self, db: PgConnection) -> bool:
        """See `sql.database.Database`."""
        return db.is_lost()

    def now(self, db: PgConnection) -> float:
        """See `sql.database.Database`: the server's clock, read after every wait for a lock."""
        return float(db.execute(f"SELECT {NOW}").fetchall()[0][0])

    def lease(self, number: int, name: str) -> RowLease:
        """See `sql.database.Database`."""
        return RowLease(number, name)

    def living(self, rows: Callable[..., list[Any]]) -> dict[int, Holder]:
        """See `sql.database.Database`."""
        sql = f"SELECT run, {COLUMNS} FROM lease WHERE run < ? AND {ALIVE}"  # noqa: S608 - our own words
        return {run: Holder(*row) for run, *row in rows(sql, (FIRST_HOLDER,))}

    def lives(self, db: PgConnection, number: int) -> bool:
        """See `sql.database.Database`: one whose connection was cut shows that it lives at its next heartbeat."""
        sql = f"SELECT {ALIVE}, lease.beat > {NOW} - {RETURNS_S}, {COLUMNS} FROM lease WHERE run = ?"  # noqa: S608 - our own words
        found = db.execute(sql, (number,)).fetchall()
        return any(served or (lately and not is_gone(Holder(*holder))) for served, lately, *holder in found)

    def died(self, db: PgConnection, number: int) -> bool:  # noqa: ARG002
        """See `sql.database.Database`: a backend that is gone may be no more than a connection that broke."""
        return False

    def joined(self, column: str) -> str:
        """See `sql.database.Database`."""
        return f"string_agg({column}, ''::bytea ORDER BY id)"

    def insert(self, db: PgConnection, first_id: int, rows: Sequence[StoredRow], first_seq: int) -> None:
        """See `sql.database.Database`: one statement for each table."""
        items, records = list[tuple[Any, ...]](), dict[int, bytes]()
        for seq, (slot, key, content, status, record, cost) in enumerate(rows, first_seq):
            items.append((first_id + slot, key, None if content == key else content, status, cost, seq))
            records[first_id + slot] = record
        db.execute(_ITEMS, tuple(map(list, zip(*_once(items), strict=True))))
        db.execute(_RECORDS, tuple(map(list, zip(*records.items(), strict=True))))

    def statuses(self, db: PgConnection, ids: Sequence[int]) -> list[int]:
        """See `sql.database.Database`."""
        found = db.execute("SELECT status FROM item WHERE id = ANY(?)", (list(ids),))
        return [status for (status,) in found]

    def exists(self) -> bool:
        """See `sql.database.Database`."""
        try:
            db = PgConnection(self._conninfo, silence=self._silence)
            try:
                return version_of(db, self._shown) > 0
            finally:
                db.close()
        except psycopg.Error as exc:
            raise self.explained(exc) from None

    def check(self) -> None:
        """See `sql.database.Database`: a database that is gone fails at the next statement."""


def _once(items: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """One statement may write a row only once: the last one stays, and their costs add up."""
    last: dict[int, tuple[Any, ...]] = {}
    for item in items:
        if (earlier := last.get(item[0])) is not None:
            item = (*item[:_COST], item[_COST] + earlier[_COST], *item[_COST + 1 :])  # noqa: PLW2901
        last[item[0]] = item
    return list(last.values())
