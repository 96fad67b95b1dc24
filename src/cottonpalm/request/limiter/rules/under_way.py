"""What was sent to one key and not settled yet: what it takes of each gate, and who may still be rejected.

No clock, no I/O.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from cottonpalm.request.limiter.rules.bucket import Bucket
from cottonpalm.request.limiter.rules.causes import SURE, USUAL, Cause, Doubt, Overload, Refusals
from cottonpalm.request.limiter.rules.ceilings import MINUTE_S, Ceiling, Ceilings
from cottonpalm.request.limiter.rules.concurrency import Fitting
from cottonpalm.request.limiter.rules.headroom import Headroom
from cottonpalm.request.limiter.rules.quotas import Quotas
from cottonpalm.request.limiter.rules.recovery import BACKOFF, Recovery, State
from cottonpalm.request.limiter.rules.sent import NOTHING, Sent, Stretch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cottonpalm.request.limiter.rules.concurrency import Concurrency
    from cottonpalm.types import Unit

FIRST_REFUSAL_S: Final = 0.1  # until a rejection was seen: the one second here
REMEMBERED: Final = 1_000  # rejections that are remembered
FIRST_OUTPUT: Final = 1_024  # tokens of an answer before any is known
# What was found of the number in flight, and who was rejected, after how many.
Saved: TypeAlias = tuple[Fitting, Sent, float]


class Helped(NamedTuple):
    """A probe that was admitted though as many were in flight as were rejected before: so it was time that helped.

    Attributes:
        probe: the request.
        crowd: so many in flight had been too many.
        fitting: what had been found of the number.
        blamed: whether a rate was blamed already.
        saved: what was kept until time would have helped.
    """

    probe: Sent
    crowd: float
    fitting: Fitting
    blamed: bool
    saved: Saved


class UnderWay(ABC):
    """All that is remembered of one key. What is sent is booked at each gate, or noted where all are far away.

    Attributes:
        concurrency: how many may be in flight.
        bucket: the rate that is learnt.
        quotas: what the provider shows.
        generation: causes found so far.
        gated: whether anything but the number in flight has to be asked.
        number: of requests that were sent so far.
        answers: so far.
        answered_s: when the last one came, None before the first.
        began_s: when the first request was sent, None before.
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
        "_asks", "_averaged", "_bad", "_calm_s", "_closed", "_doubt", "_drowned", "_failed_s", "_failing", "_good",
        "_good_then", "_held_back", "_helped", "_last", "_late", "_output", "_outputs", "_overload", "_own", "_refused",
        "_saved", "_sizes", "_speaks", "_stretch", "_trips", "_unfailed", "_void", "_young", "answered_s", "answers",
        "began_s", "binding", "bucket", "calm", "cause", "concurrency", "expected", "failures", "gated", "generation",
        "headroom", "heavy", "newest", "number", "quotas", "recovery", "refusals", "trip_s", "usual_ask", "usual_size",
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
        self.began_s: float | None = None
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
        self._averaged = 0  # answers that the means hold; those since then are added up
        self._trips = self._asks = self._outputs = self._sizes = 0.0
        self._late = 0.0
        # When a request came to nothing last, and the answers when the first of these did: no pause between them was
        # longer than one takes to fail.
        self._failed_s, self._failing = -math.inf, 0
        self._drowned = 0  # the last that was sent before the server was found to be full
        self._held_back = False  # a quota or a ceiling did, since the last answer
        self._closed = False  # nothing was left of a quota, and all of it comes back at one moment
        self._helped: Helped | None = None
        self._refused: deque[tuple[int, int]] = deque(maxlen=REMEMBERED)  # who, and the newest sent then
        self._saved: Saved | None = None
        # What had been found of the number when requests began to come to nothing though as many had been admitted, and
        # the last that was sent by then.
        self._unfailed: tuple[Fitting, Cause, int] | None = None
        self._speaks = False  # some rejection named a wait, or some answer showed a quota

    @property
    def ceilings(self) -> list[tuple[Unit, Ceiling]]:
        """The user's own, by unit; `book` first where it matters what was sent."""
        return [] if self._own is None else self._own.each

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

    def _begin(self, now: float) -> None:
        self.began_s = self._calm_s = now
        self.bucket.begin(now)

    def _begin_stretch(self, sent: Sent) -> Stretch:
        """This one differs from the last one; the next may differ again where not all cost or ask as much."""
        if self.began_s is None:
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

    def undone(self, sent: Sent) -> None:
        """It did not go after all."""
        self.book()
        self._settled(sent)
        self._bad += sent.cost
        self.bucket.level += sent.cost if self.bucket.rate else 0.0
        self.quotas.undo(sent)
        if self._own is not None:
            self._own.undo(sent)

    def used(self, sent: Sent, tokens: float) -> None:
        """It used so many tokens, however it ended."""
        if self._own is not None:
            self.headroom.settle(sent, tokens)

    def _average(self) -> None:
        """The means take up what was added up: each answer, or many at once where no rule looks at a single one."""
        many, self._averaged = self.answers - self._averaged, self.answers
        if not many:
            return
        weight = 1 - (1 - USUAL) ** many if self.answers * USUAL >= 1 else many / self.answers
        self.trip_s += (self._trips / many - self.trip_s) * weight
        self.usual_ask += (self._asks / many - self.usual_ask) * weight
        self._output += (self._outputs / many - self._output) * weight
        self.usual_size += self._sizes / many * weight
        self.expected = math.floor(self._output) or 1
        self._trips = self._asks = self._outputs = self._sizes = 0.0

    def output_tokens(self, bound: int | None) -> int:
        """Output tokens that the next answer may have: as the last ones, or as many as it may at most."""
        return self.expected if bound is None or self.expected < bound else bound

    def _weigh(self, ask: float) -> float:
        return ask / self.usual_ask if self.heavy > SURE and self.usual_ask else 1.0

    @property
    def allowed_per_s(self) -> float | None:
        """Requests a second that the user's own ceilings allow, as large as answered ones are; None: not known."""
        most = [
            ceiling.even / MINUTE_S / size
            for unit, ceiling in self.ceilings
            if (size := 1.0 if unit == "requests" else self.usual_size)
        ]
        return min(most, default=None)

    def answer_s(self, now: float) -> float:
        """How long an answer takes; before there was one, at least as long as the first has taken so far."""
        return self.trip_s or (0.0 if self.began_s is None else now - self.began_s)

    def _least_s(self, now: float) -> float:
        """How long to be silent at least: before the first answer nobody knows when a place comes free."""
        return max(self.refusals.mean_s, 0.0 if self.answers else BACKOFF * self.answer_s(now))

    def _crowd(self, sent: Sent) -> int:
        """In flight when it was sent, itself included, less those sent before it that were rejected since."""
        gone = 0
        for number, newest in reversed(self._refused):
            if newest < sent.number:
                break
            gone += number < sent.number
        return sent.ordinal - gone

    def _off(self, now: float) -> float:
        """Answers on their way: by so many the provider's count may differ from ours."""
        return self.answers / max(1e-9, now - (self.began_s or 0.0)) * self.refusals.mean_s

    @property
    def _surely_s(self) -> float:
        """A probe was admitted that was not rejected for so long; nor failed, where the provider seems dead."""
        if not self.recovery.dead:
            return self.refusals.patience_s
        return max(self.refusals.patience_s, self.failures.patience_s) if self.failures.seen else math.inf

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
