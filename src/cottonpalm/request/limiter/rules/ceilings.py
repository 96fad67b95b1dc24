"""Never more than so much in any minute: the user's own limit, kept exactly, and evenly over the minute."""

from __future__ import annotations

from collections import deque
from typing import Final

MINUTE_S: Final = 60.0
WINDOW_S: Final = 60.3  # a minute at the provider: one request is longer on its way than another
SLACK: Final = 0.02  # of a minute's worth may go at once, after a time in which less went
LEAST: Final = 1e-9


class Ceiling:
    """At most `most` in any sliding minute, and evenly: no minute's worth goes in one burst.

    What is above it alone goes when nothing else was sent for a minute.

    Attributes:
        most: requests or tokens.
        portion: of them, what other processes leave to this one; `most` where there are none.
        even: its part of each minute once all have their fair ones, by which it goes evenly.
        used: in the last minute.
    """

    __slots__ = ("_at", "_backlog", "_sent", "even", "most", "portion", "used")

    def __init__(self, most: float) -> None:
        self.most = self.portion = self.even = most
        self.used = 0.0
        self._backlog = self._at = 0.0  # sent sooner than evenly, as of when
        self._sent: deque[list[float]] = deque()  # [moment, amount], in order

    def wait_s(self, now: float, amount: float) -> float:
        """Seconds until so much may be sent; 0 for now."""
        if self._at < now:
            self._forget(now)
        over = self.used + (amount if amount < self.most else self.most) - self.portion
        if over <= 0:
            if self._backlog <= SLACK * self.even:
                return 0.0
            return max(0.0, self._backlog / max(LEAST, self.even) - SLACK) * WINDOW_S
        for moment, sent in self._sent:
            over -= sent
            if over <= 0:
                return max(0.001, moment + WINDOW_S - now)
        return WINDOW_S

    def take(self, now: float, amount: float) -> list[float]:
        """So much is sent now. Returns the entry, for `settle`."""
        self.used += amount
        if self._at < now:
            self._drain(now)
        self._backlog += amount if amount < self.even else self.even
        sent = self._sent
        if sent and now < sent[-1][0]:
            now = sent[-1][0]
        entry = [now, amount]
        sent.append(entry)
        return entry

    def used_at(self, now: float) -> float:
        """What was sent in the minute before."""
        self._forget(now)
        return self.used

    def settle(self, entry: list[float], amount: float) -> None:
        """It was less, or more, than what was taken."""
        before = entry[1]
        if amount != before and self._sent and entry[0] >= self._sent[0][0]:
            self.used += amount - before
            self._backlog = max(0.0, self._backlog + min(amount, self.even) - min(before, self.even))
            entry[1] = amount

    def _drain(self, now: float) -> None:
        passed, self._at = now - self._at, now
        if passed > 0 and self._backlog:
            self._backlog = max(0.0, self._backlog - passed * self.even / WINDOW_S)

    def _forget(self, now: float) -> None:
        self._drain(now)
        sent = self._sent
        while sent and sent[0][0] <= now - WINDOW_S:
            self.used -= sent.popleft()[1]
        if not sent:
            self.used = 0.0
