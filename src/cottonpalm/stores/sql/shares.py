"""One process's shares of limits in one store. A thread renews them about once a second.

A share is a lease. It ends when its holder gives it back, when the holder is known to be dead (its lock on the file
beside the store is free), or when it was not renewed for `TTL_S`. Stamps are wall-clock times, which all processes of a
machine share; if the clock is set back, their time begins anew.
"""

from __future__ import annotations

import itertools
import logging
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from cottonpalm import clock
from cottonpalm.stores.rules.division import POOL, TTL_S
from cottonpalm.stores.sql import share_rows
from cottonpalm.stores.sql.claims import locked
from cottonpalm.stores.sql.database import Turnwise, in_transaction, through_cuts
from cottonpalm.stores.sql.lease import BEAT_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cottonpalm.stores.rules.division import Row
    from cottonpalm.stores.sql.database import Database
    from cottonpalm.types import Learnt

T = TypeVar("T")

log = logging.getLogger("cottonpalm")
RENEW_S: Final = 1.0
SOON_S: Final = 0.2  # seconds until the next renewal while a holder waits for another's share
LEARNT_S: Final = 5.0  # seconds between two writes of what was learnt
BUSY_S: Final = 0.5  # seconds to wait for the file's write lock; a renewal that fails is tried again


class Renewed(Protocol):
    """See `request.limiter.portions`: the result of a renewal."""

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows to write."""

    @property
    def then(self) -> Callable[[], None]:
        """What to call when they are written."""

    @property
    def soon(self) -> bool:
        """Whether to renew again soon."""


class Gate(Protocol):
    """See `request.limiter.portions`: one limit that processes share."""

    unit: str
    kept_s: float

    def renew(self, rows: Sequence[Row], holder: bytes, now: float) -> Renewed:
        """Settle this holder's share."""

    def leave(self, rows: Sequence[Row], holder: bytes, now: float) -> Renewed:
        """Give the share back."""

    def lost(self) -> None:
        """Note that the rows cannot be read."""

    def free(self) -> None:
        """Note that no other process shares the limit any more."""


class Member(Protocol):
    """See `request.limiter.portions`: all limits of one key that one holder shares."""

    whose: bytes
    label: str
    runs: Sequence[int]

    @property
    def gates(self) -> Sequence[Gate]:
        """The limits of this member."""

    def learnt(self) -> Learnt | None:
        """What to store with its runs, and for all others."""

    def resume(self, limit: float, firm: bool) -> None:
        """Begin with what was stored with one of its runs."""

    def recall(self, learnt: Learnt, age_s: float) -> None:
        """Begin with what other runs have found, so long ago."""


