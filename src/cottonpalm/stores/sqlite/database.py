"""Opens the SQLite file: private from the start, in WAL mode, with FULL sync. Its errors say in one line what to do."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from cottonpalm import clock
from cottonpalm.errors import StoreError
from cottonpalm.stores.sql.database import BUSY_S, CannotWrite, Home, Patience, Turnwise
from cottonpalm.stores.sql.lease import COLUMNS, FIRST_HOLDER, Holder, holder_of
from cottonpalm.stores.sqlite.lease import FileLease, is_held
from cottonpalm.stores.sqlite.migrations import check_ours, migrate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from cottonpalm.protocols import StoredRow

OPENING_BUSY_S: Final = 5.0  # the same when opening: nothing is paid yet, and a person waits for a message
_PAGE_BYTES: Final = 8192  # twice SQLite's default: a group fills many pages, and this writes it faster
_WAL_BYTES: Final = 64 << 20  # SQLite cuts the log back to this size after a checkpoint
_TRIES: Final = 100  # while another process opens the file, SQLite refuses at once to switch to WAL
_READ_ONLY: Final = ("readonly", "unable to open", "Permission", "Read-only")
_TROUBLES: Final = {
    (
        "not a database",
        "malformed",
    ): "cannot be read ({text}): choose another file, or put back a copy of this one",
    (
        "is full",
        "No space",
    ): "cannot be written, the disk is full: free some space and run the same command again",
    ("locked", "busy"): "is locked by another program: close it and try again",
    _READ_ONLY: ("cannot be written ({text}): check the permissions of the file and of {folder}"),
}
_BESIDE: Final = len("-journal")  # SQLite's longest addition to the name, for files beside the store
# Of usual file systems, and of SQLite itself.
_MOST_BYTES: Final = {"name": 255 - _BESIDE, "whole path": 512 - _BESIDE}
# Rows per statement: seven statements, each prepared once; larger ones only take longer to prepare.
_SIZES: Final = tuple(2**n for n in reversed(range(7)))
_inherited: list[
    Any
] = []  # connections of the parent process: if a forked child closed them, this would cut the parent's log


def connect(path: Path, *, busy_s: float) -> sqlite3.Connection:
    """Return a connection to an existing store; the caller must use it on only one thread at a time."""
    place = path.absolute()  # SQLite may take a name like file:x.db for an address, and open another file
    db = sqlite3.connect(
        place, isolation_level=None, check_same_thread=False, timeout=busy_s, cached_statements=256
    )
    try:
        check_ours(db, str(path))
        db.execute(f"PRAGMA page_size = {_PAGE_BYTES}")  # has an effect only on a new file
        _use_wal(db)
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
        db.execute("PRAGMA temp_store = FILE")
    except BaseException:
        db.close()
        raise
    return db


def prepare(path: Path, *, busy_s: float) -> sqlite3.Connection:
    """Make the file if need be, and bring its schema up to date; return the connection by which that was done.

    Raises:
        StoreError: it cannot be made or used; the error says what to do.
    """
    try:
        _create(path)
        db = connect(path, busy_s=busy_s)
        try:
            if migrate(db, str(path)):
                db.execute("PRAGMA wal_checkpoint")  # so that the file by itself is a store from now on
        except BaseException:
            db.close()
            raise
    except (OSError, sqlite3.Error) as exc:
        raise explained(exc, path) from exc
    return db


def file_at(path: Path) -> tuple[int, int] | None:
    """Which file stands there; None: none does."""
    with suppress(FileNotFoundError):
        found = path.stat()
        return found.st_dev, found.st_ino
    return None


def _create(path: Path) -> None:
    """Make an empty file that only its owner may read; SQLite gives its helper files the same mode."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _use_wal(db: sqlite3.Connection) -> None:
    for left in reversed(range(_TRIES)):
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as exc:
            if not left or "locked" not in str(exc):
                raise
            threading.Event().wait(0.02)
        else:
            return


