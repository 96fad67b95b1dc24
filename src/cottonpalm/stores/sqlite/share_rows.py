"""The rows by which processes share limits, in a store's file. All of it runs inside the caller's transaction.

A key is six bytes of a digest of host, account and model, keyed with bytes that are drawn once for each file and kept
in it: without the file it says nothing.
"""

from __future__ import annotations

import secrets
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from cottonpalm.stores.rules.division import KEPT_S, TTL_S, Row

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

_COLUMNS: Final = "holder, amount, least, want, total, firm, expires"


def secret_of(db: sqlite3.Connection) -> bytes:
    """The random bytes that keys are made with, drawn if need be."""
    db.execute("INSERT OR IGNORE INTO share_secret (id, secret) VALUES (1, ?)", (secrets.token_bytes(32),))
    (secret,) = db.execute("SELECT secret FROM share_secret WHERE id = 1").fetchone()
    return bytes(secret)


def key_of(whose: bytes, secret: bytes) -> bytes:
    """Six bytes that stand for host, account and model in this file alone."""
    return blake2b(whose, digest_size=6, key=secret).digest()


def tidy(db: sqlite3.Connection, now: float) -> None:
    """Drop what no longer counts. Stamps of the future are of a clock that was set back: they begin to count now."""
    db.execute("DELETE FROM share WHERE expires <= ?", (now - KEPT_S,))
    db.execute("UPDATE share SET expires = ? WHERE expires > ?", (now + TTL_S, now + TTL_S))


def rows(db: sqlite3.Connection, key: bytes, unit: str, since: float) -> list[Row]:
    """All holders' rows that expired after `since`."""
    sql = f"SELECT {_COLUMNS} FROM share WHERE key = ? AND unit = ? AND expires > ?"  # noqa: S608 - our own constant
    found = db.execute(sql, (key, unit, since))
    return [Row._make(row)._replace(firm=bool(row[5])) for row in found]


def living(db: sqlite3.Connection, now: float) -> set[bytes]:
    """Whoever has a row that did not expire."""
    return {
        bytes(holder)
        for (holder,) in db.execute("SELECT DISTINCT holder FROM share WHERE expires > ?", (now,))
    }


def bury(db: sqlite3.Connection, holder: bytes, now: float) -> None:
    """This holder is known to be dead: its rows expire now."""
    db.execute("UPDATE share SET expires = ? WHERE holder = ? AND expires > ?", (now, holder, now))


def put(db: sqlite3.Connection, key: bytes, unit: str, renewed: Iterable[Row], now: float) -> None:
    """Write rows; those that expired and hold nothing are dropped."""
    for row in renewed:
        if row.amount or row.expires > now:
            db.execute(
                f"INSERT OR REPLACE INTO share (key, unit, {_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?)",  # noqa: S608
                (key, unit, *row),
            )
        else:
            db.execute("DELETE FROM share WHERE key = ? AND unit = ? AND holder = ?", (key, unit, row.holder))


def learn(db: sqlite3.Connection, run: int, key: bytes, limit: float, firm: bool) -> None:
    """Store with a run what it has learnt, as long as there is such a run."""
    db.execute(
        "INSERT OR REPLACE INTO learnt (run, key, in_flight, firm) SELECT id, ?, ?, ? FROM run WHERE id = ?",
        (key, limit, firm, run),
    )


def learnt(db: sqlite3.Connection, run: int, key: bytes) -> tuple[float, bool] | None:
    """What a run had learnt when it was last worked on: (in flight, whether no more fit)."""
    sql = "SELECT in_flight, firm FROM learnt WHERE run = ? AND key = ?"
    found = db.execute(sql, (run, key)).fetchone()
    return None if found is None else (found[0], bool(found[1]))


def forget(db: sqlite3.Connection, run: int) -> None:
    """The run begins anew, or is no more."""
    db.execute("DELETE FROM learnt WHERE run = ?", (run,))
