"""Makes sure that only one process works on a run, with a lock that the kernel releases when its holder dies.

The lock is a POSIX record lock on one byte (the run's number) of a file beside the database. It ends with the process,
however the process dies; a forked child does not inherit it; it holds across containers on one kernel. The row in the
database names the holder. It also covers other machines, which the lock may not reach, and file systems without
locks: there a holder must show a heartbeat.
"""

from __future__ import annotations

import os
import threading
from socket import gethostname
from typing import TYPE_CHECKING
from uuid import uuid4

from cottonpalm import clock
from cottonpalm.errors import StoreError
from cottonpalm.locks import PLAIN, lock_byte, unlock_byte
from cottonpalm.stores.sql.lease import (
    COLUMNS,
    EXPIRES_S,
    TAKEN_OVER,
    busy,
    holder_of,
    is_gone,
    is_leaving,
    machine,
    note_leaving,
)

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from cottonpalm.stores.sql.lease import Holder


class _LockFile:
    """The only descriptor of a lock file in this process: closing any second one would drop all of our locks on it."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_CREAT | os.O_RDWR | PLAIN, 0o600)
        self.held: set[int] = set()

    def lock(self, run: int, *, shared: bool = False) -> bool | None:
        """Take a lock. True: we have it. False: another process has it. None: there are no locks here."""
        return False if run in self.held else lock_byte(self.fd, run, shared=shared)

    def unlock(self, run: int) -> None:
        self.held.discard(run)
        unlock_byte(self.fd, run)


_files: dict[str, _LockFile] = {}
_guard = threading.Lock()


def _forget() -> None:
    """Close the copies in a forked child: the parent keeps its locks, and this does not touch them."""
    global _guard  # noqa: PLW0603 - another thread of the parent may have held it
    _guard = threading.Lock()
    for file in _files.values():
        os.close(file.fd)
    _files.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _lock_path(database: Path) -> str:
    return f"{database.resolve()}-lock"


def _settle(path: str) -> None:
    """Close a lock file in which this process holds no lock."""
    file = _files[path]
    if not file.held:
        os.close(_files.pop(path).fd)


def is_held(database: Path, run: int, holder: Holder) -> bool:
    """Whether the holder that the database names lives, as far as this process can know."""
    if holder.machine != machine():
        return _shows_life(holder)
    path = _lock_path(database)
    with _guard:
        if path not in _files:
            _files[path] = _LockFile(path)
        file = _files[path]
        try:
            if (free := file.lock(run, shared=True)) is True:
                file.unlock(run)
            return _shows_life(holder) if free is None else not free
        finally:
            _settle(path)


def _shows_life(holder: Holder) -> bool:
    """Without a lock: a holder that was silent for long is dead, and so is one whose process is not on this system."""
    if abs(clock.wall() - holder.beat) >= EXPIRES_S:
        return False
    return not is_gone(holder)


class FileLease:
    """This process's right to work on one run. Take the lock, then write the row; delete the row, then unlock."""

    def __init__(self, database: Path, run: int, name: str) -> None:
        self._path, self.run, self.name = _lock_path(database), run, name
        self._token = uuid4().hex
        self.lost = False  # another process took over while this one was silent
        self._locked = False  # by the kernel; False on file systems that have no locks

    def lock(self) -> bool:
        """Take the lock; False: a living process has it. Where there are no locks, `enter` finds out."""
        with _guard:
            if self._path not in _files:
                _files[self._path] = _LockFile(self._path)
            file = _files[self._path]
            taken = file.lock(self.run)
            if taken is not False:
                file.held.add(self.run)
                self._locked = taken is True
            _settle(self._path)
            return taken is not False

    def leaving(self) -> None:
        """Note that it is no longer held, so that the next holder may wait for it."""
        note_leaving(self._token, leaves=True)

    def unlock(self) -> None:
        """Release the lock."""
        with _guard:
            if (file := _files.get(self._path)) is not None and self.run in file.held:
                file.unlock(self.run)
                _settle(self._path)
        note_leaving(self._token, leaves=False)

    def enter(self, db: sqlite3.Connection) -> None:
        """Write the row, inside the caller's transaction.

        Raises:
            RunBusy: a holder that no lock could tell of is alive, or may be: one on another machine, or any where the
                file system has no locks.
        """
        holder = holder_of(db, self.run)
        unknown = holder is not None and (not self._locked or holder.machine != machine())
        if holder is not None and unknown and _shows_life(holder) and not is_leaving(holder):
            raise busy(self.name, holder)
        now = clock.wall()
        row = (self.run, self._token, gethostname(), machine(), os.getpid(), now, now)
        db.execute(f"INSERT OR REPLACE INTO lease (run, {COLUMNS}) VALUES (?,?,?,?,?,?,?)", row)  # noqa: S608
        self.lost = False

    def beat(self, db: sqlite3.Connection) -> None:
        """Write a heartbeat; note if another machine took the lease over."""
        sql = "UPDATE lease SET beat = ? WHERE run = ? AND token = ?"
        self.lost = db.execute(sql, (clock.wall(), self.run, self._token)).rowcount == 0

    def keep(self, db: sqlite3.Connection) -> None:
        """See `sql.lease.Lease`: a file has no connection that breaks."""

    def hold(self, db: sqlite3.Connection) -> None:  # noqa: ARG002 - the kernel's lock is still ours
        """See `sql.lease.Lease`; only another machine could have taken over, which the last heartbeat has seen."""
        if self.lost:
            raise StoreError(TAKEN_OVER)

    def leave(self, db: sqlite3.Connection) -> None:
        """Delete the row."""
        db.execute("DELETE FROM lease WHERE run = ? AND token = ?", (self.run, self._token))
