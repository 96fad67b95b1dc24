"""The one place that delays a model request: so many in flight per key, by priority, and one pause for all.

A key names what shares a limit (host and model). Whoever wants to send takes a `Permit` and gives it back
with a verdict, which teaches the limiter how many may be in flight. `limiters.py` has the registry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from bench.admission.present.admission import Admission, Sent

from cottonpalm import clock
from cottonpalm.request.limiter.rules.came_through import CameThrough
from cottonpalm.request.limiter.rules.circuit import Circuit, Standing, Storm
from cottonpalm.runtime.wait_queue import Place, Waiter, WaitQueue
from cottonpalm.types import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bench.admission.present.concurrency import Concurrency

    from cottonpalm.types import Quota, Unit, Usage


T = TypeVar("T")

BYTES_PER_TOKEN: Final = 4  # of a JSON body in English; what it is wrong by is seen in the answers' usage
_TICK_S: Final = 1e-5  # a timer that is set for less may find that no time has passed
WIDER: Final = 3  # more after a pause for each accepted: four times as many each round trip
_NO_EPOCH = -1  # a forced permit takes no part in the ramp after a pause


class Permit(Sent):
    """The right to have one request in flight, until `release`.

    Attributes:
        limiter: where to give it back.
        forced: it was taken, not granted.
        epoch: pauses before it was granted.
        held: not given back yet.
        number: of the permits granted here, this one included.
    """

    __slots__ = ("epoch", "forced", "held", "limiter", "number")

    def __init__(self, limiter: Limiter, now: float, ask: int, epoch: int, forced: bool) -> None:
        self.at_s = now
        self.ordinal = limiter.in_flight
        self.generation = limiter.generation
        self.ask = ask
        self.entries = ()
        self.limiter = limiter
        self.epoch = epoch
        self.forced = forced
        self.held = True
        self.number = limiter.granted

    def __repr__(self) -> str:
        words = ["forced"] * self.forced + ["given back"] * (not self.held)
        return f"<Permit {self.limiter.key} generation {self.generation} {' '.join(words)}".rstrip() + ">"


class Limiter(WaitQueue[Permit]):
    """Permits of one key, for tasks of any loop and for threads.

    - In flight never exceeds the limit, but for forced permits and what was granted before a cut.
    - Among those who wait, the smallest `ageing_key` goes first; a cancel loses nothing.
    - A pause holds everybody until its end, the latest of all announced. Then one request goes first. Where others
      were accepted since the pause before, all follow once it is not rejected; else each one accepted lets two
      follow in its place (1, 2, 4, ...), until the limit is reached or a rejection starts it over.
    - What was learnt of the provider's limits, and what the user set, decides the rest (`pure/admission.py`). Of the
      requests in flight at a rejection that told something, none tells anything again.

    Attributes:
        key: what shares this limit.
        limit: how many may be in flight now; a fraction counts from the next whole number on.
        in_flight: permits granted and not given back.
        waiting: tasks and threads in line.
        accepted: calls given back as SUCCESS.
        last_accepted: `clock.now()` of the last of them, None before the first.
        granted: permits granted so far...
        good: ...and the number of the last of them whose call was given back as SUCCESS.
        paused_until: `clock.now()` at which the latest pause ends or ended; 0.0 before the first.
        generation: cuts so far.
        forced: permits taken by force so far.
        circuit: whether the provider counts as dead. The pauses it asks for come with `release`.
        shares: what other processes leave of requests in flight, by what is divided; change it by `adjust`.
    """

    def __init__(self, key: str, limit: Concurrency, ceilings: Iterable[tuple[Unit, float]] = ()) -> None:
        super().__init__()
        self.key = key
        self.in_flight = 0
        self.accepted = self.rejected = 0
        self.last_accepted: float | None = None
        self.granted = self.good = 0
        self.paused_until = 0.0
        self.generation = 0
        self.forced = 0
        self.came_through, self.storm = CameThrough(), Storm()  # what tries ask for; not of that time
        self.circuit = Circuit()
        self.admission = Admission(limit, ceilings)
        self.shares: dict[str, int] = {}
        self._see_limit()
        self._blocked_until: float | None = None  # when time alone may let the first in line go
        self._accepted_at_pause = 0
        self._alive = False  # somebody was accepted between the last pause and the one before it
        self._pausing = False  # nobody has seen the end of the pause yet
        self._epoch = 0
        self._ramp = 0  # after a pause: how many of this epoch may be in flight; 0: no ramp
        self._ramp_in_flight = 0

    @property
    def standing(self) -> Standing:
        """What the circuit looks at; not of that time."""
        return Standing(clock.now(), 0.0, self.good, self.granted, self.accepted)

    def try_acquire(self, priority: float = 0, ask: int = 0) -> Permit | None:
        """Take a permit if one is free and nobody with a better claim waits; never blocks. `ask` as in `acquire`."""
        with self._lock:
            if self.waiting and not self._goes_before_all(priority):
                return None
            now, blocked_until = clock.now(), self._blocked_until
            if self.in_flight >= self._slots:
                return None
            may_go = not (self._ramp or self._gated) or self._has_room(now, ask)
            if self.waiting:  # a newcomer's ask says nothing of when the first in line may go
                self._blocked_until = blocked_until
            return self._admit(now, ask) if may_go else None

    async def aacquire(
        self, priority: float = 0, ask: int = 0, on_wait: Callable[[Place], None] | None = None
    ) -> Permit:
        """Wait for a permit as a task. A cancel, at any moment, leaves no permit behind. Arguments as in `acquire`.

        Raises:
            RowClosed: somebody called `abandon` on the place in line that `on_wait` got.
        """
        permit = self.try_acquire(priority, ask)
        if permit is None:
            permit = await self._wait_in_task(priority, ask, on_wait)
        return permit

    def acquire(
        self, priority: float = 0, on_wait: Callable[[Waiter], None] | None = None, ask: int = 0
    ) -> Permit:
        """Wait for a permit and block this thread meanwhile.

        Args:
            priority: higher goes first.
            ask: tokens that the request may use, 0 where nobody knows; granted with the permit, in one step.
            on_wait: gets the `Waiter` before the thread is parked; not called where a permit is free.

        Raises:
            RowClosed: somebody called `abandon` on the waiter.
        """
        permit = self.try_acquire(priority, ask)
        if permit is None:
            permit = self._wait_in_thread(priority, ask, on_wait)
        return permit

    def force(self, ask: int = 0) -> Permit:
        """Take a permit at once, above the limit if need be: for whoever blocks all others by waiting."""
        with self._lock:
            self.forced += 1
            return self._admit(clock.now(), ask, forced=True)

    def release(
        self,
        permit: Permit,
        verdict: Verdict,
        pause_s: float = 0.0,
        *,
        quotas: tuple[Quota, ...] = (),
        usage: Usage | None = None,
    ) -> None:
        """Give a permit back and say how its request ended. Giving it back again does nothing.

        Args:
            permit: one of this limiter.
            verdict: IGNORED teaches nothing.
            pause_s: the wait the provider named, in seconds from now; 0 for none. Kept whatever the verdict.
            quotas: what the answer shows of the provider's quotas.
            usage: tokens that were really used, where that is known.
        """
        served: Sequence[Place] = ()
        told: Sequence[Place] = ()
        with self._lock:
            if not permit.held:
                return
            now = clock.now()
            self._give_back(permit)
            self._learn(now, permit, verdict, quotas, usage)
            if pause_s > 0:
                self._pause(now, permit, pause_s, verdict)
            if self.waiting or self._lost:
                served = self._serve()
                told = self._who_must_know()
        if served:
            self._wake(served)
        if told:
            self._alert(told)

    def estimate(self, input_bytes: int, output_bound: int | None) -> int:
        """Tokens that a request may use: four bytes of its body each, and as many as answers had of late."""
        return input_bytes // BYTES_PER_TOKEN + self.admission.output_tokens(output_bound)

    @property
    def refused(self) -> int:
        """It counts no probes."""
        return 0

    def accepted_after(self, rejections: int) -> None:
        """A request is accepted that was rejected so often."""
        self.came_through.note(self.accepted, rejections)

    @property
    def shut(self) -> bool:
        """The provider counts as dead, and somebody asks already whether it still is, or nobody may yet."""
        if not self.circuit.open or not self.circuit.is_open(self.good):
            return False
        return clock.now() < self.paused_until or (self._ramp > 0 and self._ramp_in_flight >= self._ramp)

    def vacancies(self) -> int:
        """Permits that a newcomer could have now, those who wait served before; below zero: so many are too few."""
        with self._lock:
            free = self._slots - self.in_flight
            if self._ramp:
                free = min(free, self._ramp - self._ramp_in_flight)
            if self._blocked_until is not None and clock.now() < self._blocked_until:
                free = 0
            return free - self.waiting

    @property
    def held_by(self) -> str:
        """What holds the first in line back, as `Admission.binding` says it; "" for nothing."""
        if self.in_flight >= self._slots:
            return "in flight"
        return "probe" if self._ramp else self.admission.binding

    @property
    def idle(self) -> bool:
        """Nobody holds a permit, waits, or is about to."""
        return not (self.in_flight or self.waiting or self._lock.locked())

    def adjust(self, change: Callable[[], T]) -> T:
        """Change a limit while nobody comes or goes; then let those go who may."""
        with self._lock:
            result = change()
            self._see_limit()
            served, told = self._serve(), self._who_must_know()
        self._wake(served)
        self._alert(told)
        return result

    def __repr__(self) -> str:
        text = f"<Limiter {self.key} {self.in_flight}/{self.limit:.1f} in flight, {self.waiting} waiting"
        if (pause_s := self.paused_until - clock.now()) > 0:
            text += f", paused for {pause_s:.1f} s"
        elif self._ramp:
            text += f", ramp at {self._ramp}"
        return text + f", generation {self.generation}>"

    # The lock is held from here on.

    def next_ask(self) -> int:
        """Tokens that the next in line asks for; 0 where nobody waits, or nobody knows."""
        return next((place.ask for _, _, place in self._heap[:1] if self.waiting), 0)

    # Granting

    def _offer(self, ask: int) -> Permit | None:
        now = clock.now()
        return self._admit(now, ask) if self._has_room(now, ask) else None

    def _take_back(self, prize: Permit, ask: int) -> None:
        self._give_back(prize)
        self.admission.undone(prize)

    def _look_again_s(self) -> float | None:
        now = clock.now()
        if self._pausing and now < self.paused_until:
            return max(_TICK_S, self.paused_until - now)
        if self.in_flight >= self._slots:
            return None
        if self._blocked_until is not None:
            return max(_TICK_S, self._blocked_until - now)
        return _TICK_S if self._pausing else None

    def _has_room(self, now: float, ask: int) -> bool:
        self._blocked_until = None
        if self._pausing:  # looked at first: `_look_again_s` relies on the end of a pause being seen
            if now < self.paused_until:
                return False
            self._pausing = False
        if self.in_flight >= self._slots or (self._ramp and self._ramp_in_flight >= self._ramp):
            return False
        if not self._gated:
            return True
        wait_s = self.admission.wait_s(now, self.in_flight, ask)
        self._see_limit()
        if wait_s:
            self._blocked_until = now + wait_s
        return wait_s == 0.0

    def _admit(self, now: float, ask: int, forced: bool = False) -> Permit:
        self.in_flight = in_flight = self.in_flight + 1
        self.granted += 1
        concurrency = self.admission.concurrency
        if in_flight > concurrency.peak:
            concurrency.peak = in_flight
        if self._ramp and not forced:
            self._ramp_in_flight += 1
        permit = Permit(self, now, ask, _NO_EPOCH if forced else self._epoch, forced)
        self.admission.sent(permit, forced=forced)
        return permit

    def _give_back(self, permit: Permit) -> None:
        permit.held = False
        self.in_flight -= 1
        if self._ramp and permit.epoch == self._epoch:
            self._ramp_in_flight -= 1

    # Learning

    def _learn(
        self, now: float, permit: Permit, verdict: Verdict, quotas: tuple[Quota, ...], usage: Usage | None
    ) -> None:
        admission = self.admission
        if verdict is Verdict.SUCCESS:
            self.accepted += 1
            self.last_accepted = now
            if permit.number > self.good:
                self.good = permit.number
            work = float(usage.output_tokens or 1) if usage is not None else 1.0
            used = None if usage is None else float(usage.input_tokens + usage.output_tokens)
            if self._ramp:
                self._widen_ramp(permit)
                admission.alive(permit, used)
            else:
                admission.accepted(now, permit, self.in_flight, work, used)
        elif verdict not in {Verdict.IGNORED, Verdict.LOST}:
            self.rejected += 1
            self._reject(now, permit, verdict, quotas)
        else:
            admission.failed(permit)
        if quotas:
            admission.heard(now, permit, quotas, verdict is not Verdict.SUCCESS)
        self._see_limit()

    def _see_limit(self) -> None:
        self.limit = self.admission.concurrency.limit  # read for every row
        if self.shares:
            self.limit = min(self.limit, *self.shares.values())
        self._slots = int(self.limit)
        self._gated = self.admission.gated
        self.generation = self.admission.generation

    def _widen_ramp(self, permit: Permit) -> None:
        if permit.epoch == self._epoch:
            self._ramp += WIDER
            if self._ramp > self._slots:
                self._end_ramp()

    def _end_ramp(self) -> None:
        self._ramp = self._ramp_in_flight = 0
        self._epoch += 1  # permits of the ramp must not be counted in the next one
        self.admission.concurrency.begin_round()

    def _reject(self, now: float, permit: Permit, verdict: Verdict, quotas: tuple[Quota, ...]) -> None:
        probe = self._ramp == 1 and permit.epoch == self._epoch
        if self._ramp and permit.epoch == self._epoch:
            self._ramp = 1
        if not probe:
            overload = verdict is Verdict.OVERLOADED
            self.admission.rejected(now, permit, self.in_flight, quotas, overload=overload)

    def _pause(self, now: float, permit: Permit, pause_s: float, verdict: Verdict) -> None:
        """Hold everybody until then."""
        if verdict is Verdict.DROPPED:
            self.admission.believe(now, permit)
            self._see_limit()
        until = now + pause_s
        if until <= self.paused_until:
            return
        longer = now < self.paused_until  # the same pause, said again by another rejection
        self.paused_until, self._pausing = until, True
        self._epoch += 1
        if not longer:
            self._alive = self.accepted > self._accepted_at_pause
            self._accepted_at_pause = self.accepted
        if self._alive and verdict not in {Verdict.IGNORED, Verdict.LOST}:
            self._ramp = self._ramp_in_flight = 0
            self.admission.paused(now, until)
        else:
            self._ramp, self._ramp_in_flight = 1, 0
        self._see_limit()
