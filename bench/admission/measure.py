"""What one run of the simulator comes to."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

from bench.admission.baselines import Aimd, Fixed, Gradient, Listing, Oracle
from bench.admission.ours import Ours
from bench.admission.world import Seen, World

from cottonpalm import clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.admission.scenarios import Scenario
    from bench.admission.world import Policy

POLICIES: Final[dict[str, Callable[[Random], Policy]]] = {
    "ours": Ours,
    "listing": Listing,
    "fixed-10": lambda rng: Fixed(10, rng),
    "fixed-50": lambda rng: Fixed(50, rng),
    "fixed-200": lambda rng: Fixed(200, rng),
    "aimd": Aimd,
    "gradient": Gradient,
}


@dataclass(frozen=True, slots=True)
class Result:
    """One policy in one scenario with one seed.

    Attributes:
        goodput: rows done over the oracle's.
        rejected: rejections per accepted call.
        reach: round trips from the start until this run does 90 % of what the oracle does.
        recover: round trips after a fall of the limit from which on it does, taken four at a time; None: no fall.
        rise: likewise after the limit rose.
        storm: rejections per accepted call within ten round trips of a fall.
        in_flight: mean.
    """

    goodput: float
    rejected: float
    reach: float | None
    recover: float | None
    rise: float | None
    storm: float | None
    in_flight: float


def oracle(scenario: Scenario, seed: int) -> Seen:
    """The oracle's run. Its provider checks nothing: the oracle did, when it sent."""
    provider = scenario.provider(seed)
    limits, provider.limits = provider.limits, []
    world = World(scenario.workload(seed), provider)
    return world.run(Oracle(limits, scenario.knee, scenario.by_tokens), scenario.horizon_s)


def run(scenario: Scenario, seed: int, policy: str) -> tuple[Seen, Policy]:
    """One run of one policy; `clock.now()` is the simulator's while it goes on."""
    world = World(scenario.workload(seed), scenario.provider(seed))
    clock.replace(lambda: world.now, lambda: 1_700_000_000.0 + world.now)
    try:
        client = POLICIES[policy](Random(seed))
        return world.run(client, scenario.horizon_s), client
    finally:
        clock.replace()


def compare(scenario: Scenario, seen: Seen, best: Seen) -> Result:
    """What this run came to, beside the oracle's."""

    def slowest(steps_at: tuple[float, ...]) -> float | None:
        return max((_recovery(scenario, seen, best, step_s) for step_s in steps_at), default=None)

    return Result(
        goodput=len(seen.good) / max(1, len(best.good)),
        rejected=len(seen.rejected) / max(1, seen.accepted),
        reach=_round_trips_to(scenario, seen, best, 0.0),
        recover=slowest(scenario.falls_at),
        rise=slowest(scenario.rises_at),
        storm=max((_storm(scenario, seen, step_s) for step_s in scenario.falls_at), default=None),
        in_flight=seen.held_s / scenario.horizon_s,
    )


def _round_trips_to(scenario: Scenario, seen: Seen, best: Seen, since_s: float) -> float:
    """Round trips after a moment until this run does 90 % of what the oracle does, over two round trips."""
    trip_s = scenario.median_s
    most = int((scenario.horizon_s - since_s) / trip_s) - 2
    for trip in range(most):
        begin_s, end_s = since_s + trip * trip_s, since_s + (trip + 2) * trip_s
        if _between(seen.good, begin_s, end_s) >= 0.9 * _between(best.good, begin_s, end_s):
            return float(trip)
    return float(most)


def _recovery(scenario: Scenario, seen: Seen, best: Seen, step_s: float) -> float:
    """Round trips after a step from which on this run does 90 % of what the oracle does, four at a time.

    The first twelve are looked at. Either in answers or in the work they took: where the number in flight is limited,
    a few long answers more or fewer make a quarter of a minute differ by a tenth in the one, and hardly in the other.
    """
    trip_s, last_below = scenario.median_s, -1
    for trip in range(12):
        begin_s, end_s = step_s + trip * trip_s, step_s + (trip + 4) * trip_s
        answers = _between(seen.good, begin_s, end_s) / max(1, _between(best.good, begin_s, end_s))
        work = _work(seen, begin_s, end_s) / max(1.0, _work(best, begin_s, end_s))
        if max(answers, work) < 0.9:
            last_below = trip
    return float(last_below + 1)


def _work(seen: Seen, begin_s: float, end_s: float) -> float:
    """Seconds of work in the answers that came between."""
    until = [(0.0, 0.0), *seen.worked]
    end, begin = (until[bisect_left(until, (moment_s, 0.0), 1) - 1][1] for moment_s in (end_s, begin_s))
    return end - begin


def _storm(scenario: Scenario, seen: Seen, since_s: float) -> float:
    end_s = since_s + 10 * scenario.median_s
    return _between(seen.rejected, since_s, end_s) / max(1, _between(seen.good, since_s, end_s))


def _between(moments: list[float], begin_s: float, end_s: float) -> int:
    return bisect_left(moments, end_s) - bisect_left(moments, begin_s)
