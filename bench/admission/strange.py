"""Providers that the family does not have: `python -m bench.admission.strange 1 200`, from the repository's root.

These are other kinds of servers, each with parameters drawn at random. No oracle knows them, so a score is the wall
time of the best of many fixed clients (so many in flight, so many a second), found afterwards, over the client's: at
most 1.

- `box`: who is rejected shuts the door for everybody for a while.
- `slow refusal`: a rejection takes as long as an answer.
- `reserved`: a bucket of tokens is charged what an answer might have, and given back what it had not.
- `soft`: the more there are, the more are rejected, from none to all.
- `scaling`: the number that fit grows while all are used, and shrinks while they are not.
- `smooth`: each takes longer the more there are, from the first on; there is no knee.
- `cold`: the first answers take many times as long.
- `nodes`: several nodes behind a balancer that picks at random, each with a number of its own.
- `tide`: the number or the rate rises and falls all the time.
- `sliding`: so many in any so many seconds, with a second to wait named, or nothing.
- `turns`: so many answers are made at once, all others wait in a line, and none is rejected.
- `lottery`: beside a number, a share is rejected by chance however little is asked, and all are told how long to wait.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict, deque
from dataclasses import replace
from heapq import heappop, heappush
from itertools import product
from random import Random
from statistics import mean
from typing import TYPE_CHECKING, Final, NamedTuple

from bench.admission.drawn_clients import CLIENTS
from bench.admission.family import MOST_IN_FLIGHT, World, draw
from bench.admission.virtual import NOTHING, Call, Run, Sharing, Told

from cottonpalm import clock

if TYPE_CHECKING:
    from bench.admission.virtual import Client


def _log(rng: Random, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


class Server(Run):
    """A server of one kind. `admits` decides, `takes_s` says how long an answer takes."""

    def __init__(self, world: World, client: Client, *, horizon_s: float) -> None:
        super().__init__(world, client, horizon_s=horizon_s)
        self.rng = Random(f"strange {world.seed}")  # the server's parameters
        self.there = 0
        self.named_s = self.rng.choice([None, None, 1.0])
        self.ends: list[tuple[float, int, Call]] = []
        self.drawn()

    def drawn(self) -> None:
        """Draw the parameters."""

    def admits(self, t: float, call: Call) -> bool:
        raise NotImplementedError

    def takes_s(self, t: float, call: Call) -> float:
        return self.world.latency_s * call.factor

    def left(self, t: float, call: Call) -> None:
        """An answer has been made."""

    def _arrive(self, t: float, call: Call) -> None:
        world = self.world
        while self.ends and self.ends[0][0] <= t:
            at, _, gone = heappop(self.ends)
            self.there -= 1
            self.left(at, gone)
        if not self.admits(t, call):
            refused_s = t + world.net_s + world.refusal_s * (0.5 + 0.5 * self._chance.expovariate(1.0))
            return self._reply(refused_s, call, 429, Told(self.named_s))
        takes_s = self.takes_s(t, call)
        self.there += 1
        heappush(self.ends, (t + takes_s, call.number, call))
        if takes_s + 2 * world.net_s > world.timeout_s:
            return self._reply(call.sent_s + world.timeout_s, call, 0)
        return self._reply(t + takes_s + world.net_s, call, 200, NOTHING)


class Capped(Server):
    def drawn(self) -> None:
        self.cap = round(_log(self.rng, 4, 300))

    def admits(self, t: float, call: Call) -> bool:
        return self.there < self.cap


class Lottery(Capped):
    def drawn(self) -> None:
        super().drawn()
        self.share, self.named_s = _log(self.rng, 0.003, 0.1), _log(self.rng, 0.05, 5.0)

    def admits(self, t: float, call: Call) -> bool:
        return self._chance.random() >= self.share and super().admits(t, call)


class Box(Capped):
    def drawn(self) -> None:
        super().drawn()
        self.for_s, self.until_s = _log(self.rng, 0.3, 10.0), 0.0
        self.longer = self.rng.random() < 0.5

    def admits(self, t: float, call: Call) -> bool:
        shut = t < self.until_s
        fits = super().admits(t, call) and not shut
        if not fits and (not shut or self.longer):
            self.until_s = t + self.for_s
        return fits


class SlowRefusal(Capped):
    def drawn(self) -> None:
        super().drawn()
        self.world = replace(self.world, refusal_s=self.world.latency_s * _log(self.rng, 0.3, 1.5))


class Bucket(Server):
    """So many tokens a second."""

    def drawn(self) -> None:
        world = self.world
        self.most_out = world.tokens_out * self.rng.choice([4, 10, 30])
        self.rate = _log(self.rng, 2, 100) * world.mean_of("tokens")
        self.full = max(self.rate * _log(self.rng, 1, 60), 3 * (self.most_out + world.tokens_in * 4))
        self.level, self.at = self.full, 0.0

    def fill(self, t: float) -> None:
        self.level, self.at = min(self.full, self.level + self.rate * (t - self.at)), max(t, self.at)

    def admits(self, t: float, call: Call) -> bool:
        self.fill(t)
        charged = min(self.full, call.tokens_in + self.most_out)
        if self.level < charged:
            return False
        self.level -= charged
        return True

    def left(self, t: float, call: Call) -> None:
        self.level = min(self.full, self.level + max(0.0, self.most_out - call.tokens_out))


class Soft(Server):
    def drawn(self) -> None:
        self.none = _log(self.rng, 4, 200)
        self.all = self.none * self.rng.uniform(1.2, 3.0)

    def admits(self, t: float, call: Call) -> bool:
        return self._chance.random() > (self.there - self.none) / (self.all - self.none)


class Scaling(Capped):
    def drawn(self) -> None:
        self.cap = self.least = round(_log(self.rng, 3, 30))
        self.most, self.step_s = (
            self.cap * self.rng.uniform(3, 20),
            self.world.latency_s * self.rng.uniform(1, 8),
        )
        self.looked_s, self.used = 0.0, 0.0

    def admits(self, t: float, call: Call) -> bool:
        self.used = max(self.used, self.there / self.cap)
        while t - self.looked_s > self.step_s:
            self.looked_s += self.step_s
            grown = self.cap * 1.4 if self.used >= 0.8 else self.cap * 0.8
            self.cap, self.used = round(max(self.least, min(self.most, grown + 0.5))), self.there / self.cap
        return super().admits(t, call)


class Smooth(Run):
    """Its speed is shared: at `half` in flight it does half of what it can do at most."""

    def __init__(self, world: World, client: Client, *, horizon_s: float) -> None:
        super().__init__(replace(world, knee=MOST_IN_FLIGHT), client, horizon_s=horizon_s)
        self.sharing = Batching(self.world, _log(Random(f"strange {world.seed}"), 1, 60))


class Batching(Sharing):
    def __init__(self, world: World, half: float) -> None:
        super().__init__(world)
        self.half = half

    def _speed(self, t: float) -> float:
        return 1 / (1 + len(self.there) / self.half)


class Cold(Capped):
    def drawn(self) -> None:
        super().drawn()
        self.warm_s, self.times = self.world.latency_s * self.rng.uniform(2, 10), self.rng.uniform(3, 15)

    def takes_s(self, t: float, call: Call) -> float:
        slow = 1 + self.times * max(0.0, 1 - t / self.warm_s)
        return self.world.latency_s * call.factor * slow


class Nodes(Server):
    def drawn(self) -> None:
        self.nodes: list[int] = [0] * self.rng.randint(2, 8)
        self.each = round(_log(self.rng, 2, 60))
        self.of: dict[int, int] = {}

    def admits(self, t: float, call: Call) -> bool:
        node = self._chance.randrange(len(self.nodes))
        if self.nodes[node] >= self.each:
            return False
        self.nodes[node] += 1
        self.of[call.number] = node
        return True

    def left(self, t: float, call: Call) -> None:
        self.nodes[self.of.pop(call.number)] -= 1


class Tide(Server):
    def drawn(self) -> None:
        self.by_rate = self.rng.random() < 0.5
        self.mean = _log(self.rng, 3, 100) if self.by_rate else _log(self.rng, 6, 200)
        self.period_s, self.swing = _log(self.rng, 10, 300), self.rng.uniform(0.2, 0.8)
        self.level, self.at = 1.0, 0.0

    def now(self, t: float) -> float:
        return self.mean * (1 + self.swing * math.sin(2 * math.pi * t / self.period_s))

    def admits(self, t: float, call: Call) -> bool:
        if not self.by_rate:
            return self.there < self.now(t)
        self.level, self.at = min(max(1.0, self.mean / 2), self.level + self.now(t) * (t - self.at)), t
        if self.level < 1:
            return False
        self.level -= 1
        return True


class Sliding(Server):
    def drawn(self) -> None:
        self.length_s = _log(self.rng, 1, 60)
        self.most = max(3, round(_log(self.rng, 1, 60) * self.length_s))
        self.lately: deque[float] = deque()
        self.counts_all = self.rng.random() < 0.3

    def admits(self, t: float, call: Call) -> bool:
        while self.lately and self.lately[0] <= t - self.length_s:
            self.lately.popleft()
        fits = len(self.lately) < self.most
        if fits or (self.counts_all and len(self.lately) < 2 * self.most):
            self.lately.append(t)
        return fits


class Turns(Server):
    def drawn(self) -> None:
        self.free: list[float] = [0.0] * round(_log(self.rng, 2, 100))

    def admits(self, t: float, call: Call) -> bool:
        return True

    def takes_s(self, t: float, call: Call) -> float:
        slot = min(range(len(self.free)), key=self.free.__getitem__)
        begins_s = max(t, self.free[slot])
        self.free[slot] = begins_s + self.world.latency_s * call.factor
        return self.free[slot] - t


MANY: Final = 0.15  # of a fixed client's rows may be rejected once
MOSTS: Final = (2, 4, 8, 16, 32, 64, 128, 256, 1_000)
RATES: Final = (1e9, 100.0, 50.0, 25.0, 12.0, 6.0, 3.0, 1.5)
NEAR: Final = (0.7, 0.84, 1.0, 1.2, 1.4)
KINDS: Final[dict[str, type[Run]]] = {
    "box": Box, "slow refusal": SlowRefusal, "reserved": Bucket, "soft": Soft, "scaling": Scaling, "smooth": Smooth,
    "cold": Cold, "nodes": Nodes, "tide": Tide, "sliding": Sliding, "turns": Turns,
    "lottery": Lottery,
}  # fmt: skip


class TooMany(Exception):
    """A client whose requests are rejected so often is none to compare with."""


class Fixed:
    """So many in flight, so many a second, evenly. A wait that is named is obeyed; else it asks again soon."""

    def __init__(self, world: World, most: int, rate: float) -> None:
        self.most, self.gap_s, self.again_s = most, 1 / rate, max(0.2, world.latency_s / 4)
        self.in_flight, self.may_be_rejected = 0, MANY * world.rows
        self.next_s = self.until_s = 0.0

    def wait_s(self, now: float, call: Call) -> float | None:
        if self.in_flight >= self.most:
            return None
        return max(0.0, self.next_s - now, self.until_s - now)

    def sent(self, now: float, call: Call) -> None:
        self.in_flight += 1
        self.next_s = max(now, self.next_s) + self.gap_s

    def came(self, now: float, call: Call, status: int, told: Told) -> float:
        self.in_flight -= 1
        if status == 200:
            return 0.0
        self.may_be_rejected -= 1
        if self.may_be_rejected < 0:
            raise TooMany
        self.until_s = max(self.until_s, now + (told.wait_s or 0.0))
        return told.wait_s or self.again_s

    def woke(self, now: float, call: Call) -> float:
        return 0.0


def world_of(seed: int) -> tuple[str, World]:
    """A kind, and what it has of a world of the family: times, tokens, lines."""
    rng = Random(f"strange kind {seed}")
    kind = rng.choice(list(KINDS))
    drawn = draw(seed)
    return kind, replace(
        drawn, rows=round(_log(rng, 400, 3_000)), latency_s=_log(rng, 0.2, 10.0), limits=(), says="nothing",
        latency_sigma=min(0.6, drawn.latency_sigma), tail_p=0.0,  # else the last answer decides
        timeout_s=600.0, features=(kind,), cap=0, knee=0,
    )  # fmt: skip


class Came(NamedTuple):
    """How a client's run compares with the best fixed one, and rejections per answer."""

    score: float
    rejected: float


