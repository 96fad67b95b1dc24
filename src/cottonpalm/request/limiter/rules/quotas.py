"""All quotas that a provider shows, and what was sent since the last answer that showed them. No clock, no I/O."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from cottonpalm.request.limiter.rules.causes import HOLD, USUAL
from cottonpalm.request.limiter.rules.sent import Use
from cottonpalm.request.limiter.rules.shown import Shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cottonpalm.request.limiter.rules.sent import Sent
    from cottonpalm.types import Quota, Unit


LEAST: Final = 1e-9
PLACES: Final[dict[Unit, int]] = {"requests": 0, "tokens": 1, "output tokens": 2, "input tokens": 3}


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
        sent, bad, costs = by_unit(self.sent), by_unit(self._bad), by_unit(use)
        for unit, shown in self.shown.items():
            if not shown.trusted:
                continue
            which = PLACES[unit]
            total, cost = sent[which] - bad[which], costs[which]
            if total + cost > shown.enough and (wait_s := shown.wait_s(now, total, cost)) > longest_s:
                longest_s, binding = wait_s, unit
        return longest_s, binding

    def take(self, use: Use) -> Use:
        """So much is sent; all that was sent with it."""
        requests, tokens, output = self.sent
        self.sent = sent = Use(requests + use[0], tokens + use[1], output + use[2])
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
        use, (requests, tokens, output) = request.use, self._usual
        self._usual = usual = Use(
            requests + USUAL * (use[0] - requests),
            tokens + USUAL * (use[1] - tokens),
            output + USUAL * (use[2] - output),
        )
        bad = self._bad
        for sent, rejected in reversed(self._rejected):
            if sent.requests > request.sent.requests:
                bad = _plus(bad, rejected, -1.0)
        totals, taken, costs = by_unit(request.sent), by_unit(bad), by_unit(usual)
        at_s, mirrors = request.at_s, self.shown
        for quota in quotas:
            unit = quota.unit
            if (shown := mirrors.get(unit)) is None:
                shown = mirrors[unit] = Shown()
            which = PLACES[unit]
            cost = costs[which] or by_unit(use)[which]
            shown.told(at_s, totals[which] - taken[which], cost if cost > LEAST else LEAST, quota)

    def empty(self, request: Sent, quotas: Sequence[Quota]) -> bool:
        """One of them does not hold what a rejected request wanted."""
        return any(quota.remaining < request.use.of(quota.unit) for quota in quotas)


def by_unit(use: Use) -> tuple[float, float, float, float]:
    """The part of each unit, at its place."""
    requests, tokens, output = use
    return requests, tokens, output, tokens - output


def _plus(one: Use, other: Use, times: float = 1.0) -> Use:
    return Use(one[0] + times * other[0], one[1] + times * other[1], one[2] + times * other[2])