class Shares:
    """The shares of this process. All methods may be called from any thread; none raises because of the file."""

    def __init__(self, database: Database) -> None:
        """Open the store and take part.

        Raises:
            StoreError: the file cannot be used.
        """
        self._database, self._home = database, database.home
        self._lock = threading.Lock()
        self._names: dict[Member, bytes] = {}
        self._numbers = itertools.count()
        self._wake = threading.Event()
        self._closing = self._soon = self._lost = False
        self._renewed_s = self._learnt_s = self._beat_s = clock.now()
        self._secret = b""
        try:
            # One connection that fails is no reason to use, as long as the run lasts, what others have.
            self._db = through_cuts(database, lambda: database.connect(BUSY_S, durable=False))
        except database.errors as exc:
            raise database.explained(exc) from exc
        self._lease = locked(database, "shared limits")
        self._thread = threading.Thread(target=self._work, name="cottonpalm-shares", daemon=True)

    def start(self) -> None:
        """Renew the shares from now on, on a thread."""
        self._thread.start()

    def join(self, member: Member) -> None:
        """Share this member's limits from now on. When this returns, its shares are settled."""
        if not self._home.here:
            return
        with self._lock:
            self._names[member] = self._lease.run.to_bytes(8) + next(self._numbers).to_bytes(4)
            self._try(lambda: self._resume(member))
            if not self._try(lambda: self._renew([member])):
                for gate in member.gates:
                    gate.lost()  # until the next renewal we do not know what others hold

    def leave(self, member: Member) -> None:
        """Give its shares back, and store what it has learnt."""
        with self._lock:
            name = self._names.pop(member)
            if not self._try(lambda: self._leave(member, name)):
                for gate in member.gates:
                    gate.free()  # the rows in the file expire by themselves

    def renew(self) -> None:
        """Renew all shares now, and store what is learnt if it is time."""
        with self._lock:
            if self._names and not self._closing:
                self._try(lambda: self._renew(tuple(self._names)))

    def close(self) -> None:
        """End the thread and close the file. All members must have left."""
        if not self._home.here:
            return
        self._closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        with suppress(*self._database.errors):
            self._db.execute("DELETE FROM lease WHERE run = ?", (self._lease.run,))
        self._lease.unlock()
        self._database.let_go(self._db)

    def _work(self) -> None:
        while not self._closing:
            self._wake.wait(SOON_S if self._soon else RENEW_S)
            self.renew()

    # Called in a transaction, with the lock.

    def _renew(self, members: Iterable[Member]) -> list[Callable[[], None]]:
        now = self._database.now(self._db)
        self._tidy(now)
        done: list[Renewed] = []
        for member in members:
            key = share_rows.key_of(member.whose, self._secret)
            for gate in member.gates:
                rows = share_rows.rows(self._db, key, gate.unit, now, gate.kept_s)
                renewed = gate.renew(rows, self._names[member], now)
                share_rows.put(self._db, key, gate.unit, renewed.rows, now)
                done.append(renewed)
        self._soon = any(renewed.soon for renewed in done)
        return [renewed.then for renewed in done]

    def _tidy(self, now: float) -> None:
        share_rows.tidy(self._db, now)
        for holder in share_rows.living(self._db, now) - {POOL, *self._names.values()}:
            if self._database.died(self._db, int.from_bytes(holder[:8])):
                share_rows.bury(self._db, holder, now)
        if clock.now() - self._beat_s > BEAT_S:
            self._beat_s = clock.now()
            self._lease.beat(self._db)
        if clock.now() - self._learnt_s > LEARNT_S:
            self._learnt_s = clock.now()
            for member in self._names:
                self._store(member)

    def _resume(self, member: Member) -> list[Callable[[], None]]:
        key = share_rows.key_of(member.whose, self._secret)
        for run in member.runs:
            if (known := share_rows.learnt(self._db, run, key)) is not None:
                member.resume(*known)
                return []
        if (found := share_rows.known(self._db, key)) is not None:
            member.recall(found.learnt, self._database.now(self._db) - found.at)
        return []

    def _leave(self, member: Member, name: bytes) -> list[Callable[[], None]]:
        now, key = self._database.now(self._db), share_rows.key_of(member.whose, self._secret)
        self._store(member)
        done = []
        for gate in member.gates:
            rows = share_rows.rows(self._db, key, gate.unit, now, gate.kept_s)
            renewed = gate.leave(rows, name, now)
            share_rows.put(self._db, key, gate.unit, renewed.rows, now)
            done.append(renewed.then)
        return done

    def _store(self, member: Member) -> None:
        if (learnt := member.learnt()) is not None:
            key = share_rows.key_of(member.whose, self._secret)
            for run in member.runs:
                share_rows.learn(self._db, run, key, learnt)
            share_rows.know(self._db, key, member.label, learnt, self._database.now(self._db))

    # These make the transaction. Called with the lock.

    def _try(self, work: Callable[[], list[Callable[[], None]]]) -> bool:
        """Do the work in one transaction, then call what it returned; False: the file cannot be used now."""

        def settled() -> list[Callable[[], None]]:
            if not self._secret:
                secret = share_rows.secret_of(self._db)
                self._lease.enter(self._db)
                self._secret = secret
            return work()

        try:
            done = in_transaction(self._database, self._db, settled, Turnwise.SHARES)
        except self._database.errors as exc:
            self._failed(exc)
            return False
        for then in done:
            then()
        self._renewed_s, self._lost = clock.now(), False
        return True

    def _failed(self, exc: Exception) -> None:
        """Note a failure: what this process holds stays valid until it expires, since others may take it then."""
        if self._lost or clock.now() - self._renewed_s <= TTL_S:
            return
        self._lost = True
        log.warning("limits are not shared with other processes for now: %s", self._database.explained(exc))
        for member in self._names:
            for gate in member.gates:
                gate.lost()
