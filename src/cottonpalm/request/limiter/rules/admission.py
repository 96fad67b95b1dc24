"""Whether one more request may be sent now, by all that is known of the provider's limits. No clock, no I/O."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Final

from cottonpalm.request.limiter.rules.bucket import ENOUGH, Bucket
from cottonpalm.request.limiter.rules.causes import CHANCE, DOUBT, SURPRISE, Cause, Doubt, Refusals, explain
from cottonpalm.request.limiter.rules.ceilings import Ceiling
from cottonpalm.request.limiter.rules.quotas import Quotas, Use
from cottonpalm.request.limiter.rules.recovery import Recovery, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cottonpalm.request.limiter.rules.concurrency import Concurrency
    from cottonpalm.types import Quota, Unit

FIRST_REFUSAL_S: Final = 0.1  # until a rejection was seen: the one second here
FIRST_OUTPUT: Final = 1_024  # tokens of an answer before any is known
LATE: Final = 3.0  # times the time of an answer, after which one that came to nothing was lost in a full server
HEAVY: Final = 2.0  # log-likelihood ratio from which the learnt rate counts tokens
TINY_S: Final = 1e-6
USUAL: Final = 100  # answers over which means are taken

NOTHING: Final = Use(0.0, 0.0, 0.0)


class Sent:
    """What is remembered of a request in flight.

    Attributes:
        at_s: when it was sent.
        ordinal: in flight then, itself included.
        generation: causes found before it.
        ask: tokens it was expected to use.
        cost: of the learnt rate, in usual requests.
        total: of all sent up to then, itself included.
        asked: of them, that asked as much as one that was rejected.
        refusals: that were seen before it.
        known: whether it was admitted is known.
        use: what it takes of each unit, where anybody counts that...
        sent: ...and what all took that were sent up to then.
        entries: of the user's ceilings.
    """

    __slots__ = (
        "ask", "asked", "at_s", "cost", "entries", "generation", "known", "ordinal", "refusals", "sent", "total", "use",
    )  # fmt: skip

    cost: float
    total: float
    generation: int
    refusals: int
    asked: int

    def __init__(self, at_s: float, ordinal: int, ask: float = 0.0) -> None:
        self.at_s, self.ordinal, self.ask = at_s, ordinal, ask
        self.known = False
        self.use = self.sent = NOTHING
        self.entries: tuple[list[float], ...] = ()


class Admission:
    """All limits of one key together, as gates that each say how long to wait; the longest counts.

    The gates: in flight (`concurrency`), a learnt rate (`bucket`), the quotas that are shown (`quotas`), the user's
    ceilings, and what is left of a silence (`recovery`). What was rejected restricts the gates under which it was more
    than is known to fit, and each gate is tested by itself while the others hold. So nobody has to know at once which of
    them it was, and no belief is given up for another.

    A rejection comes within a refusal time, an answer takes far longer. So a request that was not rejected within
    `refusals.patience_s` was admitted: everything grows and is judged on that scale.

    Attributes:
        concurrency: how many may be in flight.
        bucket: the rate that is learnt.
        quotas: what the provider shows.
        ceilings: the user's own.
        generation: causes found so far.
        gated: whether anything but the number in flight has to be asked.
        binding: what held the last request back: "in flight", "probe", "pace", a unit of a quota, "own requests" or
            "own tokens"; "" for nothing.
        trip_s: how long an answer takes, in the mean.
    """

    def __init__(self, concurrency: Concurrency, ceilings: Iterable[tuple[Unit, float]] = ()) -> None:
        self.concurrency = concurrency
        self.bucket = Bucket()
        self.quotas = Quotas()
        self.ceilings = [(unit, Ceiling(most)) for unit, most in ceilings]
        self.recovery = Recovery(concurrency.limit, known=not concurrency.starting)
        self.refusals = Refusals(FIRST_REFUSAL_S)
        self.cause = Cause.CHANCE
        self.generation = 0
        self.gated, self.binding = True, ""
        self.trip_s = 0.0
        self._doubt = Doubt()
        self._young: deque[Sent] = deque()  # sent of late, in order; some may still be rejected
        self._unsure = 0  # of them
        self._began_s: float | None = None
        self._sent_s = -math.inf  # when the last one went
        self._total = self._bad = 0.0
        self._good = self._good_then = self._answers = 0
        self._output = self._ask = 0.0  # tokens of a usual answer; of a usual request with it
        self._heavy = 0.0  # log-likelihood ratio: requests are rejected for their tokens, not for being requests
        self._late = 0.0
        self._held_back = False  # something else than the number in flight did, since the last answer
        self._saved: tuple[float, float | None, bool, float, Sent, float] | None = None
        self._speaks = False  # some rejection named a wait, or some answer showed a quota

    def look(self) -> None:
        """See whether anything but the number in flight has to be asked."""
        self.gated = bool(
            self.recovery.state is not State.OPEN
            or self.bucket.rate
            or self.quotas.shown
            or self.ceilings
            or self.concurrency.blind
        )

    # Asking and sending

    def wait_s(self, now: float, in_flight: int, ask: float) -> float | None:
        """Seconds until a request may be sent; 0 for now; None if only one that comes back can make room."""
        if self._began_s is None:
            self._begin(now)
        if self._young:
            self._news(now)
        recovery, number = self.recovery, self.concurrency
        state = recovery.state
        if state is State.HELD and now >= recovery.until_s:
            recovery.state = state = State.PROBE
        if state is State.HELD or state is State.PROBE:
            return self._silence_s(now, in_flight, ask)
        patience_s = self.refusals.patience_s
        grows_s = number.grow_by_time(now - self._began_s, patience_s, in_flight) if number.blind else None  # type: ignore[operator]
        if in_flight >= int(number.limit):
            self.binding = "in flight"
            if state is State.RAMP:
                recovery.state = State.OPEN
            return grows_s
        wait_s = self._gates_s(now, ask)
        if state is State.RAMP and wait_s <= 0:
            wait_s, self.binding = self._ramp_s(now), "pace"
        elif state is State.RAMP and self.bucket.rate:
            recovery.state = State.OPEN
        if wait_s > TINY_S:
            self._held_back = True
            return wait_s
        self.binding = ""
        return 0.0

    def _begin(self, now: float) -> None:
        self._began_s = now
        self.bucket.begin(now)

    def _silence_s(self, now: float, in_flight: int, ask: float) -> float | None:
        """While nobody goes but a probe."""
        recovery, self.binding = self.recovery, "probe"
        if recovery.state is State.HELD:
            return recovery.until_s - now
        if recovery.probe is not None:
            return max(1e-4, recovery.probe.at_s + self.refusals.patience_s - now)
        if in_flight >= self.concurrency.maximum:
            return None
        return self._ceilings_s(now, ask, 0.0)

    def _gates_s(self, now: float, ask: float) -> float:
        wait_s, self.binding = self.bucket.wait_s(now, self._weigh(ask)), "pace"
        if self.quotas.shown:
            shown_s, unit = self.quotas.wait_s(now, self._use(ask))
            if unit is not None and shown_s > wait_s:
                wait_s, self.binding = shown_s, unit
        return self._ceilings_s(now, ask, wait_s) if self.ceilings else wait_s

    def _ceilings_s(self, now: float, ask: float, wait_s: float) -> float:
        for unit, ceiling in self.ceilings:
            own_s = ceiling.wait_s(now, 1.0 if unit == "requests" else ask)
            if own_s > wait_s:
                wait_s, self.binding = own_s, f"own {unit}"
        return wait_s

    def _ramp_s(self, now: float) -> float:
        """So many without news, evenly spaced: a rejection stops what was not sent yet."""
        patience_s, window = self.refusals.patience_s, self.recovery.window
        if self._unsure >= window:
            return max(1e-4, self._young[0].at_s + patience_s - now)
        return self._sent_s + patience_s / window - now

    def sent(self, sent: Sent, *, forced: bool = False) -> None:
        """It goes; by force it goes whatever the gates say, and is no probe."""
        if self._began_s is None:
            self._begin(sent.at_s)
        sent.cost = cost = 1.0 if self._heavy <= HEAVY else self._weigh(sent.ask)
        self._total = sent.total = self._total + cost
        sent.generation, sent.refusals = self.generation, self.refusals.seen
        doubt = self._doubt
        doubt.sent += 1
        if sent.ordinal >= doubt.suspect:
            doubt.asked += 1
        sent.asked = doubt.asked
        self._young.append(sent)
        self._unsure += 1
        self._sent_s = sent.at_s
        if self.gated:
            self._book(sent, forced)

    def _book(self, sent: Sent, forced: bool) -> None:
        now = sent.at_s
        self.bucket.take(now, sent.cost)
        if self.quotas.shown:
            sent.use = self._use(sent.ask)
            sent.sent = self.quotas.take(sent.use)
        if self.recovery.state is State.PROBE and not forced:
            self.recovery.probe = sent
        if self.ceilings:
            sent.entries = tuple(
                gate.take(now, 1.0 if unit == "requests" else sent.ask) for unit, gate in self.ceilings
            )

    def undone(self, sent: Sent) -> None:
        """It did not go after all."""
        self._settled(sent)
        self._bad += sent.cost
        self.bucket.level += sent.cost if self.bucket.rate else 0.0
        self.quotas.undo(sent.use)
        self._settle(sent, 0.0, 0.0)

    def output_tokens(self, bound: int | None) -> int:
        """Output tokens that the next answer may have: as the last ones, or as many as it may at most."""
        expected = int(self._output) or FIRST_OUTPUT
        return expected if bound is None else min(expected, bound)

    def _weigh(self, ask: float) -> float:
        return ask / self._ask if self._heavy > HEAVY and self._ask else 1.0

    def _use(self, ask: float) -> Use:
        return Use(1.0, ask, min(ask, self._output))

    # What came back

    def _news(self, now: float) -> None:
        """Who was not rejected by now was admitted."""
        young, before = self._young, now - self.refusals.patience_s
        while young and (young[0].known or young[0].at_s <= before):
            sent = young.popleft()
            if not sent.known:
                self._admitted(now, sent)

    def _admitted(self, now: float, sent: Sent) -> None:
        sent.known = True
        self._unsure -= 1
        self._good += 1
        if sent.generation != self.generation:
            return
        recovery, bucket = self.recovery, self.bucket
        if sent is recovery.probe:
            self._revive(sent)
        if bucket.rate:
            pace = bucket.rate * (1 + bucket.extra)
            bucket.admitted(self.refusals.patience_s, may_test=not self.concurrency.testing)
            if not bucket.rate:  # it was not to blame
                recovery.ramp(max(2.0, pace * self.refusals.patience_s))
        if recovery.state is State.RAMP:
            recovery.window += 1
        crowd = sent.ordinal - self.refusals.seen + sent.refusals
        self.concurrency.admitted(sent.ordinal, crowd, may_test=not bucket.extra)

    def answered(self, now: float, sent: Sent, in_flight: int, output: float, used: float | None) -> None:
        """It was answered.

        Args:
            now: when.
            sent: the request.
            in_flight: without it.
            output: tokens of the answer, 0 where nobody knows.
            used: tokens that it really used, where that is known.
        """
        if not sent.known:
            self._admitted(now, sent)
        if self._young:
            self._news(now)
        self._answers += 1
        weight = 1 / min(self._answers, USUAL)
        if used is not None:
            self._output += (output - self._output) * weight
            if sent.entries:
                self._settle(sent, 1.0, used)
        self._ask += (sent.ask - self._ask) * weight
        self.trip_s += (now - sent.at_s - self.trip_s) * weight
        self._late = max(0.0, self._late - DOUBT)
        if self.cause is Cause.NUMBER:
            self.recovery.freed(now)
        gated = self._held_back or self.recovery.state is not State.OPEN
        self._held_back = False
        self.concurrency.answered(now, in_flight + 1, self.trip_s, gated=gated, paced=self.bucket.rate > 0)

    def failed(self, now: float, sent: Sent, in_flight: int) -> None:
        """It ended in a way that says nothing of the limits; where many came to nothing far too late, one is full."""
        late = not self._answers or now - sent.at_s > LATE * self.trip_s
        if late and sent.known and sent.generation == self.generation:
            self._late -= math.log(2 * CHANCE[1])
            if self._late > 2 * SURPRISE:
                self._late, self.generation = 0.0, self.generation + 1
                self.concurrency.drowned((in_flight + 1) / 2)
        self._settled(sent)

    def _settled(self, sent: Sent) -> None:
        if not sent.known:
            sent.known = True
            self._unsure -= 1
        if sent is self.recovery.probe:
            self.recovery.probe = None

    def _settle(self, sent: Sent, requests: float, tokens: float) -> None:
        for (unit, gate), entry in zip(self.ceilings, sent.entries, strict=False):
            gate.settle(entry, requests if unit == "requests" else tokens)

    def heard(self, sent: Sent, quotas: Sequence[Quota]) -> None:
        """An answer shows quotas."""
        self._speaks = True
        self.quotas.heard(sent, quotas)

    def paused(self, now: float, until_s: float) -> None:
        """Everybody is asked to wait, for whatever reason: one goes first then."""
        recovery = self.recovery
        if recovery.state is State.HELD and recovery.until_s >= until_s:
            return
        if recovery.state is not State.HELD and recovery.state is not State.PROBE:
            recovery.begin(now, max(2.0, self.concurrency.limit / 4))
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

    # Rejections

    def rejected(
        self,
        now: float,
        sent: Sent,
        in_flight: int,
        quotas: Sequence[Quota] = (),
        *,
        named_s: float = 0.0,
        overload: bool = False,
    ) -> None:
        """It was rejected.

        Args:
            now: when that is known.
            sent: the request.
            in_flight: without it.
            quotas: what the rejection shows.
            named_s: a wait that it names; obeyed, whatever it was for.
            overload: the provider is overloaded by all its users: no word about our own limits.
        """
        probe = sent is self.recovery.probe
        self.refusals.took(now - sent.at_s)
        self._settled(sent)
        self._bad += sent.cost
        if self.quotas.shown:
            self.quotas.rejected(sent.sent, sent.use)
        if quotas:
            self.heard(sent, quotas)
        if probe:
            self.recovery.refused += 1
            self.recovery.hold(now, named_s, self.refusals.mean_s)
        elif sent.generation != self.generation:
            self._rejected_before(sent)
        else:
            self._found(now, sent, self._cause(now, sent, quotas, named_s, overload), named_s)

    def _rejected_before(self, sent: Sent) -> None:
        """Another one of a burst whose cause is found."""
        if self.cause in (Cause.NUMBER, Cause.BOTH) and self._saved and sent.ordinal <= self._saved[4].ordinal:
            self.concurrency.fewer()

    def _cause(self, now: float, sent: Sent, quotas: Sequence[Quota], named_s: float, overload: bool) -> Cause:
        number, bucket, doubt = self.concurrency, self.bucket, self._doubt
        told = named_s > 0 or bool(quotas)
        self._speaks = self._speaks or told
        surprising = doubt.surprising(
            sent.asked,
            told=told,
            silent=self._speaks and not told,
            trial=bucket.extra > 0 or number.testing,
        )
        off = self._off(now)
        above = sent.ordinal > max(1, number.known - off)
        doubt.suspect = sent.ordinal - off if above else 0
        empty = self.quotas.empty(sent, quotas) if quotas else []
        for shown in empty:
            shown.wrong()
        return explain(
            overload=overload,
            shown=any(shown.trusted for shown in empty),
            empty=bool(empty),
            surprising=surprising,
            fast=(bucket.trial or not (bucket.rate or number.testing)) and not quotas,
            above=above and (number.testing or not bucket.extra),
        )

    def _found(self, now: float, sent: Sent, cause: Cause, named_s: float) -> None:
        number, bucket, recovery = self.concurrency, self.bucket, self.recovery
        mine = sent.total - self._bad
        if cause is Cause.CHANCE:
            self._doubt.chance()
            bucket.drained(now)
            return
        self.cause, self.generation = cause, self.generation + 1
        if cause is Cause.SHOWN:
            return
        self._doubt.settled()
        self._saved = (number.limit, number.wall, number.starting, number.known, sent, mine)
        known = False
        if cause in (Cause.RATE, Cause.BOTH):
            known = bucket.rate > 0
            bucket.empty(now, sent.at_s, mine, named_s, self.refusals.patience_s)
        if cause in (Cause.NUMBER, Cause.BOTH):
            known = known or number.wall is not None
            lost = named_s * sent.ordinal / self.trip_s if self.trip_s else 0.0
            number.rejected(sent.ordinal, self._off(now), 1 + lost)
        if cause not in (Cause.NUMBER, Cause.OVERLOAD) and self._ask and sent.ask:
            heavy = self._heavy + math.log(sent.ask / self._ask)
            self._heavy = max(-2 * HEAVY, min(2 * HEAVY, heavy))
        fresh, self._good_then = self._good - self._good_then >= ENOUGH, self._good
        if known and fresh and not named_s:  # a test has failed; what fits is known
            return
        recovery.begin(now, max(2.0, number.limit / 4))
        recovery.hold(now, named_s, self.refusals.mean_s)

    def _off(self, now: float) -> float:
        """Answers on their way: by so many the provider's count may differ from ours."""
        return self._answers / max(1e-9, now - (self._began_s or 0.0)) * self.refusals.mean_s

    def _revive(self, probe: Sent) -> None:
        """The probe was admitted: the experiment that tells what it was."""
        recovery, number, bucket, cause = self.recovery, self.concurrency, self.bucket, self.cause
        window = 2.0
        if bucket.rate and cause is not Cause.CHANGED:
            window = max(2.0, bucket.rate * self.refusals.patience_s)
        elif cause is Cause.NUMBER and number.wall is not None:
            window = max(2.0, number.limit / 4)
        silence_s = recovery.revive(probe.at_s, window)
        bucket.silent_s += silence_s
        if self._saved is None:
            return
        (limit, wall, starting, known, sent, mine), self._saved = self._saved, None
        if cause in (Cause.NUMBER, Cause.BOTH) and probe.ordinal >= sent.ordinal:
            # As many in flight as were rejected before: it was time that helped.
            number.limit, number.wall, number.starting, number.known = limit, wall, starting, probe.ordinal
            if cause is Cause.NUMBER:
                bucket.learn(sent.at_s, mine)
                bucket.silent_s = silence_s
        elif cause is Cause.CHANGED:
            if recovery.refused:
                number.known = 0
                number.restart(probe.ordinal)
            bucket.learn(sent.at_s, mine)
            bucket.silent_s = max(0.0, probe.at_s - sent.at_s)
