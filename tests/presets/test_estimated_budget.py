"""`CostAwareBatchProcessor` where no price is known: an estimate is held for each row before it is asked."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

from cottonpalm import Cache, CostAwareBatchProcessor, RunStopped
from cottonpalm.testing import virtual_run
from tests.presets.kinds import openai, rows_of
from tests.support.loopback import Loopback

pytestmark = pytest.mark.core
ANSWER = "word " * 50


async def _answer(row: Any) -> str:
    await asyncio.sleep(0.001)
    return ANSWER


def spent_under(budget: float, rows: int = 400, chain: Any = None, **more: Any) -> tuple[float, int]:
    """What a batch cost under this budget, and how many rows it did before it stopped."""
    processor = CostAwareBatchProcessor(
        RunnableLambda(_answer) if chain is None else chain, budget_per_hour=budget, **more
    )
    with pytest.raises(RunStopped) as stopped:
        processor.batch([{"x": f"row {n}"} for n in range(rows)])
    assert stopped.value.reason == "budget"
    done = sum(outcome.status == "ok" for outcome in stopped.value.outcomes)
    return processor.cost_tracker["total_cost"], done


ROW_USD = CostAwareBatchProcessor(RunnableLambda(_answer)).estimate_cost("{'x': 'row 100'}", ANSWER)


@pytest.mark.parametrize("rows_worth", [0.5, 1, 7.5, 60])
def test_a_chain_without_a_price_costs_at_most_one_row_more_than_its_budget(rows_worth: float) -> None:
    cost, done = spent_under(ROW_USD * rows_worth)
    assert cost <= ROW_USD * (rows_worth + 1.01)
    assert done >= rows_worth


def test_nor_does_a_model_without_a_price_over_http() -> None:
    with Loopback(latency=0.01) as server:
        cost, done = spent_under(2e-5, chain=openai(server, model="nobody-knows-me"))
        assert server.requests == done
    assert cost <= 2.5e-5


def test_rows_go_together_where_the_money_is_there() -> None:
    active, peak, lock = 0, 0, threading.Lock()

    async def answer(row: Any) -> str:
        nonlocal active, peak
        with lock:
            active += 1
            peak = max(peak, active)
        await asyncio.sleep(0.005)
        with lock:
            active -= 1
        return "short"

    CostAwareBatchProcessor(RunnableLambda(answer), concurrency=8).batch(range(100))
    assert peak == 8


def test_failed_rows_give_back_what_was_held_for_them() -> None:
    async def fail(row: Any) -> str:
        raise ValueError("no")

    processor = CostAwareBatchProcessor(RunnableLambda(fail), budget_per_hour=1e-6)
    with pytest.raises(ValueError, match="no"):
        processor.batch(range(10))
    last = processor.processor.last_run
    assert last is not None
    assert {outcome.status for outcome in last.outcomes()} == {"failed"}, "all were asked, one by one"


def test_two_batches_at_once_share_the_hour() -> None:
    processor = CostAwareBatchProcessor(RunnableLambda(_answer), budget_per_hour=ROW_USD * 10)
    stopped: list[RunStopped] = []

    def run() -> None:
        try:
            processor.batch([{"x": f"row {n}"} for n in range(200)])
        except RunStopped as error:
            stopped.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(stopped) == 2
    assert processor.cost_tracker["total_cost"] <= ROW_USD * 11.01


def test_a_cancelled_batch_holds_no_money() -> None:
    processor = CostAwareBatchProcessor(RunnableLambda(_answer), budget_per_hour=ROW_USD * 2)

    async def main() -> None:
        task = asyncio.ensure_future(processor.processor.abatch([{"x": f"row {n}"} for n in range(20)]))
        await asyncio.sleep(0.0005)
        task.cancel()
        await asyncio.wait([task])

    virtual_run(main())
    assert processor._hour._reserved == 0
    assert not processor._hour._waiting


def test_a_total_that_is_set_by_hand_is_what_the_hour_has_cost() -> None:
    processor = CostAwareBatchProcessor(RunnableLambda(_answer), budget_per_hour=1.0)
    processor.check_budget()
    processor.cost_tracker["total_cost"] = 5.0
    with pytest.raises(RunStopped, match=r"the last hour cost \$5\.0"):
        processor.check_budget()
    with pytest.raises(RunStopped):
        processor.batch(["a"])
    processor.cost_tracker["total_cost"] = 0.0
    processor.check_budget()
    processor.batch(["a"])
    assert 0 < processor.cost_tracker["total_cost"] < 1e-3


def test_a_cached_answer_costs_nothing_again() -> None:
    processor = CostAwareBatchProcessor(RunnableLambda(_answer), cache=Cache())
    processor.batch(rows_of(1))
    once = processor.cost_tracker["total_cost"]
    processor.batch(rows_of(1) * 3)
    assert processor.cost_tracker["total_cost"] == once > 0
