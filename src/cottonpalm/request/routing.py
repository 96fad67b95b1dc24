"""Several endpoints behind one queue: where the next row goes, and when an endpoint that fails is left alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from cottonpalm.request.limiter.rules.circuit import Streak

if TYPE_CHECKING:
    from collections.abc import Sequence

RESTS_AFTER: Final = 5  # failures in a row: below that it may be the rows' own fault
_FIRST_REST_S: Final = 1.0
_LONGEST_REST_S: Final = 30.0
_FIRST_REFUSAL_S: Final = 60.0  # a wrong key or an unknown model is mended by hand, if at all
_LONGEST_REFUSAL_S: Final = 900.0


class EndpointState(NamedTuple):
    """How one endpoint stands, as far as its next row is concerned.

    Attributes:
        free: permits that nobody has a claim to; below zero: so many are too few.
        limit: how many requests may be in flight there.
        waiting: requests of this run in line there.
        trip_s: mean seconds of an answer there.
        opens_in_s: seconds until a request may be sent there; 0: now.
        ill: its requests failed of late, and none was accepted since.
        refused: it said that it will never answer: a wrong key, no credit, no such model.
    """

    free: float
    limit: float
    waiting: int = 0
    trip_s: float = 1.0
    opens_in_s: float = 0.0
    ill: bool = False
    refused: bool = False

    @property
    def has_room(self) -> bool:
        """A request would go out there at once."""
        return self.free > 0 and not self.opens_in_s

    @property
    def rank(self) -> tuple[int, float]:
        """The smaller, the better a row is off there: a free permit, the shortest wait, the nearest opening."""
        if self.has_room:
            return 0, -self.free / self.limit  # the least used share
        if not self.opens_in_s:
            return 1, (self.waiting + 1) * self.trip_s / self.limit
        return 4 if self.refused else 3 if self.ill else 2, self.opens_in_s


def choose(standings: Sequence[EndpointState], turn: int) -> int:
    """The endpoint for the next row; among equal ones, each in its turn.

    Args:
        standings: of all endpoints, one at least.
        turn: a number that grows with each choice.
    """
    count = len(standings)
    return min(range(count), key=lambda n: (standings[n].rank, (n - turn) % count))


class Transfer(NamedTuple):
    """So many rows that wait at one endpoint go to another."""

    source: int
    target: int
    rows: int


def spread(standings: Sequence[EndpointState]) -> list[Transfer]:
    """Which rows in line are better off elsewhere: those of closed endpoints first, then of the longest lines.

    No more go than there are free permits, so none of them waits again.
    """
    lines = {n: standing.waiting for n, standing in enumerate(standings) if standing.waiting > 0}
    transfers: list[Transfer] = []
    for target in sorted(range(len(standings)), key=lambda n: standings[n].rank):
        free = int(standings[target].free) if standings[target].has_room else 0
        for source in sorted(lines, key=lambda n: standings[n].rank, reverse=True):
            rows = min(free, lines[source])
            if source == target or rows <= 0:
                continue
            transfers.append(Transfer(source, target, rows))
            lines[source] -= rows
            free -= rows
    return transfers


@dataclass(slots=True)
class Health:
    """Whether one endpoint is worth asking: a circuit breaker among several, quicker than the one of a lone provider.

    After `RESTS_AFTER` failures in one `Streak` it rests for 1, 2, 4, ... 30 seconds, after a refusal for 60, 120, ...
    900; when a rest is over, one row at a time asks again, until one is accepted.

    Attributes:
        rests: rests since the last request that was accepted.
        rests_until: `clock.now()` at which the latest of them ends or ended.
        refused: the last word of the endpoint was that it will never answer.
    """

    rests: int = 0
    rests_until: float = 0.0
    refused: bool = False
    _sent: int = 0
    _good: int = 0
    _rested_at: int = 0  # the last request sent before the latest rest
    _streak: Streak = field(default_factory=Streak)

    @property
    def ill(self) -> bool:
        """It rests, or is asked by one row at a time."""
        return self.rests > 0

    def send(self) -> int:
        """A request goes out; its number."""
        self._sent += 1
        return self._sent

    def accepted(self, number: int) -> None:
        """It was answered. What was sent before a rest is no sign that it is over."""
        self._good = max(self._good, number)
        if number > self._rested_at:
            self.rests, self.rests_until, self.refused = 0, 0.0, False

    def failure(self, now: float, number: int, *, refusal: bool) -> float:
        """A request failed; the seconds of the rest that begins with it, 0.0 for none.

        Args:
            now: when that is known.
            number: what `send` said; what was under way when a rest began says nothing new.
            refusal: it will never answer.
        """
        self._streak.failed(self._good, self._sent)
        if refusal and not self.refused:
            self.rests = 0  # another illness, with a time of its own
        elif now < self.rests_until or not self._tells(number):
            return 0.0
        first_s, longest_s = (
            (_FIRST_REFUSAL_S, _LONGEST_REFUSAL_S) if refusal else (_FIRST_REST_S, _LONGEST_REST_S)
        )
        rest_s = min(longest_s, first_s * 2.0 ** min(self.rests, 10))
        self.rests += 1
        self.refused, self._rested_at, self.rests_until = refusal, self._sent, now + rest_s
        return rest_s

    def _tells(self, number: int) -> bool:
        if self.ill:
            return number > self._rested_at
        return self._streak.failures >= RESTS_AFTER and self._streak.tells(self._sent)
