"""Memory of many lazy rows that wait for batches: `python bench/batch_rows.py --rows 10000 50000 250000`.

The whole executor: rows read lazily, recorded, packed into batches of at most 50,000 rows and 200 MB, written down in a
store, submitted to the loopback provider in a process of its own, collected in random order, and run again with their
answers. The provider ends a batch at its first look, so not all rows are out at once; the most that were is printed.
The chain asks over HTTP without an SDK (`tests/support/lean.py`), else the SDK's own work would be most of the time.
Each number of rows runs in a fresh process.

`--ways`: what a row of prompt | ChatOpenAI | parser costs instead: live, and through batches by the general path (the
SDK makes each request and each result) and by the lean line.
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
from statistics import median
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


WAYS: dict[str, dict[str, str]] = {  # of a chain with an SDK
    "live": {"mode": "live", "transport": "fast"},
    "batch, general path": {"mode": "batch", "transport": "stock"},
    "batch, lean line": {"mode": "batch", "transport": "fast"},
}


def _bare(url: str) -> Any:
    """A chain without an SDK."""
    import httpx2
    from tests.support.lean import asks

    return asks(httpx2.AsyncClient(), "sk-test", url=url, says=lambda row: row["text"])


def _with_sdk(url: str) -> Any:
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate
    from langchain_openai import ChatOpenAI

    model_class: Any = ChatOpenAI
    model = model_class(model=MODEL, base_url=url, api_key="sk-test", max_retries=0)
    return ChatPromptTemplate.from_template("{text}") | model | StrOutputParser()


def run(rows: int, size: int, folder: Path, way: str | None) -> None:
    """One run in this process; answers with its memory and CPU."""
    from cottonpalm import BatchLane, BatchProcessor

    with provider(looks=1, shuffle=7) as addresses:
        chain = (_with_sdk if way else _bare)(addresses["openai"])
        options: dict[str, Any] = {"mode": "batch", "run": "bench", "store_inputs": False}
        options |= {"lane": BatchLane(hosts=addresses["hosts"], poll_s=1.0), **WAYS.get(way or "", {})}
        _drain(BatchProcessor(chain, store=folder / "first.db", **options), 20, size, options["mode"])
        before, cpu_s, began = m.now_mb(), time.process_time(), time.perf_counter()
        processor = BatchProcessor(chain, store=folder / "s.db", **options)
        most_out = _drain(processor, rows, size, options["mode"])
        m.answer(
            mb=m.peak_mb() - before,
            row_us=(time.process_time() - cpu_s) / rows * 1e6,
            took_s=time.perf_counter() - began,
            out=most_out,
        )


def _drain(processor: Any, rows: int, size: int, lane: str) -> int:
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
            assert (outcome.status, outcome.lane) == ("ok", lane), outcome
            assert f"row {outcome.index}: " in outcome.output, outcome
            done += 1
        over.set()
    assert done == rows
    return out


def compare(rows: int, size: int) -> None:
    """The ways beside each other, turn by turn, each in a fresh process."""
    m.headline(
        f"CPU of {rows:,} rows of prompt | ChatOpenAI | parser, {size:,} bytes each (fresh processes)",
        "the lean line takes at most half of the general path",
    )
    command = ("batch_rows.py", "--alone", "--rows", rows, "--text-bytes", size, "--way")
    turns = [
        {way: m.fresh(*command, way)["row_us"] for way in m.rotated(list(WAYS), turn)} for turn in range(3)
    ]
    found = {way: [turn[way] for turn in turns] for way in WAYS}
    general = found["batch, general path"]
    table = [[way, median(us), m.times(us, general)] for way, us in found.items()]
    return m.table(["way", "CPU us/row", "of the general path"], table)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, nargs="+", default=[10_000, 50_000, 250_000])
    options.add_argument("--text-bytes", type=int, default=1_000, help="of each row's text")
    options.add_argument("--ways", action="store_true", help="CPU of a row with an SDK: live, and in batches")
    options.add_argument("--way", help=argparse.SUPPRESS)
    options.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.alone:
        with tempfile.TemporaryDirectory() as folder:
            return run(given.rows[0], given.text_bytes, Path(folder), given.way)
    if given.ways:
        return compare(given.rows[0], given.text_bytes)
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
