"""What of a limiter's limits is divided between processes, and how a share takes effect there.

A `Gate` is one limit of one limiter. The store's thread brings it the rows of all holders (`renew`), and writes what
it answers. A share that falls takes effect at once, one that rises when the rows are written (`then`): so what all
may use never exceeds what the rows say.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from cottonpalm import clock
from cottonpalm.request.limiter.limiter import IN_FLIGHT
from cottonpalm.request.limiter.rules.ceilings import WINDOW_S
from cottonpalm.stores.rules.division import KEPT_S, POOL, TTL_S, Row, division, parts_used, portion, wanted
from cottonpalm.stores.rules.known import HALF_S, aged
from cottonpalm.types import Learnt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cottonpalm.request.limiter.limiter import Limiter
    from cottonpalm.request.limiter.rules.ceilings import Ceiling
    from cottonpalm.stores.rules.division import Division, Parts

log = logging.getLogger("cottonpalm")
RESUMED: Final = 0.7  # of a learnt limit: what a resumed run starts with
LOST: Final = 0.1  # of a total: what may be used while the rows cannot be reached; others may have the rest


class Renewed(NamedTuple):
    """What became of a gate.

    Attributes:
        rows: to be written; those that expired and hold nothing are to be dropped.
        then: to be called when they are written.
        soon: it waits for others, or they wait for it: to be renewed again soon.
    """

    rows: tuple[Row, ...]
    then: Callable[[], None]
    soon: bool = False


class Gate(ABC):
    """One limit of one limiter, as one holder among several.

    Attributes:
        unit: what is divided.
        kept_s: seconds for which rows count after they expired.
    """

    unit: str
    kept_s: float

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._new = True

    def renew(self, rows: Sequence[Row], holder: bytes, now: float) -> Renewed:
        """Settle this holder's share.

        Args:
            rows: of all holders, as far as they count.
            holder: this one.
            now: wall clock.
        """
        self._new = all(row.holder != holder for row in rows)  # also where others held it for dead
        return self._limiter.adjust(partial(self._renew, rows, holder, now))

    def leave(self, rows: Sequence[Row], holder: bytes, now: float) -> Renewed:
        """Give the share back."""
        return self._limiter.adjust(partial(self._leave, rows, holder, now))

    @abstractmethod
    def _renew(self, rows: Sequence[Row], holder: bytes, now: float) -> Renewed: ...

    @abstractmethod
    def _leave(self, rows: Sequence[Row], holder: bytes, now: float) -> Renewed: ...

    @abstractmethod
    def lost(self) -> None:
        """The rows cannot be reached, and the share is not ours any more."""

    @abstractmethod
    def free(self) -> None:
        """Nobody shares any more."""


class Given(Gate):
    """A limit that the user named: a number in flight, or a ceiling per minute."""

    def __init__(self, limiter: Limiter, unit: str, total: float, ceiling: Ceiling | None = None) -> None:
        super().__init__(limiter)
        self.unit, self.kept_s = unit, 0.0 if ceiling is None else KEPT_S
        self._total, self._ceiling = total, ceiling
        self._amount = total
        self._before = 0.0  # used at the last renewal: requests that end together are no want of less
        self._parts: Parts = ()  # of a minute's use, and when each is over...
        self._booked = 0.0  # ...of all that was used up to then

    def _renew(self, rows: Sequence[Row], holder: bytes, now: float) -> Renewed:
        used, waits = self._used(), self._limiter.waiting > 0 or self._new
        asks = self._limiter.next_ask() if self.unit == "tokens" else 1
        amount = 0.0 if self._new else self._amount
        least, want = wanted(max(used, self._before), max(1, asks), amount, self._total, waits=waits)
        self._before = used
        mine = Row(holder, 0.0, least, want, self._total, True, now + TTL_S)
        amount, fair = portion(rows, mine, now)
        if amount < self._amount:
            self._set(amount, fair)
        held = max(amount, used)
        mine = mine._replace(amount=held, used=self._use(used, now, held - used, max(amount, fair)))
        then = partial(self._limiter.adjust, partial(self._set, amount, fair))
        return Renewed((mine,), then, soon=amount < fair or held > amount)

    def _leave(self, rows: Sequence[Row], holder: bytes, now: float) -> Renewed:  # noqa: ARG002 - the same for all
        used = self._used() if self.kept_s else 0.0
        row = Row(holder, used, 0.0, 0.0, self._total, True, now, self._use(used, now))
        return Renewed((row,), self.free)

    def _use(self, used: float, now: float, left: float = 0.0, even: float = 0.0) -> Parts:
        """What counts of a minute's use should this holder die, with what may yet go of what is left to it."""
        if self._ceiling is None:
            return ()
        more, self._booked = self._ceiling.booked - self._booked, self._ceiling.booked
        self._parts = parts_used(self._parts, more, used, now, WINDOW_S)
        ahead = min(left, self._ceiling.most_within(TTL_S, even))
        return (*self._parts, (now + TTL_S + WINDOW_S, ahead)) if ahead else self._parts

    def lost(self) -> None:
        """See `Gate`."""
        self._limiter.adjust(partial(self._set, min(self._amount, max(1.0, LOST * self._total))))

    def free(self) -> None:
        """See `Gate`."""
        self._limiter.adjust(self._free)

    def _free(self) -> None:
        self._set(self._total)
        self._limiter.shares.pop(self.unit, None)

    def _used(self) -> float:
        if self._ceiling is None:
            return float(self._limiter.in_flight)
        return self._ceiling.used_at(clock.now())

    def _set(self, amount: float, fair: float = 0.0) -> None:
        self._amount = amount
        if self._ceiling is not None:  # what others still free is taken at the pace at which it comes
            self._ceiling.portion, self._ceiling.even = amount, max(amount, fair)
        else:
            self._limiter.shares[self.unit] = int(amount)


