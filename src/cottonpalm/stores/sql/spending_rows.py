"""A run's spending: one row per run, and one for each step of time within the last hour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from cottonpalm import clock
from cottonpalm.protocols import Spent
from cottonpalm.stores.sql import run_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.stores.sql.connection import Connection

KEPT_S: Final = 2 * 3600.0  # older steps are deleted, since nothing needs them
_PUT: Final = (
    "INSERT INTO spending (run, account, reported, uncertain, leased) VALUES (?,?,?,?,?) ON CONFLICT (run) DO UPDATE"
    " SET account = excluded.account, reported = excluded.reported, uncertain = excluded.uncertain,"
    " leased = excluded.leased"
)
_STEP: Final = (
    "INSERT INTO spent (run, at, pico) VALUES (?,?,?)"
    " ON CONFLICT (run, at) DO UPDATE SET pico = spent.pico + excluded.pico"
)
_SET_RIGHT: Final = (
    "INSERT INTO spent (run, at, pico) SELECT run, ?, SUM(pico) FROM spent WHERE run = ? AND at > ? GROUP BY run"
    " ON CONFLICT (run, at) DO UPDATE SET pico = spent.pico + excluded.pico"
)


def put(db: Connection, run: int, spent: Spent) -> None:
    """Write a run's spending; its steps are added to the stored ones."""
    db.execute(_PUT, (run, spent.account, spent.reported, spent.uncertain, spent.leased))
    now = clock.wall()
    if spent.steps:
        db.executemany(_STEP, [(run, at, pico) for at, pico in spent.steps])
        newest = min(now, max(at for at, _ in spent.steps))
        db.execute("DELETE FROM spent WHERE run = ? AND at < ?", (run, newest - KEPT_S))
    if db.execute(_SET_RIGHT, (now, run, now)).rowcount > 0:  # stamps of a clock that was ahead
        db.execute("DELETE FROM spent WHERE run = ? AND at > ?", (run, now))


def read(rows: Callable[..., list[Any]], run: int) -> Spent:
    """Return a run's spending; `rows` returns the rows of a statement."""
    found = rows("SELECT account, reported, uncertain, leased FROM spending WHERE run = ?", (run,))
    if not found:
        cost = run_rows.read(rows, run).cost_pico
        return Spent(uuid4().hex, cost, leased=cost)
    steps = rows("SELECT at, pico FROM spent WHERE run = ? ORDER BY at", (run,))
    account, reported, uncertain, leased = found[0]
    return Spent(account, reported, uncertain, leased, tuple(steps))


def catch_up(db: Connection, run: int, spent: Spent, *, new: bool) -> None:
    """Write what a process had spent when the store took no more of it. A second time changes nothing.

    The lease stays: what of it no answer accounts for may be spent all the same, as after a kill. `new`: the store did
    not have all rows that belong to it, and so has not the steps either, though the sums may have come through later.
    """
    sql = "SELECT account, reported, uncertain, leased FROM spending WHERE run = ?"
    known = Spent(*(db.execute(sql, (run,)).fetchone() or (spent.account,)))
    reported, uncertain = max(known.reported, spent.reported), max(known.uncertain, spent.uncertain)
    if new or (reported, uncertain) != (known.reported, known.uncertain):
        leased = max(known.leased, reported + uncertain)
        put(db, run, Spent(known.account, reported, uncertain, leased, spent.steps))


def forget(db: Connection, run: int) -> None:
    """Delete a run's spending, since the run begins anew or is removed."""
    db.execute("DELETE FROM spending WHERE run = ?", (run,))
    db.execute("DELETE FROM spent WHERE run = ?", (run,))
