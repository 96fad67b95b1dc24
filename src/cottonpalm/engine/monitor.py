"""Looks at a run twice a second: what binds now is told to observers, and to the limits where it is our CPU.

A run that gets nowhere ends here, instead of waiting all night.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cottonpalm import clock
from cottonpalm.events import Binding, LimitChanged
from cottonpalm.request.limiter.rules.binding import BUSY, Snapshot, binding
from cottonpalm.request.reach import DEAD_S

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from cottonpalm.events import Event
    from cottonpalm.request.run_account import RunAccount
    from cottonpalm.types import Bottleneck

EVERY_S: Final = 0.5
RARELY_S: Final = 8.0  # where nothing is accepted any more
SURE: Final = 2  # looks in a row that must agree: a moment is no bottleneck


class Monitor:
    """Samples one run on its loop. Costs nothing per row.

    Args:
        account: whose requests are watched.
        rows: says what holds rows back, as far as that can be seen without looking at the requests.
        looked: called at each look.

    Attributes:
        emit: takes the events; None: nobody listens.
    """

    def __init__(
        self, account: RunAccount, rows: Callable[[], Bottleneck], looked: Callable[[], None]
    ) -> None:
        self.emit: Callable[[Event], None] | None = None
        self._account, self._rows, self._looked = account, rows, looked
        self._busy = 0  # looks in a row in which the loop had no time left
        self._hot = False  # this process uses a core, though the loop may have time
        self._settled = self._seen = Binding("", "")
        self._times = 0
        self._limits: dict[str, int] = {}
        self._accepted = 0
        self._pause_s = EVERY_S
        self._heard_s = clock.now()
        self._timer: asyncio.TimerHandle | None = None

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look from now on, until `close`."""
        self._loop = loop
        self._used = _used()
        self._timer = loop.call_later(EVERY_S, self._look)

    def close(self) -> None:
        """No timer stays behind, and no limit that waits for our CPU."""
        if self._timer is not None:
            self._timer.cancel()
            self._tell_limits(binds=False)

    @property
    def binding(self) -> Binding:
        """What keeps the run from being faster, for some moments already; a pause from its first. From any thread."""
        found = self._found()
        return found if _is_fact(found) or _is_fact(self._settled) else self._settled

    @property
    def now(self) -> Bottleneck:
        """What binds at this very moment; from any thread."""
        return self._found().what

    @property
    def silent_s(self) -> float:
        """Seconds for which requests are in flight and none was accepted, to a few seconds; from any thread."""
        return clock.now() - self._heard_s if self._account.flow.in_flight() else 0.0

    def _found(self) -> Binding:
        account = self._account
        found = standings(account)
        busy = self._busy >= SURE
        return Binding(*binding(self._rows(), account.flow.unpaid, found, busy=busy, hot=self._hot))

    def _look(self) -> None:
        was_busy = self._busy >= SURE
        loop, process = self._shares()
        self._busy = self._busy + 1 if loop >= BUSY else 0
        self._hot = process >= BUSY
        if was_busy or self._busy >= SURE:
            self._tell_limits(binds=self._busy >= SURE)
        self._settle(self._found())
        if self.emit is not None:
            self._tell_changes(self.emit)
        self._looked()
        self._timer = self._loop.call_later(self._next_s(), self._look)

    def _shares(self) -> tuple[float, float]:
        """Of one core since the last look: what the loop would have used on a free machine, what the process used."""
        (then_s, *before), self._used = self._used, _used()
        passed_s = max(1e-9, self._used[0] - then_s)
        loop, process = ((now - was) / passed_s for now, was in zip(self._used[1:], before, strict=True))
        return loop, process

    def _tell_limits(self, *, binds: bool) -> None:
        for limiter in self._account.flow.seen():
            limiter.admission.concurrency.own_work(binds)

    def _settle(self, found: Binding) -> None:
        """Believe what was found so often in a row; a pause, and its end, at once."""
        self._times = self._times + 1 if found == self._seen else 1
        self._seen = found
        sure = self._times >= SURE or _is_fact(found) or _is_fact(self._settled)
        if sure and found != self._settled:
            self._settled = found
            if self.emit is not None:
                self.emit(found)

    def _tell_changes(self, emit: Callable[[Event], None]) -> None:
        for limiter in self._account.flow.seen():
            key, limit = limiter.key, int(limiter.limit)
            if self._limits.get(key) != limit:
                self._limits[key] = limit
                emit(LimitChanged(self._account.flow.shown(key), limit, limiter.in_flight))

    def _next_s(self) -> float:
        """Ever more rarely while nothing is accepted: a run may wait for days."""
        accepted = sum(limiter.accepted for limiter in self._account.flow.seen())
        quiet, self._accepted = accepted == self._accepted, accepted
        if not (quiet and self._account.flow.in_flight()):
            self._heard_s = clock.now()
        self._pause_s = min(RARELY_S, 2 * self._pause_s) if quiet else EVERY_S
        return self._pause_s


def _used() -> tuple[float, float, float]:
    """The time, the work of the loop's thread, that of the process."""
    return clock.now(), clock.worked(), clock.cpu()


def _is_fact(binding: Binding) -> bool:
    """Whether it is known, and no matter of how often it is seen."""
    return binding.what in ("pause", "down")


_LOOKS: Final = 20  # looks in the time of one stall
OFTEN_S: Final = 1.0  # between looks while nobody ever answered


class StallWatch:
    """Tells when requests have been waiting or in flight for so long, and none was accepted.

    Waits that a provider announced do not count, nor does time in which nothing is asked: the reader is slow, the
    rows compute, the run is paused. A single request may always take its whole timeout.

    Args:
        seconds: the user's `stall_timeout`.
        account: whose requests are watched.
        loop: of the run; holds one timer.
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
        self._quiet_from = clock.now()  # nothing was outstanding before
        self._every_s = min(self._seconds / _LOOKS, DEAD_S / 2)
        self._timer = loop.call_later(self._every_s, self._look)

    def close(self) -> None:
        """No timer stays behind."""
        self._timer.cancel()

    def _look(self) -> None:
        now = clock.now()
        if self._account.flow.grain != "request" or not self._account.flow.outstanding():
            self._quiet_from = now
        accepted, announced_s = self._account.flow.last_sign()
        silence_s = now - max(self._quiet_from, accepted) - announced_s
        dead_s, fault = self._account.reach.dead_s(), self._account.last_fault
        if dead_s >= DEAD_S:
            self._told(
                f"nobody ever answered: {self._account.reach.trouble} for {dead_s:.0f} seconds; "
                "check base_url, and that the server runs"
            )
        elif silence_s >= self._seconds:
            last = "" if fault is None else f" (the last failure: {fault.message})"
            self._told(
                f"no request was accepted for {silence_s:.0f} seconds beyond the waits that were announced{last}"
            )
        else:
            often = dead_s > 0
            self._timer = self._loop.call_later(OFTEN_S if often else self._every_s, self._look)


def standings(run: RunAccount) -> list[Snapshot]:
    """One for each limiter that the run uses; from any thread."""
    now = clock.now()
    return [
        Snapshot(
            key=run.flow.shown(limiter.key),
            limit=int(limiter.limit),
            maximum=int(limiter.admission.concurrency.maximum),
            in_flight=limiter.in_flight,
            waiting=limiter.waiting,
            pause_s=max(0.0, limiter.paused_until - now),
            down=limiter.circuit.is_open(limiter.good),
            held_by=limiter.held_by,
        )
        for limiter in run.flow.seen()
    ]
