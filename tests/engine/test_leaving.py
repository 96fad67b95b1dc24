"""A run that is left early: answers that have arrived are paid for, so they are stored, and never asked again."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI

from cottonpalm import AdaptiveConcurrency, BatchProcessor, RunStopped, clock
from cottonpalm.testing import FlakyTransport, virtual_run
from tests.support import lean
from tests.support.loopback import Loopback
from tests.support.replies import Reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from langchain_core.runnables import Runnable

    from tests.conftest import Eventually

pytestmark = pytest.mark.core
ROWS = [f"row {number}" for number in range(12)]
ALL_AT_ONCE = AdaptiveConcurrency(initial=len(ROWS), minimum=len(ROWS))


@pytest.fixture
def server() -> Iterator[Loopback]:
    with Loopback() as server:
        yield server


class Holding:
    """A step behind the model, which holds each answer on a thread until it is let go."""

    def __init__(self) -> None:
        self.all_there, self.go_on, self._held = threading.Event(), threading.Event(), 0

    def __call__(self, answer: Any) -> Any:
        self._held += 1
        if self._held == len(ROWS):
            self.all_there.set()
        assert self.go_on.wait(20), "nobody let the answers go on"
        return answer


def model(server: Loopback, **more: Any) -> ChatOpenAI:
    return ChatOpenAI(
        **{"model": "gpt-4o-mini", "api_key": "sk-no-key", "base_url": server.openai_url} | more
    )


def processor(chain: Runnable[Any, Any], path: Path, **more: Any) -> BatchProcessor:
    more = {"concurrency": ALL_AT_ONCE, "store": path / "runs.db", "run": "night", "fingerprint": "1"} | more
    return BatchProcessor(chain, **more)


def asks(transport: FlakyTransport) -> Runnable[Any, str]:
    return lean.asks(httpx2.AsyncClient(transport=transport), "sk-not-a-key")


def finish(chain: Runnable[Any, Any], path: Path, **more: Any) -> list[Any]:
    """All answers, after a second run has done what was left."""
    with processor(chain, path, **more).start(ROWS) as run:
        return [outcome.output for outcome in sorted(run, key=lambda one: one.index)]


@pytest.mark.parametrize("transport", ["fast", "stock"])
@pytest.mark.parametrize("leaves", ["closes", "raises"])
def test_what_was_answered_when_the_block_is_left_is_not_asked_again(
    server: Loopback, tmp_path: Path, transport: str, leaves: str
) -> None:
    holding = Holding()
    chain = model(server) | StrOutputParser() | RunnableLambda(holding)

    def leave() -> None:
        with processor(chain, tmp_path, transport=transport).start(ROWS):
            assert holding.all_there.wait(20)
            threading.Timer(0.05, holding.go_on.set).start()  # while the run is being left
            if leaves == "raises":
                raise KeyError("of the reader")

    if leaves == "raises":
        with pytest.raises(KeyError, match="of the reader"):
            leave()
    else:
        leave()
    assert finish(chain, tmp_path) == [f"answer to: {row}" for row in ROWS]
    assert set(server.counts.values()) == {1}


def test_a_streamed_answer_that_has_come_is_kept_though_nobody_takes_its_pieces(
    server: Loopback, tmp_path: Path, eventually: Eventually
) -> None:
    chain = model(server) | StrOutputParser()
    server.script([Reply(chunks=400)] * len(ROWS))
    with processor(chain, tmp_path).start(ROWS, stream=True) as run:
        server.wait(requests=len(ROWS))
        eventually(lambda: not run.stats.requests)
    finish(chain, tmp_path)
    assert set(server.counts.values()) == {1}


def test_an_answer_that_lies_at_the_socket_is_kept(tmp_path: Path) -> None:
    class Together(FlakyTransport):
        async def handle_async_request(self, request: Any) -> Any:
            self.waiting = getattr(self, "waiting", 0) + 1
            await answer.wait()
            return await super().handle_async_request(request)

    answer, transport = asyncio.Event(), Together()
    chain = asks(transport)

    async def main() -> Any:
        async with processor(chain, tmp_path).astart(ROWS) as run:
            while getattr(transport, "waiting", 0) < len(ROWS):
                await asyncio.sleep(0.01)
            answer.set()
        return run.stats.ok

    assert virtual_run(main()) == len(ROWS)


class Streams(httpx2.AsyncBaseTransport):
    """Begins to stream all answers once the run is being left."""

    def __init__(self) -> None:
        self.waiting, self.left = 0, asyncio.Event()

    async def handle_async_request(self, request: Any) -> Any:
        self.waiting += 1
        await self.left.wait()
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Streamed())


class Streamed(httpx2.AsyncByteStream):
    """One answer in two pieces."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for delta, finish in (({"role": "assistant", "content": "an answer"}, None), ({}, "stop")):
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            event = {"object": "chat.completion.chunk", "model": "gpt-4o-mini", "choices": [choice]}
            yield b"data: " + json.dumps(event).encode() + b"\n\n"
            await asyncio.sleep(0)
        yield b"data: [DONE]\n\n"


