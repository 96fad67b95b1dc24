"""Opens the SQLite file: private from the start, in WAL mode, with FULL sync. Its errors say in one line what to do."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.errors import StoreError
from cottonpalm.stores.sqlite.migrations import check_ours, migrate

if TYPE_CHECKING:
    from pathlib import Path

BUSY_S: Final = 30.0  # we wait this long while another process holds the write lock
OPENING_BUSY_S: Final = 5.0  # the same when opening: nothing is paid yet, and a person waits for a message
_PAGE_BYTES: Final = 8192  # twice SQLite's default: a group fills many pages, and this writes it faster
_WAL_BYTES: Final = 64 << 20  # SQLite cuts the log back to this size after a checkpoint
_TRIES: Final = 100  # while another process opens the file, SQLite refuses at once to switch to WAL
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
    ("readonly", "unable to open", "Permission", "Read-only"): (
        "cannot be written ({text}): check the permissions of the file and of {folder}"
    ),
}
_inherited: list[
    Any
] = []  # connections of the parent process: if a forked child closed them, this would cut the parent's log


def connect(path: Path, *, busy_s: float) -> sqlite3.Connection:
    """Return a connection to an existing store; the caller must use it on only one thread at a time."""
    db = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, timeout=busy_s, cached_statements=256
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


def prepare(path: Path, *, busy_s: float) -> None:
    """Make the file if need be, and bring its schema up to date.

    Raises:
        StoreError: it cannot be made or used; the error says what to do.
    """
    try:
        _create(path)
        db = connect(path, busy_s=busy_s)
        try:
            migrate(db, str(path))
        finally:
            db.close()
    except (OSError, sqlite3.Error) as exc:
        raise explained(exc, path) from exc


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
    return StoreError(f"the store {path} {_trouble(exc, path)}")


def _trouble(exc: BaseException, path: Path) -> str:
    text = str(exc)
    folder = path.absolute().parent
    if not folder.is_dir():
        return f"cannot be made: there is no folder {folder}. Make it, or choose another place"
    if path.is_dir():
        return "is a folder: name a file in it"
    for words, trouble in _TROUBLES.items():
        if any(word in text for word in words):
            return trouble.format(text=text, folder=folder)
    said = f"failed ({type(exc).__name__}: {text}): the disk may be full or broken"
    return f"{said}. Free some space on it, check it, then run the same command again"


class Home:
    """The process that opened a store. A forked child inherits this object, but must not use the connections."""

    def __init__(self, path: Path) -> None:
        self._path, self._pid = path, os.getpid()

    @property
    def here(self) -> bool:
        """Whether this process is the one that opened the store."""
        return self._pid == os.getpid()

    def check(self) -> None:
        """Refuse work in a forked child.

        Raises:
            StoreError: this is not the process that opened the store.
        """
        if not self.here:
            raise StoreError(
                f"the store {self._path} was opened by process {self._pid}: after a fork, open it again in the child"
            )


_connections: set[sqlite3.Connection] = set()


def keep(db: sqlite3.Connection) -> sqlite3.Connection:
    """Remember an open connection, so that a forked child can prevent its copy from being closed."""
    _connections.add(db)
    return db


def let_go(db: sqlite3.Connection) -> None:
    """Close a kept connection."""
    _connections.discard(db)
    db.close()


os.register_at_fork(after_in_child=lambda: _inherited.extend(_connections))