def explained(exc: BaseException, path: Path) -> StoreError:
    """Return the error with a one-line message that names the file, the problem and the remedy."""
    if isinstance(exc, StoreError):
        return exc
    said = f"the store {path} {_trouble(exc, path)}"
    return CannotWrite(said) if any(word in str(exc) for word in _READ_ONLY) else StoreError(said)


def _trouble(exc: BaseException, path: Path) -> str:
    text = str(exc)
    folder = path.absolute().parent
    if (what := _too_long(path)) is not None:
        return f"cannot be made, its {what} is too long: choose one of at most {_MOST_BYTES[what]} bytes"
    if not folder.is_dir():
        return f"cannot be made: there is no folder {folder}. Make it, or choose another place"
    if path.is_dir():
        return "is a folder: name a file in it"
    for words, trouble in _TROUBLES.items():
        if any(word in text for word in words):
            return trouble.format(text=text, folder=folder)
    if isinstance(exc, MemoryError):
        return "got no memory: see `ulimit -v`, or the container's limit, then run the same command again"
    said = f"failed ({type(exc).__name__}: {text}): the disk may be full or broken, or `ulimit -f` bounds the file"
    return f"{said}. Free some space on it, check both, then run the same command again"


def _too_long(path: Path) -> str | None:
    """What of it is longer than the file system, or SQLite, takes."""
    parts: dict[str, str | Path] = {"name": path.name, "whole path": path.absolute()}
    return next((what for what, part in parts.items() if len(os.fsencode(part)) > _MOST_BYTES[what]), None)


_connections: set[sqlite3.Connection] = set()


def keep(db: sqlite3.Connection) -> sqlite3.Connection:
    """Remember an open connection, so that a forked child can prevent its copy from being closed."""
    _connections.add(db)
    return db


def let_go(db: sqlite3.Connection) -> None:
    """Close a kept connection."""
    _connections.discard(db)
    db.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _inherited.extend(_connections))