class Best(NamedTuple):
    """The quickest of the fixed clients."""

    wall_s: float
    most: int
    rate: float


def best_fixed(kind: str, world: World) -> Best:
    """Of all the numbers and rates, first far apart, then near the best of those."""
    best = Best(math.inf, 0, 0.0)
    for most, rate in product(MOSTS, RATES):
        best = min(best, _fixed(kind, world, most, rate, best.wall_s))
    for times, faster in product(NEAR, NEAR) if best.most else ():
        most = max(1, round(best.most * times))
        best = min(best, _fixed(kind, world, most, best.rate * faster, best.wall_s))
    return best


def _fixed(kind: str, world: World, most: int, rate: float, horizon_s: float) -> Best:
    try:
        found = KINDS[kind](world, Fixed(world, most, rate), horizon_s=horizon_s).run()
    except TooMany:
        return Best(math.inf, most, rate)
    return Best(found.wall_s if found.done >= world.rows else math.inf, most, rate)


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.admission.strange", description=__doc__)
    options.add_argument("first", type=int)
    options.add_argument("last", type=int)
    options.add_argument("--client", action="append", choices=list(CLIENTS))
    options.add_argument("--each", action="store_true", help="a line for each run")
    given = options.parse_args()
    clients = [name for name in given.client or CLIENTS if name != "told"]
    found: dict[str, dict[str, list[Came]]] = defaultdict(lambda: defaultdict(list))
    for seed in range(given.first, given.last + 1):
        kind, world = world_of(seed)
        best = best_fixed(kind, world)
        if best.wall_s == math.inf:  # no fixed client comes through
            continue
        for client in clients:
            came = met(kind, world, client, best)
            found[kind][client].append(came)
            found["all"][client].append(came)
            if given.each:
                print(
                    f"{seed} {kind:13s} {client:10s} {came.score:.3f} rejected {came.rejected:.3f}, {world.rows} rows "
                    f"of {world.latency_s:.2f} s; best {best.wall_s:.1f} s by {best.most} at {best.rate:.3g}/s",
                    flush=True,
                )
    print("score: mean, worst / rejected per accepted: mean")
    print(f"{'kind':13s} runs  " + "  ".join(f"{name:>18s}" for name in clients))
    for kind, by in sorted(found.items()):
        cells = (f"{_said(by[name]):>18s}" for name in clients)
        print(f"{kind:13s} {len(by[clients[0]]):4d}  " + "  ".join(cells))


def met(kind: str, world: World, client: str, best: Best) -> Came:
    """What a client made of it, beside the best fixed one."""
    try:
        result = KINDS[kind](world, CLIENTS[client](world), horizon_s=8 * best.wall_s + 10).run()
    finally:
        clock.replace()
    score = min(1.0, best.wall_s / result.wall_s) * result.done / world.rows
    return Came(score, result.rejected / max(1, result.done))


def _said(came: list[Came]) -> str:
    scores = [each.score for each in came]
    return f"{mean(scores):.2f}, {min(scores):.2f} /{mean(each.rejected for each in came):6.1%}"


if __name__ == "__main__":
    main()
