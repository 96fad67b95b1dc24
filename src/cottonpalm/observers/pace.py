"""How fast a run goes, how much longer it takes, and how sure that is. No clock: it is told the time."""

from __future__ import annotations

from collections import deque
from math import sqrt
from typing import Final, NamedTuple

SLOT_S: Final = 3.0  # a bar of the sparkline
SLOTS: Final = 20
LATELY: Final = 10  # slots, half a minute, over which the rate is measured
SURE: Final = 4  # slots from which on a range is told
WIDE: Final = 2.0  # standard errors to each side


class Left(NamedTuple):
    """Seconds until the end: most likely, and between which two where that is known."""

    seconds: float
    least: float | None = None
    most: float | None = None


class Pace:
    """Rows per second over the last minute, in slots of three seconds."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._last = (0.0, 0)
        self._slots: deque[float] = deque(maxlen=SLOTS)  # rows in each slot that is over
        self._open = 0.0  # rows in the slot that is not
        self._before = 0.0  # the rate when something last moved

    def note(self, now_s: float, done: int) -> float | None:
        """Take a sample; rows a second lately, None until two samples lie apart."""
        if self._began is None:
            self._began, self._last = now_s, (now_s, done)
            return None
        then_s, then = self._last
        if now_s <= then_s:
            return self.per_s
        self._spread(then_s - self._began, now_s - self._began, done - then)
        self._last = now_s, done
        rate = self.per_s
        if rate:
            self._before = rate
        return rate

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
    def per_s(self) -> float | None:
        """Rows a second over the last half minute; None before anything was noted."""
        if self._began is None:
            return None
        open_s = (self._last[0] - self._began) % SLOT_S
        recent = list(self._slots)[-LATELY:]
        seconds = len(recent) * SLOT_S + open_s
        return (sum(recent) + self._open) / seconds if seconds > 0 else None

    @property
    def bars(self) -> list[float]:
        """Rows a second in each slot that is over, the oldest first."""
        return [rows / SLOT_S for rows in self._slots]

    @property
    def before(self) -> float:
        """The rate when something last moved; 0 before anything did."""
        return self._before

    def left(self, rows: int) -> Left | None:
        """How long so many rows take at this pace; None while nothing moves."""
        rate = self.per_s
        if not rate:
            return None
        recent = self.bars[-LATELY:]
        if len(recent) < SURE:
            return Left(rows / rate)
        mean = sum(recent) / len(recent)
        error = sqrt(sum((bar - mean) ** 2 for bar in recent) / (len(recent) - 1) / len(recent))
        slow, fast = rate - WIDE * error, rate + WIDE * error
        return Left(rows / rate, rows / fast, rows / slow if slow > rate / 4 else None)
