"""Quotas that the provider shows in headers, mirrored here: what is left now, not what was when it answered."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from cottonpalm.types import Quota, Unit

MARGIN: Final = 0.01  # of the quota, never touched: answers tell the past
WIDEST: Final = 0.08
TELLING: Final = 0.05  # share of the quota that must be used before its reset says how fast it refills
UNSTEADY: Final = (
    1.6  # a refill that seems this much faster or slower than before: it is no bucket but a window
)
LATE_S: Final = 1.0  # by which a window may begin later than it could: haste loses quota, this does not...
LATE: Final = 0.1  # ... and of the window
SETTLE_S: Final = 4.0  # in which a difference to what the provider says is taken over
DRIFT_S: Final = 10.0  # in which a lasting difference is taken for somebody else's use


class Use(NamedTuple):
    """What requests take of each unit: one of them as expected, or all that were sent so far."""

    requests: float
    input_tokens: float
    output_tokens: float

    @classmethod
    def split(cls, ask: float, output: float) -> Use:
        """One request that may use `ask` tokens, of which answers usually have `output`."""
        output = min(ask, output)
        return cls(1.0, ask - output, output)

    def of(self, unit: Unit) -> float:
        """The part that counts in this unit."""
        if unit == "requests":
            return self.requests
        if unit == "tokens":
            return self.input_tokens + self.output_tokens
        return self.input_tokens if unit == "input tokens" else self.output_tokens


class Mirror:
    """What should be left of one quota now, refilled evenly or at the end of a window.

    Answers are old when they come, and come out of order. So each is carried forward to now: what was left, plus what
    came back since its request was sent, less what was sent since. A difference to the mirror is taken over within
    seconds; one that lasts is somebody else's use of the same quota and slows the refill.

    The seconds until a window's end were true at some moment between a request's permit and its answer, and a burst of
    permits takes a while to be sent. So the end lies between two moments; nobody goes before the later one, within
    `LATE_S`.
    """

    __slots__ = (
        "_at",
        "_began",
        "_ends",
        "_ends_by",
        "_heard_s",
        "_level",
        "_longest_s",
        "_margin",
        "_others",
        "_seen",
        "limit",
        "rate",
        "windowed",
    )

    def __init__(self, now: float, quota: Quota) -> None:
        self.limit = quota.limit
        self.rate = quota.limit / 60.0
        self.windowed = False
        self._level = quota.remaining
        self._at = self._heard_s = now
        self._others = 0.0  # per second
        self._margin = MARGIN
        self._seen = 0.0  # refill per second as last worked out
        self._ends = 0.0  # of the window, not before it; 0 until an answer of this window told it
        self._ends_by = 0.0  # and not after this
        self._began = 0.0
        self._longest_s = 0.0  # that any answer named until the reset: no window is taken for longer

    def wait_s(self, now: float, amount: float) -> float:
        """Seconds until so much may be taken; 0 for now."""
        self._fill(now)
        short = min(amount, self.limit * (1 - WIDEST)) + self._margin * self.limit - self._level
        if short <= 0:
            return 0.0
        if self.windowed:
            left_s = self._over_s - now
            return max(0.01, left_s if self._ends else min(0.5, left_s))
        return max(0.001, short / self._net())

    def take(self, amount: float) -> None:
        """So much is sent, or with a minus comes back; no request takes more than the whole quota."""
        self._level -= max(-self.limit, min(self.limit, amount))

    def heard(self, now: float, quota: Quota, sent_s: float, sent_since: float, rejected: bool) -> None:
        """An answer tells what was left.

        Args:
            now: when it is read.
            quota: what it says.
            sent_s: when its request was sent.
            sent_since: taken by requests after it.
            rejected: it is a rejection, which is made at once, not after the work.
        """
        self._fill(now)
        if quota.limit != self.limit:
            self._resize(quota)
        told_s = now if rejected else sent_s
        self._see_refill(now, quota, told_s)
        if rejected and quota.remaining < self._margin * self.limit:
            self._margin = min(WIDEST, 1.5 * self._margin)
        elif not rejected:
            self._margin = max(MARGIN, self._margin * 0.999)
        if self.windowed:
            if told_s >= self._began:  # not of a window that is over
                self._level = min(self._level, quota.remaining - sent_since)
            return
        left = min(self.limit, quota.remaining + self._net() * (now - told_s)) - sent_since
        self._correct(now, left - self._level)

    def _correct(self, now: float, apart: float) -> None:
        passed = min(1.0, now - self._heard_s)
        self._heard_s = now
        self._level += apart * min(1.0, passed / SETTLE_S)
        self._others = min(0.95 * self.rate, max(-self.rate, self._others - apart * passed / DRIFT_S**2))

    def _resize(self, quota: Quota) -> None:
        self._level = min(self._level, quota.remaining)
        self.rate *= quota.limit / self.limit
        self.limit = quota.limit
        self._seen = self._others = 0.0

    def _see_refill(self, now: float, quota: Quota, told_s: float) -> None:
        used = quota.limit - quota.remaining
        if not quota.reset_s or used < TELLING * quota.limit:
            return
        self._longest_s = max(self._longest_s, quota.reset_s)
        seen = used / quota.reset_s
        if self._seen and not 1 / UNSTEADY < seen / self._seen < UNSTEADY:
            self.windowed = True
        self._seen = self._seen or seen
        if self.windowed:
            if told_s >= self._began:
                self._ends_by = min(self._ends_by or math.inf, now + quota.reset_s)
                self._ends = max(self._ends, told_s + quota.reset_s)
        else:
            self.rate = seen

    def _net(self) -> float:
        return max(0.02 * self.rate, self.rate - self._others)

    def _fill(self, now: float) -> None:
        passed, self._at = now - self._at, now
        if not self.windowed:
            self._level = min(self.limit, self._level + passed * self._net())
        elif now >= self._over_s:
            self._level, self._began = self.limit, self._over_s
            self._ends = self._ends_by = 0.0

    @property
    def _over_s(self) -> float:
        """When the window is over: as told; where no answer of it told anything, when it has been as long as any."""
        if not self._ends:
            return self._began + self._longest_s
        return max(self._ends, min(self._ends_by, self._ends + min(LATE_S, LATE * self._longest_s)))
