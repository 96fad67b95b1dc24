"""Decides among several endpoints behind one queue: where the next row goes, and when a failing endpoint rests."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from cottonpalm.request.limiter.rules.circuit import Streak

if TYPE_CHECKING:
    from collections.abc import Sequence

RESTS_AFTER: Final = 5  # failures in a row; fewer may be caused by the rows themselves
_FIRST_REST_S: Final = 1.0
_LONGEST_REST_S: Final = 30.0
_FIRST_REFUSAL_S: Final = 60.0  # only a person can mend a wrong key or an unknown model, so ask rarely
_LONGEST_REFUSAL_S: Final = 900.0


class EndpointState(NamedTuple):
    """The state of one endpoint, as far as it matters to its next row.

    Attributes:
        free: free permits that no waiting request will take; if negative, so many are missing.
        limit: how many requests may be in flight there.
        waiting: how many requests of this run wait in line there.
        trip_s: mean seconds that an answer takes there.
        opens_in_s: seconds until a request may be sent there; 0: now.
        ill: its last requests failed, and none was accepted since.
        refused: its last refusal is permanent: a wrong key, no credit, no such model.
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
        """Whether a request would be sent there at once."""
        return self.free > 0 and not self.opens_in_s

    @property
    def busy(self) -> float:
        """Which part of its limit is used."""
        return 1 - self.free / self.limit

    @property
    def wait_s(self) -> float:
        """About how many seconds its next row waits in line; without end while other processes have its whole limit."""
        if not self.limit:
            return math.inf
        return (self.waiting + 1) * self.trip_s / self.limit

    @property
    def rank(self) -> tuple[int, float]:
        """Return a rank. The smallest is best for a row: a free permit, then a short wait, then an early opening."""
        if self.has_room:
            return 0, self.busy  # the endpoint with the largest free share is best
        if not self.opens_in_s:
            return 1, self.wait_s
        return 4 if self.refused else 3 if self.ill else 2, self.opens_in_s


def choose(standings: Sequence[EndpointState], turn: int) -> int:
    """Choose the endpoint for the next row; equal ones take turns.

    Args:
        standings: the states of all endpoints, at least one.
        turn: a number that grows with each choice.
    """
    count = len(standings)
    return min(range(count), key=lambda n: (standings[n].rank, (n - turn) % count))


class Transfer(NamedTuple):
    """An order to move so many waiting rows from one endpoint to another."""

    source: int
    target: int
    rows: int


def spread(standings: Sequence[EndpointState]) -> list[Transfer]:
    """Decide which waiting rows to move: first those of closed endpoints, then those of the longest lines.

    It moves no more rows than there are free permits, so that none of them waits again.
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


class Failed:
    """How often each endpoint failed one row.

    A row goes once to each. Where its own is down or has no place for it, it goes a second time to one that failed it
    once: that is no worse. Not more often, as each time its tries begin anew.
    """

    def __init__(self) -> None:
        self._times: Counter[int] = Counter()

    def note(self, number: int) -> None:
        """It failed there once more."""
        self._times[number] += 1

    def at(self, number: int) -> int:
        """How often it failed there."""
        return self._times[number]

    def allows(self, number: int, *, again: bool) -> bool:
        """Whether it may go there; `again`: its own is no better."""
        return self._times[number] <= int(again)


@dataclass(slots=True)
class Health:
    """Says whether one endpoint is worth asking: a circuit breaker, faster than the one for a lone provider.

    After `RESTS_AFTER` failures in one `Streak` the endpoint rests for 1, 2, 4, ... 30 seconds; after a refusal, for
    60, 120, ... 900. When a rest is over, one row at a time asks again until a request is accepted.

    Attributes:
        rests: how many rests there were since the last accepted request.
        rests_until: the `clock.now()` at which the latest rest ends or ended.
        refused: the endpoint's last refusal is permanent.
    """

    rests: int = 0
    rests_until: float = 0.0
    refused: bool = False
    _sent: int = 0
    _good: int = 0
    _rested_at: int = 0  # the number of the last request sent before the latest rest
    _streak: Streak = field(default_factory=Streak)

    @property
    def ill(self) -> bool:
        """Whether it rests, or only one row at a time may ask it."""
        return self.rests > 0

    def has_rested(self, by: float) -> bool:
        """Whether its rest has ended by then, so nobody knows how it is now; one that refuses says so again."""
        return self.rests_until <= by and not self.refused

    def send(self) -> int:
        """A request is sent now; return its number."""
        self._sent += 1
        return self._sent

    def accepted(self, number: int) -> None:
        """A request was answered. If it was sent before the rest, this does not show that the illness is over."""
        self._good = max(self._good, number)
        if number > self._rested_at:
            self.rests, self.rests_until, self.refused = 0, 0.0, False

    def failure(self, now: float, number: int, *, refusal: bool) -> float:
        """A request failed; return the seconds of the rest that now begins, or 0.0 for none.

        Args:
            now: the time at which we know it.
            number: the number that `send` returned. A request sent before the latest rest tells nothing new.
            refusal: True: the endpoint refuses permanently.
        """
        self._streak.failed(self._good, self._sent)
        if refusal and not self.refused:
            self.rests = 0  # the kind of failure changed, so its rests are counted anew
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
