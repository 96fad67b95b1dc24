"""A signal handler that raises, as soft timeouts of Airflow and Celery do, beside a run on the caller's own loop."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor
from cottonpalm.testing import FlakyTransport, ScriptedChain
from tests.engine.helpers import Probe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cottonpalm.types import Outcome

pytestmark = [pytest.mark.core, pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")]
ROWS = [f"row {number}" for number in range(4)]


class TimeIsUpError(Exception):
    """What the handler raises."""


@pytest.fixture(autouse=True)
def _raises() -> Iterator[None]:
    def handler(*_: Any) -> None:
        raise TimeIsUpError

    before = signal.signal(signal.SIGUSR1, handler)
    yield
    signal.signal(signal.SIGUSR1, before)


def ours() -> list[str]:
    """The threads of cottonpalm."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("cottonpalm-")]


async def read(processor: BatchProcessor) -> list[Outcome]:
    async with processor.astart(ROWS) as run:
        return [outcome async for outcome in run]


def test_while_the_run_is_opened_it_leaves_neither_a_lease_nor_a_thread(tmp_path: Path) -> None:
    """The exception leaves `asyncio.run` from the loop itself, which then cancels all tasks."""
    store = tmp_path / "a.db"
    BatchProcessor(ScriptedChain(then=str), store=store, run="before").batch(["makes the store"])
    before = ours()

    def signal_in_time(busy: sqlite3.Connection) -> None:
        main_thread = threading.main_thread().ident or 0
        while (
            "cottonpalm-writer" not in ours() or sys._current_frames()[main_thread].f_code.co_name != "select"
        ):
            left.wait(0.01)
        os.kill(os.getpid(), signal.SIGUSR1)
        left.wait(20)
        busy.rollback()

    left = threading.Event()

    async def main(processor: BatchProcessor) -> None:
        try:
            await read(processor)
        finally:
            left.set()

    with closing(sqlite3.connect(store, check_same_thread=False, isolation_level=None)) as busy:
        busy.execute("BEGIN IMMEDIATE")
        thread = threading.Thread(target=signal_in_time, args=[busy])
        thread.start()
        processor = BatchProcessor(ScriptedChain(then=str), store=store, run="night")
        with pytest.raises(TimeIsUpError):
            asyncio.run(main(processor))
        thread.join()
    assert sorted(ours()) == sorted(before)
    assert [outcome.status for outcome in asyncio.run(read(processor))] == ["ok"] * len(ROWS)


def once(answer: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A signal comes while the first row is answered."""
    signals = [signal.SIGUSR1]

    def then(row: Any) -> Any:
        if signals:
            signal.raise_signal(signals.pop())
        return answer(row)

    return then


def ends_the_run_but_no_row(processor: BatchProcessor, main: Callable[[BatchProcessor], Any] = read) -> None:
    with pytest.raises(TimeIsUpError):
        asyncio.run(main(processor))
    assert [outcome.status for outcome in asyncio.run(read(processor))] == ["ok"] * len(ROWS)


def test_in_the_code_of_a_row_it_is_raised_to_the_reader_and_no_row_fails(tmp_path: Path) -> None:
    """It was stored as the row's own failure, for good."""
    chain = ScriptedChain(then=once(str))
    ends_the_run_but_no_row(BatchProcessor(chain, store=tmp_path / "a.db", run="night"))


def test_in_a_request_too_which_the_sdk_would_send_again(tmp_path: Path) -> None:
    transport = FlakyTransport(then=once(lambda _: "fine"))
    model = ChatOpenAI(
        model="gpt-4o-mini", api_key="sk-no-key", http_async_client=httpx.AsyncClient(transport=transport)
    )
    ends_the_run_but_no_row(BatchProcessor(model, store=tmp_path / "a.db", run="night"))


def test_in_a_callback_of_the_loop_too_which_would_only_note_it(tmp_path: Path) -> None:
    """The row that was to start was lost, and the run waited for it."""

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **how: Any) -> asyncio.Task[Any]:
        """A signal comes while the task of the first row is made, once the run goes on."""
        if coro.__name__ == "_work":
            coro.close()
            signal.raise_signal(signal.SIGUSR1)
        return asyncio.Task(coro, loop=loop, **how)

    async def main(processor: BatchProcessor) -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        async with processor.astart(ROWS) as run:
            run.pause()
            asyncio.get_running_loop().call_later(0.01, run.resume)
            async for _ in run:
                pass

    ends_the_run_but_no_row(BatchProcessor(Probe(), store=tmp_path / "a.db", run="night"), main)
