"""Chunks: counted by input order, never a barrier unless a pause is asked for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from cottonpalm import BatchProcessor, Cache, ConfigError
from cottonpalm.events import ChunkFinished, RowFinished, RowStarted
from cottonpalm.testing import virtual_run
from tests.engine.helpers import Probe, Watch, aread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.core


def run_of(
    chain: Any, rows: Any, *, watch: Watch | None = None, call: dict[str, Any] | None = None, **more: Any
) -> Any:
    """The outcomes and the chunk events of a run on a virtual clock."""
    watch = watch or Watch()

    async def main() -> Any:
        async with BatchProcessor(chain, observers=[watch], **more).astart(rows(), **(call or {})) as run:
            outcomes, error = await aread(run)
        assert error is None
        return outcomes

    return virtual_run(main()), watch.of(ChunkFinished)


async def lazily(count: int) -> AsyncIterator[int]:
    for n in range(count):
        yield n


@pytest.mark.parametrize("source", [lambda: range(25), lambda: lazily(25)], ids=["list", "lazy"])
@pytest.mark.parametrize("pause", [0, 5])
def test_every_row_counts_in_its_chunk_and_the_last_one_may_be_short(source: Any, pause: float) -> None:
    chain = Probe(faults={3: [KeyError("3")], 24: [KeyError("24")]})
    outcomes, chunks = run_of(chain, source, chunk_size=10, chunk_pause=pause)
    assert len(outcomes) == 25
    told = [(chunk.index, chunk.rows, chunk.ok, chunk.failed, chunk.stored) for chunk in chunks]
    assert sorted(told) == [(0, 10, 9, 1, 0), (1, 10, 10, 0, 0), (2, 5, 4, 1, 0)]


def test_a_straggler_holds_up_its_own_chunk_alone() -> None:
    chain = Probe(delay_s=lambda row: 1000.0 if row == 0 else 1.0)
    _, chunks = run_of(chain, lambda: range(40), chunk_size=10, concurrency=4)
    assert [chunk.index for chunk in chunks] == [1, 2, 3, 0]
    assert chunks[-1].seconds == pytest.approx(1000, abs=1)


@pytest.mark.parametrize("source", [lambda: range(12), lambda: lazily(12)], ids=["list", "lazy"])
def test_with_a_pause_the_next_chunk_begins_so_long_after_the_last_row_of_the_one_before(source: Any) -> None:
    started: dict[int, float] = {}

    class Clock(Watch):
        def see(self, event: Any) -> None:
            super().see(event)
            if isinstance(event, RowStarted):
                started[event.index] = asyncio.get_running_loop().time()

    slow_first = Probe(delay_s=lambda row: 7.0 if row % 4 == 0 else 1.0)
    run_of(slow_first, source, watch=Clock(), chunk_size=4, chunk_pause=30, concurrency=4)
    first = started[0]
    for chunk in range(3):
        for row in range(chunk * 4, chunk * 4 + 4):
            assert started[row] - first == pytest.approx(37.0 * chunk)


def test_a_chunk_is_told_of_after_all_of_its_rows() -> None:
    watch = Watch()
    run_of(Probe(), lambda: range(30), watch=watch, chunk_size=7)
    ended: set[int] = set()
    for event in watch.events:
        if isinstance(event, RowFinished):
            ended.add(event.outcome.index)
        elif isinstance(event, ChunkFinished):
            assert set(range(event.index * 7, event.index * 7 + event.rows)) <= ended


@pytest.mark.parametrize("pause", [0, 60])
def test_priorities_go_over_all_chunks_or_with_a_pause_within_each(pause: float) -> None:
    chain = Probe()
    call = {"priorities": [n % 10 for n in range(20)]}
    run_of(chain, lambda: range(20), call=call, chunk_size=10, chunk_pause=pause, concurrency=1)
    if pause:
        assert chain.order == [*range(9, -1, -1), *range(19, 9, -1)]
    else:
        assert chain.order == [n for priority in range(9, -1, -1) for n in (priority, 10 + priority)]


def test_duplicates_wait_for_their_twin_within_a_chunk_and_over_chunks() -> None:
    chain = Probe()
    rows = [n % 3 for n in range(20)]
    outcomes, chunks = run_of(chain, lambda: rows, chunk_size=5, chunk_pause=9, cache=Cache())
    assert [outcome.output for outcome in sorted(outcomes, key=lambda one: one.index)] == [
        ("answer", row) for row in rows
    ]
    assert sum(chain.calls.values()) == 3
    assert [(chunk.index, chunk.ok) for chunk in chunks] == [(0, 5), (1, 5), (2, 5), (3, 5)]


@pytest.mark.parametrize("skip_stored", [False, True])
@pytest.mark.parametrize("lazy", [False, True])
def test_stored_rows_count_in_their_chunks_and_are_followed_by_no_pause(
    tmp_path: Path, skip_stored: bool, lazy: bool
) -> None:
    where: dict[str, Any] = {"store": tmp_path / "runs.db", "run": "r", "fingerprint": "1"}
    asyncio.run(BatchProcessor(Probe(delay_s=0), **where).abatch(list(range(620))))
    watch, chain = Watch(), Probe(delay_s=0)
    processor = BatchProcessor(chain, chunk_size=100, chunk_pause=3600, observers=[watch], **where)

    async def main() -> None:
        rows = lazily(700) if lazy else range(700)
        async with processor.astart(rows, skip_stored=skip_stored) as run:
            outcomes, error = await aread(run)
        assert error is None
        assert len(outcomes) == (80 if skip_stored else 700)
        assert run.stats.chunks == 7
        assert run.stats.chunks_total == (None if lazy else 7)

    asyncio.run(main())  # on a real clock: a pause would last an hour
    told = {chunk.index: (chunk.rows, chunk.ok, chunk.stored) for chunk in watch.of(ChunkFinished)}
    assert told == {**dict.fromkeys(range(6), (100, 0, 100)), 6: (100, 80, 20)}
    assert sum(chain.calls.values()) == 80


def test_failed_rows_done_again_count_in_the_chunks_they_were_in(tmp_path: Path) -> None:
    where: dict[str, Any] = {"store": tmp_path / "runs.db", "run": "r", "fingerprint": "1"}
    bad = {row: [KeyError(str(row))] for row in (3, 7, 12, 31)}
    watch, chain = Watch(), Probe(delay_s=0, faults=bad)
    processor = BatchProcessor(chain, chunk_size=10, observers=[watch], **where)
    processor.batch(list(range(40)), return_exceptions=True)
    watch.events.clear()
    processor.retry()
    told = [(chunk.index, chunk.rows, chunk.ok) for chunk in watch.of(ChunkFinished)]
    assert sorted(told) == [(0, 2, 2), (1, 1, 1), (3, 1, 1)]


def test_a_run_stopped_in_a_pause_ends_at_once() -> None:
    async def main() -> float:
        processor = BatchProcessor(Probe(), chunk_size=2, chunk_pause=1e6)
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with processor.astart(range(10)) as run:
            assert {(await anext(run)).index for _ in range(2)} == {0, 1}
            loop.call_later(50, run.stop)
            outcomes, error = await aread(run)
        assert outcomes == []
        assert error is not None
        return loop.time() - began

    assert virtual_run(main()) == pytest.approx(50, abs=1)


def test_single_calls_know_no_chunks() -> None:
    watch = Watch()
    processor = BatchProcessor(Probe(), chunk_size=1, chunk_pause=1e6, observers=[watch])
    assert virtual_run(processor.ainvoke(5)) == ("answer", 5)
    assert watch.of(ChunkFinished) == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"chunk_size": 0}, "chunk_size=0: say how many rows"),
        ({"chunk_size": 2.5}, "chunk_size=2.5: say how many rows"),
        ({"chunk_size": 10, "chunk_pause": -1}, "chunk_pause=-1 must be a number of seconds"),
        ({"chunk_pause": 5}, "chunk_pause=5 needs chunk_size"),
    ],
)
def test_what_cannot_work_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        BatchProcessor(Probe(), **settings)
