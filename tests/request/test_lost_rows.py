"""Which row a request belongs to: through everything that copies the context, and what happens where it is lost."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.runnables import RunnableLambda

from cottonpalm.request import active_runs
from tests.request.kit import a_run, all_rows, in_flight, one, openai
from tests.support.loopback import Loopback
from tests.support.replies import fails

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cottonpalm.request.run_account import RunAccount

pytestmark = pytest.mark.core


@contextmanager
def under_way(*runs: RunAccount) -> Iterator[None]:
    for run in runs:
        active_runs.begin(run)
    try:
        yield
    finally:
        for run in runs:
            active_runs.end(run)


def by_executor(model: Any, texts: list[str]) -> list[Any]:
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(model.invoke, texts))


def by_thread(model: Any, texts: list[str]) -> list[Any]:
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda text=text: answers.append(model.invoke(text))) for text in texts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


TEXTS = [f"text {n}" for n in range(6)]


@pytest.mark.parametrize("spread", [by_executor, by_thread])
def test_requests_of_lost_threads_keep_the_limit_of_the_only_run(spread: Any, caplog: Any) -> None:
    async def main() -> None:
        with Loopback(script=[fails(500)], latency=0.004) as server:
            async with openai(server) as model:
                run = a_run(2)
                with under_way(run):
                    chain = RunnableLambda(lambda _: spread(model, TEXTS))
                    result, row = await one(run, 0, lambda: chain.ainvoke("go"))
                    shadow = active_runs.shadow_row()
                assert len(result) == 6
                assert server.requests == 7, "the first was tried again"
                assert server.peak <= 2
                assert in_flight(run) == 0
                assert row.attempts == 0
                assert shadow is not None
                assert shadow.attempts == 7
                assert shadow.usage is not None

    asyncio.run(main())
    assert sum("does not know its row" in record.message for record in caplog.records) == 1


def test_a_lost_row_in_run_in_executor_keeps_the_limit() -> None:
    async def main() -> None:
        with Loopback(latency=0.004) as server:
            async with openai(server) as model:
                run = a_run(2)

                async def spread() -> Any:
                    loop = asyncio.get_running_loop()
                    calls = [loop.run_in_executor(None, model.invoke, text) for text in TEXTS]
                    return [await call for call in calls]

                with under_way(run):
                    await one(run, 0, spread)
                assert server.requests == 6
                assert server.peak <= 2

    asyncio.run(main())


def test_with_two_live_runs_a_lost_request_passes_uncounted() -> None:
    async def main() -> None:
        with Loopback() as server:
            async with openai(server) as model:
                first, second = a_run(1), a_run(1)
                with under_way(first, second):
                    _, row = await one(
                        first, 0, lambda: RunnableLambda(lambda _: by_thread(model, TEXTS)).ainvoke("")
                    )
                assert server.requests == 6
                assert row.attempts == 0
                assert first.flow.grain == second.flow.grain == "row" or second.flow.grain == "unknown"

    asyncio.run(main())


def test_after_the_run_a_request_without_a_row_is_nobodys() -> None:
    async def main() -> None:
        with Loopback() as server:
            async with openai(server) as model:
                run = a_run(1)
                with under_way(run):
                    pass
                await model.ainvoke("free")
                assert server.requests == 1
                assert active_runs.shadow_row() is None
                assert run.flow.grain == "unknown"

    asyncio.run(main())


def test_rows_side_by_side_count_their_own_requests() -> None:
    async def main() -> None:
        with Loopback(latency=0.002) as server:
            async with openai(server) as model:

                async def many(n: int) -> None:
                    async with asyncio.TaskGroup() as group:
                        for k in range(n):
                            group.create_task(model.ainvoke(f"row {n} {k}"))
                        group.create_task(asyncio.to_thread(model.invoke, f"row {n} thread"))

                run = a_run(3)
                results = await all_rows(run, [lambda n=n: many(n) for n in range(6)])
                assert [row.attempts for _, row in results] == [n + 1 for n in range(6)]
                assert server.peak <= 3

    asyncio.run(main())
