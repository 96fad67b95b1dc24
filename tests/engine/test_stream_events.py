"""A run with `stream=True` tells what happens as events: each row's own in order, nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.runnables import RunnableGenerator

from cottonpalm import BatchProcessor, Cache, RowChunk
from cottonpalm.events import RowFinished, RowRestarted, RowStarted
from cottonpalm.testing import virtual_run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.core
STREAMS = 200


async def speaks(rows: AsyncIterator[int]) -> AsyncIterator[str]:
    async for row in rows:
        for piece in range(10):
            await asyncio.sleep(0.01 + row % 7 / 100)
            yield f"{row}.{piece} "


def by_row(events: list[Any]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = defaultdict(list)
    for event in events:
        found[event.outcome.index if isinstance(event, RowFinished) else event.index].append(event)
    return found


async def read(processor: BatchProcessor, rows: list[int]) -> list[Any]:
    async with processor.astart(rows, stream=True) as run:
        return [event async for event in run]


def test_two_hundred_streams_at_once_keep_their_order_and_lose_nothing() -> None:
    processor = BatchProcessor(RunnableGenerator(speaks), concurrency=STREAMS)
    events = virtual_run(read(processor, list(range(STREAMS))))
    rows = by_row(events)
    assert len(rows) == STREAMS
    for row, seen in rows.items():
        pieces = [f"{row}.{piece} " for piece in range(10)]
        assert isinstance(seen[0], RowStarted)
        assert seen[1:-1] == [RowChunk(row, piece) for piece in pieces]
        assert seen[-1].outcome.output == "".join(pieces)
    chunks = [event for event in events if isinstance(event, RowChunk)]
    switches = sum(one.index != other.index for one, other in pairwise(chunks))
    assert switches > len(chunks) / 2  # they were truly interleaved


def test_a_stream_that_breaks_off_says_so_and_begins_again() -> None:
    tries = iter([["It was", ConnectionError("broken off")], ["It was ", "good."]])

    async def breaks(rows: AsyncIterator[str]) -> AsyncIterator[str]:
        async for _ in rows:
            for piece in next(tries):
                if isinstance(piece, Exception):
                    raise piece
                yield piece

    async def main() -> list[Any]:
        async with BatchProcessor(RunnableGenerator(breaks)).astart(["x"], stream=True) as run:
            return [event async for event in run]

    seen = virtual_run(main())
    kinds = [type(event) for event in seen]
    assert kinds == [RowStarted, RowChunk, RowRestarted, RowChunk, RowChunk, RowFinished]
    assert seen[-1].outcome.output == "It was good."


def test_a_row_that_the_cache_knows_has_no_chunks() -> None:
    processor = BatchProcessor(RunnableGenerator(speaks), cache=Cache())
    virtual_run(read(processor, [1]))
    assert [type(event) for event in virtual_run(read(processor, [1]))] == [RowStarted, RowFinished]


def test_without_stream_a_run_gives_outcomes_as_ever() -> None:
    with BatchProcessor(RunnableGenerator(speaks)).start([3]) as run:
        assert [outcome.status for outcome in run] == ["ok"]


def test_a_reader_in_synchronous_code_gets_the_same_events() -> None:
    with BatchProcessor(RunnableGenerator(speaks)).start([0], stream=True) as run:
        seen = list(run)
    assert [type(event) for event in seen] == [RowStarted, *[RowChunk] * 10, RowFinished]


def test_a_table_of_a_streaming_run_has_its_outcomes() -> None:
    with BatchProcessor(RunnableGenerator(speaks)).start([0, 1], stream=True) as run:
        assert isinstance(next(run), RowStarted)
        table = run.to_arrow()
    assert table["input"].to_pylist() == [0, 1]
    assert [len(text.split()) for text in table["output"].to_pylist()] == [10, 10]
