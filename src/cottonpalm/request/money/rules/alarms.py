"""Decides when to warn about money: at shares of a budget, and for rows that cost far more than others."""

from __future__ import annotations

from collections import deque
from math import inf
from statistics import median_low
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    """Compares each row's cost with the median of those before it, which follows after every `ENOUGH` rows."""

    def __init__(self) -> None:
        self._costs: deque[int] = deque(maxlen=SEEN + ENOUGH)
        self._new = 0  # of these, that are newer than the median
        self._median: int | None = None  # None: nobody had to know it yet
        self._least: float = inf  # none of these is less, and so neither is their median

    def found(self, costs: Sequence[int]) -> list[tuple[int, int]]:
        """Take note of what rows cost. Return the place of each that costs many times the median, and that median."""
        found: list[tuple[int, int]] = []
        done = 0
        while some := costs[done : done + ENOUGH - self._new]:
            self._least = min(self._least, *some)
            if max(some) > SPIKE * self._least:
                median = self._usual()
                found += [(done + at, median) for at, cost in enumerate(some) if cost > SPIKE * median > 0]
                self._least = min(*some, *self._costs)
            self._costs.extend(some)
            done += len(some)
            self._new += len(some)
            if self._new == ENOUGH:
                self._new, self._median = 0, None
        return found

    def _usual(self) -> int:
        """The median; 0 until enough is known, and of that no cost is a multiple."""
        if self._median is None:
            before = list(self._costs)[: len(self._costs) - self._new][-SEEN:]
            self._median = median_low(before) if before else 0
        return self._median
