"""Results that a plugin writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

from cottonpalm.cli.plugins import load
from cottonpalm.engine.output.table import beside, row_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cottonpalm.cli.writers.tables import Table, Write


def write_with(suffix: str) -> Write:
    """Return the function that writes results with the plugin of this suffix."""
    write = load("writers", suffix)

    def written(file: BinaryIO, table: Table) -> list[str]:
        write(file, list(table.names()), _records(table))
        return []

    return written


def _records(table: Table) -> Iterator[dict[str, Any]]:
    names = table.names()
    for outcome in table.outcomes():
        row = row_of(outcome)
        cells = [*(row.get(name) for name in table.columns), *table.answers_of(outcome), *beside(outcome)]
        yield dict(zip(names, cells, strict=True))
