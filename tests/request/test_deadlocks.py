"""Ways to hang or overrun that were seen, each with the rule that prevents it."""

from __future__ import annotations

import asyncio
import contextvars
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import tool

from cottonpalm.request.queueing import enter
from cottonpalm.request.row_account import ROW, RowAccount
from cottonpalm.runtime import bridge as sync
from cottonpalm.runtime.wait_queue import RowClosed
from tests.request.kit import a_run, all_rows, all_rows_sync, in_flight, one, one_sync, openai, openai_sync
from tests.support.loopback import Loopback
from tests.support.replies import held, ok

pytestmark = pytest.mark.core


def _three(model: Any) -> Any:
    return RunnableParallel(a=model, b=model, c=model)


def test_a_row_hands_its_own_permit_over_when_its_first_request_appears() -> None:
    async def main() -> None:
        with Loopback(latency=0.002) as server:
            async with openai(server) as model:
                run = a_run(2)
                results = await all_rows(
                    run, [lambda n=n: _three(model).ainvoke(f"row {n}") for n in range(40)]
                )
                assert [row.attempts for _, row in results] == [3] * 40
                assert server.peak == 2
                assert in_flight(run) == 0
                assert run.flow.grain == "request"

    asyncio.run(main())


def test_tasks_and_threads_share_one_turnstile_without_hanging() -> None:
    async def main() -> None:
        with Loopback(latency=0.002) as server:
            async with openai(server) as model:
                run = a_run(2)
                works = [lambda n=n: _three(model).ainvoke(f"row {n}") for n in range(10)]
                blocking = [lambda n=n: _three(model).invoke(f"thread {n}") for n in range(10)]
                threads = asyncio.create_task(asyncio.to_thread(all_rows_sync, run, blocking))
                results = await all_rows(run, works) + await threads
                assert sum(row.attempts for _, row in results) == server.requests == 60
                assert server.peak == 2
                assert in_flight(run) == 0

    asyncio.run(main())


def test_an_agent_with_a_model_in_its_tool_runs_at_a_limit_of_one() -> None:
    async def main() -> None:
        def script(request: Any) -> Any:
            called = any(message["role"] == "tool" for message in request.body["messages"])
            if request.body.get("tools") and not called:
                return ok(tool=("ask", {"text": "inner"}))
            return None

        with Loopback(script=script, latency=0.001) as server:
            async with openai(server) as model:

                @tool
                async def ask(text: str) -> str:
                    """Ask another model."""
                    return (await model.ainvoke(text)).content

                agent = create_agent(model, [ask])
                run = a_run(1)
                works = [lambda n=n: agent.ainvoke({"messages": [("user", f"row {n}")]}) for n in range(4)]
                results = await all_rows(run, works)
                assert [row.attempts for _, row in results] == [3] * 4
                assert server.peak == 1
                assert in_flight(run) == 0

    asyncio.run(main())


def test_a_nested_row_takes_no_second_place() -> None:
    async def main() -> None:
        with Loopback(latency=0.001) as server:
            async with openai(server) as model:
                run = a_run(1)

                async def outer(n: int) -> Any:
                    inner = RowAccount(run, n, parent=ROW.get())
                    ROW.set(inner)
                    await enter(inner)
                    try:
                        return await model.ainvoke(f"row {n}")
                    finally:
                        inner.close()

                results = await all_rows(run, [lambda n=n: outer(n) for n in range(4)])
                assert not [result for result, _ in results if isinstance(result, Exception)]
                assert server.peak == 1
                assert in_flight(run) == 0

    asyncio.run(main())


def test_a_request_made_while_ones_stream_is_open_gets_its_permit() -> None:
    async def main() -> None:
        with Loopback(latency=0.001) as server:
            async with openai(server) as model:
                run = a_run(1)

                async def nested(n: int) -> list[str]:
                    pieces = (chunk.content async for chunk in model.astream(f"row {n}"))
                    return [
                        (await model.ainvoke(f"about {piece}")).content async for piece in pieces if piece
                    ]

                results = await all_rows(run, [lambda n=n: nested(n) for n in range(3)])
                assert [len(texts) for texts, _ in results] == [4, 4, 4]
                assert server.peak == 1
                assert in_flight(run) == 0

    asyncio.run(main())


def test_a_sync_request_that_has_to_wait_first_reads_its_rows_open_streams() -> None:
    with Loopback(latency=0.001) as server, openai_sync(server) as model:
        run = a_run(1)

        def nested(n: int) -> list[str]:
            pieces = (chunk.content for chunk in model.stream(f"row {n}"))
            return [model.invoke(f"about {piece}").content for piece in pieces if piece]

        results = all_rows_sync(run, [lambda n=n: nested(n) for n in range(3)])
        assert [len(texts) for texts, _ in results] == [4, 4, 4]
        assert server.peak == 1
        assert in_flight(run) == 0


