"""An event loop that its user closes under a run: nothing of the run is held any more, and the next one goes on."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor, Budget, Cache, RunStopped
from cottonpalm.engine.shared import ledger_of
from cottonpalm.stores import MemoryStore
from cottonpalm.testing import virtual_run
from cottonpalm.types import pico
from tests.engine.cancels import closed_run, left_behind
from tests.engine.helpers import double
from tests.support import replies
from tests.support.loopback import Loopback

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

    from tests.conftest import Eventually

pytestmark = pytest.mark.core
ROWS = [f"row {n}" for n in range(12)]
RIGHT = [f"answer to: {row}" for row in ROWS]


def model(server: Loopback, **more: Any) -> ChatOpenAI:
    return ChatOpenAI(
        base_url=server.openai_url, api_key="sk-0123456789", model="gpt-4o-mini", max_tokens=50, **more
    )


def text(server: Loopback) -> Any:
    return model(server) | StrOutputParser()


def holds(processor: BatchProcessor) -> tuple[int, int]:
    """Permits in flight, and requests in line."""
    many = [one for some in processor._builder.accounts._limiters.values() for one in some]
    return sum(one.in_flight for one in many), sum(one.waiting for one in many)


def close_under(main: Coroutine[Any, Any, Any], when: Callable[[], object]) -> None:
    """Drive a loop by hand until it is time, and close it with its tasks pending."""

    async def wait() -> None:
        async with asyncio.timeout(30):
            while not when():
                await asyncio.sleep(0.002)

    loop = asyncio.new_event_loop()
    task = loop.create_task(main)
    loop.run_until_complete(wait())
    assert not task.done()
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio would complain of our abuse
    loop.close()
    for thread in threading.enumerate():  # `close` itself waits for it, but only for seconds
        if thread.name == "cottonpalm-closed-loop":
            thread.join(60)


def both_ways(processor: BatchProcessor, rows: list[Any], right: list[Any]) -> None:
    """The next runs, on the bridge and on a new loop; then the collector may find what is left of the closed one."""
    assert processor.batch(rows) == right
    assert asyncio.run(processor.abatch(rows)) == right
    gc.collect()
    assert holds(processor) == (0, 0)


def test_requests_on_the_wire_give_their_permits_back() -> None:
    with Loopback(script=lambda _: replies.held()) as server:
        processor = BatchProcessor(text(server), concurrency=4)
        close_under(processor.abatch(ROWS), lambda: server.in_flight == 4)
        assert holds(processor) == (0, 0)
        server.script(None)
        both_ways(processor, ROWS, RIGHT)


def test_requests_in_line_and_those_of_tasks_that_rows_have_started_give_their_places_back() -> None:
    with Loopback(script=lambda _: replies.held()) as server:
        processor = BatchProcessor(RunnableParallel(one=text(server), two=text(server)), concurrency=3)
        close_under(processor.abatch(ROWS), lambda: server.in_flight == 3 and holds(processor)[1])
        assert holds(processor) == (0, 0)
        server.script(None)
        both_ways(processor, ROWS, [{"one": answer, "two": answer} for answer in RIGHT])


def test_money_on_the_wire_stays_booked_as_uncertain_and_whoever_waits_for_money_leaves_the_line() -> None:
    with Loopback(script=lambda _: replies.held()) as server:
        budget = Budget(total=0.001)
        processor = BatchProcessor(text(server), budget=budget, prices={"*": (1, 2)}, concurrency=100)
        ledger = ledger_of(budget)
        assert ledger is not None
        close_under(processor.abatch(ROWS), lambda: ledger.waiting and server.in_flight == ledger.in_flight)
        assert processor.last_run is not None
        stats = processor.last_run.stats
        assert (ledger.reserved, ledger.waiting, holds(processor)) == (0, 0, (0, 0))
        assert pico(stats.uncertain_usd) == ledger.spent > 0.0005 * 10**12
        assert pico(stats.reported_usd) == 0
        server.script(None)
        budget.total = 1.0
        both_ways(processor, ROWS, RIGHT)
        assert ledger.reserved == 0


def test_equal_rows_of_other_runs_do_not_wait_for_one_that_nobody_asks_any_more() -> None:
    with Loopback(script=lambda _: replies.held()) as server:
        processor = BatchProcessor(text(server), cache=Cache())
        rows = ["the same"] * 6
        close_under(processor.abatch(rows), lambda: server.in_flight == 1)
        assert holds(processor) == (0, 0)
        server.script(None)
        both_ways(processor, rows, ["answer to: the same"] * 6)
        assert server.counts == {"the same": 2}


@pytest.mark.parametrize("rows", [ROWS, iter(ROWS)], ids=["list", "iterator"])
def test_the_run_in_the_store_is_free_for_the_next_and_what_was_answered_is_kept(
    tmp_path: Path, rows: Any
) -> None:
    with Loopback(script=lambda request: None if request.seq < 3 else replies.held()) as server:
        processor = BatchProcessor(text(server), store=tmp_path / "runs.db", run="closed", concurrency=4)

        async def read() -> None:
            async with processor.astart(rows) as run:
                async for _ in run:
                    pass

        close_under(read(), lambda: server.in_flight == 4)
        server.script(None)
        both_ways(processor, ROWS, RIGHT)
        assert sorted(server.counts.values()) == [1] * 8 + [2] * 4


class SlowToOpen:
    """A store that takes its time."""

    def __init__(self) -> None:
        self.asked, self.goes_on, self.within = threading.Event(), threading.Event(), MemoryStore()

    def open_run(self, *args: Any, **more: Any) -> Any:
        self.asked.set()
        self.goes_on.wait(30)
        return self.within.open_run(*args, **more)


def test_a_run_that_was_still_being_opened_is_let_go(eventually: Eventually) -> None:
    store: Any = SlowToOpen()
    processor = BatchProcessor(double(), store=store, run="slow")
    close_under(processor.abatch([1, 2]), store.asked.is_set)
    store.goes_on.set()
    eventually(lambda: [run.holder for run in store.within.runs()] == [None])
    assert processor.batch([1, 2]) == [2, 4]


def test_rows_of_runs_inside_rows_and_of_an_async_source_end_too() -> None:
    with Loopback(script=lambda _: replies.held()) as server:
        inner = BatchProcessor(text(server), concurrency=2)

        async def source(row: str) -> AsyncIterator[str]:
            for step in "ab":
                yield f"{row} {step}"
                await asyncio.sleep(0)

        async def step(row: str) -> list[Any]:
            async with inner.astart(source(row)) as run:
                return sorted([outcome.output async for outcome in run])

        outer = BatchProcessor(RunnableLambda(step), concurrency=3)
        close_under(outer.abatch(ROWS), lambda: server.in_flight == 2 and holds(inner)[1])
        assert (holds(inner), holds(outer)) == ((0, 0), (0, 0))
        server.script(None)
        both_ways(outer, ROWS, [[f"{answer} a", f"{answer} b"] for answer in RIGHT])
        assert holds(inner) == (0, 0)


def test_a_loop_may_be_closed_from_within_another() -> None:
    with Loopback(script=lambda _: replies.held()) as server:
        processor = BatchProcessor(text(server), concurrency=2)

        async def main() -> list[Any]:
            await asyncio.to_thread(drive)
            loop.close()
            server.script(None)
            return await processor.abatch(ROWS)

        def drive() -> None:
            while server.in_flight < 2:
                loop.run_until_complete(asyncio.sleep(0.002))

        loop = asyncio.new_event_loop()
        task = loop.create_task(processor.abatch(ROWS))
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio would complain of our abuse
        assert asyncio.run(main()) == RIGHT
        assert holds(processor) == (0, 0)


def test_a_batch_that_waits_already_goes_on() -> None:
    with Loopback(script=lambda _: replies.held()) as server:
        processor = BatchProcessor(text(server), concurrency=2)
        answers: list[Any] = []
        second = threading.Thread(target=lambda: answers.extend(processor.batch(ROWS)), daemon=True)

        def waits() -> bool:
            if server.in_flight == 2 and not second.ident:
                second.start()
            return holds(processor)[1] > 0

        close_under(processor.abatch(["a", "b"]), waits)
        server.script(None)
        server.release()
        second.join(30)
        assert answers == RIGHT
        assert holds(processor) == (0, 0)


def test_a_single_call_and_a_stream_end_with_their_loop() -> None:
    with Loopback(script=lambda _: replies.stalls()) as server:
        processor = BatchProcessor(text(server), concurrency=1)

        async def read() -> None:
            async for _ in processor.astream("a stream"):
                pass

        close_under(read(), lambda: server.in_flight and holds(processor)[0])
        assert holds(processor) == (0, 0)
        server.script(lambda _: replies.held())
        close_under(processor.ainvoke("a call"), lambda: server.counts.get("a call"))
        assert holds(processor) == (0, 0)
        server.script(None)
        both_ways(processor, ROWS, RIGHT)


def test_a_chain_on_threads_gives_back_what_it_holds_when_its_thread_is_done(eventually: Eventually) -> None:
    with Loopback(script=lambda _: replies.held()) as server:
        inner = text(server)
        processor = BatchProcessor(RunnableLambda(inner.invoke), concurrency=2)
        close_under(processor.abatch(ROWS), lambda: server.in_flight == 2)
        server.script(None)
        server.release()
        eventually(lambda: holds(processor) == (0, 0))
        both_ways(processor, ROWS, RIGHT)


def test_a_loop_that_is_merely_stopped_goes_on_later() -> None:
    with Loopback(script=lambda _: replies.held()) as server:
        processor = BatchProcessor(text(server), concurrency=4)
        loop = asyncio.new_event_loop()
        task = loop.create_task(processor.abatch(ROWS))
        while server.in_flight < 4:
            loop.run_until_complete(asyncio.sleep(0.002))
        gc.collect()
        assert holds(processor)[0] == 4
        server.script(None)
        server.release()
        assert loop.run_until_complete(task) == RIGHT
        loop.close()


def test_whoever_reads_on_is_told_why_the_run_ended() -> None:
    with Loopback(script=lambda request: None if request.seq < 2 else replies.held()) as server:
        run = BatchProcessor(text(server), concurrency=2).astart(ROWS)

        async def begin() -> None:
            async with asyncio.timeout(30):
                await anext(run)

        async def read() -> list[Any]:
            return [outcome async for outcome in run]

        loop = asyncio.new_event_loop()
        loop.run_until_complete(begin())
        loop.close()
        with pytest.raises(RunStopped, match="its event loop was closed"):
            asyncio.run(read())


@pytest.mark.parametrize("seed", range(20))
def test_a_loop_closed_after_a_random_step_leaves_nothing_behind_and_the_next_run_does_the_rest(
    seed: int,
) -> None:
    trial, steps = closed_run(seed)
    assert not left_behind(trial.left()), (steps, trial.left())
    trial.budget.total = 1.0
    answers = virtual_run(trial.processor.abatch(trial.rows, return_exceptions=True), seed)
    assert len(answers) == len(trial.rows)
    assert not any(isinstance(answer, RunStopped) for answer in answers)
    gc.collect()
    assert not left_behind(trial.left()), trial.left()
