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

from cottonpalm import BatchProcessor, Budget, Cache, clock
from cottonpalm.engine.shared import ledger_of
from cottonpalm.stores import MemoryStore
from cottonpalm.testing import FlakyTransport, Flaw, VirtualLoop, cancel_at, virtual_run
from cottonpalm.testing.loop import WALL_START_S

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


class Trial:
    """One run with everything switched on, not begun yet."""

    def __init__(self, seed: int, **more: Any) -> None:
        self.rng = rng = Random(seed)
        self._threads = set(threading.enumerate())  # of earlier tests, which may end meanwhile
        self.client = httpx2.AsyncClient(transport=Wear(rng))
        model = ChatOpenAI(
            model="gpt-4o-mini",
            api_key="sk-not-a-key",
            http_async_client=self.client,
            timeout=20,
            max_tokens=50,
        )
        chain = ChatPromptTemplate.from_template("say {x}") | model | StrOutputParser()
        self.budget = Budget(total=rng.choice([1.0, 0.002]))
        self.processor = BatchProcessor(
            chain,
            budget=self.budget,
            cache=Cache(),
            timeout=30,
            item_timeout=200,
            concurrency=rng.choice([2, 8, 40]),
            **more,
        )
        self.rows = [{"x": rng.randrange(60)} for _ in range(ROWS)]
        self.got: list[int] = []
        self.run = self.processor.astart(self.rows, priorities=[rng.randrange(3) for _ in self.rows])

    async def read(self) -> None:
        async with self.run as run:
            async for outcome in run:
                self.got.append(outcome.index)
                await asyncio.sleep(self.rng.random() / 10)

    def left(self) -> dict[str, int]:
        """What it still holds, or did wrong."""
        engine, ledger = self.run._engine, ledger_of(self.budget)
        rows_seen = engine._rows
        assert ledger is not None
        limiters = [one for many in self.processor._builder.accounts._limiters.values() for one in many]
        return {
            "emitted": len(self.got),
            "twice": len(self.got) - len(set(self.got)),
            "unsettled": 0 if rows_seen is None else rows_seen.begun - rows_seen.finished,
            "active": 0 if rows_seen is None else rows_seen.active,
            "permits": sum(limiter.in_flight for limiter in limiters),
            "waiting": sum(limiter.waiting for limiter in limiters) + engine.account.flow.waiting,
            "reserved": ledger.reserved,
            "overshoot": max(0, ledger.spent - round(self.budget.total * 10**12)),
            "threads": len(set(threading.enumerate()) - self._threads),
        }


async def _main(seed: int, at: int) -> dict[str, Any]:
    trial = Trial(seed)
    try:
        cut = await cancel_at(at, trial.read(), anywhere=True)
        awaits, cancelled = cut.awaits, cut.cancelled
    except Exception:
        awaits, cancelled = 10_000, False
    await trial.client.aclose()
    await asyncio.sleep(0)
    return {
        "awaits": awaits,
        "cancelled": cancelled,
        "tasks": len(asyncio.all_tasks()) - 1,
        **trial.left(),
    }


def closed_run(seed: int) -> tuple[Trial, int]:
    """Run once to the end to count its steps, then again and close the loop by hand after one of them.

    Returns:
        The run, and how many steps it did.
    """
    _, steps = _closed_after(10**9, seed)
    return _closed_after(Random(seed).randint(1, steps), seed)


def _closed_after(step: int, seed: int) -> tuple[Trial, int]:
    loop = VirtualLoop()
    clock.replace(loop.time, lambda: WALL_START_S + loop.time())
    try:
        trial = Trial(seed, store=MemoryStore(), run="a trial")
        loop.at_step(step, loop.stop)
        task = loop.create_task(trial.read())
        task.add_done_callback(lambda _: loop.stop())
        loop.run_forever()
        if task.done():
            task.exception()
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio would complain of our abuse
    finally:
        loop.close()
        clock.replace()
    return trial, loop.steps


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
    return {name: result[name] for name in LEFT_BEHIND if result.get(name)}
