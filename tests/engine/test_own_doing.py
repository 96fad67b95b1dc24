"""Rows, chains and observers that do harm to themselves do none to the run."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor, RetryPolicy, RunStopped
from cottonpalm.stores.memory import MemoryStore
from cottonpalm.testing import virtual_run
from tests.engine.helpers import Probe, double
from tests.support.loopback import Loopback
from tests.support.replies import too_many

pytestmark = pytest.mark.core


def leaves(x: int) -> int:
    if x == 1:
        raise GeneratorExit
    return x


async def aleaves(x: int) -> int:
    await asyncio.sleep(0)
    return leaves(x)


async def deep(x: int) -> int:
    (answer,) = await asyncio.gather(aleaves(x))
    return answer


@pytest.mark.parametrize("function", [leaves, aleaves, deep])
def test_a_generator_exit_of_the_rows_own_is_one_failed_row(function: Any) -> None:
    answers = BatchProcessor(RunnableLambda(function), retry=0).batch([0, 1, 2], return_exceptions=True)
    assert answers[0] == 0
    assert answers[2] == 2
    assert "GeneratorExit" in str(answers[1])


class Mute(ValueError):
    def __str__(self) -> str:
        return self.args  # type: ignore[return-value]


@pytest.mark.parametrize("behind", [False, True])
def test_an_exception_whose_text_cannot_be_had_is_one_failed_row(*, behind: bool) -> None:
    def fails(x: int) -> int:
        if x == 1 and behind:
            raise RuntimeError("no") from Mute()
        if x == 1:
            raise Mute
        return x

    processor = BatchProcessor(RunnableLambda(fails), store=MemoryStore(), run="one")
    answers = processor.batch([0, 1, 2], return_exceptions=True)
    assert (answers[0], type(answers[1]), answers[2]) == (0, RuntimeError if behind else Mute, 2)
    assert processor.last_run is not None
    error = processor.last_run.outcomes()[1].error
    assert error is not None
    assert error.message.count("<Mute without a readable text>") == 1


def test_a_validator_may_raise_such_an_exception() -> None:
    def refuses(_: int) -> None:
        raise Mute

    [error] = BatchProcessor(double(), validate=refuses).batch([1], return_exceptions=True)
    assert str(error) == "validate= refused the answer: <Mute without a readable text>"


def test_a_row_that_cancels_its_own_task_stops_the_run_and_is_left_to_be_done() -> None:
    class Cancels(Probe):
        async def ainvoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
            task = asyncio.current_task()
            if input == 3 and task is not None:
                task.cancel()
            return await super().ainvoke(input, config)

    with pytest.raises(RunStopped, match=r"row 4 \(index 3\) was cancelled") as caught:
        BatchProcessor(Cancels(delay_s=0), concurrency=1).batch(list(range(6)))
    assert [outcome.status for outcome in caught.value.outcomes[:4]] == ["ok", "ok", "ok", "skipped"]


@pytest.mark.parametrize("exc", [SystemExit(3), ValueError("mine"), asyncio.CancelledError()])
def test_an_observer_that_raises_anything_is_switched_off(exc: BaseException) -> None:
    class Bad:
        def see(self, event: object) -> None:
            raise exc

    assert BatchProcessor(double(), observers=[Bad()]).batch([1, 2]) == [2, 4]


def test_a_chain_that_edits_its_row_edits_a_copy() -> None:
    def edits(row: dict[str, Any]) -> str:
        row["text"] = row["text"] + " edited"
        return str(row["text"])

    store = MemoryStore()
    rows = [{"text": "a"}, {"text": "b"}]
    processor = BatchProcessor(RunnableLambda(edits), store=store, run="r")
    assert processor.batch(rows) == ["a edited", "b edited"]
    assert rows == [{"text": "a"}, {"text": "b"}]
    run = processor.last_run
    assert run is not None
    assert [outcome.input for outcome in run.outcomes()] == rows


def test_single_calls_leave_nothing_behind() -> None:
    processor = BatchProcessor(double())
    for n in range(50):
        assert processor.invoke(n) == 2 * n
    gc.collect()
    assert not [one for many in processor._builder.accounts._limiters.values() for one in many]


def test_a_row_that_is_always_throttled_does_not_starve_the_others_however_high_its_priority() -> None:
    def script(request: Any) -> Any:
        return too_many(0.01) if request.text == "row 0" else None

    with Loopback(script=script) as server:
        model = ChatOpenAI(base_url=server.openai_url, api_key="sk-0123456789", model="gpt-4o-mini")
        chain = ChatPromptTemplate.from_template("{x}") | model | StrOutputParser()
        policy = RetryPolicy(base_s=0.001, cap_s=0.01, rejections=5)
        rows = [{"x": f"row {n}"} for n in range(30)]
        processor = BatchProcessor(chain, retry=policy, concurrency=2)
        answers = processor.batch(rows, priorities=[9] + [0] * 29, return_exceptions=True)
    assert answers[1:] == [f"answer to: row {n}" for n in range(1, 30)]
    assert "RateLimit" in type(answers[0]).__name__


def test_a_connection_error_says_what_is_behind_it() -> None:
    model = ChatOpenAI(
        base_url="http://127.0.0.1:9/v1", api_key="sk-0123456789", model="gpt-4o-mini", max_retries=0
    )
    processor = BatchProcessor(model, retry=0)
    processor.batch(["x"], return_exceptions=True)
    run = processor.last_run
    assert run is not None
    error = run.outcomes()[0].error
    assert error is not None
    assert "onnect" in error.message.partition("(")[2]


def test_a_loop_that_ends_in_the_middle_of_a_run_settles_it() -> None:
    chain = Probe(delay_s=10.0)

    async def main() -> None:
        task = asyncio.ensure_future(BatchProcessor(chain, concurrency=3).abatch(list(range(9))))
        await asyncio.sleep(1.0)
        task.cancel()
        await asyncio.wait([task])

    virtual_run(main())
    assert chain.in_flight == 0
