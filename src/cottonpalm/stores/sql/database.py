"""The seam between the store and its kind of database: what SQLite and Postgres do differently, and nothing else.

Statements are written once, in the words that both understand, with `?` for a value. `Database` has the rest: how to
connect and begin, whose lease lives, which clock counts, how many rows are written at once.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from cottonpalm import clock
from cottonpalm.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from cottonpalm.protocols import StoredRow
    from cottonpalm.stores.sql.lease import Holder, Lease

T = TypeVar("T")
SLOT_BITS: Final = 40  # the id of a row is (its run's number << 40) | its slot
BUSY_S: Final = 30.0  # we wait this long while another process holds the write lock, or a server is away
_AGAIN_S: Final = 0.2  # seconds between two tries to reach a server whose connection broke


class CannotWrite(StoreError):
    """This store may not be written by this user, or from here; perhaps it can be read."""


class Turnwise(Enum):
    """Transactions of the same kind come one after the other, since each reads what the ones before it wrote."""

    NONE = 0
    CACHE = 1
    SHARES = 2
    MONEY = 3


class Database(Protocol):
    """Where a store is. Two objects are equal if they mean the same place.

    Attributes:
        home: the process that opened it.
        patience: whether a server that is away is waited for.
        url: its address, for another process of ours; it may hold a password.
        errors: the exceptions that its driver raises.
        folder: that of its file, if it is one.
        like: the condition that a record's text is like a pattern, whatever its case; backslash escapes.
    """

    home: Home
    patience: Patience
    url: str
    errors: tuple[type[Exception], ...]
    folder: Path | None
    like: str

    def prepare(self, busy_s: float = ...) -> None:
        """Make the tables if need be, and bring them up to date.

        Raises:
            StoreError: it cannot be made or used; the error says what to do.
        """

    def open(self, busy_s: float = ...) -> Any:
        """Do what `prepare` does, and return the connection by which it was done."""

    def connect(self, busy_s: float = ..., *, durable: bool = True) -> Any:
        """Return a connection. Not `durable`: a power cut may take the last transactions, a crash takes none."""

    def begin(self, db: Any, turnwise: Turnwise = ...) -> None:
        """Begin a transaction that writes."""

    def let_go(self, db: Any) -> None:
        """Close a connection."""

    def explained(self, exc: BaseException) -> StoreError:
        """Return the error with a one-line message that names the store, the problem and the remedy."""

    def is_cut(self, exc: BaseException) -> bool:
        """Whether the connection broke, so that nobody knows if the transaction took effect; it may be had again."""

    def is_lost(self, db: Any) -> bool:
        """Whether this connection was cut while nothing was asked of it, as far as is known without asking."""

    def now(self, db: Any) -> float:
        """Return the wall-clock time in Unix seconds by the clock that all processes of this store share."""

    def lease(self, number: int, name: str) -> Lease:
        """Return a lease of this number that is not taken yet; runs and holders of claims have numbers."""

    def living(self, rows: Callable[..., list[Any]]) -> dict[int, Holder]:
        """Return the holders of runs that are alive, as far as this process can know; `rows` reads a statement."""

    def lives(self, db: Any, number: int) -> bool:
        """Whether the holder of this number is alive, as far as this process can know."""

    def died(self, db: Any, number: int) -> bool:
        """Whether it is certain that the holder of this number is dead, so that what it held may be used at once."""

    def joined(self, column: str) -> str:
        """Return the expression that joins this column of all rows, in the order of `id`."""

    def insert(self, db: Any, first_id: int, rows: Sequence[StoredRow], first_seq: int) -> None:
        """Write rows of `item` and `record`; newer ones replace older ones, and the costs of both add up.

        Args:
            db: the connection.
            first_id: that of the run's slot 0.
            rows: the outcomes.
            first_seq: the number of the first of them.
        """

    def statuses(self, db: Any, ids: Sequence[int]) -> list[int]:
        """Return the statuses of those of these rows that are stored."""

    def exists(self) -> bool:
        """Whether a store is there already; nothing is made.

        Raises:
            StoreError: it cannot be reached.
        """

    def check(self) -> None:
        """Refuse work on a store that was deleted after it was opened.

        Raises:
            StoreError: it was deleted or replaced.
        """


def through_cuts(
    database: Database,
    work: Callable[[], T],
    again: Callable[[], object] = lambda: None,
    *,
    wait_s: float = BUSY_S,
) -> T:
    """Run `work`; where the connection breaks, run it once more, as often as `wait_s` seconds allow.

    Args:
        database: it knows what a connection that breaks looks like.
        work: may have taken effect although it raised.
        again: called before each further try.
        wait_s: how long the server may be away, from when that is noticed: one that hung before it was cut may be
            there again at once. When that was in vain, nobody waits until it is there again.
    """
    patience, until = database.patience, float("inf")
    while True:
        try:
            result = work()
        except Exception as exc:
            if not database.is_cut(exc):
                raise
            now = clock.now()
            until = min(until, now + (0.0 if patience.over else wait_s))
            if now >= until:
                patience.over = patience.over or wait_s > 0  # who only looks has not waited
                raise
        else:
            patience.over = False
            return result
        threading.Event().wait(_AGAIN_S)
        again()


def in_transaction(
    database: Database,
    db: Any,
    work: Callable[[], T],
    turnwise: Turnwise = Turnwise.NONE,
    *,
    wait_s: float = 0.0,
) -> T:
    """Run `work` in a transaction of this connection, which may take `wait_s` seconds to be had again."""
    try:  # the beginning, too: an exception of a signal handler may come right behind it
        through_cuts(database, partial(database.begin, db, turnwise), wait_s=wait_s)
        result = work()
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # with a full disk, SQLite has already rolled back
            with suppress(*database.errors):
                db.execute("ROLLBACK")
        raise
    return result


class Patience:
    """Shared by all that use a store: each would else wait anew, one after the other, as a run stops and is closed.

    Attributes:
        over: somebody has waited for the server as long as one does, and nobody has met it since.
    """

    def __init__(self) -> None:
        self.over = False


class Home:
    """The process that opened a store. A forked child inherits this object, but must not use the connections."""

    def __init__(self, shown: object) -> None:
        self._shown, self._pid = shown, os.getpid()

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
                f"the store {self._shown} was opened by process {self._pid}: after a fork, open it again in the child"
            )
