"""Where the rows of a rescue file go in their run, in which another process may have written meanwhile."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from cottonpalm.protocols import OK, StoredRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Held(NamedTuple):
    """What the store holds in a slot."""

    key: bytes
    content: bytes
    status: int
    record: bytes


def placed(rows: Iterable[StoredRow], held: Mapping[int, Held], free: int) -> list[StoredRow]:
    """Return the rows to store.

    One that is stored already, or whose question is answered, is left out: so a file may be taken in twice. One whose
    slot another row has got gets a slot behind all: `free` is the first.
    """
    behind = count(free)
    wanted = list[StoredRow]()
    for row in rows:
        there = held.get(row.slot)
        if there is not None and there.key != row.key:
            wanted.append(row._replace(slot=next(behind)))
        elif there is None or not _is_done(row, there):
            wanted.append(row)
    return wanted


def _is_done(row: StoredRow, there: Held) -> bool:
    return there.record == row.record or (there.content == row.content and there.status == OK)
