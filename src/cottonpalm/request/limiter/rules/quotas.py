"""All quotas that a provider shows, and what was sent since the last answer that showed them. No clock, no I/O."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from cottonpalm.request.limiter.rules.causes import HOLD
from cottonpalm.request.limiter.rules.sent import Use
from cottonpalm.request.limiter.rules.shown import Shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cottonpalm.request.limiter.rules.sent import Sent
    from cottonpalm.types import Quota, Unit


class Quotas:
    """The mirrors of one key's quotas.

    Attributes:
        shown: by unit.
    """

    __slots__ = ("_bad", "_rejected", "_usual", "sent", "shown")

    def __init__(self) -> None:
        self.shown: dict[Unit, Shown] = {}
        self.sent = self._bad = Use(0.0, 0.0, 0.0)
        self._usual = Use(1.0, 0.0, 0.0)
        # Of later requests than one that is answered now.
        self._rejected: deque[tuple[Use, Use]] = deque(maxlen=HOLD)

    @property
    def trusted(self) -> bool:
        """Any of them predicts."""
        return any(shown.trusted for shown in self.shown.values())

    @property
    def misleading(self) -> bool:
        """Quotas are shown, and none of them predicts."""
        return any(shown.misleads for shown in self.shown.values()) and not self.trusted

    def wait_s(self, now: float, use: Use) -> tuple[float, Unit | None]:
        """Seconds until so much may be sent, and the unit that says so."""
        longest_s, binding = 0.0, None
        for unit, shown in self.shown.items():
            if shown.trusted:
                total = self.sent.of(unit) - self._bad.of(unit)
                if (wait_s := shown.wait_s(now, total, use.of(unit))) > longest_s:
                    longest_s, binding = wait_s, unit
        return longest_s, binding

    def take(self, use: Use) -> Use:
        """So much is sent; all that was sent with it."""
        self.sent = sent = _plus(self.sent, use)
        return sent

    def undo(self, use: Use) -> None:
        """It did not go after all."""
        self.sent = _plus(self.sent, use, -1.0)

    def rejected(self, sent: Use, use: Use) -> None:
        """A request was rejected that was the last of `sent`."""
        self._bad = _plus(self._bad, use)
        self._rejected.append((sent, use))

    def heard(self, request: Sent, quotas: Sequence[Quota]) -> None:
        """An answer to this request shows quotas."""
        self._usual = _plus(self._usual, _plus(request.use, self._usual, -1.0), 1 / 16)
        bad = self._bad
        for sent, use in reversed(self._rejected):
            if sent.requests > request.sent.requests:
                bad = _plus(bad, use, -1.0)
        for quota in quotas:
            unit = quota.unit
            if (shown := self.shown.get(unit)) is None:
                shown = self.shown[unit] = Shown()
            total = request.sent.of(unit) - bad.of(unit)
            cost = max(1e-9, self._usual.of(unit) or request.use.of(unit))
            shown.told(request.at_s, total, cost, quota)

    def empty(self, request: Sent, quotas: Sequence[Quota]) -> list[Shown]:
        """Those that do not hold what a rejected request wanted."""
        return [self.shown[quota.unit] for quota in quotas if quota.remaining < request.use.of(quota.unit)]


def _plus(one: Use, other: Use, times: float = 1.0) -> Use:
    return Use(one[0] + times * other[0], one[1] + times * other[1], one[2] + times * other[2])
