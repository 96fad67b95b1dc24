"""Where rows come from: read lazily, on a thread of their own where they may block, and let go of at the end."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from cottonpalm import BatchProcessor, ConfigError
from cottonpalm.testing import virtual_run
from tests.engine.helpers import Probe, aread, read

if TYPE_CHECKING:
    from pathlib import Path

    from cottonpalm.types import Outcome

Eventually = Callable[[Callable[[], object]], None]


def sources_alive() -> int:
    return sum(thread.name == "cottonpalm-source" for thread in threading.enumerate())


def test_a_source_that_blocks_does_not_hold_up_the_calls_in_flight() -> None:
    answered, threads = threading.Event(), []

    def rows() -> Iterator[int]:
        threads.append(threading.current_thread())
        yield 1
        yield 2
        assert answered.wait(20), "the calls in flight were held up"
        yield 3

    with BatchProcessor(Probe(delay_s=0)).start(rows()) as run:
        assert sorted([next(run).index, next(run).index]) == [0, 1]
        answered.set()
        assert [outcome.index for outcome in run] == [2]
    assert threads[0] is not threading.current_thread()
    assert threads[0].name == "cottonpalm-source"


def test_a_row_is_handed_over_at_once_however_slow_the_next_one_is() -> None:
    taken = threading.Event()

    def rows() -> Iterator[int]:
        for n in range(5):
            yield n
            assert taken.wait(20), "the row was kept back"
            taken.clear()

    with BatchProcessor(Probe(delay_s=0)).start(rows()) as run:
        for n, outcome in enumerate(run):
            assert outcome.index == n
            taken.set()


def test_an_iterator_is_read_in_the_callers_context() -> None:
    mine: contextvars.ContextVar[str] = contextvars.ContextVar("mine", default="unset")
    seen = []

    def rows() -> Iterator[int]:
        seen.append(mine.get())
        yield 1

    mine.set("caller's")
    with BatchProcessor(Probe(delay_s=0)).start(rows()) as run:
        assert len(list(run)) == 1
    assert seen == ["caller's"]


def test_a_generator_is_closed_and_its_thread_ends_when_the_run_is_left(eventually: Eventually) -> None:
    closed = threading.Event()

    def rows() -> Iterator[int]:
        try:
            yield from range(1_000_000)
        finally:
            closed.set()

    with BatchProcessor(Probe(delay_s=0)).start(rows()) as run:
        next(run)
    eventually(closed.is_set)
    eventually(lambda: not sources_alive())


def test_a_generator_that_blocks_while_its_run_is_left_is_closed_as_soon_as_it_lets_go(
    eventually: Eventually,
) -> None:
    blocked, go_on, closed = threading.Event(), threading.Event(), threading.Event()

    def rows() -> Iterator[int]:
        try:
            yield 0
            blocked.set()
            go_on.wait(20)
            yield from range(1, 1_000_000)
        finally:
            closed.set()

    with BatchProcessor(Probe(delay_s=0)).start(rows()) as run:
        next(run)
        assert blocked.wait(20)
    assert run.stats.finished, "leaving the run did not wait for the source"
    go_on.set()
    eventually(closed.is_set)
    eventually(lambda: not sources_alive())


def test_an_exhausted_source_leaves_no_thread(eventually: Eventually) -> None:
    with BatchProcessor(Probe(delay_s=0)).start(iter(range(50))) as run:
        assert len(list(run)) == 50
    eventually(lambda: not sources_alive())


class Trouble(BaseException):
    """Not an Exception: what Ctrl-C handlers and exits of the user's own code look like."""


@pytest.mark.parametrize("error", [OSError("the disk is gone"), SystemExit("over"), Trouble("over")])
@pytest.mark.parametrize("kind", ["list", "iterator", "async iterator"])
def test_what_a_source_raises_is_raised_after_all_that_was_read_is_done(
    kind: str, error: BaseException, eventually: Eventually
) -> None:
    class Rows(list[int]):
        def __iter__(self) -> Iterator[int]:
            yield from (1, 2, 3)
            raise error

    async def later() -> AsyncIterator[int]:
        for row in (1, 2, 3):
            yield row
        raise error

    rows: Any = {"list": Rows(), "iterator": iter(Rows()), "async iterator": later()}[kind]
    with BatchProcessor(Probe(delay_s=0)).start(rows) as run:
        outcomes, raised = read(run)
    assert sorted(outcome.index for outcome in outcomes) == [0, 1, 2]
    assert raised is error
    eventually(lambda: not sources_alive())


