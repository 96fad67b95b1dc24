"""What changed over a run, in a bounded number of points: when they grow too many, neighbours are merged."""

from __future__ import annotations

from itertools import zip_longest
from typing import Final, NamedTuple, TypeVar

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
