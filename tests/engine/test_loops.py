"""One model object on several event loops: in turn, at once, and from the sync front; nothing is left open."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI

from cottonpalm import AdaptiveConcurrency, BatchProcessor, Limits
from cottonpalm.request.transport import client_loops
from cottonpalm.runtime import bridge
from tests.support.loopback import Loopback

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.core
PROMPT = ChatPromptTemplate.from_template("{x}")
ROWS = [{"x": f"row {n}"} for n in range(30)]
RIGHT = [f"answer to: row {n}" for n in range(30)]


def chain(server: Loopback, kind: str) -> Any:
    if kind == "anthropic":
        model: Any = ChatAnthropic(
            base_url=server.url, api_key="sk-ant-0123456789", model_name="claude-haiku-4-5"
        )
    else:
        model = ChatOpenAI(base_url=server.openai_url, api_key="sk-0123456789", model="gpt-4o-mini")
    return PROMPT | model | StrOutputParser()


def twins_left() -> list[Any]:
    """Twins of clients that are kept for loops other than the bridge's, which last."""
    lasting = {id(found.loop) for found in bridge._bridges.values()}
    return [twins for loop, twins in client_loops._twins.items() if loop not in lasting]


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_one_loop_after_the_other(kind: str) -> None:
    with Loopback(latency=0.002) as server:
        processor = BatchProcessor(chain(server, kind))
        for _ in range(3):
            assert asyncio.run(processor.abatch(ROWS)) == RIGHT
            assert processor.batch(ROWS) == RIGHT
        assert set(server.counts.values()) == {6}
    assert not twins_left()


def test_a_client_that_another_loop_used_before_we_saw_it() -> None:
    with Loopback() as server:
        plain = chain(server, "openai")
        assert asyncio.run(plain.ainvoke({"x": "first"})) == "answer to: first"
        assert asyncio.run(BatchProcessor(plain).abatch(ROWS)) == RIGHT


def test_a_client_that_this_loop_used_before_we_saw_it_stays_in_use() -> None:
    async def main() -> None:
        plain = chain(server, "openai")
        await plain.ainvoke({"x": "first"})
        assert await BatchProcessor(plain, concurrency=1).abatch(ROWS) == RIGHT
        assert not client_loops._twins.get(id(asyncio.get_running_loop()))

    with Loopback() as server:
        asyncio.run(main())


def test_two_loops_at_once() -> None:
    with Loopback(latency=0.005) as server:
        processor = BatchProcessor(chain(server, "openai"))
        results: list[Any] = []
        threads = [
            threading.Thread(target=lambda: results.append(asyncio.run(processor.abatch(ROWS * 3))))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [RIGHT * 3] * 3
    assert not twins_left()


def test_a_loop_of_its_own_inside_a_step() -> None:
    with Loopback() as server:
        inner = chain(server, "openai")
        step = RunnableLambda(lambda row: asyncio.run(inner.ainvoke(row)))
        assert BatchProcessor(step, concurrency=4).batch(ROWS) == RIGHT
    assert not twins_left()


def test_a_transport_of_the_users_own_stays_in_use() -> None:
    seen = []

    class Mine(httpx2.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            seen.append(request.url.path)
            return await super().handle_async_request(request)

    async def main() -> list[str]:
        async with httpx2.AsyncClient(transport=Mine()) as client:
            model = ChatOpenAI(
                base_url=server.openai_url,
                api_key="sk-0123456789",
                model="gpt-4o-mini",
                http_async_client=client,
            )
            return await BatchProcessor(PROMPT | model | StrOutputParser()).abatch(ROWS)

    with Loopback() as server:
        assert asyncio.run(main()) == RIGHT
        assert len(seen) == 30


@pytest.mark.parametrize("store", [None, "runs.db"])
def test_an_awaited_call_where_no_loop_of_asyncio_runs_says_what_to_call(
    store: str | None, tmp_path: Path
) -> None:
    kept = {"store": tmp_path / store, "run": "one"} if store else {}
    processor = BatchProcessor(RunnableLambda(str.upper), **kept)
    calls = [processor.abatch(["a"]), anext(processor.abatch_as_completed(["a"]))]
    calls += [anext(processor.stream_batch(["a"])), anext(processor.astart(["a"])), processor.ainvoke("a")]
    for call in calls:
        with pytest.raises(
            RuntimeError, match=r"under trio, .* trio.to_thread.run_sync\(processor.batch, rows\)"
        ):
            call.__await__().send(None)  # as trio would drive it
    assert processor.batch(["a"]) == ["A"]


def test_a_sync_call_that_blocks_the_loop_of_another_run_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    processor = BatchProcessor(RunnableLambda(str.upper))

    async def main() -> None:
        assert processor.batch(["alone"]) == ["ALONE"]
        assert not caplog.records
        async with processor.astart(["a", "b"]) as run:
            await anext(run)
            assert processor.batch(["beside"]) == ["BESIDE"]
            [told] = caplog.messages
            assert "blocks its event loop" in told
            assert "asyncio.to_thread(processor.batch, rows)" in told
            assert await asyncio.to_thread(processor.batch, ["on a thread"]) == ["ON A THREAD"]

    asyncio.run(main())
    assert len(caplog.records) == 1


@pytest.mark.parametrize("form", ["batch", "invoke", "on threads", "deeper"])
def test_a_sync_call_goes_on_beside_a_run_that_it_keeps_from_giving_its_permits_back(form: str) -> None:
    with Loopback(latency=0.002) as server:
        asked = chain(server, "openai")
        one = {
            "concurrency": AdaptiveConcurrency(2, 2, 2),
            "limits": Limits(),
            "timeout": 5,
            "stall_timeout": 5,
        }
        processor = BatchProcessor(asked, **one)
        calls: dict[str, Any] = {
            "batch": processor.batch,
            "invoke": lambda rows: [processor.invoke(row) for row in rows],
            "on threads": BatchProcessor(RunnableLambda(asked.invoke), **one).batch,
            "deeper": BatchProcessor(RunnableLambda(processor.invoke)).batch,
        }

        async def main() -> list[str]:
            answers: list[str] = []
            async with processor.astart(ROWS) as run:
                async for _ in run:
                    if len(answers) < 8:
                        answers += calls[form]([{"x": f"beside {n}"} for n in range(4)])
            return answers

        assert asyncio.run(main()) == [f"answer to: beside {n % 4}" for n in range(8)]
        assert server.requests == 30 + 8
        assert server.peak <= 3, "one above the limit"


def test_rows_that_are_over_at_once_take_a_few_turns_of_the_loop_however_many_are_in_flight() -> None:
    class Counting(asyncio.SelectorEventLoop):
        turns = 0

        def call_soon(self, *given: Any, **more: Any) -> asyncio.Handle:
            self.turns += 1
            return super().call_soon(*given, **more)

    async def nothing(row: int) -> int:
        await asyncio.sleep(0)
        return row

    rows = list(range(2_000))
    with asyncio.Runner(loop_factory=Counting) as runner:
        processor = BatchProcessor(RunnableLambda(nothing), concurrency=256)
        assert runner.run(processor.abatch(rows)) == rows
        loop = runner.get_loop()
    assert isinstance(loop, Counting)
    assert loop.turns < 12 * len(rows), "nobody waits by asking again and again"
