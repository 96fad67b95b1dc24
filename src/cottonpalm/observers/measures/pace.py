"""How fast a run goes, how much longer it takes, and how sure that is. No clock: it is told the time."""

from __future__ import annotations

from collections import deque
from math import sqrt
from typing import Final, NamedTuple

WINDOW_S: Final = 30.0  # over which the rate is measured
SLOT_S: Final = 3.0  # a bar of the sparkline
SLOTS: Final = 20
LATELY: Final = 10  # slots by which the range is judged
SURE: Final = 4  # slots from which on a range is told
WIDE: Final = 2.0  # standard errors to each side


class Left(NamedTuple):
    """Seconds until the end: most likely, and between which two where that is known."""

    seconds: float
    least: float | None = None
    most: float | None = None


class Pace:
    """Rows per second over the last half minute.

    Attributes:
        per_s: rows a second lately; None until two samples lie apart.
        before: the rate when something last moved; 0 before anything did.
        still_s: seconds for which nothing has moved.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()
        self._began = self._moved_s = 0.0
        self._slots: deque[float] = deque(maxlen=SLOTS)  # rows in each slot that is over
        self._open = 0.0  # rows in the slot that is not
        self.per_s: float | None = None
        self.before = self.still_s = 0.0

    def note(self, now_s: float, done: int) -> float | None:
        """Take a sample; rows a second lately."""
        if not self._seen or done > self._seen[-1][1]:
            self._moved_s = now_s
        self.still_s = now_s - self._moved_s
        if not self._seen:
            self._began = now_s
        elif now_s > self._seen[-1][0]:
            then_s, then = self._seen[-1]
            self._spread(then_s - self._began, now_s - self._began, done - then)
        self._seen.append((now_s, done))
        while len(self._seen) > 2 and self._seen[1][0] <= now_s - WINDOW_S:
            self._seen.popleft()
        first_s, first = self._seen[0]
        self.per_s = None if now_s <= first_s else (done - first) / (now_s - first_s)
        self.before = self.per_s or self.before
        return self.per_s

    def _spread(self, start_s: float, end_s: float, rows: int) -> None:
        """Share rows out over the slots between two samples."""
        per_s, at_s = rows / (end_s - start_s), start_s
        while True:
            border_s = (int(at_s / SLOT_S) + 1) * SLOT_S
            if border_s > end_s:
                self._open += per_s * (end_s - at_s)
                return
            self._slots.append(self._open + per_s * (border_s - at_s))
            self._open, at_s = 0.0, border_s

    @property
    def bars(self) -> list[float]:
        """Rows a second in each slot that is over, the oldest first."""
        return [rows / SLOT_S for rows in self._slots]

    def left(self, rows: int, allowed: float | None = None, *, last: bool = False) -> Left | None:
        """How long so many rows take at this pace, or as long again as nothing has moved; None while nothing moves.

        The last rows, which all wait for one that is slow or tried again, do not come at the pace of those before.

        Args:
            rows: that are left.
            allowed: rows a second by the user's own ceiling, where that is what binds: it goes on as it says.
            last: no more rows begin. How fast many came says nothing of how long a few take: there is no range then.
        """
        if allowed is not None:
            return Left(rows / allowed)
        rate = self.per_s
        if not rate:
            return None
        recent = self.bars[-LATELY:]
        if last or len(recent) < SURE:
            return Left(max(rows / rate, self.still_s))
        mean = sum(recent) / len(recent)
        error = sqrt(sum((bar - mean) ** 2 for bar in recent) / (len(recent) - 1) / len(recent))
        slow, fast = rate - WIDE * error, rate + WIDE * error
        slow, fast = min(slow, recent[-1]), max(fast, recent[-1])  # it may go on as it went last
        most = max(rows / slow, self.still_s) if slow > rate / 4 else None
        return Left(max(rows / rate, self.still_s), rows / fast, most)
