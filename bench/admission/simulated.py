"""What the simulator says of a scenario, over several seeds, and when something measured agrees with it."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final, Self

from bench.admission import measure
from bench.admission.scaled import BY_NAME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.admission.scenarios import Scenario

SEEDS: Final = 8
NEAR: Final = 5.0  # points


@dataclass(frozen=True, slots=True)
class Simulated:
    """One scenario, each by its seeds: the oracle's rows, ours over those, and rejected per accepted."""

    best: tuple[int, ...]
    goodputs: tuple[float, ...]
    rejected: tuple[float, ...]

    @classmethod
    def of(cls, scenario: Scenario) -> Self:
        best = tuple(len(measure.oracle(scenario, seed).good) for seed in range(SEEDS))
        runs = [measure.run(scenario, seed, "ours")[0] for seed in range(SEEDS)]
        return cls(
            best,
            tuple(len(seen.good) / most for seen, most in zip(runs, best, strict=True)),
            tuple(len(seen.rejected) / max(1, seen.accepted) for seen in runs),
        )

    @property
    def goodput(self) -> float:
        return median(self.goodputs)

    def away(self, goodput: float) -> float:
        """Points to the nearest of the seeds; 0 among them."""
        nearest = min(max(goodput, min(self.goodputs)), max(self.goodputs))
        return 100 * (goodput - nearest)

    def agrees(self, goodput: float) -> bool:
        """Within five points of what the simulator says, which is all that lies between its seeds."""
        return abs(self.away(goodput)) <= NEAR


def simulated(names: Sequence[str]) -> dict[str, Simulated]:
    """What it says of the scaled scenarios of these names; on all cores."""
    with ProcessPoolExecutor() as pool:
        jobs = {name: pool.submit(_one, name) for name in names}
        return {name: job.result() for name, job in jobs.items()}


def _one(name: str) -> Simulated:
    return Simulated.of(BY_NAME[name])  # by name: a scenario holds functions, which do not travel
