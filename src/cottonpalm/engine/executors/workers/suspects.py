"""Rows with which workers have died: which of them is to blame. No clock, no I/O.

A worker may die of one row, or of something else, such as a machine that is taken away. So rows that were with two
workers that died are tried apart from all others, half of them at once; if that worker dies too, half of those, until
one row is alone with its worker. What is answered is free of suspicion.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Final

from cottonpalm.types import ErrorRecord, Kind, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cottonpalm.types import Item

DIED: Final = 2  # workers with a row: it is suspected


class Suspects:
    """Those of one run."""

    def __init__(self) -> None:
        self._waiting: deque[Item] = deque()
        self._died_with: Counter[int] = Counter()  # how many workers, by the index of a row
        self._at_once = 0

    def __bool__(self) -> bool:
        """Whether some wait."""
        return bool(self._waiting)

    def died(self, rows: Iterable[Item]) -> list[Item]:
        """A worker died that had these; returns those that are not suspected."""
        free: list[Item] = []
        for row in rows:
            self._died_with[row.index] += 1
            (self._waiting if self._died_with[row.index] >= DIED else free).append(row)
        self._at_once = len(self._waiting) // 2
        return free

    def next(self, most: int) -> list[Item]:
        """Those that go to a worker of their own, at most so many."""
        at_once = max(1, min(most, self._at_once, len(self._waiting)))
        return [self._waiting.popleft() for _ in range(at_once)]

    def died_apart(self, rows: list[Item]) -> Item | None:
        """The worker of a group died before it answered these; returns the one that is to blame, if that is known."""
        self._at_once = len(rows) // 2
        if len(rows) == 1:
            return rows[0]
        self._waiting.extendleft(reversed(rows))
        return None

    def answered(self, index: int) -> None:
        """A row is free of suspicion."""
        self._died_with.pop(index, None)

    def survived(self) -> None:
        """A group is answered: twice as many may go next."""
        self._at_once = 2 * max(1, self._at_once)

    def drain(self) -> Iterator[Item]:
        """Those that wait; none does after it."""
        while self._waiting:
            yield self._waiting.popleft()


def to_blame(row: Item, lost: Exception) -> Outcome:
    """What becomes of a row of which workers die."""
    said = f"each worker that had this row died, the last one with it alone ({lost})"
    return Outcome(row.index, "failed", error=ErrorRecord(Kind.FAIL_ROW, type(lost).__name__, said))
