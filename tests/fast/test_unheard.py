"""LangChain's callback machinery runs for those who listen."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

import pytest
from langchain_core.callbacks import AsyncCallbackManager
from langchain_core.output_parsers import StrOutputParser

from cottonpalm import BatchProcessor
from tests.fast.cases import PROMPT, chat, openai
from tests.fast.equal import Ear
from tests.fast.wires import Server, wire

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS = [{"text": f"row {number}"} for number in range(4)]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(wire=wire(chat())) as server:
        yield server


@pytest.mark.parametrize("transport", ["fast", "stock"])
@pytest.mark.parametrize("listening", [False, True], ids=["unheard", "heard"])
def test_steps_have_callbacks_only_where_somebody_listens_whoever_sends(
    server: Server,
    transport: Literal["fast", "stock"],
    listening: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Any] = []
    original = AsyncCallbackManager.configure

    def configure(*given: Any, **more: Any) -> Any:
        made.append(given)
        return original(*given, **more)

    monkeypatch.setattr(AsyncCallbackManager, "configure", configure)
    ear = Ear()
    processor = BatchProcessor(
        PROMPT | openai(server.url) | StrOutputParser(), concurrency=1, transport=transport
    )
    config = {"callbacks": [ear]} if listening else None
    assert asyncio.run(processor.abatch(ROWS, config)) == ["an answer"] * 4
    assert bool(ear.heard) == (len(made) >= len(ROWS)) == listening  # a run asks once or twice who listens