class SqliteDatabase:
    """A SQLite file. See `sql.database.Database`."""

    errors: tuple[type[Exception], ...] = (sqlite3.Error,)
    like = r"CAST(body AS TEXT) LIKE ? ESCAPE '\'"

    def __init__(self, path: Path) -> None:
        self._place = path.absolute()  # the process may go to another folder meanwhile
        self.path, self.home, self.url = path, Home(path), str(self._place)
        self.patience = Patience()
        self.folder: Path | None = self._place.parent
        self._file: tuple[int, int] | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SqliteDatabase) and other._place == self._place

    def __hash__(self) -> int:
        return hash(self._place)

    def __str__(self) -> str:
        return str(self.path)

    def prepare(self, busy_s: float = OPENING_BUSY_S) -> None:
        """See `sql.database.Database`."""
        self.let_go(self.open(busy_s))

    def open(self, busy_s: float = BUSY_S) -> sqlite3.Connection:
        """See `sql.database.Database`."""
        db = keep(prepare(self.path, busy_s=min(busy_s, OPENING_BUSY_S)))
        db.execute(f"PRAGMA busy_timeout = {round(1000 * busy_s)}")
        self._file = file_at(self._place)
        return db

    def connect(self, busy_s: float = BUSY_S, *, durable: bool = True) -> sqlite3.Connection:
        """See `sql.database.Database`."""
        db = keep(connect(self._place, busy_s=busy_s))
        # It only writes, and SQLite keeps what a statement may have to take back. In a file, it would need room in
        # another folder and one more file open, while requests may have taken all that this process may open.
        db.execute("PRAGMA temp_store = MEMORY")
        if not durable:
            db.execute("PRAGMA synchronous = NORMAL")
        return db

    def begin(self, db: sqlite3.Connection, turnwise: Turnwise = Turnwise.NONE) -> None:  # noqa: ARG002
        """See `sql.database.Database`: all that write to one file do so one after the other."""
        db.execute("BEGIN IMMEDIATE")

    def let_go(self, db: sqlite3.Connection) -> None:
        """See `sql.database.Database`."""
        let_go(db)

    def explained(self, exc: BaseException) -> StoreError:
        """See `sql.database.Database`."""
        return explained(exc, self.path)

    def is_cut(self, exc: BaseException) -> bool:  # noqa: ARG002 - there is nothing between us and the file
        """See `sql.database.Database`."""
        return False

    def is_lost(self, db: sqlite3.Connection) -> bool:  # noqa: ARG002
        """See `sql.database.Database`: a file has nothing between."""
        return False

    def now(self, db: sqlite3.Connection) -> float:  # noqa: ARG002 - all processes are on this machine
        """See `sql.database.Database`."""
        return clock.wall()

    def lease(self, number: int, name: str) -> FileLease:
        """See `sql.database.Database`."""
        return FileLease(self._place, number, name)

    def living(self, rows: Callable[..., list[Any]]) -> dict[int, Holder]:
        """See `sql.database.Database`."""
        found = rows(f"SELECT run, {COLUMNS} FROM lease WHERE run < ?", (FIRST_HOLDER,))  # noqa: S608
        named = {run: Holder(*row) for run, *row in found}
        return {run: holder for run, holder in named.items() if is_held(self._place, run, holder)}

    def lives(self, db: sqlite3.Connection, number: int) -> bool:
        """See `sql.database.Database`."""
        holder = holder_of(db, number)
        return holder is not None and is_held(self._place, number, holder)

    def died(self, db: sqlite3.Connection, number: int) -> bool:
        """See `sql.database.Database`: the kernel's lock says so."""
        return not self.lives(db, number)

    def joined(self, column: str) -> str:
        """See `sql.database.Database`: the rows are sorted already. One value is read faster than many."""
        return f"CAST(group_concat({column}, '') AS BLOB)"

    def insert(
        self, db: sqlite3.Connection, first_id: int, rows: Sequence[StoredRow], first_seq: int
    ) -> None:
        """See `sql.database.Database`: few statements, each of which inserts a power of two of rows."""
        at = 0
        for size in _SIZES:
            while len(rows) - at >= size:
                items, records = _values(first_id, rows[at : at + size], first_seq + at)
                db.execute(_item_sql(size), items)
                db.execute(_record_sql(size), records)
                at += size

    def statuses(self, db: sqlite3.Connection, ids: Sequence[int]) -> list[int]:
        """See `sql.database.Database`: most rows are new, and lie behind all that is stored before the last of them."""
        [(last,)] = db.execute("SELECT max(id) FROM item WHERE id <= ?", (max(ids),))
        ids = [] if last is None else [id_ for id_ in ids if id_ <= last]
        at, found = 0, list[int]()
        for size in _SIZES:
            while len(ids) - at >= size:
                found += [status for (status,) in db.execute(_status_sql(size), ids[at : at + size])]
                at += size
        return found

    def exists(self) -> bool:
        """See `sql.database.Database`."""
        return self._place.exists()

    def check(self) -> None:
        """See `sql.database.Database`: what we wrote into a deleted file would be lost."""
        if file_at(self._place) != self._file:
            raise StoreError(
                f"the store {self.path} was moved, deleted or replaced while it was in use: put it back, with the files"
                " whose names begin as its own, then run the same command again"
            )


@cache
def _status_sql(rows: int) -> str:
    return f"SELECT status FROM item WHERE id IN ({','.join('?' * rows)})"  # noqa: S608 - question marks


def _values(first_id: int, rows: Sequence[StoredRow], first_seq: int) -> tuple[list[Any], list[Any]]:
    """Return what the two statements insert.

    Python's module asks for an adapter for each `bytes` and each None, which takes longer than to store them; it asks
    for none for a `bytearray` or a number.
    """
    items, records = list[Any](), list[Any]()
    for seq, (slot, key, content, status, record, cost) in enumerate(rows, first_seq):
        own = 0 if content == key else bytearray(content)
        items += (first_id + slot, bytearray(key), own, status, cost, seq)
        records += (first_id + slot, bytearray(record))
    return items, records


@cache
def _item_sql(rows: int) -> str:
    values = ",".join(["(?,?,NULLIF(?,0),?,?,?)"] * rows)
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
