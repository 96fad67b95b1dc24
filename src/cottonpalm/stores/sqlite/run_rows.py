"""A run's own row: its last number and how its rows stand, kept as they are written, so that nobody has to count."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from cottonpalm.protocols import StoredRow

_COUNT: Final = (
    "UPDATE run SET seq = ?, ok = ok + ?, retryable = retryable + ?, failed = failed + ?, cost_pico = cost_pico + ?"
    " WHERE id = ?"
)
_STATUSES: Final = (1, 2, 3)


class Counts(NamedTuple):
    """How the rows of a run stand, and what they cost in all their outcomes."""

    seq: int
    ok: int
    retryable: int
    failed: int
    cost_pico: int


def count(
    db: sqlite3.Connection, run: int, rows: Sequence[StoredRow], *, before: Sequence[int], last_seq: int
) -> None:
    """Count rows that are about to be written.

    Args:
        db: inside the transaction that writes them.
        run: whose they are.
        rows: the new outcomes.
        before: the statuses of those among them that were stored already.
        last_seq: the number of the last one.
    """
    now = Counter({row.slot: row.status for row in rows}.values())
    now.subtract(before)
    changes = [now[status] for status in _STATUSES]
    db.execute(_COUNT, (last_seq, *changes, sum(row.cost_pico for row in rows), run))


def read(rows: Callable[..., list[Any]], run: int) -> Counts:
    """The counts of a run, by a function that answers a statement."""
    [found] = rows("SELECT seq, ok, retryable, failed, cost_pico FROM run WHERE id = ?", (run,))
    return Counts(*found)


def forget(db: sqlite3.Connection, run: int) -> None:
    """The run begins anew. Its numbers go on: an output may still know the old ones."""
    db.execute("UPDATE run SET ok = 0, retryable = 0, failed = 0, cost_pico = 0 WHERE id = ?", (run,))
