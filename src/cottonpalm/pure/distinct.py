"""How many rows ask the same as an earlier one, in bounded memory."""

from __future__ import annotations

from typing import Final

SAMPLE: Final = 1 << 17  # distinct rows counted exactly; of more, a fair sample
HASHES: Final = 1 << 64


class Distinct:
    """Counts rows that ask the same as an earlier one, in bounded memory.

    Up to 131,072 different rows the count is exact; beyond, only rows whose hash lies below a falling bound are
    looked at, and the count is scaled up.
    """

    def __init__(self, most: int = SAMPLE) -> None:
        self._most = most
        self._bound = HASHES
        self._seen: set[int] = set()
        self._repeats: dict[int, int] = {}

    def add(self, content: bytes) -> None:
        """Take note of one row's content hash."""
        number = int.from_bytes(content[:8], "big")
        if number >= self._bound:
            return
        if number in self._seen:
            self._repeats[number] = self._repeats.get(number, 0) + 1
            return
        self._seen.add(number)
        while len(self._seen) > self._most:
            self._bound //= 2
            self._seen = {seen for seen in self._seen if seen < self._bound}
            self._repeats = {seen: times for seen, times in self._repeats.items() if seen < self._bound}

    @property
    def exact(self) -> bool:
        """All rows were looked at."""
        return self._bound == HASHES

    @property
    def repeats(self) -> int:
        """How many rows were repeats."""
        return sum(self._repeats.values()) * (HASHES // self._bound)
