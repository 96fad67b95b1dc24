"""Whether one more request may be sent now, by all that is known of the provider's limits. No clock, no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from bench.admission.present.ceilings import Ceiling
from bench.admission.present.pace import Pace
from bench.admission.present.quotas import Mirror, Use
from bench.admission.present.recurrence import Recurrence
from bench.admission.present.scatter import Scatter
from bench.admission.present.strays import SpuriousRejections

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.admission.present.concurrency import Concurrency

    from cottonpalm.types import Quota, Unit

PATIENCE: Final = 3.0  # times the usual time of a rejection: a probe that lives so long was accepted
LEAST_PATIENCE_S: Final = 0.05
SPREAD: Final = 3.0  # probes are sent when a third of the silence so far has passed again
FIRST_OUTPUT: Final = 1_024  # tokens of an answer before any is known
HASTE: Final = 2.0  # times the usual pace, when the places that came free in a silence are filled
LONGEST_SILENCE_S: Final = 60.0
STUCK: Final = 3  # probes refused at the same number in flight: time does not help
DRAINED: Final = 0.9  # in flight, of the limit: only that many fitting again means that the limit has moved
STRIKES_TOLD: Final = 4  # rejections just below a tested limit after which it is not the number in flight
STRIKES_UNTOLD: Final = 12
STEP: Final = 0.01  # of the limit, cut more for each strike...
MOST_STEPS: Final = 4  # ... up to so many
FAR: Final = 2.0  # times what seemed to fit after a silence: it was time that helped, not fewer in flight
NEAR: Final = 0.9  # of the tested limit; a rejection further below it is not for the number in flight at all
HOLD_TOLD: Final = 200  # accepted calls before one more is tested: less than one rejection in a hundred
HOLD_UNTOLD: Final = 80  # less than three, where neither headers nor waits help to find the limits
PAUSE_COST: Final = 100  # accepted calls for each that a pause after a test costs
FORGIVEN: Final = 300  # accepted calls after the last strike, and all are forgotten


class Sent:
    """What is remembered of a request in flight.

    Attributes:
        at_s: when it was sent.
        ordinal: in flight then, itself included.
        generation: cuts before it.
        ask: tokens it was expected to use.
        output: so many of them in its answer.
        totals: requests, tokens, and tokens of answers sent up to then, itself included.
        entries: of the user's ceilings.
    """

    __slots__ = ("ask", "at_s", "entries", "generation", "ordinal", "output", "totals")

    def __init__(
        self, at_s: float, ordinal: int, generation: int, ask: float, totals: tuple[float, float, float]
    ) -> None:
        self.at_s = at_s
        self.ordinal = ordinal
        self.generation = generation
        self.ask = ask
        self.output = 0.0
        self.totals = totals
        self.entries: tuple[list[float], ...] = ()


class _Rejection(NamedTuple):
    """A call that was rejected.

    Attributes:
        sent: the call.
        in_flight: when that was known, without it.
        quotas: that the rejection shows.
    """

    sent: Sent
    in_flight: int
    quotas: tuple[Quota, ...]


class Admission:
    """All limits of one key together: in flight, learnt pace, shown quotas, the user's ceilings.

    After a rejection nobody goes but one probe at a time, ever more rarely; one that is not rejected within a few
    times the usual time of a rejection was accepted, and all is open again. So a full provider costs a dozen
    rejections, not as many as there are calls in flight.

    A provider that shows no quotas and names no waits is tested more often: nothing else tells that it would take more.

    Some providers reject a few at random: a rejection says nothing where it named no wait and was no test, the next
    probe is accepted, and few others were rejected of late. What another says: the quota that its headers show as used
    up explains it; else, above the number that is known to fit in flight, that number; else, below it for the second
    time, the pace.

    Attributes:
        concurrency: how many may be in flight.
        pace: calls per second, learnt.
        mirrors: quotas the provider shows.
        generation: rejections that told something, so far.
        gated: whether anything but the number in flight has to be asked.
        binding: what held the last request back: "in flight", "probe", "pace", "requests", "tokens", "input
            tokens" or "output tokens" (a quota), "own requests" or "own tokens" (a ceiling); "" for nothing.
    """

    def __init__(self, concurrency: Concurrency, ceilings: Iterable[tuple[Unit, float]] = ()) -> None:
        self.concurrency = concurrency
        self.pace = Pace()
        self.mirrors: dict[Unit, Mirror] = {}
        self.ceilings = [(unit, Ceiling(most)) for unit, most in ceilings]
        self.generation = 0
        self.gated = bool(self.ceilings)
        self.binding = ""
        self.trip_s = 1.0  # mean time of an answer
        self._trips = 0
        self._refusal_s = 0.1  # mean time of a rejection
        self._patience_s = PATIENCE * self._refusal_s  # whoever is in flight for so long was accepted
        self._totals = (0.0, 0.0, 0.0)  # requests, tokens, and tokens of answers that were sent
        self._output = 0.0  # mean output tokens of an answer; 0 while unknown
        self._expected_output = float(FIRST_OUTPUT)
        self._wall: float | None = None  # so many fit in flight, and one more did not
        self._scatter = Scatter()
        self._recurrence = Recurrence()
        self._strays = SpuriousRejections()
        self._doubtful: _Rejection | None = None  # nobody knows yet whether it is a stray
        self._strikes = 0
        self._restarted = 0  # in flight when a probe was accepted after others were not, and all began anew
        self._since = 0  # accepted since the last strike
        self._probing = False
        self._probe: Sent | None = None
        self._probe_from_s = self._silent_s = 0.0
        self._gentle_from_s = self._gentle_until_s = 0.0
        self._refused_probes = 0
        self._refused_at: list[int] = []  # in flight, of the probes refused in this silence
        self._told = False  # the provider shows quotas or names waits
        self._blamed = False  # the limit or the pace, for the silence that goes on

    # Asking and sending

    def wait_s(self, now: float, in_flight: int, ask: float) -> float | None:
        """Seconds until a request may be sent; 0 for now; None if only one that comes back can make room."""
        if in_flight >= int(self.concurrency.limit):
            self.binding = "in flight"
            return None
        if self._probing:
            if (wait_s := self._probe_wait_s(now)) > 0:
                self.binding = "probe"
                return wait_s
            if self._probe is not None:
                self._revive(now, in_flight)
                return self.wait_s(now, in_flight, ask)
        return self._gates_s(now, ask)

    def _gates_s(self, now: float, ask: float) -> float:
        wait_s, self.binding = max(self.pace.wait_s(now), self._gentle_s(now)), "pace"
        use = Use.split(ask, self._expected_output)
        for unit, mirror in self.mirrors.items():
            if (gate_s := mirror.wait_s(now, use.of(unit))) > wait_s:
                wait_s, self.binding = gate_s, unit
        for unit, ceiling in self.ceilings:
            if (gate_s := ceiling.wait_s(now, use.of(unit))) > wait_s:
                wait_s, self.binding = gate_s, f"own {unit}"
        if wait_s > 0:
            self.concurrency.gated = True
            return wait_s
        self.binding = ""
        return 0.0

    def sent(self, sent: Sent, *, forced: bool = False) -> None:
        """It goes; by force it goes whatever the gates say, and is no probe."""
        requests, tokens, outputs = self._totals
        ask, output = sent.ask, self._expected_output
        sent.output = output = output if output < ask else ask
        sent.totals = self._totals = (requests + 1.0, tokens + ask, outputs + output)
        if self.gated:
            self.pace.take()
            self._book(sent, forced)
        else:
            self.pace.taken += 1  # as `take` does while there is no pace; every request passes here

    def _book(self, sent: Sent, forced: bool) -> None:
        if self._probing:
            self._probe = self._probe if forced else sent
        elif sent.at_s < self._gentle_until_s:
            self._gentle_from_s = sent.at_s + self.trip_s / (HASTE * self.concurrency.limit)
        use = Use.split(sent.ask, sent.output)
        for unit, mirror in self.mirrors.items():
            mirror.take(use.of(unit))
        if self.ceilings:
            sent.entries = tuple(gate.take(sent.at_s, use.of(unit)) for unit, gate in self.ceilings)

    def output_tokens(self, bound: int | None) -> int:
        """Output tokens that the next answer may have: as the last ones, or as many as it may at most."""
        expected = int(self._expected_output)
        return expected if bound is None else min(expected, bound)

    def undone(self, sent: Sent) -> None:
        """It did not go after all."""
        self._forget_probe(sent)
        self.pace.undo()
        use = Use.split(sent.ask, sent.output)
        for unit, mirror in self.mirrors.items():
            mirror.take(-use.of(unit))
        self._settle(sent, 0.0, 0.0)

    def moved(self, limit: float, *, firm: bool) -> None:
        """See `Concurrency.moved`."""
        self.concurrency.moved(limit, firm=firm)
        if self._wall is not None:
            self._wall, self._strikes = self.concurrency.limit, 0

    # What came back

    def accepted(self, now: float, sent: Sent, in_flight: int, work: float, used: float | None) -> None:
        """It was answered.

        Args:
            now: when.
            sent: the request.
            in_flight: without it.
            work: what it did, in the unit in which throughput is measured.
            used: tokens that it really used, where that is known.
        """
        if self._trips < 100:
            self._trips += 1
        if used is not None:
            self._output += (work - self._output) / self._trips
            self._expected_output = self._output or FIRST_OUTPUT
        took_s = now - sent.at_s
        self.trip_s += (took_s - self.trip_s) / self._trips
        self._strays.accepted()
        self._since += 1
        if self._since == FORGIVEN:
            self._strikes = 0
        if sent is self._probe:
            self._revive(now, in_flight)
        fresh, concurrency = sent.generation == self.generation, self.concurrency
        if fresh or concurrency.phase == "hold":
            concurrency.accepted(now, work, 0.0 if used is None else took_s)
        if fresh and self.pace.rate:
            self.pace.accepted(self.trip_s)
        if used is not None and sent.entries:
            self._settle(sent, 1.0, used)

    def alive(self, sent: Sent, used: float | None) -> None:
        """A request was accepted that is counted elsewhere: if it was the probe, the silence is over."""
        if sent is self._probe:
            self._probing, self._probe, self._doubtful = False, None, None
        if used is not None:
            self._settle(sent, 1.0, used)

    def failed(self, sent: Sent) -> None:
        """It ended in a way that says nothing of the limits."""
        self._forget_probe(sent)
        self.concurrency.failed()

    def rejected(
        self,
        now: float,
        sent: Sent,
        in_flight: int,
        quotas: tuple[Quota, ...] = (),
        *,
        overload: bool = False,
    ) -> bool:
        """It was rejected; whether that tells something new.

        Args:
            now: when that is known.
            sent: the request.
            in_flight: without it.
            quotas: what the rejection shows.
            overload: the provider is overloaded by all its users: no word about our own limits.
        """
        self._refusal_s += 0.2 * (now - sent.at_s - self._refusal_s)
        self._patience_s = self.concurrency.patience_s = max(LEAST_PATIENCE_S, PATIENCE * self._refusal_s)
        self._strays.rejected()
        old = sent.generation != self.generation
        if sent is not self._probe and (old or self._doubtful is not None):
            self.pace.stale()
            if not old:
                self._decide(now)
            return False
        hold_calls = HOLD_TOLD if self._told else HOLD_UNTOLD
        self.concurrency.hold_calls, self.pace.hold_calls = hold_calls, 2 * hold_calls
        if self._probing:
            self._refused_probes += 1
            self._refused_at.append(sent.ordinal)
            self.pace.stale()
            self.generation += 1
            self._decide(now)
        else:
            self._refused_probes, self._silent_s = 0, now
            self._refused_at = []
            self._blamed = False
            if overload:
                self.generation += 1
            else:
                self._doubtful = _Rejection(sent, in_flight, quotas)
                self._decide(now, believed=self._is_test(sent.ordinal))
        self._probe_again(now, in_flight)
        return True

    def believe(self, now: float, sent: Sent) -> None:
        """Its rejection names a wait: it was for a limit, and so was the one in doubt."""
        if sent.generation == self.generation:
            self._decide(now, believed=True)

    def heard(self, now: float, sent: Sent, quotas: tuple[Quota, ...], rejected: bool) -> None:
        """An answer shows quotas."""
        self._told = True
        requests, tokens, outputs = (
            now_ - then for now_, then in zip(self._totals, sent.totals, strict=True)
        )
        sent_since = Use(requests, tokens - outputs, outputs)
        for quota in quotas:
            since = sent_since.of(quota.unit)
            if (mirror := self.mirrors.get(quota.unit)) is None:
                mirror = self.mirrors[quota.unit] = Mirror(now, quota)
                mirror.take(since)
                self.gated = True
            else:
                mirror.heard(now, quota, sent.at_s, since, rejected)

    def paused(self, now: float, until_s: float) -> None:
        """The provider asks everybody to wait: one probe goes first then."""
        self._told = True
        if not self._probing:
            self._refused_probes, self._silent_s = 0, now
        self._probing = self.gated = True
        self._probe, self._probe_from_s = None, max(self._probe_from_s, until_s)
        self.pace.paused(until_s - now)
        trips = (until_s - now) / max(1e-3, self.trip_s)
        self.concurrency.rest(PAUSE_COST * self.concurrency.limit * trips * min(1.0, trips))

    # Probes

    def _probe_wait_s(self, now: float) -> float:
        if self._probe is None:
            return self._probe_from_s - now
        return self._probe.at_s + self._patience_s - now

    def _gentle_s(self, now: float) -> float:
        """After a silence many places are free; not all are filled at once."""
        return self._gentle_from_s - now if now < self._gentle_until_s else 0.0

    def _probe_again(self, now: float, in_flight: int) -> None:
        self._probing = self.gated = True
        self._probe = None
        pause_s = max((now - self._silent_s) / SPREAD, self.trip_s / max(10, in_flight))
        self._probe_from_s = max(self._probe_from_s, now + min(pause_s, LONGEST_SILENCE_S))

    def _forget_probe(self, sent: Sent) -> None:
        if sent is self._probe:
            self._probe = None

    def _revive(self, now: float, in_flight: int) -> None:
        """A probe was accepted."""
        ordinal = self._probe.ordinal if self._probe is not None else in_flight + 1
        self._probing, self._probe = False, None
        if self._doubtful is not None:  # it was a stray
            self._doubtful = None
            self.pace.stale()
        self._gentle_from_s, self._gentle_until_s = now, now + self.trip_s
        if self._refused_probes < 2 or in_flight >= DRAINED * self.concurrency.limit:
            return
        # At the number that was refused before it is accepted only once some answers have come back meanwhile.
        if (fits := self._stuck_above()) and fits >= min(ordinal, in_flight):
            self.pace.off()
            self.moved(fits, firm=True)
            self._wall, self._strikes = self.concurrency.limit, 0
        elif self._blamed:
            self.pace.off()
            self._restarted = max(in_flight, ordinal - 1)  # many may have come back since it was sent
            self.concurrency.restart(max(1, self._restarted))

    def _stuck_above(self) -> int:
        """So many fit: probes above were refused as time passed, and one was accepted when fewer were in flight."""
        least = min(self._refused_at, default=0)
        return least - 1 if self._refused_at.count(least) >= STUCK else 0

    # What a rejection says

    def _is_test(self, ordinal: int) -> bool:
        """Whether the call that makes so many in flight tests if more fit than are known to."""
        return self.concurrency.phase == "hold" and self._wall is not None and ordinal > self._wall

    def _decide(self, now: float, *, believed: bool = False) -> None:
        """Blame a limit for the rejection in doubt, if that is `believed` or it is hardly a stray."""
        rejection = self._doubtful
        if rejection is None or (self._strays.likely(self._refused_probes) and not believed):
            return
        self._doubtful = None
        self._strays.blamed()
        self.generation += 1
        self._blamed = self._blame(now, *rejection)

    def _blame(self, now: float, sent: Sent, in_flight: int, quotas: tuple[Quota, ...]) -> bool:
        use = Use.split(sent.ask, sent.output)
        if any(quota.remaining < max(1.0, use.of(quota.unit)) for quota in quotas):
            self.pace.stale()
            return False
        crowded = self._crowded(sent.ordinal)
        if crowded:
            self._scatter.rejected(sent.ordinal)
            steps = 0 if self.concurrency.scatters else min(MOST_STEPS, self._strikes)
            fits = sent.ordinal - int(STEP * steps * sent.ordinal)
            self.concurrency.rejected(fits, in_flight + 1)
            found = self.concurrency.limit < sent.ordinal  # not where a cut went as deep as one may
            self._wall = self.concurrency.limit if found else None
            self._restarted = 0
        trip_s = max(1e-3, self.trip_s)
        self.pace.rejected(sent.at_s, now, in_flight / trip_s, trip_s, crowded)
        free_to_test = not (
            self._told or self.pace.rate
        )  # else each rejection costs a pause, or is not for the number
        self.concurrency.scatters = self._scatter.seen and free_to_test
        return crowded

    def _crowded(self, ordinal: int) -> bool:
        """Whether it is for the number in flight that this one was rejected."""
        if self.concurrency.phase == "start":  # nobody knew how many fit
            self._wall, self._strikes = None, 0
            return not self._restarted or ordinal < FAR * self._restarted
        if self._wall is None or ordinal > self._wall:
            if self.concurrency.scatters and self._strikes:
                self._strikes -= 1  # now below the wall, now above it: it is the number, in the mean
            return True
        if self.pace.doubtful:
            self.pace.off()
            return True
        self._strikes, self._since = self._strikes + 1, 0
        allowed = STRIKES_TOLD if self._told else STRIKES_UNTOLD
        if self._strikes < allowed and ordinal >= NEAR * self._wall:
            return True
        if fallen := self._recurrence.rejected(ordinal):
            self.pace.off()
        return fallen

    def _settle(self, sent: Sent, requests: float, tokens: float) -> None:
        for (unit, gate), entry in zip(self.ceilings, sent.entries, strict=False):
            gate.settle(entry, requests if unit == "requests" else tokens)
