"""A quota that the provider shows, mirrored: believed only as far as it predicts. No clock, no I/O."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from cottonpalm.request.limiter.rules.causes import APART, ENOUGH

if TYPE_CHECKING:
    from cottonpalm.types import Quota

RESET, MINUTE, SEEN, WINDOW = range(4)  # the ways
FLOWING: Final = (RESET, MINUTE, SEEN)  # what is used comes back little by little
WAYS: Final = (*FLOWING, WINDOW)


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
        enough: as long as no more than this was sent in all, what was left at the newest answer is enough, whatever
            came back.
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
        "enough",
        "trusted",
        "way",
    )

    _limit: float

    def __init__(self) -> None:
        self.trusted, self.way = False, 0
        self._base: _Told | None = None  # of the last judgement
        self._last: _Told | None = None  # the newest that is known
        self._most = self._ends_s = -math.inf  # that was ever left; when all is back, as said
        self.enough = math.inf
        self._rates = [0.0, 0.0, 0.0, 0.0]
        self._errors = [0.0, 0.0, 0.0, 0.0]
        self._judged = 0

    @property
    def misleads(self) -> bool:
        """It was looked at, and does not predict."""
        return self._judged > 0 and not self.trusted

    @property
    def steady(self) -> bool:
        """It has predicted for a while, and hardly erred."""
        return self.trusted and self._judged >= ENOUGH and self._errors[self.way] * ENOUGH < APART

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
        used = total - last.total
        short = cost + self._errors[self.way] * used - self._left(self.way, last, now, used)
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
        if self._last is not None and at_s <= self._last[0]:
            return
        limit, left, reset_s = quota.limit, quota.remaining, quota.reset_s
        self._last = told = _Told(at_s, total, left)
        self.enough = total + (left if left < limit else limit) / (1 + APART)
        if left > self._most:  # noqa: PLR1730 - for every answer: quicker than max()
            self._most = left
        base = self._base
        if base is None:
            self._base = told
        elif total - base[1] >= ENOUGH * cost:
            self._judge(base, told, cost)
            self._base = told
        self._limit, self._rates[MINUTE] = limit, limit / 60
        if reset_s and limit - left >= 2 * cost:
            self._rates[RESET] = (limit - left) / reset_s
        if reset_s is not None:
            self._ends_s = at_s + reset_s

    def _judge(self, base: _Told, told: _Told, cost: float) -> None:
        rates, errors = self._rates, self._errors
        used, (at_s, _, left) = told.total - base.total, told
        self._judged = judged = self._judged + 1
        weight = 1 / judged if judged < ENOUGH else 1 / ENOUGH
        for way in WAYS:
            off = abs(self._left(way, base, at_s, used) - left) - cost
            if off > 0 or errors[way]:
                errors[way] += weight * (min(1.0, max(0.0, off) / used) - errors[way])
        if left < self._most - cost or base.left < self._most - cost:  # else some may have run over
            seen = max(0.0, (used + left - base.left) / (at_s - base.at_s))
            rates[SEEN] += (1 / ENOUGH if rates[SEEN] else 1.0) * (seen - rates[SEEN])
        near = min(errors) + APART / ENOUGH
        self.way = WINDOW  # of those that predict alike, the most careful
        if errors[WINDOW] > near:
            fit = [way for way in FLOWING if errors[way] <= near and rates[way] > 0]
            self.way = min(fit, key=rates.__getitem__, default=WINDOW)
        self.trusted = errors[self.way] < APART

    def _left(self, way: int, since: _Told, now: float, used: float) -> float:
        """What is left where so much was used since then."""
        if way == WINDOW:
            return (since.left if now < self._ends_s else self._limit) - used
        return min(max(self._most, since.left), since.left + self._rates[way] * (now - since.at_s) - used)
