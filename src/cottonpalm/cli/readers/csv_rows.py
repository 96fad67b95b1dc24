"""Rows from comma-separated values."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING, Any, Final

import orjson

from cottonpalm.cli.problems import Problem
from cottonpalm.cli.readers.encodings import HINT, chunks
from cottonpalm.cli.readers.line_rows import LineRows
from cottonpalm.cli.readers.rows import MORE, BadRow, Row

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator

CELL_MAX: Final = 1 << 26  # characters: an unclosed quote must not swallow a whole file
QUOTE: Final = b'"'
SEPARATORS: Final = (",", ";", "\t", "|")  # in doubt, the first
SAID: Final = re.compile(rb'"?sep=([,;\t|])"?\s*')


class Csv(LineRows):
    """Separated values with a header; a quoted cell may hold line ends.

    Args:
        delimiter: what stands between two cells; None: what the header shows, of comma, semicolon, tab and bar.

    Attributes:
        delimiter: the same, once it is known.
    """

    def __init__(self, *about: Any, delimiter: str | None = None) -> None:
        self.delimiter = self._named_separator = delimiter
        self._first_line = b""
        super().__init__(*about)

    def _begin(self) -> None:
        csv.field_size_limit(CELL_MAX)
        lines = self._lines()
        seen = list(_up_to_text(lines))
        if seen and (said := SAID.fullmatch(seen[-1])) is not None:  # Excel's own way to name it
            self.delimiter = self.delimiter or said[1].decode()
            skipped, seen = len(seen), list(_up_to_text(lines))
        else:
            skipped = 0
        self._first_line = seen[-1] if seen else b""
        self.delimiter, self.line = self.delimiter or separator_in(self._first_line), skipped
        lines = self._once_more(seen, lines)
        self._reader = csv.reader(self._decoded(lines), delimiter=self.delimiter, strict=True)
        self._undecodable: str | None = None
        self._quotes = self._opened = 0  # quotes in this row so far; the line where the open cell began
        self._header: list[str] = []
        self._header = self._read_header()

    def _once_more(self, seen: list[bytes], lines: Iterator[bytes]) -> Iterator[bytes]:
        for line in seen:
            self.line += 1
            yield line
        yield from lines

    def _next(self) -> Row | None:
        while (cells := self._cells()) is not None:
            if cells:
                return self._row(cells)
        return None

    def _row(self, cells: list[str]) -> Row:
        if len(cells) != len(self._header):
            raise self.bad(self._ragged(len(cells)), _as_far(self._header, cells))
        return dict(zip(self._header, cells, strict=True))

    def _ragged(self, cells: int) -> str:
        named = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
        names = len(self._header)
        if names == 1:
            header = f"line {self._header_line}, {_short(self._header[0])}, is taken for the header"
            hint = f"{header}; delete it if it is none; if each line is one text, name the file .tsv"
        elif cells < names:
            hint = "a cell is missing, or a line end stands in an unquoted cell?"
        else:
            hint = f"a {named.get(self.delimiter or ',', 'separator')} in an unquoted cell?"
        return f"{cells} cell{'s'[: cells != 1]}, the header names {names} ({hint})"

    def _cells(self) -> list[str] | None:
        self.begins, self._undecodable, self._quotes = self.line + 1, None, 0
        try:
            cells = next(self._reader, None)
        except csv.Error as error:
            raise self._refused(str(error)) from None
        if self._undecodable is not None:
            raise self.bad(self._undecodable, _as_far(self._header, cells or []))
        return cells

    def _refused(self, reason: str) -> Exception:
        """Return the error of a bad row. If an unclosed quote took the rest of the file, reading ends."""
        if self._undecodable is not None:
            return self.bad(self._undecodable)
        too_long = "larger than field limit" in reason
        if not too_long and "unexpected end" not in reason:
            return self.bad(_reason(reason, self.line - self.begins))
        if swallowed := self.line - self._opened:
            self.begins = self._opened
            return Problem(str(self.bad(_unclosed(swallowed, too_long=too_long))))
        return self.bad(
            f"a cell of more than {CELL_MAX >> 20} MiB" if too_long else "a quoted cell never ends"
        )

    def _read_header(self) -> list[str]:
        header: list[str] | None = []
        try:
            while header == []:
                header = self._cells()
        except BadRow as bad:
            raise Problem(str(bad)) from None
        if not header:
            raise Problem(f"{self.name} is empty: its first line must name the columns")
        self._header_line = self.begins
        if header[0].lstrip().startswith("{") and _is_json(self._first_line):
            raise Problem(f"{self.name} holds lines of JSON, no CSV: name it .jsonl")
        self._check_separator(header)
        if header.count("") > 1:  # as Excel writes columns that were emptied
            raise Problem(
                f"{self.name} line {self.begins}: {header.count('')} columns have no name, the first of them is number "
                f"{header.index('') + 1} of {len(header)}: name them, or delete them"
            )
        seen = set[str]()
        for name in header:
            if name in seen:
                raise Problem(
                    f"{self.name} line {self.begins}: the column {name!r} is named twice; rename one"
                )
            seen.add(name)
        return header

    def _check_separator(self, header: list[str]) -> None:
        """Refuse a separator that was named and that the header does not hold, where it holds another one."""
        if self._named_separator is None or len(header) > 1:
            return
        found = separator_in(self._first_line)
        if found.encode() not in self._first_line:
            return
        if self._named_separator == "\t":  # said by the file's name, too, or by --input-format
            raise Problem(
                f"{self.name} line {self.begins}: the header holds no tab, but {found!r}: it is a .csv, or "
                "--input-format csv, without --delimiter"
            )
        raise Problem(
            f"--delimiter {self._named_separator}: the header of {self.name} does not hold it, but {found!r}; "
            "leave --delimiter out to have it found"
        )

    def _decoded(self, lines: Iterator[bytes]) -> Iterator[str]:
        for line in lines:
            self._count(line)
            try:
                yield line.decode()
            except UnicodeDecodeError as error:
                self._undecodable = f"byte {error.start + 1} (0x{line[error.start]:02x}) is not UTF-8; {HINT}"
                yield line.decode(errors="replace")

    def _count(self, line: bytes) -> None:
        """Note the line where a cell began that is still open at the end of this line."""
        if quotes := line.count(QUOTE):
            if not self._quotes % 2:
                self._opened = self.line
            self._quotes += quotes


def _as_far(header: list[str], cells: list[str]) -> Row:
    """What could be read of a row with too few cells, or too many."""
    row: Row = dict(zip(header, cells, strict=False))
    return row if len(cells) <= len(header) else {**row, MORE: cells[len(header) :]}


def _is_json(line: bytes) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except ValueError:
        return False


def _short(text: str) -> str:
    """Show what a header of one name says, in short."""
    return repr(text if len(text) <= 40 else f"{text[:40]}…")


def _up_to_text(lines: Iterator[bytes]) -> Iterator[bytes]:
    for line in lines:
        yield line
        if not line.isspace():
            return


def separator_in(header: bytes) -> str:
    """Return what separates the names in a header: what stands there most often outside quotes; a comma in doubt."""
    bare = b"".join(header.split(QUOTE)[::2])
    return max(SEPARATORS, key=lambda mark: bare.count(mark.encode()))


def check_quotes(name: str, opened: Callable[[], io.BufferedReader[Any]], delimiter: str | None) -> None:
    """Check that a file closes each quote that it opens, before its first row costs anything.

    It counts the quotes, which is fast. If their number is even, each one is closed; if it is odd, it reads the file.

    Args:
        name: for messages.
        opened: opens it at its beginning, in UTF-8.
        delimiter: what stands between two cells, if the user said it.

    Raises:
        Problem: a quote is never closed; the message names the line where its cell begins.
    """
    with opened() as text:
        if sum(chunk.count(QUOTE) for chunk in chunks(text)) % 2 == 0:
            return
    with opened() as text:
        for _ in Csv(name, text, delimiter=delimiter):
            pass


def _unclosed(swallowed: int, *, too_long: bool) -> str:
    seen = f"has not ended {CELL_MAX >> 20} MiB later" if too_long else "never ends"
    lines = f"the {swallowed:,} lines after it" if swallowed > 1 else "the line after it"
    return f"a quoted cell begins here and {seen}; it takes in {lines}: close the quote, or double it where it is text"


def _reason(reason: str, more: int) -> str:
    if "new-line character" in reason:
        return "a carriage return stands alone in a cell without quotes; save the file with usual line ends"
    until = f" (the row goes on for {more} more lines: is a quote missing, or not doubled?)" if more else ""
    return f"not CSV: {reason}{until}"
