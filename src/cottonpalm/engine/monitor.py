"""Looks at a run twice a second, and tells observers what limits it now. If our CPU does, it tells the limiters too.

It also ends a run that makes no progress, so that the run does not wait all night.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from cottonpalm import clock
from cottonpalm.events import Binding, LimitChanged
from cottonpalm.request.limiter.rules.binding import BUSY, SEVERAL, Snapshot, binding
from cottonpalm.request.limiter.rules.causes import APART
from cottonpalm.request.limiter.rules.reasons import why
from cottonpalm.request.reach import DEAD_S
from cottonpalm.runtime.due import LATE_S
from cottonpalm.types import Kind

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Iterator

    from cottonpalm.events import Event
    from cottonpalm.request.limiter.limiter import Limiter
    from cottonpalm.request.run_account import RunAccount
    from cottonpalm.types import Bottleneck

EVERY_S: Final = 0.5
RARELY_S: Final = 8.0  # seconds between two looks while no request is accepted
SURE: Final = 2  # so many looks in a row must agree before we report a bottleneck


class WorkersStanding(Protocol):
    """How the workers of a run stand, for a run that sends no requests itself.

    Attributes:
        answered: rows that they have answered.
    """

    answered: int

    def binding(self, here: Binding) -> Binding:
        """What keeps the run from being faster, where `here` is what does so in its own process. From any thread."""

    def limits(self) -> Iterable[LimitChanged]:
        """The limits of all workers together."""


class Monitor:
    """Samples one run on its loop. It adds no cost per row.

    Args:
        account: the requests of this run are watched.
        rows: says what holds rows back, as far as one can tell without the requests.
        looked: called at each look.

    Attributes:
        emit: called with each event; None: nobody listens.
        workers: they send the requests of this run; None: the run does.
    """

    def __init__(
        self, account: RunAccount, rows: Callable[[], Bottleneck], looked: Callable[[], None]
    ) -> None:
        self.emit: Callable[[Event], None] | None = None
        self.workers: WorkersStanding | None = None
        self._account, self._rows, self._looked = account, rows, looked
        self._busy = 0  # so many looks in a row found that the loop had no time left
        self._hot = False  # True: this process uses one core, even if the loop has time left
        self._settled = self._seen = Binding("", "")
        self._pace = 0.0  # requests a second, where that binds, as it was told
        self._times = 0
        self._limits: dict[str, int] = {}
        self._accepted = 0
        self._pause_s = EVERY_S
        self._heard_s = clock.now()
        self._timer: asyncio.TimerHandle | None = None

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look at the run regularly from now on, until `close`."""
        self._loop = loop
        self._used = _used()
        self._timer = loop.call_later(EVERY_S, self._look)

    def close(self) -> None:
        """Stop the timer, and tell the limiters that they need not wait for our CPU any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._tell_limits(binds=False)

    def heed(self) -> None:
        """Take in at once what an order has changed. The next look may be seconds away, as nothing is accepted."""
        if self._timer is None:
            return
        self._timer.cancel()
        self._settle(self.found())
        self._pause_s = EVERY_S
        self._timer = self._loop.call_later(EVERY_S, self._look)

    @property
    def binding(self) -> Binding:
        """Return what has limited the run for the last looks; a fact counts from its first look. From any thread."""
        found, settled = self.found(), self._settled
        return found if found == settled or is_fact(found) or is_fact(settled) else settled

    @property
    def silent_s(self) -> float:
        """Return for how many seconds, roughly, requests were in flight and none was accepted. From any thread."""
        return clock.now() - self._heard_s if self._account.flow.in_flight() else 0.0

    def found(self) -> Binding:
        """Return what limits the run at this moment. From any thread."""
        account = self._account
        found = standings(account)
        busy = self._busy >= SURE
        what, key = binding(self._rows(), account.unpaid, found, busy=busy, hot=self._hot)
        here = Binding(what, key, next((each.why for each in found if each.key == key and key), ""))
        return here if self.workers is None else self.workers.binding(here)

    def _look(self) -> None:
        was_busy = self._busy > 0
        loop, process = self._shares()
        self._busy = self._busy + 1 if loop >= BUSY else 0
        self._hot = BUSY <= process < SEVERAL
        if was_busy or self._busy:  # at once: what grows meanwhile is not taken back
            self._tell_limits(binds=self._busy > 0)
        self._settle(self.found())
        if self.emit is not None:
            self._tell_changes(self.emit)
        self._looked()
        self._timer = self._loop.call_later(self._next_s(), self._look)

    def _shares(self) -> tuple[float, float]:
        """Return two shares of one core since the last look: of the loop on a free machine, and of the process."""
        (then_s, *before), self._used = self._used, _used()
        passed_s = max(1e-9, self._used[0] - then_s)
        loop, process = ((now - was) / passed_s for now, was in zip(self._used[1:], before, strict=True))
        return loop, process

    def _tell_limits(self, *, binds: bool) -> None:
        for limiter in self._account.flow.seen():
            limiter.admission.concurrency.own_work(binds)

    def _settle(self, found: Binding) -> None:
        """Accept a finding after enough equal looks in a row; accept a fact, and its end, at once.

        A pace that binds is told again once another one is believed.
        """
        self._times = self._times + 1 if found == self._seen else 1
        self._seen = found
        sure = self._times >= SURE or is_fact(found) or is_fact(self._settled)
        pace = self._pace_of(found)
        if sure and (found != self._settled or abs(pace - self._pace) > APART * self._pace):
            self._settled, self._pace = found, pace
            if self.emit is not None:
                self.emit(found)

    def _pace_of(self, found: Binding) -> float:
        """The pace that is believed, where it binds; 0 for none."""
        if found.what != "pace":
            return 0.0
        flow = self._account.flow
        paces = (each.admission.bucket.rate for each in flow.seen() if flow.shown(each.key) == found.key)
        return next(paces, 0.0)

    def _tell_changes(self, emit: Callable[[Event], None]) -> None:
        for event in self._limits_now() if self.workers is None else self.workers.limits():
            if self._limits.get(event.key) != event.limit:
                self._limits[event.key] = event.limit
                emit(event)

    def _limits_now(self) -> Iterator[LimitChanged]:
        flow = self._account.flow
        for limiter in flow.seen():
            yield LimitChanged(flow.shown(limiter.key), int(limiter.limit), limiter.in_flight)

    def _next_s(self) -> float:
        """Return the seconds until the next look. They grow while nothing is accepted: a run may wait for days."""
        accepted = self._answers()
        quiet, self._accepted = accepted == self._accepted, accepted
        if not (quiet and self._account.flow.in_flight()):
            self._heard_s = clock.now()
        self._pause_s = min(RARELY_S, 2 * self._pause_s) if quiet else EVERY_S
        return self._pause_s

    def _answers(self) -> int:
        """How many requests were accepted here, or rows answered at the workers."""
        if self.workers is not None:
            return self.workers.answered
        return sum(limiter.accepted for limiter in self._account.flow.seen())


def _used() -> tuple[float, float, float]:
    """Return the time, the CPU time of the loop's thread, and the CPU time of the process."""
    return clock.now(), clock.worked(), clock.cpu()


