"""Rows from lines of JSON, of a file or as they come through a pipe."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import orjson

from cottonpalm.cli.line_rows import LineRows
from cottonpalm.cli.problems import os_problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cottonpalm.cli.pipe import Pipe
    from cottonpalm.cli.row_source import Row
    from cottonpalm.source import Broken

SLOW: Final = re.compile(  # what the fast parser rounds or refuses: long integers, lone surrogates
    rb"\d{16}|\\u[dD][89a-fA-F]"
)


class JsonLines(LineRows):
    """One JSON object a line; empty lines do not count."""

    def _next(self) -> Row | None:
        for line in self._source:
            if not line.isspace():
                return self._object(line)
        return None

    def _begin(self) -> None:
        self._source = self._lines()

    def _object(self, line: bytes) -> Row:
        self.begins, line = self.line, line.rstrip()  # a parser's own "line 2" would mislead
        try:
            row = orjson.loads(line) if SLOW.search(line) is None else _exactly(line)
        except RecursionError:
            raise self.bad("not a JSON object: it is nested too deeply") from None
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


def _exactly(line: bytes) -> Any:
    """Python's own parser keeps integers of any length and lone surrogates."""
    import json

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no JSON")

    return json.loads(line, parse_constant=refuse)


def _kind(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null")
