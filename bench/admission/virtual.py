"""Virtual time: one world of the family, one client, and how long it takes beside an oracle that knows all."""

from __future__ import annotations

import math
from collections import deque
from heapq import heappop, heappush
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from bench.admission.family import MOST_IN_FLIGHT

from cottonpalm.types import Quota

if TYPE_CHECKING:
    from bench.admission.family import Limit, World

REPLY, WAKE, SERVER, BACK = range(4)
RESET: Final = -1  # a status: the connection was reset
INSIDE: Final = -200  # another: 200 with an error inside
DAY: Final = 1_000_000.0


class Told(NamedTuple):
    """What a reply says: a wait, and quotas."""

    wait_s: float | None = None
    quotas: tuple[Quota, ...] = ()


NOTHING: Final = Told()


class Client(Protocol):
    """One way to decide what may be sent."""

    def wait_s(self, now: float, call: Call) -> float | None:
        """0: it may go now; else seconds until it may; None: only a reply can change it."""

    def sent(self, now: float, call: Call) -> None: ...

    def came(self, now: float, call: Call, status: int, told: Told) -> float:
        """A reply (0: none in time); seconds before this call wakes."""

    def woke(self, now: float, call: Call) -> float:
        """0: it goes back in line; else seconds until it wakes again."""


class Call:
    """One row's request."""

    __slots__ = ("answered", "factor", "held", "number", "sent_s", "tokens_in", "tokens_out", "tries")

    def __init__(self, number: int, tokens_in: int, tokens_out: int, factor: float) -> None:
        self.number, self.tokens_in, self.tokens_out, self.factor = number, tokens_in, tokens_out, factor
        self.tries = self.answered = 0
        self.sent_s = 0.0
        self.held: Any = None

    def of(self, unit: str) -> float:
        """What it takes of this unit."""
        if unit == "requests":
            return 1.0
        tokens = {"tokens": self.tokens_in + self.tokens_out, "input tokens": self.tokens_in}
        return float(tokens.get(unit, self.tokens_out))


class Meter:
    """A bucket or a window of the provider, and what it shows."""

    def __init__(self, limit: Limit, world: World) -> None:
        self.world, self.unit, self.rate, self.limit = world, limit.unit, limit.rate, limit
        self.windowed = limit.length_s > 0
        least = 1.0 if limit.unit == "requests" else 3.0 * world.mean_of(limit.unit)
        self.most = self.full = max(least, limit.rate * (limit.length_s or limit.depth_s))
        self.level, self._at, self._number = self.most, 0.0, -1
        self._shown: Quota | None = None
        self._shown_s = -math.inf

    def wait_s(self, t: float, amount: float) -> float:
        """0: it fits; else seconds until it may."""
        self._fill(t)
        short = min(amount, self.full if self.windowed else self.most) - self.level
        if short <= 1e-9:
            return 0.0
        if self.windowed:
            return max(0.0, self._ends_s - t) + 1e-6
        return short / (self.rate * self.world.capacity(t)) + 1e-9

    def take(self, amount: float) -> None:
        self.level -= min(amount, self.most)

    def burn(self, amount: float) -> None:
        """A rejection is charged."""
        self.level = max(-self.most, self.level - amount)

    def show(self, t: float) -> Quota:
        """What the headers say now."""
        how = self.world.headers
        if self._shown is not None and t - self._shown_s < how.old_s:
            return self._shown
        limit = self.rate * 60 if how.minute and not self.windowed else self.most
        left, reset_s = self.level * how.factor, self._ends_s - t
        if how.coarse:
            left = math.floor(left / (how.coarse * limit)) * how.coarse * limit
        if not self.windowed:
            reset_s = max(0.0, self.most - self.level) / (self.rate * self.world.capacity(t))
        if how.day and self.unit == "requests":
            limit, left, reset_s = DAY, DAY - 1, 1.0
        left = max(0, min(int(limit), int(left)))
        self._shown = Quota(self.unit, float(int(limit)), float(left), reset_s * how.reset_factor)  # type: ignore[arg-type]
        self._shown_s = t
        return self._shown

    @property
    def _ends_s(self) -> float:
        return (self._number + 1) * self.limit.length_s - self.limit.offset_s

    def _fill(self, t: float) -> None:
        if self.windowed:
            number = int((t + self.limit.offset_s) / self.limit.length_s)
            if number != self._number:
                self._number = number
                self.level = self.full = max(1.0, self.most * self.world.capacity(t))
        elif t > self._at:
            self.level = min(self.most, self.level + self.rate * self.world.capacity(t) * (t - self._at))
            self._at = t


