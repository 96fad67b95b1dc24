"""Opens an input of any format, to be read row by row in constant memory.

An error in the header or the first row raises a `Problem` at once, before any call is made. An error in a later row
makes only that row fail (`Broken`), and the run goes on.
"""

from __future__ import annotations

import io
import os
import stat
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.cli.files.compression import Unpacked, Unpacker, packing_of
from cottonpalm.cli.files.formats import format_of
from cottonpalm.cli.problems import Problem, os_problem
from cottonpalm.cli.readers.csv_rows import Csv, check_quotes
from cottonpalm.cli.readers.json_rows import JsonLines, Pipe, PipedLines
from cottonpalm.cli.readers.rows import RowFields
from cottonpalm.cli.urls import file_name, is_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cottonpalm.cli.files.formats import Format, Packing
    from cottonpalm.cli.readers.line_rows import LineRows
    from cottonpalm.cli.readers.rows import InputRows
    from cottonpalm.cli.spec import RunSpec

BUFFER: Final = 1 << 18
STDIN: Final = "standard input"


def open_rows(path: str, limit: int | None = None) -> InputRows:
    """Open the rows of a file or an address, by its suffix, or of standard input (`-`, JSONL).

    Args:
        path: a file, an address or `-`.
        limit: read at most this many rows.

    Raises:
        Problem: it cannot be read, holds nothing, or its header or first row is wrong.
    """
    rows = _standard_input() if path == "-" else _file(path, format_of(path, "input"))
    rows.limit = limit
    return rows


def rows_of(job: RunSpec) -> InputRows:
    """Open the rows of a run, up to its limit, and check that their ids and priorities can be used.

    Raises:
        Problem: as for `open_rows`; or the first row has no id or priority that can be used.
    """
    rows = open_rows(job.input, job.limit)
    try:
        rows.use(RowFields(job.id_field, job.priority_field))
    except BaseException:
        rows.close()
        raise
    return rows


def _file(path: str, form: Format) -> InputRows:
    stream, size = _opened(path)
    with _closed_on_error(stream):
        if form.kind == "parquet":
            from cottonpalm.cli.readers.parquet_rows import Parquet

            return Parquet(file_name(path), stream)
        if form == ("csv", "") and size is not None and not is_url(path):
            check_quotes(file_name(path), path)
        return _of_lines(
            {"jsonl": JsonLines, "csv": Csv}[form.kind], file_name(path), stream, size, form.packing
        )


def _opened(path: str) -> tuple[io.BufferedReader[Any], int | None]:
    """Open a file; return it and its size, if that is known."""
    if is_url(path):
        from cottonpalm.cli.files.remote import RemoteFile

        remote = RemoteFile(path)
        return io.BufferedReader(remote, BUFFER), remote.size
    try:
        stream = io.BufferedReader(io.FileIO(path), BUFFER)  # InputRows.close closes it
    except OSError as error:
        raise os_problem("read", path, error) from error
    return stream, _size(stream)


def _of_lines(
    make: type[LineRows], name: str, stream: io.BufferedReader[Any], size: int | None, packing: Packing
) -> LineRows:
    beginning = _peek(stream, name)
    if not packing or not beginning:
        return make(name, stream, size)
    found = packing_of(beginning)
    if found != packing and not isinstance(stream.raw, io.FileIO):
        return make(name, stream)  # many servers unpack data whose name says it is packed
    if found != packing:
        raise Problem(f"{name} is no .{packing} file: it begins otherwise; rename it to what it is")
    unpacked = io.BufferedReader(Unpacked(stream, Unpacker(packing, name)), BUFFER)
    return make(name, unpacked, size, stream.tell)


def _peek(stream: io.BufferedReader[Any], name: str) -> bytes:
    try:
        return stream.peek(4)
    except OSError as error:  # a folder can be opened, but not read
        raise os_problem("read", name, error) from error


@contextmanager
def _closed_on_error(stream: io.IOBase) -> Iterator[None]:
    try:
        yield
    except BaseException:
        stream.close()
        raise


def _standard_input() -> InputRows:
    if sys.stdin is None:
        raise Problem("standard input is closed; name a file of rows, or pipe rows in")
    try:
        fd = sys.stdin.fileno()
    except (OSError, ValueError):  # a test or an embedding program may set a stdin that is not a real file
        return JsonLines(STDIN, sys.stdin.buffer)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        return PipedLines(STDIN, Pipe(fd, STDIN))
    stream = io.BufferedReader(io.FileIO(os.dup(fd)), BUFFER)
    with _closed_on_error(stream):
        return _of_lines(JsonLines, STDIN, stream, _size(stream), packing_of(_peek(stream, STDIN)))


def _size(stream: io.BufferedReader[Any]) -> int | None:
    status = os.fstat(stream.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None
