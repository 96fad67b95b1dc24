"""When a provider counts as dead, and how long to leave it alone before one call asks again."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

from cottonpalm.request.limiter.rules.causes import ENOUGH
from cottonpalm.request.limiter.rules.recovery import BACKOFF, LONGEST_S

OPENS_AT: Final = 20  # different requests failed in a row: fewer may do so for themselves, as far as is known
PATIENT_S: Final = 180.0  # after which it is their own fault after all, if no more than those can be asked
_FIRST_WAIT_S: Final = 1.0


@dataclass(slots=True)
class Streak:
    """Failures in a row, told by the order in which requests were sent.

    A provider that goes down may still answer what it had begun, and failures come faster than answers. So an answer
    ends a streak only if its request was sent after the streak began; and a streak is none as long as most of what was
    sent since then is under way.

    Attributes:
        failures: of all sends since then.
    """

    failures: int = 0
    _began: int = 0

    def failed(self, good: int, sent: int) -> bool:
        """Take note of a failure; whether a streak begins with it.

        Args:
            good: the number of the request that was sent last of all that were accepted.
            sent: the number of the last one sent.
        """
        begins = not self.failures or self.over(good)
        if begins:
            self.failures, self._began = 0, sent
        self.failures += 1
        return begins

    def over(self, good: int) -> bool:
        """Whether a request was accepted that was sent since it began."""
        return good > self._began

    def tells(self, sent: int) -> bool:
        """Whether three quarters of what was sent since it began failed: one that does half its work is not dead."""
        return 4 * self.failures >= 3 * (sent - self._began)


class Enough(Enum):
    """How many different requests must have failed, until the provider counts as dead."""

    MANY = "many"  # `OPENS_AT`: the request can go elsewhere, which is done for a provider alone that is surely dead
    FEW = "few"  # so many as hardly ever fail for themselves
    ONE = "one"  # any: all other endpoints fail as well


class Standing(NamedTuple):
    """How a key stands when one of its requests has failed.

    Attributes:
        now: when.
        began_s: when its first request was sent.
        good: the number of the request that was sent last of all that were accepted.
        sent: the number of the last one sent.
        accepted: how many were accepted so far.
    """

    now: float
    began_s: float
    good: int
    sent: int
    accepted: int


@dataclass(slots=True)
class Circuit:
    """A circuit breaker in the usual sense (Nygard, Release It!): closed, open, and half open for one probe.

    It opens after `OPENS_AT` different requests failed for transient reasons in one `Streak`, and closes with its end.
    Fewer do once others were accepted and hardly any failed: where it is as unlikely that so many fail for themselves
    as that half of `OPENS_AT` coins fall on the same side, and a second try failed as well. So where few rows are left,
    or few may be in flight, an outage does not use up their tries. But those few may be bad themselves: it closes again
    once they have failed for as long as all had worked before, or for `PATIENT_S`.

    Where more were accepted meanwhile, of those sent before it, some requests fail for themselves: it stays closed, but
    where all other endpoints fail as well.

    While it is open everybody waits: a second, then a third longer after each probe that fails. So it is asked again
    before an outage has lasted a third longer than it did, and at the latest `LONGEST_S` after its end.

    Attributes:
        open: the provider counts as dead; until the next failure this may be old.
        failed: different requests that failed in this streak.
        probes: probes that failed since it opened.
        streak: the number of this streak.
        outages: of streaks, those in which it opened.
    """

    open: bool = False
    failed: int = 0
    probes: int = 0
    streak: int = 0
    outages: set[int] = field(default_factory=set)
    _streak: Streak = field(default_factory=Streak)
    _accepted: int = 0  # when the streak began
    _alone: int = 0  # different requests that failed in streaks before it, in which it stayed closed
    _until_s: float = 0.0  # few tell for so long that it is dead
    _all_fail: bool = False  # in this streak all other endpoints failed as well

    def after(self, key: Standing, *, last: int | None, probe: bool, enough: Enough = Enough.FEW) -> bool:
        """Take note of one transient failure; whether the circuit is open now.

        Args:
            key: how it stands.
            last: the outage in which this request failed before; 0: in none; None: in a streak that was none, so it may
                fail for itself.
            probe: it was sent after the latest wait was over.
            enough: how many tell it.
        """
        if self._streak.failed(key.good, key.sent):
            self._alone += 0 if self.open else self.failed
            self.open, self.failed, self.probes, self.streak = False, 0, 0, self.streak + 1
            self._accepted = key.accepted
            self._until_s, self._all_fail = self._patience_ends(key), False
        if enough is Enough.ONE and not self._all_fail:  # nobody may have asked here for long
            self._until_s, self._all_fail = self._patience_ends(key), True
        self.failed += last is not None and last != self.streak
        was_open, self.open = self.open, self._opens(key, enough)
        if self.open and (probe or not was_open):
            self.probes += 1
        if self.open:
            self.outages.add(self.streak)
        else:  # not after all
            self.outages.discard(self.streak)
        return self.open

    def _opens(self, key: Standing, enough: Enough) -> bool:
        """Whether those that failed tell that the provider is dead, or told it before and nothing speaks against it."""
        many, in_time = self.failed >= OPENS_AT, key.now < self._until_s
        if self.open or (enough is Enough.ONE and key.accepted):
            return many or in_time
        again = self._streak.failures > self.failed > 1
        few = enough is Enough.FEW and in_time and again and self._is_unlikely(key.accepted)
        tells = many or few
        return tells and self.failed >= key.accepted - self._accepted and self._streak.tells(key.sent)

    def _is_unlikely(self, accepted: int) -> bool:
        """Whether so many hardly fail for themselves, by the share of those before them that did."""
        share = (self._alone + 1) / (self._alone + accepted + 2)  # the rule of succession
        return self.failed * -math.log(share) >= OPENS_AT / 2 * math.log(2)

    @staticmethod
    def _patience_ends(key: Standing) -> float:
        return key.now + min(PATIENT_S, key.now - key.began_s)

    def trip(self) -> None:
        """Open it, whatever else is known: nobody reaches the provider."""
        self.open = True

    def is_open(self, good: int) -> bool:
        """Whether the provider counts as dead now."""
        return self.open and not self._streak.over(good)

    @property
    def wait_s(self) -> float:
        """Seconds until the next probe."""
        failed = min(max(0, self.probes - 1), 20)  # the longest wait is reached by then
        return min(LONGEST_S, _FIRST_WAIT_S * (1 + BACKOFF) ** failed)


@dataclass(slots=True)
class Storm:
    """When those go that sleep since the run's retries are used up: one asks, then two for each that was accepted.

    Where one fails again, it begins anew; the longer it lasts, the later.
    """

    _began_s: float = 0.0
    _failed_s: float = 0.0
    _sent: int = 0  # up to the last failure
    _gone: int = ENOUGH  # since then

    def failed(self, now: float, sent: int) -> None:
        """Another one failed, of so many that were sent, and no retry was left for it."""
        if self._gone >= ENOUGH:  # as many went since the last one: it was over
            self._began_s = now
        self._failed_s, self._sent, self._gone = now, sent, 0

    def lets_go(self, now: float, good: int, least_s: float) -> bool:
        """Whether one more of them goes now, which is counted; `good` is the last one sent of all accepted."""
        since = max(0, good - self._sent)
        if self._gone or since >= ENOUGH:
            goes = self._gone < 2 * since
        else:
            goes = now - self._failed_s >= max(least_s, BACKOFF * (self._failed_s - self._began_s))
        self._gone += goes
        return goes
