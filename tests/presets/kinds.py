"""The kinds of chain that people have, and how each of the ten classes is called."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_openai import ChatOpenAI

import cottonpalm
from cottonpalm.engine.output.texts import text_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from tests.support.loopback import Loopback

PROMPT = ChatPromptTemplate.from_template("Say it: {x}")


class EchoModel(BaseChatModel):
    """Answers with the question, whole or word by word; its content is a string or content blocks."""

    blocks: bool = False

    @property
    def _llm_type(self) -> str:
        return "echo"

    def _content(self, text: str) -> Any:
        return [{"type": "text", "text": text}] if self.blocks else text

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        answer = AIMessage(content=self._content(f"echo of {messages[-1].text}"))
        return ChatResult(generations=[ChatGeneration(message=answer)])

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        for word in ("echo", " of ", "", messages[-1].text):
            yield ChatGenerationChunk(message=AIMessageChunk(content=self._content(word)))


class SyncOnly(Runnable[Any, Any]):
    """A Runnable of somebody who has heard of no loop."""

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> str:
        return f"sync {input['x']}"


def openai(server: Loopback, **more: Any) -> Any:
    return PROMPT | ChatOpenAI(
        base_url=server.openai_url, api_key="sk-test-0123456789", **{"model": "gpt-4o-mini"} | more
    )


async def _later(row: dict[str, str]) -> str:
    await asyncio.sleep(0)
    return f"async {row['x']}"


KINDS: dict[str, Callable[[Loopback], Any]] = {
    "lambda": lambda _: RunnableLambda(lambda row: row["x"].upper()),
    "async lambda": lambda _: RunnableLambda(_later),
    "sync only": lambda _: SyncOnly(),
    "prompt and fake model": lambda _: PROMPT | EchoModel(),
    "fake model in blocks": lambda _: PROMPT | EchoModel(blocks=True),
    "fake model and parser": lambda _: PROMPT | EchoModel() | StrOutputParser(),
    "openai": openai,
    "openai and parser": lambda server: openai(server) | StrOutputParser(),
}


def invoked(chain: Any, row: Any) -> Any:
    """What the bare chain says of one row."""
    if isinstance(chain, RunnableLambda) and not hasattr(chain, "func"):
        return asyncio.run(chain.ainvoke(row))
    return chain.invoke(row)


def plain(output: Any) -> Any:
    """What of an output does not differ from call to call: messages have ids of their own."""
    return (type(output).__name__, output.content) if isinstance(output, BaseMessage) else output


async def joined(pieces: AsyncIterator[tuple[int, str]], rows: int) -> list[str | None]:
    """The text of each row, None for one without any piece; what came before a restart is void."""
    texts: list[str | None] = [None] * rows
    async for index, piece in pieces:
        assert piece, "a piece is empty"
        texts[index] = None if piece is cottonpalm.RESTARTED else (texts[index] or "") + piece
    return texts


def streamed(processor: Any, rows: list[Any]) -> list[Any]:
    return asyncio.run(joined(processor.stream_batch(rows), len(rows)))


class Preset:
    """How one of the ten is made and called.

    Args:
        name: of the class.
        none: whether a failed row is None, or raises when all have run.
        method: that runs the rows.
        own: arguments of the class itself.
    """

    def __init__(self, name: str, *, none: bool, method: str = "batch", **own: Any) -> None:
        self.name, self.none, self._method, self._own = name, none, method, own

    def make(self, chain: Any, folder: Path, **options: Any) -> Any:
        own = {"checkpoint_file": folder / "checkpoint.pkl"} if self.name.startswith("Resumable") else {}
        return getattr(cottonpalm, self.name)(chain, **self._own, **own, **options)

    def run(self, processor: Any, rows: list[Any]) -> list[Any]:
        if self._method == "stream_batch":
            return streamed(processor, rows)
        return getattr(processor, self._method)(rows)

    def expected(self, output: Any) -> Any:
        """What stands for this output of the chain."""
        return text_of(output) if self._method == "stream_batch" else plain(output)

    def __repr__(self) -> str:
        return self.name


PRESETS = [
    Preset("AdaptiveBatchProcessor", none=True, initial_concurrency=3),
    Preset("SmartRetryBatch", none=True, method="batch_with_smart_retry", max_retries=3),
    Preset("StreamingBatchProcessor", none=False, method="stream_batch"),
    Preset("CostAwareBatchProcessor", none=False, budget_per_hour=10.0),
    Preset("CachedBatchProcessor", none=False, cache_size=100),
    Preset("ChunkedBatchProcessor", none=True, chunk_size=10),
    Preset("PriorityBatchProcessor", none=True),
    Preset("ResumableBatchProcessor", none=False),
    Preset("ProfilingBatchProcessor", none=False),
    Preset("HybridBatchProcessor", none=False),
]


def rows_of(count: int) -> list[dict[str, str]]:
    return [{"x": f"row {n}"} for n in range(count)]


class Counted:
    """A chain that answers, but for the rows it is told to fail, and counts its calls."""

    def __init__(self, bad: str = "row 3") -> None:
        self.calls: Counter[str] = Counter()
        self._bad = bad
        self.chain = RunnableLambda(self._answer)

    async def _answer(self, row: dict[str, str]) -> str:
        self.calls[row["x"]] += 1
        if row["x"] == self._bad:
            raise ValueError("this row cannot be answered")
        return f"answer to {row['x']}"
