"""Opens the output of a run, and finds the name of a run."""

from __future__ import annotations

import datetime as dt
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cottonpalm import clock
from cottonpalm.cli.files import output_file
from cottonpalm.cli.files.formats import format_of, is_tabbed, stem_of
from cottonpalm.cli.files.output_file import Mark
from cottonpalm.cli.files.remote import check_writable
from cottonpalm.cli.problems import Problem, extra, os_problem
from cottonpalm.cli.writers.atomic import Layout, WholeOutput, examine
from cottonpalm.cli.writers.csv_table import write_csv
from cottonpalm.cli.writers.jsonl import JsonlOutput
from cottonpalm.cli.writers.output import Output, StreamOutput, Unpack
from cottonpalm.cli.writers.parquet_table import write_parquet
from cottonpalm.cli.writers.tables import write_jsonl
from cottonpalm.cli.writers.xlsx_table import write_xlsx
from cottonpalm.shell import JOB
from cottonpalm.urls import has_secrets, is_url, shown, without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from cottonpalm.cli.files.formats import Format, Kind
    from cottonpalm.cli.readers.rows import InputRows
    from cottonpalm.cli.readers.stored_rows import StoredInput
    from cottonpalm.cli.store.held_store import HeldRun
    from cottonpalm.cli.writers.tables import Write
    from cottonpalm.protocols import RunInfo


class CsvForm(NamedTuple):
    """How a CSV is written.

    Attributes:
        guard: put an apostrophe before what a spreadsheet would take for a formula.
        bom: begin with the mark by which Excel knows UTF-8.
        delimiter: between two cells; None: a comma.
    """

    guard: bool = False
    bom: bool = False
    delimiter: str | None = None

    def like(self, delimiter: str | None) -> CsvForm:
        """Return the same with the input's delimiter, where none was said."""
        return self if self.delimiter or delimiter is None else self._replace(delimiter=delimiter)

    @property
    def name(self) -> str:
        """A short name; of the usual form, none."""
        cut = "" if self.delimiter in (None, ",") else self.delimiter
        return " ".join(filter(None, ("guarded" if self.guard else "", "bom" if self.bom else "", cut)))


def run_name(source: str, target: str) -> str:
    """Return the name of a run without `--run`: from the output's name, else from the input's, else a new name."""
    if (named := _named_by(source, target)) != "-":
        return stem_of(named)
    stamp = dt.datetime.fromtimestamp(clock.wall(), dt.UTC).astimezone()
    return f"run-{stamp:%Y%m%d-%H%M%S}-{os.getpid()}"


def _named_by(source: str, target: str) -> str:
    """The path that gives a run its name."""
    return target if target != "-" else source


def check_name(info: RunInfo, source: str, target: str, *, replace: bool = False) -> None:
    """Refuse a run that only got its name from a file, where that name stands for other rows.

    Args:
        info: the run that the store has under this name.
        source: the input.
        target: the output.
        replace: the user said that what is there may go.

    Raises:
        Problem: the run stands for a file in another place, or holds the answers to another input's rows.
    """
    job = info.meta.get(JOB)
    if job is None:  # made from Python
        return
    mine, other = _named_by(without_secrets(source), target), _named_by(job["input"], job["output"])
    if other != "-" and (_folder(mine), stem_of(mine)) != (_folder(other), stem_of(other)):
        what = "writes" if job["output"] != "-" else "reads"
        raise Problem(
            f"run {info.name} of this store {what} {shown(other)}, not {shown(mine)}: "
            f"say --run NAME for a run of its own, or --run {info.name} to go on with that one"
        )
    asked, now = without_secrets(job["input"]), without_secrets(source)
    if asked != now and job["output"] == target != "-" and info.ok and not replace:
        raise Problem(
            f"{shown(job['output'])} holds answers to the rows of {_source(asked)}, which would "
            f"leave it for those of {_source(now)}: choose another -o, or say --run {info.name} where this is the same "
            f"input under another name, or --overwrite to replace the file (the store keeps the answers)"
        )


