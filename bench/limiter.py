"""What a permit costs, taken and given back, by what has to be asked: `python bench/limiter.py`."""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import measure as m

from cottonpalm import AdaptiveConcurrency, RateLimit, clock
from cottonpalm.request.limiter.limiters import Limiters
from cottonpalm.request.limiter.rules.recovery import State
from cottonpalm.request.limiter.rules.tokens import Tokens
from cottonpalm.types import Quota, Usage, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.request.limiter.limiter import Limiter

ASK, USED = Tokens(100, 200), Usage(100, 150)
IN_FLIGHT = 64
PLENTY = 10**9
MANY = AdaptiveConcurrency(initial=1_000, minimum=1_000, maximum=1_000)


def free() -> Limiter:
    """A number alone, which is far away."""
    return Limiters(MANY).of("free")


def growing() -> Limiter:
    """As it is by default: nobody knows yet how many fit, so each answer may tell."""
    limiter = Limiters(AdaptiveConcurrency(maximum=1_000)).of("growing")
    limiter.admission.recovery.state = State.OPEN
    limiter.admission.concurrency.set(500)
    for _ in range(128):
        limiter.release(limiter.force(ASK), Verdict.SUCCESS, usage=USED)
    limiter.admission.concurrency.knee.usual_s = 1.0
    limiter.adjust(lambda: None)
    return limiter


def own() -> Limiter:
    """The user's own ceilings, far away."""
    return Limiters(MANY, RateLimit(requests_per_minute=PLENTY, tokens_per_minute=PLENTY)).of("own")


def learnt() -> Limiter:
    """A learnt rate, far away."""
    limiter = Limiters(MANY).of("learnt")
    limiter.admission.bucket.rate = limiter.admission.bucket.depth = float(PLENTY)
    limiter.adjust(lambda: None)
    return limiter


def everything() -> Limiter:
    """A learnt rate, the user's own ceilings, and each answer shows three quotas."""
    limiter = own()
    limiter.admission.bucket.rate = limiter.admission.bucket.depth = float(PLENTY)
    limiter.adjust(lambda: None)
    return limiter


def quotas() -> tuple[Quota, ...]:
    return (
        Quota("requests", PLENTY, PLENTY - 1.0, 0.1),
        Quota("input tokens", PLENTY, PLENTY - 100.0, 0.1),
        Quota("output tokens", PLENTY, PLENTY - 150.0, 0.1),
    )


def taken_us(limiter: Limiter, times: int, told: tuple[Quota, ...]) -> float:
    """Microseconds of CPU for one permit, with so many others in flight."""
    open_ = deque(limiter.force(ASK) for _ in range(IN_FLIGHT))
    at = time.process_time()
    for _ in range(times):
        permit = limiter.try_acquire(0, ASK)
        assert permit is not None
        open_.append(permit)
        limiter.release(open_.popleft(), Verdict.SUCCESS, quotas=told, usage=USED)
    took = time.process_time() - at
    for permit in open_:
        limiter.release(permit, Verdict.SUCCESS, usage=USED)
    return took / times * 1e6


STATES: dict[str, tuple[Callable[[], Limiter], tuple[Quota, ...]]] = {
    "free": (free, ()),
    "a number that grows": (growing, ()),
    "own ceilings": (own, ()),
    "a learnt rate": (learnt, ()),
    "quotas in each answer": (free, quotas()),
    "all of them": (everything, quotas()),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeats", type=int, default=7)
    options.add_argument("--times", type=int, default=10_000)
    given = options.parse_args()
    m.headline("A permit, taken and given back, CPU µs", "free <= 1.5, under every gate <= 4")
    found: dict[str, list[float]] = {name: [] for name in STATES}
    for turn in range(given.repeats):
        for name in m.rotated(list(STATES), turn):
            made, told = STATES[name]
            found[name].append(taken_us(made(), given.times, told))
    clocks = []
    for _ in range(given.repeats):
        at = time.process_time()
        for _ in range(given.times):
            clock.now()
        clocks.append((time.process_time() - at) / given.times * 1e6)
    lines = [[name, median(values), min(values)] for name, values in found.items()]
    m.table(["under", "µs", "least"], [*lines, ["(reading the clock once)", median(clocks), min(clocks)]])


if __name__ == "__main__":
    main()
