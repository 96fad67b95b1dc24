"""The rows that were read and have not started: first come, first served, or by priority with ageing."""

from __future__ import annotations

import math
import sys
from collections import deque
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from cottonpalm.runtime.priority import ageing_key

if TYPE_CHECKING:
    from collections.abc import Collection, Container

    from cottonpalm.types import Item


class Window:
    """A bounded queue of rows. A row that comes back (a duplicate whose twin is done) goes before all others.

    Args:
        capacity: rows to read ahead; may be raised during the run.
        ordered: False keeps input order; True starts the highest priority first, and equal ones in input order. An
            item's rank is fixed when it arrives, so in the end a low one goes before new ones of high priority.
        chunk_size: with priorities, rows of an earlier chunk go before rows of a later one; None: no chunks.

    Attributes:
        size: how many rows it holds.
    """

    def __init__(self, capacity: int, *, ordered: bool, chunk_size: int | None = None) -> None:
        self.capacity = capacity
        self.size = 0
        self._chunk_size = chunk_size or sys.maxsize
        self._line: deque[Item] = deque()
        self._heap: list[tuple[int, float, int, Item]] | None = [] if ordered else None

    def __len__(self) -> int:
        return self.size

    @property
    def ordered(self) -> bool:
        """Whether rows start by their priority."""
        return self._heap is not None

    @property
    def room(self) -> int:
        """How many more rows the feed should read now."""
        return max(0, self.capacity - self.size)

    def extend(self, items: Collection[Item], arrival_s: float, first: Container[int] = ()) -> None:
        """Add rows that were just read.

        Args:
            items: the rows, in the order in which they were read.
            arrival_s: when that was: `clock.now()`.
            first: slots of rows that go before all others of their chunk, whatever their priority.
        """
        self.size += len(items)
        if self._heap is None:
            self._line.extend(items)
            return
        for item in items:
            rank = -math.inf if item.slot in first else ageing_key(arrival_s, item.priority)
            heappush(self._heap, (item.index // self._chunk_size, rank, item.index, item))

    def push_back(self, item: Item) -> None:
        """Put back a row that had started and was parked."""
        self.size += 1
        self._line.appendleft(item)

    @property
    def first(self) -> Item | None:
        """Return the row that `pop` would return, without removing it."""
        if self._line:
            return self._line[0]
        return self._heap[0][3] if self._heap else None

    def pop(self) -> Item | None:
        """Remove and return the row to start next, or None."""
        if not self.size:
            return None
        self.size -= 1
        if self._line:
            return self._line.popleft()
        assert self._heap is not None
        return heappop(self._heap)[3]
