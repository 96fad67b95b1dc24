"""What a store does with the batches of a run that it forgets. `batches` is imported only if a run uses batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import orjson

from cottonpalm.errors import StoreError

if TYPE_CHECKING:
    from cottonpalm.stores.sql.connection import Connection

LINE_BITS: Final = 24  # a line's id is (its batch's id << 24) | its number
# In these stages a batch may cost money: see `Batch.out`.
OUT: Final = frozenset({"creating", "submitted", "ended"})


def forget(db: Connection, run: int) -> None:
    """Delete the batches of a run that begins anew or is removed."""
    for (batch,) in db.execute("SELECT id FROM batch WHERE run = ?", (run,)).fetchall():
        bounds = (batch << LINE_BITS, (batch + 1) << LINE_BITS)
        db.execute("DELETE FROM batch_line WHERE id >= ? AND id < ?", bounds)
        db.execute("DELETE FROM batch_answer WHERE id >= ? AND id < ?", bounds)
    db.execute("DELETE FROM batch WHERE run = ?", (run,))
    db.execute("DELETE FROM batch_tool WHERE run = ?", (run,))
    db.execute("DELETE FROM batch_row WHERE run = ?", (run,))


def check_none_out(db: Connection, run: int, name: str) -> None:
    """Refuse to forget a run while batches of it may cost money.

    Raises:
        StoreError: there are such batches; the error names them and says what to do.
    """
    found = db.execute("SELECT body FROM batch WHERE run = ?", (run,)).fetchall()
    if out := [batch for (body,) in found if (batch := orjson.loads(body))["stage"] in OUT]:
        shown = ", ".join(
            f"{batch['batch_id'] or 'not answered yet'} at {batch['lane']['provider']}" for batch in out[:5]
        )
        raise StoreError(
            f"run {name!r} has {len(out)} batch{'es' if len(out) > 1 else ''} that it submitted and has not collected"
            f" ({shown}): run the same command again to collect them, or cancel them first"
        )
