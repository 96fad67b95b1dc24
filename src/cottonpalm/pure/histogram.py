"""A histogram with buckets of equal relative width: quantiles of any number of values, in a few kilobytes."""

from __future__ import annotations

from collections import Counter
from math import ceil, exp, log
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

ERROR: Final = 0.01  # how far a quantile may be from the exact one, relative to it
LEAST: Final = 1e-6  # what is smaller counts as zero...
MOST: Final = 1e9  # ...and what is larger as this
_PER_BUCKET: Final = log((1 + ERROR) / (1 - ERROR))
_SCALE: Final = 1 / _PER_BUCKET
_MIDDLE: Final = 1 - ERROR  # of a bucket, from its upper end


class Histogram:
    """Counts non-negative values (seconds, tokens, money) in at most about 1,730 buckets.

    For values between `LEAST` and `MOST`, `quantile` is within `ERROR` of the exact value of that rank. Two histograms
    added give the same as one that saw all values. The idea is DDSketch's (Masson, Rim and Lee, 2019).
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

    def merge(self, other: Histogram) -> None:
        """Add all that the other one has counted."""
        self.count += other.count
        self.total += other.total
        self.highest = max(self.highest, other.highest)
        self._zeros += other._zeros
        self._buckets.update(other._buckets)

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

    def __len__(self) -> int:
        """Buckets in use: what it takes in memory."""
        return len(self._buckets)
