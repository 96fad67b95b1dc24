"""What people ask of a run from outside its process, and what the run shows them: two rows for each run.

Both belong to the process that holds the lease: the next one begins without them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cottonpalm.store_extras import Orders

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.stores.sql.connection import Connection

_COLUMNS: Final = ("held", "most", "stop", "watched")


def read(rows: Callable[..., list[Any]], run: int) -> Orders:
    """Return what is asked of a run; `rows` returns the rows of a statement."""
    found = rows("SELECT held, most, stop, watched FROM orders WHERE run = ?", (run,))
    if not found:
        return Orders()
    [(held, most, stop, watched)] = found
    return Orders(bool(held), most, bool(stop), watched)


def put(db: Connection, run: int, wishes: dict[str, Any]) -> None:
    """Change what is asked of a run; what is not named stays as it is."""
    db.execute("INSERT INTO orders (run) VALUES (?) ON CONFLICT DO NOTHING", (run,))
    for name in _COLUMNS:
        if name in wishes:
            db.execute(f"UPDATE orders SET {name} = ? WHERE run = ?", (wishes[name], run))  # noqa: S608 - our names


def show(db: Connection, run: int, said: bytes) -> None:
    """Keep what the run says of itself, instead of what it said before."""
    sql = "INSERT INTO shown (run, body) VALUES (?, ?) ON CONFLICT (run) DO UPDATE SET body = excluded.body"
    db.execute(sql, (run, said))


def said(rows: Callable[..., list[Any]], run: int) -> bytes | None:
    """What the run said of itself last."""
    found = rows("SELECT body FROM shown WHERE run = ?", (run,))
    return found[0][0] if found else None


def forget(db: Connection, run: int) -> None:
    """The run has a new holder, or is gone."""
    db.execute("DELETE FROM orders WHERE run = ?", (run,))
    db.execute("DELETE FROM shown WHERE run = ?", (run,))
