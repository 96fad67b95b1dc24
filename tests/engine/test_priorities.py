"""Who goes first: by priority among the rows read so far, retries included, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import json
import math
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from langchain_openai import ChatOpenAI

from cottonpalm import AdaptiveConcurrency, BatchProcessor, Cache, Limits, RetryPolicy
from cottonpalm.events import RowStarted
from cottonpalm.runtime.priority import AGE_S
from cottonpalm.testing import FlakyTransport, ScriptedChain, virtual_run
from tests.engine.helpers import Probe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.core


async def read_all(processor: BatchProcessor, rows: Any, **more: Any) -> None:
    async with processor.astart(rows, **more) as run:
        async for _ in run:
            pass


async def one_by_one(rows: list[int]) -> AsyncIterator[int]:
    for row in rows:
        yield row


@pytest.mark.parametrize("limit", [10, 100, 300])
def test_at_least_four_times_the_limit_of_a_lazy_source_wait_to_be_chosen_from(limit: int) -> None:
    read, short = 0, list[int]()

    async def rows() -> AsyncIterator[int]:
        nonlocal read
        for n in range(limit * 20):
            read += 1
            yield n

    class Ahead:
        started = 0

        def see(self, event: Any) -> None:
            if isinstance(event, RowStarted):
                self.started += 1
                if limit < self.started < limit * 12 and read - self.started < 4 * limit:
                    short.append(read - self.started)

    processor = BatchProcessor(
        Probe(delay_s=1.0), concurrency=limit, priority=lambda row: row % 3, observers=[Ahead()]
    )
    virtual_run(read_all(processor, rows()))
    assert short == []


@pytest.mark.parametrize("lazy", [False, True])
def test_equal_rows_start_in_input_order(lazy: bool) -> None:
    chain = Probe()
    rows = list(range(100))
    processor = BatchProcessor(chain, concurrency=1, priority=lambda row: row % 2)
    virtual_run(read_all(processor, one_by_one(rows) if lazy else rows))
    assert [row for row in chain.order if row % 2] == rows[1::2]
    assert [row for row in chain.order if not row % 2] == rows[::2]


def test_a_row_that_is_tried_again_keeps_its_priority() -> None:
    chain = Probe(delay_s=1.0, faults={"high": [ConnectionError("once")]})
    rows = ["high", *(f"low {n}" for n in range(20))]
    processor = BatchProcessor(
        chain,
        concurrency=AdaptiveConcurrency(initial=1, minimum=1, maximum=1),
        retry=RetryPolicy(base_s=0.001, cap_s=0.01),
    )
    virtual_run(read_all(processor, rows, priorities=[5] + [0] * 20))
    assert chain.order[:3] == ["high", "low 0", "high"], (
        "it waits for the one call under way, and for nobody else"
    )


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_nobody_who_came_later_than_the_ageing_allows_goes_before_the_lowest(steps: int) -> None:
    """The bound: a row `d` steps above overtakes only within 30 * d seconds of the lower one's arrival."""
    chain, came = Probe(delay_s=1.0), dict[str, float]()

    async def rows() -> AsyncIterator[str]:
        loop = asyncio.get_running_loop()
        for name in ("first", "low", *(f"high {n}" for n in range(400))):
            came[name] = loop.time()
            yield name
            await asyncio.sleep(0 if name == "first" else 0.9)

    processor = BatchProcessor(chain, concurrency=1, priority=lambda row: 0 if row == "low" else steps)
    virtual_run(read_all(processor, rows()))
    before = chain.order[: chain.order.index("low")]
    latest = max(came[name] for name in before) - came["low"]
    assert AGE_S * steps * 0.8 < latest <= AGE_S * steps


def test_priorities_hold_across_runs_that_share_a_limit() -> None:
    order: list[str] = []

    class Slow(FlakyTransport):
        async def handle_async_request(self, request: Any) -> Any:
            order.append(json.loads(request.content)["messages"][-1]["content"])
            await asyncio.sleep(1.0)
            return await super().handle_async_request(request)

    async def main() -> None:
        bounds, limits = AdaptiveConcurrency(2, 1, 2), Limits()
        client = httpx2.AsyncClient(transport=Slow())
        chain = ChatOpenAI(model="m", api_key="sk-none", http_async_client=client)
        low, high = (BatchProcessor(chain, concurrency=bounds, limits=limits) for _ in range(2))
        async with asyncio.TaskGroup() as group:
            group.create_task(read_all(low, [f"low {n}" for n in range(30)], priorities=[0] * 30))
            await asyncio.sleep(3.5)
            group.create_task(read_all(high, [f"high {n}" for n in range(6)], priorities=[10] * 6))

    virtual_run(main())
    first = order.index("high 0")
    assert sorted(order[first : first + 6]) == [f"high {n}" for n in range(6)]
    assert first <= 8 + 2, "those under way when they came go on, and nobody else"


@pytest.mark.parametrize("kind", ["list", "iterator", "async iterator"])
def test_rows_whose_priority_cannot_be_told_are_asked_at_priority_0_and_said(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    def priority(row: int) -> Any:
        return {2: math.nan, 4: "high", 6: None}[row] if row in (2, 4, 6) else next(iter([5] * (row % 2)))

    rows = list(range(1, 10))
    given: Any = {"list": rows, "iterator": iter(rows), "async iterator": one_by_one(rows)}[kind]
    chain = ScriptedChain(then=lambda row: row * 10)
    outcomes = virtual_run(outcomes_of(BatchProcessor(chain, concurrency=1, priority=priority), given))
    assert {outcome.index: outcome.output for outcome in outcomes} == {row - 1: row * 10 for row in rows}
    (warning,) = [record.message for record in caplog.records]
    assert warning.startswith(
        "row 2 (index 1): the function given for priorities does not tell its priority (ConfigError: row 2 (index 1) "
        "has the priority nan, which is no number"
    )
    assert warning.endswith("It is asked at priority 0, as are all others of which this is so")
    if kind == "list":
        assert chain.rows == [1, 3, 5, 7, 9, 2, 4, 6, 8]


async def outcomes_of(processor: BatchProcessor, rows: Any) -> list[Any]:
    async with processor.astart(rows) as run:
        return [outcome async for outcome in run]


def test_rows_begin_in_their_order_also_where_those_before_them_are_at_once_over() -> None:
    rows, chain = [4, 1, 7, 7, 7, 6, 3, 1, 7], Probe(delay_s=0)
    processor = BatchProcessor(chain, cache=Cache(), concurrency=3, priority=float)
    assert processor.batch(rows) == [("answer", row) for row in rows]
    assert chain.order == [7, 6, 4, 3, 1]
