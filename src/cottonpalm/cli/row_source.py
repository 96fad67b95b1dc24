"""What every input has in common: lines are counted, a bad first row is refused, a bad later one is a failed row."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from cottonpalm.cli.problems import Problem, os_problem
from cottonpalm.model import ErrorRecord, Kind
from cottonpalm.source import Broken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Row: TypeAlias = dict[str, Any]
BOM: Final = b"\xef\xbb\xbf"
WIDE: Final = (b"\xff\xfe", b"\xfe\xff")  # how UTF-16 and UTF-32 files begin


class BadRow(Exception):
    """A row that cannot be used; the message begins with file and line."""


class Rows:
    """The rows of one file or of standard input: iterate once.

    Attributes:
        name: as messages call it; without folders, so that the message of a broken row stays the same.
        columns: the names met so far, in order; complete at the end of the input.
        read: rows read so far, broken ones included.
        ended: the end of the input was reached.
    """

    def __init__(self, name: str, stream: Iterable[bytes], size: int | None = None) -> None:
        self.name = name
        self.columns: list[str] = []
        self.read = 0
        self.ended = False
        self.line = 0  # the last line read
        self.begins = 0  # the line on which the row at hand begins
        self._needs: tuple[str, ...] = ()
        self._size, self._at = size, 0
        self._stream = stream
        self._known: set[str] = set()
        self._rows = self._parsed(self._lines())
        self._first = self._read_first()

    def need(self, columns: tuple[str, ...]) -> None:
        """A row that lacks one of these is a broken row."""
        self._needs = columns

    def total(self) -> tuple[int, bool] | None:
        """How many rows there are and whether that is exact; a guess by bytes until the end was reached."""
        if self.ended:
            return self.read, True
        if self._size is None or not self._at:
            return None
        return max(self.read, round(self.read * self._size / self._at)), False

    def close(self) -> None:
        """Let go of the file."""
        if isinstance(self._stream, io.IOBase):
            self._stream.close()

    def __iter__(self) -> Iterator[Row | Broken]:
        self.read = 1
        yield self._first
        while (found := self._guarded(self._next)) is not None:
            yield found
        self.ended = True

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

    # -- one row ----------------------------------------------------------------------------------------------------

    def _parsed(self, lines: Iterator[bytes]) -> Iterator[Row]:
        raise NotImplementedError  # pragma: no cover - the two formats below

    def _next(self) -> Row | None:
        return next(self._rows, None)

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
                raise self.bad(f"no column {column!r}; this row has {_listed(row)}")
        return row

    def bad(self, what: str) -> BadRow:
        """An error that names the file and the line on which the row begins."""
        return BadRow(f"{self.name} line {self.begins}: {what}")

    def _lines(self) -> Iterator[bytes]:
        try:
            for line in self._stream:
                self.line += 1
                self._at += len(line)
                yield line if self.line > 1 else self._opening(line)
        except OSError as error:
            raise os_problem("read", self.name, error) from error

    def _opening(self, line: bytes) -> bytes:
        if line.startswith(WIDE):
            raise Problem(f"{self.name} is UTF-16 text; save it as UTF-8")
        return line.removeprefix(BOM)


def _listed(names: Any) -> str:
    names = list(names)
    shown = ", ".join(repr(name) for name in names[:8]) or "none"
    return f"{shown}, …" if len(names) > 8 else shown
