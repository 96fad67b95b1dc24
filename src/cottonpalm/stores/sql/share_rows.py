"""The rows by which processes share limits, in a store's file. All functions run inside the caller's transaction.

A key is six bytes of a keyed digest of host, account and model. The digest's key is random and kept in the file, so
without the file a key tells nothing.
"""

from __future__ import annotations

import secrets
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import orjson

from cottonpalm.stores.rules.division import KEPT_S, TTL_S, Row
from cottonpalm.types import Known, Learnt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cottonpalm.stores.rules.division import Parts
    from cottonpalm.stores.sql.connection import Connection

_COLUMNS: Final = "holder, amount, least, want, total, firm, expires"
_PUT: Final = (
    f"INSERT INTO share (key, unit, {_COLUMNS}, used) VALUES (?,?,?,?,?,?,?,?,?,?)"  # noqa: S608 - our own constant
    " ON CONFLICT (key, unit, holder) DO UPDATE SET amount = excluded.amount, least = excluded.least,"
    " want = excluded.want, total = excluded.total, firm = excluded.firm, expires = excluded.expires,"
    " used = excluded.used"
)
_ROWS: Final = (
    f"SELECT {_COLUMNS}, CASE WHEN expires <= ? THEN used END FROM share"  # noqa: S608 - our own constant
    " WHERE key = ? AND unit = ? AND expires > ?"
)
_LEARN: Final = (
    "INSERT INTO learnt (run, key, in_flight, firm) SELECT id, ?, ?, ? FROM run WHERE id = ?"
    " ON CONFLICT (run, key) DO UPDATE SET in_flight = excluded.in_flight, firm = excluded.firm"
)
_KNOW: Final = (
    "INSERT INTO known_limit (key, label, in_flight, firm, pace, at) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (key)"
    " DO UPDATE SET label = excluded.label, in_flight = excluded.in_flight, firm = excluded.firm,"
    " pace = excluded.pace, at = excluded.at"
)
_KNOWN: Final = "SELECT label, in_flight, firm, pace, at FROM known_limit"


def secret_of(db: Connection) -> bytes:
    """Return the random bytes from which keys are made; draw them if the file has none."""
    db.execute(
        "INSERT INTO share_secret (id, secret) VALUES (1, ?) ON CONFLICT DO NOTHING",
        (secrets.token_bytes(32),),
    )
    (secret,) = db.execute("SELECT secret FROM share_secret WHERE id = 1").fetchone()
    return bytes(secret)


def key_of(whose: bytes, secret: bytes) -> bytes:
    """Return six bytes that stand for host, account and model, only in this file."""
    return blake2b(whose, digest_size=6, key=secret).digest()


def tidy(db: Connection, now: float) -> None:
    """Delete rows that no longer count. If the clock was set back, stamps lie in the future: set them to now."""
    db.execute("DELETE FROM share WHERE expires <= ?", (now - KEPT_S,))
    db.execute("UPDATE share SET expires = ? WHERE expires > ?", (now + TTL_S, now + TTL_S))


def rows(db: Connection, key: bytes, unit: str, now: float, kept_s: float) -> list[Row]:
    """Return the rows of all holders that live or expired so long ago at most. What they used is read of the dead."""
    found = db.execute(_ROWS, (now, key, unit, now - kept_s))
    return [Row._make(row)._replace(firm=bool(row[5]), used=_parts(row[7])) for row in found]


def _parts(used: str | None) -> Parts:
    return () if used is None else tuple((until, amount) for until, amount in orjson.loads(used))


def living(db: Connection, now: float) -> set[bytes]:
    """Return the holders that have a row which has not expired."""
    return {
        bytes(holder)
        for (holder,) in db.execute("SELECT DISTINCT holder FROM share WHERE expires > ?", (now,))
    }


def bury(db: Connection, holder: bytes, now: float) -> None:
    """Let the rows of this holder expire now, since it is known to be dead."""
    db.execute("UPDATE share SET expires = ? WHERE holder = ? AND expires > ?", (now, holder, now))


def put(db: Connection, key: bytes, unit: str, renewed: Iterable[Row], now: float) -> None:
    """Write rows, but delete those that expired and hold nothing."""
    for row in renewed:
        if row.amount or row.expires > now:
            used = orjson.dumps(row.used).decode() if row.used else None
            db.execute(_PUT, (key, unit, *row[:-1], used))
        else:
            db.execute("DELETE FROM share WHERE key = ? AND unit = ? AND holder = ?", (key, unit, row.holder))


def learn(db: Connection, run: int, key: bytes, learnt: Learnt) -> None:
    """Store with a run what it has learnt, if the run still exists."""
    db.execute(_LEARN, (key, learnt.in_flight, learnt.firm, run))


def learnt(db: Connection, run: int, key: bytes) -> tuple[float, bool] | None:
    """Return what a run had learnt when a process last worked on it: (in flight, whether no more fit)."""
    sql = "SELECT in_flight, firm FROM learnt WHERE run = ? AND key = ?"
    found = db.execute(sql, (run, key)).fetchone()
    return None if found is None else (found[0], bool(found[1]))


def know(db: Connection, key: bytes, label: str, learnt: Learnt, now: float) -> None:
    """Store what is known of a host, model and account, for runs of any name."""
    db.execute(_KNOW, (key, label, learnt.in_flight, learnt.firm, learnt.pace, now))


def known(db: Connection, key: bytes) -> Known | None:
    """Return what runs have found of a host, model and account."""
    found = db.execute(f"{_KNOWN} WHERE key = ?", (key,)).fetchone()
    return None if found is None else _known(found)


def all_known(rows: Callable[[str], Iterable[tuple[Any, ...]]]) -> list[Known]:
    """Return what is known of all of them, by their names."""
    return [_known(row) for row in rows(f"{_KNOWN} ORDER BY label, at")]


def _known(row: tuple[Any, ...]) -> Known:
    label, in_flight, firm, pace, at = row
    return Known(label, Learnt(in_flight, bool(firm), pace), at)


def forget(db: Connection, run: int) -> None:
    """Delete what a run has learnt, since it begins anew or is removed."""
    db.execute("DELETE FROM learnt WHERE run = ?", (run,))
