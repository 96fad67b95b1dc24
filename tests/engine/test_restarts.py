"""Rows that break off in the middle of their stream: asked again, and never without a word to the reader."""

from __future__ import annotations

import asyncio
import copy
import pickle
from typing import TYPE_CHECKING, Any

import openai
import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable
from langchain_openai import ChatOpenAI

from cottonpalm import RESTARTED, BatchProcessor, Budget, Cache, RetryPolicy, StreamingBatchProcessor
from cottonpalm.engine.shared import ledger_of
from cottonpalm.events import RowFinished, RowRestarted
from cottonpalm.testing import virtual_run
from tests.engine.helpers import Watch
from tests.support.loopback import Loopback
from tests.support.replies import cut_body, cut_by_length, fails

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.core
QUICK = RetryPolicy(retries=2, base_s=0.001, cap_s=0.01)


def chain_of(server: Loopback, model: str = "gpt-4o-mini", **more: Any) -> Any:
    chat = ChatOpenAI(
        base_url=server.openai_url, api_key="sk-test-0123456789", model=model, stream_usage=True, **more
    )
    return ChatPromptTemplate.from_template("{x}") | chat | StrOutputParser()


def rows(count: int) -> list[dict[str, str]]:
    return [{"x": f"row {n}"} for n in range(count)]


async def collected(pairs: AsyncIterator[tuple[int, Any]]) -> tuple[dict[int, str], list[int]]:
    """The text of each row as a careful reader has it in the end, and the rows that were restarted."""
    texts: dict[int, str] = {}
    restarted: list[int] = []
    async for index, chunk in pairs:
        if chunk is RESTARTED:
            restarted.append(index)
            texts[index] = ""
        else:
            texts[index] = texts.get(index, "") + chunk
    return texts, restarted


class Breaks(Runnable[int, str]):
    """Five pieces a row, one a second; the first `times` streams of a row break off after `after` of them."""

    def __init__(self, after: int = 3, times: int = 1, error: type[Exception] = ConnectionError) -> None:
        self.after, self.left, self.times, self.error = after, dict[int, int](), times, error

    def invoke(self, input: int, config: Any = None, **kwargs: Any) -> str:
        raise AssertionError("the streaming form is there to be used")

    async def astream(self, input: int, config: Any = None, **kwargs: Any) -> Any:
        left = self.left[input] = self.left.get(input, self.times) - 1
        for piece in range(5):
            await asyncio.sleep(1)
            if left >= 0 and piece == self.after:
                raise self.error(f"row {input} broke off")
            yield f"{input}.{piece} "


WHOLE = "".join(f"{{0}}.{piece} " for piece in range(5))


def test_a_stream_that_breaks_off_starts_over_and_says_so() -> None:
    broken = {"row 1", "row 4"}

    def script(request: Any) -> Any:
        return cut_body() if request.text in broken and request.nth == 1 else None

    watch = Watch()
    with Loopback(script=script) as server:
        processor = BatchProcessor(chain_of(server), retry=QUICK, observers=[watch])
        texts, restarted = asyncio.run(collected(processor.stream_batch(rows(6))))
        assert texts == {n: f"answer to: row {n}" for n in range(6)}
        assert sorted(restarted) == [1, 4]
        assert sorted(event.index for event in watch.of(RowRestarted)) == [1, 4]
        assert server.requests == 8
        outcomes = {event.outcome.index: event.outcome for event in watch.of(RowFinished)}
        assert len(watch.of(RowFinished)) == 6
        assert [outcomes[n].attempts for n in range(6)] == [1, 2, 1, 1, 2, 1]


def test_the_restart_comes_between_the_void_pieces_and_the_new_answer() -> None:
    async def main() -> list[Any]:
        processor = BatchProcessor(Breaks(), retry=QUICK, concurrency=1)
        return [pair async for pair in processor.stream_batch([7])]

    void = [(0, f"7.{piece} ") for piece in range(3)]
    assert virtual_run(main()) == [*void, (0, RESTARTED), *((0, f"7.{piece} ") for piece in range(5))]


def test_a_row_that_breaks_off_before_its_first_piece_needs_no_word() -> None:
    processor = BatchProcessor(Breaks(after=0), retry=QUICK)
    texts, restarted = virtual_run(collected(processor.stream_batch(range(3))))
    assert texts == {n: WHOLE.format(n) for n in range(3)}
    assert restarted == []


def test_the_tries_of_a_row_bound_its_restarts_and_then_it_fails() -> None:
    watch = Watch()
    processor = BatchProcessor(Breaks(times=99), retry=QUICK, observers=[watch])
    with pytest.raises(ConnectionError, match="row 5 broke off"):
        virtual_run(collected(processor.stream_batch([5])))
    assert len(watch.of(RowRestarted)) == QUICK.retries
    assert [event.outcome.status for event in watch.of(RowFinished)] == ["failed"]


def test_without_retries_nothing_starts_over() -> None:
    watch = Watch()
    with pytest.raises(ConnectionError):
        virtual_run(collected(BatchProcessor(Breaks(), retry=0, observers=[watch]).stream_batch([5])))
    assert watch.of(RowRestarted) == []


