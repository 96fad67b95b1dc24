"""Providers drawn at random that go down and come back, in virtual time: `python bench/outages.py FIRST LAST`.

What a run loses by their outages: rows, and time beside one who knew the limits and the outages. See
tests/engine/outages.py.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from os import cpu_count
from pathlib import Path
from statistics import mean, median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import measure as m
from bench.by_seed import seeds
from tests.engine.outages import Drawn, Went, drawn, went


def one(seed: int) -> tuple[Drawn, Went]:
    """A world, and how it went."""
    world = drawn(seed)
    return world, went(world)


def line(name: str, each: list[tuple[Drawn, Went]]) -> list[object]:
    """What they come to."""
    speeds = [how.speed for _, how in each]
    rows, failed = sum(world.rows for world, _ in each), sum(how.failed for _, how in each)
    return [
        name,
        len(each),
        mean(speeds),
        median(speeds),
        min(speeds),
        mean(how.asked for _, how in each),
        failed,
        rows,
    ]


def main() -> int:
    with ProcessPoolExecutor(cpu_count()) as workers:
        found = list(workers.map(one, seeds(__doc__)))
    m.headline("Runs through outages, in virtual time", "no row failed, none wrong, none answered twice")
    kinds = defaultdict(list)
    for world, how in found:
        kinds[world.way].append((world, how))
        kinds["few allowed" if world.most else "as many as fit"].append((world, how))
        if how.failed or how.wrong or how.twice or how.stopped:
            print(f"{world}\n  {how}")
    heads = ["down by", "runs", "ideal/took", "median", "worst", "requests/row", "rows failed", "of"]
    m.table(heads, [*(line(name, each) for name, each in sorted(kinds.items())), line("all", found)])
    return sum(how.wrong + how.twice for _, how in found) > 0


if __name__ == "__main__":
    sys.exit(main())
