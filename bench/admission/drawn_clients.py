"""Those who meet the drawn worlds: the limiter, what it was before, AIMD, gradient2, a client that is told."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, Final

from bench.admission.calls import body_of
from bench.admission.family import MOST_IN_FLIGHT
from bench.admission.present.concurrency import Concurrency as PresentConcurrency
from bench.admission.present.limiter import Limiter as PresentLimiter
from bench.admission.virtual import INSIDE, RESET

from cottonpalm import clock
from cottonpalm.config import AdaptiveConcurrency, RetryPolicy
from cottonpalm.providers.classify import judge_status
from cottonpalm.providers.openai import Chat
from cottonpalm.request.attempt.settlement import verdict_of
from cottonpalm.request.attempt.tries import Tries
from cottonpalm.request.limiter.limiters import Limiters
from cottonpalm.request.money.rules.prices import PriceBook
from cottonpalm.request.run_account import RunAccount
from cottonpalm.types import Fault, Kind, Usage, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.admission.family import World
    from bench.admission.virtual import Call, Client, Told

KEY: Final = "simulated"
LONGEST_BACKOFF_S: Final = 8.0


class Ours:
    """The limiter itself, driven as a run drives it. Rows are never given up here."""

    def __init__(self, world: World) -> None:
        self.now = 0.0
        clock.replace(lambda: self.now, lambda: 1_700_000_000.0 + self.now)
        self.run = RunAccount(
            limiters=Limiters(AdaptiveConcurrency(maximum=MOST_IN_FLIGHT)),
            ledger=None,
            prices=PriceBook(),
            retry=RetryPolicy(),
            timeout_s=world.timeout_s,
        )
        self.run.rng = Random(world.seed)
        self.run.flow.rows = world.rows
        self.limiter: Any = self.run.flow.limiter(KEY)
        self._permit: Any = None

    def wait_s(self, now: float, call: Call) -> float | None:
        self.now = now
        limiter = self.limiter
        permit = limiter.try_acquire(ask=call.tokens_in + limiter.admission.output_tokens(None))
        if permit is None:
            self.run.flow.waiting = 1
            again_s = limiter._look_again_s()
            return None if again_s is None else max(1e-5, again_s)
        self._permit, self.run.flow.waiting = permit, 0
        return 0.0

    def sent(self, now: float, call: Call) -> None:
        if call.held is None:
            call.held = [Tries(self.limiter.accepted, self.limiter.granted), None, 0.0]
        call.held[1] = self._permit
        self.run.allowance.request()

    def came(self, now: float, call: Call, status: int, told: Told) -> float:
        self.now = now
        (tries, permit, _), limiter = call.held, self.limiter
        if status == 200:
            if tries.rejections:
                limiter.accepted_after(tries.rejections)
            usage = Usage(call.tokens_in, call.tokens_out)
            limiter.release(permit, verdict_of(None, 200), quotas=told.quotas, usage=usage)
            return 0.0
        fault = _fault(status, told)
        then = tries.after(fault, self.run, limiter, probe=permit.at_s >= limiter.paused_until)
        own = fault.kind is Kind.THROTTLE and tries.own
        verdict = Verdict.ALONE if own else verdict_of(fault, status if status > 0 else None)
        alone_s = limiter.release(permit, verdict, then.pause_s, quotas=told.quotas)  # None of the former
        sleep_s = 1.0 if then.sleep_s is None else max(then.sleep_s, alone_s or 0.0)
        if not tries.slowed or then.sleep_s is None:
            return sleep_s
        call.held[2] = now + sleep_s
        return tries.nap_s(sleep_s, self.run, limiter)

    def woke(self, now: float, call: Call) -> float:
        self.now = now
        tries, _, until_s = call.held
        return tries.nap_s(until_s - now, self.run, self.limiter) if tries.slowed else 0.0


class Overloaded(Ours):
    """The limiter, at a provider that says of its own limits too that all its users overload it (503)."""

    def came(self, now: float, call: Call, status: int, told: Told) -> float:
        return super().came(now, call, 503 if status == 429 else status, told)


class Present(Ours):
    """What the limiter was before, in a limiter of its own; all else is as a run has it."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.limiter = PresentLimiter(KEY, PresentConcurrency(10, 1, MOST_IN_FLIGHT))


