"""Takes what a rescue file holds into its run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cottonpalm.stores.rules.rescued import Held, placed
from cottonpalm.stores.sql import run_rows, spending_rows
from cottonpalm.stores.sql.database import SLOT_BITS
from cottonpalm.stores.sql.writer import Group, insert

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cottonpalm.protocols import StoredRow
    from cottonpalm.stores.sql.database import Database
    from cottonpalm.stores.sql.lease import Lease
    from cottonpalm.stores.sql.rescue import RescueFile

_AT_ONCE: Final = 500  # slots per SELECT


def take_in(database: Database, db: Any, lease: Lease, file: RescueFile) -> int:
    """Store what the file holds, in the transaction that entered the lease; return how many rows were not there yet."""
    rescued = file.read()
    first = lease.run << SLOT_BITS
    if rows := _wanted(db, first, rescued.rows):
        seq = run_rows.read(lambda sql, values: db.execute(sql, values).fetchall(), lease.run).seq + 1
        insert(database, db, Group(first, rows, lease, lambda _: None, seq=seq))
    if rescued.spent is not None:
        spending_rows.catch_up(db, lease.run, rescued.spent, new=bool(rows))
    return len(rows)


def _wanted(db: Any, first: int, rows: Sequence[StoredRow]) -> list[StoredRow]:
    slots = [row.slot for row in rows]
    [(last,)] = db.execute(
        "SELECT max(id) FROM item WHERE id >= ? AND id < ?", (first, first + (1 << SLOT_BITS))
    ).fetchall()
    free = 1 + max(*slots, -1, -1 if last is None else last - first)
    return placed(rows, _held(db, first, slots), free)


def _held(db: Any, first: int, slots: Sequence[int]) -> dict[int, Held]:
    held: dict[int, Held] = {}
    for at in range(0, len(slots), _AT_ONCE):
        ids = [first + slot for slot in slots[at : at + _AT_ONCE]]
        sql = (
            "SELECT item.id, item.key, coalesce(item.content, item.key), item.status, record.body"  # noqa: S608
            f" FROM item JOIN record ON item.id = record.id WHERE item.id IN ({','.join('?' * len(ids))})"
        )
        for id_, key, content, status, body in db.execute(sql, ids).fetchall():
            held[id_ - first] = Held(bytes(key), bytes(content), status, bytes(body))
    return held
