"""Reads JSONL and CSV row by row, in flat memory, and says of each bad row where it is and what is wrong with it.

What is wrong with the header or the first row is a `Problem` at once, before any call is made; what is wrong with a
later row makes that row a failed one (`Broken`), and the run goes on.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from cottonpalm.cli.csv_rows import Csv
from cottonpalm.cli.json_rows import JsonLines, PipedLines
from cottonpalm.cli.pipe import Pipe
from cottonpalm.cli.problems import Problem, os_problem, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cottonpalm.cli.row_source import Rows

FORMATS: Final = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}


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
    if sys.stdin is None:
        raise Problem("standard input is closed; name a file of rows, or pipe rows in")
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
