"""How many requests may be in flight: a limit that doubles until it meets resistance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cottonpalm.model import Verdict

_USED: Final = 0.8  # a limit that was not filled this far is untested: no reason to raise it
_CUT: Final = 0.75  # what is left after a rejection (0.7 to 0.8 in the literature; CUBIC, RFC 9438, has 0.7)
_CAREFUL: Final = 0.05  # growth per round near the wall, at least one request
_BEYOND: Final = 1.25  # unopposed this far above the wall: the wall has moved


@dataclass(frozen=True, slots=True)
class Doubling:
    """A limit on requests in flight, one step per finished call.

    A round is as many accepted calls as the limit was when it began, about one round trip. Only a limit that
    was at least 80 % used grows:

    - before the first rejection: one more per accepted call, so it doubles per round (TCP slow start);
    - after a rejection at w in flight the limit is 0.75 w and w is the *wall*; up to 1.25 w it grows by 5 % a
      round, at least by one request;
    - unopposed beyond 1.25 w the wall has moved, and it doubles again.

    A rejection cuts relative to what was really in flight: a limit far above that was never tested. That one
    overload cuts only once is the caller's business, who knows which request was sent when.

    Attributes:
        limit: requests in flight; a fraction counts from the next whole number on.
        minimum: the limit never falls below it.
        maximum: the limit never rises above it.
        wall: requests in flight at the last rejection, None before the first.
        base: the limit when the round began; 0 stands for `limit`.
    """

    limit: float
    minimum: float = 1
    maximum: float = 500
    wall: float | None = None
    base: float = 0.0

    def after(self, verdict: Verdict, in_flight: int) -> Doubling:
        """Return the limit after one call has ended; the same object where nothing changes.

        Args:
            verdict: how it ended. IGNORED changes nothing.
            in_flight: the most that was in flight during this round, the finished call included.
        """
        if verdict is Verdict.SUCCESS:
            used = in_flight >= _USED * int(self.base or self.limit)
            return self._raised() if used and self.limit < self.maximum else self
        if verdict is Verdict.DROPPED:
            return self._cut(in_flight)
        return self

    def next_round(self) -> Doubling:
        """Return the same limit at the beginning of a new round."""
        if (self.base or self.limit) == self.limit:
            return self
        return Doubling(self.limit, self.minimum, self.maximum, self.wall, self.limit)

    def _raised(self) -> Doubling:
        base = self.base or self.limit
        near_the_wall = self.wall is not None and base <= self.wall * _BEYOND
        step = max(1.0, _CAREFUL * base) / int(base) if near_the_wall else 1.0
        return Doubling(min(self.maximum, self.limit + step), self.minimum, self.maximum, self.wall, base)

    def _cut(self, in_flight: int) -> Doubling:
        wall = min(self.limit, max(1, in_flight))
        limit = max(self.minimum, wall * _CUT)
        return Doubling(limit, self.minimum, self.maximum, wall, limit)
