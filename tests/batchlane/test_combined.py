"""Everything of the batch lane drawn at random; `python -m bench.batch_combined` draws as many as one likes."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.runnables import RunnableLambda, RunnableParallel

from cottonpalm import Budget, RunStopped
from cottonpalm.engine.shared import ledger_of
from tests.batchlane.combined import check
from tests.batchlane.drawn import drawn
from tests.batchlane.kit import batched, lane, rows, simple
from tests.support.batch_provider import Faults

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.batch_provider import BatchProvider


@pytest.mark.parametrize("seed", [103, 107, 109, 111])
def test_whatever_is_on_each_row_has_its_answer_nothing_is_paid_twice_and_the_sums_are_right(
    seed: int, tmp_path: Path
) -> None:
    check(drawn(seed), tmp_path)


def check_left(
    server: BatchProvider, folder: Path, chain: Any, count: int, moment: asyncio.Event, **more: Any
) -> None:
    """Leave a run at a moment at which money is set aside and nothing is handed in: all of it comes back."""

    async def main() -> None:
        budget = Budget(1.0, max_output_tokens=100)
        processor = batched(chain, server, folder, budget=budget, lane=lane(server, **more))
        async with processor.astart(rows(count)):
            await moment.wait()
            while not ((ledger := ledger_of(budget)) and ledger.reserved):
                await asyncio.sleep(0.001)
        assert (ledger.reserved, server.jobs) == (0, {})

    asyncio.run(main())


@pytest.mark.parametrize("count", [1, 5])
def test_a_run_that_is_left_while_rows_are_recorded_gives_the_money_of_their_requests_back(
    server: BatchProvider, tmp_path: Path, count: int
) -> None:
    """One branch has asked, the other is on its way."""
    arrived = asyncio.Event()

    async def never(_: Any) -> Any:
        arrived.set()
        await asyncio.Event().wait()

    chain = RunnableParallel(quick=simple(server), slow=RunnableLambda(never))
    check_left(server, tmp_path, chain, count, arrived, quiet_s=60.0)


def test_a_run_that_is_cancelled_again_while_it_ends_gives_the_money_of_its_batches_back(
    server: BatchProvider, tmp_path: Path
) -> None:
    server.faults = Faults(looks=10**6)

    async def main() -> int:
        budget = Budget(1.0, max_output_tokens=100)
        run = batched(simple(server), server, tmp_path, budget=budget).astart(rows(3))
        reader, me = asyncio.ensure_future(anext(run)), asyncio.current_task()
        while not server.jobs:
            await asyncio.sleep(0.001)
        while going := asyncio.all_tasks() - {me}:  # as `asyncio.run` at a second Ctrl-C
            for task in going:
                task.cancel()
            await asyncio.sleep(0)
        assert reader.cancelled()
        ledger = ledger_of(budget)
        assert ledger is not None
        return ledger.reserved

    assert asyncio.run(main()) == 0


def test_a_run_that_is_left_while_a_round_is_taken_down_gives_the_money_of_its_requests_back(
    server: BatchProvider, tmp_path: Path
) -> None:
    """The round has fallen quiet, and a branch of it tidies up for a while before it ends."""
    tidying = asyncio.Event()

    async def tidies(_: Any) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            tidying.set()
            await asyncio.sleep(0.2)

    check_left(
        server, tmp_path, RunnableParallel(quick=simple(server), slow=RunnableLambda(tidies)), 1, tidying
    )


def test_a_run_that_is_left_while_rows_are_compared_gives_the_money_of_their_requests_back(
    server: BatchProvider, tmp_path: Path
) -> None:
    """The second execution of the first row never comes to its question."""
    executions, again = 0, asyncio.Event()

    async def first_only(row: dict[str, str]) -> dict[str, str]:
        nonlocal executions
        executions += 1
        if executions > 1:
            again.set()
            await asyncio.Event().wait()
        return row

    check_left(server, tmp_path, RunnableLambda(first_only) | simple(server), 1, again)


def test_rows_that_a_spent_budget_ends_leave_no_complaint_of_asyncio(
    server: BatchProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What came of a round that is not the row's last is nobody's to ask for."""
    budget = Budget(total=0.0008, max_output_tokens=100)
    with pytest.raises(RunStopped):
        batched(simple(server), server, tmp_path, budget=budget).batch(rows(40))
    gc.collect()
    assert "never retrieved" not in caplog.text
