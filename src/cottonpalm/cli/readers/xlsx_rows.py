"""Rows from the first sheet of an Excel file; its first row names the columns."""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from cottonpalm.cli.problems import Problem, extra
from cottonpalm.cli.readers.rows import MORE, InputRows, Row

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
    _uses: frozenset[str] | None  # columns; None: all, until `need` says it

    def __init__(self, name: str, stream: io.BufferedIOBase) -> None:
        self._stream = stream
        super().__init__(name)

    def need(self, columns: tuple[str, ...]) -> None:
        """From now on, treat a row that lacks one of these columns as broken; a formula in another one may be unknown.

        Raises:
            Problem: the first row is such a row.
        """
        super().need(columns)
        self._uses = frozenset(columns)
        self._check_first()

    def fill(self) -> None:
        """From now on, give empty text for a missing cell: all columns are used, by a chain of the user's own.

        Raises:
            Problem: a formula of the first row has no value.
        """
        super().fill()
        self._check_first()

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
        self._uses = None
        self._first_unknown: dict[str, str] | None = None  # of the first row, which is read before that
        try:
            self._book = self._load(data_only=True)
        except Exception as error:
            raise Problem(
                f"{self.name} is no Excel file that can be read (a password? an .xls renamed?): {error}"
            ) from error
        self._lines: Iterator[tuple[Any, ...]] = self._book.worksheets[0].iter_rows()
        self._count = self._book.worksheets[0].max_row
        self._unknown: list[int] = []
        header = self._cells() or ()
        if self._unknown:
            raise Problem(str(self.bad(_uncomputed(_letters(self._unknown[0]), self.begins))))
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
        self._judge_unknown(row)
        names = len(self._header)
        if (beyond := next((at for at in range(names, len(cells)) if _is_said(cells[at])), None)) is not None:
            raise self.bad(self._nameless(beyond), row | {MORE: list(cells[names:])})
        return row

    def _nameless(self, column: int) -> str:
        return (
            f"a cell stands in column {_letters(column)}, which has no name in row {self._header_row}: name the column "
            f"there, or empty the cell (row {self._header_row} is taken for the header; delete what is above the table)"
        )

    def _judge_unknown(self, row: Row) -> None:
        """Refuse a row if a column that is used holds a formula without a value; the first row waits for `need`."""
        named = [at for at in self._unknown if at < len(self._header)]
        unknown = {self._header[at]: _uncomputed(_letters(at), self.begins) for at in named}
        if self._first_unknown is None:
            self._first_unknown = {name: str(self.bad(said)) for name, said in unknown.items()}
        elif (said := self._used(unknown)) is not None:
            raise self.bad(said, row)

    def _check_first(self) -> None:
        if (said := self._used(self._first_unknown or {})) is not None:
            raise Problem(said)

    def _used(self, unknown: dict[str, str]) -> str | None:
        """What is said of the first of these columns that is used."""
        return next(
            (said for name, said in unknown.items() if self._uses is None or name in self._uses), None
        )

    def _cells(self) -> tuple[Any, ...] | None:
        """The next row that is not empty; `_unknown` has the columns of its formulas without a value."""
        for line in self._lines:
            self.begins += 1
            cells = tuple(cell.value for cell in line)
            self._unknown = self._without_value(line)
            if self._unknown or any(cell is not None for cell in cells):
                return (*cells, *[None] * (len(getattr(self, "_header", ())) - len(cells)))
        return None

    def _without_value(self, line: tuple[Any, ...]) -> list[int]:
        """The columns of a row whose formulas have no value; one whose value is empty text has another type."""
        blank = [at for at, cell in enumerate(line) if cell.value is None and _may_be_formula(cell)]
        if not blank:
            return []
        self._formulas = self._formulas or _Formulas(self._load())
        formulas = self._formulas.of(self.begins)
        return [at for at in blank if formulas[at].data_type == "f"]


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


def _uncomputed(column: str, row: int) -> str:
    return (
        f"the formula in cell {column}{row} has no value, as the program that wrote the file did not compute it: "
        "open the file in a spreadsheet and save it, or write values"
    )


def _may_be_formula(cell: Any) -> bool:
    """Whether an empty cell is in the file at all, as one with a format alone is, too."""
    return cell.data_type == "n" and hasattr(cell, "coordinate")


def _is_said(cell: Any) -> bool:
    return cell is not None and str(cell).strip() != ""


def _letters(column: int) -> str:
    """A column as Excel names it: A to Z, then AA."""
    before, letter = divmod(column, 26)
    return (_letters(before - 1) if before else "") + chr(ord("A") + letter)
