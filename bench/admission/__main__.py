"""Ours and others against simulated providers: `python -m bench.admission --help`, from the repository's root."""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from statistics import median
from typing import TYPE_CHECKING

from bench.admission import measure
from bench.admission.scenarios import ALL, BY_NAME

if TYPE_CHECKING:
    from collections.abc import Sequence

HEAD = (
    "scenario",
    "policy",
    "goodput",
    "worst",
    "rejected",
    "worst",
    "reach",
    "fall",
    "rise",
    "storm",
    "in flight",
)


def one(name: str, seed: int, policies: Sequence[str]) -> dict[str, measure.Result]:
    """All policies against one seed of one scenario, and the oracle once."""
    scenario = BY_NAME[name]
    best = measure.oracle(scenario, seed)
    return {
        policy: measure.compare(scenario, measure.run(scenario, seed, policy)[0], best) for policy in policies
    }


def line(name: str, policy: str, results: list[measure.Result]) -> tuple[str, ...]:
    """Medians and worsts over the seeds."""
    goodputs, rejections = [r.goodput for r in results], [r.rejected for r in results]

    def mid(values: list[float | None]) -> str:
        known = [value for value in values if value is not None]
        return f"{median(known):.1f}" if known else "-"

    return (
        name,
        policy,
        f"{median(goodputs):.1%}",
        f"{min(goodputs):.1%}",
        f"{median(rejections):.2%}",
        f"{max(rejections):.2%}",
        mid([r.reach for r in results]),
        mid([r.recover for r in results]),
        mid([r.rise for r in results]),
        "-" if results[0].storm is None else f"{median(r.storm or 0.0 for r in results):.1%}",
        f"{median(r.in_flight for r in results):.0f}",
    )


def table(lines: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(cell) for cell in column) for column in zip(HEAD, *lines, strict=True)]
    for cells in (HEAD, *lines):
        print(
            "  ".join(
                c.ljust(w) if n < 2 else c.rjust(w)
                for n, (c, w) in enumerate(zip(cells, widths, strict=True))
            )
        )


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.admission", description=__doc__)
    options.add_argument("--seeds", type=int, default=10)
    options.add_argument(
        "--scenario", action="append", choices=list(BY_NAME), help="only this one; may be repeated"
    )
    options.add_argument(
        "--policy", action="append", choices=list(measure.POLICIES), help="only this one; likewise"
    )
    options.add_argument("--quick", action="store_true", help="two seeds, ours alone")
    options.add_argument("--processes", type=int, default=1)
    given = options.parse_args()
    names = given.scenario or [scenario.name for scenario in ALL]
    policies = given.policy or (["ours"] if given.quick else list(measure.POLICIES))
    seeds = 2 if given.quick else given.seeds
    print(
        "Goodput over that of a client told the true limits; rejected per accepted; round trips to 90 % of its\n"
        "pace, from the start, after a fall and after a rise of the limit; rejections per accepted within ten round\n"
        "trips of a fall; mean in flight.\n"
        f"Medians and worsts over {seeds} seeds.\n"
    )
    with ProcessPoolExecutor(given.processes) as pool:
        jobs = {name: [pool.submit(one, name, seed, policies) for seed in range(seeds)] for name in names}
        found = {name: [job.result() for job in of] for name, of in jobs.items()}
    for policy in policies:
        by_name = {name: [results[policy] for results in found[name]] for name in names}
        worst_first = sorted(by_name, key=lambda name: median(r.goodput for r in by_name[name]))
        table([line(name, policy, by_name[name]) for name in worst_first])
        print()


if __name__ == "__main__":
    main()
