"""The one place that delays a model request: so many in flight per key, by priority, and one pause for all.

A key names what shares a limit (host and model). Whoever wants to send takes a `Permit` and gives it back
with a verdict, which teaches the turnstile how many may be in flight. `Turnstiles` is the registry.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from cottonpalm import clock
from cottonpalm.model import Verdict
from cottonpalm.pure.circuit import Circuit
from cottonpalm.pure.limits import Doubling
from cottonpalm.request.waiting import Place, RowClosed, Waiter, Waitroom

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cottonpalm.config import AdaptiveConcurrency

__all__ = ["Permit", "RowClosed", "Turnstile", "Turnstiles", "Waiter"]

_NO_EPOCH = -1  # a forced permit takes no part in the ramp after a pause


class Permit:
    """The right to have one request in flight, until `release`.

    Attributes:
        turnstile: where to give it back.
        generation: cuts of the limit before it was granted; a rejection of an older generation cuts nothing.
        forced: it was taken, not granted.
        epoch: pauses before it was granted.
        held: not given back yet.
    """

    __slots__ = ("epoch", "forced", "generation", "held", "turnstile")

    def __init__(self, turnstile: Turnstile, generation: int, epoch: int, forced: bool) -> None:
        self.turnstile = turnstile
        self.generation = generation
        self.epoch = epoch
        self.forced = forced
        self.held = True

    def __repr__(self) -> str:
        words = ["forced"] * self.forced + ["given back"] * (not self.held)
        return f"<Permit {self.turnstile.key} generation {self.generation} {' '.join(words)}".rstrip() + ">"


class Turnstile(Waitroom[Permit]):
    """Permits of one key, for tasks of any loop and for threads.

    - In flight never exceeds the limit, but for forced permits and what was granted before a cut.
    - Among those who wait, the smallest `ageing_key` goes first; a cancel loses nothing.
    - A pause holds everybody until its end, the latest of all announced. Then one request goes first; each
      one accepted lets two follow in its place (1, 2, 4, ...), until the limit is reached or a rejection
      starts it over.
    - The limit grows while it is used and unopposed, and is cut once per generation: of the requests in
      flight at a cut, none cuts again. A rejected probe does not cut either: it says the pause was too short,
      not the limit too high.

    Attributes:
        key: what shares this limit.
        limit: how many may be in flight now; a fraction counts from the next whole number on.
        in_flight: permits granted and not given back.
        waiting: tasks and threads in line.
        accepted: calls given back as SUCCESS.
        last_accepted: `clock.now()` of the last of them, None before the first.
        paused_until: `clock.now()` at which the latest pause ends or ended; 0.0 before the first.
        generation: cuts so far.
        forced: permits taken by force so far.
        circuit: whether the provider counts as dead. The pauses it asks for come with `release`.
    """

    def __init__(self, key: str, limit: Doubling) -> None:
        super().__init__()
        self.key = key
        self.in_flight = 0
        self.accepted = 0
        self.last_accepted: float | None = None
        self.paused_until = 0.0
        self.generation = 0
        self.forced = 0
        self.circuit = Circuit()
        self._set_limit(limit)
        self._peak = 0  # most in flight in this round
        self._calls_left = self._slots  # of this round
        self._pausing = False  # nobody has seen the end of the pause yet
        self._epoch = 0
        self._ramp = 0  # after a pause: how many of this epoch may be in flight; 0: no ramp
        self._ramp_in_flight = 0

    def try_acquire(self, priority: float = 0) -> Permit | None:
        """Take a permit if one is free and nobody with a better claim waits; never blocks."""
        with self._lock:
            if self.waiting and not self._goes_before_all(priority):
                return None
            if self.in_flight >= self._slots or (self._ramp and not self._has_room()):
                return None
            return self._admit()

    async def aacquire(self, priority: float = 0) -> Permit:
        """Wait for a permit as a task. A cancel, at any moment, leaves no permit behind."""
        permit = self.try_acquire(priority)
        if permit is None:
            permit = await self._wait_in_task(priority)
        return permit

    def acquire(self, priority: float = 0, on_wait: Callable[[Waiter], None] | None = None) -> Permit:
        """Wait for a permit and block this thread meanwhile.

        Args:
            priority: higher goes first.
            on_wait: gets the `Waiter` before the thread is parked; not called where a permit is free.

        Raises:
            RowClosed: somebody called `abandon` on the waiter.
        """
        permit = self.try_acquire(priority)
        if permit is None:
            permit = self._wait_in_thread(priority, 0, on_wait)
        return permit

    def force(self) -> Permit:
        """Take a permit at once, above the limit if need be: for whoever blocks all others by waiting."""
        with self._lock:
            self.in_flight += 1
            self.forced += 1
            return Permit(self, self.generation, _NO_EPOCH, forced=True)

    def release(self, permit: Permit, verdict: Verdict, pause_s: float = 0.0) -> None:
        """Give a permit back and say how its request ended. Giving it back again does nothing.

        Args:
            permit: one of this turnstile.
            verdict: IGNORED teaches nothing.
            pause_s: the wait the provider named, in seconds from now; 0 for none. Kept whatever the verdict.
        """
        served: Sequence[Place] = ()
        paused: Sequence[Place] = ()
        with self._lock:
            if not permit.held:
                return
            self._learn(permit, verdict)
            self._give_back(permit)
            if pause_s > 0:
                paused = self._pause(pause_s)
            if self.waiting or self._lost:
                served = self._serve()
        if served:
            self._wake(served)
        if paused:
            self._alert(paused)

    def __repr__(self) -> str:
        text = f"<Turnstile {self.key} {self.in_flight}/{self.limit:.1f} in flight, {self.waiting} waiting"
        if (pause_s := self.paused_until - clock.now()) > 0:
            text += f", paused for {pause_s:.1f} s"
        elif self._ramp:
            text += f", ramp at {self._ramp}"
        return text + f", generation {self.generation}>"

    # Granting. The lock is held from here on.

    def _offer(self, ask: int) -> Permit | None:  # noqa: ARG002 - every permit is for one request
        return self._admit() if self._has_room() else None

    def _take_back(self, prize: Permit, ask: int) -> None:  # noqa: ARG002
        self._give_back(prize)

    def _look_again_s(self) -> float | None:
        return max(0.0, self.paused_until - clock.now()) if self._pausing else None

    def _has_room(self) -> bool:
        if self._pausing:  # looked at first: `_look_again_s` relies on the end of a pause being seen
            if clock.now() < self.paused_until:
                return False
            self._pausing = False
        if self.in_flight >= self._slots:
            return False
        return not self._ramp or self._ramp_in_flight < self._ramp

    def _admit(self) -> Permit:
        self.in_flight = in_flight = self.in_flight + 1
        if in_flight > self._peak:  # noqa: PLR1730 - max() costs a tenth of the whole free path
            self._peak = in_flight
        if self._ramp:
            self._ramp_in_flight += 1
        return Permit(self, self.generation, self._epoch, False)

    def _give_back(self, permit: Permit) -> None:
        permit.held = False
        self.in_flight -= 1
        if self._ramp and permit.epoch == self._epoch:
            self._ramp_in_flight -= 1

    # Learning

    def _learn(self, permit: Permit, verdict: Verdict) -> None:
        if verdict is Verdict.SUCCESS:
            self.accepted += 1
            self.last_accepted = clock.now()
            if self._ramp:
                self._widen_ramp(permit)
            elif permit.generation == self.generation:
                self._grow()
        elif verdict is Verdict.DROPPED:
            self._shrink(permit)

    def _grow(self) -> None:
        if self.limit < self._limit.maximum:
            self._set_limit(self._limit.after(Verdict.SUCCESS, self._peak))
        self._calls_left -= 1
        if self._calls_left <= 0:
            self._begin_round()

    def _begin_round(self) -> None:
        self._set_limit(self._limit.next_round())
        self._calls_left = self._slots
        self._peak = self.in_flight

    def _set_limit(self, limit: Doubling) -> None:
        self._limit = limit
        self.limit = limit.limit  # read for every row
        self._slots = int(limit.limit)

    def _widen_ramp(self, permit: Permit) -> None:
        if permit.epoch == self._epoch:
            self._ramp += 1
            if self._ramp > self._slots:
                self._end_ramp()

    def _end_ramp(self) -> None:
        self._ramp = self._ramp_in_flight = 0
        self._epoch += 1  # permits of the ramp must not be counted in the next one
        self._begin_round()

    def _shrink(self, permit: Permit) -> None:
        probe = self._ramp == 1 and permit.epoch == self._epoch
        if self._ramp and permit.epoch == self._epoch:
            self._ramp = 1
        if probe or permit.generation != self.generation:
            return
        self._set_limit(self._limit.after(Verdict.DROPPED, max(self._peak, self.in_flight)))
        self.generation += 1
        self._begin_round()

    def _pause(self, pause_s: float) -> list[Place]:
        """Hold everybody until then; return whom to tell, if nobody times this pause yet."""
        until = clock.now() + pause_s
        if until <= self.paused_until:
            return []
        news = not self._pausing
        self.paused_until, self._pausing = until, True
        self._epoch += 1
        self._ramp, self._ramp_in_flight = 1, 0
        self._peak = self.in_flight
        return self._who_must_look_again() if news else []


class Turnstiles:
    """The turnstiles of one set of settings, made when first asked for.

    Attributes:
        initial: the limit each key starts with.
        maximum: the limit no key exceeds.
    """

    def __init__(self, settings: AdaptiveConcurrency) -> None:
        self.initial = settings.initial
        self.maximum = settings.maximum
        self._start = Doubling(settings.initial, settings.minimum, settings.maximum)
        self._by_key: dict[str, Turnstile] = {}
        self._lock = threading.Lock()

    def of(self, key: str) -> Turnstile:
        """Return the one turnstile of this key."""
        turnstile = self._by_key.get(key)
        if turnstile is None:
            with self._lock:
                turnstile = self._by_key.setdefault(key, Turnstile(key, self._start))
        return turnstile

    def forget(self, key: str) -> None:
        """Nobody will ask for this key again."""
        self._by_key.pop(key, None)

    def __iter__(self) -> Iterator[Turnstile]:
        return iter(list(self._by_key.values()))

    def __repr__(self) -> str:
        return f"<Turnstiles {list(self._by_key.values())}>"
