"""One run, everything switched on, cancelled at a random await on a virtual clock; what must hold afterwards."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from random import Random
from typing import Any

import httpx2
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor, Budget, Cache
from cottonpalm.assembly import ledger_of
from cottonpalm.testing import FlakyTransport, Flaw, cancel_at, virtual_run

ROWS = 80


@dataclass
class Wear(FlakyTransport):
    """A provider with random latencies and every fault there is."""

    rng: Random

    def __post_init__(self) -> None:
        super().__init__(then=self._step)

    async def handle_async_request(self, request: Any) -> Any:
        await asyncio.sleep(self.rng.lognormvariate(-1, 1))
        return await super().handle_async_request(request)

    def _step(self, _request: Any) -> Any:
        return self.rng.choice(
            [None] * 12
            + [
                429,
                (429, {"retry-after": "3"}),
                500,
                503,
                Flaw.DROP,
                Flaw.CUT,
                Flaw.MALFORMED,
                Flaw.STALL,
                400,
            ]
        )


def cancelled_run(seed: int) -> dict[str, Any]:
    """Run once to the end to count its awaits, then again and cancel it at one of them.

    Returns:
        What was left behind, all of which must be zero, and how far it got.
    """
    awaits = virtual_run(_main(seed, 10**9), seed)["awaits"]
    return virtual_run(_main(seed, Random(seed).randint(1, awaits)), seed)


async def _main(seed: int, at: int) -> dict[str, Any]:
    rng = Random(seed)
    threads = set(threading.enumerate())  # of earlier tests, which may end meanwhile
    client = httpx2.AsyncClient(transport=Wear(rng))
    model = ChatOpenAI(
        model="gpt-4o-mini", api_key="sk-not-a-key", http_async_client=client, timeout=20, max_tokens=50
    )
    chain = ChatPromptTemplate.from_template("say {x}") | model | StrOutputParser()
    budget = Budget(total=rng.choice([1.0, 0.002]))
    processor = BatchProcessor(
        chain, budget=budget, cache=Cache(), timeout=30, item_timeout=200, concurrency=rng.choice([2, 8, 40])
    )
    rows = [{"x": rng.randrange(60)} for _ in range(ROWS)]
    priorities = [rng.randrange(3) for _ in rows]
    run = processor.astart(rows, priorities=priorities)
    got: list[int] = []

    async def read() -> None:
        async with run:
            async for outcome in run:
                got.append(outcome.index)
                await asyncio.sleep(rng.random() / 10)

    try:
        cut = await cancel_at(at, read(), anywhere=True)
        awaits, cancelled = cut.awaits, cut.cancelled
    except Exception:
        awaits, cancelled = 10_000, False
    await client.aclose()
    await asyncio.sleep(0)
    engine = run._engine
    rows_seen, ledger = engine._rows, ledger_of(budget)
    assert ledger is not None
    turnstiles = [one for many in processor._assembly._turnstiles.values() for one in many]
    return {
        "awaits": awaits,
        "cancelled": cancelled,
        "emitted": len(got),
        "twice": len(got) - len(set(got)),
        "unsettled": 0 if rows_seen is None else rows_seen.begun - rows_seen.finished,
        "active": 0 if rows_seen is None else rows_seen.active,
        "permits": sum(turnstile.in_flight for turnstile in turnstiles),
        "waiting": sum(turnstile.waiting for turnstile in turnstiles) + engine.account.waiting,
        "reserved": ledger.reserved,
        "overshoot": max(0, ledger.spent - round(budget.total * 10**12)),
        "tasks": len(asyncio.all_tasks()) - 1,
        "threads": len(set(threading.enumerate()) - threads),
    }


LEFT_BEHIND = (
    "twice",
    "unsettled",
    "active",
    "permits",
    "waiting",
    "reserved",
    "overshoot",
    "tasks",
    "threads",
)


def left_behind(result: dict[str, Any]) -> dict[str, Any]:
    """What of it is not zero."""
    return {name: result[name] for name in LEFT_BEHIND if result[name]}
