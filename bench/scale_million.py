"""A million rows of sharded Parquet through Ray, and what the driver's memory was: `python bench/scale_million.py`.

`command`: `cottonpalm run IN/ -o OUT/ --executor ray`, whose workers read, answer, store and write. `data`: Ray Data's
`map_batches` with the same chain, which computes. A smaller run goes first, so that what
depends on the number of rows is seen.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.scale.chains import upper  # noqa: E402


def made(folder: Path, rows: int, files: int) -> None:
    """Write so many rows in so many files."""
    import pyarrow as pa
    from pyarrow import parquet

    folder.mkdir()
    each = -(-rows // files)
    for number in range(files):
        ids = range(number * each, min(rows, (number + 1) * each))
        texts = [f"the text of row {n}, as long as a short review may be" for n in ids]
        parquet.write_table(pa.table({"id": list(ids), "text": texts}), folder / f"part-{number:03}.parquet")


def command(folder: Path, workers: int) -> None:
    """In a process of its own: the command, as typed."""
    from cottonpalm.cli.app import main as cottonpalm

    words = [
        "run",
        str(folder / "in"),
        "-o",
        str(folder / "out"),
        "--chain",
        "tests.scale.chains:upper",
        "--no-progress",
    ]
    words += ["--store", str(folder / "s.db"), "--run", "all", "--executor", "ray", "--workers", str(workers)]
    code = cottonpalm(words)
    if code:
        raise SystemExit(code)


def data(folder: Path, workers: int) -> None:
    """In a process of its own: Ray Data."""
    import ray.data

    from cottonpalm.ray_data import asking

    rows = ray.data.read_parquet(str(folder / "in"))
    rows.map_batches(**asking(upper, name="all", workers=workers, batch_size=1024)).write_parquet(
        str(folder / "out")
    )


def begin_ray(folder: Path) -> None:
    import ray

    ray.init(
        "local",
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=150 * 1024 * 1024,
        log_to_driver=False,
        namespace="cottonpalm",
        _temp_dir=str(folder / "ray"),
    )


def one(how: str, rows: int, files: int, workers: int) -> None:
    with tempfile.TemporaryDirectory(prefix="cp-") as name:
        folder = Path(name)
        made(folder / "in", rows, files)
        words = [sys.executable, __file__, how, "--inside", name, "--workers", str(workers)]
        begun = time.monotonic()
        subprocess.run(words, check=True, cwd=ROOT)
        seconds = time.monotonic() - begun
        check(folder, rows)
    print(f"{how}: {rows:,} rows in {files} files, {workers} workers: all there, {seconds:.0f} s", flush=True)


def check(folder: Path, rows: int) -> None:
    """Each row is there once, with its own answer."""
    from pyarrow import parquet

    seen = bytearray(rows)
    for file in (folder / "out").glob("*.parquet"):
        for batch in parquet.ParquetFile(file).iter_batches(columns=None):
            column = "output" if "output" in batch.schema.names else "answer"
            for id_, text, answer in zip(
                *(batch.column(n).to_pylist() for n in ("id", "text", column)), strict=True
            ):
                if seen[id_] or answer != text.upper():
                    raise SystemExit(f"row {id_} is there twice, or has another's answer")
                seen[id_] = 1
    if sum(seen) != rows:
        raise SystemExit(f"{rows - sum(seen)} rows are missing")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("how", choices=("command", "data"))
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--files", type=int, default=20)
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--once", action="store_true", help="without the smaller run")
    options.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    given = options.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")
    if given.inside is None:
        for rows in [given.rows] if given.once else [given.rows // 50, given.rows]:
            one(given.how, rows, given.files, given.workers)
        return
    begin_ray(given.inside)
    before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    cpu_s = time.process_time()
    {"command": command, "data": data}[given.how](given.inside, given.workers)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"the driver's peak: {peak_mb:.0f} MB, {peak_mb - before_mb:.0f} above what it had with Ray alone;"
        f" {time.process_time() - cpu_s:.1f} s of its CPU",
        flush=True,
    )


if __name__ == "__main__":
    main()
