"""Limits that let through hardly more than they refill: `python -m bench.admission.shallow 0 79`, from the root.

Who enforces a limit per minute by the second, or lets one request go at a time, keeps nothing saved up: the first few
requests are rejected, and a rejection does not say whether they were too many or too fast. Where answers take long, to
wait for one to find out costs most of a run. The family (`family.py`) has few of these worlds; here are nothing else.

- `rate`, `tokens`: a bucket of one to four requests, or tokens for as many, seven times of ten; else of up to sixty.
- `both`: such a rate, and a number in flight that is near what the rate needs.
- `number`: a number in flight alone, which looks the same at the start, and must not be taken for a rate.

Each with answers of 5 to 60 seconds (`long`), and of 0.3 to 5 (`short`).
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from itertools import product
from random import Random
from typing import Final

from bench.admission.drawn import HEAD, line, one
from bench.admission.drawn_clients import CLIENTS
from bench.admission.family import Headers, Limit, World, draw
from bench.admission.virtual import ideal

KINDS: Final = ("rate", "tokens", "both", "number")
ANSWERS: Final = {"long": (5.0, 60.0), "short": (0.3, 5.0)}
MOST_ROWS: Final = 3000


def drawn(seed: int, kind: str, answers: str) -> World:
    """The world of this seed."""
    rng = Random(f"shallow {kind} {answers} {seed}")

    def log(low: float, high: float) -> float:
        return math.exp(rng.uniform(math.log(low), math.log(high)))

    latency_s = log(*ANSWERS[answers])
    world = replace(
        draw(1, most_rows=1), seed=seed, latency_s=latency_s, latency_sigma=rng.choice([0.05, 0.3, 0.6]),
        timeout_s=20 * latency_s, refusal_s=log(0.005, 0.3), net_s=log(0.005, 0.1), tokens_sigma=0.6,
        says=rng.choice(["nothing", "nothing", "retry-after"]), headers=Headers(), limits=(), cap=0, knee=0, steps=(),
        outages=(), others=(0.0, 1.0, 0.0), tail_p=0.0, hang_p=0.0, error_p=0.0, inside_p=0.0, chance_429=0.0,
        reject_cost=0.0, features=(kind, answers),
    )  # fmt: skip
    if kind == "number":
        cap = round(log(2, 150))
        return replace(world, cap=cap, rows=round(min(MOST_ROWS, max(100.0, cap * log(5, 60)))))
    rate = log(0.5, 20) if answers == "long" else log(1, 60)
    depth = rng.uniform(1, 4) if rng.random() < 0.7 else log(4, 60)
    unit = "tokens" if kind == "tokens" else "requests"
    limit = Limit(unit, rate * world.mean_of(unit), depth_s=max(depth, 3 if unit == "tokens" else 1) / rate)
    return replace(
        world,
        limits=(limit,),
        rows=round(min(MOST_ROWS, max(200.0, rate * latency_s * log(3, 40)))),
        cap=max(2, round(rate * latency_s * log(0.4, 2.5))) if kind == "both" else 0,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("first", type=int)
    parser.add_argument("last", type=int)
    parser.add_argument("--clients", nargs="+", default=["ours", "told"], choices=sorted(CLIENTS))
    given = parser.parse_args()
    print(HEAD)
    for kind, answers in product(KINDS, ANSWERS):
        worlds = [drawn(seed, kind, answers) for seed in range(given.first, given.last + 1)]
        best_s = [ideal(world).wall_s for world in worlds]
        for client in given.clients:
            seen = [one(client, world, wall_s) for world, wall_s in zip(worlds, best_s, strict=True)]
            print(line(f"{kind}, {answers}: {client}", seen), flush=True)


if __name__ == "__main__":
    main()