def is_fact(binding: Binding) -> bool:
    """Whether one look is enough to be sure of this."""
    return binding.what in ("pause", "down", "held")


_LOOKS: Final = 20  # how often it looks during the time of one stall
OFTEN_S: Final = 1.0  # seconds between two looks while no server has ever answered


class StallWatch:
    """Tells the run when requests have waited or been in flight for `seconds`, and none was accepted.

    A wait that a provider announced does not count. Neither does time without requests: the reader may be slow, the
    rows may compute, the run may be paused. Nor does time in which our loop stood still, as the process was stopped,
    the machine slept or a step blocked it: nobody could hear. A single request may always take its whole timeout.

    Args:
        seconds: the user's `stall_timeout`.
        account: the requests of this run are watched.
        loop: the run's loop, on which one timer runs.
        told: called once, with the reason to stop.
    """

    def __init__(
        self,
        seconds: float,
        account: RunAccount,
        loop: asyncio.AbstractEventLoop,
        told: Callable[[str], None],
    ) -> None:
        self._seconds = max(seconds, account.timeout_s)
        self._account, self._loop, self._told = account, loop, told
        self._quiet_from = clock.now()  # before this moment, no request was outstanding
        self._every_s = min(self._seconds / _LOOKS, DEAD_S / 2)
        self._look_in(self._every_s)

    def _look_in(self, seconds: float) -> None:
        self._wanted = clock.now() + seconds  # the moment of the next look
        self._timer = self._loop.call_later(seconds, self._look)

    def close(self) -> None:
        """No timer stays behind."""
        self._timer.cancel()

    def _look(self) -> None:
        now = clock.now()
        if self._account.flow.grain != "request" or not self._account.flow.outstanding():
            self._quiet_from = now
        accepted, announced_s = self._account.flow.last_sign()
        if (stood_s := now - self._wanted) > LATE_S:
            self._quiet_from = max(self._quiet_from, accepted) + stood_s
        silence_s = now - max(self._quiet_from, accepted) - announced_s
        dead_s, said = self._account.reach.dead_s(), self._account.last_said
        if dead_s >= DEAD_S:
            self._told(
                f"nobody ever answered: {self._account.reach.trouble} for {dead_s:.0f} seconds; "
                f"{self._account.reach.advice}"
            )
        elif silence_s >= self._seconds:
            last = f" (the last failure: {said})" if said else ""
            self._told(
                f"no request was accepted for {silence_s:.0f} seconds beyond the waits that were announced{last}"
            )
        else:
            often = dead_s > 0
            self._look_in(OFTEN_S if often else self._every_s)


def standings(run: RunAccount) -> list[Snapshot]:
    """Return a snapshot of each limiter that the run uses. From any thread."""
    now, seen = clock.now(), tuple(run.flow.seen())
    return [
        Snapshot(
            key=run.flow.shown(limiter.key),
            limit=int(limiter.limit),
            maximum=limiter.maximum,
            in_flight=limiter.in_flight,
            waiting=limiter.waiting,
            pause_s=max(0.0, limiter.paused_until - now),
            down=limiter.circuit.is_open(limiter.good),
            held_by=limiter.held_by,
            why=_why(limiter, run, alone=len(seen) == 1) if limiter.waiting else "",
        )
        for limiter in seen
    ]


def _why(limiter: Limiter, run: RunAccount, *, alone: bool) -> str:
    """Why a limiter is believed to hold requests back.

    While all are rejected, that is told in the provider's own words too, where no other provider can have said them.
    """
    believed, fault = why(limiter.admission, limiter.held_by, limiter.maximum), run.last_fault
    rejected = limiter.held_by == "probe" and fault is not None and fault.kind is Kind.THROTTLE
    return f"{believed}; it says: {run.last_said}" if rejected and alone else believed
