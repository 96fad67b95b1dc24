"""Rows by what they used, and rows that ask what another has asked: in bounded memory, however many there are."""

from __future__ import annotations

from typing import Any, Final

from cottonpalm.observers.measures.reported import Repeats, SizeClass
from cottonpalm.types import PICO

SAMPLE: Final = 1 << 14  # different questions of which all repeats are counted; of more, a fair sample
HASHES: Final = 1 << 64


def number_of(key: bytes | None, row: object) -> int | None:
    """64 bits that stand for what a row asks: of its key, or of the row itself where nobody has made one."""
    if key:
        return int.from_bytes(key[:8], "big")
    try:
        return hash(tuple(row.items()) if type(row) is dict else (row,)) & (HASHES - 1)
    except TypeError:  # it holds a list, or a message
        return None


class Sizes:
    """Adds up rows, seconds and money by tokens, in classes that double: 0, 1, 2 to 3, 4 to 7, ..."""

    __slots__ = ("_sums",)

    def __init__(self) -> None:
        self._sums: dict[int, list[Any]] = {}  # rows, seconds and cost of each class

    def add(self, tokens: int, seconds: float, cost_pico: int) -> None:
        """Count one row."""
        size = tokens.bit_length()
        if (sums := self._sums.get(size)) is None:
            sums = self._sums[size] = [0, 0.0, 0]
        sums[0] += 1
        sums[1] += seconds
        if cost_pico:
            sums[2] += cost_pico

    def __bool__(self) -> bool:
        return bool(self._sums)

    def classes(self) -> tuple[SizeClass, ...]:
        """Those with rows in them, the smallest first."""
        return tuple(
            SizeClass(1 << size - 1 if size else 0, rows, seconds, cost / PICO)
            # others may be added meanwhile
            for size, (rows, seconds, cost) in sorted(self._sums.copy().items())
        )


class RepeatedRows:
    """Counts rows that ask what another row of the run has asked, and what they cost.

    Up to `most` different questions all are counted; beyond, only questions whose hash lies below a falling bound, and
    the sums are scaled up.
    """

    __slots__ = ("_bound", "_cost_pico", "_most", "_rows", "_seen")

    def __init__(self, most: int = SAMPLE) -> None:
        self._most, self._bound = most, HASHES
        self._seen: dict[int, tuple[int, int]] = {}  # repeats of a question, and what they cost
        self._rows = self._cost_pico = 0  # of all of these

    def add(self, number: int, cost_pico: int) -> None:
        """Take note of one row that was asked; `number` stands for its question, see `number_of`."""
        if number >= self._bound:
            return
        if (before := self._seen.get(number)) is not None:
            self._seen[number] = before[0] + 1, before[1] + cost_pico
            self._rows += 1
            self._cost_pico += cost_pico
            return
        self._seen[number] = 0, 0
        while len(self._seen) > self._most:
            self._bound //= 2
            self._seen = {seen: what for seen, what in self._seen.items() if seen < self._bound}
            self._rows = sum(times for times, _ in self._seen.values())
            self._cost_pico = sum(cost for _, cost in self._seen.values())

    def counted(self) -> Repeats:
        """How many there were, and what they cost; the rows are all whose question was asked before."""
        scale = HASHES // self._bound
        return Repeats(self._rows * scale, self._cost_pico * scale / PICO, self._bound == HASHES)
