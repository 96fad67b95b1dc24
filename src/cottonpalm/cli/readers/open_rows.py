"""Opens an input of any format, to be read row by row in constant memory.

An error in the header or the first row raises a `Problem` at once, before any call is made. An error in a later row
makes only that row fail (`Broken`), and the run goes on.
"""

from __future__ import annotations

import codecs
import io
import os
import stat
import sys
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from cottonpalm.cli.files.compression import Unpacked, Unpacker, packing_of
from cottonpalm.cli.files.formats import format_of, is_tabbed, suffix_of
from cottonpalm.cli.problems import Problem, os_problem
from cottonpalm.cli.readers.csv_rows import Csv, check_quotes
from cottonpalm.cli.readers.encodings import BUFFER, Recoded, check_encoding, chunks, in_utf8, marked
from cottonpalm.cli.readers.json_rows import JsonLines, Pipe, PipedLines
from cottonpalm.cli.readers.rows import RowFields, request_column
from cottonpalm.urls import file_name, is_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cottonpalm.cli.files.formats import Format, Packing
    from cottonpalm.cli.options.spec import RunSpec
    from cottonpalm.cli.readers.line_rows import LineRows
    from cottonpalm.cli.readers.rows import InputRows

Make: TypeAlias = "Callable[..., LineRows]"
CHECKED: Final = 1 << 28  # bytes: read in a fraction of a second
STDIN: Final = "standard input"


class Reading(NamedTuple):
    """How an input is read, where its name and its beginning do not tell.

    Attributes:
        delimiter: between the cells of a CSV; None: found in its header.
        encoding: of text; None: UTF-8, or what a mark at its beginning says.
        kind: of what comes on standard input; None: JSON lines, or a CSV where it begins as one.
        fills: a chain of the user's own reads it, which may write None into a prompt: so missing cells are empty text.
    """

    delimiter: str | None = None
    encoding: str | None = None
    kind: str | None = None
    fills: bool = False


def open_rows(path: str, limit: int | None = None, how: Reading | None = None) -> InputRows:
    """Open the rows of a file or an address, by its suffix, or of standard input (`-`).

    Args:
        path: a file, an address or `-`.
        limit: read at most this many rows.
        how: what the user said of it.

    Raises:
        Problem: it cannot be read, holds nothing, or its header or first row is wrong.
    """
    how = how or Reading()
    rows = _standard_input(how) if path == "-" else _file(path, format_of(path, "input"), how)
    rows.limit, rows.looks_ahead = limit, path != "-"
    if how.fills:
        with _closed_on_error(rows):
            rows.fill()
    return rows


def reading_of(job: RunSpec) -> Reading:
    """Return what a run's options say of its input."""
    delimiter = {"tab": "\t", "\\t": "\t"}.get(job.delimiter or "", job.delimiter)
    if delimiter is not None and len(delimiter) != 1:
        raise Problem(f"--delimiter {job.delimiter}: say one character, such as ';' or tab")
    encoding = job.encoding and check_encoding(job.encoding)
    return Reading(delimiter, encoding, job.input_format, fills=job.chain is not None)


def rows_of(job: RunSpec) -> InputRows:
    """Open the rows of a run, up to its limit, and check that their ids and priorities can be used.

    Raises:
        Problem: as for `open_rows`; or the first row has no id or priority that can be used.
    """
    rows = open_rows(job.input, job.limit, reading_of(job))
    try:
        if job.requests:
            request_column(rows.columns, job.source)
        rows.use(RowFields(job.id_field, job.priority_field))
    except BaseException:
        rows.close()
        raise
    return rows


def _file(path: str, form: Format, how: Reading) -> InputRows:
    if form.kind == "plugin":
        from cottonpalm.cli.readers.plugin_rows import PluginRows

        return PluginRows(file_name(path), path, suffix_of(path))
    stream, size = _opened(path)
    with _closed_on_error(stream):
        if form.kind == "parquet":
            from cottonpalm.cli.readers.parquet_rows import Parquet

            return Parquet(file_name(path), stream)
        if form.kind == "xlsx":
            from cottonpalm.cli.readers.xlsx_rows import Xlsx

            return Xlsx(file_name(path), stream)
        if is_tabbed(path) and how.delimiter is None:
            how = how._replace(delimiter="\t")
        if not form.packing and not is_url(path) and size is not None and size <= CHECKED:
            encoding = how.encoding or marked(_peek(stream, file_name(path)))
            _check_whole(path, form.kind, how._replace(encoding=encoding))
        return _of_lines(
            _maker(form.kind, how), file_name(path), stream, size, form.packing, encoding=how.encoding
        )


