"""A quota that the provider shows, mirrored: believed only as far as it predicts. No clock, no I/O."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from cottonpalm.request.limiter.rules.causes import ENOUGH

if TYPE_CHECKING:
    from cottonpalm.types import Quota

TRUSTED: Final = 0.2  # of what was used between two answers: a mirror that is further off is not believed

RESET, MINUTE, SEEN, WINDOW = range(4)  # the ways


class _Told(NamedTuple):
    """What one answer showed: when its request was sent, all that was admitted up to it, what was left."""

    at_s: float
    total: float
    left: float


class Shown:
    """One unit's quota. Four ways to read its headers are kept side by side, and the one that predicts best counts.

    What is left at an answer should be what was left at an earlier one, plus what came back, less what was used
    between. The ways differ in what comes back: all that is used until the reset that is named, evenly; a limit's
    sixtieth each second, as limits are named per minute; what was seen to come back; or nothing before the reset, when
    a window ends. Where none of them predicts, the mirror is not used.

    Attributes:
        trusted: it predicts.
        way: which of the ways counts.
    """

    __slots__ = (
        "_base",
        "_ends_s",
        "_errors",
        "_judged",
        "_last",
        "_limit",
        "_most",
        "_rates",
        "trusted",
        "way",
    )

    _limit: float

    def __init__(self) -> None:
        self.trusted, self.way = False, 0
        self._base: _Told | None = None  # of the last judgement
        self._last: _Told | None = None  # the newest that is known
        self._most = self._ends_s = -math.inf  # that was ever left; when all is back, as said
        self._rates = [0.0, 0.0, 0.0, 0.0]
        self._errors = [0.0, 0.0, 0.0, 0.0]
        self._judged = 0

    @property
    def misleads(self) -> bool:
        """It was looked at, and does not predict."""
        return self._judged > 0 and not self.trusted

    @property
    def limit(self) -> float:
        """The quota as it is named."""
        return self._limit

    @property
    def rate(self) -> float:
        """What comes back in a second."""
        return self._rates[self.way]

    def wait_s(self, now: float, total: float, cost: float) -> float:
        """Seconds until so much may go where `total` was sent so far; not above 0 for now."""
        last = self._last
        if last is None:
            return 0.0
        short = cost - self._left(self.way, last, now, total - last.total)
        if short <= 0:
            return 0.0
        ends_s = self._ends_s - now  # all is back by then, as said
        if self.way == WINDOW:
            return ends_s
        return max(0.0, min(short / self._rates[self.way], ends_s))

    def told(self, at_s: float, total: float, cost: float, quota: Quota) -> None:
        """An answer shows it.

        Args:
            at_s: when its request was sent.
            total: admitted up to it, itself included.
            cost: of a usual request.
            quota: what it says.
        """
        if self._last is not None and at_s <= self._last.at_s:
            return
        limit, left, reset_s = quota.limit, quota.remaining, quota.reset_s
        told = _Told(at_s, total, left)
        self._most = max(self._most, left)
        base = self._base
        if base is None:
            self._base = told
        elif total - base.total >= ENOUGH * cost:
            self._judge(base, told, cost)
            self._base = told
        self._limit, self._rates[MINUTE] = limit, limit / 60
        if reset_s and limit - left >= 2 * cost:
            self._rates[RESET] = (limit - left) / reset_s
        if reset_s is not None:
            self._ends_s = at_s + reset_s
        self._last = told

    def wrong(self) -> None:
        """A request was rejected for it that it let go."""
        self._errors[self.way] += TRUSTED * (1 - self._errors[self.way])
        self.trusted = self.trusted and self._errors[self.way] < TRUSTED

    def _judge(self, base: _Told, told: _Told, cost: float) -> None:
        used = told.total - base.total
        for way in range(4):
            off = max(0.0, abs(self._left(way, base, told.at_s, used) - told.left) - cost) / used
            self._errors[way] += max(1 / ENOUGH, 1 / (self._judged + 1)) * (min(1.0, off) - self._errors[way])
        self._judged += 1
        if told.left < self._most - cost or base.left < self._most - cost:  # else some may have run over
            seen = (used + told.left - base.left) / (told.at_s - base.at_s)
            self._rates[SEEN] += (1 / ENOUGH if self._rates[SEEN] else 1.0) * (
                max(0.0, seen) - self._rates[SEEN]
            )
        near = min(self._errors) + TRUSTED / ENOUGH
        fit = [
            way for way in range(4) if self._errors[way] <= near and (self._rates[way] > 0 or way == WINDOW)
        ]
        self.way = min(
            fit or [WINDOW], key=self._rates.__getitem__
        )  # of those that predict alike, the most careful
        self.trusted = self._errors[self.way] < TRUSTED and (self._rates[self.way] > 0 or self.way == WINDOW)

    def _left(self, way: int, since: _Told, now: float, used: float) -> float:
        """What is left where so much was used since then."""
        if way == WINDOW:
            return (since.left if now < self._ends_s else self._limit) - used
        return min(max(self._most, since.left), since.left + self._rates[way] * (now - since.at_s) - used)
