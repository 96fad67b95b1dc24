"""The rows read so far and not yet let in: first come, first served, or by priority with ageing."""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from cottonpalm.pure.ordering import ageing_key

if TYPE_CHECKING:
    from cottonpalm.model import Item


class Window:
    """A bounded waiting room. Rows that come back (a duplicate whose twin is done) go before all others.

    Args:
        capacity: rows to read ahead; may be raised while the run goes.
        ordered: False keeps input order; True starts the highest priority first, equal ones in input order. An
            item's rank is fixed when it arrives, so that a low one overtakes newer high ones in the end.
    """

    def __init__(self, capacity: int, *, ordered: bool) -> None:
        self.capacity = capacity
        self._line: deque[Item] = deque()
        self._heap: list[tuple[float, int, Item]] | None = [] if ordered else None

    def __len__(self) -> int:
        return len(self._line) + (len(self._heap) if self._heap else 0)

    @property
    def room(self) -> int:
        """How many more rows should be read now."""
        return max(0, self.capacity - len(self))

    def push(self, item: Item, arrival_s: float) -> None:
        """Add a row that was just read."""
        if self._heap is None:
            self._line.append(item)
        else:
            heappush(self._heap, (ageing_key(arrival_s, item.priority), item.index, item))

    def push_back(self, item: Item) -> None:
        """Return a row that was let in before and set aside."""
        self._line.appendleft(item)

    def pop(self) -> Item | None:
        """The row to start next, or None."""
        if self._line:
            return self._line.popleft()
        return heappop(self._heap)[2] if self._heap else None
