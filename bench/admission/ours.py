"""The turnstile itself, as the simulator's client: the same code that runs in a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cottonpalm.config import AdaptiveConcurrency
from cottonpalm.model import Usage, Verdict
from cottonpalm.providers.hints import wait_s
from cottonpalm.providers.quotas import read_quotas
from cottonpalm.pure.backoff import backoff_s, hinted_s
from cottonpalm.request.turnstile import Permit, Turnstiles

if TYPE_CHECKING:
    from random import Random

    from bench.admission.calls import Call, Reply


class Ours:
    """Asks the turnstile for a permit for each call and gives it back with what came."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self.turnstile = Turnstiles(AdaptiveConcurrency()).of("simulated")

    def may_send(self, now: float, call: Call) -> bool:
        ask = call.tokens_in + self.turnstile.admission.output_tokens(None)  # as `Turnstile.estimate` has it
        permit = self.turnstile.try_acquire(ask=ask)
        call.held = permit
        return permit is not None

    def look_again_at(self, now: float) -> float | None:
        again_s = self.turnstile.look_again_s()
        return None if again_s is None else now + again_s

    def came(self, now: float, call: Call, reply: Reply) -> tuple[int, float | None]:
        permit = call.held
        assert isinstance(permit, Permit)
        quotas = read_quotas(reply.headers)
        if reply.status == 200:
            usage = Usage(call.tokens_in, call.tokens_out)
            self.turnstile.release(permit, Verdict.SUCCESS, quotas=quotas, usage=usage)
            return 1, None
        if reply.status in (429, 503, 529):
            hint = wait_s(reply.headers, "")
            pause_s = 0.0 if hint is None else hinted_s(hint, self._rng)
            verdict = Verdict.DROPPED if reply.status == 429 else Verdict.OVERLOADED
            self.turnstile.release(permit, verdict, pause_s, quotas=quotas)
            return 0, 0.0
        self.turnstile.release(permit, Verdict.IGNORED)
        return 0, backoff_s(call.tries, 1.0, 60.0, self._rng)
