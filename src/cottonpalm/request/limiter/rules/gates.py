"""The gates of one key, and who passes them: each says how long to wait, and the longest counts. No clock, no I/O."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Final, TypeAlias

from cottonpalm.request.limiter.rules.bucket import Bucket
from cottonpalm.request.limiter.rules.causes import HOLD, SURE, USUAL, Cause, Doubt, Overload, Refusals
from cottonpalm.request.limiter.rules.ceilings import MINUTE_S, Ceiling, Ceilings
from cottonpalm.request.limiter.rules.concurrency import SOON, Fitting
from cottonpalm.request.limiter.rules.headroom import Headroom, least
from cottonpalm.request.limiter.rules.quotas import Quotas
from cottonpalm.request.limiter.rules.recovery import Recovery, State
from cottonpalm.request.limiter.rules.sent import NOTHING, Sent, Stretch
from cottonpalm.request.limiter.rules.shown import WINDOW

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cottonpalm.request.limiter.rules.concurrency import Concurrency
    from cottonpalm.types import Unit

FIRST_REFUSAL_S: Final = 0.1  # until a rejection was seen: the one second here
FIRST_OUTPUT: Final = 1_024  # tokens of an answer before any is known
NUMBERS: Final = (Cause.NUMBER, Cause.BOTH)
_SILENT: Final = (State.HELD, State.PROBE)
TINY_S: Final = 1e-6
# What was found of the number in flight, and who was rejected, after how many.
Saved: TypeAlias = tuple[Fitting, Sent, float]


class Gates(ABC):
    """In flight, a learnt rate, quotas that are shown, the user's ceilings, and what is left of a silence.

    Each says how long to wait, and the longest counts.

    Attributes:
        concurrency: how many may be in flight.
        bucket: the rate that is learnt.
        quotas: what the provider shows.
        generation: causes found so far.
        gated: whether anything but the number in flight has to be asked.
        number: of requests that were sent so far.
        answers: so far.
        answered_s: when the last one came, None before the first.
        newest: the number of the last request that was answered.
        calm: no rule looks at a single answer, but for how long it took while the number grows.
        headroom: so much fits all of the gates but in flight, whatever time does; open while `calm` alone.
        expected: tokens of the next answer, where nothing bounds it.
        binding: what held the last request back: "in flight", "probe", "pace", a unit of a quota, "own requests" or
            "own tokens"; "" for nothing.
        refusals: how long a rejection takes...
        failures: ...and what fails otherwise.
        trip_s: how long an answer takes, in the mean.
        usual_ask: tokens of a usual request, with its answer, as it was estimated.
        usual_size: the same as it was used; known where the user has a ceiling.
        heavy: log-likelihood ratio: requests are rejected for their tokens, not for being requests.
    """

    __slots__ = (
        "_bad", "_began_s", "_calm_s", "_closed", "_doubt", "_drowned", "_good", "_good_then", "_held_back",
        "_last", "_late", "_output", "_overload", "_own", "_saved", "_speaks", "_stretch", "_void",
        "_young", "answered_s", "answers", "binding", "bucket", "calm", "cause", "concurrency", "expected",
        "failures", "gated", "generation", "headroom", "heavy", "newest", "number", "quotas", "recovery", "refusals",
        "trip_s", "usual_ask", "usual_size",
    )  # fmt: skip

    def __init__(self, concurrency: Concurrency, ceilings: Iterable[tuple[Unit, float]] = ()) -> None:
        self.concurrency = concurrency
        self.bucket = Bucket()
        self.quotas = Quotas()
        self.headroom = Headroom()
        own = Ceilings(ceilings)
        self._own = own if own.each else None
        self.recovery = Recovery(concurrency.limit, known=not concurrency.starting)
        self.refusals, self.failures = Refusals(FIRST_REFUSAL_S), Refusals(FIRST_REFUSAL_S)
        self.cause = Cause.CHANCE
        self.generation = 0
        self.gated, self.binding = True, ""
        self.trip_s = 0.0
        self._doubt = Doubt()
        self._overload = Overload()
        self._young: deque[Sent] = deque()  # sent of late, in order; some may still be rejected
        self._void = 0  # of all that were sent, that ended before anybody knew whether they were admitted
        self._began_s: float | None = None
        self._calm_s = 0.0  # since the last cause was found
        self.number = 0
        self._last: Sent | None = None
        self._stretch: Stretch | None = None  # of the next one; None: it begins one
        self._bad = 0.0
        self._good = self._good_then = 0
        self.answers = self.newest = 0
        self.answered_s: float | None = None
        self.calm = False
        self._output = self.usual_ask = self.usual_size = self.heavy = 0.0
        self.expected = FIRST_OUTPUT
        self._late = 0.0
        self._drowned = 0  # the last that was sent before the server was found to be full
        self._held_back = False  # a quota or a ceiling did, since the last answer
        self._closed = False  # nothing was left of a quota, and all of it comes back at one moment
        self._saved: Saved | None = None
        self._speaks = False  # some rejection named a wait, or some answer showed a quota

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

    @property
    def ceilings(self) -> list[tuple[Unit, Ceiling]]:
        """The user's own, by unit; `book` first where it matters what was sent."""
        return [] if self._own is None else self._own.each

    def book(self) -> None:
        """The gates have to be asked again; what was sent without asking them, and noted, is booked."""
        room = self.headroom
        room.requests = 0
        if not room.events:
            return
        events, room.events = room.events, []
        sent = [event for event in events if not isinstance(event, tuple)]
        if sent and self.bucket.rate:
            self.bucket.took(sent[-1].at_s, len(sent))
        if sent and self.quotas.shown:
            self.quotas.book(sent, self._output)
        if self._own is not None:
            self._own.book(events)

    # Asking and sending

    def wait_s(self, now: float, in_flight: int, ask: float) -> float | None:
        """Seconds until a request may be sent; 0 for now; None if only one that comes back can make room."""
        room = self.headroom
        fits = in_flight + 1 <= self.concurrency.limit
        if fits and room.requests and ask <= room.tokens:
            return 0.0
        self.book()
        if fits and self.calm and self._passes(now, ask):
            return 0.0
        if self._began_s is None:
            self._begin(now)
        if self._young and not self.calm:
            self._news(now)
        recovery = self.recovery
        if recovery.state in _SILENT:
            if recovery.state is State.HELD and now >= recovery.until_s:
                recovery.state = State.PROBE
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
        if number.testing and in_flight >= number.proven:
            # Not in one breath with another: else it could be the pace that is tested.
            wait_s = max(wait_s, self._sent_s + self.trip_s / (2 * number.limit) - now)
        if wait_s > TINY_S:
            # The pace may be learnt because of the number.
            self._held_back = not self.calm and self.binding != "pace"
            return wait_s
        self.binding = ""
        return 0.0

    def answer_s(self, now: float) -> float:
        """How long an answer takes; before there was one, at least as long as the first has taken so far."""
        return self.trip_s or (0.0 if self._began_s is None else now - self._began_s)

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
        if (recovery.state is State.RAMP or number.beginning) and self._unsure:
            return min(wait_s, max(1e-4, self._young[0].at_s + patience_s - now))
        recovery.state = State.OPEN
        return None if wait_s == math.inf else wait_s

    @property
    def _surely_s(self) -> float:
        """A probe was admitted that was not rejected for so long; nor failed, where the provider seems dead."""
        if not self.recovery.dead:
            return self.refusals.patience_s
        return max(self.refusals.patience_s, self.failures.patience_s) if self.failures.seen else math.inf

    def _begin(self, now: float) -> None:
        self._began_s = self._calm_s = now
        self.bucket.begin(now)

    def _silence_s(self, now: float, in_flight: int, ask: float) -> float | None:
        """While nobody goes but a probe."""
        recovery, self.binding = self.recovery, "probe"
        if recovery.state is State.HELD:
            return recovery.until_s - now
        if recovery.probe is not None:
            surely_s = self._surely_s
            return None if surely_s == math.inf else max(1e-4, recovery.probe.at_s + surely_s - now)
        number = self.concurrency
        full = recovery.refused and number.wall is not None and self.cause in NUMBERS
        if in_flight >= (number.limit if full else number.maximum):
            return None  # time did not help: one that leaves may
        return self._own_s(now, ask, 0.0)

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
            news_s = max(news_s, recovery.named_s / HOLD)
        return self._sent_s + news_s / recovery.window - now

    def sent(self, sent: Sent) -> None:
        """It goes; one that is forced is no probe."""
        self.number = sent.number = self.number + 1
        sent.answers = self.answers
        sent.known, sent.use, sent.sent = False, NOTHING, NOTHING
        sent.stretch = self._stretch or self._begin_stretch(sent)
        self._last = sent
        self._young.append(sent)
        if self.gated:
            room = self.headroom
            if room.requests and sent.ask <= room.tokens:
                room.requests -= 1
                room.tokens -= sent.ask
                room.events.append(sent)
            else:
                self._book(sent)

    def _begin_stretch(self, sent: Sent) -> Stretch:
        """This one differs from the last one; the next may differ again where not all cost or ask as much."""
        if self._began_s is None:
            self._begin(sent.at_s)
        last, suspect, weighed = self._last, self._doubt.suspect, self.heavy > SURE
        cost = self._weigh(sent.ask)
        total, asked = (0.0, 0) if last is None else (last.total, last.asked)
        asked += sent.ordinal >= suspect
        stretch = Stretch(self.generation, self.refusals.seen, cost, sent.number, total + cost, asked)
        self._stretch = None if weighed or suspect > -math.inf else stretch
        return stretch

    @property
    def _total(self) -> float:
        """Cost of all that were sent."""
        return 0.0 if self._last is None else self._last.total

    @property
    def _sent_s(self) -> float:
        """When the last one went."""
        return -math.inf if self._last is None else self._last.at_s

    @property
    def _unsure(self) -> int:
        """Of all that were sent, that may still be rejected."""
        return self.number - self._good - self._void

    def _book(self, sent: Sent) -> None:
        self.book()
        if self.bucket.rate:
            self.bucket.take(sent.at_s, sent.cost)
        if self.quotas.shown or not self.answers:  # those before the first answer are part of what it shows
            self.quotas.book((sent,), self._output)
        if self._own is not None:
            self._own.book((sent,))
        if self.calm:
            return
        if self.recovery.state is State.PROBE and not sent.forced:
            self.recovery.probe = sent
        if (times := self.concurrency.knee.times) is not None:
            times.sent(sent)

    def undone(self, sent: Sent) -> None:
        """It did not go after all."""
        self.book()
        self._settled(sent)
        self._bad += sent.cost
        self.bucket.level += sent.cost if self.bucket.rate else 0.0
        self.quotas.undo(sent)
        if self._own is not None:
            self._own.undo(sent)

    def output_tokens(self, bound: int | None) -> int:
        """Output tokens that the next answer may have: as the last ones, or as many as it may at most."""
        return self.expected if bound is None or self.expected < bound else bound

    def _weigh(self, ask: float) -> float:
        return ask / self.usual_ask if self.heavy > SURE and self.usual_ask else 1.0

    # What is known of those that were sent

    def paused(self, now: float, until_s: float, *, dead: bool = False) -> None:
        """Everybody is asked to wait, for whatever reason: one goes first then.

        Where the provider seems `dead`, to be not rejected is not enough: the others wait until it is answered, or has
        not failed for longer than failures take.
        """
        recovery = self.recovery
        recovery.dead = recovery.dead or dead
        if recovery.state is State.HELD and recovery.until_s >= until_s:
            recovery.named_until_s = max(recovery.named_until_s, until_s)  # no place that comes free ends it
            return
        if recovery.state is not State.HELD and recovery.state is not State.PROBE:
            recovery.begin(now)
            self._saved = None
        recovery.hold(now, until_s - now, 0.0)

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

    def _settled(self, sent: Sent) -> None:
        if not sent.known:
            sent.known = True
            self._void += 1
        while self._young and self._young[0].known:  # nothing else empties it where nobody is answered
            self._young.popleft()
        if sent is self.recovery.probe:
            self.recovery.probe = None
        if (times := self.concurrency.knee.times) is not None:
            times.left(sent)

    def used(self, sent: Sent, tokens: float) -> None:
        """It used so many tokens, however it ended."""
        if self._own is not None:
            self.headroom.settle(sent, tokens)

    @property
    def allowed_per_s(self) -> float | None:
        """Requests a second that the user's own ceilings allow, as large as answered ones are; None: not known."""
        most = [
            ceiling.even / MINUTE_S / size
            for unit, ceiling in self.ceilings
            if (size := 1.0 if unit == "requests" else self.usual_size)
        ]
        return min(most, default=None)

    def _news(self, now: float) -> None:
        """Who was not rejected by now was admitted."""
        young, before = self._young, now - self.refusals.patience_s
        while young:
            sent = young.popleft()
            if not sent.known:
                if sent.at_s > before or (sent is self.recovery.probe and now < sent.at_s + self._surely_s):
                    young.appendleft(sent)
                    return
                self._admitted(sent)

    @abstractmethod
    def _admitted(self, sent: Sent) -> None:
        """It was not rejected in time, or was answered."""
