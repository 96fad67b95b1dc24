"""The forms a chain can have. Each makes a chain of `model` that takes a text and asks `k` times per row."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from langchain.agents import create_agent
from langchain.chat_models import init_chat_model
from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_core.documents import Document
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import (
    ConfigurableField,
    Runnable,
    RunnableBranch,
    RunnableConfig,
    RunnableGenerator,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
    chain,
)
from langchain_core.runnables.history import RunnableWithMessageHistory
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Callable

    import openai
    from langchain_core.callbacks import CallbackManagerForRetrieverRun
    from langchain_core.language_models import BaseChatModel

GLOBAL: dict[str, Any] = {}  # where a function's global model is kept
PROMPT = ChatPromptTemplate.from_messages([("user", "{text}")])
TEXT = RunnableLambda(lambda text: {"text": text})


class Label(BaseModel):
    answer: str


class Form(NamedTuple):
    name: str
    make: Callable[[BaseChatModel], Runnable[Any, Any]]
    per_row: int = 1
    sync: bool = True
    plain: bool = True  # its answer shows the row's text


def _text(message: Any) -> str:
    return getattr(message, "content", message)


def _sequence(model: BaseChatModel) -> Runnable[Any, Any]:
    return TEXT | PROMPT | model | StrOutputParser()


def _parallel(model: BaseChatModel) -> Runnable[Any, Any]:
    return RunnableParallel(a=model, b=model, c=model) | (lambda three: three["a"].content)


def _branch(model: BaseChatModel) -> Runnable[Any, Any]:
    return RunnableBranch((lambda text: "never" in text, RunnableLambda(lambda _: "no")), model)


@tool
def shout(text: str) -> str:
    """Say it louder."""
    return text.upper()


def _structured(method: str, **more: Any) -> Callable[[BaseChatModel], Runnable[Any, Any]]:
    def make(model: BaseChatModel) -> Runnable[Any, Any]:
        return model.with_structured_output(Label, method=method, **more)

    return make


def _fallbacks(model: BaseChatModel) -> Runnable[Any, Any]:
    return RunnableLambda(_fails).with_fallbacks([model])


def _fails(_: Any) -> Any:
    raise ValueError("the first always fails")


def _history(model: BaseChatModel) -> Runnable[Any, Any]:
    with_history = RunnableWithMessageHistory(model, lambda session_id: InMemoryChatMessageHistory())
    return with_history.with_config(configurable={"session_id": "s"})


class Holder(Runnable[Any, Any]):
    """A user's own Runnable."""

    def __init__(self, model: BaseChatModel) -> None:
        self.model = model

    def invoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> Any:
        return self.model.invoke(input, config)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> Any:
        return await self.model.ainvoke(input, config)


class Finder(BaseRetriever):
    """A user's own retriever."""

    model: Any

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> Any:
        return [Document(self.model.invoke(query).content)]

    async def _aget_relevant_documents(self, query: str, *, run_manager: Any) -> Any:
        return [Document((await self.model.ainvoke(query)).content)]


def _global_sync(text: str) -> Any:
    return GLOBAL["model"].invoke(text)


async def _global_async(text: str) -> Any:
    return await GLOBAL["model"].ainvoke(text)


def _global_lambda(model: BaseChatModel) -> Runnable[Any, Any]:
    GLOBAL["model"] = model
    return RunnableLambda(_global_sync, afunc=_global_async)


def _decorated(model: BaseChatModel) -> Runnable[Any, Any]:
    GLOBAL["model"] = model

    @chain
    def step(text: str, config: RunnableConfig) -> Any:
        return GLOBAL["model"].invoke(text, config)

    return step


def _generator(model: BaseChatModel) -> Runnable[Any, Any]:
    GLOBAL["model"] = model

    def pieces(texts: Any) -> Any:
        for text in texts:
            yield GLOBAL["model"].invoke(text).content

    async def apieces(texts: Any) -> Any:
        async for text in texts:
            yield (await GLOBAL["model"].ainvoke(text)).content

    return RunnableGenerator(pieces, apieces)


