"""Many rows streamed at once: interleaved, bounded by the reader, under the same limits, cache and store."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import openai
import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda, RunnableParallel
from langchain_openai import ChatOpenAI

from cottonpalm import (
    AdaptiveConcurrency,
    BatchProcessor,
    Budget,
    Cache,
    RetryPolicy,
    RowFinished,
    RunStopped,
)
from cottonpalm.engine.shared import ledger_of
from cottonpalm.testing import virtual_run
from tests.engine.helpers import aread, read
from tests.support.loopback import Loopback
from tests.support.replies import Reply, cut_by_length, fails, hangs, malformed, too_many

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.core
Eventually = Callable[[Callable[[], object]], None]
QUICK = RetryPolicy(retries=2, base_s=0.001, cap_s=0.01)


def chain_of(server: Loopback, **more: Any) -> Any:
    model = ChatOpenAI(
        base_url=server.openai_url,
        api_key="sk-test-0123456789",
        model="gpt-4o-mini",
        stream_usage=True,
        **more,
    )
    return ChatPromptTemplate.from_template("{x}") | model | StrOutputParser()


def rows(count: int) -> list[dict[str, str]]:
    return [{"x": f"row {n}"} for n in range(count)]


async def texts_of(processor: BatchProcessor, inputs: Any, **more: Any) -> dict[int, list[str]]:
    """The pieces of each row, in order."""
    pieces: dict[int, list[str]] = {}
    async for index, chunk in processor.stream_batch(inputs, **more):
        pieces.setdefault(index, []).append(chunk)
    return pieces


def idle(processor: BatchProcessor) -> bool:
    limiters = [one for many in processor._builder.accounts._limiters.values() for one in many]
    return all(limiter.in_flight == limiter.waiting == 0 for limiter in limiters)


class Speaks(Runnable[int, str]):
    """Ten pieces a row, one every `gap_s`; counts what is open."""

    def __init__(self, gap_s: float = 1.0) -> None:
        self.gap_s = gap_s
        self.said = self.open = self.peak = 0
        self.fails: dict[int, int] = {}

    def invoke(self, input: int, config: Any = None, **kwargs: Any) -> str:
        raise AssertionError("the streaming form is there to be used")

    async def astream(self, input: int, config: Any = None, **kwargs: Any) -> Any:
        self.open += 1
        self.peak = max(self.peak, self.open)
        try:
            for piece in range(10):
                await asyncio.sleep(self.gap_s)
                if self.fails.get(input) == piece:
                    raise KeyError(f"row {input} broke off")
                self.said += 1
                yield f"{input}.{piece} "
        finally:
            self.open -= 1


def test_pieces_of_many_rows_come_interleaved_and_in_order_within_each_row() -> None:
    async def main() -> list[tuple[int, str]]:
        return [pair async for pair in BatchProcessor(Speaks(), concurrency=5).stream_batch(range(20))]

    pairs = virtual_run(main())
    for row in range(20):
        assert [chunk for index, chunk in pairs if index == row] == [f"{row}.{n} " for n in range(10)]
    first_ten = {index for index, _ in pairs[:10]}
    assert first_ten == set(range(5)), "all rows under way speak at once"


def test_the_limit_holds_for_streams_and_max_concurrency_too() -> None:
    for settings, call in (({"concurrency": 3}, {}), ({}, {"max_concurrency": 3})):
        chain = Speaks()
        virtual_run(texts_of(BatchProcessor(chain, **settings), range(12), **call))
        assert chain.peak == 3


def test_a_reader_that_stops_reading_stops_the_rows_under_way() -> None:
    chain = Speaks()

    async def main() -> None:
        stream = BatchProcessor(chain, concurrency=AdaptiveConcurrency(maximum=100)).stream_batch(
            range(100_000)
        )
        await anext(stream)
        await asyncio.sleep(10_000)
        assert chain.said < 1_200, "pieces piled up"
        said = chain.said
        for _ in range(900):
            await anext(stream)
        assert chain.said > said, "it goes on when the reader does"
        await stream.aclose()
        assert chain.open == 0

    virtual_run(main())


def test_a_row_that_fails_is_raised_after_all_that_others_had_to_say() -> None:
    chain = Speaks(gap_s=0)  # an iterator is read by a thread, which knows no virtual clock
    chain.fails = {3: 4, 1: 2}
    pieces: Counter[int] = Counter()

    async def main(source: Any) -> None:
        async for index, _ in BatchProcessor(chain, concurrency=2).stream_batch(source):
            pieces[index] += 1

    for source in (list(range(6)), iter(range(6))):
        pieces.clear()
        with pytest.raises(KeyError, match="row 1 broke off") as caught:
            asyncio.run(main(source))
        assert pieces == {0: 10, 1: 2, 2: 10, 3: 4, 4: 10, 5: 10}
        assert "1 other" in caught.value.__notes__[0]


def test_leaving_early_closes_every_connection_and_gives_all_permits_back(eventually: Eventually) -> None:
    slow = Reply(chunks=20, chunk_gap_s=0.05)
    with Loopback(script=lambda _request: slow) as server:
        processor = BatchProcessor(chain_of(server), concurrency=8)

        async def main() -> None:
            async for _ in processor.stream_batch(rows(50)):
                if server.in_flight == 8:
                    break

        asyncio.run(main())
        eventually(lambda: not server.in_flight)
        assert idle(processor)
        assert server.requests == 8


def test_rows_that_swallow_their_cancel_end_with_their_loop_and_are_not_stored_as_failed(
    tmp_path: Path,
) -> None:
    slow = Reply(chunks=20, chunk_gap_s=0.01)
    store: dict[str, Any] = {"store": tmp_path / "runs.db", "run": "left", "fingerprint": "1"}
    with Loopback(script=lambda _request: slow) as server:
        model = ChatOpenAI(base_url=server.openai_url, api_key="sk-test-0123456789", model="gpt-4o-mini")
        asleep: list[int] = []

        async def stubborn(row: int) -> str:
            text = ""
            async for chunk in model.astream(f"row {row}"):
                text += chunk.text
                asleep.append(row)
                with contextlib.suppress(
                    asyncio.CancelledError
                ):  # as wait_for of Python 3.11 does now and then
                    await asyncio.sleep(0.2)
            return text

        async def main() -> None:
            run = BatchProcessor(RunnableLambda(stubborn), concurrency=4, **store).astart(range(50))
            reading = asyncio.create_task(aread(run))
            while len(set(asleep)) < 4:
                await asyncio.sleep(0.005)
            assert not reading.done()

        asyncio.run(main())  # at its end it cancels every task there is, the run's and those below
    with BatchProcessor(RunnableLambda(lambda row: f"again {row}"), **store).start(range(50)) as run:
        outcomes, error = read(run)
    assert error is None
    assert [outcome.output for outcome in outcomes if outcome.status == "failed"] == []
    assert len(outcomes) == 50


def test_leaving_one_rows_stream_early_closes_its_connection(eventually: Eventually) -> None:
    slow = Reply(chunks=20, chunk_gap_s=0.05)
    with Loopback(script=lambda _request: slow) as server:
        processor = BatchProcessor(chain_of(server))

        async def main() -> None:
            stream = processor.astream({"x": "one"})
            await anext(stream)
            await stream.aclose()

        asyncio.run(main())
        eventually(lambda: not server.in_flight)
        stream = processor.stream({"x": "two"})
        next(stream)
        stream.close()
        eventually(lambda: not server.in_flight)
        assert idle(processor)


def test_branches_of_a_stream_that_is_left_are_refused_without_a_word(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """LangChain leaves the tasks of parallel branches behind: what they ask for is not sent, and that is no error."""
    slow = Reply(chunks=20, chunk_gap_s=0.05)
    with Loopback(script=lambda _request: slow) as server:
        branches = RunnableParallel(one=chain_of(server), other=chain_of(server))
        processor = BatchProcessor(branches, concurrency=1)

        async def main() -> None:
            async with processor.astart(rows(3), stream=True) as run:
                while server.in_flight == 0:
                    await anext(run)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            if left:
                await asyncio.wait(left)

        asyncio.run(main())
        gc.collect()  # a task that nobody heard out is logged when it is collected
        assert [record for record in caplog.records if record.name != "cottonpalm"] == []
        assert idle(processor)


def test_known_answers_come_as_one_piece(tmp_path: Path) -> None:
    with Loopback() as server:
        cached = BatchProcessor(chain_of(server), cache=Cache())
        twice = asyncio.run(texts_of(cached, rows(3) + rows(3)))
        assert {n: "".join(pieces) for n, pieces in twice.items()} == {
            n: f"answer to: row {n % 3}" for n in range(6)
        }
        assert [len(pieces) == 1 for _, pieces in sorted(twice.items())] == [False] * 3 + [True] * 3
        assert server.requests == 3
        assert list(cached.stream({"x": "row 1"})) == ["answer to: row 1"]
        assert server.requests == 3

        def stored() -> BatchProcessor:
            return BatchProcessor(chain_of(server), store=tmp_path / "runs.db", run="streamed")

        first = asyncio.run(texts_of(stored(), rows(3)))
        again = asyncio.run(texts_of(stored(), rows(4)))
        assert {n: "".join(pieces) for n, pieces in first.items()} == {
            n: f"answer to: row {n}" for n in range(3)
        }
        assert {n: len(pieces) for n, pieces in again.items() if n < 3} == {0: 1, 1: 1, 2: 1}
        assert "".join(again[3]) == "answer to: row 3"
        assert server.requests == 7


def test_a_streamed_answer_is_stored_whole(tmp_path: Path) -> None:
    with Loopback() as server:
        processor = BatchProcessor(chain_of(server), store=tmp_path / "runs.db", run="streamed")
        asyncio.run(texts_of(processor, rows(3)))
        assert processor.batch(rows(3)) == [f"answer to: row {n}" for n in range(3)]
        assert server.requests == 3


def test_faults_before_the_first_piece_cost_a_try_and_show_nothing() -> None:
    script = [too_many(retry_after_ms=5), fails(500), fails(503), None]
    with Loopback(script=script) as server:
        processor = BatchProcessor(chain_of(server), retry=QUICK, concurrency=1)
        pieces = asyncio.run(texts_of(processor, rows(2)))
        assert {n: "".join(chunks) for n, chunks in pieces.items()} == {
            n: f"answer to: row {n}" for n in range(2)
        }
        assert server.requests == 5
        assert idle(processor)


def test_a_hanging_or_cut_stream_is_a_failed_row_and_the_others_end() -> None:
    troubles = {"row 1": hangs(), "row 2": cut_by_length()}
    with Loopback(script=lambda request: troubles.get(request.text)) as server:
        processor = BatchProcessor(chain_of(server), retry=0, timeout=1.0)
        texts: dict[int, str] = dict.fromkeys(range(5), "")

        async def main() -> None:
            async for index, chunk in processor.stream_batch(rows(5)):
                texts[index] += chunk

        with pytest.raises(openai.APIError):
            asyncio.run(main())
        assert [texts[n] for n in (0, 3, 4)] == [f"answer to: row {n}" for n in (0, 3, 4)]
        assert idle(processor)


def test_the_budget_holds_for_streams() -> None:
    budget = Budget(total=0.0003)
    with Loopback() as server:
        processor = BatchProcessor(chain_of(server, max_tokens=40), budget=budget, concurrency=4)
        with pytest.raises(RunStopped, match="budget"):
            asyncio.run(texts_of(processor, rows(300)))
        ledger = ledger_of(budget)
        assert ledger is not None
        assert ledger.spent == server.billed.input_tokens * 150_000 + server.billed.output_tokens * 600_000
        assert ledger.reserved == ledger.overshoot == 0


def test_a_chain_with_only_a_sync_form_streams_too() -> None:
    def spell(word: str) -> Any:
        yield from word

    chain = RunnableLambda(spell)
    pieces = asyncio.run(texts_of(BatchProcessor(chain), ["ab", "cde"]))
    assert pieces == {0: list("ab"), 1: list("cde")}
    assert list(BatchProcessor(chain).stream("xyz")) == list("xyz")


@pytest.mark.parametrize("transport", ["fast", "stock"])
@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_an_event_that_the_line_broke_is_no_answer_of_the_models(provider: str, transport: Any) -> None:
    def model(server: Loopback) -> Any:
        if provider == "openai":
            return ChatOpenAI(base_url=server.openai_url, api_key="sk-test-0123456789", model="gpt-4o-mini")
        return ChatAnthropic(base_url=server.url, api_key="sk-ant-test", model_name="claude-haiku-4-5")

    async def main(server: Loopback) -> Any:
        chain = ChatPromptTemplate.from_template("{x}") | model(server) | StrOutputParser()
        processor = BatchProcessor(chain, retry=QUICK, transport=transport)
        async with processor.astart([{"x": "a row"}], stream=True) as run:
            return [event.outcome.output async for event in run if isinstance(event, RowFinished)]

    with Loopback([malformed(), malformed()]) as server:
        assert asyncio.run(main(server)) == ["answer to: a row"]
        assert server.counts == {"a row": 3}, "the prompt is not changed by what the line did"