class InFlight(Gate):
    """The number in flight that the limiter learns by itself.

    Its part of what all have learnt is its limit; while that still rises, what it has used of it, since nobody knows
    whether more fits. What it cedes goes to the pool as it comes out of use.
    """

    unit, kept_s = "learnt in flight", KEPT_S

    def __init__(self, limiter: Limiter) -> None:
        super().__init__(limiter)
        self._total = 0.0  # what all holders have learnt together, as of the last renewal
        self._known = 0.0  # of it, by this one
        self._generation = limiter.generation
        self._owed = 0.0  # ceded, and still in use
        self._none = False  # others have all of it

    def learnt(self) -> Learnt | None:
        """See `Leased.learnt`."""
        return self._limiter.adjust(self._learnt)

    def _learnt(self) -> Learnt | None:
        known, pace = max(self._total, self._see()), self._limiter.admission.bucket.rate
        return None if known < 1 or not self._limiter.accepted else Learnt(known, self._firm, pace)

    def recall(self, learnt: Learnt, age_s: float) -> float | None:
        """See `Leased.recall`; the limit, or None where it stays."""
        return self._limiter.adjust(partial(self._recall, learnt, age_s))

    def _recall(self, learnt: Learnt, age_s: float) -> float | None:
        limiter = self._limiter
        if limiter.accepted or limiter.in_flight:
            return None
        if learnt.pace and age_s < HALF_S:
            limiter.admission.bucket.rate = learnt.pace
        return self._resume(aged(learnt.in_flight, limiter.limit / RESUMED, age_s), learnt.firm)

    def resume(self, known: float, firm: bool) -> float | None:
        """Begin with a part of what was known, unless this limiter knows better; the limit, or None."""
        return self._limiter.adjust(partial(self._resume, known, firm))

    def _resume(self, known: float, firm: bool) -> float | None:
        limiter = self._limiter
        concurrency, begun = limiter.admission.concurrency, limiter.accepted or limiter.in_flight
        limit = int(RESUMED * known)
        if begun or (not firm and limit <= concurrency.limit):
            return None
        concurrency.restart(limit)
        return concurrency.limit

    @property
    def _firm(self) -> bool:
        return not self._limiter.admission.concurrency.starting

    def _see(self) -> float:
        """What is known to fit by now."""
        limiter, concurrency = self._limiter, self._limiter.admission.concurrency
        if limiter.generation != self._generation:  # what was used before a rejection did not fit
            self._generation, self._known = limiter.generation, 0.0
        used = max(self._known, limiter.in_flight, concurrency.known)
        known = concurrency.limit if self._firm else min(concurrency.limit, used)
        self._known = 0.0 if self._none else known
        return self._known

    def _renew(self, rows: Sequence[Row], holder: bytes, now: float) -> Renewed:
        limiter, concurrency = self._limiter, self._limiter.admission.concurrency
        if self._new:
            self._owed = 0.0
        used, known = limiter.in_flight, self._see()
        held, limit = (0.0, 0.0) if self._new else (known, concurrency.limit)
        least, want = wanted(used, 1, limit, concurrency.maximum, waits=limiter.waiting > 0 or self._new)
        mine = Row(holder, held, least, want, 0.0, self._firm and held >= 1, now + TTL_S)
        divided = division(rows, mine, self._owed, now, new=self._new)
        amount, self._total = divided.amount, divided.total
        ceded = self._owed + max(0.0, held - amount)
        self._owed = min(ceded, max(0.0, used - amount))
        if divided.divided and (amount < held or (amount < 1 and not self._none)):
            self._set(amount, firm=False)  # who is still rising goes on
        row = mine._replace(amount=amount + self._owed, firm=mine.firm or amount > held)
        pool = Row(POOL, divided.pool + ceded - self._owed, 0.0, 0.0, 0.0, divided.firm, now + TTL_S)
        then = partial(limiter.adjust, partial(self._raise, divided, held))
        return Renewed((row, pool, *_emptied(rows, now)), then, soon=self._none or self._owed > 0)

    def _raise(self, divided: Division, held: float) -> None:
        limit = self._limiter.admission.concurrency.limit
        if divided.divided and divided.amount > held and (self._none or self._new or divided.amount > limit):
            self._set(divided.amount, firm=divided.firm)
        elif not divided.divided and self._none:
            self._set(limit, firm=False)  # nobody has it any more, and nobody knows how much it is

    def _set(self, amount: float, *, firm: bool) -> None:
        self._known, self._none = amount, amount < 1
        if self._none:
            self._limiter.shares[self.unit] = 0
        else:
            self._limiter.shares.pop(self.unit, None)
        self._limiter.admission.moved(amount, firm=firm)

    def _leave(self, rows: Sequence[Row], holder: bytes, now: float) -> Renewed:
        pools = [row for row in rows if row.holder == POOL]
        held = self._see() + self._owed if self._firm else 0.0
        amount, firm = held + sum(row.amount for row in pools), held > 0 or any(row.firm for row in pools)
        pool = Row(POOL, amount, 0.0, 0.0, 0.0, firm, now + TTL_S)
        return Renewed((pool, Row(holder, 0.0, 0.0, 0.0, 0.0, False, now)), self.free)

    def lost(self) -> None:
        """See `Gate`. What the provider rejects teaches the rest."""

    def free(self) -> None:
        """See `Gate`."""
        self._none = False
        self._owed = 0.0
        self._limiter.adjust(partial(self._limiter.shares.pop, self.unit, None))


