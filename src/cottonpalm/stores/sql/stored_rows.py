"""The rows of a run as they are now, for those who only look."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cottonpalm.stores.sql.database import SLOT_BITS
from cottonpalm.stores.sql.row_search import holding, ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cottonpalm.protocols import Slot
    from cottonpalm.stores.sql.reader import Reader


class SqlRows:
    """The rows of a run as they are now. See `protocols.StoredRows`."""

    def __init__(self, reader: Reader, run: int) -> None:
        self._reader, self._run = reader, run

    def scan(self, after: int, limit: int) -> list[Slot]:
        """See `protocols.StoredRows`."""
        return self._reader.scan(self._run, after, limit)

    def read(self, slots: Sequence[int]) -> dict[int, bytes]:
        """See `protocols.StoredRows`."""
        return self._reader.read(self._run, slots)

    def records(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """See `protocols.ReadsOn`."""
        return self._reader.records(self._run, after, limit)

    def page(self, after: int, before: int, statuses: Sequence[int], limit: int, *, back: bool) -> list[int]:
        """See `protocols.FindsRows`."""
        first = self._run << SLOT_BITS
        found = ids(self._reader.rows, first + after, first + before, statuses, limit, back=back)
        return [each - first for each in found]

    def holding(self, slots: Sequence[int], text: str) -> list[int]:
        """See `protocols.FindsRows`."""
        first = self._run << SLOT_BITS
        ids_there = [first + slot for slot in slots]
        return [each - first for each in holding(self._reader.rows, ids_there, text, self._reader.like)]