class Sharing:
    """Those at a server with a knee, which share its speed."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.there: list[tuple[float, int, Call, int]] = []  # (work done by all when it is done, ...)
        self.version = 0
        self._work = self._at = 0.0
        self._numbers = 0

    def _speed(self, t: float) -> float:
        knee, n = max(1.0, self.world.knee * self.world.capacity(t)), len(self.there)
        return 1.0 if n <= knee else knee / n / (1 + self.world.knee_thrash * (n - knee) / knee)

    def forward(self, t: float) -> None:
        if self.there:
            self._work += (t - self._at) * self._speed(self._at)
        self._at = t

    def enter(self, t: float, call: Call, status: int, takes_s: float) -> None:
        self.forward(t)
        self._numbers += 1
        heappush(self.there, (self._work + takes_s, self._numbers, call, status))

    def leave(self, t: float, call: Call) -> None:
        """Its client gave it up."""
        self.forward(t)
        self.there = sorted(each for each in self.there if each[2] is not call)

    def done(self, t: float) -> list[tuple[Call, int]]:
        self.forward(t)
        done = []
        while self.there and self.there[0][0] <= self._work + 1e-9:
            done.append(heappop(self.there)[2:])
        return done

    def next_s(self, t: float) -> float | None:
        self.version += 1
        return max(t, t + (self.there[0][0] - self._work) / self._speed(t)) if self.there else None


class Result(NamedTuple):
    """What a run came to."""

    wall_s: float
    done: int
    rejected: int
    failed: int


class Run:
    """One run of one client, or of the oracle where there is none."""

    def __init__(self, world: World, client: Client | None, *, horizon_s: float = math.inf) -> None:
        self.world, self.client, self.horizon_s = world, client, horizon_s
        self.meters = [Meter(limit, world) for limit in world.limits]
        self.sharing = Sharing(world)
        self._rows, self._chance = Random(f"rows {world.seed}"), Random(f"chance {world.chance}")
        self._leaving: list[float] = []  # when those at the server leave, without a knee
        self._queue: deque[tuple[Call, int]] = deque()  # before a full server that lets wait
        self._heap: list[tuple[float, int, int, Any]] = []
        self._numbers = self._made = 0
        self.in_flight = 0
        self._shows = world.says not in ("nothing", "retry-after", "retry-after-ms")

    def run(self) -> Result:
        """Until all rows are done, or the horizon."""
        world, heap = self.world, self._heap
        done = rejected = failed = 0
        line: deque[Call] = deque()
        head, wake_s, now = self._fresh(), math.inf, 0.0
        while True:
            again_s = None
            while (call := line[0] if line else head) is not None and self.in_flight < MOST_IN_FLIGHT:
                again_s = self._fits_in_s(now, call) if self.client is None else self.client.wait_s(now, call)
                if again_s is None or again_s > 0:
                    break
                if line:
                    line.popleft()
                else:
                    head = self._fresh()
                self._send(now, call)
                again_s = None
            if again_s and now + again_s < wake_s - 1e-9:
                wake_s = now + max(1e-6, again_s)
                self._push(wake_s, WAKE, None)
            if not heap:
                break
            now, _, kind, what = heappop(heap)
            if now > self.horizon_s:
                now = self.horizon_s
                break
            if kind == REPLY:
                call, status, told, number = what
                if number != call.tries or call.answered == number:  # it was given up, or answered already
                    continue
                call.answered = number
                if status == 0 and world.knee:
                    self.sharing.leave(now, call)
                    self._next_done(now)
                self.in_flight -= 1
                done, rejected = done + (status == 200), rejected + (status == 429)
                failed += status not in (200, 429)
                back_s = 0.0 if self.client is None else self.client.came(now, call, status, told)
                if status == 200:
                    if done == world.rows:
                        break
                elif back_s > 0:
                    self._push(now + back_s, BACK, call)
                else:
                    line.append(call)
            elif kind == WAKE:
                wake_s = math.inf if now >= wake_s - 1e-9 else wake_s
            elif kind == BACK:
                nap_s = 0.0 if self.client is None else self.client.woke(now, what)
                if nap_s:
                    self._push(now + nap_s, BACK, what)
                else:
                    line.append(what)
            elif what == self.sharing.version:
                self._served(now)
        return Result(now, done, rejected, failed)

    # The client's side

    def _fresh(self) -> Call | None:
        world, gauss = self.world, self._rows.gauss
        if self._made >= world.rows:
            return None
        self._made += 1
        factor = math.exp(gauss(0.0, world.latency_sigma))
        if self._rows.random() < world.tail_p:
            factor *= world.tail_x
        factor = min(
            factor, 0.8 * world.timeout_s / world.latency_s
        )  # who answers so late is answered in time
        tokens_in = max(1, int(world.tokens_in * math.exp(gauss(0.0, world.tokens_sigma))))
        return Call(
            self._made,
            tokens_in,
            max(1, int(world.tokens_out * math.exp(gauss(0.0, world.tokens_sigma)))),
            factor,
        )

    def _send(self, now: float, call: Call) -> None:
        call.tries += 1
        call.sent_s = now
        self.in_flight += 1
        if self.client is None:
            self._arrive(now, call)
        else:
            self.client.sent(now, call)
            self._arrive(now + self.world.net_s, call)

    # The provider

    def _push(self, t: float, kind: int, what: Any) -> None:
        self._numbers += 1
        heappush(self._heap, (t, self._numbers, kind, what))

    def _reply(self, t: float, call: Call, status: int, told: Told = NOTHING) -> None:
        self._push(t, REPLY, (call, status, told, call.tries))

    def _headers(self, t: float) -> tuple[Quota, ...]:
        return tuple(meter.show(t) for meter in self.meters) if self._shows else ()

    def _arrive(self, t: float, call: Call) -> None:
        world, rng = self.world, self._chance
        back_s = t + world.net_s + world.refusal_s * (0.5 + 0.5 * rng.expovariate(1.0))
        for outage in world.outages:
            if outage.since_s <= t < outage.since_s + outage.for_s and rng.random() < outage.share:
                return self._reply(back_s, call, outage.status)
        self._forget_those_who_left(t)
        if world.chance_429 and rng.random() < world.chance_429:
            return self._reply(back_s, call, 429)
        waits = [meter.wait_s(t, call.of(meter.unit)) for meter in self.meters]
        full = self._full(t)
        if any(waits) or (full and world.when_full != "wait"):
            for meter in self.meters:
                if meter.unit == "requests" and world.reject_cost:
                    meter.burn(world.reject_cost)
            if not any(waits) and world.when_full == "reset":
                return self._reply(back_s, call, RESET)
            return self._reply(back_s, call, 429, Told(self._named_s(waits), self._headers(t)))
        for meter in self.meters:
            meter.take(call.of(meter.unit))
        return self._admit(t, call, wait=full)

    def _full(self, t: float) -> bool:
        cap = self.world.cap
        at_server = len(self.sharing.there) if self.world.knee else len(self._leaving)
        return cap > 0 and at_server >= max(1, int(cap * self.world.capacity(t)))

    def _named_s(self, waits: list[float]) -> float | None:
        if self.world.says == "nothing":
            return None
        longest = max(waits, default=0.0)
        if not longest:
            return 1.0
        return max(0.001, longest) if self.world.says == "retry-after-ms" else float(math.ceil(longest))

    def _admit(self, t: float, call: Call, *, wait: bool) -> None:
        world, begins_s, status = self.world, t, 200
        if world.hang_p or world.error_p or world.inside_p:
            x = Random(f"{world.chance} {call.number} {call.tries}").random()
            if x < world.hang_p:
                heappush(self._leaving, call.sent_s + world.timeout_s)
                return self._reply(call.sent_s + world.timeout_s, call, 0)
            x -= world.hang_p
            status = 500 if x < world.error_p else INSIDE if x < world.error_p + world.inside_p else 200
        takes_s = world.latency_s * call.factor
        if world.knee:
            self.sharing.enter(t, call, status, takes_s)
            self._next_done(t)
            return self._reply(call.sent_s + world.timeout_s, call, 0)
        if wait and self._leaving:  # it waits its turn, behind all that wait
            begins_s = heappop(self._leaving)
        heappush(self._leaving, begins_s + takes_s)
        if begins_s + takes_s + world.net_s > call.sent_s + world.timeout_s:
            return self._reply(call.sent_s + world.timeout_s, call, 0)
        told = Told(None, self._headers(t)) if status == 200 else NOTHING
        return self._reply(begins_s + takes_s + world.net_s, call, status, told)

    def _next_done(self, t: float) -> None:
        if (next_s := self.sharing.next_s(t)) is not None:
            self._push(next_s, SERVER, self.sharing.version)

    def _served(self, t: float) -> None:
        for call, status in self.sharing.done(t):
            if call.sent_s + self.world.timeout_s > t + self.world.net_s:
                told = Told(None, self._headers(t)) if status == 200 else NOTHING
                self._reply(t + self.world.net_s, call, status, told)
        self._next_done(t)

    def _forget_those_who_left(self, t: float) -> None:
        while self._leaving and self._leaving[0] <= t:
            heappop(self._leaving)

    # The oracle

    def _fits_in_s(self, t: float, call: Call) -> float | None:
        world = self.world
        for outage in world.outages:
            if outage.since_s <= t < outage.since_s + outage.for_s:
                return outage.since_s + outage.for_s - t
        self._forget_those_who_left(t)
        change_s = world.next_change_s(t) - t
        if self._full(t) or (
            world.knee and len(self.sharing.there) >= max(1.0, world.knee * world.capacity(t))
        ):
            leaves_s = self._leaving[0] - t if self._leaving else math.inf
            wait_s = min(change_s, leaves_s)
            return None if wait_s == math.inf else max(1e-6, wait_s)
        wait_s = max((meter.wait_s(t, call.of(meter.unit)) for meter in self.meters), default=0.0)
        return min(wait_s, max(1e-6, change_s)) if wait_s else 0.0


def ideal(world: World) -> Result:
    """The oracle's run."""
    return Run(world, None).run()
