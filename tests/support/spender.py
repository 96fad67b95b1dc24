"""Many rows that spend one budget, in virtual time: real requests, ledger and limiter, a provider by numbers.

Rows ask a small model; those that fail there ask one ten times dearer. Lengths of answers have a heavy tail, and a
share of all requests fails. The provider keeps books of its own: what it charged is compared with what we say.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Final

import httpx2

from cottonpalm.config import AdaptiveConcurrency, RetryPolicy
from cottonpalm.engine.unpaid import Unpaid
from cottonpalm.request.attempt.steps import Done, Reply
from cottonpalm.request.limiter.limiters import Limiters
from cottonpalm.request.money.ledger import Ledger
from cottonpalm.request.money.rules.amounts import Amounts
from cottonpalm.request.money.rules.prices import PriceBook
from cottonpalm.request.row_account import ROW, RowAccount
from cottonpalm.request.run_account import RunAccount
from cottonpalm.request.transport.drivers import drive
from cottonpalm.testing import virtual_run
from tests.support.calls import recognise

if TYPE_CHECKING:
    from cottonpalm.providers.call import Call
    from cottonpalm.request.money.spending import Spending

SMALL, LARGE = "small", "large"
PRICES: Final = {SMALL: (1.0, 2.0), LARGE: (10.0, 20.0)}  # dollars per million tokens
RATE: Final = {SMALL: (10**6, 2 * 10**6), LARGE: (10**7, 2 * 10**7)}  # pico-dollars per token
PROMPT_BYTES: Final = 400
MOST_TOKENS: Final = 1_000
BOUND: Final = 10 * ((PROMPT_BYTES + 150) * 10**6 + MOST_TOKENS * 2 * 10**6)  # of the dearest request, about
URL: Final = ("https", "sim.invalid", None, "/v1/chat/completions")


@dataclass
class Provider:
    """What the provider saw. `charged` is in pico-dollars, and so is `lost`: charged for answers that never came."""

    rng: Random
    faults: float
    losses: float
    throttles: float  # the share of faults that ask for patience
    mark: int  # the sum at which `mean_in_flight` ends
    charged: int = 0
    lost: int = 0
    requests: int = 0
    in_flight: int = 0
    cut: int = 0
    _since: float = 0.0
    _area: float = 0.0
    _over: float = 0.0

    def _turn(self, change: int) -> None:
        now = asyncio.get_running_loop().time()
        if self.charged < self.mark:
            self._area += self.in_flight * (now - self._since)
            self._over = now
        self._since = now
        self.in_flight += change

    @property
    def mean_in_flight(self) -> float:
        """Until the mark."""
        return self._area / self._over if self._over else 0.0

    async def answer(self, body: dict[str, Any], size: int) -> Reply:
        """One request, from its arrival to its answer."""
        rng = self.rng
        self.requests += 1
        draw, wanted = rng.random(), int(rng.lognormvariate(5.3, 1.0)) + 1
        self._turn(+1)
        await asyncio.sleep(0.2 + wanted * 0.01 * rng.uniform(0.8, 1.2))
        self._turn(-1)
        if draw < self.faults:
            return Reply(429 if rng.random() < self.throttles else 500, {}, b"{}")
        written = min(wanted, body["max_tokens"])
        self.cut += written < wanted
        into, out = RATE[body["model"]]
        cost = size // 4 * into + written * out
        self.charged += cost
        if draw < self.faults + self.losses:
            self.lost += cost
            return Reply(error=httpx2.ReadError("the connection broke"))
        usage = {"prompt_tokens": size // 4, "completion_tokens": written}
        finish = "length" if written < wanted else "stop"
        choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": "x"}}
        return Reply(
            200, {}, json.dumps({"choices": [choice], "model": body["model"], "usage": usage}).encode()
        )


@dataclass
class Wire:
    """A door to the provider."""

    provider: Provider
    content: bytes

    async def once(self, _timeout_s: float, body: bytes | None, _began: Any = None) -> Reply:
        sent = body or self.content
        return await self.provider.answer(json.loads(sent), len(self.content))

    def response(self, done: Done, _gap_s: float) -> Done:
        return done


@dataclass
class Result:
    """How the money was spent, in pico-dollars, and how fast."""

    budget: int
    provider: Provider
    ledger: Ledger
    spending: Spending
    repeated: int
    rows: int

    @property
    def spent(self) -> float:
        """The share of the budget that is booked."""
        return self.ledger.spent / self.budget

    def check(self) -> None:
        """What must hold, whatever happened."""
        charged = self.provider.charged
        assert self.ledger.spent <= self.budget, "the ceiling was passed"
        assert charged <= self.budget, "more was charged than there is"
        assert self.ledger.overshoot == self.ledger.reserved == self.ledger.in_flight == 0
        assert self.spending.reported == charged - self.provider.lost, "a token is missing"
        assert self.spending.reported <= charged <= self.spending.reported + self.spending.uncertain


def spend(
    seed: int,
    *,
    slots: int,
    budget: int,
    faults: float = 0.2,
    losses: float = 0.0,
    throttles: float = 0.02,
    tighten: bool = True,
    most_tokens: int = MOST_TOKENS,
) -> Result:
    """Let rows spend a budget until nothing is left for another.

    Args:
        seed: of all that is random.
        slots: requests that may be in flight.
        budget: in pico-dollars.
        faults: the share of requests that fail.
        losses: the share that is charged and never answered.
        throttles: the share of the faults that are a 429: each lets everybody pause, whatever the money.
        tighten: send smaller maxima near the end of the money.
        most_tokens: the maximum that the chain sends along.
    """
    provider = Provider(Random(seed), faults, losses, throttles, budget * 97 // 100)
    return virtual_run(_spend(provider, slots, budget, most_tokens, tighten=tighten), seed=seed)


async def _spend(provider: Provider, slots: int, budget: int, most_tokens: int, *, tighten: bool) -> Result:
    ledger = Ledger(Amounts(budget))
    run = RunAccount(
        limiters=Limiters(AdaptiveConcurrency(slots, slots, slots)),
        ledger=ledger,
        prices=PriceBook(PRICES),
        retry=RetryPolicy(retries=1, base_s=0.1, cap_s=1.0, allowance_share=1.0),
        timeout_s=10**6,
        accept_truncated=True,
        tighten=tighten,
    )
    rows = iter(range(10**6))
    unpaid = Unpaid()
    over = [False]
    done = [0]

    async def worker() -> None:
        while not over[0]:
            row = await _row(run, provider, next(rows), most_tokens)
            done[0] += 1
            if row.too_dear is None:
                unpaid.answered()
            else:
                over[0] = unpaid.add(row.too_dear) or over[0]

    async with asyncio.TaskGroup() as group:
        for _ in range(slots + slots // 4):
            group.create_task(worker())
    return Result(budget, provider, ledger, run.spending, run.pricing.repeated, done[0])


async def _row(run: RunAccount, provider: Provider, index: int, most_tokens: int) -> RowAccount:
    row = RowAccount(run, index)
    token = ROW.set(row)
    try:
        for model in (SMALL, LARGE):
            call = a_call(model, index, most_tokens)
            done = await drive(row, call, Wire(provider, call.content))  # type: ignore[arg-type]
            if done.raw is None or row.spent is None:
                break
    except Exception:  # out of money, or an answer that got lost
        return row
    finally:
        row.close()
        ROW.reset(token)
    return row


def a_call(model: str, index: int, most_tokens: int = MOST_TOKENS) -> Call:
    text = f"row {index} ".ljust(PROMPT_BYTES, "x")
    body = {"model": model, "max_tokens": most_tokens, "messages": [{"role": "user", "content": text}]}
    call = recognise("POST", URL, {}, json.dumps(body).encode())
    assert call is not None
    return call