def test_all_rows_before_the_error_of_a_source_come_out_first() -> None:
    def rows() -> Iterator[int]:
        yield from range(300)
        raise OSError("the disk is gone")

    with BatchProcessor(Probe(delay_s=0)).start(rows()) as run:
        outcomes, raised = read(run)
    assert sorted(outcome.index for outcome in outcomes) == list(range(300))
    assert isinstance(raised, OSError)


def test_a_source_that_is_cancelled_from_within_ends_the_run_and_does_not_hang_it() -> None:
    async def rows() -> AsyncIterator[int]:
        yield 1
        raise asyncio.CancelledError("the feed was cancelled by its own code")

    async def main() -> tuple[list[Outcome], BaseException | None]:
        async with BatchProcessor(Probe()).astart(rows()) as run:
            return await aread(run)

    outcomes, raised = virtual_run(main())
    assert [outcome.index for outcome in outcomes] == [0]
    assert isinstance(raised, asyncio.CancelledError)


def test_a_generator_that_fails_while_it_is_closed_harms_nobody(
    eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    def rows() -> Iterator[int]:
        try:
            yield from range(1_000_000)
        finally:
            raise OSError("closing failed")

    async def later() -> AsyncIterator[int]:
        try:
            for n in range(1_000_000):
                yield n
        finally:
            raise OSError("closing failed")

    for source in (rows(), later()):
        with BatchProcessor(Probe(delay_s=0)).start(source) as run:
            next(run)
        assert run.stats.finished
        assert run.stats.in_flight == 0
        eventually(lambda: not sources_alive())


def test_an_async_iterator_is_closed_when_the_run_is_left() -> None:
    closed = []

    async def rows() -> AsyncIterator[int]:
        try:
            for n in range(100_000):
                yield n
        finally:
            await asyncio.sleep(0)  # closing may await
            closed.append(True)

    async def main() -> None:
        async with BatchProcessor(Probe()).astart(rows()) as run:
            await anext(run)
        assert closed == [True]

    virtual_run(main())


def test_an_async_iterator_that_waits_for_ever_is_closed_too() -> None:
    closed = []

    async def rows() -> AsyncIterator[int]:
        try:
            yield 0
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    async def main() -> None:
        async with BatchProcessor(Probe()).astart(rows()) as run:
            await anext(run)
            await asyncio.sleep(5)
        assert closed == [True]
        assert len(asyncio.all_tasks()) == 1

    virtual_run(main())


@pytest.mark.parametrize("reads", [1, 400])
def test_a_generator_is_read_no_further_ahead_than_window_and_outbox_hold(
    reads: int, eventually: Eventually
) -> None:
    read = 0

    def rows() -> Iterator[int]:
        nonlocal read
        for n in range(1_000_000):
            read = n + 1
            yield n

    chain = Probe(delay_s=0)
    with BatchProcessor(chain, concurrency=8).start(rows()) as run:
        for _ in range(reads):
            next(run)
        before = -1
        while before != read:  # until nothing moves any more
            before = read
            threading.Event().wait(0.2)
        assert read - reads < 1_300
        assert sum(chain.calls.values()) - reads <= 520


@pytest.mark.parametrize("kind", ["list", "iterator", "async iterator"])
def test_an_id_that_raises_ends_the_reading_there(kind: str) -> None:
    def function(row: int) -> int:
        if row == 5:
            raise LookupError("no such field")
        return row

    async def later() -> AsyncIterator[int]:
        for n in range(10):
            yield n

    rows: Any = {"list": list(range(10)), "iterator": iter(range(10)), "async iterator": later()}[kind]
    chain = Probe(delay_s=0)
    with BatchProcessor(chain).start(rows, ids=function) as run:
        outcomes, raised = read(run)
    assert isinstance(raised, LookupError)
    assert sorted(outcome.index for outcome in outcomes) == list(range(5))
    assert sorted(chain.calls) == list(range(5))


@pytest.mark.parametrize("count", [3_000, 10_000])
def test_a_long_list_with_priorities_starts_in_exact_order(count: int) -> None:
    chain = Probe(delay_s=0)
    rows = list(range(count))
    processor = BatchProcessor(chain, concurrency=1, priority=lambda row: row * 7919 % count)
    with processor.start(rows) as run:
        assert sum(1 for _ in run) == count
    assert chain.order == sorted(rows, key=lambda row: -(row * 7919 % count))


def test_what_is_no_source_of_rows_is_refused() -> None:
    with BatchProcessor(Probe()).start(5) as run:  # type: ignore[arg-type]
        outcomes, raised = read(run)
    assert not outcomes
    assert isinstance(raised, ConfigError)
    assert "rows must be" in str(raised)
    with pytest.raises(ConfigError, match="rows must be"):
        BatchProcessor(Probe()).plan(5)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["list", "iterator", "async iterator"])
