"""A run's own row: its last number and its counts, updated with each write, so that no reader has to count."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cottonpalm.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cottonpalm.protocols import StoredRow
    from cottonpalm.stores.sql.connection import Connection

_COUNT: Final = (
    "UPDATE run SET seq = ?, ok = ok + ?, retryable = retryable + ?, failed = failed + ?, cost_pico = cost_pico + ?"
    " WHERE id = ?"
)
_STATUSES: Final = (1, 2, 3)
GONE: Final = (
    "the run was removed from the store by another program while it went on: what it answers cannot be kept there."
    " Run the same command again to begin anew"
)


class Counts(NamedTuple):
    """How many rows of a run have which status, and what all their outcomes cost."""

    seq: int
    ok: int
    retryable: int
    failed: int
    cost_pico: int


def count(
    db: Connection, run: int, rows: Sequence[StoredRow], *, before: Sequence[int], last_seq: int
) -> None:
    """Count rows that are about to be written.

    Args:
        db: the connection, in the transaction that writes the rows.
        run: the run's number.
        rows: the new outcomes.
        before: the old statuses of those rows that were stored already.
        last_seq: the number of the last outcome.

    Raises:
        StoreError: the run is not there any more.
    """
    now = Counter({row.slot: row.status for row in rows}.values())
    now.subtract(before)
    changes = [now[status] for status in _STATUSES]
    if not db.execute(_COUNT, (last_seq, *changes, sum(row.cost_pico for row in rows), run)).rowcount:
        raise StoreError(GONE)


def read(rows: Callable[..., list[Any]], run: int) -> Counts:
    """Return the counts of a run; `rows` returns the rows of a statement.

    Raises:
        StoreError: the run is not there any more.
    """
    found = rows("SELECT seq, ok, retryable, failed, cost_pico FROM run WHERE id = ?", (run,))
    if not found:
        raise StoreError(GONE)
    return Counts(*found[0])


def forget(db: Connection, run: int) -> None:
    """Reset the counts, since the run begins anew. Its numbers go on, since an output may know the old ones."""
    db.execute("UPDATE run SET ok = 0, retryable = 0, failed = 0, cost_pico = 0 WHERE id = ?", (run,))
