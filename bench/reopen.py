"""CPU and memory of opening a run whose rows are all done: `python bench/reopen.py --rows 1000000`.

The rows go through `start(rows, skip_stored=True)`: each must be recognised, none is called or read back.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from itertools import chain as chained
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import measure as m
from bench.overhead import Noop

from cottonpalm import BatchProcessor
from cottonpalm.engine.input.keys import content_key
from cottonpalm.protocols import StoredRow
from cottonpalm.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = "A sentence of an answer that somebody waited for. " * 10
NEW = 1_000
GROUP = 4_096


def row(number: int) -> dict[str, Any]:
    return {"number": number, "text": f"the text of row {number}"}


def edited(rows: int, where: str) -> Iterator[dict[str, Any]]:
    """The rows of the first run, edited: NEW others put in (new ones each time), or NEW taken out."""
    middle = rows // 2
    if where == "removed":
        return map(row, chained(range(NEW // 2, middle), range(middle + NEW // 2, rows)))
    cut, first = {"same": (rows, rows), "front": (0, rows), "middle": (middle, rows + NEW)}[where]
    new = 0 if where == "same" else NEW
    return chained(map(row, range(cut)), map(row, range(first, first + new)), map(row, range(cut, rows)))


def fill(path: Path, rows: int) -> None:
    """Write what a run of these rows leaves behind, without running it."""
    processor = BatchProcessor(Noop(), store=path, run="big")
    store = open_store(path)
    run = store.open_run("big", processor._builder.facts.description)
    record = b'{"o":"%s","a":1,"l":0.5,"i":null}' % TEXT.encode()
    for at in range(0, rows, GROUP):
        keys = [content_key(row(number)) for number in range(at, min(rows, at + GROUP))]
        group = [StoredRow(slot, key, key, 1, record) for slot, key in enumerate(keys, at)]
        run.write(group, lambda _error: None)
    run.close()
    store.close()


def reopen(path: Path, rows: int, where: str) -> None:
    """In a fresh process: everything is imported and one small run was made before the clock starts."""
    with BatchProcessor(Noop()).start([0]) as warm:
        list(warm)
    before_mb, begun = m.now_mb(), time.process_time()
    with BatchProcessor(Noop(), store=path, run="big").start(edited(rows, where), skip_stored=True) as run:
        called = sum(1 for _outcome in run)
        found = run.stats.stored
    m.answer(cpu_s=time.process_time() - begun, mb=m.peak_mb() - before_mb, found=found, called=called)


def source_s(rows: int) -> float:
    """What merely making the rows takes: part of every figure, and not ours."""
    begun = time.process_time()
    for _ in edited(rows, "same"):
        pass
    return time.process_time() - begun


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--reopen", nargs=2, metavar=("PATH", "WHERE"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.reopen:
        path, where = given.reopen
        reopen(Path(path), given.rows, where)
        return
    m.headline(
        f"Reopening a run of {given.rows:,} stored rows (fresh processes, 0.5 kB answers)",
        "<= 2 s of CPU per million rows, <= 40 MB, also with 1,000 rows taken out or put in",
    )
    print(f"  making the rows alone takes {source_s(given.rows):.2f} s of CPU")
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "big.db"
        fill(path, given.rows)
        for where in ("same", "removed", "front", "middle"):
            seen = m.fresh("reopen.py", "--rows", given.rows, "--reopen", path, where)
            lines.append([where, seen["cpu_s"], seen["mb"], seen["found"], seen["called"]])
    m.table(["rows", "CPU s", "MB", "found done", "called"], lines)


if __name__ == "__main__":
    main()