def test_skipping_what_is_stored_is_bounded_and_leaves_the_loop_to_others(tmp_path: Path, kind: str) -> None:
    rows = 9_000
    chain = Probe(delay_s=0)

    def processor() -> BatchProcessor:
        return BatchProcessor(chain, store=tmp_path / "runs.db", run="many", fingerprint="1")

    with processor().start(range(rows)) as run:
        assert sum(1 for _ in run) == rows

    async def later() -> AsyncIterator[int]:
        for n in range(rows + 1):
            yield n

    async def main() -> tuple[list[int], int]:
        turns, over = 0, False

        async def count() -> None:
            nonlocal turns
            while not over:
                turns += 1
                await asyncio.sleep(0)

        source: Any = {"list": range(rows + 1), "iterator": iter(range(rows + 1)), "async iterator": later()}[
            kind
        ]
        counting = asyncio.create_task(count())
        async with processor().astart(source, skip_stored=True) as run:
            got = [outcome.index async for outcome in run]
            assert run.stats.stored == rows
        over = True
        await counting
        return got, turns

    got, turns = asyncio.run(main())
    assert got == [rows]
    assert turns >= 3, "the loop was held for the whole input"
    assert sum(chain.calls.values()) == rows + 1


@pytest.mark.parametrize("stop", [StopIteration, StopAsyncIteration])
@pytest.mark.parametrize("kind", ["list", "iterator", "async iterator"])
def test_an_id_that_raises_an_iterators_end_does_not_end_the_rows(kind: str, stop: type[Exception]) -> None:
    def function(row: int) -> int:
        if row == 5:
            raise stop
        return row

    async def later() -> AsyncIterator[int]:
        for n in range(10):
            yield n

    async def main() -> tuple[list[Outcome], BaseException | None]:
        async with BatchProcessor(Probe(delay_s=0)).astart(rows(), ids=function) as run:
            return await aread(run)

    def rows() -> Any:
        return {"list": list(range(10)), "iterator": iter(range(10)), "async iterator": later()}[kind]

    with BatchProcessor(Probe(delay_s=0)).start(rows(), ids=function) as run:
        endings = [read(run)]
    endings.append(virtual_run(main()))
    for outcomes, raised in endings:
        assert isinstance(raised, RuntimeError)
        assert f"row 6 (index 5): the function given for ids raised {stop.__name__}" in str(raised)
        assert isinstance(raised.__cause__, stop)
        assert sorted(outcome.index for outcome in outcomes) == list(range(5))


@pytest.mark.parametrize("return_exceptions", [False, True])
def test_batch_raises_where_a_priority_raises_an_iterators_end(return_exceptions: bool) -> None:
    def priority(row: int) -> int:
        return next(iter([] if row == 0 else [row]))

    with pytest.raises(RuntimeError, match=r"row 1 \(index 0\): the function given .* raised StopIteration"):
        BatchProcessor(Probe(delay_s=0), priority=priority).batch(
            list(range(10)), return_exceptions=return_exceptions
        )


class Short(Sequence[int]):
    """Says that it holds ten rows, and gives out but six."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: Any) -> int:
        return range(6)[index]


def test_a_sequence_that_ends_before_its_length_is_an_error_and_no_whole_run() -> None:
    with pytest.raises(RuntimeError, match="the rows ended after 6, though there were 10 of them"):
        BatchProcessor(Probe(delay_s=0)).batch(Short(), return_exceptions=True)


def test_an_async_source_that_cannot_be_opened_is_no_empty_one() -> None:
    class Closed:
        def __aiter__(self) -> Any:
            raise StopAsyncIteration

    with BatchProcessor(Probe()).start(Closed()) as run:  # type: ignore[arg-type]
        outcomes, raised = read(run)
    assert not outcomes
    assert isinstance(raised, RuntimeError)
