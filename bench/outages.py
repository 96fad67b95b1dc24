"""Providers drawn at random that go down and come back, in virtual time: `python bench/outages.py FIRST LAST`.

What a run loses by their outages: rows, and time beside one who knew the limits and the outages. From each seed come
one provider, and two or three endpoints that go down together or apart, whose ideal is that of one of them alone. See
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
from tests.engine.outages import Drawn, Went, drawn, drawn_together, went_together

Found = tuple[list[Drawn], Went]


def both(seed: int) -> list[Found]:
    """The worlds of a seed, and how each went."""
    return [(worlds, went_together(worlds)) for worlds in ([drawn(seed)], drawn_together(seed))]


def line(name: str, each: list[Found]) -> list[object]:
    """What they come to."""
    speeds = [how.speed for _, how in each]
    rows, failed = sum(worlds[0].rows for worlds, _ in each), sum(how.failed for _, how in each)
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


def names(worlds: list[Drawn]) -> list[str]:
    """The groups that they are of."""
    if len(worlds) > 1:
        return ["several endpoints"]
    return [worlds[0].way, "few allowed" if worlds[0].most else "as many as fit"]


def main() -> int:
    with ProcessPoolExecutor(cpu_count()) as workers:
        found = [each for pair in workers.map(both, seeds(__doc__)) for each in pair]
    m.headline("Runs through outages, in virtual time", "no row failed, none wrong, none answered twice")
    kinds = defaultdict(list)
    for worlds, how in found:
        for name in names(worlds):
            kinds[name].append((worlds, how))
        if how.failed or how.wrong or how.twice or how.stopped:
            print(*worlds, how, sep="\n  ")
    heads = ["down by", "runs", "ideal/took", "median", "worst", "requests/row", "rows failed", "of"]
    m.table(heads, [*(line(name, each) for name, each in sorted(kinds.items())), line("all", found)])
    return sum(how.wrong + how.twice for _, how in found) > 0


if __name__ == "__main__":
    sys.exit(main())
