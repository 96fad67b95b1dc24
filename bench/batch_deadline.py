"""What a deadline costs: price over the live price, by the policy of `mode="auto"` and by two simpler ones.

python -m bench.batch_deadline [RUNS] [FIRST SEED]: the policy's own decisions in a world with a clock of its own
(`tests/batchlane/scenario.py`): 10,000 rows, three hours, two rows a second live, log-normal turnarounds. "All at once"
pulls all batches back when what they have not done would be late; "alongside" lets live and batches work on the same
rows. Then worlds at random in which live plus the provider's cancel time could meet the deadline, in some of which
cancels hang: in how many it was met. The exit code is 1 where one was missed.
"""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from statistics import fmean

from tests.batchlane import scenario
from tests.batchlane.scenario import World
from tests.batchlane.test_deadline import world_of

from cottonpalm.engine.executors.batch import deadline as rules

POLICIES: tuple[scenario.Policy, ...] = ("ours", "all at once", "alongside", "live")
MEDIANS_MIN = (30.0, 90.0, 240.0, math.inf)


def prices(seeds: range) -> None:
    print("price over live price (rows paid twice), by the median turnaround")
    print(f"{'':14}" + "".join(f"{policy:>20}" for policy in POLICIES) + f"{'late':>8}{'came back':>12}")
    for minutes in MEDIANS_MIN:
        came = {
            policy: [scenario.run(World(median_s=60 * minutes, seed=seed), policy) for seed in seeds]
            for policy in POLICIES
        }
        shown = "".join(
            f"{fmean(one.price for one in ones):12.2f} ({fmean(one.twice for one in ones) / 100:4.1f} %)"
            for ones in came.values()
        )
        late = sum(one.at_s > World().deadline_s for one in came["ours"])
        could = sum(one.could for one in came["ours"])
        share = f"{sum(one.batch for one in came['ours']) / could:.0%}" if could else "-"
        print(f"{minutes:>10.0f} min{shown}{late:>8}{share:>12}")


def met(seeds: range) -> int:
    missed, twice, rows, batch = [], 0, 0, 0
    for seed in seeds:
        world = world_of(seed)
        came = scenario.run(world)
        twice, rows, batch = twice + came.twice, rows + world.rows, batch + came.batch
        if came.at_s > world.deadline_s:
            missed.append(seed)
    print(
        f"{len(seeds)} worlds: {len(missed)} deadlines missed {missed or ''}; {batch / rows:.0%} of all rows by batch,"
    )
    print(f"{twice / rows:.1%} paid twice, all of them in worlds where cancels hang")
    calm = [replace(world_of(seed), hangs=0.0) for seed in seeds[:100]]
    print(f"without hanging cancels: {sum(scenario.run(world).twice for world in calm)} rows paid twice")
    return len(missed)


def main() -> int:
    runs, first = (int(given) for given in (*sys.argv[1:], *("20", "0")[len(sys.argv) - 1 :]))
    print(
        f"reserve for all rows of the first table: {rules.reserve_s(10_000, World().live, 600.0) / 60:.0f} min\n"
    )
    prices(range(first, first + runs))
    print()
    return int(met(range(first, first + 10 * runs)) > 0)


if __name__ == "__main__":
    sys.exit(main())
