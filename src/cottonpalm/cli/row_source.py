"""What every input has in common: rows are counted, a bad first row is refused, a bad later one is a failed row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from cottonpalm.cli.problems import Problem
from cottonpalm.model import ErrorRecord, Kind
from cottonpalm.source import Broken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cottonpalm.cli.row_fields import RowFields

Row: TypeAlias = dict[str, Any]


class BadRow(Exception):
    """A row that cannot be used; the message begins with file and line."""


class Rows:
    """The rows of one file or of standard input: iterate once.

    Attributes:
        name: as messages call it; without folders, so that the message of a broken row stays the same.
        columns: the names met so far, in order; complete at the end of the input.
        read: rows read so far, broken ones included.
        ended: the end of the input was reached.
        schema: the input's own Arrow schema, or None.
        limit: no more rows than these are read; None: all.
    """

    unit: ClassVar[str] = "line"  # what a row is found by

    def __init__(self, name: str) -> None:
        self.name = name
        self.columns: list[str] = []
        self.read = 0
        self.ended = False
        self.limit: int | None = None
        self.schema: Any = None
        self.begins = 0  # the line on which the row at hand begins
        self._needs: tuple[str, ...] = ()
        self._fields: RowFields | None = None
        self._known: set[str] = set()
        self._begin()
        self._first = self._read_first()

    def need(self, columns: tuple[str, ...]) -> None:
        """A row that lacks one of these is a broken row."""
        self._needs = columns

    def use(self, fields: RowFields) -> None:
        """A row whose id or priority cannot be used is a broken row.

        Raises:
            Problem: the first row's cannot.
        """
        fields.check_columns(self.columns, self.name)
        if (wrong := fields.wrong(self._first, self.begins, self.unit)) is not None:
            raise Problem(str(self.bad(wrong)))
        self._fields = fields

    def total(self) -> tuple[int, bool] | None:
        """How many rows there are and whether that is exact; a guess until the end was reached."""
        found = (self.read, True) if self.ended else self._guess()
        if found is None or self.limit is None:
            return found
        return min(found[0], self.limit), found[1] or self.read >= self.limit

    def close(self) -> None:
        """Let go of the file."""

    def __iter__(self) -> Iterator[Row | Broken]:
        self.read = 1
        yield self._first
        while not self._full and (found := self._guarded(self._next)) is not None:
            yield found
        self.ended = True

    @property
    def _full(self) -> bool:
        return self.limit is not None and self.read >= self.limit

    def _guarded(self, step: Callable[[], Row | None]) -> Row | Broken | None:
        """The next row; one that cannot be used becomes `Broken`, None is the end."""
        found: Row | Broken
        try:
            row = step()
            if row is None:
                return None
            found = self._checked(row)
        except BadRow as bad:
            found = Broken(ErrorRecord(Kind.FAIL_ROW, "BadRow", str(bad)))
        self.read += 1
        return found

    # -- what the formats do ------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Read what stands before the first row."""

    def _next(self) -> Row | None:
        """The next row, or None at the end; `begins` is set. Raises BadRow for one that cannot be used."""
        raise NotImplementedError  # pragma: no cover - each format has its own

    def _guess(self) -> tuple[int, bool] | None:
        """How many rows there may be, and whether that is exact."""
        return None

    # -- one row ------------------------------------------------------------------------------------------------------

    def _read_first(self) -> Row:
        try:
            row = self._next()
        except BadRow as bad:
            raise Problem(str(bad)) from None
        if row is None:
            raise Problem(f"{self.name} holds no rows: nothing to do")
        return self._checked(row)

    def _checked(self, row: Row) -> Row:
        if not self._known.issuperset(row):
            self.columns += [column for column in row if column not in self._known]
            self._known.update(row)
        for column in self._needs:
            if column not in row:
                raise self.bad(f"no column {column!r}; this row has {listed(row)}")
        if (
            self._fields is not None
            and (wrong := self._fields.wrong(row, self.begins, self.unit)) is not None
        ):
            raise self.bad(wrong)
        return row

    def bad(self, what: str) -> BadRow:
        """An error that names the file and the line on which the row begins."""
        return BadRow(f"{self.name} {self.unit} {self.begins}: {what}")


def listed(names: Any) -> str:
    """Some names for a message: `'id', 'text'`."""
    names = list(names)
    shown = ", ".join(repr(name) for name in names[:8]) or "none"
    return f"{shown}, …" if len(names) > 8 else shown
