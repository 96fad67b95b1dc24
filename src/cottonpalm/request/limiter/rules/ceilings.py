"""Never more than so much in any minute: the user's own limits, kept exactly, and evenly over the minute."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Final

from cottonpalm.request.limiter.rules.sent import Moment

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cottonpalm.request.limiter.rules.headroom import Event, Room
    from cottonpalm.request.limiter.rules.sent import Sent
    from cottonpalm.types import Unit

MINUTE_S: Final = 60.0
WINDOW_S: Final = 60.3  # a minute at the provider: one request is longer on its way than another
SLACK: Final = 0.02  # of a minute's worth may go at once, after a time in which less went
MOMENT_S: Final = WINDOW_S / 1000  # requests of so long are remembered, and forgotten, together
LEAST: Final = 1e-9


class Ceiling:
    """At most `most` in any sliding minute, and evenly: no minute's worth goes in one burst.

    What is above it alone goes when nothing else was sent for a minute.

    Attributes:
        most: requests or tokens.
        tokens: it counts tokens.
        portion: of them, what other processes leave to this one; `most` where there are none.
        even: its part of each minute once all have their fair ones, by which it goes evenly.
        used: in the last minute.
        booked: in all, as far as it was known when it was sent, or used more.
        largest: what one request took at most so far.
    """

    __slots__ = (
        "_at",
        "_backlog",
        "_moments",
        "booked",
        "even",
        "largest",
        "most",
        "portion",
        "tokens",
        "used",
    )

    def __init__(self, most: float, *, tokens: bool = False) -> None:
        self.most = self.portion = self.even = most
        self.tokens = tokens
        self.used = self.booked = self.largest = 0.0
        self._backlog = self._at = 0.0  # sent sooner than evenly, as of when
        self._moments: deque[Moment] = deque()  # of the last minute, in order

    def wait_s(self, now: float, amount: float) -> float:
        """Seconds until so much may be sent; 0 for now."""
        if self._at < now:
            self._forget(now)
            self._drain(now)
        over = self.used + min(amount, self.most) - self.portion
        if over <= 0:
            if self._backlog <= SLACK * self.even:
                return 0.0
            return max(0.0, self._backlog / max(LEAST, self.even) - SLACK) * WINDOW_S
        for moment in self._moments:
            over -= moment.amount
            if over <= 0:
                return max(0.001, moment.at_s + WINDOW_S - now)
        return WINDOW_S

    @property
    def room(self) -> float:
        """So much may be sent without asking, whatever time does; it may be below 0."""
        return min(self.portion - self.used, SLACK * self.even - self._backlog)

    def most_within(self, seconds: float, even: float) -> float:
        """So much may go in so many seconds by this part of each minute: evenly, all at once what may, and one more."""
        return even * (seconds / WINDOW_S + SLACK) + (self.largest or self.most)

    def book(self, events: Iterable[Event]) -> None:
        """These were sent, or used less or more than was taken, in this order."""
        even, backlog, at, per_s = self.even, self._backlog, self._at, self.even / WINDOW_S
        counts, used, booked, largest = self.tokens, self.used, self.booked, self.largest
        amount, moment = 1.0, self._moments[-1] if self._moments else None
        for event in events:
            if not isinstance(event, tuple):
                if event.at_s > at:
                    backlog -= (event.at_s - at) * per_s
                    backlog, at = (backlog if backlog > 0 else 0.0), event.at_s
                if moment is None or at > moment.began_s + MOMENT_S:
                    moment = Moment(at)
                    self._moments.append(moment)
                if counts:
                    event.counted = amount = event.ask
                    event.moment = moment
                moment.at_s = at
                moment.amount += amount
                used += amount
                booked += amount
                largest = largest if amount <= largest else amount
                backlog += amount if amount < even else even
            elif counts and event[0].moment.at_s > at - WINDOW_S:  # else it does not count any more
                sent, tokens = event
                more, before = tokens - sent.counted, sent.counted
                sent.counted = tokens
                sent.moment.amount += more
                used += more
                booked += more if more > 0 else 0.0
                backlog = max(0.0, backlog + min(tokens, even) - min(before, even))
        self.used, self.booked, self.largest = used, booked, largest
        self._backlog, self._at = backlog, at
        self._forget(at)

    def undo(self, sent: Sent) -> None:
        """It did not go after all: one of the last."""
        if not self._moments or sent.at_s <= self._at - WINDOW_S:
            return
        moment, amount = (sent.moment, sent.counted) if self.tokens else (self._moments[-1], 1.0)
        moment.amount -= amount
        self.used -= amount
        self._backlog = max(0.0, self._backlog - min(amount, self.even))

    def used_at(self, now: float) -> float:
        """What was sent in the minute before."""
        self._forget(now)
        self._drain(now)
        return self.used

    def _drain(self, now: float) -> None:
        passed, self._at = now - self._at, now
        if passed > 0 and self._backlog:
            self._backlog = max(0.0, self._backlog - passed * self.even / WINDOW_S)

    def _forget(self, now: float) -> None:
        moments, before = self._moments, now - WINDOW_S
        while moments and moments[0].at_s <= before:
            self.used -= moments.popleft().amount
        if not moments:
            self.used = 0.0


class Ceilings:
    """The user's ceilings of one key.

    Attributes:
        each: all of them, by unit.
    """

    __slots__ = ("each",)

    def __init__(self, given: Iterable[tuple[Unit, float]]) -> None:
        self.each = [(unit, Ceiling(most, tokens=unit == "tokens")) for unit, most in given]

    def wait_s(self, now: float, ask: float) -> tuple[float, str]:
        """Seconds until a request of so many tokens may be sent, and what says so."""
        longest_s, binding = 0.0, ""
        for unit, ceiling in self.each:
            wait_s = ceiling.wait_s(now, ask if ceiling.tokens else 1.0)
            if wait_s > longest_s:
                longest_s, binding = wait_s, f"own {unit}"
        return longest_s, binding

    def room(self) -> Room:
        """So much may be sent without asking, whatever time does."""
        requests = tokens = math.inf
        for _, ceiling in self.each:
            if ceiling.tokens:
                tokens = min(tokens, ceiling.room)
            else:
                requests = min(requests, ceiling.room)
        return requests, tokens

    def book(self, events: Iterable[Event]) -> None:
        """These were sent, or used less or more than was taken, in this order."""
        for _, ceiling in self.each:
            ceiling.book(events)

    def undo(self, sent: Sent) -> None:
        """It did not go after all."""
        for _, ceiling in self.each:
            ceiling.undo(sent)
