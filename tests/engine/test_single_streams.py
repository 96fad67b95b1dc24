"""One row's stream: pieces come as they are made, on threads too, and a stream that is left is closed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import AIMessageChunk, ai
from langchain_core.runnables import RunnableGenerator, RunnableLambda

from cottonpalm import BatchProcessor
from tests.differential.fakes import EchoText
from tests.differential.seen import Trees

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.conftest import Eventually

pytestmark = pytest.mark.core


def test_a_stream_on_threads_is_made_as_it_is_read_and_closed_when_it_is_left(eventually: Eventually) -> None:
    made: list[int] = []
    closed: list[bool] = []

    def endless(_: Iterator[Any]) -> Iterator[int]:
        try:
            for number in range(1_000_000):
                made.append(number)
                yield number
        finally:
            closed.append(True)

    pieces = BatchProcessor(RunnableGenerator(endless)).stream("a row")
    assert [next(pieces), next(pieces)] == [0, 1]
    pieces.close()  # type: ignore[attr-defined]
    eventually(lambda: closed)
    assert len(made) < 1_000


async def _many_pieces(_: AsyncIterator[Any]) -> AsyncIterator[AIMessageChunk]:
    for number in range(300):
        call = {
            "name": "f" if not number else None,
            "args": '{"a": "' if not number else "x",
            "id": None,
            "index": 0,
        }
        yield AIMessageChunk("", tool_call_chunks=[call | {"type": "tool_call_chunk"}])  # type: ignore[list-item]


def test_a_streamed_tool_call_is_put_together_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    parse = ai.parse_partial_json
    monkeypatch.setattr(
        ai, "parse_partial_json", lambda text, **more: read.append(len(text)) or parse(text, **more)
    )
    assert len(list(BatchProcessor(RunnableGenerator(_many_pieces)).stream("a row"))) == 300
    assert sum(read) < 10 * 300


@pytest.mark.parametrize("hidden", [False, True])
def test_an_old_style_models_start_reaches_the_callers_handlers(hidden: bool) -> None:
    model, seen = EchoText(), Trees()

    async def picks(_: str) -> Any:
        return model

    chain = RunnableLambda(picks) if hidden else model
    assert asyncio.run(BatchProcessor(chain).ainvoke("a", {"callbacks": [seen]})) == "A"
    assert len(seen.roots) == 1
    assert "EchoText" in seen.roots[0]
