"""Looks at a run twice a second: what binds now is told to whoever listens, and to the limits where it is our CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cottonpalm import clock
from cottonpalm.model import Binding, LimitChanged
from cottonpalm.pure.binding import BUSY, binding
from cottonpalm.request.standing import standings

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from cottonpalm.model import Bottleneck, Event
    from cottonpalm.request.account import RunAccount

EVERY_S: Final = 0.5
RARELY_S: Final = 8.0  # where nothing is accepted any more
SURE: Final = 2  # looks in a row that must agree: a moment is no bottleneck


class Watch:
    """Samples one run on its loop. Costs nothing per row.

    Args:
        account: whose requests are watched.
        rows: says what holds rows back, as far as that can be seen without looking at the requests.
        looked: called at each look.

    Attributes:
        binding: what keeps the run from being faster, for some moments already.
        emit: takes the events; None: nobody listens.
    """

    def __init__(
        self, account: RunAccount, rows: Callable[[], Bottleneck], looked: Callable[[], None]
    ) -> None:
        self.binding = Binding("", "")
        self.emit: Callable[[Event], None] | None = None
        self._account, self._rows, self._looked = account, rows, looked
        self._busy = 0  # looks in a row in which our CPU had no time left
        self._seen, self._times = self.binding, 0
        self._limits: dict[str, int] = {}
        self._accepted = 0
        self._pause_s = EVERY_S
        self._timer: asyncio.TimerHandle | None = None

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look from now on, until `close`."""
        self._loop = loop
        self._at_s, self._cpu_s = clock.now(), clock.cpu()
        self._timer = loop.call_later(EVERY_S, self._look)

    def close(self) -> None:
        """No timer stays behind, and no limit that waits for our CPU."""
        if self._timer is not None:
            self._timer.cancel()
            self._tell_limits(binds=False)

    def now(self) -> Binding:
        """What binds at this moment; from any thread."""
        account = self._account
        found = standings(account)
        return Binding(*binding(self._rows(), account.unpaid, found, busy=self._busy >= SURE))

    def _look(self) -> None:
        was_busy = self._busy >= SURE
        self._busy = self._busy + 1 if self._share_of_cpu() >= BUSY else 0
        if was_busy or self._busy >= SURE:
            self._tell_limits(binds=self._busy >= SURE)
        self._settle(self.now())
        if self.emit is not None:
            self._tell_changes(self.emit)
        self._looked()
        self._timer = self._loop.call_later(self._next_s(), self._look)

    def _share_of_cpu(self) -> float:
        now, cpu = clock.now(), clock.cpu()
        passed_s, used_s = now - self._at_s, cpu - self._cpu_s
        self._at_s, self._cpu_s = now, cpu
        return used_s / passed_s if passed_s > 0 else 0.0

    def _tell_limits(self, *, binds: bool) -> None:
        for turnstile in self._account.seen():
            turnstile.admission.concurrency.own_work(binds)

    def _settle(self, found: Binding) -> None:
        """Believe what was found so often in a row."""
        self._times = self._times + 1 if found == self._seen else 1
        self._seen = found
        if found != self.binding and self._times >= SURE:
            self.binding = found
            if self.emit is not None:
                self.emit(found)

    def _tell_changes(self, emit: Callable[[Event], None]) -> None:
        for turnstile in self._account.seen():
            key, limit = turnstile.key, int(turnstile.limit)
            if self._limits.get(key) != limit:
                self._limits[key] = limit
                emit(LimitChanged(self._account.shown(key), limit, turnstile.in_flight))

    def _next_s(self) -> float:
        """Ever more rarely while nothing is accepted: a run may wait for days."""
        accepted = sum(turnstile.accepted for turnstile in self._account.seen())
        quiet, self._accepted = accepted == self._accepted, accepted
        self._pause_s = min(RARELY_S, 2 * self._pause_s) if quiet else EVERY_S
        return self._pause_s
