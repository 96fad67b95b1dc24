"""A number as `concurrency` is the most requests in flight over all models of a chain."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_openai import ChatOpenAI

from cottonpalm import AdaptiveConcurrency, BatchProcessor, Limits
from tests.support.loopback import Loopback
from tests.support.replies import Request, fails

pytestmark = pytest.mark.waits

ROWS = [f"row {n}" for n in range(12)]


def two_models(server: Loopback) -> Any:
    def of(name: str) -> Any:
        return ChatOpenAI(base_url=server.openai_url, api_key="sk-0123456789", model=name)

    return RunnableParallel(a=of("model-a"), b=of("model-b"))


def texts(answers: list[Any]) -> list[tuple[str, str]]:
    return [(answer["a"].content, answer["b"].content) for answer in answers]


RIGHT = [(f"answer to: {row}", f"answer to: {row}") for row in ROWS]


@pytest.mark.parametrize("most", [1, 2, 3])
def test_two_models_in_parallel_share_the_number(most: int) -> None:
    with Loopback(latency=0.005) as server:
        answers = asyncio.run(BatchProcessor(two_models(server), concurrency=most).abatch(ROWS))
        assert texts(answers) == RIGHT
        assert server.peak <= most


def test_they_share_it_on_threads_too() -> None:
    with Loopback(latency=0.005) as server:
        both = two_models(server)
        step = RunnableLambda(both.invoke)
        answers = BatchProcessor(step, concurrency=2).batch(ROWS)
        assert texts(answers) == RIGHT
        assert server.peak <= 2


def test_adaptive_concurrency_is_for_each_model() -> None:
    with Loopback(latency=0.02) as server:
        bounds = AdaptiveConcurrency(2, 2, 2)
        asyncio.run(BatchProcessor(two_models(server), concurrency=bounds, limits=Limits()).abatch(ROWS))
        assert server.peak == 4


def test_a_model_that_fails_gives_its_place_among_all_back() -> None:
    def script(request: Request) -> Any:
        return fails(500) if request.body["model"] == "model-a" and request.nth <= 2 else None

    with Loopback(script=script, latency=0.001) as server:
        answers = asyncio.run(BatchProcessor(two_models(server), concurrency=1).abatch(ROWS))
        assert texts(answers) == RIGHT
        assert server.peak == 1
