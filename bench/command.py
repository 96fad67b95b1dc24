"""Many rows by the command line, with the store: `python bench/command.py --rows 10000000`; JSONL, then Parquet.

Each command runs in a process of its own. Memory is the peak of the run over that of a run of a thousand rows. The
input is written by another process: Linux counts the peak of who starts a process as one of that process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_core.runnables import Runnable, RunnableConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import measure as m

if TYPE_CHECKING:
    from collections.abc import Iterator

FEW = 1_000
FORMATS = ("jsonl", "parquet")
TEXT = "a review of some length, which says what it has to say and a little more, number "
COLUMNS = (
    "run, seconds",
    "run, CPU µs/row",
    "run, MB over a thousand rows",
    "store, bytes/row",
    "status, CPU s over a thousand",
    "export, CPU µs/row",
    "export, MB over a thousand rows",
)


class Answers(Runnable[Any, Any]):
    """Answers with a sentence at once, after letting others run: what is measured is ours."""

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002, ARG002
        return f"It is positive, and it says so in many words: {input['text'][-12:]}"

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002, ARG002
        await asyncio.sleep(0)
        return self.invoke(input)


chain = Answers()


class Took(NamedTuple):
    """What one command took."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def command(*words: object) -> Took:
    """Run one command of ours to its end, in a process of its own."""
    typed = [sys.executable, "-m", "cottonpalm", *map(str, words)]
    begun = time.perf_counter()
    process = os.posix_spawn(
        sys.executable,
        typed,
        {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path[:1], os.environ.get("PYTHONPATH", "")])},
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)],
    )
    _, status, used = os.wait4(process, 0)
    if status:
        raise SystemExit(f"{' '.join(typed)} ended with {os.waitstatus_to_exitcode(status)}")
    return Took(time.perf_counter() - begun, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def rows_of(rows: int) -> Iterator[dict[str, Any]]:
    """What the input holds, with an id."""
    for number in range(rows):
        yield {"id": f"r{number}", "text": f"{TEXT}{number}"}


def written(path: Path, rows: int) -> Path:
    """Have the input written."""
    writer = get_context("spawn").Process(target=write, args=(path, rows))
    writer.start()
    writer.join()
    if writer.exitcode:
        raise SystemExit(f"{path} was not written")
    return path


def write(path: Path, rows: int) -> None:
    """Write the input."""
    if path.suffix == ".jsonl":
        with path.open("w") as file:
            file.writelines(f"{json.dumps(row)}\n" for row in rows_of(rows))
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("id", pa.string()), ("text", pa.string())])
    with pq.ParquetWriter(path, schema) as file:
        for first in range(0, rows, 50_000):
            numbers = range(first, min(rows, first + 50_000))
            columns = [[f"r{n}" for n in numbers], [f"{TEXT}{n}" for n in numbers]]
            file.write_table(pa.table(columns, schema=schema))


def measured(folder: Path, kind: str, rows: int) -> dict[str, Any]:
    """Run, status and export of so many rows."""
    source, store = written(folder / f"in{rows}.{kind}", rows), folder / f"{kind}{rows}.db"
    out, again = folder / f"out{rows}.{kind}", folder / f"again{rows}.{kind}"
    kept = ("--store", store)
    run = command(
        "run",
        source,
        "-o",
        out,
        "--chain",
        "bench.command:chain",
        "--id-field",
        "id",
        "--run",
        "scale",
        *kept,
    )
    bytes_ = sum(part.stat().st_size for part in folder.glob(f"{store.name}*"))
    status = command("status", *kept)
    export = command("export", "scale", "-o", again, *kept)
    for path in (source, out, again, *folder.glob(f"{store.name}*")):
        path.unlink()
    return {"run": run, "status": status, "export": export, "store": bytes_ / rows}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--format", choices=FORMATS, action="append")
    options.add_argument("--folder", help="where the files go; ten million rows need 20 GB")
    given = options.parse_args()
    m.headline(
        f"{given.rows:,} rows by the command line, with the store",
        f"<= 60 MB over {FEW:,} rows; status <= 1 s of CPU over that of {FEW:,} rows",
    )
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        for kind in given.format or FORMATS:
            few, many = (measured(Path(name), kind, rows) for rows in (FEW, given.rows))
            run, status, export = many["run"], many["status"], many["export"]
            figures = [
                run.wall_s,
                (run.cpu_s - few["run"].cpu_s) / given.rows * 1e6,
                run.peak_mb - few["run"].peak_mb,
                many["store"],
                status.cpu_s - few["status"].cpu_s,
                (export.cpu_s - few["export"].cpu_s) / given.rows * 1e6,
                export.peak_mb - few["export"].peak_mb,
            ]
            print(f"  {kind}")
            for column, figure in zip(COLUMNS, figures, strict=True):
                print(f"    {column:32} {figure:10.2f}", flush=True)


if __name__ == "__main__":
    main()
