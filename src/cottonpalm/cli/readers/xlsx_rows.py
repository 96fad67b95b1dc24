"""Rows from the first sheet of an Excel file; its first row names the columns."""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from cottonpalm.cli.problems import Problem, extra
from cottonpalm.cli.readers.rows import MORE, BadRow, InputRows, Row

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator


class Xlsx(InputRows):
    """The rows of the first sheet. Numbers, dates and booleans keep their types; an empty cell is None.

    Args:
        name: for messages.
        stream: the file; it is closed with the rows.
    """

    unit = "row"
    has_gaps = True

    def __init__(self, name: str, stream: io.BufferedIOBase) -> None:
        self._stream = stream
        super().__init__(name)

    def close(self) -> None:
        """Close the file."""
        if self._formulas is not None:
            self._formulas.close()
        self._book.close()
        self._stream.close()

    def _begin(self) -> None:
        openpyxl = extra("openpyxl", "excel", f"{self.name}, an Excel file,")
        self._load = partial(openpyxl.load_workbook, self._stream, read_only=True)
        self._formulas: _Formulas | None = None
        try:
            self._book = self._load(data_only=True)
        except Exception as error:
            raise Problem(
                f"{self.name} is no Excel file that can be read (a password? an .xls renamed?): {error}"
            ) from error
        self._lines: Iterator[tuple[Any, ...]] = self._book.worksheets[0].iter_rows()
        self._count = self._book.worksheets[0].max_row
        try:
            header = self._cells() or ()
        except BadRow as bad:
            raise Problem(str(bad)) from None
        self._header = ["" if cell is None else str(cell) for cell in header]
        while self._header and not self._header[-1]:
            self._header.pop()
        if not self._header:
            raise Problem(f"{self.name} is empty: the first row of its first sheet must name the columns")
        self._header_row = self.begins
        if self._header.count("") > 1:
            raise Problem(
                f"{self.name} row {self.begins}: {self._header.count('')} columns have no name, the first of them is "
                f"{_letters(self._header.index(''))}: name them, or delete them"
            )
        doubled = next((name for name in self._header if self._header.count(name) > 1), None)
        if doubled is not None:
            raise Problem(f"{self.name} row {self.begins}: the column {doubled!r} is named twice; rename one")

    def _guess(self) -> tuple[int, bool] | None:
        return None if not self._count else (max(self.read, self._count - 1), False)

    def _next(self) -> Row | None:
        cells = self._cells()
        if cells is None:
            return None
        row = dict(zip(self._header, cells, strict=False))
        names = len(self._header)
        if (beyond := next((at for at in range(names, len(cells)) if _is_said(cells[at])), None)) is not None:
            raise self.bad(self._nameless(beyond), row | {MORE: list(cells[names:])})
        return row

    def _nameless(self, column: int) -> str:
        return (
            f"a cell stands in column {_letters(column)}, which has no name in row {self._header_row}: name the column "
            f"there, or empty the cell (row {self._header_row} is taken for the header; delete what is above the table)"
        )

    def _cells(self) -> tuple[Any, ...] | None:
        """The next row that is not empty.

        Raises:
            BadRow: one of its formulas has no value.
        """
        for line in self._lines:
            self.begins += 1
            cells = tuple(cell.value for cell in line)
            if (column := self._unknown(line)) is not None:
                place = f"{_letters(column)}{self.begins}"
                raise self.bad(
                    f"the formula in cell {place} has no value, as the program that wrote the file did not compute it: "
                    "open the file in a spreadsheet and save it, or write values",
                    dict(zip(getattr(self, "_header", ()), cells, strict=False)),
                )
            if any(cell is not None for cell in cells):
                return (*cells, *[None] * (len(getattr(self, "_header", ())) - len(cells)))
        return None

    def _unknown(self, line: tuple[Any, ...]) -> int | None:
        """The first column of a row whose formula has no value; one whose value is empty text has another type."""
        blank = [at for at, cell in enumerate(line) if cell.value is None and _may_be_formula(cell)]
        if not blank:
            return None
        self._formulas = self._formulas or _Formulas(self._load())
        formulas = self._formulas.of(self.begins)
        return next((at for at in blank if formulas[at].data_type == "f"), None)


class _Formulas:
    """The same sheet with its formulas, read as far as rows hold cells that may be formulas without a value."""

    def __init__(self, book: Any) -> None:
        self._book, self._lines, self._read = book, book.worksheets[0].iter_rows(), 0
        self.close = book.close

    def of(self, row: int) -> tuple[Any, ...]:
        """The cells of a row; ask for rows in their order."""
        cells: tuple[Any, ...] = next(islice(self._lines, row - self._read - 1, None))
        self._read = row
        return cells


def _may_be_formula(cell: Any) -> bool:
    """Whether an empty cell is in the file at all, as one with a format alone is, too."""
    return cell.data_type == "n" and hasattr(cell, "coordinate")


def _is_said(cell: Any) -> bool:
    return cell is not None and str(cell).strip() != ""


def _letters(column: int) -> str:
    """A column as Excel names it: A to Z, then AA."""
    before, letter = divmod(column, 26)
    return (_letters(before - 1) if before else "") + chr(ord("A") + letter)
