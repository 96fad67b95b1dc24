"""Memory and first result of a million rows that are read lazily: `python bench/million.py --rows 10000000`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import measure as m
from bench.overhead import Noop

from cottonpalm import BatchProcessor

if TYPE_CHECKING:
    from collections.abc import Iterator

FEW = 1_000


def lazily(rows: int) -> Iterator[dict[str, Any]]:
    for number in range(rows):
        yield {"number": number, "text": f"the text of row {number}"}


def ours(rows: int) -> None:
    """`start` over a generator, its outcomes thrown away as they come."""
    _drain(1)  # imports, the loop's thread, the hook: once per process, whatever the number of rows
    begun = time.process_time()
    first = _drain(rows)
    m.answer(
        mb=m.peak_mb(), first_ms=(first - begun) * 1e3, row_us=(time.process_time() - begun) / rows * 1e6
    )


def _drain(rows: int) -> float:
    """The moment of the first outcome, in CPU time of the process."""
    first = 0.0
    with BatchProcessor(Noop(), concurrency=64).start(lazily(rows)) as run:
        for outcome in run:
            first = first or time.process_time()
            assert outcome.status == "ok"
    return first


async def theirs(rows: int) -> None:
    """`chain.abatch_as_completed` takes a list and makes a task of every row before the first one runs."""
    await Noop().abatch([0])
    begun, first = time.process_time(), 0.0
    async for _pair in Noop().abatch_as_completed(list(lazily(rows)), {"max_concurrency": 64}):
        first = first or time.process_time()
    m.answer(
        mb=m.peak_mb(), first_ms=(first - begun) * 1e3, row_us=(time.process_time() - begun) / rows * 1e6
    )


def measured(way: str, rows: int) -> list[object]:
    few = m.fresh("million.py", "--way", way, "--rows", FEW)
    many = m.fresh("million.py", "--way", way, "--rows", rows)
    return [way, rows, many["mb"], many["mb"] - few["mb"], many["first_ms"], many["row_us"]]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--theirs", type=int, default=50_000, help="rows of chain.abatch_as_completed")
    options.add_argument("--way", choices=["start", "abatch_as_completed"], help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.way == "start":
        return ours(given.rows)
    if given.way is not None:
        return asyncio.run(theirs(given.rows))
    m.headline(
        f"Memory of many lazy rows over {FEW:,}, and CPU until the first result (fresh processes, no-op chain)",
        "start: <= 40 MB more, first result within 20 ms of CPU, at any number of rows",
    )
    print(
        f"  chain.abatch_as_completed is given {given.theirs:,} rows: a million take it gigabytes and minutes"
    )
    lines = [measured("start", given.rows), measured("abatch_as_completed", given.theirs)]
    return m.table(["", "rows", "peak MB", "MB over few", "first result, CPU ms", "CPU µs/row"], lines)


if __name__ == "__main__":
    main()
