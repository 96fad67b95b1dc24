"""A sliding hour of spending, and an even pace within it. The caller tells it the time; it reads no clock."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

HOUR_S: Final = 3600.0
STEP_S: Final = 5.0  # seconds of spending that are kept as one sum, also by the store
BURST_S: Final = 60.0  # spending may be this many seconds ahead of an even pace


@dataclass(slots=True)
class Step:
    """The amount spent from the end of the step before it to `end_s`."""

    end_s: float
    pico: int


class Hour:
    """The spending of the last hour, in steps.

    A step counts until one hour after its end. So in no hour, wherever it begins, can more be spent than the limit.
    """

    def __init__(self) -> None:
        self._steps: deque[Step] = deque()
        self._used = 0
        # pico-dollars by which spending was ahead of an even pace, and the time of that
        self._ahead, self._ahead_at_s = 0.0, 0.0

    def add(self, pico: int, now_s: float, limit: int) -> None:
        """Add an amount that was spent, under this limit per hour."""
        if pico <= 0:
            return
        end = (now_s // STEP_S + 1) * STEP_S
        if self._steps and self._steps[-1].end_s == end:
            self._steps[-1].pico += pico
        else:
            self._steps.append(Step(end, pico))
        self._used += pico
        self._ahead, self._ahead_at_s = self._ahead_of(now_s, limit) + pico, now_s

    def load(self, spent: Iterable[tuple[float, int]], limit: int) -> None:
        """Load earlier spending: (seconds of the same clock, pico-dollars). Call it before any `add`."""
        for then_s, pico in sorted(spent):
            self.add(pico, then_s, limit)

    def used(self, now_s: float) -> int:
        """Return the pico-dollars that were spent in the last hour."""
        while self._steps and self._steps[0].end_s + HOUR_S <= now_s:
            self._used -= self._steps.popleft().pico
        return self._used

    def early_s(self, pending: float, now_s: float, limit: int) -> float:
        """Return by how many seconds one more request would be ahead of an even pace; 0 if it may go.

        Args:
            pending: pico-dollars that requests in flight will probably cost.
            now_s: the time.
            limit: pico-dollars per hour.
        """
        return max(0.0, (self._ahead_of(now_s, limit) + pending) * HOUR_S / max(1, limit) - BURST_S)

    def even(self, pending: float, now_s: float, limit: int) -> int:
        """Return how much more may be spent now until that is ahead of an even pace; see `early_s`."""
        return max(0, int(limit * BURST_S / HOUR_S - self._ahead_of(now_s, limit) - pending))

    def _ahead_of(self, now_s: float, limit: int) -> float:
        return max(0.0, self._ahead - (now_s - self._ahead_at_s) * limit / HOUR_S)
