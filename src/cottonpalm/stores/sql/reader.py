"""The connection for reading. It runs one statement at a time, which sees what is committed, and leaves none open."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.errors import StoreError
from cottonpalm.protocols import Slot
from cottonpalm.stores.sql.database import SLOT_BITS, through_cuts
from cottonpalm.stores.sql.key_index import KeyIndex, word_of, words_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from cottonpalm.stores.sql.connection import Connection
    from cottonpalm.stores.sql.database import Database

_SLOT_MASK: Final = (1 << SLOT_BITS) - 1
_AT_ONCE: Final = 500  # slots per SELECT
_PAGE: Final = 1024  # slots per SELECT while the index is built
_as_slot: Final = partial(tuple.__new__, Slot)
_SLOT: Final = f"id & {_SLOT_MASK}, key, coalesce(content, key), status"


class Reader:
    """Reads what is stored. All methods may be called from any thread.

    Attributes:
        wait_s: how long a server may be away; who only looks is told at once.
    """

    def __init__(self, database: Database, db: Connection) -> None:
        self._database, self.like = database, database.like
        self._lock = threading.Lock()
        self.wait_s = 0.0
        self._db: Connection | None = db  # None: closed
        self._indexes: dict[int, KeyIndex] = {}  # run -> its index, made when `find` is first called

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return all rows of one statement."""
        try:
            return through_cuts(self._database, partial(self._once, sql, tuple(values)), wait_s=self.wait_s)
        except self._database.errors as exc:
            raise self._database.explained(exc) from exc

    def _once(self, sql: str, values: tuple[Any, ...]) -> list[Any]:
        with self._lock:
            if self._db is None:
                raise StoreError(f"the store {self._database} is closed")
            return self._db.execute(sql, values).fetchall()

    def scan(self, run: int, after: int, limit: int) -> list[Slot]:
        """Return up to `limit` slots of a run above `after`, in order."""
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
        """Whether the slots from `first` on hold exactly these rows. It compares one text, not row by row."""
        low = (run << SLOT_BITS) + first
        allowed = ",".join(str(int(status)) for status in statuses)
        plain = keys is contents or list(keys) == list(contents)
        wanted = f"status IN ({allowed}) AND content IS {'' if plain else 'NOT '}NULL"
        count, stored = self._joined("key" if plain else "key || content", low, low + len(keys) - 1, wanted)
        if count != len(keys):
            return False
        asked = keys if plain else [part for pair in zip(keys, contents, strict=True) for part in pair]
        return stored == b"".join(asked)

    def _joined(self, shown: str, low: int, high: int, wanted: str = "0 = 0") -> tuple[int, bytes]:
        """Return how many rows lie between two ids, and one column of all of them joined in the order of ids.

        One value per block is read several times as fast as one value per row.
        """
        sql = (
            f"SELECT count(*), {self._database.joined(shown)} FROM"  # noqa: S608 - our own words and numbers
            f" (SELECT id, key, content FROM item WHERE id BETWEEN ? AND ? AND {wanted} ORDER BY id) AS block"
        )
        [(count, joined)] = self.rows(sql, (low, high))
        return count, joined or b""

    def find(self, run: int, key: bytes) -> list[Slot]:
        """Return all slots with this key. The first call reads all keys of the run into an index."""
        if (index := self._indexes.get(run)) is None:
            index = self._indexes[run] = self._index(run)
        low, candidates = run << SLOT_BITS, index.candidates(key)
        found: list[Slot] = []
        for at in range(0, len(candidates), _AT_ONCE):
            part = candidates[at : at + _AT_ONCE]
            marks = ",".join("?" * len(part))
            sql = f"SELECT {_SLOT} FROM item WHERE id IN ({marks}) AND key = ? ORDER BY id"  # noqa: S608 - question marks
            found.extend(map(_as_slot, self.rows(sql, [*(low + slot for slot in part), key])))
        return found

    def _index(self, run: int) -> KeyIndex:
        """Return the up-to-date index of the run's keys."""
        low, count = run << SLOT_BITS, self.last_slot(run) + 1
        index = KeyIndex(count)
        for first in range(0, count, _PAGE):
            high = min(first + _PAGE, count) - 1
            there, keys = self._joined("key", low + first, low + high)
            words = words_of(keys, there)
            if words is not None and there == high - first + 1:
                index.add(range(first, high + 1), words)
            else:  # some slots are empty
                page = [found for found in self.scan(run, first - 1, _PAGE) if found.slot <= high]
                index.add([found.slot for found in page], [word_of(found.key) for found in page])
        return index

    def read(self, run: int, slots: Sequence[int]) -> dict[int, bytes]:
        """Return the records of these slots."""
        low = run << SLOT_BITS
        found: dict[int, bytes] = {}
        for at in range(0, len(slots), _AT_ONCE):
            part = slots[at : at + _AT_ONCE]
            marks = ",".join("?" * len(part))
            sql = f"SELECT id & {_SLOT_MASK}, body FROM record WHERE id IN ({marks})"  # noqa: S608 - question marks
            found.update(self.rows(sql, [low + slot for slot in part]))
        return found

    def records(self, run: int, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Up to `limit` records of a run with a slot above `after`, in order."""
        low, high = _bounds(run)
        sql = f"SELECT id & {_SLOT_MASK}, body FROM record WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"  # noqa: S608 - our own constant
        return self.rows(sql, (low + after, high, limit))

    def newer(self, run: int, seq: int, after: int, limit: int) -> list[tuple[int, int]]:
        """Slots above `after` whose outcome has a number above `seq`, with it."""
        low, high = _bounds(run)
        sql = f"SELECT id & {_SLOT_MASK}, seq FROM item WHERE id > ? AND id <= ? AND seq > ? ORDER BY id LIMIT ?"  # noqa: S608
        return self.rows(sql, (low + after, high, seq, limit))

    def last_slot(self, run: int) -> int:
        """Return the highest slot in use, or -1."""
        [(last,)] = self.rows("SELECT max(id) FROM item WHERE id BETWEEN ? AND ?", _bounds(run))
        return -1 if last is None else last & _SLOT_MASK

    def forget(self, run: int) -> None:
        """Drop the index of a run."""
        self._indexes.pop(run, None)

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._db is not None:
                self._database.let_go(self._db)
                self._db = None


def _bounds(run: int) -> tuple[int, int]:
    return run << SLOT_BITS, (run << SLOT_BITS) | _SLOT_MASK
