"""Forms that a chain can have, each made afresh for every call, with rows it answers and a row it fails on."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from langchain.agents import create_agent
from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_core.documents import Document
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import JsonOutputParser, StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import (
    ConfigurableField,
    RouterRunnable,
    Runnable,
    RunnableBranch,
    RunnableConfig,
    RunnableGenerator,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
    RunnablePick,
    chain,
)
from langchain_core.runnables.history import RunnableWithMessageHistory
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

from cottonpalm import BatchProcessor
from tests.differential.fakes import Agent, AsyncEcho, Echo, EchoText

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

Chain = Runnable[Any, Any]
TEXTS = ["one", "two", "three"]
PROMPT = ChatPromptTemplate.from_messages([("system", "Say it."), ("user", "{text}")])
SET_OUTSIDE: ContextVar[str] = ContextVar("set_outside", default="unset")


class Form(NamedTuple):
    """A chain's form.

    Attributes:
        make: makes the chain, without anything left of an earlier call.
        wrap: makes a row of a text; "bad" is the text that fails.
        fails: whether it fails on the row of "bad".
        asynchronous: it has no sync form.
        threaded: each row needs a thread_id of its own.
        parallel: steps run side by side, so the order of events is chance.
    """

    make: Callable[[], Chain]
    wrap: Callable[[str], Any] = lambda text: text
    fails: bool = True
    asynchronous: bool = False
    threaded: bool = False
    parallel: bool = False

    def rows(self) -> list[Any]:
        return [self.wrap(text) for text in TEXTS]

    def bad(self) -> Any:
        return self.wrap("bad")


def as_text(text: str) -> dict[str, str]:
    return {"text": text}


def up(text: str) -> str:
    if text == "bad":
        raise ValueError("bad is no text")
    return text.upper()


async def aup(text: str) -> str:
    await asyncio.sleep(0)
    return up(text)


def _numbers(text: str, config: RunnableConfig) -> str:
    return f"{up(text)} {sorted(config['tags'])} {config['metadata'].get('row')}"


def _letters(texts: Iterator[str]) -> Iterator[str]:
    for text in texts:
        yield from up(text)


async def _aletters(texts: AsyncIterator[str]) -> AsyncIterator[str]:
    async for text in texts:
        for letter in up(text):
            yield letter


def _once_more(text: str) -> Any:
    return RunnableLambda(up).with_config(run_name="inner") if text != "two" else text


@chain
def _decorated(text: str) -> str:
    return RunnableLambda(up).invoke(text) + "!"


@chain
async def _adecorated(text: str) -> str:
    return await RunnableLambda(aup).ainvoke(text) + "!"


@tool
def shout(text: str) -> str:
    """Say it louder."""
    return up(text)


class Finder(BaseRetriever):
    """A user's own retriever."""

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return [Document(up(query), metadata={"source": query})]


class OwnSync(Runnable[Any, Any]):
    """A user's own Runnable, with nothing but the method it must have."""

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        return self._call_with_config(up, input, config, **kwargs)


def _flaky() -> Chain:
    seen: set[str] = set()

    def first_time_never(text: str) -> str:
        if text not in seen:
            seen.add(text)
            raise LookupError("not the first time")
        return up(text)

    return RunnableLambda(first_time_never).with_retry(
        retry_if_exception_type=(LookupError,), wait_exponential_jitter=False, stop_after_attempt=2
    )


def _history() -> Chain:
    asked = ChatPromptTemplate.from_messages([MessagesPlaceholder("before"), ("user", "{text}")]) | Echo()
    with_history = RunnableWithMessageHistory(
        asked,
        lambda session_id: InMemoryChatMessageHistory(messages=[AIMessage(f"hello {session_id}")]),
        input_messages_key="text",
        history_messages_key="before",
    )
    return with_history.with_config(configurable={"session_id": "s"})


class State(TypedDict, total=False):
    text: str
    said: str
    length: int


def _graph(say: Any, **compiled: Any) -> Chain:
    built = StateGraph(State)
    built.add_node("say", say)
    built.add_node("measure", lambda state: {"length": len(state["said"])})
    built.add_edge(START, "say")
    built.add_edge("say", "measure")
    built.add_edge("measure", END)
    return built.compile(**compiled)


def _say(state: State) -> State:
    return {"said": up(state["text"])}


async def _asay(state: State) -> State:
    return {"said": await aup(state["text"])}


def _ask_model(state: State) -> State:
    return {"said": (PROMPT | Echo() | StrOutputParser()).invoke({"text": state["text"]})}


def _ask_somebody(state: State) -> State:
    return {"said": up(state["text"]) + interrupt({"is this right": state["text"]})}


def _middle(text: str) -> Any:
    return _MIDDLE.invoke(text)


_MIDDLE = BatchProcessor(RunnableLambda(up))


