"""What a run says it cost: all of it, or that much at least."""

from __future__ import annotations

import asyncio
import gc
from contextlib import aclosing
from typing import Any

import pytest
from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor
from tests.support.loopback import Loopback
from tests.support.replies import fails, resets

ROWS = [f"row {n}" for n in range(12)]


def model_at(server: Loopback) -> ChatOpenAI:
    return ChatOpenAI(model="gpt-4o-mini", base_url=server.openai_url, api_key="sk-1", stream_usage=True)


def stats_of(script: Any, **options: Any) -> Any:
    with Loopback(script) as server:
        options = {"model": "gpt-4o-mini", "base_url": server.openai_url, "api_key": "sk-1", **options}
        processor = BatchProcessor(ChatOpenAI(**options), retry=0, max_failures=1.0)
        processor.batch(ROWS, return_exceptions=True)
        assert processor.last_run is not None
        return processor.last_run.stats


@pytest.mark.parametrize("status", [400, 422])
def test_rows_that_were_refused_cost_nothing_and_the_sum_is_whole(status: int) -> None:
    stats = stats_of(lambda request: fails(status) if request.text in ROWS[:5] else None, max_tokens=9)
    assert (stats.ok, stats.failed) == (7, 5)
    assert stats.cost_usd > 0
    assert stats.cost_known


def test_where_all_were_refused_the_run_cost_nothing() -> None:
    stats = stats_of(lambda _: fails(400), max_tokens=9)
    assert (stats.ok, stats.cost_usd, stats.cost_known, stats.uncertain_usd) == (0, 0.0, True, 0.0)


def test_a_connection_that_broke_may_have_cost_something_up_to_its_bound() -> None:
    stats = stats_of(lambda request: resets() if request.text == ROWS[3] else None, max_tokens=9)
    assert (stats.ok, stats.failed) == (11, 1)
    assert stats.cost_known
    assert stats.uncertain_usd > 0


def test_where_no_price_is_known_nobody_knows_what_broken_connections_have_cost() -> None:
    stats = stats_of(lambda _: resets(), model="nobody-knows")
    assert (stats.ok, stats.uncertain_usd) == (0, 0.0)
    assert not stats.cost_known


async def streamed(processor: BatchProcessor, rows: Any) -> None:
    async for _ in processor.stream_batch(rows):
        pass


async def completed(processor: BatchProcessor, rows: Any) -> None:
    async for _ in processor.abatch_as_completed(rows):
        pass


def completed_here(processor: BatchProcessor, rows: Any) -> None:
    list(processor.batch_as_completed(rows))


@pytest.mark.parametrize("call", [streamed, completed, completed_here])
def test_a_call_that_hands_out_no_run_tells_afterwards_what_it_cost(call: Any) -> None:
    with Loopback() as server:
        processor = BatchProcessor(model_at(server))
        going = call(processor, ["a", "b"])
        if going is not None:
            asyncio.run(going)
        gc.collect()
        run = processor.last_run
        assert run is not None
        assert [outcome.status for outcome in run.outcomes()] == ["ok", "ok"]
        assert run.report.cost_usd == pytest.approx(sum(outcome.cost_usd or 0 for outcome in run.outcomes()))
        assert run.stats.ok == 2


def test_a_stream_that_is_left_tells_afterwards_what_it_had_done() -> None:
    async def main() -> None:
        async with aclosing(processor.stream_batch([f"row {n}" for n in range(50)])) as pieces:
            async for _ in pieces:
                break

    with Loopback() as server:
        processor = BatchProcessor(model_at(server), concurrency=1)
        asyncio.run(main())
        gc.collect()
        run = processor.last_run
        assert run is not None
        assert {outcome.status for outcome in run.outcomes()} >= {"skipped"}
        assert run.report.counts.requests == server.requests < 50


def test_a_stream_of_lazy_rows_keeps_what_it_cost_and_no_rows() -> None:
    with Loopback() as server:
        processor = BatchProcessor(model_at(server))
        asyncio.run(streamed(processor, (text for text in "ab")))
        gc.collect()
        run = processor.last_run
        assert run is not None
        assert run.stats.ok == 2
        with pytest.raises(RuntimeError):
            run.outcomes()
