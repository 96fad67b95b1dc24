"""Never more than so much in any minute: the user's own limits, kept exactly, and evenly over the minute."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cottonpalm.request.limiter.rules.sent import Sent
    from cottonpalm.types import Unit

MINUTE_S: Final = 60.0
WINDOW_S: Final = 60.3  # a minute at the provider: one request is longer on its way than another
SLACK: Final = 0.02  # of a minute's worth may go at once, after a time in which less went
LEAST: Final = 1e-9
TOGETHER: Final = 32  # requests that are booked at once, where no ceiling is near


Event: TypeAlias = "tuple[Sent, float | None]"  # it was sent; or: it used so many tokens


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

    __slots__ = ("_at", "_backlog", "_sent", "booked", "even", "largest", "most", "portion", "tokens", "used")

    def __init__(self, most: float, *, tokens: bool = False) -> None:
        self.most = self.portion = self.even = most
        self.tokens = tokens
        self.used = self.booked = self.largest = 0.0
        self._backlog = self._at = 0.0  # sent sooner than evenly, as of when
        self._sent: deque[Sent] = deque()  # in order

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
        for sent in self._sent:
            over -= self._amount(sent)
            if over <= 0:
                return max(0.001, sent.at_s + WINDOW_S - now)
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
        for sent, tokens in events:
            if tokens is None:
                amount = 1.0
                if counts:
                    sent.counted = amount = sent.ask
                if sent.at_s > at:
                    backlog -= (sent.at_s - at) * per_s
                    backlog, at = (backlog if backlog > 0 else 0.0), sent.at_s
                self._sent.append(sent)
                used += amount
                booked += amount
                largest = largest if amount <= largest else amount
                backlog += amount if amount < even else even
            elif counts and sent.at_s > at - WINDOW_S:  # else it does not count any more
                used += tokens - sent.counted
                booked += max(0.0, tokens - sent.counted)
                backlog = max(0.0, backlog + min(tokens, even) - min(sent.counted, even))
                sent.counted = tokens
        self.used, self.booked, self.largest = used, booked, largest
        self._backlog, self._at = backlog, at
        self._forget(at)

    def undo(self, sent: Sent) -> None:
        """It did not go after all: one of the last."""
        if not self._sent or sent.at_s < self._sent[0].at_s:
            return
        later = []
        while (last := self._sent.pop()) is not sent:
            later.append(last)
        self._sent.extend(reversed(later))
        amount = self._amount(sent)
        self.used -= amount
        self._backlog = max(0.0, self._backlog - min(amount, self.even))

    def used_at(self, now: float) -> float:
        """What was sent in the minute before."""
        self._forget(now)
        self._drain(now)
        return self.used

    def _amount(self, sent: Sent) -> float:
        return sent.counted if self.tokens else 1.0

    def _drain(self, now: float) -> None:
        passed, self._at = now - self._at, now
        if passed > 0 and self._backlog:
            self._backlog = max(0.0, self._backlog - passed * self.even / WINDOW_S)

    def _forget(self, now: float) -> None:
        sent, before = self._sent, now - WINDOW_S
        while sent and sent[0].at_s <= before:
            self.used -= self._amount(sent.popleft())
        if not sent:
            self.used = 0.0


class Ceilings:
    """The user's ceilings of one key.

    Each says how much surely fits, whatever time does. Up to that nobody asks them: what is sent meanwhile is noted,
    and booked in one go when one has to be asked, when somebody looks, or when it has become many.

    Attributes:
        each: all of them, by unit.
    """

    __slots__ = ("_noted", "_requests", "_tokens", "each")

    def __init__(self, given: Iterable[tuple[Unit, float]]) -> None:
        self.each = [(unit, Ceiling(most, tokens=unit == "tokens")) for unit, most in given]
        self._noted: list[Event] = []
        self._requests, self._tokens = 0, 0.0  # that may be sent without asking

    def sure(self, ask: float) -> bool:
        """Whether one of so many tokens may be sent without asking them."""
        return self._requests > 0 and ask <= self._tokens

    def wait_s(self, now: float, ask: float) -> tuple[float, str]:
        """Seconds until a request of so many tokens may be sent, and what says so."""
        self._book()
        longest_s, binding = 0.0, ""
        for unit, ceiling in self.each:
            wait_s = ceiling.wait_s(now, ask if ceiling.tokens else 1.0)
            if wait_s > longest_s:
                longest_s, binding = wait_s, f"own {unit}"
        if not longest_s:
            self._look()
        return longest_s, binding

    def _look(self) -> None:
        """See how far they are."""
        self._requests, self._tokens = TOGETHER, math.inf
        for _, ceiling in self.each:
            if ceiling.tokens:
                self._tokens = ceiling.room
            else:
                self._requests = min(TOGETHER, int(ceiling.room))

    def take(self, sent: Sent) -> None:
        """It is sent."""
        self._noted.append((sent, None))
        self._tokens -= sent.ask
        self._requests -= 1
        if self._requests <= 0:
            self._book()

    def settle(self, sent: Sent, tokens: float) -> None:
        """It used so many tokens."""
        if tokens != sent.ask:
            self._noted.append((sent, tokens))
            if tokens > sent.ask:
                self._tokens -= tokens - sent.ask

    def undo(self, sent: Sent) -> None:
        """It did not go after all."""
        self._book()
        for _, ceiling in self.each:
            ceiling.undo(sent)

    def book(self) -> None:
        """Somebody looks at them, or changes them: they are asked before the next one goes."""
        self._book()
        self._requests = 0

    def _book(self) -> None:
        if self._noted:
            for _, ceiling in self.each:
                ceiling.book(self._noted)
            self._noted = []
