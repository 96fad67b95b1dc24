"""Whether a budget holds, and what it costs: `python bench/budget.py` (`--runs 200`, `--http 10`, `--cost`)."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from dataclasses import dataclass
from itertools import count
from math import log
from pathlib import Path
from random import Random
from statistics import mean, median
from timeit import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx2
from langchain_openai import ChatOpenAI

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import measure as m
from bench.overhead import Noop
from tests.support import replies
from tests.support.loopback import Loopback
from tests.support.spender import BOUND, LARGE, MOST_TOKENS, PRICES, RATE, SMALL, a_call, spend

from cottonpalm import BatchProcessor, Budget, Cache, RunStopped
from cottonpalm.config import AdaptiveConcurrency, RetryPolicy
from cottonpalm.engine.input.keys import content_key
from cottonpalm.request.attempt.steps import Done, Reply
from cottonpalm.request.limiter.limiters import Limiters
from cottonpalm.request.money.ledger import Ledger
from cottonpalm.request.money.rules.prices import PriceBook
from cottonpalm.request.row_account import ROW, RowAccount
from cottonpalm.request.run_account import RunAccount
from cottonpalm.request.transport.drivers import drive
from cottonpalm.types import PICO, pico

if TYPE_CHECKING:
    from tests.support.spender import Result

REQUESTS = 2_000
DEAR = 0.05  # of the requests go to the dear model, about


class Sort(NamedTuple):
    """One sort of run in virtual time.

    Attributes:
        most_tokens: the maximum that the chain sends along; answers are about 330 tokens, one in a hundred 2,000.
        bound_percent: the largest bound of one request, as a share of the budget.
        tighten: send smaller maxima near the end.
        of_runs: the share of the runs asked for; the longer ones are fewer.
    """

    most_tokens: int
    bound_percent: float
    tighten: bool
    of_runs: float

    @property
    def bound(self) -> int:
        """Of the dearest request, in pico-dollars."""
        return BOUND + 10 * RATE[SMALL][1] * (self.most_tokens - MOST_TOKENS)

    @property
    def budget(self) -> int:
        return round(self.bound * 100 / self.bound_percent)

    def in_flight(self, slots: int) -> float:
        """How many could be in flight on the mean until 97 % are spent, if each holds its whole bound.

        At a spent share s there is room for n(s) = min(slots, (1 - s) budget / bound) of them, and the time it takes
        to spend ds is proportional to ds / n(s).
        """
        mean_bound = self.bound / 10 * (1 + 9 * DEAR)
        room, end = self.budget / mean_bound, 0.97
        full = min(end, max(0.0, 1 - slots / room))
        return end / (full / slots + log((1 - full) / (1 - end)) / room)


SORTS = (
    Sort(1_000, 3.0, True, 1.0),
    Sort(1_000, 1.0, True, 1.0),
    Sort(1_000, 0.2, True, 0.1),
    Sort(16_384, 3.0, True, 0.25),
    Sort(16_384, 3.0, False, 0.25),
)


def simulated(runs: int) -> None:
    """Random runs in virtual time; a run that breaks a promise ends this command."""
    m.headline(
        f"{runs} runs in virtual time, fewer of the long ones: heavy-tailed answers, 20 % faults, retries, a fallback "
        "ten times dearer",
        "overshoot 0; at least 97 % spent where one request's bound is at most 3 % of the budget",
    )
    lines = []
    for slots in (200, 500):
        for sort in SORTS:
            results = [
                spend(
                    seed,
                    slots=slots,
                    budget=sort.budget,
                    throttles=0.0,  # a pause for all says nothing of the money
                    tighten=sort.tighten,
                    most_tokens=sort.most_tokens,
                )
                for seed in range(max(1, round(runs * sort.of_runs)))
            ]
            tightened = "yes" if sort.tighten else "no"
            told = _told(results)
            lines.append(
                [
                    slots,
                    sort.most_tokens,
                    f"{sort.bound_percent:g} %",
                    tightened,
                    *told,
                    sort.in_flight(slots),
                ]
            )
            print(*lines[-1], flush=True)
    columns = ["slots", "max_tokens", "largest bound", "tightened", "runs", "overshoot", "least spent %"]
    m.table([*columns, "repeated %", "mean in flight until 97 %", "whole bounds allow"], lines)


def _told(results: list[Result]) -> list[Any]:
    for result in results:
        result.check()
    over = max(result.provider.charged - result.budget for result in results)
    repeated = mean(100 * result.repeated / result.provider.requests for result in results)
    flying = mean(result.provider.mean_in_flight for result in results)
    return [len(results), max(0, over), 100 * min(result.spent for result in results), repeated, flying]


async def over_http(rounds: int) -> None:
    """The same with real clients and sockets, two servers, and the servers' own books."""
    m.headline(
        f"{rounds} rounds over HTTP on this machine: heavy-tailed answers, 20 % faults, a fallback ten times dearer",
        "overshoot 0; reported <= charged <= reported + uncertain; at least 97 % spent",
    )
    lines = []
    for seed in range(rounds):
        with Loopback(script=_answers(2 * seed)) as small, Loopback(script=_answers(2 * seed + 1)) as large:
            lines.append([seed, *await _one_round(small, large, (200, 500)[seed % 2])])
    columns = ["seed", "in flight", "requests", "dear ones", "bound %", "overshoot"]
    m.table([*columns, "charged - reported", "uncertain", "spent %", "repeated"], lines)


