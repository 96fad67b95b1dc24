"""Never more than so much in any minute: the user's own limit, kept exactly."""

from __future__ import annotations

from collections import deque
from typing import Final

MINUTE_S: Final = 60.0
GRAIN_S: Final = 0.02  # what is sent within it is one entry; it counts until the last of it is a minute old


class Ceiling:
    """At most `most` in any sliding minute. What is above it alone goes when nothing else was sent for a minute.

    Attributes:
        most: requests or tokens.
        portion: of them, what other processes leave to this one; `most` where there are none.
        used: in the last minute.
    """

    __slots__ = ("_sent", "most", "portion", "used")

    def __init__(self, most: float) -> None:
        self.most = self.portion = most
        self.used = 0.0
        self._sent: deque[list[float]] = deque()  # [moment, amount], in order

    def wait_s(self, now: float, amount: float) -> float:
        """Seconds until so much may be sent; 0 for now."""
        self._forget(now)
        over = self.used + min(amount, self.most) - self.portion
        if over <= 0:
            return 0.0
        for moment, sent in self._sent:
            over -= sent
            if over <= 0:
                return max(0.001, moment + MINUTE_S - now)
        return MINUTE_S

    def take(self, now: float, amount: float) -> list[float]:
        """So much is sent now. Returns the entry, for `settle`."""
        self.used += amount
        if self._sent and now - self._sent[-1][0] < 0.0:
            now = self._sent[-1][0]
        entry = [now, amount]
        self._sent.append(entry)
        return entry

    def used_at(self, now: float) -> float:
        """What was sent in the minute before."""
        self._forget(now)
        return self.used

    def settle(self, entry: list[float], amount: float) -> None:
        """It was less, or more, than what was taken."""
        if self._sent and entry[0] >= self._sent[0][0]:
            self.used += amount - entry[1]
            entry[1] = amount

    def _forget(self, now: float) -> None:
        sent = self._sent
        while sent and sent[0][0] <= now - MINUTE_S:
            self.used -= sent.popleft()[1]
        if not sent:
            self.used = 0.0
