"""Memory of many lazy rows that wait for batches: `python bench/batch_rows.py --rows 10000 50000 250000`.

The whole executor: rows read lazily, recorded, packed into batches of at most 50,000 rows and 200 MB, written down in a
store, submitted to the loopback provider in a process of its own, collected in random order, and run again with their
answers. The provider ends a batch at its first look, so not all rows are out at once; the most that were is printed.
The chain asks over HTTP without an SDK (`tests/support/lean.py`), else the SDK's own work would be most of the time.
Each number of rows runs in a fresh process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import measure as m

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE = "The quick brown fox jumps over the lazy dog, and then it thinks about what it has done. "
MODEL = "gpt-4o-mini"


def lazily(rows: int, size: int) -> Iterator[dict[str, Any]]:
    text = (PIECE * (size // len(PIECE) + 1))[:size]
    for number in range(rows):
        yield {"text": f"row {number}: {text}"}


@contextmanager
def provider(**faults: Any) -> Iterator[dict[str, Any]]:
    command = [sys.executable, "-m", "tests.support.batch_provider"]
    with subprocess.Popen(
        command, cwd=m.ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            addresses = json.loads(server.stdout.readline())
            print(json.dumps(faults), file=server.stdin, flush=True)
            yield addresses
        finally:
            server.kill()


def run(rows: int, size: int, folder: Path) -> None:
    """One run in this process; answers with its memory and CPU."""
    import httpx2
    from tests.support.lean import asks

    from cottonpalm import BatchLane, BatchProcessor

    with provider(looks=1, shuffle=7) as addresses:
        client = httpx2.AsyncClient()
        chain = asks(client, "sk-test", url=addresses["openai"], says=lambda row: row["text"])
        lane = BatchLane(hosts=addresses["hosts"], poll_s=1.0)
        options: dict[str, Any] = {"mode": "batch", "run": "bench", "lane": lane, "store_inputs": False}
        _drain(BatchProcessor(chain, store=folder / "first.db", **options), 1, size)
        before, cpu_s, began = m.now_mb(), time.process_time(), time.perf_counter()
        processor = BatchProcessor(chain, store=folder / "s.db", **options)
        most_out = _drain(processor, rows, size)
        m.answer(
            mb=m.peak_mb() - before,
            row_us=(time.process_time() - cpu_s) / rows * 1e6,
            took_s=time.perf_counter() - began,
            out=most_out,
        )


def _drain(processor: Any, rows: int, size: int) -> int:
    """How many rows were out at once."""
    done = out = 0
    over = threading.Event()
    with processor.start(lazily(rows, size)) as run:

        def look() -> None:
            nonlocal out
            while not over.wait(0.5):
                with suppress(AttributeError):  # it has not begun
                    out = max(out, run.stats.out)

        threading.Thread(target=look, daemon=True).start()
        for outcome in run:
            assert outcome.status == "ok", outcome
            assert outcome.lane == "batch", outcome
            assert f"row {outcome.index}: " in outcome.output, outcome
            done += 1
        over.set()
    assert done == rows
    return out


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, nargs="+", default=[10_000, 50_000, 250_000])
    options.add_argument("--text-bytes", type=int, default=1_000, help="of each row's text")
    options.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.alone:
        with tempfile.TemporaryDirectory() as folder:
            return run(given.rows[0], given.text_bytes, Path(folder))
    m.headline(
        f"Memory of lazy rows of {given.text_bytes:,} bytes that all wait for batches at once (fresh processes)",
        "memory that does not grow with the rows' text",
    )
    found = []
    for rows in given.rows:
        took = m.fresh("batch_rows.py", "--alone", "--rows", rows, "--text-bytes", given.text_bytes)
        found.append(
            [
                f"{rows:,}",
                took["mb"],
                took["mb"] * 1024**2 / rows,
                took["row_us"],
                took["took_s"],
                f"{took['out']:,}",
            ]
        )
    return m.table(["rows", "MB more", "bytes/row", "CPU us/row", "s", "most out at once"], found)


if __name__ == "__main__":
    main()
