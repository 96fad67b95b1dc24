"""Decides when to warn about money: at shares of a budget, and for rows that cost far more than others."""

from __future__ import annotations

from collections import deque
from math import inf
from statistics import median_low
from typing import Final

SHARES: Final = (0.5, 0.8, 1.0)
SPIKE: Final = 50  # a row is a spike from so many times the median on
SEEN: Final = 255  # the median is taken over so many latest costs
ENOUGH: Final = 20  # with fewer costs than this, no row counts as a spike


class Shares:
    """Tells each share of the budget once. `next` is the lowest share not told yet; infinite after the last."""

    def __init__(self) -> None:
        self._left = list(SHARES)
        self.next = self._left[0]

    def passed(self, share: float) -> float | None:
        """Return the highest share that is reached now and was not told yet, or None."""
        told = None
        while self._left and share >= self._left[0]:
            told = self._left.pop(0)
        self.next = self._left[0] if self._left else inf
        return told


class Spikes:
    """Compares each row's cost with the median of those before it."""

    def __init__(self) -> None:
        self._costs: deque[int] = deque(maxlen=SEEN)
        self._median = 0  # until there is one, no cost is a multiple of it
        self._left = ENOUGH  # costs until it is computed, for the first time or again

    def median_if_spike(self, cost: int) -> int | None:
        """Take note of one row's cost. Return the median if the row costs many times as much, else None."""
        if not self._left:
            self._median, self._left = median_low(self._costs), ENOUGH
        self._left -= 1
        self._costs.append(cost)
        return self._median if cost > SPIKE * self._median > 0 else None