def _fault(status: int, told: Told) -> Fault:
    if status in (0, RESET, INSIDE):
        return Fault(Kind.TRANSIENT, "simulated", "")
    headers = {} if told.wait_s is None else {"retry-after-ms": str(told.wait_s * 1000)}
    return judge_status(Chat(), status, headers, body_of(status))


class Window:
    """A number in flight; who is rejected waits as told, or backs off, outside of it."""

    def __init__(self, world: World, limit: float) -> None:
        self.limit, self.in_flight, self._rng = limit, 0, Random(world.seed)

    def wait_s(self, now: float, call: Call) -> float | None:
        return 0.0 if self.in_flight < int(self.limit) else None

    def sent(self, now: float, call: Call) -> None:
        self.in_flight += 1

    def came(self, now: float, call: Call, status: int, told: Told) -> float:
        self.in_flight -= 1
        self.learn(now - call.sent_s, good=status == 200)
        if status == 200:
            return 0.0
        if told.wait_s is not None:
            return told.wait_s
        return self._rng.uniform(0.5, 1.0) * min(LONGEST_BACKOFF_S, 0.5 * 2.0 ** min(8, call.tries - 1))

    def woke(self, now: float, call: Call) -> float:
        return 0.0

    def learn(self, took_s: float, *, good: bool) -> None:
        raise NotImplementedError


class Aimd(Window):
    """One more for each round, a tenth less for each rejection (Netflix concurrency-limits)."""

    def __init__(self, world: World) -> None:
        super().__init__(world, 10.0)

    def learn(self, took_s: float, *, good: bool) -> None:
        if not good:
            self.limit = max(1.0, self.limit * 0.9)
        elif self.in_flight * 2 >= self.limit:
            self.limit = min(MOST_IN_FLIGHT, self.limit + 1 / self.limit)


class Gradient2(Window):
    """As many as keep the time of an answer near its long mean (Netflix concurrency-limits)."""

    def __init__(self, world: World) -> None:
        super().__init__(world, 20.0)
        self._long_s = 0.0

    def learn(self, took_s: float, *, good: bool) -> None:
        if not good:
            self.limit = max(20.0, self.limit * 0.9)
            return
        self._long_s += (took_s - self._long_s) * (2 / 601 if self._long_s else 1.0)
        if self._long_s > 2 * took_s:
            self._long_s *= 0.95
        if self.in_flight * 2 >= self.limit:
            gradient = max(0.5, min(1.0, 1.5 * self._long_s / took_s))
            self.limit = max(20.0, min(MOST_IN_FLIGHT, 0.8 * self.limit + 0.2 * (self.limit * gradient + 4)))


class Informed:
    """Token buckets and a number in flight that are told the provider's own numbers; not its steps, others, outages."""

    def __init__(self, world: World) -> None:
        self._rates = [
            (each.unit, each.rate * 0.99, max(1.0, each.rate * (each.depth_s or 0.1)))
            for each in world.limits
        ]
        self._levels, self._at = [most for _, _, most in self._rates], 0.0
        self._limit = min([MOST_IN_FLIGHT] + [each for each in (world.cap, world.knee) if each])
        self._in_flight, self._until_s = 0, 0.0

    def wait_s(self, now: float, call: Call) -> float | None:
        if self._in_flight >= self._limit:
            return None
        passed, self._at = now - self._at, now
        wait_s = max(0.0, self._until_s - now)
        for i, (unit, rate, most) in enumerate(self._rates):
            self._levels[i] = level = min(most, self._levels[i] + passed * rate)
            wait_s = max(wait_s, (min(most, call.of(unit)) - level) / rate)
        return max(1e-6, wait_s) if wait_s > 0 else 0.0

    def sent(self, now: float, call: Call) -> None:
        self._in_flight += 1
        for i, (unit, _, _) in enumerate(self._rates):
            self._levels[i] -= call.of(unit)

    def came(self, now: float, call: Call, status: int, told: Told) -> float:
        self._in_flight -= 1
        if status != 200:
            self._until_s = max(self._until_s, now + (0.5 if told.wait_s is None else told.wait_s))
        return 0.0


CLIENTS: Final[dict[str, Callable[[World], Client]]] = {
    "ours": Ours,
    "overloaded": Overloaded,
    "present": Present,
    "told": Informed,
    "aimd": Aimd,
    "gradient2": Gradient2,
}