def _tool_global(model: BaseChatModel) -> Runnable[Any, Any]:
    GLOBAL["model"] = model

    @tool
    def ask(text: str) -> str:
        """Ask."""
        return GLOBAL["model"].invoke(text).content

    return RunnableLambda(lambda text: {"text": text}) | ask


def _returns_a_runnable(model: BaseChatModel) -> Runnable[Any, Any]:
    return RunnableLambda(lambda _: model)


def _recursion(model: BaseChatModel) -> Runnable[Any, Any]:
    def twice(state: Any) -> Any:
        text, left = state if isinstance(state, tuple) else (state, 2)
        return model if left == 0 else RunnableLambda(lambda _: (text, left - 1)) | _only(model, left)

    return RunnableLambda(twice)


def _only(model: BaseChatModel, left: int) -> Runnable[Any, Any]:
    return (
        RunnableLambda(lambda state: state[0]) | model
        if left == 1
        else RunnableLambda(lambda s: s[0]) | model
    )


def _list_of_functions(model: BaseChatModel) -> Runnable[Any, Any]:
    steps = [model.invoke, _text]
    return RunnableLambda(lambda text: functools.reduce(lambda value, step: step(value), steps, text))


class State(TypedDict):
    text: str


def _langgraph(model: BaseChatModel) -> Runnable[Any, Any]:
    def ask(state: State) -> State:
        return {"text": model.invoke(state["text"]).content}

    async def aask(state: State) -> State:
        return {"text": (await model.ainvoke(state["text"])).content}

    graph = StateGraph(State)
    graph.add_node("ask", RunnableLambda(ask, afunc=aask))
    graph.add_edge(START, "ask")
    graph.add_edge("ask", END)
    return RunnableLambda(lambda text: {"text": text}) | graph.compile() | (lambda state: state["text"])


def _agent(model: BaseChatModel) -> Runnable[Any, Any]:
    agent = create_agent(model, [shout])
    ask = RunnableLambda(lambda text: {"messages": [("user", text)]})
    return ask | agent | (lambda state: state["messages"][-1].content)


def _gather(model: BaseChatModel) -> Runnable[Any, Any]:
    async def ask(text: str) -> Any:
        return (await asyncio.gather(model.ainvoke(text), model.ainvoke(text)))[0]

    return RunnableLambda(ask)


def _create_task(model: BaseChatModel) -> Runnable[Any, Any]:
    async def ask(text: str) -> Any:
        return await asyncio.create_task(model.ainvoke(text))

    return RunnableLambda(ask)


def _asyncio_run(model: BaseChatModel) -> Runnable[Any, Any]:
    def ask(text: str) -> Any:
        async def inner() -> Any:
            import httpx2

            async with httpx2.AsyncClient() as client:
                fresh = type(model)(
                    model=model.model_name,
                    base_url=model.openai_api_base,
                    api_key="sk-test",
                    http_async_client=client,
                )
                return await fresh.ainvoke(text)

        return asyncio.run(inner())

    return RunnableLambda(ask)


def _sdk_directly(model: Any) -> Runnable[Any, Any]:
    def ask(text: str) -> Any:
        client: openai.OpenAI = model.root_client
        body = {"model": model.model_name, "messages": [{"role": "user", "content": text}]}
        return client.chat.completions.create(**body).choices[0].message.content

    async def aask(text: str) -> Any:
        client: openai.AsyncOpenAI = model.root_async_client
        body = {"model": model.model_name, "messages": [{"role": "user", "content": text}]}
        return (await client.chat.completions.create(**body)).choices[0].message.content

    return RunnableLambda(ask, afunc=aask)