def _emptied(rows: Sequence[Row], now: float) -> tuple[Row, ...]:
    """Those of the dead: what they held is in the pool."""
    dead = (row for row in rows if row.holder != POOL and row.expires <= now)
    return tuple(row._replace(amount=0.0) for row in dead)


class Leased:
    """All of one limiter that is divided.

    Attributes:
        label: host and model.
        whose: what equal keys of all processes have in common; see `shapes.whose`.
        runs: those that use it, by their numbers in the store: what is learnt is stored with them.
        gates: its limits.
    """

    def __init__(self, limiter: Limiter, whose: bytes, most: int | None, runs: Sequence[int]) -> None:
        """Divide what is learnt, the ceilings, and the `most` in flight, where the user named it."""
        self.whose, self.runs = whose, runs
        self.label = limiter.key.partition("#")[0]
        self._in_flight = InFlight(limiter)
        ceilings = [Given(limiter, unit, gate.most, gate) for unit, gate in limiter.admission.ceilings]
        permits = [] if most is None else [Given(limiter, IN_FLIGHT, float(most))]
        self.gates: tuple[Gate, ...] = (*permits, *ceilings, self._in_flight)

    def learnt(self) -> Learnt | None:
        """How many fitted in flight, whether no more did, and at which pace; None while nothing is known."""
        return self._in_flight.learnt()

    def recall(self, learnt: Learnt, age_s: float) -> None:
        """Begin with what runs before have found, less of it the longer that is ago; the first requests check it."""
        found = self._in_flight.recall(learnt, age_s)
        if found is not None:
            log.info(
                "%s starts with %d in flight: %.0f fitted in a run before",
                self.label,
                found,
                learnt.in_flight,
            )

    def resume(self, limit: float, firm: bool) -> None:
        """Begin with a part of what an earlier process has learnt, unless more is known by now."""
        if (start := self._in_flight.resume(limit, firm)) is not None:
            log.info("%s starts with %d in flight: %.0f fitted before", self.label, start, limit)

    def __repr__(self) -> str:
        return f"<Leased {self.label}>"