def _answers(seed: int) -> replies.Script:
    """Answers of 60 to 600 tokens that take as long as they are long; a fifth of the requests fails."""
    rng = Random(seed)

    def answer(_: replies.Request) -> replies.Reply:
        if rng.random() < 0.2:
            return replies.fails(500)  # no 429: a pause for all says nothing of the money
        tokens = min(2_000, int(rng.lognormvariate(5.0, 1.0)) + 1)
        return replies.ok("word" * tokens).after(0.05 + tokens * 0.001)

    return answer


async def _one_round(small: Loopback, large: Loopback, in_flight: int) -> list[Any]:
    budget = 1.0
    async with httpx2.AsyncClient(limits=httpx2.Limits(max_connections=None)) as client:
        cheap, dear = (
            ChatOpenAI(
                model=name, base_url=server.openai_url, api_key="-", http_async_client=client, max_tokens=600
            )
            for name, server in ((SMALL, small), (LARGE, large))
        )
        processor = BatchProcessor(
            cheap,
            concurrency=AdaptiveConcurrency(in_flight, in_flight, in_flight),
            retry=RetryPolicy(retries=1, base_s=0.05),
            fallbacks=[dear],
            budget=Budget(total=budget),
            prices=PRICES,
        )
        rows = [f"row {n} " + "word " * (n * n % 100) for n in range(20_000)]
        stopped = False
        try:
            await processor.abatch(rows)
        except RunStopped as stop:
            stopped = stop.reason == "budget"
        run, ceiling = processor.last_run, round(budget * PICO)
        assert run is not None
        assert stopped, "it did not end for the money"
        charged = sum(
            server.billed.input_tokens * RATE[name][0] + server.billed.output_tokens * RATE[name][1]
            for name, server in ((SMALL, small), (LARGE, large))
        )
        bound = (700 + 24) * RATE[LARGE][0] + 600 * RATE[LARGE][1]
        return [
            in_flight,
            small.requests + large.requests,
            large.requests,
            100 * bound / ceiling,
            max(0, charged - ceiling),
            charged - pico(run.stats.reported_usd),
            pico(run.stats.uncertain_usd),
            100 * charged / ceiling,
            run.stats.repeated,
        ]


@dataclass
class Instant:
    """A door that answers at once."""

    reply: Reply

    async def once(self, *_: Any) -> Reply:
        return self.reply

    def response(self, done: Done, _gap_s: float) -> Done:
        return done


def _requests(ledger: Ledger | None) -> m.Work:
    usage = {"prompt_tokens": 100, "completion_tokens": 50}
    body = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": usage}
    door = Instant(Reply(200, {}, json.dumps(body).encode()))
    run = RunAccount(
        limiters=Limiters(AdaptiveConcurrency(64, 64, 64)),
        ledger=ledger,
        prices=PriceBook(PRICES),
        retry=RetryPolicy(),
        timeout_s=600.0,
    )

    async def work() -> None:
        for index in range(REQUESTS):
            row = RowAccount(run, index)
            token = ROW.set(row)
            await drive(row, a_call("small", index), door)  # type: ignore[arg-type]
            row.close()
            ROW.reset(token)

    return work


def _rows(cache: Cache | None) -> m.Work:
    numbers = count()
    processor = BatchProcessor(Noop(), concurrency=64, cache=cache)
    return lambda: processor.abatch([next(numbers) for _ in range(REQUESTS)])


async def cost(repeats: int) -> None:
    """What the two gates add to a row, turn by turn."""
    m.headline("CPU µs that a budget and a cache add to a row with one request", "at most 8 together")
    works = {
        "requests": _requests(None),
        "requests, budget": _requests(Ledger(10**18)),
        "rows": _rows(None),
        "rows, cache": _rows(Cache(max_entries=1000)),
    }
    taken = await m.interleaved(works, repeats)
    cpu = {name: m.per_row_us(one, REQUESTS) for name, one in taken.items()}
    budget = m.over(cpu["requests, budget"], cpu["requests"])
    cache = m.over(cpu["rows, cache"], cpu["rows"])
    lines = [["budget", median(cpu["requests"]), budget], ["cache", median(cpu["rows"]), cache]]
    m.table(["gate", "without", "added"], [*lines, ["together", "", budget + cache]])
    key = min(repeat(lambda: content_key(12_345, None, {}), number=REQUESTS, repeat=repeats)) / REQUESTS * 1e6
    print(f"  of the cache, the row's key, which a run with a store works out anyway: {key:.2f}")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=200)
    options.add_argument("--http", type=int, default=10)
    options.add_argument("--repeats", type=int, default=9)
    options.add_argument("--cost", action="store_true", help="only what the gates cost")
    given = options.parse_args()
    asyncio.run(cost(given.repeats))
    if not given.cost:
        asyncio.run(over_http(given.http))
        simulated(given.runs)


if __name__ == "__main__":
    main()
