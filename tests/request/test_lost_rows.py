"""Which row a request belongs to: through everything that copies the context, and what happens where it is lost."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import openai as openai_sdk
import pytest
from langchain_core.runnables import RunnableLambda

from cottonpalm.providers import BudgetReached
from cottonpalm.request import active_runs
from cottonpalm.request.money.ledger import Ledger
from cottonpalm.request.money.rules.amounts import Amounts
from cottonpalm.request.money.rules.prices import PriceBook
from cottonpalm.types import PICO, Verdict
from tests.request.kit import MODEL, a_run, all_rows, in_flight, one, openai
from tests.support.loopback import Loopback
from tests.support.replies import bad_key, fails, ok

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

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


def in_a_thread_of_its_own(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """A loop that a run may have made itself: its thread is younger than the run."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: asyncio.run(main())).result()


TEXTS = [f"text {n}" for n in range(6)]


@pytest.mark.parametrize("spread", [by_executor, by_thread])
def test_requests_of_lost_threads_keep_the_limit_of_the_only_run(spread: Any, caplog: Any) -> None:
    async def main() -> None:
        with Loopback(latency=0.004) as server:
            async with openai(server) as model:
                run = a_run(2)
                with under_way(run):
                    await one(run, 0, lambda: RunnableLambda(model.invoke).ainvoke("seen"))
                    server.script([fails(500)])
                    chain = RunnableLambda(lambda _: spread(model, TEXTS))
                    result, row = await one(run, 1, lambda: chain.ainvoke("go"))
                    shadow = active_runs.shadow_row(model.http_client)
                assert len(result) == 6
                assert server.requests == 8, "the first of the lost ones was tried again"
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
                    await one(run, 0, lambda: asyncio.to_thread(model.invoke, "seen"))
                    await one(run, 1, spread)
                assert server.requests == 7
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
                assert (first.flow.grain, second.flow.grain) == ("row", "unknown")

    asyncio.run(main())


def test_a_request_of_another_part_of_the_process_is_not_the_runs() -> None:
    async def main() -> None:
        with Loopback() as server:
            async with openai(server) as of_the_run, openai(server) as of_a_web_handler:
                run = a_run(1)
                with under_way(run):
                    await one(run, 0, lambda: of_the_run.ainvoke("row"))
                    held = next(iter(run.flow.seen())).force()  # the run's limit is used up
                    assert (await of_a_web_handler.ainvoke("page")).content == "answer to: page"
                    await asyncio.to_thread(of_a_web_handler.invoke, "page")
                    held.limiter.release(held, Verdict.IGNORED)
                assert server.requests == 3
                assert run.allowance.requests == 1

    asyncio.run(main())


def test_an_awaited_request_beside_the_run_is_not_the_runs_though_it_shares_the_client() -> None:
    """LangChain's integrations share one client per address; a task of the run would know its row."""

    async def main() -> None:
        with Loopback() as server:
            async with openai(server) as model:
                run = a_run(1)
                with under_way(run):
                    await one(run, 0, lambda: model.ainvoke("row"))
                    held = next(iter(run.flow.seen())).force()  # the run's limit is used up
                    assert (await model.ainvoke("page")).content == "answer to: page"
                    assert [piece async for piece in model.astream("page")]
                    held.limiter.release(held, Verdict.IGNORED)
                assert (server.requests, run.allowance.requests) == (3, 1)

    asyncio.run(main())


def test_two_live_runs_of_which_one_was_seen_to_use_the_client_leave_no_doubt() -> None:
    first, second = a_run(1), a_run(1)

    async def main() -> None:
        with Loopback() as server:
            async with openai(server) as model, openai(server) as other:
                await one(first, 0, lambda: model.ainvoke("row"))
                await one(second, 0, lambda: other.ainvoke("row"))
                await model.ainvoke("lost")

    with under_way(first, second):
        in_a_thread_of_its_own(main)
    assert (first.allowance.requests, second.allowance.requests) == (2, 1)


@pytest.mark.parametrize("no_money", [False, True], ids=["a refused key", "no money"])
def test_an_adopted_request_never_stops_the_run(no_money: bool) -> None:
    ledger = Ledger(PICO)
    run = a_run(1, ledger=ledger, prices=PriceBook({MODEL: (1.0, 1.0)}))

    async def main() -> None:
        with Loopback() as server:
            async with openai(server, max_tokens=5) as model:
                await one(run, 0, lambda: model.ainvoke("row"))
                server.script(lambda _: None if no_money else bad_key())
                if no_money:
                    ledger.limits = Amounts(1)
                with pytest.raises((BudgetReached, openai_sdk.AuthenticationError)):
                    await model.ainvoke("lost")
                assert run.alerts.stopped is None
                result, row = await one(run, 1, lambda: model.ainvoke("another row"))
                assert isinstance(result, BudgetReached if no_money else openai_sdk.AuthenticationError)
                assert (run.alerts.stopped is None, row.too_dear is None) == (no_money, not no_money)

    with under_way(run):
        in_a_thread_of_its_own(main)


def test_an_adopted_stream_goes_on_when_the_run_ends() -> None:
    run, pieces = a_run(1), []

    async def main() -> None:
        with Loopback() as server:
            async with openai(server) as model:
                await one(run, 0, lambda: model.ainvoke("row"))
                server.script(lambda _: ok("one two three four", chunks=4, chunk_gap_s=0.02))
                stream = model.astream("page")
                pieces.append(await anext(stream))
                assert in_flight(run) == 1
                active_runs.end(run)
                assert in_flight(run) == 0, "its permit went back with the run"
                pieces.extend([piece async for piece in stream])

    with under_way(run):
        in_a_thread_of_its_own(main)
    assert "".join(piece.content for piece in pieces) == "one two three four"


def test_after_the_run_a_request_without_a_row_is_nobodys() -> None:
    async def main() -> None:
        with Loopback() as server:
            async with openai(server) as model:
                run = a_run(1)
                with under_way(run):
                    pass
                await model.ainvoke("free")
                assert server.requests == 1
                assert active_runs.shadow_row(model.http_client) is None
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
