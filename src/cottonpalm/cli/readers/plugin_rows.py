"""Rows that a plugin reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cottonpalm.cli.plugins import load, named
from cottonpalm.cli.readers.rows import InputRows, Row

if TYPE_CHECKING:
    from collections.abc import Iterator


class PluginRows(InputRows):
    """Rows that a plugin reads.

    Args:
        name: for messages.
        path: the file or address, as the plugin gets it.
        suffix: names the plugin.
    """

    unit = "row"

    def __init__(self, name: str, path: str, suffix: str) -> None:
        self._rows: Iterator[Any] = iter(())
        self._opened = path, suffix
        super().__init__(name)

    def close(self) -> None:
        """Close what the plugin has open."""
        close = getattr(self._rows, "close", None)
        if close is not None:
            close()

    def _begin(self) -> None:
        path, suffix = self._opened
        read = load("readers", suffix)
        with named(f"{self.name} cannot be read"):
            self._rows = iter(read(path))

    def _next(self) -> Row | None:
        with named(f"{self.name} cannot be read"):
            row = next(self._rows, None)
        if row is None:
            return None
        self.begins += 1
        if not isinstance(row, dict):
            raise self.bad(f"a row is a dict, this is a {type(row).__name__}")
        return row
