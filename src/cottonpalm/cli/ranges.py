"""A set of row numbers that are nearly all there: kept as ranges, so that a million rows cost a few bytes."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Ranges:
    """Row numbers as half-open ranges `[first, end)`, sorted and apart."""

    def __init__(self, pairs: Iterable[Iterable[int]] = ()) -> None:
        self._firsts: list[int] = []
        self._ends: list[int] = []
        for first, end in pairs:
            self._firsts.append(first)
            self._ends.append(end)

    def pairs(self) -> list[list[int]]:
        """The ranges, as JSON can hold them."""
        return [[first, end] for first, end in zip(self._firsts, self._ends, strict=True)]

    def __len__(self) -> int:
        """How many ranges there are."""
        return len(self._firsts)

    def __contains__(self, number: object) -> bool:
        if not isinstance(number, int):
            return False
        at = bisect_right(self._firsts, number) - 1
        return at >= 0 and number < self._ends[at]

    @property
    def end(self) -> int:
        """One above the highest number; 0 when empty."""
        return self._ends[-1] if self._ends else 0

    @property
    def first_gap(self) -> int:
        """The lowest number, from 0 on, that is not there."""
        return self._ends[0] if self._firsts and self._firsts[0] == 0 else 0

    def add(self, number: int) -> bool:
        """Add one; False if it was there already."""
        at = bisect_right(self._firsts, number)
        if at and number < self._ends[at - 1]:
            return False
        joins_left = at > 0 and self._ends[at - 1] == number
        joins_right = at < len(self._firsts) and self._firsts[at] == number + 1
        if joins_left and joins_right:
            self._ends[at - 1] = self._ends.pop(at)
            self._firsts.pop(at)
        elif joins_left:
            self._ends[at - 1] = number + 1
        elif joins_right:
            self._firsts[at] = number
        else:
            self._firsts.insert(at, number)
            self._ends.insert(at, number + 1)
        return True
