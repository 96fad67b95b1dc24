"""Rows whose functions ask on threads of their own, which do not know their row: limits and money hold all the same."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableLambda
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor, Budget, RetryPolicy
from tests.support.loopback import Loopback
from tests.support.replies import fails

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.core
RATES = (0.15, 0.60)  # dollars per million tokens


def openai(server: Loopback) -> Any:
    make: Any = ChatOpenAI
    return make(model="ours", base_url=server.openai_url, api_key="sk-test-0123456789", max_tokens=20)


def anthropic(server: Loopback) -> Any:
    make: Any = ChatAnthropic
    return make(model="ours", base_url=server.url, api_key="sk-ant-x", max_tokens=20)


def google(server: Loopback) -> Any:
    return ChatGoogleGenerativeAI(model="ours", base_url=server.url, google_api_key="x", max_tokens=20)


def by_pool(model: Any) -> Callable[[str], list[str]]:
    def asks(row: str) -> list[str]:
        with ThreadPoolExecutor(2) as pool:
            return [answer.text for answer in pool.map(model.invoke, [row, f"{row} again"])]

    return asks


def by_a_chain_in_a_helper(model: Any) -> Callable[[str], list[str]]:
    chain = model | StrOutputParser()

    def helps(text: str) -> str:
        return str(chain.invoke(text))

    def asks(row: str) -> list[str]:
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(helps, [row, f"{row} again"]))

    return asks


def by_a_loop_of_its_own(model: Any) -> Callable[[str], list[str]]:
    async def both(row: str) -> list[str]:
        return [(await model.ainvoke(text)).text for text in (row, f"{row} again")]

    def asks(row: str) -> list[str]:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(lambda: asyncio.run(both(row))).result()

    return asks


def charged(server: Loopback) -> float:
    return (server.billed.input_tokens * RATES[0] + server.billed.output_tokens * RATES[1]) / 1e6


@pytest.mark.parametrize(
    ("make", "form"),
    [
        (openai, by_pool),
        (anthropic, by_pool),
        (google, by_pool),
        (openai, by_a_chain_in_a_helper),
        (openai, by_a_loop_of_its_own),
        (anthropic, by_a_loop_of_its_own),
    ],
)
def test_requests_of_threads_that_no_row_was_seen_to_ask_before_keep_limit_and_count(
    make: Any, form: Any
) -> None:
    with Loopback([fails(500)], latency=0.002) as server:
        processor = BatchProcessor(
            RunnableLambda(form(make(server))),
            concurrency=2,
            budget=Budget(total=1),
            prices={"ours": RATES},
            retry=RetryPolicy(base_s=0.001),
        )
        rows = [f"row {number}" for number in range(6)]
        assert processor.batch(rows) == [[f"answer to: {row}", f"answer to: {row} again"] for row in rows]
        assert (server.requests, server.peak <= 2) == (13, True)
        assert processor.last_run is not None
        assert processor.last_run.stats.reported_usd == pytest.approx(charged(server), rel=1e-9)


def test_requests_of_threads_that_no_row_was_seen_to_ask_before_never_pass_the_budget() -> None:
    with Loopback() as server:
        total = 0.0003
        processor = BatchProcessor(
            RunnableLambda(by_pool(openai(server))), budget=Budget(total=total), prices={"ours": RATES}
        )
        processor.batch([f"row {number}" for number in range(100)], return_exceptions=True)
        assert processor.last_run is not None
        assert processor.last_run.stopped is not None
        assert processor.last_run.stopped.reason == "budget"
        assert 0 < charged(server) <= total


def test_a_model_that_no_function_of_the_chain_reads_is_not_the_runs() -> None:
    """As in a web server beside the run."""
    with Loopback() as server, Loopback() as other:
        aside = openai(other)
        processor = BatchProcessor(
            RunnableLambda(by_pool(openai(server))), budget=Budget(total=1), prices={"ours": RATES}
        )
        with processor.start(["a row"]) as run, ThreadPoolExecutor(1) as pool:
            assert pool.submit(aside.invoke, "a page").result().text == "answer to: a page"
            assert [outcome.output for outcome in run] == [["answer to: a row", "answer to: a row again"]]
        assert run.stats.reported_usd == pytest.approx(charged(server), rel=1e-9)
