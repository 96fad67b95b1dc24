"""The turnstile itself, as the simulator's client: the same code that runs in a batch, and decides what follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cottonpalm.config import AdaptiveConcurrency, RetryPolicy
from cottonpalm.model import Usage
from cottonpalm.providers.judge import judge_status
from cottonpalm.providers.openai import Chat
from cottonpalm.providers.quotas import read_quotas
from cottonpalm.pure.prices import PriceBook
from cottonpalm.request.ending import verdict_of
from cottonpalm.request.run import RunAccount
from cottonpalm.request.tries import Tries
from cottonpalm.request.turnstiles import Turnstiles

if TYPE_CHECKING:
    from random import Random

    from bench.admission.calls import Call, Reply

    from cottonpalm.request.turnstile import Permit

KEY: Final = "simulated"


@dataclass(slots=True)
class Held:
    """What a call has of us: its permit, or its place in line, and what it has used up."""

    tries: Tries
    permit: Permit | None = None


class Ours:
    """Asks the turnstile for a permit for each call and gives it back with what came."""

    def __init__(self, rng: Random) -> None:
        self.run = RunAccount(
            turnstiles=Turnstiles(AdaptiveConcurrency()),
            ledger=None,
            prices=PriceBook(),
            retry=RetryPolicy(),
            timeout_s=600.0,
        )
        self.run.rng = rng
        self.turnstile = self.run.turnstile(KEY)

    def may_send(self, now: float, call: Call) -> bool:
        ask = call.tokens_in + self.turnstile.admission.output_tokens(None)  # as `Turnstile.estimate` has it
        if (permit := self.turnstile.try_acquire(ask=ask)) is None:
            return False
        if not isinstance(call.held, Held):
            call.held = Held(Tries(accepted=self.turnstile.accepted))
        call.held.permit = permit
        self.run.allowance.request()
        return True

    def look_again_at(self, now: float) -> float | None:
        again_s = self.turnstile.look_again_s()
        return None if again_s is None else now + again_s

    def came(self, now: float, call: Call, reply: Reply) -> tuple[int, float | None]:
        held, turnstile, quotas = call.held, self.turnstile, read_quotas(reply.headers)
        assert isinstance(held, Held)
        assert held.permit is not None
        if reply.status == 200:
            usage = Usage(call.tokens_in, call.tokens_out)
            turnstile.release(held.permit, verdict_of(None, 200), quotas=quotas, usage=usage)
            return 1, None
        fault = judge_status(Chat(), reply.status, reply.headers, b"")
        probe = held.permit.at_s >= turnstile.paused_until
        then = held.tries.after(fault, self.run, turnstile, probe=probe)
        turnstile.release(held.permit, verdict_of(fault, reply.status), then.pause_s, quotas=quotas)
        return 0, then.sleep_s