FORMS: dict[str, Form] = {
    "lambda": Form(lambda: RunnableLambda(up)),
    "async lambda": Form(lambda: RunnableLambda(aup), asynchronous=True),
    "lambda of both kinds": Form(lambda: RunnableLambda(up, afunc=aup)),
    "lambda that sees its config": Form(lambda: RunnableLambda(_numbers)),
    "lambda that gives a chain": Form(lambda: RunnableLambda(_once_more)),
    "lambda that sees a context variable": Form(lambda: RunnableLambda(lambda x: up(x) + SET_OUTSIDE.get())),
    "@chain": Form(lambda: _decorated),
    "async @chain": Form(lambda: _adecorated, asynchronous=True),
    "generator": Form(lambda: RunnableGenerator(_letters)),
    "async generator": Form(lambda: RunnableGenerator(_aletters), asynchronous=True),
    "sequence": Form(lambda: RunnableLambda(up) | str.title),
    "async sequence": Form(lambda: RunnableLambda(aup) | str.title | RunnableLambda(aup), asynchronous=True),
    "prompt": Form(lambda: PROMPT, as_text, fails=False),
    "chat model": Form(Echo),
    "async chat model": Form(AsyncEcho),
    "old-style model": Form(EchoText, fails=False),
    "prompt and model": Form(lambda: PROMPT | Echo(), as_text),
    "prompt, model, parser": Form(lambda: PROMPT | AsyncEcho() | StrOutputParser(), as_text),
    "JSON in pieces": Form(
        lambda: RunnableLambda(lambda text: '{"said": "' + up(text) + '", "n": [1, 2]}') | JsonOutputParser()
    ),
    "parallel": Form(lambda: RunnableParallel(loud=up, as_it_is=RunnablePassthrough()), parallel=True),
    "assign": Form(lambda: RunnablePassthrough.assign(loud=lambda x: up(x["text"])), as_text, parallel=True),
    "pick": Form(lambda: RunnableLambda(lambda x: {"a": up(x), "b": 1}) | RunnablePick("a")),
    "itemgetter": Form(lambda: itemgetter("text") | RunnableLambda(up), as_text),
    "branch": Form(lambda: RunnableBranch((lambda x: x == "one", lambda x: "first"), RunnableLambda(up))),
    "router": Form(
        lambda: RouterRunnable({"loud": RunnableLambda(up)}), lambda text: {"key": "loud", "input": text}
    ),
    "each": Form(lambda: RunnableLambda(up).map(), lambda text: [text, "more"], parallel=True),
    "bound": Form(lambda: Echo().bind(ending="!")),
    "with_config": Form(
        lambda: RunnableLambda(_numbers).with_config(tags=["own"], metadata={"own": 1}, run_name="my chain")
    ),
    "with_types": Form(lambda: RunnableLambda(up).with_types(input_type=str, output_type=str)),
    "with_retry": Form(_flaky),
    "with_fallbacks": Form(
        lambda: RunnableLambda(lambda x: 1 / 0).with_fallbacks([RunnableLambda(up)]),
    ),
    "configurable field": Form(lambda: AsyncEcho().configurable_fields(mood=ConfigurableField(id="mood"))),
    "configurable alternatives": Form(
        lambda: AsyncEcho().configurable_alternatives(
            ConfigurableField(id="mood"), default_key="loud", glad=AsyncEcho(mood=":-) ")
        )
    ),
    "tool": Form(lambda: shout, as_text),
    "retriever": Form(Finder),
    "message history": Form(_history, as_text, parallel=True),
    "own Runnable": Form(OwnSync),
    "graph": Form(lambda: _graph(_say), as_text),
    "async graph": Form(lambda: _graph(_asay), as_text, asynchronous=True),
    "graph with a model": Form(lambda: _graph(_ask_model), as_text),
    "graph with threads": Form(lambda: _graph(_say, checkpointer=InMemorySaver()), as_text, threaded=True),
    "graph that interrupts": Form(
        lambda: _graph(_ask_somebody, checkpointer=InMemorySaver()), as_text, threaded=True
    ),
    "agent": Form(
        lambda: create_agent(Agent(), [shout]), lambda text: {"messages": [("user", text)]}, parallel=True
    ),
    "a processor": Form(lambda: BatchProcessor(RunnableLambda(up))),
    "a processor in a sequence": Form(
        lambda: PROMPT | BatchProcessor(Echo()) | StrOutputParser(), as_text, parallel=True
    ),
    "a processor in a parallel": Form(
        lambda: RunnableParallel(one=BatchProcessor(RunnableLambda(up)), two=up), parallel=True
    ),
    "a processor in a branch": Form(
        lambda: RunnableBranch((lambda x: x == "one", BatchProcessor(RunnableLambda(up))), up)
    ),
    "a processor in a lambda": Form(lambda: RunnableLambda(_middle)),
}
