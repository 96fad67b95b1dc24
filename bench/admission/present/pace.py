"""The pace a provider allows that names none, learnt from what it accepted between rejections."""

from __future__ import annotations

from typing import Final

UNDER: Final = 0.99  # of the learnt rate: what is left over fills the provider's bucket again
SLOWER: Final = 0.8  # after a rejection from which no rate can be told
FEW: Final = 8  # calls accepted between two rejections that tell nothing
LONGEST: Final = 3  # times `hold_calls`
UNSURE, SURE, STEEPEST = 0.1, 0.05, 0.5  # growth a round: rate unknown, known, long unopposed
WHOLE: Final = 1.0 - 1e-9  # one call, as far as sums of fractions go
SPARE_S: Final = 0.1  # of the rate, saved up while the line was empty
APART: Final = 0.3  # a sample that differs by more than this means that the limit has moved


class Pace:
    """Calls per second, off until a rejection that the number in flight does not explain.

    A provider's bucket is empty at a rejection. So between two of them it gave out just what was accepted there, and
    their ratio to the time between is the rate at which it fills, whatever our own pace was meanwhile.

    Attributes:
        rate: calls per second; 0 while it is off.
        hold_calls: accepted at a learnt rate before a higher one is tried; more often after it failed.
        learnt: calls per second as measured between rejections; 0 while unknown.
        taken: calls let through so far; `take` counts them.
    """

    __slots__ = (
        "_at",
        "_bound",
        "_growth",
        "_hold",
        "_level",
        "_mark",
        "_mark_s",
        "_premature",
        "_rejected",
        "_round",
        "_saved_s",
        "_since",
        "hold_calls",
        "learnt",
        "rate",
        "taken",
    )

    def __init__(self) -> None:
        self.rate = self.learnt = 0.0
        self.hold_calls = 400
        self._level = self._at = self._saved_s = 0.0
        self.taken = self._rejected = 0
        self._mark, self._mark_s = 0, -1.0  # accepted sends and moment of the last episode's first rejection
        self._since = self._round = 0
        self._growth, self._hold = UNSURE, 0
        self._premature = 0
        self._bound = False  # it held somebody back since it last grew

    @property
    def doubtful(self) -> bool:
        """Rejections come even below the learnt rate: it is not what limits us."""
        return self._premature >= 2

    @property
    def number(self) -> int:
        """Calls let through so far that were not rejected, as far as known."""
        return self.taken - self._rejected

    def wait_s(self, now: float) -> float:
        """Seconds until the next call may go; 0 for now."""
        if not self.rate:
            return 0.0
        self._fill(now)
        if self._level >= WHOLE:
            return 0.0
        self._bound = True
        return (1.0 - self._level) / self.rate

    def take(self) -> None:
        """One call goes."""
        self.taken += 1
        if self.rate:
            self._level -= 1.0

    def undo(self) -> None:
        """It did not go after all."""
        self.taken -= 1
        if self.rate:
            self._level += 1.0

    def paused(self, seconds: float) -> None:
        """Nothing may go for so long: what fills up meanwhile may be caught up."""
        self._saved_s = max(self._saved_s, seconds)

    def stale(self) -> None:
        """A call was rejected that was sent before the last rejection was known."""
        self._rejected += 1

    def accepted(self, trip_s: float) -> None:
        """A call was answered.

        Args:
            trip_s: how long an answer takes.
        """
        self._since += 1
        if not self.rate or self._since < self._hold:
            return
        self._round -= 1
        if self._round <= 0:
            self._grow(trip_s)

    def rejected(self, sent_s: float, now: float, rate: float, trip_s: float, explained: bool) -> None:
        """A call was rejected that was sent after the last rejection was known.

        Args:
            sent_s: when it was sent.
            now: when that is known.
            rate: answers per second of late.
            trip_s: how long an answer takes; no rate is learnt below one call in that time.
            explained: there is another reason for it than the pace.
        """
        self._rejected += 1
        before = self.learnt
        told = self._learn(sent_s)
        if explained:
            return
        held = self.rate > 0 and self._since < self._hold
        alike = before > 0 and abs(self.learnt / before - 1) < APART
        self._premature = self._premature + 1 if held and alike else 0
        slower = SLOWER * min(self.rate or rate, rate)
        if told and self.learnt and slower <= UNDER * self.learnt:
            self._hold = min(LONGEST * self.hold_calls, max(self.hold_calls, 2 * self._hold)) if alike else 0
            self._growth = SURE if alike else UNSURE
            self._set(now, max(1 / trip_s, UNDER * self.learnt))
        else:
            self._hold, self._growth = 0, UNSURE
            self._set(now, max(1 / trip_s, slower))
        self._since = self._round = 0

    def off(self) -> None:
        """Something else limits us now."""
        self.rate = 0.0
        self._premature = 0

    def forget(self) -> None:
        """The provider is another one now."""
        self.rate = self.learnt = 0.0
        self._growth, self._hold = UNSURE, 0

    def _learn(self, sent_s: float) -> bool:
        """Whether this rejection begins a new episode; its rate is taken in then."""
        accepted = self.number - self._mark
        if accepted < FEW:
            return False
        passed = sent_s - self._mark_s
        if self._mark_s >= 0 and passed > 0:
            self._take_in(accepted / passed)
        self._mark, self._mark_s = self.number, sent_s
        return True

    def _take_in(self, sample: float) -> None:
        apart = not self.learnt or abs(sample / self.learnt - 1) > APART
        self.learnt = sample if apart else 0.5 * (self.learnt + sample)

    def _set(self, now: float, rate: float) -> None:
        self._level = 0.0 if not self.rate else min(self._level, 1.0)
        self.rate, self._at = rate, now

    def _grow(self, trip_s: float) -> None:
        self._round = max(10, int(self.rate * trip_s / 2))
        if not self._bound:
            if self._since > 4 * self._round + self._hold:
                self.off()
            return
        self._bound = False
        self.rate *= 1 + self._growth
        self._growth = min(STEEPEST, 2 * self._growth)

    def _fill(self, now: float) -> None:
        passed = now - self._at
        self._at = now
        most = max(1.0, self.rate * max(SPARE_S, self._saved_s))
        self._level = min(most, self._level + passed * self.rate)
        if self._level < most / 2 and self._saved_s:
            self._saved_s = max(0.0, self._saved_s - passed) if self._level >= 1.0 else 0.0
