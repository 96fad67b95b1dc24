"""A signal handler that raises, as soft timeouts of Airflow and Celery do, beside a run on the caller's own loop."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from cottonpalm import BatchProcessor
from cottonpalm.testing import ScriptedChain

if TYPE_CHECKING:
    from collections.abc import Iterator
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
        opening.wait(20)
        os.kill(os.getpid(), signal.SIGUSR1)
        left.wait(20)
        busy.rollback()

    opening, left = threading.Event(), threading.Event()

    async def main(processor: BatchProcessor) -> None:
        asyncio.get_running_loop().call_later(0.1, opening.set)  # the opening waits for the file by then
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
