"""Whether a budget holds, and what it costs: `python bench/budget.py` (`--runs 200`, `--http 10`, `--cost`)."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any

import httpx2
from langchain_openai import ChatOpenAI

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import measure as m
from bench.overhead import Noop
from tests.support import replies
from tests.support.loopback import Loopback
from tests.support.spender import BOUND, PRICES, a_call, spend

from cottonpalm import BatchProcessor, Budget, Cache, RunStopped
from cottonpalm.config import AdaptiveConcurrency, RetryPolicy
from cottonpalm.model import PICO
from cottonpalm.pure.prices import PriceBook
from cottonpalm.request.account import ROW, RowAccount, RunAccount
from cottonpalm.request.attempts import Done, Reply
from cottonpalm.request.drivers import drive
from cottonpalm.request.ledger import Ledger
from cottonpalm.request.turnstile import Turnstiles

if TYPE_CHECKING:
    from tests.support.spender import Result

REQUESTS = 2_000


def simulated(runs: int) -> None:
    """Random runs in virtual time; a run that breaks a promise ends this command."""
    m.headline(
        f"{runs} runs in virtual time for each line: heavy-tailed answers, 20 % faults, a fallback ten times dearer",
        "overshoot 0; at least 97 % spent where one request's bound is at most 3 % of the budget",
    )
    lines = []
    for slots in (200, 500):
        for share in (3.0, 1.0, 0.2):
            for tighten in (True, False):
                results = [
                    spend(seed, slots=slots, budget=round(BOUND * 100 / share), tighten=tighten)
                    for seed in range(max(1, round(runs * min(1.0, share))))
                ]
                lines.append([slots, f"{share:g} %", "yes" if tighten else "no", *_told(results)])
    columns = ["in flight", "largest bound", "tightened", "runs", "overshoot"]
    m.table([*columns, "least spent %", "mean in flight until 97 %", "answers repeated %"], lines)


def _told(results: list[Result]) -> list[Any]:
    for result in results:
        result.check()
    over = max(result.provider.charged - result.budget for result in results)
    repeated = mean(100 * result.repeated / result.provider.requests for result in results)
    flying = mean(result.provider.mean_in_flight for result in results)
    return [len(results), max(0, over), 100 * min(result.spent for result in results), flying, repeated]


async def over_http(rounds: int) -> None:
    """The same with real clients and sockets."""
    m.headline(
        f"{rounds} rounds over HTTP on this machine, 200 in flight",
        "overshoot 0; reported equals charged, to the token",
    )
    lines = []
    for seed in range(rounds):
        faults = replies.faulty(seed, [(0.17, replies.fails(500)), (0.03, replies.too_many(0.01))])
        with Loopback(script=faults, latency=replies.lognormal(0.02, 0.8, seed)) as server:
            lines.append([seed, *await _one_round(server)])
    m.table(["seed", "requests", "charged - budget", "charged - reported", "spent %"], lines)


async def _one_round(server: Loopback) -> list[Any]:
    async with httpx2.AsyncClient() as client:
        model = ChatOpenAI(
            model="small", base_url=server.openai_url, api_key="-", http_async_client=client, max_tokens=600
        )
        processor = BatchProcessor(
            model, concurrency=200, retry=5, budget=Budget(total=0.5), prices=PRICES | {"*": (1.0, 2.0)}
        )
        rows = [f"row {n} " + "word " * (n * n % 400) for n in range(5_000)]
        with suppress(RunStopped):
            await processor.abatch(rows)
        run, billed, budget = processor.last_run, server.billed, round(0.5 * PICO)
        assert run is not None
        charged = billed.input_tokens * 10**6 + billed.output_tokens * 2 * 10**6
        return [
            server.requests,
            max(0, charged - budget),
            charged - run.stats.reported_pico,
            100 * charged / budget,
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
    door, calls = (
        Instant(Reply(200, {}, json.dumps(body).encode())),
        [a_call("small", n) for n in range(REQUESTS)],
    )
    run = RunAccount(
        turnstiles=Turnstiles(AdaptiveConcurrency(64, 64, 64)),
        ledger=ledger,
        prices=PriceBook(PRICES),
        retry=RetryPolicy(),
        timeout_s=600.0,
    )

    async def work() -> None:
        for index, call in enumerate(calls):
            row = RowAccount(run, index)
            token = ROW.set(row)
            await drive(row, call, door)  # type: ignore[arg-type]
            row.close()
            ROW.reset(token)

    return work


def _rows(cache: Cache | None) -> m.Work:
    numbers = count()
    processor = BatchProcessor(Noop(), concurrency=64, cache=cache)
    return lambda: processor.abatch([next(numbers) for _ in range(REQUESTS)])


async def cost(repeats: int) -> None:
    """What the two gates add to a row, turn by turn."""
    m.headline("CPU µs that a budget and a cache add to a row with one request", "at most 10 together")
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
