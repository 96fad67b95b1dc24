"""Providers drawn at random: one seed, one world, the same on every machine. Parameters only.

Each world is one run of `rows` requests, all in line from the beginning, against one provider. Whoever tunes on some
seeds reports on others. What a simulator makes of it (`virtual.py`), in seconds since the first request was sent:

- A request arrives `net_s` after it is sent, and every reply takes `net_s` back. A rejection is made `refusal_s` after
  the request arrived, of which half is fixed and half exponential.
- Checked at arrival, in this order: outages, chance, all limits. A request is charged to all limits only when all admit
  it; a rejected one burns `reject_cost` requests of each limit of requests.
- Admitted, it takes `latency_s * exp(latency_sigma * gauss)`, a few of them `tail_x` as long. `hang_p` never answer,
  `error_p` answer 500 after their time, `inside_p` answer 200 with an error inside.
- What is above the `cap` in flight is rejected, or by `when_full` its connection is reset, or it waits its turn.
- A knee shares its speed: beyond `knee` in flight all get slower, and by `knee_thrash` more than that.
- `says` is what the provider tells: a wait with each rejection unless "nothing" (whole seconds, rounded up, but for
  "retry-after-ms"; one second where the number in flight was the reason), and from "exact" on quotas with every reply.
  `Headers` says how what is shown differs from the truth. Rejections by chance and outages tell nothing.
- A bucket of tokens holds at least three mean requests; one larger than all of it passes when it is full.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from random import Random
from typing import Final

MOST_IN_FLIGHT: Final = 1_000  # of every client, the oracle too
SAYS: Final = ("nothing", "retry-after", "retry-after-ms", "exact", "minute", "old", "coarse", "wrong")
KINDS: Final = (
    (22, ("rate",)), (9, ("window",)), (12, ("tokens",)), (18, ("cap",)), (10, ("knee",)), (9, ("rate", "cap")),
    (4, ("tokens", "cap")), (5, ("rate", "tokens")), (3, ("rate", "tokens", "cap")), (3, ("knee", "rate")),
    (3, ("knee", "cap")), (2, ()),
)  # fmt: skip
WRONG: Final = ({"factor": 0.5}, {"factor": 3.0}, {"reset_factor": 0.2}, {"reset_factor": 4.0})


@dataclass(frozen=True, slots=True)
class Limit:
    """`rate` a second: a bucket of `depth_s` seconds' worth, or windows of `length_s`, the first cut short."""

    unit: str
    rate: float
    depth_s: float = 0.0
    length_s: float = 0.0
    offset_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Outage:
    """From `since_s` on, for `for_s`, this share of the requests fails at once with this status."""

    since_s: float
    for_s: float
    share: float
    status: int


@dataclass(frozen=True, slots=True)
class Headers:
    """How the shown limit, remaining and reset differ from the truth.

    Attributes:
        minute: the limit is shown per minute, whatever the depth of the bucket.
        old_s: what is shown was true up to so long ago.
        coarse: remaining is rounded down to this share of the limit.
        factor: remaining is shown times this.
        reset_factor: and the seconds until the reset.
        day: requests are shown per day, and never run out.
    """

    minute: bool = False
    old_s: float = 0.0
    coarse: float = 0.0
    factor: float = 1.0
    reset_factor: float = 1.0
    day: bool = False


@dataclass(frozen=True, slots=True)
class World:
    """One provider and one run. Zero or empty means: it has none of that; another `luck` is another run of it."""

    seed: int
    rows: int
    limits: tuple[Limit, ...]
    cap: int
    when_full: str  # "reject", "reset" or "wait"
    knee: int
    knee_thrash: float
    latency_s: float
    latency_sigma: float
    tail_p: float
    tail_x: float
    tokens_in: float
    tokens_out: float
    tokens_sigma: float
    says: str
    headers: Headers
    net_s: float
    refusal_s: float
    reject_cost: float
    chance_429: float
    hang_p: float
    error_p: float
    inside_p: float
    timeout_s: float
    steps: tuple[tuple[float, float], ...]
    others: tuple[float, float, float]  # share of the capacity, period, duty
    outages: tuple[Outage, ...]
    features: tuple[str, ...] = ()
    luck: int = 0

    @property
    def chance(self) -> str:
        """What is drawn by chance is drawn from this."""
        return f"{self.seed} luck {self.luck}" if self.luck else f"{self.seed}"

    def capacity(self, t: float) -> float:
        """What all limits are multiplied with at this moment."""
        factor = 1.0
        for since_s, times in self.steps:
            if t >= since_s:
                factor = times
        share, period_s, duty = self.others
        return factor * (1 - share) if share and t % period_s < duty * period_s else factor

    def next_change_s(self, t: float) -> float:
        """When `capacity` changes next after t; infinity for never."""
        nexts = [since_s for since_s, _ in self.steps if since_s > t]
        share, period_s, duty = self.others
        if share:
            start, on = t - t % period_s, duty * period_s
            nexts.append(start + on if t < start + on - 1e-9 else start + period_s)
        return min(nexts, default=math.inf)

    @property
    def mean_latency_s(self) -> float:
        return self.latency_s * math.exp(self.latency_sigma**2 / 2) * (1 + self.tail_p * (self.tail_x - 1))

    def mean_of(self, unit: str) -> float:
        """Of this unit, a usual request."""
        tokens = {
            "tokens": self.tokens_in + self.tokens_out,
            "input tokens": self.tokens_in,
            "output tokens": self.tokens_out,
        }
        return 1.0 if unit == "requests" else tokens[unit] * math.exp(self.tokens_sigma**2 / 2)

    @property
    def pace(self) -> float:
        """Requests per second that fit in the long run where the capacity is 1."""
        most = min([MOST_IN_FLIGHT] + [each for each in (self.cap, self.knee) if each])
        return min(
            [*(each.rate / self.mean_of(each.unit) for each in self.limits), most / self.mean_latency_s]
        )


