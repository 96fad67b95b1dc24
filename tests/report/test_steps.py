"""Where the time of a row goes inside the chain, by the names of its steps, against chains whose truth is known."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor
from cottonpalm.engine.chain_call.step_times import in_sample
from cottonpalm.testing import FlakyTransport, virtual_run
from tests.report.stories import HOSTILE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cottonpalm.observers.report import Report

pytestmark = pytest.mark.core
SAMPLED = sum(map(in_sample, range(200)))


def takes(seconds: float, name: str) -> RunnableLambda[Any, Any]:
    async def step(row: Any) -> Any:
        await asyncio.sleep(seconds)
        return row

    return RunnableLambda(step, name=name)


def report_of(chain: Any, rows: int = 200, **options: Any) -> Report:
    async def main() -> Report:
        processor = BatchProcessor(chain, **options)
        await processor.abatch(list(range(rows)), return_exceptions=True)
        assert processor.last_run is not None
        return processor.last_run.report

    return virtual_run(main())


def steps(report: Report) -> dict[str, tuple[int, float]]:
    return {step.name: (step.calls, round(step.seconds, 6)) for step in report.steps}


def test_each_step_has_the_seconds_that_were_spent_in_it_alone() -> None:
    inner = takes(1.0, "look up") | takes(3.0, "ask")
    chain = takes(0.5, "prepare") | RunnableLambda(lambda row: inner, name="choose") | takes(0.5, "tidy")
    found = steps(report_of(chain))
    assert found["ask"] == (SAMPLED, 3.0 * SAMPLED)
    assert found["look up"] == (SAMPLED, 1.0 * SAMPLED)
    assert found["prepare"] == found["tidy"] == (SAMPLED, 0.5 * SAMPLED)
    assert found["choose"] == (SAMPLED, 0.0), "what it calls has time of its own"
    assert sum(seconds for _, seconds in found.values()) == pytest.approx(5.0 * SAMPLED)
    assert [*found][:2] == ["ask", "look up"]


def test_steps_side_by_side_each_have_their_own_and_tries_that_failed_count_too() -> None:
    tries: set[int] = set()

    async def fails_once(row: int) -> int:
        await asyncio.sleep(1.0)
        if row in tries:
            return row
        tries.add(row)
        raise ConnectionError("broken off")

    chain = RunnableParallel(a=takes(1.0, "short"), b=takes(4.0, "long")) | RunnableLambda(
        lambda row: row["a"], name="pick"
    )
    found = steps(report_of(chain | RunnableLambda(fails_once, name="last"), rows=10, retry=2))
    assert found["short"] == (20, 20.0)
    assert found["long"] == (20, 80.0)
    assert found["last"] == (20, 20.0)


class Speaks(BaseChatModel):
    """A model whose answer comes in four seconds, a piece each."""

    @property
    def _llm_type(self) -> str:
        return "speaks"

    def _generate(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    async def _astream(self, *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
        for word in range(4):
            await asyncio.sleep(1.0)
            yield ChatGenerationChunk(message=AIMessageChunk(f"{word} "))


def test_a_step_that_a_stream_flows_through_has_not_the_time_of_the_model() -> None:
    async def main() -> Report:
        chain = ChatPromptTemplate.from_template("{x}") | Speaks() | StrOutputParser() | takes(0.5, "tidy")
        processor = BatchProcessor(chain)
        async for _ in processor.stream_batch([{"x": n} for n in range(3)]):
            pass
        assert processor.last_run is not None
        return processor.last_run.report

    report = virtual_run(main())
    found = {name.partition(" ")[0]: seen for name, seen in steps(report).items()}
    assert found["StrOutputParser"] == (3, 0.0), "it waits for the pieces"
    assert found["tidy"] == (3, 1.5)
    assert found["Speaks"][1] == pytest.approx(12.0, abs=0.1)


@pytest.mark.parametrize("awaited", [True, False])
def test_rows_in_threads_have_steps_too(awaited: bool) -> None:
    chain = RunnableLambda(lambda row: row, name="one") | RunnableLambda(lambda row: row, name="two")
    processor = BatchProcessor(chain)
    if awaited:
        asyncio.run(processor.abatch([1, 2]))
    else:
        processor.batch([1, 2])
    assert processor.last_run is not None
    assert {step.name: step.calls for step in processor.last_run.report.steps} == {
        "one": 2,
        "two": 2,
        "RunnableSequence": 2,
    }


@pytest.mark.parametrize("transport", ["fast", "stock"])
def test_a_chat_chain_has_the_same_steps_by_either_transport(transport: str) -> None:
    async def main() -> Report:
        client = httpx2.AsyncClient(transport=FlakyTransport())
        model = ChatOpenAI(model="m", max_retries=0, api_key="sk-1", http_async_client=client)  # type: ignore[arg-type]
        processor = BatchProcessor(
            ChatPromptTemplate.from_template("{x}") | model | StrOutputParser(), transport=transport
        )
        await processor.abatch([{"x": n} for n in range(20)])
        assert processor.last_run is not None
        return processor.last_run.report

    found = {step.name: step.calls for step in virtual_run(main()).steps}
    names = ("ChatOpenAI (m)", "ChatPromptTemplate", "StrOutputParser")
    assert {name: found[name] for name in names} == dict.fromkeys(names, 16)


@pytest.mark.parametrize("transport", ["fast", "stock"])
def test_models_of_one_class_are_steps_of_their_own_by_either_transport(transport: str) -> None:
    """Their times were added up under the name of the class."""

    async def main() -> Report:
        client = httpx2.AsyncClient(transport=FlakyTransport())
        made = partial(ChatOpenAI, max_retries=0, api_key="sk-1", http_async_client=client)
        named = made(model="large").with_config(run_name="judge")
        chain = (
            made(model="small") | StrOutputParser() | made(model="large", name="writer") | StrOutputParser()
        )
        processor = BatchProcessor(
            chain | named | StrOutputParser() | made(model="small").bind(model="large"), transport=transport
        )
        await processor.abatch([f"{n}" for n in range(20)])
        assert processor.last_run is not None
        return processor.last_run.report

    found = {step.name: step.calls for step in virtual_run(main()).steps}
    models = ("ChatOpenAI (small)", "ChatOpenAI (large)", "writer", "judge")
    assert {name: found.get(name) for name in models} == dict.fromkeys(models, 16)


def test_report_and_page_tell_of_them_and_of_a_single_step_nothing() -> None:
    report = report_of(takes(1.0, "look up") | takes(3.0, "ask"))
    assert "steps      ask 75 %, look up 25 %" in report.text()
    page = report.to_html()
    assert "Steps of the chain" in page
    lines = re.findall(r'<bdi[^>]*>([\w ]+)</bdi></td><td class="number" data-by="\d+">(\d+)', page)
    assert lines[:2] == [("ask", str(SAMPLED)), ("look up", str(SAMPLED))]
    alone = report_of(takes(1.0, "only"))
    assert "Steps of the chain" not in alone.to_html()
    assert "steps" not in alone.text()


def test_a_hostile_name_harms_nothing_and_is_cut() -> None:
    for name in HOSTILE[:5]:
        report = report_of(takes(1.0, name) | takes(1.0, "fine"), rows=1)
        assert "<script>window" not in report.to_html()
        assert all(len(step.name) <= 60 for step in report.steps)
        assert not re.search("[\x00-\x09\x0b-\x1f\u202a-\u202e]", report.text())


def test_most_rows_of_a_long_run_are_not_listened_to() -> None:
    assert [index for index in range(600) if in_sample(index)] == [*range(16), 256, 512]
