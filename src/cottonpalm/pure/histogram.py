"""A histogram with buckets of equal relative width: quantiles of any number of values, in a few kilobytes."""

from __future__ import annotations

from math import ceil, exp, log
from typing import Final

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
        self._buckets: dict[int, int] = {}

    def add(self, value: float) -> None:
        """Count one value."""
        self.count += 1
        if value < LEAST:
            self._zeros += 1
            return
        self.total += value
        self.highest = max(self.highest, value)
        bucket = ceil(log(value if value < MOST else MOST) * _SCALE)
        buckets = self._buckets
        buckets[bucket] = buckets.get(bucket, 0) + 1

    def merge(self, other: Histogram) -> None:
        """Add all that the other one has counted."""
        self.count += other.count
        self.total += other.total
        self.highest = max(self.highest, other.highest)
        self._zeros += other._zeros
        for bucket, count in other._buckets.items():
            self._buckets[bucket] = self._buckets.get(bucket, 0) + count

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
