"""Which output a run writes to, and what a run is called."""

from __future__ import annotations

import datetime as dt
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cottonpalm import clock
from cottonpalm.cli import files
from cottonpalm.cli.formats import format_of, stem_of
from cottonpalm.cli.jsonl import JsonlOutput
from cottonpalm.cli.output import CsvOutput, Output, StreamOutput, Unpack, refuse_foreign
from cottonpalm.cli.problems import Problem, os_problem, shown
from cottonpalm.cli.urls import is_url, local_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from cottonpalm.cli.again import StoredRows
    from cottonpalm.cli.held import HeldRun
    from cottonpalm.cli.row_source import Rows


def absolute(path: str) -> str:
    """The path to keep: links followed, so that replacing the file does not replace a link. `-` and addresses stay."""
    path = local_path(path)
    return path if path == "-" or is_url(path) else os.path.realpath(path)


def run_name(source: str, target: str) -> str:
    """A run's name where none was given: the output's, else the input's, else a new one."""
    named = next((path for path in (target, source) if path != "-"), None)
    if named is not None:
        return stem_of(named)
    stamp = dt.datetime.fromtimestamp(clock.wall(), dt.UTC).astimezone()
    return f"run-{stamp:%Y%m%d-%H%M%S}-{os.getpid()}"


def check_output(path: str, source: str, meta: Mapping[str, Any], *, overwrite: bool) -> None:
    """Refuse what cannot be written to, before anything is started.

    Raises:
        Problem: an unknown suffix, no such folder or not writable, the input itself, or a file of others.
    """
    if path == "-" and sys.stdout is None:
        raise Problem("-o -: standard output is closed; name a file")
    if path != "-" and Path(path).is_dir():
        name = shown(path)
        raise Problem(f"-o {name} is a folder; name a file in it, for instance {name}/out.jsonl")
    if files.is_stream(path):
        return
    format_of(path, "output")
    if path == source:
        raise Problem(f"-o {shown(path)} is the input itself; name another file")
    if not Path(path).parent.is_dir():
        raise Problem(f"-o {shown(path)}: there is no folder {Path(path).parent}; make it first")
    refuse_foreign(path, meta, overwrite=overwrite)
    files.probe(path)


def make_output(
    path: str,
    rows: Rows | StoredRows,
    unpack: Unpack,
    store: HeldRun,
    *,
    fields: Sequence[str] | None = None,
    overwrite: bool,
) -> Output:
    """The output that suits the path, in order and ready for the first row; `fields`: an answer's own columns."""
    output: Output
    if files.is_stream(path):
        output = StreamOutput(_stream(path), "standard output" if path == "-" else path)
    elif format_of(path, "output").kind == "csv":
        output = CsvOutput(
            path, overwrite=overwrite, columns=lambda: rows.columns, unpack=unpack, fields=fields
        )
    else:
        output = JsonlOutput(path, overwrite=overwrite, unpack=unpack)
    output.begin(store, store.done_here)
    return output


def _stream(path: str) -> int:
    if path == "-":
        sys.stdout.flush()
        return 1
    try:
        return os.open(path, os.O_WRONLY)
    except OSError as error:
        raise os_problem("write to", path, error) from error