def _log(rng: Random, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _limit(rng: Random, unit: str, rate: float, *, windowed: bool) -> Limit:
    if not windowed:
        return Limit(unit, rate, depth_s=_log(rng, 0.2, 60.0))
    length_s = min(_log(rng, 1.0, 60.0), 60.0)
    return Limit(unit, rate, length_s=max(length_s, 2.0 / rate), offset_s=rng.uniform(0.0, length_s))


def draw(seed: int, *, most_rows: int = 50_000, wide: bool = True) -> World:
    """The world of this seed; `most_rows` cuts long runs short. Not `wide`: without the newer features."""
    world = _drawn(seed, most_rows)
    return _widened(world) if wide else world


def _drawn(seed: int, most_rows: int) -> World:
    rng = Random(f"cottonpalm family 1 {seed}")
    kinds = rng.choices([kinds for _, kinds in KINDS], [weight for weight, _ in KINDS])[0]
    latency_s, sigma = _log(rng, 0.2, 20.0), rng.uniform(0.0, 1.0)
    tail_p, tail_x = (rng.uniform(0.002, 0.02), rng.uniform(2.0, 8.0)) if rng.random() < 0.25 else (0.0, 1.0)
    tokens_in, tokens_out = _log(rng, 50, 4_000), _log(rng, 5, 800)
    tokens_sigma = rng.choice([0.0, 0.3, 0.6, 0.9])
    mean_latency_s = latency_s * math.exp(sigma**2 / 2) * (1 + tail_p * (tail_x - 1))
    mean_tokens = (tokens_in + tokens_out) * math.exp(tokens_sigma**2 / 2)
    rate = _log(rng, 1.0, 1_000.0)
    limits: list[Limit] = []
    if "rate" in kinds or "window" in kinds:
        limits.append(_limit(rng, "requests", rate, windowed="window" in kinds))
    if "tokens" in kinds:  # beside a limit of requests: near it, so that now one binds and now the other
        near = rate * rng.uniform(0.6, 1.6) if "rate" in kinds else rate
        limits.append(_limit(rng, "tokens", near * mean_tokens, windowed=rng.random() < 0.15))
    cap = round(_log(rng, 2, 1_000)) if "cap" in kinds else 0
    if cap and limits:  # beside a rate: near what the rate needs
        cap = max(2, min(1_000, round(rate * mean_latency_s * _log(rng, 0.4, 2.5))))
    knee = round(_log(rng, 4, 400)) if "knee" in kinds else 0
    thrash = rng.choice([0.0, 0.0, 0.05, 0.15, 0.3]) if knee else 0.0
    if knee and cap:
        cap = max(cap, 2 * knee)
    says = rng.choices(SAYS, [25, 20, 10, 12, 13, 7, 5, 8])[0]
    wrong = rng.choice(WRONG)
    headers = {
        "minute": Headers(minute=True), "old": Headers(minute=rng.random() < 0.5, old_s=_log(rng, 0.5, 5.0)),
        "coarse": Headers(coarse=rng.choice([0.02, 0.1, 0.25])), "wrong": Headers(**wrong),
    }.get(says, Headers())  # fmt: skip
    most = min([MOST_IN_FLIGHT] + [each for each in (cap, knee) if each])
    paces = [each.rate / (1 if each.unit == "requests" else mean_tokens) for each in limits]
    pace = min([*paces, most / mean_latency_s])
    rows = round(math.exp(math.log(500) + rng.random() ** 1.6 * math.log(100)))
    rows = max(500, min(max(rows, round(10 * pace)), most_rows, round(1_800 * pace)))
    long_s = max(10.0, rows / pace + mean_latency_s)  # the run, about
    steps: list[tuple[float, float]] = []
    if rng.random() < 0.2:
        moment, factor = 0.0, 1.0
        for _ in range(rng.randint(1, 3)):
            moment += long_s * rng.uniform(0.1, 0.5)
            factor = _log(rng, 0.2, 1.0) if factor >= 0.7 else _log(rng, 1.0, 3.0) * factor
            steps.append((moment, factor))
    others = (0.0, 1.0, 0.0)
    if rng.random() < 0.13:
        others = (rng.uniform(0.2, 0.8), _log(rng, 4.0, 120.0), rng.uniform(0.3, 0.7))
    outages: list[Outage] = []
    if rng.random() < 0.13:
        status, share = rng.choice([503, 529, 500]), rng.uniform(0.5, 1.0)
        for_s = min(_log(rng, 0.5, 20.0), 0.2 * long_s)
        begins = sorted(rng.uniform(0, long_s) for _ in range(rng.randint(1, 4)))
        outages = [Outage(since_s, for_s, share, status) for since_s in begins]
    chance = rng.uniform(0.0, 0.03) if rng.random() < 0.2 else 0.0
    hang_p = rng.uniform(0.0, 0.02) if rng.random() < 0.12 else 0.0
    error_p = rng.uniform(0.0, 0.03) if rng.random() < 0.12 else 0.0
    reject_cost = rng.uniform(0.1, 1.0) if limits and rng.random() < 0.15 else 0.0
    timeout_s = max(5.0, 4 * latency_s * math.exp(2.33 * sigma) * (tail_x if tail_p else 1.0))
    if knee:
        timeout_s = max(60.0, 10 * timeout_s)
    has = {
        "steps": steps, "others": others[0], "outages": outages, "chance": chance, "hang": hang_p, "errors": error_p,
        "reject_cost": reject_cost, "tail": tail_p, "several": len(kinds) > 1, "no limit": not kinds,
    }  # fmt: skip
    return World(
        seed=seed, rows=rows, limits=tuple(limits), cap=cap, when_full="reject", knee=knee, knee_thrash=thrash,
        latency_s=latency_s, latency_sigma=sigma, tail_p=tail_p, tail_x=tail_x, tokens_in=tokens_in,
        tokens_out=tokens_out, tokens_sigma=tokens_sigma, says=says, headers=headers, net_s=_log(rng, 0.005, 0.1),
        refusal_s=_log(rng, 0.005, 0.2), reject_cost=reject_cost, chance_429=chance, hang_p=hang_p, error_p=error_p,
        inside_p=0.0, timeout_s=timeout_s, steps=tuple(steps), others=others, outages=tuple(outages),
        features=(*kinds, *(name for name, there in has.items() if there)),
    )  # fmt: skip


def _widened(world: World) -> World:
    """What the family did not have at first, in one world of four: drawn apart, so that all else stays as it is."""
    rng = Random(f"cottonpalm family 2 {world.seed}")
    if rng.random() >= 0.25:
        return world
    what = rng.choice(["queue", "reset", "inside", "day", "input and output", "uneven"])
    changed: World | None = None
    if what in ("queue", "reset") and world.cap and not world.knee:
        changed = replace(world, when_full="wait" if what == "queue" else "reset")
    elif what == "inside":
        changed = replace(world, inside_p=rng.uniform(0.002, 0.03))
    elif what == "day" and world.says in ("exact", "minute", "coarse"):
        changed = replace(world, headers=replace(world.headers, day=True))
    elif what == "input and output" and "tokens" in world.features:
        changed = replace(world, limits=_in_and_out(rng, world))
    elif what == "uneven" and "tokens" in world.features:
        changed = replace(world, tokens_sigma=1.5, limits=_scaled(world, 1.5))
    return world if changed is None else replace(changed, features=(*world.features, what))


def _in_and_out(rng: Random, world: World) -> tuple[Limit, ...]:
    pace = next(each.rate for each in world.limits if each.unit == "tokens") / world.mean_of("tokens")
    rest = tuple(each for each in world.limits if each.unit != "tokens")
    units = (("input tokens", 1.0), ("output tokens", rng.uniform(0.8, 1.3)))
    return (
        *rest,
        *(_limit(rng, unit, pace * near * world.mean_of(unit), windowed=False) for unit, near in units),
    )


def _scaled(world: World, sigma: float) -> tuple[Limit, ...]:
    """The same pace with rows of another unevenness."""
    wider = math.exp((sigma**2 - world.tokens_sigma**2) / 2)
    return tuple(
        replace(each, rate=each.rate * (1.0 if each.unit == "requests" else wider)) for each in world.limits
    )
