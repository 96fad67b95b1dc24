"""What a run measures, in bounded memory: distributions, and what changed over time."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from itertools import pairwise, zip_longest
from math import ceil, exp, log, log10
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

ERROR: Final = 0.01  # how far a quantile may be from the exact one, relative to it
LEAST: Final = 1e-6  # what is smaller counts as zero...
MOST: Final = 1e9  # ...and what is larger as this
BARS: Final = 20  # a decade, where a histogram is drawn
_PER_BUCKET: Final = log((1 + ERROR) / (1 - ERROR))
_SCALE: Final = 1 / _PER_BUCKET
_MIDDLE: Final = 1 - ERROR  # of a bucket, from its upper end


class Histogram:
    """Counts non-negative values (seconds, tokens, money) in at most about 1,730 buckets.

    For values between `LEAST` and `MOST`, `quantile` is within `ERROR` of the exact value of that rank. The idea is
    DDSketch's (Masson, Rim and Lee, 2019).
    """

    __slots__ = ("_buckets", "_zeros", "count", "highest", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.highest = 0.0
        self._zeros = 0
        self._buckets: Counter[int] = Counter()

    def add(self, values: Sequence[float]) -> None:
        """Count values. Many at once cost a third of what they cost one by one."""
        if not values:
            return
        large = [value for value in values if value >= LEAST]
        self.count += len(values)
        self._zeros += len(values) - len(large)
        self.total += sum(large)
        self.highest = max(self.highest, max(large, default=0.0))
        if self.highest > MOST:
            large = [min(value, MOST) for value in large]
        self._buckets.update([ceil(value * _SCALE) for value in map(log, large)])

    @property
    def mean(self) -> float:
        """The mean of all values; 0 without any."""
        return self.total / self.count if self.count else 0.0

    def quantile(self, share: float) -> float:
        """The value below which this share of the values lies (0 to 1); 0 without any."""
        rank = share * (self.count - 1)
        seen = self._zeros
        if rank < seen or not self._buckets:
            return 0.0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if rank < seen:
                break
        return min(exp(bucket * _PER_BUCKET) * _MIDDLE, self.highest)

    def bars(self) -> tuple[tuple[float, int], ...]:
        """Values by twentieths of a decade: (upper end, how many) of each that holds any; zeros are below the first."""
        bars: Counter[int] = Counter()
        for bucket, count in self._buckets.items():
            bars[ceil(BARS * log10(min(exp(bucket * _PER_BUCKET) * _MIDDLE, self.highest)))] += count
        zeros = ((LEAST, self._zeros),) if self._zeros else ()
        return (*zeros, *((10 ** (bar / BARS), bars[bar]) for bar in sorted(bars)))

    def __len__(self) -> int:
        """Buckets in use: what it takes in memory."""
        return len(self._buckets)


def in_buckets(values: Sequence[float], bounds: Sequence[float]) -> list[int]:
    """How many of the values are at most each of the bounds and above the one before; last, those above all.

    Bounds looked up among sorted values cost less than values looked up among bounds, where there are many values.
    """
    ordered = sorted(values)
    below = [0, *(bisect_right(ordered, bound) for bound in bounds), len(ordered)]
    return [upper - lower for lower, upper in pairwise(below)]


POINTS: Final = 120
FIRST_WIDTH_S: Final = 0.125  # exact in binary, and so are its doubles: no value falls between two stretches
Number = TypeVar("Number", int, float)


class Point(NamedTuple):
    """One stretch of time: where it begins, in seconds from the start, and what was counted and seen in it."""

    at_s: float
    width_s: float
    total: float
    samples: int


class Timeline:
    """Sums by stretches of time of one width, which doubles whenever there are more than `POINTS` of them."""

    __slots__ = ("_samples", "_totals", "width_s")

    def __init__(self) -> None:
        self.width_s = FIRST_WIDTH_S
        self._totals: list[float] = []
        self._samples: list[int] = []

    def add(self, at_s: float, value: float) -> None:
        """Add a value seen so many seconds after the start."""
        slot = int(at_s / self.width_s) if at_s > 0 else 0
        while slot >= POINTS:
            self._halve()
            slot //= 2
        totals = self._totals
        if slot >= len(totals):
            missing = slot + 1 - len(totals)
            totals.extend([0.0] * missing)
            self._samples.extend([0] * missing)
        totals[slot] += value
        self._samples[slot] += 1

    def spread(self, from_s: float, until_s: float) -> None:
        """Add the seconds between two moments to the stretches in which they lie."""
        while from_s < until_s:
            slot = int(from_s / self.width_s)
            while slot >= POINTS:
                self._halve()
                slot = int(from_s / self.width_s)
            end_s = min(until_s, (slot + 1) * self.width_s)
            self.add(from_s, end_s - from_s)
            from_s = end_s

    def copy(self) -> Timeline:
        """One that goes its own way from here."""
        other = Timeline()
        other.width_s, other._totals, other._samples = self.width_s, self._totals.copy(), self._samples.copy()
        return other

    def widened(self, width_s: float) -> Timeline:
        """Itself, with neighbours merged until a stretch is so wide, to be compared with another of that width."""
        while self.width_s < width_s:
            self._halve()
        return self

    def points(self, until_s: float | None = None) -> list[Point]:
        """All of it, in order of time, those without a sample too; the last one ends at `until_s`, if that is given."""
        width_s = self.width_s
        points = [
            Point(slot * width_s, width_s, total, samples)
            for slot, (total, samples) in enumerate(zip(self._totals, self._samples, strict=True))
        ]
        if points and until_s is not None and points[-1].at_s < until_s < points[-1].at_s + width_s:
            points[-1] = points[-1]._replace(width_s=until_s - points[-1].at_s)
        return points

    def _halve(self) -> None:
        self.width_s *= 2
        self._totals = _paired(self._totals, 0.0)
        self._samples = _paired(self._samples, 0)


def _paired(values: list[Number], nothing: Number) -> list[Number]:
    """The sums of each two neighbours."""
    return [one + other for one, other in zip_longest(values[::2], values[1::2], fillvalue=nothing)]