def _check_whole(path: str, kind: str, how: Reading) -> None:
    """Read a file through, before its first row costs anything, for what would end the reading amid its rows.

    A file of more than `CHECKED` bytes is not looked at: its first row shall not wait for its last. There the reading
    ends at such a place, when the rows before it are done.

    Raises:
        Problem: a byte is not of its encoding, or a quote of a CSV is never closed.
    """
    name = file_name(path)

    def opened() -> io.BufferedReader[Any]:
        return in_utf8(io.BufferedReader(io.FileIO(path), BUFFER), how.encoding, name)

    if kind == "csv":
        check_quotes(name, opened, how.delimiter)
    elif how.encoding is not None:
        with opened() as text:
            for _ in chunks(text):
                pass


def _maker(kind: str, how: Reading) -> Make:
    return partial(Csv, delimiter=how.delimiter) if kind == "csv" else JsonLines


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
    make: Make,
    name: str,
    stream: io.BufferedReader[Any],
    size: int | None,
    packing: Packing,
    *,
    encoding: str | None,
) -> LineRows:
    beginning = _peek(stream, name)
    found = packing_of(beginning) if packing and beginning else ""
    if packing and beginning and found != packing and isinstance(stream.raw, io.FileIO):
        raise Problem(f"{name} is no .{packing} file: it begins otherwise; rename it to what it is")
    inner = stream  # many servers unpack data whose name says it is packed
    if found and found == packing:
        inner = io.BufferedReader(Unpacked(stream, Unpacker(packing, name)), BUFFER)
    encoding = encoding or marked(_peek(inner, name))
    inner = in_utf8(inner, encoding, name)
    if inner is stream:
        return make(name, stream, size)
    return make(name, inner, size, stream.tell if size is not None else None)


def _peek(stream: io.BufferedReader[Any], name: str) -> bytes:
    try:
        return stream.peek(4)
    except OSError as error:  # a folder can be opened, but not read
        raise os_problem("read", name, error) from error


@contextmanager
def _closed_on_error(stream: io.IOBase | InputRows) -> Iterator[None]:
    try:
        yield
    except BaseException:
        stream.close()
        raise


def _standard_input(how: Reading) -> InputRows:
    if sys.stdin is None:
        raise Problem("standard input is closed; name a file of rows, or pipe rows in")
    if how.kind not in (None, "csv", "jsonl", "tsv"):
        raise Problem(
            f"--input-format {how.kind}: standard input is read as jsonl, csv or tsv; name a file of others"
        )
    try:
        fd = sys.stdin.fileno()
    except (OSError, ValueError):  # a test or an embedding program may set a stdin that is not a real file
        return _make_of(how, b"")(STDIN, sys.stdin.buffer)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        return _piped(how, Pipe(fd, STDIN))
    stream = io.BufferedReader(io.FileIO(os.dup(fd)), BUFFER)
    with _closed_on_error(stream):
        beginning = _peek(stream, STDIN)
        packing = packing_of(beginning)
        make = _make_of(how, b"" if packing else beginning)
        return _of_lines(make, STDIN, stream, _size(stream), packing, encoding=how.encoding)


def _piped(how: Reading, pipe: Pipe) -> InputRows:
    if how.encoding not in (None, "utf-8"):
        whole = io.BufferedReader(Recoded(lambda _: next(pipe, b""), how.encoding, STDIN), BUFFER)
        return _make_of(how, b"")(STDIN, whole)
    make = _make_of(how, b"" if how.kind else pipe.first())
    return PipedLines(STDIN, pipe) if make is JsonLines else make(STDIN, pipe)


def _make_of(how: Reading, beginning: bytes) -> Make:
    """What reads standard input: what the user said; else JSON lines, unless it begins as only a CSV does."""
    if how.kind == "jsonl" or (how.kind is None and not begins_csv(beginning)):
        return JsonLines
    return _maker("csv", how._replace(delimiter="\t") if how.kind == "tsv" else how)


def begins_csv(beginning: bytes) -> bool:
    """Whether the first line is a header of several columns rather than a JSON object."""
    line = beginning.removeprefix(codecs.BOM_UTF8).lstrip().partition(b"\n")[0]
    return not line.startswith((b"{", b"[")) and any(mark in line for mark in b",;\t|")


def _size(stream: io.BufferedReader[Any]) -> int | None:
    status = os.fstat(stream.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None
