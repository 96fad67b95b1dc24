"""Memory and CPU of reading and writing large files: `python bench/files.py --rows 1000000`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import measure as m

from cottonpalm.cli.files.compression import packed
from cottonpalm.cli.files.formats import format_of
from cottonpalm.cli.readers.open_rows import open_rows
from cottonpalm.cli.writers.open_output import CsvForm, writer_of
from cottonpalm.cli.writers.tables import Table
from cottonpalm.types import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

FEW = 1_000
FORMATS = ("jsonl.gz", "csv", "csv.zst", "parquet")
TEXT = "a review of some length, which says what it has to say and a little more, number "


def outcomes(rows: int) -> Iterator[Outcome]:
    for n in range(rows):
        row: dict[str, Any] = {"id": n, "text": f"{TEXT}{n}"}
        yield Outcome(n, "ok", output=f"answer {n}", input=row, cost_pico=1_000 * n)


def write(path: str, rows: int) -> None:
    form = format_of(path, "output")
    table = Table(["id", "text"], lambda: outcomes(rows))
    with Path(path).open("w+b") as file, packed(file, form.packing) as inner:
        writer_of(form.kind, CsvForm())(inner, table)


def read(path: str, rows: int) -> None:
    with closing(open_rows(path)) as opened:
        assert sum(1 for _ in opened) == rows


def one(what: str, path: str, rows: int) -> None:
    begun = time.process_time()
    (write if what == "write" else read)(path, rows)
    m.answer(mb=m.peak_mb(), row_us=(time.process_time() - begun) / rows * 1e6)


def measured(folder: str, ending: str, rows: int) -> Iterator[list[object]]:
    for what in ("write", "read"):
        few, many = (
            m.fresh("files.py", "--rows", count, "--what", what, "--path", f"{folder}/{count}.{ending}")
            for count in (FEW, rows)
        )
        yield [f"{what} {ending}", rows, many["mb"], many["mb"] - few["mb"], many["row_us"]]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--what", choices=["write", "read"], help=argparse.SUPPRESS)
    options.add_argument("--path", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.what is not None:
        return one(given.what, given.path, given.rows)
    m.headline(
        f"Files of the command line, read and written whole: memory over {FEW:,} rows, and CPU (fresh processes)",
        "<= 40 MB more, at any number of rows",
    )
    with tempfile.TemporaryDirectory() as folder:
        lines = [line for ending in FORMATS for line in measured(folder, ending, given.rows)]
    return m.table(["", "rows", "peak MB", "MB over few", "CPU µs/row"], lines)


if __name__ == "__main__":
    main()
