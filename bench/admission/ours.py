"""The limiter itself, as the simulator's client: the same code that runs in a batch, and decides what follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.admission.calls import body_of

from cottonpalm.config import AdaptiveConcurrency, RetryPolicy
from cottonpalm.providers.classify import judge_status
from cottonpalm.providers.openai import Chat
from cottonpalm.providers.quotas import read_quotas
from cottonpalm.request.attempt.settlement import verdict_of
from cottonpalm.request.attempt.tries import Tries
from cottonpalm.request.limiter.limiters import Limiters
from cottonpalm.request.money.rules.prices import PriceBook
from cottonpalm.request.run_account import RunAccount
from cottonpalm.types import Usage

if TYPE_CHECKING:
    from random import Random

    from bench.admission.calls import Call, Reply

    from cottonpalm.request.limiter.limiter import Permit

KEY: Final = "simulated"


@dataclass(slots=True)
class Held:
    """What a call has of us: its permit, or its place in line, and what it has used up."""

    tries: Tries
    permit: Permit | None = None


class Ours:
    """Asks the limiter for a permit for each call and gives it back with what came."""

    def __init__(self, rng: Random) -> None:
        self.run = RunAccount(
            limiters=Limiters(AdaptiveConcurrency()),
            ledger=None,
            prices=PriceBook(),
            retry=RetryPolicy(),
            timeout_s=600.0,
        )
        self.run.rng = rng
        self.limiter = self.run.flow.limiter(KEY)

    def may_send(self, now: float, call: Call) -> bool:
        ask = call.tokens_in + self.limiter.admission.output_tokens(None)  # as `Limiter.estimate` has it
        if (permit := self.limiter.try_acquire(ask=ask)) is None:
            return False
        if not isinstance(call.held, Held):
            call.held = Held(Tries(self.limiter.accepted, self.limiter.granted))
        call.held.permit = permit
        self.run.allowance.request()
        return True

    def look_again_at(self, now: float) -> float | None:
        again_s = self.limiter._look_again_s()
        return None if again_s is None else now + again_s

    def came(self, now: float, call: Call, reply: Reply) -> tuple[int, float | None]:
        held, limiter, quotas = call.held, self.limiter, read_quotas(reply.headers)
        assert isinstance(held, Held)
        assert held.permit is not None
        if reply.status == 200:
            usage = Usage(call.tokens_in, call.tokens_out)
            limiter.release(held.permit, verdict_of(None, 200), quotas=quotas, usage=usage)
            return 1, None
        fault = judge_status(Chat(), reply.status, reply.headers, body_of(reply.status))
        probe = held.permit.at_s >= limiter.paused_until
        then = held.tries.after(fault, self.run, limiter, probe=probe)
        alone_s = limiter.release(held.permit, verdict_of(fault, reply.status), then.pause_s, quotas=quotas)
        return 0, None if then.sleep_s is None else max(then.sleep_s, alone_s)
