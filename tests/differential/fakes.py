"""Models without a network that answer from their input alone, so that no order of calls can change an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel, BaseLLM
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, Generation, LLMResult

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


def said(messages: list[BaseMessage]) -> str:
    """The last message, louder; "bad" cannot be said."""
    text = str(messages[-1].content)
    if text == "bad":
        raise ValueError("bad is no text")
    return text.upper()


class Echo(BaseChatModel):
    """Says the last message louder, letter by letter where it streams. It has only sync methods."""

    mood: str = ""

    @property
    def _llm_type(self) -> str:
        return "echo"

    def _generate(self, messages: list[BaseMessage], *_: Any, **kwargs: Any) -> ChatResult:
        text = self.mood + said(messages) + str(kwargs.get("ending", ""))
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text))])

    def _stream(self, messages: list[BaseMessage], *_: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        for letter in self._generate(messages, **kwargs).generations[0].message.text:
            yield ChatGenerationChunk(message=AIMessageChunk(letter))


class AsyncEcho(Echo):
    """The same, with async methods too."""

    async def _agenerate(self, messages: list[BaseMessage], *_: Any, **kwargs: Any) -> ChatResult:
        return self._generate(messages, **kwargs)

    async def _astream(
        self, messages: list[BaseMessage], *_: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._stream(messages, **kwargs):
            yield chunk


class EchoText(BaseLLM):
    """A model of the old style: prompts in, texts out."""

    @property
    def _llm_type(self) -> str:
        return "echo-text"

    def _generate(self, prompts: list[str], *_: Any, **__: Any) -> LLMResult:
        return LLMResult(generations=[[Generation(text=prompt.upper())] for prompt in prompts])


class Agent(Echo):
    """Calls the tool once, then says what it said."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(self, messages: list[BaseMessage], *_: Any, **kwargs: Any) -> ChatResult:
        if isinstance(messages[-1], ToolMessage):
            message = AIMessage(f"it said {messages[-1].text}")
        else:
            asked = {
                "name": "shout",
                "args": {"text": messages[-1].text},
                "id": "call-1",
                "type": "tool_call",
            }
            message = AIMessage("", tool_calls=[asked])
        return ChatResult(generations=[ChatGeneration(message=message)])

    _stream = BaseChatModel._stream
