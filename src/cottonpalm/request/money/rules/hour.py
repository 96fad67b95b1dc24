"""A sliding hour of spending, and an even pace within it. Told the time; keeps no clock."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

HOUR_S: Final = 3600.0
STEP_S: Final = 5.0  # what is spent within one step is kept as one sum
BURST_S: Final = 60.0  # how far ahead of an even pace spending may run


@dataclass(slots=True)
class Step:
    """What was spent up to `end_s`, since the step before it."""

    end_s: float
    pico: int


class Hour:
    """What was spent in the last hour, step by step.

    A step counts until an hour after its end, so no hour, wherever it begins, sees more than what was free.
    """

    def __init__(self) -> None:
        self._steps: deque[Step] = deque()
        self._used = 0
        self._ahead, self._ahead_at_s = (
            0.0,
            0.0,
        )  # pico-dollars that an even pace would not have spent, and when

    def add(self, pico: int, now_s: float, limit: int) -> None:
        """Spend so much, of a limit per hour."""
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
        """Take over what was spent earlier: (seconds of the same clock, pico-dollars). Before all `add`s."""
        for then_s, pico in sorted(spent):
            self.add(pico, then_s, limit)

    def used(self, now_s: float) -> int:
        """Pico-dollars of the last hour."""
        while self._steps and self._steps[0].end_s + HOUR_S <= now_s:
            self._used -= self._steps.popleft().pico
        return self._used

    def early_s(self, pending: float, now_s: float, limit: int) -> float:
        """Seconds by which one more request would run ahead of an even pace; 0 if it may go.

        Args:
            pending: pico-dollars that requests in flight will probably cost.
            now_s: the time.
            limit: pico-dollars per hour.
        """
        return max(0.0, (self._ahead_of(now_s, limit) + pending) * HOUR_S / max(1, limit) - BURST_S)

    def _ahead_of(self, now_s: float, limit: int) -> float:
        return max(0.0, self._ahead - (now_s - self._ahead_at_s) * limit / HOUR_S)
