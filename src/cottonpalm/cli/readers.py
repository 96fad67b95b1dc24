"""Reads JSONL and CSV row by row, in flat memory, and says of each bad row where it is and what is wrong with it.

What is wrong with the header or the first row is a `Problem` at once, before any call is made; what is wrong with a
later row makes that row a failed one (`Broken`), and the run goes on.
"""

from __future__ import annotations

import csv
import io
import os
import re
import stat
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeAlias

import orjson

from cottonpalm.cli.pipe import Pipe
from cottonpalm.cli.problems import Problem, os_problem, shown
from cottonpalm.model import ErrorRecord, Kind
from cottonpalm.source import Broken

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

Row: TypeAlias = dict[str, Any]
FORMATS: Final = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}
BOM: Final = b"\xef\xbb\xbf"
WIDE: Final = (b"\xff\xfe", b"\xfe\xff")  # how UTF-16 and UTF-32 files begin
LONG_NUMBER: Final = re.compile(rb"\d{16}")  # may not fit the fast parser's integers
CELL_MAX: Final = 1 << 28  # bytes: an unclosed quote must not swallow a whole file


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


class JsonLines(Rows):
    """One JSON object a line; empty lines do not count."""

    def _next(self) -> Row | None:
        for line in self._source:
            if not line.isspace():
                return self._object(line)
        return None

    def _parsed(self, lines: Iterator[bytes]) -> Iterator[Row]:
        self._source = lines
        return iter(())

    def _object(self, line: bytes) -> Row:
        self.begins = self.line
        try:
            row = orjson.loads(line) if LONG_NUMBER.search(line) is None else _exactly(line)
        except ValueError as error:
            raise self.bad(self._why(line, error)) from None
        if not isinstance(row, dict):
            raise self.bad(f'a row is a JSON object such as {{"text": "…"}}, this is {_kind(row)}')
        return row

    @staticmethod
    def _why(line: bytes, error: ValueError) -> str:
        try:
            line.decode()
        except UnicodeDecodeError as undecodable:
            return f"byte {undecodable.start + 1} is not UTF-8; save the file as UTF-8"
        reason = re.sub(r": line 1 column (\d+) \(char \d+\)$", r" (column \1)", str(error))
        return f"not a JSON object: {reason}"


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


class PipedLines(JsonLines):
    """JSON lines from a pipe or a terminal, each handed on when it comes; iterated on the run's loop.

    Args:
        name: for messages.
        pipe: where the lines come from.
    """

    def __init__(self, name: str, pipe: Pipe) -> None:
        self._pipe = pipe
        super().__init__(name, pipe)

    async def __aiter__(self) -> AsyncIterator[Row | Broken]:
        self.read = 1
        yield self._first
        while await self._pipe.ready():
            line = next(self._source)
            if not line.isspace():
                found = self._guarded(lambda line=line: self._object(line))  # type: ignore[misc]
                yield found  # type: ignore[misc]  # never None: there was a line
        self.ended = True


def open_rows(path: str) -> Rows:
    """The rows of a file, by its suffix, or of standard input (`-`, JSONL).

    Raises:
        Problem: it cannot be read, holds nothing, or its header or first row is wrong.
    """
    if path == "-":
        return _standard_input()
    kind = format_of(path, "input")
    try:
        stream = Path(path).open("rb", buffering=1 << 18)  # noqa: SIM115 - closed by Rows.close
    except OSError as error:
        raise os_problem("read", path, error) from error
    with _closed_on_error(stream):
        return {"jsonl": JsonLines, "csv": Csv}[kind](Path(path).name, stream, _size(stream))


def format_of(path: str, role: str) -> str:
    """`jsonl` or `csv`, by the suffix."""
    kind = FORMATS.get(Path(path).suffix.lower())
    if kind is None:
        raise Problem(
            f"{role} {shown(path)}: cottonpalm knows .jsonl, .ndjson and .csv files; rename it, or use - for JSONL"
        )
    return kind


@contextmanager
def _closed_on_error(stream: BinaryIO) -> Iterator[None]:
    try:
        yield
    except BaseException:
        stream.close()
        raise


def _standard_input() -> Rows:
    name = "standard input"
    try:
        fd = sys.stdin.fileno()
    except (OSError, ValueError):  # no real file: a test's, or an embedding program's
        return JsonLines(name, sys.stdin.buffer)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return JsonLines(name, os.fdopen(os.dup(fd), "rb"), os.fstat(fd).st_size)
    return PipedLines(name, Pipe(fd))


def _size(stream: BinaryIO) -> int | None:
    status = os.fstat(stream.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _exactly(line: bytes) -> Any:
    """Python's own parser keeps integers of any length, where the fast one would round them."""
    import json

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no JSON")

    return json.loads(line, parse_constant=refuse)


def _csv_reason(error: csv.Error) -> str:
    if "unexpected end" in str(error):
        return "a quoted cell begins here and never ends"
    return f"not CSV: {error}"


def _kind(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null")


def _listed(names: Any) -> str:
    names = list(names)
    shown = ", ".join(repr(name) for name in names[:8]) or "none"
    return f"{shown}, …" if len(names) > 8 else shown
