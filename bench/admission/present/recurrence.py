"""Whether rejections come back at the same number in flight. No clock, no I/O."""

from __future__ import annotations

from collections import deque
from typing import Final

TIMES: Final = 4  # rejections in a row...
APART: Final = 0.05  # ...at numbers that differ by no more than this share of the last...
FEW: Final = 2  # ...or by so few


class Recurrence:
    """Rejections far below the number that fitted: is it a pace, or has that number fallen?

    Under a pace, the number in flight at a rejection scatters as the times of the answers do. A number that has fallen
    rejects at the same one again and again.
    """

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: deque[int] = deque(maxlen=TIMES)

    def rejected(self, ordinal: int) -> bool:
        """One more such rejection, the `ordinal`-th in flight; whether the last ones say that the number has fallen."""
        self._last.append(ordinal)
        alike = max(self._last) - min(self._last) <= max(FEW, APART * ordinal)
        if len(self._last) < TIMES or not alike:
            return False
        self._last.clear()
        return True