def test_a_stream_that_begins_while_its_run_is_left_is_read_and_fails_no_row(tmp_path: Path) -> None:
    async def main() -> Any:
        streams = Streams()
        chain = ChatOpenAI(
            model="gpt-4o-mini",
            api_key="sk-no-key",
            http_async_client=httpx2.AsyncClient(transport=streams),
            streaming=True,
        )
        async with processor(chain, tmp_path).astart(ROWS) as run:
            while streams.waiting < len(ROWS):
                await asyncio.sleep(0.01)
            asyncio.get_running_loop().call_later(0.001, streams.left.set)  # while the run is being left
        return run.stats

    stats = virtual_run(main())
    assert (stats.ok, stats.failed) == (len(ROWS), 0)


def test_a_row_whose_first_answer_has_arrived_sends_no_second_request(tmp_path: Path) -> None:
    transport, there, go_on = FlakyTransport(), asyncio.Event(), asyncio.Event()
    ask = asks(transport)

    async def between(answer: Any) -> str:
        there.set()
        await go_on.wait()
        return f"again {answer}"

    def made_up(_: Any) -> str:
        return "made up"

    chain = (ask | RunnableLambda(between) | ask).with_fallbacks([RunnableLambda(made_up)])

    async def main() -> Any:
        async with processor(chain, tmp_path).astart(ROWS[:1]) as run:
            await there.wait()
            asyncio.get_running_loop().call_later(0.1, go_on.set)
        return run.stats

    stats = virtual_run(main())
    assert (stats.ok, stats.failed, stats.skipped, len(transport.requests)) == (0, 0, 1, 1)


def test_a_row_that_does_not_end_though_it_has_its_answer_holds_nobody_up(tmp_path: Path) -> None:
    there = asyncio.Event()

    async def for_ever(_: Any) -> None:
        there.set()
        await asyncio.Event().wait()

    async def main() -> float:
        async with processor(asks(FlakyTransport()) | RunnableLambda(for_ever), tmp_path).astart(ROWS):
            await there.wait()
            began = clock.now()
        return clock.now() - began

    assert virtual_run(main()) <= 2


def test_a_run_whose_task_is_cancelled_before_its_first_step_is_over_and_lets_go_of_its_store(
    tmp_path: Path,
) -> None:
    async def main() -> list[Any]:
        upper = processor(RunnableLambda(str.upper), tmp_path)
        async with upper.astart(ROWS) as run:
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            with pytest.raises(RunStopped, match="left early"):
                await asyncio.wait_for(anext(run), 20)
        return await upper.abatch(ROWS)

    assert asyncio.run(main()) == [row.upper() for row in ROWS]


@pytest.mark.parametrize("again", ["abatch", "astart", "stream_batch"])
@pytest.mark.parametrize("left", ["stream_batch", "abatch_as_completed"])
def test_a_loop_that_was_left_by_break_can_be_gone_on_with_at_once(
    left: str, again: str, server: Loopback, tmp_path: Path
) -> None:
    """Python closes an async generator a moment after the loop over it was left: till then its run was busy."""

    async def late(answer: str) -> str:
        """All but the first have their answer when the loop is left, and their rows some way to their end."""
        await asyncio.sleep(0 if answer.endswith(ROWS[0]) else 0.2)
        return answer

    async def main() -> int:
        model: Any = ChatOpenAI(model="m", base_url=server.openai_url, api_key="sk-test", max_retries=0)  # type: ignore[call-arg, arg-type]
        chain = model | StrOutputParser() | RunnableLambda(late)
        processor = BatchProcessor(chain, store=tmp_path / "s.db", run="r", concurrency=ALL_AT_ONCE)
        async for _ in getattr(processor, left)(ROWS):
            break
        if again == "abatch":
            return len(await processor.abatch(ROWS))
        if again == "stream_batch":
            return len({index async for index, _ in processor.stream_batch(ROWS)})
        async with processor.astart(ROWS) as run:
            return len([outcome async for outcome in run])

    assert asyncio.run(main()) == len(ROWS)
