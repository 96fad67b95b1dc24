"""A lease makes sure that only one process works on a run. A row names its holder, and what proves that it lives."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from socket import gethostname
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from cottonpalm.errors import RunBusy
from cottonpalm.locks import WINDOWS
from cottonpalm.stores.opening import busy_here, busy_message

if TYPE_CHECKING:
    from cottonpalm.stores.sql.connection import Connection

BEAT_S: Final = 15.0  # seconds between two heartbeats of a holder
EXPIRES_S: Final = 60.0  # a holder of which nothing else is known may be silent for this long
# Holders of claims and shares; far above runs, whose leases are in the same table.
FIRST_HOLDER: Final = 1 << 61
TAKEN_OVER: Final = (
    "the run was taken over by another machine while this process was silent: stop one of them"
)
COLUMNS: Final = "token, host, machine, pid, since, beat"


@cache
def machine() -> str:
    """Return an id that all processes on this running kernel share, also in containers, and no other machine has."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return gethostname()


class MayReturn(RunBusy):
    """The holder was cut off a moment ago: if it lives, it is there again soon."""


class Holder(NamedTuple):
    """A lease row."""

    token: str
    host: str
    machine: str
    pid: int
    since: float
    beat: float


def holder_of(db: Connection, run: int) -> Holder | None:
    """Return the holder of this run that the database names."""
    row = db.execute(f"SELECT {COLUMNS} FROM lease WHERE run = ?", (run,)).fetchone()  # noqa: S608 - our own constant
    return None if row is None else Holder(*row)


def is_gone(holder: Holder) -> bool:
    """Whether the holder's process was on this system, and is there no more. A container has a name of its own."""
    return _is_here(holder) and not _pid_lives(holder.pid)


def _is_here(holder: Holder) -> bool:
    """Whether the number of the holder's process is one of this system's."""
    return holder.machine == machine() and holder.host == gethostname()


def _pid_lives(pid: int) -> bool:
    if WINDOWS:  # there, this signal would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


_leaving: set[str] = set()  # tokens of this process's leases that are no longer held, but not yet given back


def is_leaving(holder: Holder | None) -> bool:
    """Whether this holder was lost in this process, so that its lease is on the way back."""
    return holder is not None and holder.token in _leaving


def note_leaving(token: str, *, leaves: bool) -> None:
    """Note that a lease of this process is on the way back, or has come back."""
    (_leaving.add if leaves else _leaving.discard)(token)


def busy(name: str, holder: Holder | None) -> RunBusy:
    """Return the error for a second process, or a second call, that wants the run."""
    if holder is None:
        return RunBusy(f"run {name!r} is being opened by another process: try again in a moment")
    if _is_here(holder) and holder.pid == os.getpid():
        return RunBusy(busy_here(name, holder.since))
    return RunBusy(busy_message(name, holder.host, holder.pid, holder.since))


class Lease(Protocol):
    """This process's right to work on one run: `lock`, then `enter`; at the end `leave`, then `unlock`.

    Attributes:
        run: the number of the run, or of a holder of claims or shares.
        name: the run's name, for messages.
        lost: another process took over while this one was silent.
    """

    run: int
    name: str
    lost: bool

    def lock(self) -> bool:
        """Take what the system locks; False: a living process has it."""

    def enter(self, db: Any) -> None:
        """Write the row, inside the caller's transaction.

        Raises:
            MayReturn: whether another holder is alive is known in a few seconds; ask again.
            RunBusy: another holder is alive, or may be.
        """

    def beat(self, db: Any) -> None:
        """Write a heartbeat; note if another process took the lease over."""

    def keep(self, db: Any) -> None:
        """Write a heartbeat now if the connection, by which others know that we live, was made anew."""

    def hold(self, db: Any) -> None:
        """Make sure, before a write and in its transaction, that the lease is still ours.

        Raises:
            StoreError: another process took over.
        """

    def leave(self, db: Any) -> None:
        """Delete the row."""

    def unlock(self) -> None:
        """Release the lock."""

    def leaving(self) -> None:
        """Note that it is no longer held, so that the next holder may wait for it."""
