"""Answers and claims as rows of a store. A claim says which process asks a question; it ends with its holder.

All functions run inside the caller's transaction, so that only one of several processes gets a claim.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cottonpalm.stores.sql.database import Turnwise, in_transaction
from cottonpalm.stores.sql.lease import FIRST_HOLDER
from cottonpalm.types import Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cottonpalm.stores.sql.connection import Connection
    from cottonpalm.stores.sql.database import Database
    from cottonpalm.stores.sql.lease import Lease

_PUT: Final = (
    "INSERT INTO answer (key, born, expires, body) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE"
    " SET born = excluded.born, expires = excluded.expires, body = excluded.body"
)


class AnswerOnDisk(NamedTuple):
    """An answer on disk, and the wall-clock time at which it came."""

    body: bytes
    born: float


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """One look at one key. `watch`: reply only when there is an answer, or nobody asks any more."""

    key: bytes
    read: Callable[[AnswerOnDisk], Any]
    reply: Callable[[Any], None]
    claim: bool = False
    watch: bool = False


@dataclass(frozen=True, slots=True)
class Claimant:
    """This process as a holder of claims."""

    database: Database
    db: Connection
    lease: Lease
    ttl_s: float | None

    def leave(self) -> None:
        """Give back all claims."""
        _forget(self.db, self.lease.run)


def enter(database: Database, db: Connection, ttl_s: float | None) -> Claimant:
    """Become a holder of claims; delete answers that are too old, and claims of dead processes."""
    me = Claimant(database, db, locked(database, "the cache"), ttl_s)

    def work() -> None:
        _tidy(me)
        me.lease.enter(db)

    try:
        in_transaction(database, db, work, Turnwise.CACHE)
    except BaseException:
        me.lease.unlock()
        raise
    return me


def locked(database: Database, what: str) -> Lease:
    """Take the lock of a number that no process has; the number then names this holder."""
    lease = database.lease(FIRST_HOLDER + secrets.randbits(48), what)
    while not lease.lock():  # another process has drawn the same number
        lease = database.lease(FIRST_HOLDER + secrets.randbits(48), what)
    return lease


def _tidy(me: Claimant) -> None:
    me.db.execute("DELETE FROM answer WHERE expires < ?", (me.database.now(me.db),))
    for (holder,) in me.db.execute("SELECT run FROM lease WHERE run >= ?", (FIRST_HOLDER,)).fetchall():
        if not me.database.lives(me.db, holder):
            _forget(me.db, holder)


def ask(me: Claimant, question: Question) -> Any:
    """Return what `question.read` returns for the answer, or whose turn it is to ask."""
    if (found := _answer(me, question)) is not None:
        return found
    if not question.claim:
        return Turn.MINE
    claimed = "INSERT INTO claim (key, holder) VALUES (?, ?) ON CONFLICT DO NOTHING"
    if me.db.execute(claimed, (question.key, me.lease.run)).rowcount:
        return Turn.MINE
    holder = _holder(me, question.key)
    if holder == me.lease.run:
        return Turn.MINE
    if me.database.lives(me.db, holder):
        return Turn.ELSEWHERE
    _forget(me.db, holder)
    me.db.execute(claimed, (question.key, me.lease.run))
    return Turn.MINE


def put(me: Claimant, *, key: bytes, kept: AnswerOnDisk) -> None:
    """Keep an answer, and give its claim back."""
    expires = None if me.ttl_s is None else kept.born + me.ttl_s
    me.db.execute(_PUT, (key, kept.born, expires, kept.body))
    release(me, key=key)


def release(me: Claimant, *, key: bytes) -> None:
    """Give a claim back."""
    me.db.execute("DELETE FROM claim WHERE key = ? AND holder = ?", (key, me.lease.run))


def heard(me: Claimant, watched: Sequence[Question]) -> dict[int, tuple[Callable[[Any], None], Any]]:
    """Return the watched questions that are over, by id: the callback, and the answer or None to call it with."""
    living: dict[int, bool] = {}
    news: dict[int, tuple[Callable[[Any], None], Any]] = {}
    for question in watched:
        if (found := _answer(me, question)) is not None:
            news[id(question)] = (question.reply, found)
            continue
        if (holder := _holder(me, question.key)) is not None:
            if holder not in living and not living.setdefault(holder, me.database.lives(me.db, holder)):
                _forget(me.db, holder)
            if living[holder]:
                continue
        news[id(question)] = (question.reply, None)
    return news


def present(database: Database, db: Connection, keys: Sequence[bytes], ttl_s: float | None) -> set[bytes]:
    """Return which of these keys have an answer that is not too old."""
    now = database.now(db)
    oldest = 0.0 if ttl_s is None else now - ttl_s
    sql = (
        f"SELECT key FROM answer WHERE key IN ({','.join('?' * len(keys))})"  # noqa: S608 - question marks
        " AND (expires IS NULL OR expires > ?) AND born > ?"
    )
    return {key for (key,) in db.execute(sql, (*keys, now, oldest))}


def _answer(me: Claimant, question: Question) -> Any:
    """Return the answer, read by `question.read`; None if there is none. One too old or unreadable is deleted."""
    row = me.db.execute("SELECT body, born, expires FROM answer WHERE key = ?", (question.key,)).fetchone()
    if row is None:
        return None
    kept, expires, now = AnswerOnDisk(*row[:2]), row[2], me.database.now(me.db)
    stale = (expires is not None and expires <= now) or (me.ttl_s is not None and now - kept.born >= me.ttl_s)
    if not stale:
        try:
            return question.read(kept)
        except Exception:  # noqa: BLE001, S110 - a spoilt record: as good as none
            pass
    me.db.execute("DELETE FROM answer WHERE key = ?", (question.key,))
    return None


def _holder(me: Claimant, key: bytes) -> Any:
    row = me.db.execute("SELECT holder FROM claim WHERE key = ?", (key,)).fetchone()
    return None if row is None else row[0]


def _forget(db: Connection, number: int) -> None:
    db.execute("DELETE FROM claim WHERE holder = ?", (number,))
    db.execute("DELETE FROM lease WHERE run = ?", (number,))
