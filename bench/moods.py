"""How long runs take against providers whose moods change, and which then are well: `python -m bench.moods 0 299`.

Each seed is one provider (`tests/support/moody.py`), in virtual time, with nothing told. `late` are the seconds from
the moment it is well to the end of the run; a client that knew all of it, with ten in flight, would need `ideal`.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from statistics import mean, median
from typing import Final, NamedTuple

from tests.support.moody import Moody, run_against

FIRST: Final = 10  # in flight: what every run begins with


class Seen(NamedTuple):
    """One run."""

    seed: int
    late_s: float
    ideal_s: float
    asked: float
    failed: int
    stopped: bool
    moods: str


def one(seed: int) -> Seen:
    provider = Moody(seed)
    went = run_against(provider)
    return Seen(
        seed,
        max(0.0, went.took_s - provider.well_s),
        provider.rows * provider.usual_s / FIRST,
        provider.asked / provider.rows,
        sum(outcome.status == "failed" for outcome in went.outcomes),
        went.stopped is not None,
        ", ".join(phase.mood for phase in provider.phases),
    )


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.moods", description=__doc__)
    options.add_argument("first", type=int)
    options.add_argument("last", type=int)
    options.add_argument("--worst", type=int, default=10, help="so many of the slowest, each with its moods")
    given = options.parse_args()
    with ProcessPoolExecutor() as pool:
        seen = list(pool.map(one, range(given.first, given.last + 1), chunksize=4))
    slow = sorted(seen, key=lambda each: each.late_s / each.ideal_s)
    ratios = [each.late_s / each.ideal_s for each in slow]
    print(
        f"{len(seen)} providers; late over ideal: mean {mean(ratios):.2f}, median {median(ratios):.2f}, "
        f"nine in ten below {ratios[len(ratios) * 9 // 10]:.2f}, worst {ratios[-1]:.2f}\n"
        f"sent per row {mean(each.asked for each in seen):.3f}, rows failed {sum(each.failed for each in seen)}, "
        f"runs stopped {sum(each.stopped for each in seen)}"
    )
    for each in reversed(slow[-given.worst :] if given.worst else []):
        print(f"  {each.seed}: {each.late_s:.0f} s late, ideal {each.ideal_s:.0f} s: {each.moods}")


if __name__ == "__main__":
    main()
