"""The one place that delays a model request: so many in flight per key, by priority, and one pause for all.

A key names what shares a limit (host and model). Whoever wants to send takes a `Permit` and gives it back
with a verdict, which teaches the limiter how many may be in flight. `limiters.py` has the registry.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from cottonpalm import clock
from cottonpalm.request.limiter.rules.admission import Admission, Sent
from cottonpalm.request.limiter.rules.came_through import CameThrough
from cottonpalm.request.limiter.rules.circuit import Circuit, Standing, Storm
from cottonpalm.request.limiter.rules.tokens import Tokens
from cottonpalm.runtime.wait_queue import Claim, Place, Waiter, WaitQueue
from cottonpalm.types import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cottonpalm.request.limiter.rules.concurrency import Concurrency
    from cottonpalm.types import Quota, Unit, Usage

T = TypeVar("T")

IN_FLIGHT: Final = "in flight"  # in `shares`: of the number that the user named

_REJECTED: Final = (Verdict.DROPPED, Verdict.OVERLOADED)
_SUCCESS: Final = Verdict.SUCCESS
_TICK_S: Final = 1e-5  # a timer that is set for less may find that no time has passed


class Permit(Sent):
    """The right to have one request in flight, until `release`.

    Attributes:
        limiter: where to give it back.
        held: not given back yet.
    """

    __slots__ = ("held", "limiter")

    limiter: Limiter
    held: bool

    def __repr__(self) -> str:
        words = ["forced"] * self.forced + ["given back"] * (not self.held)
        return f"<Permit {self.limiter.key} generation {self.generation} {' '.join(words)}".rstrip() + ">"


class Forced(Permit):
    """A permit that was taken, not granted.

    Attributes:
        turn: goes back with it, as `force_in_time` says; None: nobody else waits to take one.
    """

    __slots__ = ("turn",)

    forced = True
    turn: Permit | None


class Limiter(WaitQueue[Permit]):
    """Permits of one key, for tasks of any loop and for threads.

    - In flight never exceeds the limit, but for forced permits, what was granted before a cut, and a probe.
    - Among those who wait, the smallest `ageing_key` goes first; a cancel loses nothing.
    - A pause holds everybody until its end, the latest of all announced. Then one request goes first, and once it was
      not rejected ever more follow, evenly spaced.
    - What was learnt of the provider's limits, and what the user set, decides the rest (`admission.py`).

    Attributes:
        key: what shares this limit.
        limit: how many may be in flight now; a fraction counts from the next whole number on.
        in_flight: permits granted and not given back.
        waiting: tasks and threads in line.
        paused_until: `clock.now()` at which the latest pause ends or ended; 0.0 before the first.
        generation: causes of rejections found so far.
        forced: permits taken by force so far.
        came_through: how often requests were rejected before they were accepted.
        circuit: whether the provider counts as dead. The pauses it asks for come with `release`.
        storm: when retries go again where the run's are used up.
        shares: what other processes leave of requests in flight, by what is divided; change it by `adjust`.
        opened: its permits bound nothing any more, so whoever waits or comes goes at once; see `open`.
    """

    def __init__(self, key: str, limit: Concurrency, ceilings: Iterable[tuple[Unit, float]] = ()) -> None:
        super().__init__()
        self.key = key
        self.in_flight = 0
        self.paused_until = 0.0
        self.generation = 0
        self.forced = 0
        self.came_through = CameThrough()
        self.circuit = Circuit()
        self.storm = Storm()
        self.admission = Admission(limit, ceilings)
        self.shares: dict[str, int] = {}
        self.opened = False
        self._see_limit()
        self._blocked_until: float | None = None  # when time alone may let the first in line go

    def try_acquire(self, claim: Claim = 0, ask: int | Tokens = 0) -> Permit | None:
        """Take a permit if one is free and nobody with a better claim waits; never blocks. `ask` as in `acquire`."""
        self._lock.acquire()  # for every request: `with` takes twice as long
        try:
            if self.waiting and not self._goes_before_all(claim):
                return None
            now, admission = clock.now(), self.admission
            if type(ask) is Tokens:  # as `_tokens` says, without its calls: for every request
                most, expected = ask.most_output, admission.expected
                tokens = ask.input_tokens + (expected if most is None or expected < most else most)
            else:
                tokens = ask  # type: ignore[assignment]
            if not admission.gated:
                return self._admit(now, tokens) if self.in_flight < self._slots else None
            room = admission.headroom
            if room.requests and tokens <= room.tokens and self.in_flight < self._slots:
                return self._admit(now, tokens)
            blocked_until = self._blocked_until
            permit = self._admit(now, tokens) if self._has_room(now, tokens) else None
            if not self.waiting:
                return permit
            if permit is None:  # a newcomer's ask says nothing of when the first in line may go
                self._blocked_until = blocked_until
                return None
            served, told = self._serve(), self._who_must_know()  # time may have made room for more
        finally:
            self._lock.release()
        self._wake(served)
        self._alert(told)
        return permit

    async def aacquire(
        self, claim: Claim = 0, ask: int | Tokens = 0, on_wait: Callable[[Place], None] | None = None
    ) -> Permit:
        """Wait for a permit as a task. A cancel, at any moment, leaves no permit behind. Arguments as in `acquire`.

        Raises:
            RowClosed: somebody called `abandon` on the place in line that `on_wait` got.
        """
        permit = self.try_acquire(claim, ask)
        if permit is None:
            permit = await self._wait_in_task(claim, ask, on_wait)
        return permit

    def acquire(
        self, claim: Claim = 0, on_wait: Callable[[Waiter], None] | None = None, ask: int | Tokens = 0
    ) -> Permit:
        """Wait for a permit and block this thread meanwhile.

        Args:
            claim: a priority, higher goes first; or a place behind others.
            ask: tokens that the request may use, a number or what it is worked out from when the permit is granted; 0
                where nobody knows.
            on_wait: gets the `Waiter` before the thread is parked; not called where a permit is free.

        Raises:
            RowClosed: somebody called `abandon` on the waiter.
        """
        permit = self.try_acquire(claim, ask)
        if permit is None:
            permit = self._wait_in_thread(claim, ask, on_wait)
        return permit

    def force(self, ask: int | Tokens = 0) -> Permit:
        """Take a permit at once, above the limit if need be: for whoever blocks all others by waiting."""
        with self._lock:
            return self._taken(clock.now(), self._tokens(ask), None)

    def force_in_time(self, ask: int | Tokens, turn: Permit | None = None) -> Forced | float:
        """Take a permit above the limit as soon as time allows: a pause, a pace and the user's ceilings hold.

        Args:
            ask: as in `acquire`.
            turn: a permit of another limiter, which goes back when this one does; None: of none.

        Returns:
            The permit; or the seconds after which to try again.
        """
        with self._lock:
            now, tokens = clock.now(), self._tokens(ask)
            wait_s = self.admission.wait_s(now, 0, tokens) if self.admission.gated else None
            return self._taken(now, tokens, turn) if not wait_s else max(_TICK_S, wait_s)

    def release(
        self,
        permit: Permit,
        verdict: Verdict,
        pause_s: float = 0.0,
        *,
        quotas: tuple[Quota, ...] = (),
        usage: Usage | None = None,
    ) -> float:
        """Give a permit back and say how its request ended. Giving it back again does nothing.

        Args:
            permit: one of this limiter.
            verdict: IGNORED and ALONE teach nothing.
            pause_s: the wait the provider named, in seconds from now; 0 for none. Kept whatever the verdict.
            quotas: what the answer shows of the provider's quotas.
            usage: tokens that were really used, where that is known; none of them for what was refused.

        Returns:
            Seconds that this request alone has to wait, as it was named a wait by chance; 0 where all wait, or nobody.
        """
        alone_s = 0.0
        self._lock.acquire()
        try:
            if not permit.held:
                return alone_s
            permit.held = False
            self.in_flight -= 1
            now, admission = clock.now(), self.admission
            if verdict is not _SUCCESS or pause_s:
                alone_s = self._learn_more(now, permit, verdict, pause_s, quotas, usage)
            else:
                moved = admission.answered(now, permit, self.in_flight, usage)
                if quotas:
                    admission.heard(permit, quotas)
                if moved:
                    self._see_limit()
            if not (self.waiting or self._lost or permit.forced):
                return alone_s
            served, told = self._serve(), self._who_must_know()
        finally:
            self._lock.release()
        self._wake(served)
        self._alert(told)
        if isinstance(permit, Forced) and (turn := permit.turn) is not None:
            turn.limiter.release(turn, Verdict.IGNORED)
        return alone_s

    def accepted_after(self, rejections: int) -> None:
        """A request is accepted that was rejected so often."""
        with self._lock:
            self.came_through.note(self.accepted, rejections)

    def keep_pause(self, until_s: float) -> None:
        """Keep a wait that the provider named to somebody else: until this `clock.now()`."""
        if until_s > max(self.paused_until, clock.now()):
            self.adjust(partial(self._pause, until_s))

    @property
    def accepted(self) -> int:
        """Calls given back as SUCCESS."""
        return self.admission.answers

    @property
    def rejected(self) -> int:
        """Calls given back as DROPPED or OVERLOADED."""
        return self.admission.refusals.seen

    @property
    def refused(self) -> int:
        """Of them, the probes since the latest silence began: each was sent alone, after the one before."""
        return self.admission.recovery.refused

    @property
    def last_accepted(self) -> float | None:
        """`clock.now()` of the last of them, None before the first."""
        return self.admission.answered_s

    @property
    def standing(self) -> Standing:
        """What the circuit looks at when a request has failed."""
        now, began_s = clock.now(), self.admission.began_s
        return Standing(now, now if began_s is None else began_s, self.good, self.granted, self.accepted)

    @property
    def granted(self) -> int:
        """Permits granted so far..."""
        return self.admission.number

    @property
    def good(self) -> int:
        """...and the number of the last of them whose call was given back as SUCCESS."""
        return self.admission.newest

    @property
    def shut(self) -> bool:
        """The provider counts as dead, and somebody asks already whether it still is, or nobody may yet."""
        if not self.circuit.open or not self.circuit.is_open(self.good):
            return False
        return clock.now() < self.paused_until or self.admission.recovery.probe is not None

    def vacancies(self) -> int:
        """Permits that a newcomer could have now, those who wait served before; below zero: so many are too few."""
        with self._lock:
            free = self.admission.free(clock.now(), self._slots - self.in_flight)
            if self._blocked_until is not None and clock.now() < self._blocked_until:
                free = min(free, 0)
            return free - self.waiting

    @property
    def may_grow(self) -> bool:
        """One more in flight is allowed by the user and by other processes, whatever is learnt to fit."""
        return self.in_flight < min(self.admission.concurrency.maximum, *self.shares.values(), math.inf)

    @property
    def held_by(self) -> str:
        """What holds the first in line back, as `Admission.binding` says it; "" for nothing."""
        if self.in_flight >= self._slots:
            return "in flight"
        return self.admission.binding

    @property
    def maximum(self) -> int:
        """The most that may be in flight here: what the settings allow, less what others have of it."""
        return int(min(self.admission.concurrency.maximum, self.shares.get(IN_FLIGHT, math.inf)))

    @property
    def idle(self) -> bool:
        """Nobody holds a permit, waits, or is about to."""
        return not (self.in_flight or self.waiting or self._lock.locked())

    def adjust(self, change: Callable[[], T]) -> T:
        """Change a limit while nobody comes or goes; then let those go who may."""
        with self._lock:
            self.admission.book()
            result = change()
            self._see_limit()
            served, told = self._serve(), self._who_must_know()
        self._wake(served)
        self._alert(told)
        return result

    def expects(self, requests: int) -> None:
        """At least so many will ask: see `Concurrency.expects`."""
        self.adjust(partial(self.admission.concurrency.expects, requests))

    def open(self) -> None:
        """Others take the permits from now on: let everybody go."""
        with self._lock:
            self.opened = True
            served = self._serve()
        self._wake(served)

    def __repr__(self) -> str:
        text = f"<Limiter {self.key} {self.in_flight}/{self.limit:.1f} in flight, {self.waiting} waiting"
        if (pause_s := self.paused_until - clock.now()) > 0:
            text += f", paused for {pause_s:.1f} s"
        elif (state := self.admission.recovery.state.value) != "open":
            text += f", {state}"
        return text + f", generation {self.generation}>"

    # The lock is held from here on.

    def next_ask(self) -> int:
        """Tokens that the next in line asks for; 0 where nobody waits, or nobody knows."""
        return next((self._tokens(place.ask) for *_, place in self._heap[:1] if self.waiting), 0)

    def _tokens(self, ask: int | Tokens) -> int:
        """Four bytes of the body each, and as many as answers had of late."""
        if type(ask) is Tokens:
            return ask.input_tokens + self.admission.output_tokens(ask.most_output)
        return ask  # type: ignore[return-value]

    # Granting

    def _offer(self, ask: int | Tokens) -> Permit | None:
        now, tokens = clock.now(), self._tokens(ask)
        return self._admit(now, tokens) if self.opened or self._has_room(now, tokens) else None

    def _take_back(self, prize: Permit, ask: int | Tokens) -> None:  # noqa: ARG002 - the permit knows
        prize.held = False
        self.in_flight -= 1
        self.admission.undone(prize)
        self._see_limit()

    def _look_again_s(self) -> float | None:
        if self._blocked_until is None or not self.admission.gated:  # only a place that comes free helps
            return None
        return max(_TICK_S, self._blocked_until - clock.now())

    def _has_room(self, now: float, ask: int) -> bool:
        self._blocked_until = None
        if self.shares and self.in_flight >= min(self.shares.values()):
            return False
        admission = self.admission
        if not admission.gated:
            return self.in_flight < self._slots
        wait_s = admission.wait_s(now, self.in_flight, ask)
        if admission.concurrency.limit != self._seen:
            self._see_limit()
        if wait_s:
            self._blocked_until = now + wait_s
        return wait_s == 0.0

    def _taken(self, now: float, ask: int, turn: Permit | None) -> Forced:
        self.forced += 1
        permit = self._admit(now, ask, Forced)
        assert isinstance(permit, Forced)
        permit.turn = turn
        return permit

    def _admit(self, now: float, ask: int, kind: type[Permit] = Permit) -> Permit:
        self.in_flight = in_flight = self.in_flight + 1
        permit = kind()  # without an `__init__`, which takes longer than all that it would do
        permit.limiter, permit.held = self, True
        permit.at_s, permit.ordinal, permit.ask = now, in_flight, ask
        self.admission.sent(permit)
        return permit

    # Learning

    def _learn_more(  # noqa: PLR0917
        self,
        now: float,
        permit: Permit,
        verdict: Verdict,
        pause_s: float,
        quotas: tuple[Quota, ...],
        usage: Usage | None,
    ) -> float:
        admission, chance = self.admission, False
        if verdict is _SUCCESS:
            admission.answered(now, permit, self.in_flight, usage)
        else:
            if usage is not None:
                admission.used(permit, usage.input_tokens + usage.output_tokens)
            chance = self._learn_of_failure(now, permit, verdict, pause_s, quotas)
        if quotas and verdict not in _REJECTED:  # a rejection's are read with it
            admission.heard(permit, quotas)
        if pause_s > 0 and not chance:
            self._pause(now + pause_s, dead=verdict in {Verdict.LOST, Verdict.IGNORED})
        self._see_limit()
        return pause_s if chance else 0.0

    def _learn_of_failure(
        self, now: float, permit: Permit, verdict: Verdict, pause_s: float, quotas: tuple[Quota, ...]
    ) -> bool:
        admission = self.admission
        if verdict is Verdict.LOST:
            admission.failed(now, permit, self.in_flight)
        elif verdict in (Verdict.IGNORED, Verdict.ALONE):
            admission.ignored(now, permit)
        else:
            overload = verdict is Verdict.OVERLOADED
            return admission.rejected(now, permit, quotas, named_s=pause_s, overload=overload)
        return False

    def _pause(self, until_s: float, *, dead: bool = False) -> None:
        self.paused_until = max(self.paused_until, until_s)
        self.admission.paused(clock.now(), self.paused_until, dead=dead)

    def _see_limit(self) -> None:
        admission = self.admission
        admission.look()
        self.limit = self._seen = admission.concurrency.limit  # read for every row
        if self.shares:
            self.limit = min(self.limit, *self.shares.values())
        self._slots = int(self.limit)
        self.generation = admission.generation