def test_a_fallback_starts_over_what_the_first_model_began() -> None:
    def script(request: Any) -> Any:
        return cut_by_length("answer to") if request.body["model"] == "gpt-4o-mini" else None

    with Loopback(script=script) as server:
        fallback = chain_of(server, model="gpt-4o")
        processor = BatchProcessor(chain_of(server), fallbacks=[fallback], retry=QUICK)
        texts, restarted = asyncio.run(collected(processor.stream_batch(rows(3))))
        assert texts == {n: f"answer to: row {n}" for n in range(3)}
        assert sorted(restarted) == [0, 1, 2]


def test_an_answer_that_is_refused_after_it_was_shown_starts_over() -> None:
    refusals = iter([ValueError("not like this"), None])

    def check(_: str) -> None:
        if error := next(refusals):
            raise error

    processor = BatchProcessor(Breaks(times=0), validate=check, retry=QUICK)
    texts, restarted = virtual_run(collected(processor.stream_batch([0])))
    assert texts == {0: WHOLE.format(0)}
    assert restarted == [0]


def test_one_rows_stream_is_never_restarted() -> None:
    watch, shown = Watch(), list[str]()

    async def main() -> None:
        async for piece in BatchProcessor(Breaks(), retry=QUICK, observers=[watch]).astream(0):
            shown.append(piece)

    with pytest.raises(ConnectionError):
        virtual_run(main())
    assert shown == ["0.0 ", "0.1 ", "0.2 "]
    assert watch.of(RowRestarted) == []


def test_what_a_broken_stream_may_have_cost_is_in_the_outcome_and_in_the_budget(tmp_path: Path) -> None:
    def script(request: Any) -> Any:
        return cut_body() if request.nth == 1 else None

    watch, budget = Watch(), Budget(total=1)
    with Loopback(script=script) as server:
        processor = BatchProcessor(
            chain_of(server, max_tokens=40),
            retry=QUICK,
            budget=budget,
            cache=Cache(),
            store=tmp_path / "runs.db",
            run="r",
            observers=[watch],
        )
        asyncio.run(collected(processor.stream_batch(rows(3) + rows(3))))
        asked = [e.outcome for e in watch.of(RowFinished) if not e.outcome.cached]
        assert len(asked) == 3
        for outcome in asked:
            assert outcome.attempts == 2
            assert outcome.usage.output_tokens > 0
        ledger = ledger_of(budget)
        assert ledger is not None
        told = sum(outcome.cost_pico for outcome in asked)
        billed = server.billed.input_tokens * 150_000 + server.billed.output_tokens * 600_000
        assert billed <= told <= ledger.spent, "what a broken stream may have cost stays booked"
        assert ledger.reserved == ledger.overshoot == 0
        requests = server.requests
        stored, restarted = asyncio.run(collected(processor.stream_batch(rows(3) + rows(3))))
        assert server.requests == requests, "each row was recorded once, with its whole answer"
        assert stored == {n: f"answer to: row {n % 3}" for n in range(6)}
        assert restarted == []


def test_a_slow_reader_gets_all_restarts_and_its_memory_stays_bounded() -> None:
    chain = Breaks()

    async def main() -> None:
        patient = RetryPolicy(base_s=0.001, cap_s=0.01, allowance_floor=1000)
        processor = BatchProcessor(chain, retry=patient, concurrency=50)
        texts: dict[int, str] = {}
        stream = processor.stream_batch(range(400))
        async for index, chunk in stream:
            if len(texts) == 10:
                await asyncio.sleep(10_000)
                assert len(chain.left) < 400, "rows piled up behind a reader that does not read"
            texts[index] = "" if chunk is RESTARTED else texts.get(index, "") + chunk
        assert texts == {n: WHOLE.format(n) for n in range(400)}

    virtual_run(main())


def test_the_documents_class_hands_the_word_on_as_a_text() -> None:
    async def main() -> list[tuple[int, str]]:
        processor = StreamingBatchProcessor(Breaks(), retry=QUICK)
        return [pair async for pair in processor.stream_batch([0])]

    pairs = virtual_run(main())
    assert "".join(text for _, text in pairs) == "0.0 0.1 0.2 \n[restarted]\n" + WHOLE.format(0)
    assert pairs[3][1] is RESTARTED


def test_errors_before_the_stream_are_the_requests_own_tries() -> None:
    with Loopback(script=lambda request: fails(500) if request.nth <= 3 else None) as server:
        processor = BatchProcessor(chain_of(server), retry=QUICK)
        with pytest.raises(openai.InternalServerError):
            asyncio.run(collected(processor.stream_batch(rows(1))))
        assert server.requests == 3


def test_the_word_is_one_object_and_says_what_it_is() -> None:
    assert repr(RESTARTED) == "RESTARTED"
    assert str(RESTARTED).strip() == "[restarted]"
    assert copy.deepcopy(RESTARTED) is RESTARTED
    assert pickle.loads(pickle.dumps(RESTARTED)) is RESTARTED
