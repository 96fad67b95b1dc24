"""Rows from lines of JSON, read from a file, or from a pipe as they come.

We read a pipe without Python's own buffer. A thread may still wait for input when the process ends. If it waited inside
`sys.stdin`, it would hold a lock that the interpreter needs at its end, and the interpreter would abort.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import orjson

from cottonpalm.cli.files.compression import MAGIC, Unpacker, packing_of
from cottonpalm.cli.files.formats import ONE_A_LINE
from cottonpalm.cli.problems import os_problem
from cottonpalm.cli.readers.encodings import HINT
from cottonpalm.cli.readers.line_rows import LineRows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Self

    from cottonpalm.cli.readers.rows import Row
    from cottonpalm.engine.input.reader import Broken

SLOW: Final = re.compile(  # the fast parser rounds or refuses these: long integers, lone surrogates
    rb"\d{16}|\\u[dD][89a-fA-F]"
)


LINE: Final = "cottonpalm_line"  # the field that holds a line that is no row
TEXT: Final = 10_000  # so many bytes of it


class JsonLines(LineRows):
    """One JSON object per line; empty lines do not count."""

    def _next(self) -> Row | None:
        for line in self._source:
            if not line.isspace():
                return self._object(line)
        return None

    def _begin(self) -> None:
        self._source = self._lines()

    def _object(self, line: bytes) -> Row:
        self.begins, line = self.line, line.rstrip()  # else the parser might name a misleading "line 2"
        try:
            row = orjson.loads(line) if SLOW.search(line) is None else _exactly(line)
        except RecursionError:
            raise self.bad("not a JSON object: it is nested too deeply", _as_text(line)) from None
        except ValueError as error:
            raise self.bad(self._why(line, error), _as_text(line)) from None
        if not isinstance(row, dict):
            raise self.bad(
                f'a row is a JSON object such as {{"text": "…"}}, this is {_kind(row)}'
                f"{f'; {ONE_A_LINE}' if isinstance(row, list) and self.line == 1 else ''}",
                _as_text(line),
            )
        return row

    def _why(self, line: bytes, error: ValueError) -> str:
        try:
            line.decode()
        except UnicodeDecodeError as undecodable:
            return f"byte {undecodable.start + 1} is not UTF-8; {HINT}"
        if self.line == 1 and (instead := _no_lines(line)):
            return instead
        reason = re.sub(r": line 1 column (\d+) \(char \d+\)$", r" (column \1)", str(error))
        return f"not a JSON object: {reason}"


class PipedLines(JsonLines):
    """JSON lines from a pipe or a terminal. Each is given when it comes. Iterate it on the run's loop.

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
        while not self._full and await self._waits():
            line = next(self._source)
            if not line.isspace():
                found = self._guarded(lambda line=line: self._object(line))  # type: ignore[misc]
                yield found  # type: ignore[misc]  # never None: there was a line
        self.ended = True

    async def _waits(self) -> bool:
        try:
            return await self._pipe.ready()
        except OSError as error:
            raise os_problem("read", self.name, error) from error


def _no_lines(line: bytes) -> str | None:
    """Say what a first line is that is no row; None: a row with a mistake in it."""
    if line.startswith((b"[", b"{")) and len(line) < 3:
        return f"the JSON goes on over several lines; {ONE_A_LINE}"
    if not line.startswith((b"[", b"{")) and any(mark in line for mark in b",;\t"):
        return "not a JSON object, but it looks like the header of a CSV: name the file .csv"
    if line[:1].isalpha() and line != b"NaN":
        return (
            "not a JSON object; if it names a column of texts, name the file .csv, or say --input-format csv"
        )
    return None


def _as_text(line: bytes) -> Row:
    """What is kept of a line that is no row."""
    return {LINE: line[:TEXT].decode(errors="replace")}


def _exactly(line: bytes) -> Any:
    """Parse with Python's own parser, which keeps integers of any length and lone surrogates."""
    import json

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no JSON")

    return json.loads(line, parse_constant=refuse)


def _kind(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null")


CHUNK: Final = 1 << 16


class Pipe:
    """An iterator of lines that blocks; `ready` waits for the next line on a loop instead.

    It unpacks packed data as it comes.

    Args:
        fd: the descriptor to read from.
        name: for messages.
    """

    def __init__(self, fd: int, name: str) -> None:
        self._fd = fd
        self._lines: deque[bytes] = deque()
        self._part: list[bytes] = []  # pieces of a line that has not ended yet
        self._over = False
        self._name, self._head = name, b""  # the head: the first bytes, until we know the packing
        self._unpacker: Unpacker | None = None
        self._known = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        while not self._lines:
            if self._over:
                raise StopIteration
            self._fill()
        return self._lines.popleft()

    def first(self) -> bytes:
        """Wait for the first line, and return it; it is still given to whoever reads. Nothing where there is none."""
        while not self._lines and not self._over:
            self._fill()
        return self._lines[0] if self._lines else b""

    async def ready(self) -> bool:
        """Wait until the next line has come; False at the end of the input."""
        while not self._lines and not self._over:
            await self._readable()
            self._fill()
        return bool(self._lines)

    def _fill(self) -> None:
        chunk = os.read(self._fd, CHUNK)
        for piece in io.BytesIO(self._unpacked(chunk)):
            self._part.append(piece)
            if piece.endswith(b"\n"):
                self._end_line()
        if not chunk:
            self._over = True
            if self._part:
                self._end_line()

    def _unpacked(self, chunk: bytes) -> bytes:
        if not self._known:
            self._head += chunk
            if chunk and any(magic.startswith(self._head) for magic in MAGIC.values()):
                return b""  # these are too few bytes to decide
            packing, chunk, self._known = packing_of(self._head), self._head, True
            self._unpacker = Unpacker(packing, self._name) if packing else None
        if self._unpacker is None:
            return chunk
        if not chunk:
            self._unpacker.end()
        return self._unpacker.feed(chunk)

    def _end_line(self) -> None:
        self._lines.append(b"".join(self._part))
        self._part = []

    async def _readable(self) -> None:
        loop, came = asyncio.get_running_loop(), asyncio.Event()
        try:
            loop.add_reader(self._fd, came.set)
        except (PermissionError, NotImplementedError):  # a device that never blocks; Windows
            return
        try:
            await came.wait()
        finally:
            loop.remove_reader(self._fd)
