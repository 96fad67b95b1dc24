"""When money is worth a word: shares of a budget, and rows that cost far more than others."""

from __future__ import annotations

from collections import deque
from math import inf
from statistics import median_low
from typing import Final

SHARES: Final = (0.5, 0.8, 1.0)
SPIKE: Final = 50  # times the median
SEEN: Final = 255  # latest costs that the median is of
ENOUGH: Final = 20  # costs before which nothing is a spike


class Shares:
    """Tells each share once. `next` is the lowest that was not told; infinite once all were."""

    def __init__(self) -> None:
        self._left = list(SHARES)
        self.next = self._left[0]

    def passed(self, share: float) -> float | None:
        """The highest share that is reached now and was not told, or None."""
        told = None
        while self._left and share >= self._left[0]:
            told = self._left.pop(0)
        self.next = self._left[0] if self._left else inf
        return told


class Spikes:
    """Compares each row's cost with the median of those before it."""

    def __init__(self) -> None:
        self._costs: deque[int] = deque(maxlen=SEEN)
        self._median = 0
        self._fresh = 0

    def median_if_spike(self, cost: int) -> int | None:
        """Take note of one row's cost; the median, if it is many times that."""
        median = self._of_before()
        self._costs.append(cost)
        self._fresh += 1
        return median if len(self._costs) > ENOUGH and cost > SPIKE * median > 0 else None

    def _of_before(self) -> int:
        if self._costs and (self._fresh >= ENOUGH or not self._median):
            self._median, self._fresh = median_low(self._costs), 0
        return self._median
