"""The reading connection: one statement at a time, each seeing what is committed, none held open."""

from __future__ import annotations

import sqlite3
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.faults import StoreError
from cottonpalm.protocols import Slot
from cottonpalm.stores.database import connect, explained, keep, let_go

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

SLOT_BITS: Final = 40
_SLOT_MASK: Final = (1 << SLOT_BITS) - 1
_AT_ONCE: Final = 500  # slots per SELECT
_as_slot: Final = partial(tuple.__new__, Slot)
_SLOT: Final = f"id & {_SLOT_MASK}, key, coalesce(content, key), status"


class Reader:
    """Answers questions about what is stored. Everything may be called from any thread."""

    def __init__(self, path: Path, busy_s: float) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = keep(connect(path, busy_s=busy_s))
        self._indexed: set[int] = set()  # runs whose keys have an index

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of one statement."""
        with self._lock:
            return self._rows(sql, values)

    def _rows(self, sql: str, values: Iterable[Any]) -> list[Any]:
        if self._db is None:
            raise StoreError(f"the store {self._path} is closed")
        try:
            return self._db.execute(sql, tuple(values)).fetchall()
        except sqlite3.Error as exc:
            raise explained(exc, self._path) from exc

    def scan(self, run: int, after: int, limit: int) -> list[Slot]:
        """Up to `limit` slots of a run above `after`, in order."""
        low, high = _bounds(run)
        sql = f"SELECT {_SLOT} FROM item WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"  # noqa: S608 - our own constants
        return list(map(_as_slot, self.rows(sql, (low + after, high, limit))))

    def same_rows(
        self,
        run: int,
        first: int,
        keys: Sequence[bytes],
        contents: Sequence[bytes],
        statuses: AbstractSet[int],
    ) -> bool:
        """Whether the slots from `first` on hold exactly these rows: compared as one text, not row by row."""
        low = (run << SLOT_BITS) + first
        allowed = ",".join(str(int(status)) for status in statuses)
        plain = keys is contents or list(keys) == list(contents)
        wanted = f"status IN ({allowed}) AND content IS {'' if plain else 'NOT '}NULL"
        shown = "hex(key)" if plain else "hex(key) || hex(content)"
        sql = (
            f"SELECT count(*), group_concat({shown}, '') FROM (SELECT key, content FROM item"  # noqa: S608 - numbers
            f" WHERE id BETWEEN ? AND ? AND {wanted} ORDER BY id LIMIT ?)"
        )
        [(count, text)] = self.rows(sql, (low, low + len(keys) - 1, len(keys)))
        if count != len(keys):
            return False
        asked = keys if plain else [part for pair in zip(keys, contents, strict=True) for part in pair]
        return bool(text == b"".join(asked).hex().upper())

    def find(self, run: int, key: bytes) -> list[Slot]:
        """All slots with this key. The first call builds an index in a temporary file of this connection's own."""
        with self._lock:
            self._index(run)
            sql = (
                f"SELECT {_SLOT} FROM item WHERE key = ?1 AND id IN (SELECT id FROM temp.seek_{run:d} WHERE key = ?1)"  # noqa: S608
                " ORDER BY id"
            )
            return list(map(_as_slot, self._rows(sql, (key,))))

    def _index(self, run: int) -> None:
        """Index the run's keys as they are now."""
        if run in self._indexed:
            return
        table = f"temp.seek_{run:d}"
        self._rows(f"CREATE TABLE {table} (key BLOB, id INTEGER, PRIMARY KEY (key, id)) WITHOUT ROWID", ())
        self._indexed.add(run)
        sql = f"INSERT INTO {table} SELECT key, id FROM item WHERE id BETWEEN ? AND ? ORDER BY key, id"  # noqa: S608
        self._rows(sql, _bounds(run))

    def read(self, run: int, slots: Sequence[int]) -> dict[int, bytes]:
        """The records of these slots."""
        low = run << SLOT_BITS
        found: dict[int, bytes] = {}
        for at in range(0, len(slots), _AT_ONCE):
            part = slots[at : at + _AT_ONCE]
            marks = ",".join("?" * len(part))
            sql = f"SELECT id & {_SLOT_MASK}, body FROM record WHERE id IN ({marks})"  # noqa: S608 - question marks
            found.update(self.rows(sql, [low + slot for slot in part]))
        return found

    def counts(self, run: int) -> dict[int, int]:
        """Rows per status."""
        sql = "SELECT status, count(*) FROM item WHERE id BETWEEN ? AND ? GROUP BY status"
        return dict(self.rows(sql, _bounds(run)))

    def last_slot(self, run: int) -> int:
        """The highest slot in use, or -1."""
        [(last,)] = self.rows("SELECT max(id) FROM item WHERE id BETWEEN ? AND ?", _bounds(run))
        return -1 if last is None else last & _SLOT_MASK

    def forget(self, run: int) -> None:
        """Drop the index of a run."""
        with self._lock:
            if self._db is not None and run in self._indexed:
                self._indexed.discard(run)
                self._rows(f"DROP TABLE temp.seek_{run:d}", ())

    def close(self) -> None:
        """Let go of the connection."""
        with self._lock:
            if self._db is not None:
                let_go(self._db)
                self._db = None


def _bounds(run: int) -> tuple[int, int]:
    return run << SLOT_BITS, (run << SLOT_BITS) | _SLOT_MASK
