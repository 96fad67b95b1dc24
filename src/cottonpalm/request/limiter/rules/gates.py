"""The gates of one key, and who passes them: each says how long to wait, and the longest counts. No clock, no I/O."""

from __future__ import annotations

import math
from typing import Final

from cottonpalm.request.limiter.rules.causes import HOLD, SURE, USUAL, Cause
from cottonpalm.request.limiter.rules.concurrency import SOON
from cottonpalm.request.limiter.rules.headroom import least
from cottonpalm.request.limiter.rules.recovery import State
from cottonpalm.request.limiter.rules.shown import WINDOW
from cottonpalm.request.limiter.rules.under_way import UnderWay

NUMBERS: Final = (Cause.NUMBER, Cause.BOTH)
_SILENT: Final = (State.HELD, State.PROBE)
TINY_S: Final = 1e-6


class Gates(UnderWay):
    """In flight, a learnt rate, quotas that are shown, the user's ceilings, and what is left of a silence.

    Each says how long to wait, and the longest counts.
    """

    __slots__ = ()

    def look(self) -> None:
        """See whether anything but the number in flight has to be asked, and who wants to know of each answer."""
        self.book()
        number = self.concurrency
        free = self.recovery.state is State.OPEN and not (
            number.testing or number.knee.times or (number.starting and not self.answers)
        )
        self.gated = not free or bool(self._own is not None or self.quotas.shown or self.bucket.rate)
        known = self.answers * USUAL >= 1 and not self._late
        self.calm = free and known and not (number.beginning or number.knee.found or number.wall)

    def wait_s(self, now: float, in_flight: int, ask: float) -> float | None:
        """Seconds until a request may be sent; 0 for now; None if only one that comes back can make room."""
        room = self.headroom
        fits = in_flight + 1 <= self.concurrency.limit
        if fits and room.requests and ask <= room.tokens:
            return 0.0
        self.book()
        if fits and self.calm and self._passes(now, ask):
            return 0.0
        if self.began_s is None:
            self._begin(now)
        if self._young and not self.calm:
            self._news(now)
        recovery = self.recovery
        if recovery.state is State.HELD and now >= recovery.until_s:
            recovery.over()
        if recovery.state in _SILENT:
            return self._silence_s(now, in_flight, ask)
        return self._open_s(now, in_flight, ask)

    def _passes(self, now: float, ask: float) -> bool:
        """No gate but the number in flight holds it back, while nobody looks at single answers."""
        if self.bucket.rate and self._young:
            self._news(now)
        passes = self._gates_s(now, ask) <= TINY_S and self.calm
        if passes:
            self.binding = ""
            self._see_headroom(ask)
        return passes

    def _see_headroom(self, ask: float) -> None:
        """One of so many tokens goes: how many more may, whatever time does."""
        room = math.inf, math.inf
        if self.bucket.rate:
            room = 0.0 if self.heavy > SURE else self.bucket.room(), math.inf
        if room[0] >= 1 and self.quotas.shown:
            room = least(room, self.quotas.room())
        if room[0] >= 1 and self._own is not None:
            room = least(room, self._own.room())
        if room[1] >= ask:
            self.headroom.open(room)

    def _open_s(self, now: float, in_flight: int, ask: float) -> float | None:
        """While others than a probe may go."""
        number = self.concurrency
        if in_flight + 1 > number.limit and (full_s := self._full_s(now, in_flight)) != 0.0:
            self.binding = "in flight"
            return full_s
        wait_s = self._ramp_s(now, self._gates_s(now, ask))
        fits = number.proven if number.testing else number.known if self.bucket.learning else math.inf
        if in_flight >= fits:
            # Not in one breath with another: a rejection would not say whether it was the pace.
            wait_s = max(wait_s, self._sent_s + self.trip_s / (2 * number.limit) - now)
        if wait_s > TINY_S:
            # The pace may be learnt because of the number.
            self._held_back = not self.calm and self.binding != "pace"
            return wait_s
        self.binding = ""
        return 0.0

    def _full_s(self, now: float, in_flight: int) -> float | None:
        """Seconds until one more may be in flight than the limit says; None for never, 0 for now.

        While nobody knows how long an answer takes: half of the first number, times the square of the time in times of
        patience. Who answers late needs many in flight, and who answers soon must not be flooded before.
        """
        recovery, number, more = self.recovery, self.concurrency, in_flight + 1
        patience_s, wait_s = self.refusals.patience_s, math.inf
        blind = number.starting and self.answers < SOON * number.first and not number.busy
        if blind and more <= min(number.blind, number.maximum):
            grown_s = patience_s * math.sqrt(2 * more / number.first)
            evenly_s = grown_s / (2 * more)  # so that those who come late do not go all at once
            wait_s = max(self._calm_s + grown_s, self._sent_s + evenly_s) - now
            if wait_s <= TINY_S:
                number.set(more)
                return 0.0
        again_s = self._again_s(now, in_flight)
        if again_s <= TINY_S:
            recovery.state = State.PROBE
            return 0.0
        wait_s = min(wait_s, again_s)
        if (recovery.state is State.RAMP or number.beginning) and self._unsure:
            return min(wait_s, max(1e-4, self._young[0].at_s + patience_s - now))
        recovery.state = State.OPEN
        return None if wait_s == math.inf else wait_s

    def _silence_s(self, now: float, in_flight: int, ask: float) -> float | None:
        """While nobody goes but a probe."""
        recovery, self.binding = self.recovery, "probe"
        if recovery.state is State.HELD:
            return recovery.until_s - now
        if recovery.probe is not None:
            surely_s = self._surely_s
            return None if surely_s == math.inf else max(1e-4, recovery.probe.at_s + surely_s - now)
        number = self.concurrency
        if recovery.refused and (again_s := self._again_s(now, in_flight)) < math.inf:
            return again_s if again_s > TINY_S else self._own_s(now, ask, 0.0)
        full = recovery.refused and number.wall is not None and self.cause in NUMBERS
        if in_flight >= (number.limit if full else number.maximum):
            return None  # time did not help: one that leaves may
        return self._own_s(now, ask, 0.0)

    def _again_s(self, now: float, in_flight: int) -> float:
        """Seconds until one more goes than fits, to see whether time helps; infinity for never.

        A rejection of the first ones does not say whether they were too many or too fast. Who waits for an answer to
        see it waits long where a rejection comes in no time; after it, answers tell.
        """
        number = self.concurrency
        told = self.answers or self.cause is not Cause.BOTH or self._saved is None or number.wall is None
        if told or not in_flight:  # with none in flight, no place has to come free, and no answer will come
            return math.inf
        return math.inf if in_flight >= number.maximum else max(0.0, self.recovery.again_s - now)

    def _gates_s(self, now: float, ask: float) -> float:
        wait_s, self.binding = 0.0, "pace"
        if self.bucket.rate:
            wait_s = self.bucket.wait_s(now, self._weigh(ask) if self.heavy > SURE else 1.0)
        if self.quotas.shown:
            shown_s, unit = self.quotas.wait_s(now, ask, self._output)
            # All may be back at once, or the provider's clock is a little late.
            if self._closed and unit is None:
                self.recovery.ramp(2.0)
                self.calm = False
            self._closed = unit is not None and self.quotas.shown[unit].way == WINDOW
            if unit is not None and shown_s > wait_s:
                wait_s, self.binding = shown_s, unit
        return wait_s if self._own is None else self._own_s(now, ask, wait_s)

    def _own_s(self, now: float, ask: float, wait_s: float) -> float:
        if self._own is not None:
            own_s, own = self._own.wait_s(now, ask)
            if own_s > wait_s:
                wait_s, self.binding = own_s, own
        return wait_s

    def _ramp_s(self, now: float, wait_s: float) -> float:
        """So many without news, evenly spaced: a rejection stops what was not sent yet."""
        recovery = self.recovery
        if recovery.state is not State.RAMP:
            return wait_s
        if wait_s > 0:  # another gate is the narrower one now
            recovery.state = State.OPEN if self.bucket.rate else State.RAMP
            return wait_s
        patience_s, self.binding = self.refusals.patience_s, "pace"
        if self._unsure >= recovery.window:
            return max(1e-4, self._young[0].at_s + patience_s - now)
        news_s = min(patience_s, self.trip_s) if self.trip_s else patience_s  # an answer is news too
        if self.bucket.learning:  # nobody knows at what pace, and a rejection costs the wait that is named
            needed_s = recovery.needed_s if self.bucket.blamed else 0.0
            news_s = max(news_s, recovery.named_s / HOLD, needed_s)
        return self._sent_s + news_s / recovery.window - now

    def paused(self, now: float, until_s: float, *, dead: bool = False) -> None:
        """Everybody is asked to wait, for whatever reason: one goes first then.

        Where the provider seems `dead`, to be not rejected is not enough: the others wait until it is answered, or has
        not failed for longer than failures take. A full server that answers nobody in time seems dead as well, until
        one that goes alone has failed too.
        """
        recovery = self.recovery
        if dead:
            if recovery.dead or self._unfailed is None or self._drowned < self._unfailed[2]:
                self._acquit()
            recovery.dead = True
        if recovery.state is State.HELD and recovery.until_s >= until_s:
            return
        if recovery.state is not State.HELD and recovery.state is not State.PROBE:
            recovery.begin(now)
            self._saved = None
        recovery.hold(now, until_s - now, 0.0)

    def _acquit(self) -> None:
        """The provider is dead: that requests came to nothing did not tell how many fit."""
        if self._unfailed is not None and self.newest <= self._unfailed[2]:
            was, self.cause, _ = self._unfailed
            self.concurrency.restore(was)
        self._unfailed = None

    def free(self, now: float, places: int) -> int:
        """Of so many places in flight, those that may be taken now."""
        recovery = self.recovery
        if recovery.state is State.HELD and now < recovery.until_s:
            return min(places, 0)
        if recovery.state in (State.HELD, State.PROBE):
            return min(places, 0 if recovery.probe is not None else 1)
        return min(places, int(recovery.window) - self._unsure) if recovery.state is State.RAMP else places

    def moved(self, limit: float, *, firm: bool) -> None:
        """See `Concurrency.moved`."""
        self.concurrency.moved(limit, firm=firm)
