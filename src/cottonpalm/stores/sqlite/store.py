"""The durable store in one SQLite file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cottonpalm.stores.sql.database import BUSY_S
from cottonpalm.stores.sql.store import SqlStore
from cottonpalm.stores.sqlite.database import SqliteDatabase

if TYPE_CHECKING:
    from pathlib import Path


class SqliteStore(SqlStore):
    """A store of runs in one file that only its owner may read. `protocols.Store` says what each method promises."""

    def __init__(self, path: Path, *, busy_s: float = BUSY_S) -> None:
        """Open or make the file; its folder must exist. See `SqlStore`."""
        super().__init__(SqliteDatabase(path), busy_s=busy_s)
        self.path = path