def test_a_blocking_call_inside_an_async_step_takes_its_permit_by_force(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        with Loopback(latency=0.002) as server:
            async with openai(server) as model:
                run = a_run(1)

                async def step(text: str) -> Any:
                    await model.ainvoke(text)
                    return model.invoke(text)

                chain = RunnableLambda(step)
                results = await all_rows(run, [lambda n=n: chain.ainvoke(f"row {n}") for n in range(6)])
                assert [row.attempts for _, row in results] == [2] * 6
                assert server.peak <= 2, "one above the limit for one blocked loop"
                assert in_flight(run) == 0
                assert sum(limiter.forced for limiter in run.flow.limiters) > 0

    asyncio.run(main())
    assert sum("use ainvoke()" in record.message for record in caplog.records) == 1


def test_steps_that_wait_in_threads_do_not_keep_a_host_name_from_being_resolved() -> None:
    async def main() -> None:
        with Loopback(latency=0.001) as server:
            async with openai(server, base_url=server.openai_url.replace("127.0.0.1", "localhost")) as model:
                run = a_run(1)
                step = RunnableLambda(lambda text: model.invoke(text).content)  # waits in the loop's threads
                works = [lambda n=n: step.ainvoke(f"step {n}") for n in range(12)]
                works += [lambda n=n: model.ainvoke(f"row {n}") for n in range(12)]
                results = await all_rows(run, works)
                assert not [result for result, _ in results if isinstance(result, Exception)]
                assert server.peak == 1

    bridge = sync.bridge()
    bridge.wait(main())


def test_a_cancelled_row_sends_nothing_more_from_its_thread() -> None:
    async def main() -> None:
        with Loopback(script=lambda _: held()) as server:
            async with openai(server) as model:
                run = a_run(1)
                refused, entered = threading.Event(), asyncio.Event()
                loop = asyncio.get_running_loop()

                def ask_on(text: str) -> None:
                    loop.call_soon_threadsafe(entered.set)
                    try:
                        model.invoke(text)
                    except RowClosed:
                        refused.set()
                        raise

                holder = asyncio.create_task(one(run, 0, lambda: model.ainvoke("holds the permit")))
                await asyncio.to_thread(server.wait, in_flight=1)
                step = RunnableLambda(ask_on)
                waiting = asyncio.create_task(one(run, 1, lambda: step.ainvoke("never sent")))
                await entered.wait()
                waiting.cancel()
                await asyncio.wait([waiting])
                assert await asyncio.to_thread(refused.wait, 20)
                server.release()
                await holder
                assert "never sent" not in server.counts
                assert in_flight(run) == 0

    asyncio.run(main())


def test_random_cancels_leave_no_permit_and_keep_the_limit() -> None:
    async def main() -> None:
        seed = random.Random(7)
        with Loopback(latency=0.003) as server:
            async with openai(server) as model:
                run = a_run(3)
                tasks = [
                    asyncio.create_task(one(run, n, lambda n=n: _three(model).ainvoke(f"row {n}")))
                    for n in range(60)
                ]
                for task in seed.sample(tasks, 30):
                    await asyncio.to_thread(server.wait, requests=seed.randrange(1, 40))
                    task.cancel()
                async with asyncio.timeout(60):
                    await asyncio.wait(tasks)
                assert server.peak <= 3
                assert in_flight(run) == 0
                assert run.flow.waiting == 0

    asyncio.run(main())


def test_a_task_that_outlives_its_row_is_refused() -> None:
    async def main() -> None:
        with Loopback() as server:
            async with openai(server) as model:
                run, later = a_run(1), asyncio.Event()
                left: list[asyncio.Task[Any]] = []

                async def leaves_a_task() -> str:
                    async def late() -> Any:
                        await later.wait()
                        return await model.ainvoke("too late")

                    left.append(asyncio.create_task(late()))
                    return "done"

                await one(run, 0, leaves_a_task)
                later.set()
                with pytest.raises(RowClosed):
                    await left[0]
                assert server.requests == 0

    asyncio.run(main())


def test_closing_a_row_ends_the_backoff_of_its_thread() -> None:
    from cottonpalm.config import RetryPolicy
    from tests.support.replies import fails

    with Loopback(script=lambda _: fails(500)) as server, openai_sync(server) as model:
        run = a_run(1, retry=RetryPolicy(base_s=10_000.0, cap_s=10_000.0))
        row = RowAccount(run, 0)
        slept = threading.Event()
        row.on_aside = lambda _, aside: slept.set() if aside else None

        def work() -> None:
            ROW.set(row)
            with pytest.raises(RowClosed):
                model.invoke("fails")
            assert server.requests == 1

        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(contextvars.copy_context().run, work)
            assert slept.wait(20)
            row.close()
            done.result(20)
        assert in_flight(run) == 0


def test_one_model_object_works_from_a_second_row_on_the_same_thread() -> None:
    with Loopback() as server, openai_sync(server) as model:
        run = a_run(1)
        for n in range(3):
            result, row = one_sync(run, n, lambda n=n: model.invoke(f"row {n}"))
            assert f"row {n}" in result.content
            assert row.attempts == 1
