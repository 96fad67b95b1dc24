"""Rows from comma-separated values."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Final

from cottonpalm.cli.problems import Problem
from cottonpalm.cli.row_source import BadRow, Row, Rows

if TYPE_CHECKING:
    from collections.abc import Iterator

CELL_MAX: Final = 1 << 28  # bytes: an unclosed quote must not swallow a whole file


class Csv(Rows):
    """Comma-separated values with a header; a quoted cell may hold line ends."""

    def _parsed(self, lines: Iterator[bytes]) -> Iterator[Row]:
        csv.field_size_limit(CELL_MAX)
        self._reader = csv.reader(self._decoded(lines), strict=True)
        self._undecodable: str | None = None
        self._header = self._read_header()
        return iter(())

    def _next(self) -> Row | None:
        while (cells := self._cells()) is not None:
            if cells:
                return self._row(cells)
        return None

    def _row(self, cells: list[str]) -> Row:
        if len(cells) != len(self._header):
            raise self.bad(
                f"{len(cells)} cells, the header names {len(self._header)} (a comma in an unquoted cell?)"
            )
        return dict(zip(self._header, cells, strict=True))

    def _cells(self) -> list[str] | None:
        self.begins, self._undecodable = self.line + 1, None
        try:
            cells = next(self._reader, None)
        except csv.Error as error:
            raise self.bad(self._undecodable or _csv_reason(error)) from None
        if self._undecodable is not None:
            raise self.bad(self._undecodable)
        return cells

    def _read_header(self) -> list[str]:
        header: list[str] | None = []
        try:
            while header == []:
                header = self._cells()
        except BadRow as bad:
            raise Problem(str(bad)) from None
        if not header:
            raise Problem(f"{self.name} is empty: its first line must name the columns")
        if doubled := [name for name in header if header.count(name) > 1]:
            raise Problem(f"{self.name} line 1: the column {doubled[0]!r} is named twice; rename one")
        return header

    def _decoded(self, lines: Iterator[bytes]) -> Iterator[str]:
        for line in lines:
            try:
                yield line.decode()
            except UnicodeDecodeError as error:
                self._undecodable = f"byte {error.start + 1} is not UTF-8; save the file as UTF-8"
                yield line.decode(errors="replace")


def _csv_reason(error: csv.Error) -> str:
    if "unexpected end" in str(error):
        return "a quoted cell begins here and never ends"
    return f"not CSV: {error}"
