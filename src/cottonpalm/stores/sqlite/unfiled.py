"""The tables of batches in memory, for a run whose store is in memory."""

from __future__ import annotations

import sqlite3
import threading
import weakref
from typing import TYPE_CHECKING, Any

from cottonpalm.stores.sql import batch_rows
from cottonpalm.stores.sql.batches import SqlBook
from cottonpalm.stores.sqlite.migrations import m005_batches, m008_tools, m010_rows_out

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_RUN = 1  # always this number, since each object has its own tables


class Unfiled:
    """The batches of one run. They live as long as this object."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._db.close)
        m005_batches(self._db)
        m008_tools(self._db)
        m010_rows_out(self._db)

    def book(self) -> SqlBook:
        """See `stages.KeepsBatches`."""
        return SqlBook(self._write, self._rows, _RUN)

    def check_none_out(self, name: str) -> None:
        """See `batch_rows.check_none_out`."""
        with self._lock:
            batch_rows.check_none_out(self._db, _RUN, name)

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._lock:
            return self._db.execute(sql, tuple(values)).fetchall()

    def _write(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        with self._lock:
            self._db.execute("BEGIN")
            try:
                result = work(self._db)
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
            return result
