"""A run that is left while batches are out goes on where it was: by the same call again, nothing paid twice."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import threading
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableLambda, RunnableParallel

from cottonpalm import Budget, Cache, ConfigError, RunStopped
from cottonpalm.stores import open_store
from cottonpalm.types import pico
from tests.batchlane.chains import PROMPT, two_steps
from tests.batchlane.kit import PICO_PRICES, anthropic, batched, live, openai, rows, simple
from tests.support.batch_provider import Faults

if TYPE_CHECKING:
    from pathlib import Path

    from cottonpalm import BatchProcessor
    from tests.support.batch_provider import BatchProvider


def charged(server: BatchProvider) -> int:
    return server.charged(PICO_PRICES)


def detached(chain: Any, server: BatchProvider, folder: Path, count: int) -> RunStopped:
    with pytest.raises(RunStopped) as stopped:
        batched(chain, server, folder, detach=True).batch(rows(count))
    return stopped.value


def test_a_detached_run_submits_everything_and_the_same_call_again_collects(
    server: BatchProvider, tmp_path: Path
) -> None:
    chain = simple(server)
    wanted = live(chain).batch(rows(20))
    server.bills.clear()
    server.faults = Faults(looks=10**6)
    stopped = detached(chain, server, tmp_path, 20)
    assert (stopped.reason, len(server.jobs)) == ("detached", 1)
    for job in server.jobs.values():
        job.faults = Faults(looks=1)
    assert batched(chain, server, tmp_path).batch(rows(20)) == wanted
    assert (len(server.jobs), len(server.bills), server.paid_twice()) == (1, 20, {})


def test_a_detached_chain_of_two_steps_takes_one_call_for_each_step(
    server: BatchProvider, tmp_path: Path
) -> None:
    chain = two_steps(openai(server))
    wanted = [message.content for message in live(chain).batch(rows(6))]
    server.bills.clear()
    server.faults = Faults(looks=10**6)
    for _ in range(2):
        detached(chain, server, tmp_path, 6)
        for job in server.jobs.values():
            job.faults = Faults(looks=1)
    found = batched(chain, server, tmp_path).batch(rows(6))
    assert [message.content for message in found] == wanted
    assert {bill.lane for bill in server.bills} == {"batch"}
    assert (len(server.jobs), server.paid_twice()) == (2, {})


class _Meeting:
    """Rows 0 and 1 run at once; row 1 asks only when row 0 has its answer, so when their batch is over."""

    def __init__(self) -> None:
        self.second_is_here, self.first_is_answered = asyncio.Event(), asyncio.Event()
        self.begun = False

    async def arrive(self, row: dict[str, str]) -> dict[str, str]:
        if self.begun and row["text"] == "row 1":
            self.second_is_here.set()
            await self.first_is_answered.wait()
        if self.begun:
            await self.second_is_here.wait()
        return row

    async def leave(self, said: str) -> str:
        self.first_is_answered.set()
        return said


def test_a_row_whose_batch_ends_while_it_is_on_its_way_to_ask_is_answered_by_it_and_not_asked_live(
    server: BatchProvider, tmp_path: Path
) -> None:
    meeting = _Meeting()
    chain = RunnableLambda(meeting.arrive) | simple(server) | RunnableLambda(meeting.leave)
    server.faults = Faults(looks=10**6)

    async def life(**more: Any) -> list[str]:
        async with batched(chain, server, tmp_path, **more).astart(rows(2)) as run:
            return [outcome.status async for outcome in run]

    with pytest.raises(RunStopped):
        asyncio.run(life(detach=True))
    for job in server.jobs.values():
        job.faults = Faults(looks=1)
    meeting.begun = True
    assert asyncio.run(life()) == ["ok", "ok"]
    assert ([bill.lane for bill in server.bills], server.paid_twice()) == (["batch", "batch"], {})


def test_a_branch_that_comes_late_to_its_request_goes_into_a_later_batch(
    server: BatchProvider, tmp_path: Path
) -> None:
    came = 0

    async def late(row: dict[str, str]) -> dict[str, str]:
        nonlocal came
        came += 1
        if came == 1:
            await asyncio.Event().wait()
        return {"text": f"late {row['text']}"}

    chain = RunnableParallel(one=simple(server), two=RunnableLambda(late) | simple(server))
    batched(chain, server, tmp_path).batch(rows(1))
    assert [bill.lane for bill in server.bills] == ["batch", "batch"]


def test_a_run_that_is_stopped_while_a_batch_is_out_ends_at_once_and_goes_on_later(
    server: BatchProvider, tmp_path: Path
) -> None:
    server.faults = Faults(looks=10**6)
    chain = simple(server)

    async def main() -> None:
        async with batched(chain, server, tmp_path).astart(rows(10)) as run:
            while not server.jobs:
                await asyncio.sleep(0.01)
            run.stop()
            with pytest.raises(RunStopped, match="the same call again does the rest"):
                [outcome async for outcome in run]

    asyncio.run(main())
    for job in server.jobs.values():
        job.faults = Faults(looks=1)
    assert len(batched(chain, server, tmp_path).batch(rows(10))) == 10
    assert (len(server.jobs), len(server.bills)) == (1, 10)


def test_a_stopped_run_ends_at_once_though_a_row_with_an_answer_waits_for_money_that_a_batch_holds(
    server: BatchProvider, tmp_path: Path
) -> None:
    """Its answer is kept, and asked of nobody again."""
    chain = two_steps(openai(server, max_tokens=60))

    def end() -> None:
        for job in server.jobs.values():
            job.faults = Faults()

    def script(number: int, _: int) -> Faults:
        if number == 1:
            run.stop()
        return Faults(looks=10**6) if number else Faults()

    server.script = script
    hangs = threading.Timer(20, end)
    hangs.start()
    processor = batched(chain, server, tmp_path, budget=Budget(total=0.0016))
    with processor.start(rows(4)) as run, pytest.raises(RunStopped) as stopped:
        assert {outcome.status for outcome in run} == {"skipped"}
    hangs.cancel()
    assert (stopped.value.reason, [len(job.rows) for job in server.jobs.values()]) == ("interrupted", [4, 3])
    assert {job.end for job in server.jobs.values()} == {"done", ""}
    server.script = None
    end()
    assert len(batched(chain, server, tmp_path, budget=Budget(total=0.01)).batch(rows(4))) == 4
    assert (len(server.bills), server.paid_twice()) == (8, {})


@pytest.mark.parametrize("mode", ["batch", "live"])
@pytest.mark.parametrize("order", [1, -1])
def test_a_batch_that_is_out_is_taken_before_a_run_without_money_stops(
    server: BatchProvider, tmp_path: Path, order: int, mode: str
) -> None:
    """Also where rows that nothing was paid for come first. The budget was lowered meanwhile."""
    chain = simple(server)
    server.faults = Faults(looks=10**6)
    enough = Budget(total=0.002, max_output_tokens=50)  # for six at once
    stopped = batched(chain, server, tmp_path, detach=True, budget=enough).batch(
        rows(12), return_exceptions=True
    )
    assert len(stopped) == 12
    for job in server.jobs.values():
        job.faults = Faults(looks=2)
    for _ in range(2):
        budget = Budget(total=0.0001, max_output_tokens=50)
        processor = batched(chain, server, tmp_path, budget=budget, mode=mode)
        answers = processor.batch(rows(12)[::order], return_exceptions=True)
        run = processor.last_run
        assert run is not None
        assert run.stopped is not None
        assert run.stopped.reason == "budget"
        assert sum(isinstance(answer, str) for answer in answers) == 6
    server.faults = Faults()
    more = Budget(total=0.1, max_output_tokens=50)
    assert len(batched(chain, server, tmp_path, budget=more).batch(rows(12))) == 12
    assert (len(server.bills), server.paid_twice()) == (12, {})


def test_a_detached_run_without_money_leaves_while_a_batch_is_out(
    server: BatchProvider, tmp_path: Path
) -> None:
    chain, said = simple(server), list[str]()
    server.faults = Faults(looks=10**6)
    for total in (0.002, 0.0001, 0.0001):
        if said:
            for job in server.jobs.values():
                job.faults = Faults(looks=10**6 if len(said) == 1 else 1)
        processor = batched(
            chain, server, tmp_path, detach=True, budget=Budget(total=total, max_output_tokens=50)
        )
        processor.batch(rows(12), return_exceptions=True)
        run = processor.last_run
        assert run is not None
        assert run.stopped is not None
        said.append(run.stopped.reason)
    assert (said, run.stats.ok) == (["detached", "detached", "budget"], 6)


def test_money_for_a_batch_that_is_out_is_set_aside_and_settled_to_the_token(
    server: BatchProvider, tmp_path: Path
) -> None:
    chain, budget = simple(server), Budget(total=5.0, max_output_tokens=100)
    server.faults = Faults(looks=10**6)
    with pytest.raises(RunStopped):
        batched(chain, server, tmp_path, detach=True, budget=budget).batch(rows(8))
    for job in server.jobs.values():
        job.faults = Faults(looks=1)
    processor = batched(chain, server, tmp_path, budget=Budget(total=5.0, max_output_tokens=100))
    processor.batch(rows(8))
    run = processor.last_run
    assert run is not None
    assert (pico(run.stats.reported_usd), pico(run.stats.uncertain_usd)) == (charged(server), 0)
    assert pico(run.stats.budget_left_usd) == 5 * 10**12 - charged(server)


def test_a_detached_run_leaves_where_the_budget_lets_no_more_out_and_the_same_calls_do_the_rest(
    server: BatchProvider, tmp_path: Path
) -> None:
    chain, said = simple(server), list[str]()
    server.script = lambda number, _: Faults(looks=3)
    budget = Budget(total=0.002, max_output_tokens=50)  # for six at once
    for _ in range(30):
        processor = batched(chain, server, tmp_path, detach=True, budget=budget)
        answers = processor.batch(rows(12), return_exceptions=True)
        left = next((str(one) for one in answers if isinstance(one, RunStopped)), None)
        if left is None:
            break
        said.append(left)
    assert "6 requests are out in 1 batch, and the budget lets no more out until one is over" in said[0]
    assert [str(answer) for answer in answers] == [f"answer to: About: row {n}" for n in range(12)]
    assert (len(server.bills), server.paid_twice()) == (12, {})


class _Through:
    """Passes everything on to what it stands before."""

    def __init__(self, real: Any) -> None:
        self.real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


class _SlowStore(_Through):
    """A store that has written down the end of a batch, and is slow to say so."""

    def __init__(self, real: Any) -> None:
        super().__init__(real)
        self.written, self.says_so = threading.Event(), threading.Event()

    def open_run(self, *args: Any, **more: Any) -> Any:
        run, book = _Through(self.real.open_run(*args, **more)), _Through(None)

        def close(batch: Any) -> int:
            left: int = book.real.close(batch)
            self.written.set()
            assert self.says_so.wait(10)
            return left

        def made() -> Any:
            book.real = run.real.book()
            return book

        book.close, run.book = close, made  # type: ignore[attr-defined]
        return run


def test_a_batch_that_was_written_down_as_over_when_the_run_was_left_is_paid_for_in_its_sums(
    server: BatchProvider, tmp_path: Path
) -> None:
    chain = simple(server)
    with contextlib.closing(open_store(tmp_path / "s.db")) as real:
        store = _SlowStore(real)
        budget = Budget(total=5.0, max_output_tokens=100)
        with batched(chain, server, tmp_path, store=store, budget=budget).start(rows(8)):
            assert store.written.wait(10)
            threading.Timer(0.2, store.says_so.set).start()
        assert [batch.stage for batch in real.batches("r")] == ["collected"]
    processor = batched(chain, server, tmp_path, budget=Budget(total=5.0, max_output_tokens=100))
    assert len(processor.batch(rows(8))) == 8
    run = processor.last_run
    assert run is not None
    assert (len(server.jobs), len(server.bills)) == (1, 8)
    assert pico(run.stats.budget_left_usd) == 5 * 10**12 - charged(server)


def test_a_budget_that_cannot_hold_all_rows_stops_before_they_are_submitted(
    server: BatchProvider, tmp_path: Path
) -> None:
    budget = Budget(total=0.0008, max_output_tokens=100)
    with pytest.raises(RunStopped) as stopped:
        batched(simple(server), server, tmp_path, budget=budget).batch(rows(40))
    assert stopped.value.reason == "budget"
    assert charged(server) <= int(0.0008 * 10**12)


def test_the_lane_without_a_store_is_refused_with_what_to_do(server: BatchProvider, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs store= and run="):
        batched(simple(server), server, tmp_path, store=None, run=None)


def processor_of(server: BatchProvider, folder: Path) -> BatchProcessor:
    return batched(simple(server), server, folder)


def killed(folder: Path) -> None:
    """Keep what a process that is killed now leaves."""
    (folder / "killed").mkdir()
    for file in folder.glob("s.db*"):
        shutil.copy(file, folder / "killed")


def test_what_is_out_is_leased_while_a_later_process_waits_for_it(
    server: BatchProvider, tmp_path: Path
) -> None:
    """Killed as a batch is over and its cost not stored yet, what was paid for it was in no sum."""
    chain, budget = simple(server, max_tokens=50), Budget(total=1)
    server.faults = Faults(looks=10**6)
    with pytest.raises(RunStopped):
        batched(chain, server, tmp_path, budget=budget, detach=True).batch(rows(8))
    looked = threading.Event()
    with batched(chain, server, tmp_path, budget=Budget(total=1)).start(rows(8)) as run:
        server.watch(3, looked.set)
        assert looked.wait(60)
        killed(tmp_path)
        for job in server.jobs.values():
            job.faults = Faults(looks=1)
        assert {outcome.status for outcome in run} == {"ok"}
    store = open_store(tmp_path / "killed" / "s.db")
    left = store.open_run("r", None)
    [batch] = left.book().batches()  # type: ignore[attr-defined]
    assert left.spent().leased >= batch.reserved > charged(server)
    left.close()
    store.close()


def test_a_kill_before_anything_is_sent_costs_nothing(server: BatchProvider, tmp_path: Path) -> None:
    """All that rows set aside as they were taken down counted as spent: a run could be over without a request."""
    seen = list[Any]()

    def step(row: Any) -> Any:
        seen.append(row)
        if len(seen) == 40:
            killed(tmp_path)
        return row

    chain = RunnableLambda(step) | simple(server, max_tokens=50)
    batched(chain, server, tmp_path, budget=Budget(total=1)).batch(rows(60))
    store = open_store(tmp_path / "killed" / "s.db")
    left = store.open_run("r", None)
    assert (left.spent().uncertain, left.spent().leased) == (0, 0)
    left.close()
    store.close()


def test_what_stopped_the_run_for_all_rows_is_not_held_against_those_of_the_next_call(
    server: BatchProvider, tmp_path: Path
) -> None:
    """Each call after the key was mended ended at once, at the next few rows that the old key had been refused."""
    chain, count = PROMPT | anthropic(server) | StrOutputParser(), 200  # more than go on at a time
    server.faults = Faults(all_refused=True, refused_as=401)
    with pytest.raises(RunStopped) as stopped:
        batched(chain, server, tmp_path).batch(rows(count))
    assert (stopped.value.reason, server.bills) == ("fatal", [])
    server.faults = Faults()
    found = batched(chain, server, tmp_path).batch(rows(count))
    assert found == [f"answer to: About: {row['text']}" for row in rows(count)]
    assert (len(server.jobs), len(server.bills), server.paid_twice()) == (2, count, {})


def test_a_row_whose_request_is_out_goes_before_its_equals_so_that_none_of_them_asks_it_again(
    server: BatchProvider, tmp_path: Path
) -> None:
    equal, first = [{"text": "row 0"}, {"text": "row 1"}, {"text": "row 0"}], [0.0, 1.0, 2.0]

    def processor(**more: Any) -> BatchProcessor:
        return batched(simple(server), server, tmp_path, cache=Cache(path=tmp_path / "c.db"), **more)

    server.faults = Faults(looks=10**6)
    with pytest.raises(RunStopped):
        processor(detach=True).batch(equal, priorities=first)
    for job in server.jobs.values():
        job.faults = Faults(looks=1)
    server.faults = Faults(looks=1)
    answers = processor().batch(equal, priorities=first)
    assert answers == ["answer to: About: row 0", "answer to: About: row 1", "answer to: About: row 0"]
    assert (len(server.jobs), server.paid_twice()) == (1, {})
