"""Chains drawn at random give, row by row, what LangChain's `ainvoke` gives, and ask the model as often."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import (
    Runnable,
    RunnableBranch,
    RunnableConfig,
    RunnableLambda,
    RunnablePassthrough,
)
from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor
from tests.support.loopback import Loopback

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = [letters * count for letters, count in zip("abcdef", range(1, 7), strict=True)]
PROMPT = ChatPromptTemplate.from_template("{text}")
Chain = Runnable[Any, Any]


def _upper(text: str) -> str:
    return text.upper()


async def _reversed(text: str) -> str:
    await asyncio.sleep(0)
    return text[::-1]


def _with_tags(text: str, config: RunnableConfig) -> str:
    return f"{text} {sorted(config['tags'])} {sorted(config['metadata'])}"


def _picky(text: str) -> str:
    if len(text) % 3 == 0:
        raise ValueError(text)
    return text


async def _picky_later(text: str) -> str:
    return _picky(text)


def _joined(found: dict[str, str]) -> str:
    return " ".join(f"{name}={text}" for name, text in found.items())


async def _joined_later(found: dict[str, str]) -> str:
    return _joined(found)


class _Own(Runnable[str, str]):
    def invoke(self, input: str, config: RunnableConfig | None = None, **_: Any) -> str:
        return f"{input} {len((config or {})['tags'])}"


class _OwnLater(_Own):
    async def ainvoke(self, input: str, config: RunnableConfig | None = None, **_: Any) -> str:
        await asyncio.sleep(0)
        return self.invoke(input, config)


class Drawing:
    """Draws chains from text to text."""

    def __init__(self, seed: int, url: str) -> None:
        self._draw = random.Random(seed)
        self._model = ChatOpenAI(model="gpt-4o-mini", base_url=url, api_key="k", timeout=30)  # type: ignore[arg-type]

    def chain(self, depth: int = 3) -> Chain:
        """A chain that asks the model at least once."""
        return self._one(depth) | self._ask() | self._one(depth)

    def _ask(self) -> Chain:
        return {"text": RunnablePassthrough()} | PROMPT | self._model | StrOutputParser()

    def _one(self, depth: int) -> Chain:
        leaves: list[Callable[[], Chain]] = [
            self._ask,
            lambda: RunnableLambda(self._draw.choice([_upper, _with_tags, _picky])),
            lambda: RunnableLambda(self._draw.choice([_reversed, _picky_later])),
            lambda: self._draw.choice([_Own(), _OwnLater()]),
        ]
        if depth == 0:
            return self._draw.choice(leaves)()
        one, two = self._one(depth - 1), self._one(depth - 1)
        retry = {"stop_after_attempt": 2, "wait_exponential_jitter": False}
        nodes: list[Callable[[], Chain]] = [
            lambda: one | two,
            lambda: {"a": one, "b": two} | RunnableLambda(self._draw.choice([_joined, _joined_later])),
            lambda: {"a": one, "b": RunnablePassthrough()} | RunnableLambda(_joined),
            lambda: {"text": RunnablePassthrough()} | self._assigned(one),
            lambda: RunnableBranch((lambda text: len(text) % 2, one), two),
            lambda: one.with_fallbacks([two], exceptions_to_handle=(ValueError,)),
            lambda: one.with_retry(retry_if_exception_type=(ValueError,), **retry),  # type: ignore[arg-type]
            lambda: one.with_config(tags=["bound"], metadata={"at": depth}, run_name="mine"),
            lambda: RunnableLambda(lambda _: one),
        ]
        return self._draw.choice([*leaves[:1], *nodes])()

    def _assigned(self, one: Chain) -> Chain:
        assigned = RunnablePassthrough.assign(more=itemgetter("text") | one)
        return self._draw.choice(
            [assigned.pick("more"), assigned.pick(["more"]) | _joined, assigned | _joined]
        )


def _plain(answer: Any) -> Any:
    return type(answer).__name__ if isinstance(answer, BaseException) else answer


async def _both(seed: int, server: Loopback) -> None:
    chain = Drawing(seed, server.openai_url).chain()
    config: RunnableConfig | None = {"tags": ["row"], "max_concurrency": 4} if seed % 2 else None
    before = Counter(server.counts)
    alone = [_plain(one) for one in await chain.abatch(ROWS, config, return_exceptions=True)]
    between = Counter(server.counts)
    processor = BatchProcessor(chain, concurrency=4, max_failures=1.0, hedge=False)
    ours = [_plain(one) for one in await processor.abatch(ROWS, config, return_exceptions=True)]
    assert ours == alone
    if not any(
        "Error" in answer for answer in alone
    ):  # else branches beside the one that failed may be cut off
        assert Counter(server.counts) - between == between - before


@pytest.mark.parametrize("seed", range(24))
def test_a_drawn_chain_gives_what_langchain_gives(seed: int) -> None:
    with Loopback() as server:
        asyncio.run(_both(seed, server))
