"""All quotas that a provider shows, and what was sent since the last answer that showed them. No clock, no I/O."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Final

from cottonpalm.request.limiter.rules.causes import APART, HOLD, USUAL
from cottonpalm.request.limiter.rules.sent import NOTHING
from cottonpalm.request.limiter.rules.shown import Shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cottonpalm.request.limiter.rules.headroom import Room
    from cottonpalm.request.limiter.rules.sent import Sent, Use
    from cottonpalm.types import Quota, Unit


LEAST: Final = 1e-9
PLACES: Final[dict[Unit, int]] = {"requests": 0, "tokens": 1, "output tokens": 2, "input tokens": 3}
_FREE: Final = (0.0, None)


class Quotas:
    """The mirrors of one key's quotas.

    As long as all of them predict and none is near, an answer tells nothing new: the newest is kept, and read when one
    comes near, when something is rejected, or after a part of what is left, to see whether they still predict.

    Attributes:
        shown: by unit.
        sent: all that was sent: requests, tokens, output tokens.
    """

    __slots__ = ("_bad", "_enough", "_kept", "_rejected", "_until", "_until_s", "_usual", "sent", "shown")

    def __init__(self) -> None:
        self.shown: dict[Unit, Shown] = {}
        self.sent = self._bad = NOTHING
        self._usual: Use = (1.0, 0.0, 0.0)
        # Of later requests than one that is answered now: what was sent up to each, and what it took.
        self._rejected: deque[tuple[Use, Use]] = deque(maxlen=HOLD)
        self._kept: tuple[Sent, Sequence[Quota], float] | None = None
        self._until = self._until_s = 0.0  # requests, and a moment, up to which nothing is read
        self._enough = math.inf, math.inf  # no mirror is asked up to so many requests and tokens

    @property
    def trusted(self) -> bool:
        """Any of them predicts."""
        return any(shown.trusted for shown in self.shown.values())

    @property
    def misleading(self) -> bool:
        """Quotas are shown, and none of them predicts."""
        return any(shown.misleads for shown in self.shown.values()) and not self.trusted

    def room(self) -> Room:
        """So much may be sent without asking, whatever time does."""
        return self._enough[0] - self.sent[0], self._enough[1] - self.sent[1]

    @property
    def ahead(self) -> float:
        """Usual requests for which enough was left at the last answer that is known, of each that is shown."""
        totals, costs = self._totals(), by_unit(self._usual)
        rooms = (
            (shown.enough - totals[PLACES[unit]]) / max(LEAST, costs[PLACES[unit]])
            for unit, shown in self.shown.items()
        )
        return max(0.0, min(rooms, default=0.0))

    def wait_s(self, now: float, ask: float, output: float) -> tuple[float, Unit | None]:
        """Seconds until a request may be sent that takes so many tokens, and the unit that says so."""
        room = self.room()
        if room[0] >= 1.0 and room[1] >= ask:
            return _FREE
        self.read()
        longest_s, binding = 0.0, None
        totals, costs = self._totals(), _at_most((1.0, ask, min(ask, output)))
        for unit, shown in self.shown.items():
            if not shown.trusted:
                continue
            which = PLACES[unit]
            total, cost = totals[which], costs[which]
            if total + cost > shown.enough and (wait_s := shown.wait_s(now, total, cost)) > longest_s:
                longest_s, binding = wait_s, unit
        return longest_s, binding

    def book(self, sent_now: Iterable[Sent], output: float) -> None:
        """These were sent, in this order, and expected to have so much output at most."""
        requests, tokens, outputs = self.sent
        for sent in sent_now:
            ask = sent.ask
            own = ask if ask < output else output
            requests, tokens, outputs = requests + 1.0, tokens + ask, outputs + own
            sent.use, sent.sent = (1.0, ask, own), (requests, tokens, outputs)
        self.sent = requests, tokens, outputs

    def undo(self, request: Sent) -> None:
        """It did not go after all."""
        self.sent = _plus(self.sent, request.use, -1.0)

    def rejected(self, request: Sent) -> None:
        """It was rejected."""
        self.read()
        self._bad = _plus(self._bad, request.use)
        self._rejected.append((request.sent, request.use))
        self._survey()

    def keeps(self, request: Sent, quotas: Sequence[Quota], patience_s: float) -> bool:
        """Whether an answer to this request shows nothing new; it is kept then until somebody reads it.

        A rejection takes no longer to come than `patience_s`.
        """
        kept = self.sent[0] < self._until and request.at_s < self._until_s
        if kept:
            self._kept = request, quotas, patience_s
        return kept

    def read(self) -> None:
        """Read what was kept."""
        if self._kept is not None:
            self.learn(*self._kept)

    def learn(self, request: Sent, quotas: Sequence[Quota], patience_s: float) -> None:
        """Compare what is shown with what was expected, and go on from there."""
        self._kept = None
        use = request.use
        self._usual = usual = _plus(_plus(self._usual, self._usual, -USUAL), use, USUAL)
        bad = self._bad
        for sent, rejected in reversed(self._rejected):
            if sent[0] > request.sent[0]:
                bad = _plus(bad, rejected, -1.0)
        totals, taken, costs, uses = map(by_unit, (request.sent, bad, usual, use))
        for quota in quotas:
            if (shown := self.shown.get(quota.unit)) is None:
                shown = self.shown[quota.unit] = Shown()
            which = PLACES[quota.unit]
            cost = max(LEAST, costs[which] or uses[which])
            shown.told(request.at_s, totals[which] - taken[which], cost, quota)
        self._until_s = request.at_s + patience_s
        self._survey()

    def _survey(self) -> None:
        """How far each of them is."""
        totals, costs, near = self._totals(), by_unit(self._usual), math.inf
        most_requests = most_tokens = math.inf
        for unit, shown in self.shown.items():
            which = PLACES[unit]
            room = shown.enough - totals[which]
            near = min(near, room / (costs[which] or math.inf)) if shown.steady else 0.0
            if shown.trusted and which:
                most_tokens = min(most_tokens, self.sent[1] + room)
            elif shown.trusted:
                most_requests = self.sent[0] + room
        self._enough = most_requests, most_tokens
        self._until = self.sent[0] + near / HOLD

    def _totals(self) -> tuple[float, float, float, float]:
        """What was sent and not rejected, by unit."""
        return by_unit(_plus(self.sent, self._bad, -1.0))

    def empty(self, request: Sent, quotas: Sequence[Quota]) -> bool:
        """One of them does not hold what a rejected request wanted."""
        wanted = _at_most(request.use)
        return any(quota.remaining < wanted[PLACES[quota.unit]] for quota in quotas)


def by_unit(use: Use) -> tuple[float, float, float, float]:
    """The part of each unit, at its place."""
    requests, tokens, output = use
    return requests, tokens, output, tokens - output


def _at_most(use: Use) -> tuple[float, float, float, float]:
    """What of each unit is taken: tokens are estimates, so a little more."""
    requests, tokens, output = use
    return by_unit((requests, (1 + APART) * tokens, (1 + APART) * output))


def _plus(one: Use, other: Use, times: float = 1.0) -> Use:
    return one[0] + times * other[0], one[1] + times * other[1], one[2] + times * other[2]
