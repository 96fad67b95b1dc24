"""Results that a plugin writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

from cottonpalm.cli.files.formats import suffix_of
from cottonpalm.cli.plugins import load, named
from cottonpalm.engine.output.table import beside, row_of
from cottonpalm.errors import CottonpalmError
from cottonpalm.shell import Code
from cottonpalm.urls import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cottonpalm.cli.writers.tables import Table, Write


def write_with(path: str) -> Write:
    """Return the function that writes results with the plugin of this file's suffix."""
    write = load("writers", suffix_of(path))

    def written(file: BinaryIO, table: Table) -> list[str]:
        names, records = list(table.names()), _records(table)
        with named(f"cannot write to {shown(path)}", Code.STOPPED, let=(OSError, CottonpalmError)):
            write(file, names, records)
        return []

    return written


def _records(table: Table) -> Iterator[dict[str, Any]]:
    names = table.names()
    for outcome in table.outcomes():
        row = row_of(outcome)
        cells = [*(row.get(name) for name in table.columns), *table.answers_of(outcome), *beside(outcome)]
        yield dict(zip(names, cells, strict=True))