def _source(path: str) -> str:
    return "standard input" if path == "-" else shown(path)


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def check_output(
    path: str,
    source: str,
    meta: Mapping[str, Any],
    *,
    overwrite: bool,
    guard: bool = False,
    bom: bool = False,
) -> None:
    """Refuse an output that cannot be written, before anything is started.

    Raises:
        Problem: the suffix is unknown, the folder is missing or not writable, or the file is the input or not ours.
    """
    _check_csv(path, guard=guard, bom=bom)
    if path == "-" and sys.stdout is None:
        raise Problem("-o -: standard output is closed; name a file")
    if path != "-" and Path(path).is_dir():
        name = shown(path)
        raise Problem(f"-o {name} is a folder; name a file in it, for instance {name}/out.jsonl")
    if output_file.is_stream(path):
        return
    if output_file.is_same(path, source):
        raise Problem(f"-o {shown(path)} is the input itself; name another file")
    if is_url(path):
        _check_address(path)
    else:
        _check_folder(path)
    _check_packages(format_of(path, "-o"))
    examine(path, Mark.of(meta, path), overwrite=overwrite)
    if not is_url(path):
        output_file.probe(path)


def _check_csv(path: str, *, guard: bool, bom: bool) -> None:
    for flag, given in (("--guard-formulas", guard), ("--bom", bom)):
        if given and (output_file.is_stream(path) or format_of(path, "-o").kind != "csv"):
            raise Problem(f"{flag} is for .csv; -o {shown(path)} holds every text as it is")


def _check_folder(path: str) -> None:
    format_of(path, "-o")
    if not Path(path).parent.is_dir():
        raise Problem(f"-o {shown(path)}: there is no folder {Path(path).parent}; make it first")


def _check_address(url: str) -> None:
    check_writable(url)
    if has_secrets(url):
        raise Problem(
            f"-o {shown(url)}: an output's address is kept, so it may hold no password and no signature; "
            "give those through the environment"
        )


def _check_packages(form: Format) -> None:
    if form.kind == "xlsx":
        extra("openpyxl", "excel", "an Excel file")
    if form.kind == "parquet":
        extra("pyarrow", "parquet", "a Parquet file")
    if form.packing == "zst":
        extra("zstandard", "remote", "a .zst file")


def make_output(
    path: str,
    rows: InputRows | StoredInput,
    unpack: Unpack,
    store: HeldRun,
    *,
    fields: Sequence[str] | None,
    overwrite: bool,
    csv: CsvForm,
) -> Output:
    """Open the output for the path, and make it ready for the first row.

    Args:
        path: an absolute path, an address or `-`.
        rows: the input.
        unpack: makes an outcome from a stored record.
        store: the run.
        fields: the columns of an answer that is an object.
        overwrite: replace a file that the run did not write.
        csv: how a CSV is written.
    """
    output: Output
    if output_file.is_stream(path):
        output = stream_output(path)
    elif not is_url(path) and format_of(path, "output").appends:
        output = JsonlOutput(path, overwrite=overwrite, unpack=unpack)
    else:
        output = whole_output(
            path,
            lambda: Layout(rows.columns, rows.schema, fields),
            unpack=unpack,
            overwrite=overwrite,
            csv=csv.like(getattr(rows, "delimiter", None)),
        )
    output.begin(store)
    return output


def whole_output(
    path: str, layout: Callable[[], Layout], *, unpack: Unpack, overwrite: bool, csv: CsvForm
) -> WholeOutput:
    """Return an output that is written in one go, in the format of its name."""
    form = format_of(path, "output")
    csv = csv._replace(delimiter="\t") if is_tabbed(path) else csv
    if form.kind == "plugin":
        from cottonpalm.cli.writers.plugin_table import write_with

        write = write_with(path)
    else:
        write = writer_of(form.kind, csv)
    return WholeOutput(
        path,
        write,
        form.packing,
        csv.name if form.kind == "csv" else "",
        overwrite=overwrite,
        layout=layout,
        unpack=unpack,
    )


def is_table(path: str) -> bool:
    """Whether an output has columns."""
    return not output_file.is_stream(path) and format_of(path, "output").kind != "jsonl"


def writer_of(kind: Kind, csv: CsvForm) -> Write:
    """Return the function that writes this kind of file."""
    if kind == "parquet":
        return write_parquet
    if kind == "xlsx":
        return write_xlsx
    if kind == "csv":
        return partial(write_csv, guard=csv.guard, bom=csv.bom, delimiter=csv.delimiter or ",")
    return write_jsonl


def stream_output(path: str) -> StreamOutput:
    """Open standard output, a pipe or a device.

    Raises:
        Problem: it cannot be opened.
    """
    if path == "-":
        sys.stdout.flush()
        return StreamOutput(1, "standard output")
    try:
        return StreamOutput(os.open(path, os.O_WRONLY), path)
    except OSError as error:
        raise os_problem("write to", path, error) from error
