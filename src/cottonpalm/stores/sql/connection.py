"""What the store asks of a connection: as much as `sqlite3` and an adapter for Postgres offer alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Cursor(Protocol):
    """The result of a statement."""

    @property
    def rowcount(self) -> int:
        """How many rows the statement wrote."""

    def fetchone(self) -> Any:
        """Return the next row, or None."""

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """A connection; only one thread may use it at a time."""

    @property
    def in_transaction(self) -> bool:
        """Whether one was begun and is not over."""

    def execute(self, sql: str, values: Sequence[Any] = ..., /) -> Cursor:
        """Run one statement."""

    def executemany(self, sql: str, rows: Sequence[Any], /) -> Any:
        """Run one statement for each of these rows of values."""

    def close(self) -> None:
        """Close it."""
