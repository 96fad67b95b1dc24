"""The limiter and others on drawn worlds: `python -m bench.admission.drawn 5000 5199`, from the repository's root.

A score is the oracle's wall time over the client's, at most 1; a run that is not ended after eight times the oracle's
is scaled down by what is missing. Every world counts the same.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, NamedTuple

from bench.admission.drawn_clients import CLIENTS
from bench.admission.family import draw
from bench.admission.virtual import Run, ideal

from cottonpalm import clock

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.admission.family import World


class Seen(NamedTuple):
    """What one client made of one world."""

    client: str
    seed: int
    score: float
    rejected: float
    ended: bool
    features: tuple[str, ...]


def features_of(world: World, ideal_s: float) -> tuple[str, ...]:
    """What is special about it, for the table by feature."""
    answers, pace = ideal_s / world.latency_s, world.pace
    return (
        *world.features,
        f"says {world.says}",
        "run < 10 answers"
        if answers < 10
        else "run 10-100 answers"
        if answers < 100
        else "run > 100 answers",
        "pace < 3/s"
        if pace < 3
        else "pace 3-30/s"
        if pace < 30
        else "pace 30-200/s"
        if pace < 200
        else "pace > 200/s",
        "latency < 1 s"
        if world.latency_s < 1
        else "latency 1-5 s"
        if world.latency_s < 5
        else "latency > 5 s",
    )


def one(client: str, world: World, ideal_s: float) -> Seen:
    """One run."""
    try:
        result = Run(world, CLIENTS[client](world), horizon_s=8 * ideal_s + 10).run()
    finally:
        clock.replace()
    score = min(1.0, ideal_s / result.wall_s) * result.done / world.rows
    ended = result.done >= world.rows
    return Seen(
        client, world.seed, score, result.rejected / max(1, result.done), ended, features_of(world, ideal_s)
    )


HEAD = f"{'client':20s} runs  mean  median  p5   p10  worst | rejected per accepted: mean, median, p90; not ended"


def line(name: str, seen: Sequence[Seen]) -> str:
    scores, rejected = sorted(s.score for s in seen), sorted(s.rejected for s in seen)
    return (
        f"{name:20s} {len(seen):4d}  {mean(scores):.3f} {median(scores):.3f} {scores[len(scores) // 20]:.3f} "
        f"{scores[len(scores) // 10]:.3f} {scores[0]:.3f} | {mean(rejected):7.1%} {median(rejected):6.1%} "
        f"{rejected[len(rejected) * 9 // 10]:7.1%}  {sum(not s.ended for s in seen):3d}"
    )


def by_feature(seen: Iterable[Seen], clients: Sequence[str]) -> None:
    groups: dict[str, dict[str, list[Seen]]] = defaultdict(lambda: defaultdict(list))
    for each in seen:
        for feature in each.features:
            groups[feature][each.client].append(each)
    print(f"\n{'feature':20s} runs  " + "  ".join(f"{name:>16s}" for name in clients))
    for feature, found in sorted(groups.items()):
        cells = [
            f"{mean(s.score for s in found[n]):.2f} /{median(s.rejected for s in found[n]):6.1%}"
            for n in clients
        ]
        print(f"{feature:20s} {len(found[clients[0]]):4d}  " + "  ".join(f"{cell:>16s}" for cell in cells))


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.admission.drawn", description=__doc__)
    options.add_argument("first", type=int)
    options.add_argument("last", type=int)
    options.add_argument(
        "--client", action="append", choices=list(CLIENTS), help="only this one; may be repeated"
    )
    options.add_argument("--most-rows", type=int, default=50_000, help="cut longer runs short")
    options.add_argument("--narrow", action="store_true", help="the family as it was first drawn")
    options.add_argument("--each", action="store_true", help="a line for each run")
    options.add_argument("--out", type=Path, help="append one JSON line for each run")
    given = options.parse_args()
    clients, seen = given.client or list(CLIENTS), list[Seen]()
    for seed in range(given.first, given.last + 1):
        world = draw(seed, most_rows=given.most_rows, wide=not given.narrow)
        ideal_s = ideal(world).wall_s
        for client in clients:
            seen.append(one(client, world, ideal_s))
            if given.each:
                print(
                    f"{client:10s} {seed} {seen[-1].score:.3f} {seen[-1].rejected:.3f} {' '.join(seen[-1].features)}"
                )
            if given.out:
                with given.out.open("a") as file:
                    file.write(json.dumps(seen[-1]._asdict()) + "\n")
    print(HEAD)
    for client in clients:
        print(line(client, [each for each in seen if each.client == client]))
    by_feature(seen, clients)


if __name__ == "__main__":
    main()