def _fields(model: BaseChatModel) -> Runnable[Any, Any]:
    field = model.configurable_fields(temperature=ConfigurableField(id="warmth"))
    return field.with_config(configurable={"warmth": 0.5})


def _alternatives(model: BaseChatModel) -> Runnable[Any, Any]:
    choice = model.configurable_alternatives(ConfigurableField(id="who"), default_key="a", b=model)
    return choice.with_config(configurable={"who": "b"})


def _alternative_factory(model: BaseChatModel) -> Runnable[Any, Any]:
    choice = model.configurable_alternatives(ConfigurableField(id="who"), default_key="a", b=lambda: model)
    return choice.with_config(configurable={"who": "b"})


def _init(model: Any) -> Runnable[Any, Any]:
    return init_chat_model(f"openai:{model.model_name}", **_like(model))


def _init_configurable(model: Any) -> Runnable[Any, Any]:
    born_inside = init_chat_model(configurable_fields=("model", "model_provider"), **_like(model))
    return born_inside.with_config(configurable={"model": model.model_name, "model_provider": "openai"})


def _like(model: Any) -> dict[str, Any]:
    clients = {"http_client": model.http_client, "http_async_client": model.http_async_client}
    return {"base_url": model.openai_api_base, "api_key": "sk-test", **clients}


def _responses(model: Any) -> Runnable[Any, Any]:
    return type(model)(model=model.model_name, use_responses_api=True, **_like(model)) | StrOutputParser()


FORMS = [
    Form("sequence", _sequence),
    Form("bare model", lambda model: model),
    Form("dict", lambda model: {"a": model, "b": model} | RunnableLambda(lambda two: two["a"].content), 2),
    Form("parallel of three", _parallel, 3),
    Form("branch", _branch),
    Form("bind", lambda model: model.bind(stop=["x"])),
    Form("bind_tools", lambda model: model.bind_tools([shout])),
    Form("with_config", lambda model: model.with_config(tags=["t"])),
    Form("structured: json_schema", _structured("json_schema"), plain=False),
    Form("structured: function_calling", _structured("function_calling"), plain=False),
    Form("structured: json_mode, raw", _structured("json_mode", include_raw=True), plain=False),
    Form("structured: include_raw", _structured("json_schema", include_raw=True), plain=False),
    Form("fallbacks", _fallbacks),
    Form("with_retry", lambda model: model.with_retry()),
    Form(
        "map", lambda model: RunnableLambda(lambda text: [text, text]) | model.map() | (lambda two: two[0]), 2
    ),
    Form("assign", lambda model: TEXT | RunnablePassthrough.assign(a=PROMPT | model) | (lambda d: d["a"])),
    Form("pick", lambda model: TEXT | RunnablePassthrough.assign(a=PROMPT | model).pick("a")),
    Form("configurable_fields", _fields),
    Form("configurable_alternatives", _alternatives),
    Form("alternatives by a factory", _alternative_factory),
    Form("init_chat_model", _init),
    Form("init_chat_model, configurable", _init_configurable),
    Form("history", _history),
    Form("closure of a lambda", lambda model: RunnableLambda(lambda text: model.invoke(text).content)),
    Form("custom Runnable", Holder),
    Form("retriever", lambda model: Finder(model=model) | (lambda documents: documents[0].page_content)),
    Form("Responses API", _responses),
    Form("lambda with a global", _global_lambda),
    Form("@chain with a global", _decorated),
    Form("generator with a global", _generator),
    Form("tool with a global", _tool_global),
    Form("lambda that returns a Runnable", _returns_a_runnable),
    Form("recursion", _recursion),
    Form("list of functions", _list_of_functions),
    Form("langgraph", _langgraph),
    Form("create_agent", _agent),
    Form("gather", _gather, 2, sync=False),
    Form("create_task", _create_task, sync=False),
    Form("asyncio.run in a step", _asyncio_run),
    Form("the SDK directly", _sdk_directly),
]
