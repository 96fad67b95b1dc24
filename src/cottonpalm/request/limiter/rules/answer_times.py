"""How long answers take with one number in flight, told as early as it can be. No clock, no I/O."""

from __future__ import annotations

import math
from bisect import insort
from typing import TYPE_CHECKING, Final

from cottonpalm.request.limiter.rules.causes import APART, ENOUGH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cottonpalm.request.limiter.rules.sent import Sent

FEW: Final = 2 * ENOUGH  # requests of one number in flight: the quicker half tells what an answer takes
QUICKEST: Final = 1.7  # deviations below the median is the quickest of twice `ENOUGH`, in the mean
_FAR: Final = 5.0  # deviations from which on the tail of a normal distribution is like an exponential one
LEAST_S: Final = 1e-9


class AnswerTimes:
    """Of the first requests that are sent once those have left that were in flight with another number.

    Attributes:
        known: seconds of those that were answered, the quickest first.
        drained: the others have left.
    """

    __slots__ = ("_under_way", "drained", "known")

    def __init__(self) -> None:
        self.known: list[float] = []
        self.drained = False
        self._under_way: dict[int, float] = {}  # number: when it was sent

    @property
    def half(self) -> bool:
        """The slowest that was answered is the median: else it were too quick."""
        return len(self.known) >= max(ENOUGH, len(self._under_way))

    def sent(self, sent: Sent) -> None:
        """It may be one of the first."""
        if self.drained and len(self._under_way) + len(self.known) < 2 * FEW:
            self._under_way[sent.number] = sent.at_s

    def left(self, sent: Sent) -> None:
        """It ended in a way that says nothing of how long an answer takes."""
        self._under_way.pop(sent.number, None)

    def answered(self, now: float, sent: Sent) -> bool:
        """Whether it was one of the first."""
        at_s = self._under_way.pop(sent.number, None)
        if at_s is not None:
            insort(self.known, max(LEAST_S, now - at_s))
        return at_s is not None

    def likely(self, now: float, log: float, variance: float) -> tuple[float, float]:
        """The median, by maximum likelihood, and as many answers as that is worth.

        Those under way take longer than they have so far: a censored lognormal time, solved by expectation and
        maximization (Dempster, Laird and Rubin, 1977), with what they are worth by Fisher's information. None counts
        as further above the median than twice the deviation.

        Args:
            now: when.
            log: the logarithm of the time to begin with.
            variance: of the logarithms.
        """
        deviation = max(APART, math.sqrt(variance))  # less is none that so few could tell
        logs = [math.log(seconds) for seconds in self.known]
        ages = [math.log(max(LEAST_S, now - at_s)) for at_s in self._under_way.values()]
        worth = 0.0
        for _ in range(ENOUGH):
            above = [(age - log) / deviation for age in ages]
            hazards = [_hazard(z) for z in above]
            total = sum(min(each, log + 2 * deviation) for each in logs)
            total += sum(log + deviation * min(2.0, hazard) for hazard in hazards)
            worth = len(logs) + sum(hazard * (hazard - z) for hazard, z in zip(hazards, above, strict=True))
            log = total / (len(logs) + len(ages))
        return math.exp(log), worth


def variance_of(times: Sequence[float]) -> float:
    """Of the logarithms of all, where these are the quicker half of `FEW`, the quickest first; too much of more."""
    quickest_s = max(LEAST_S, times[0])
    return (math.log(max(quickest_s, times[-1]) / quickest_s) / QUICKEST) ** 2


def _hazard(z: float) -> float:
    """Of the standard normal distribution: its density over what is above."""
    if z > _FAR:
        return z + 1 / z
    return math.sqrt(2 / math.pi) * math.exp(-z * z / 2) / math.erfc(z / math.sqrt(2))
