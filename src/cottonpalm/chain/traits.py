"""What the engine must know about a chain: how to call it, and which types it answers with."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, Final, Literal

from langchain_core.language_models import BaseChatModel, BaseLanguageModel, BaseLLM
from langchain_core.messages import BaseMessage
from langchain_core.output_parsers import BaseOutputParser
from langchain_core.prompts import BasePromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import (
    Runnable,
    RunnableBinding,
    RunnableBranch,
    RunnableLambda,
    RunnableSequence,
)
from langchain_core.runnables.base import RunnableBindingBase, RunnableEachBase, RunnableGenerator
from langchain_core.runnables.config import ensure_config, get_async_callback_manager_for_config
from langchain_core.runnables.configurable import DynamicRunnable
from langchain_core.runnables.fallbacks import RunnableWithFallbacks
from langchain_core.tools import BaseTool
from pydantic import BaseModel

from cottonpalm.chain.installed import is_library
from cottonpalm.chain.reads import attributes, closed_over
from cottonpalm.chain.walk import children, functions, own, parts
from cottonpalm.stores.codec.kinds import qualified

_LIBRARIES = ("langchain", "langchain_core", "langgraph", "openai", "anthropic")
_ASYNC_FORMS = ("ainvoke", "astream", "atransform", "abatch")


def how_to_call(chain: Any, *, awaited: bool = False) -> Literal["async", "threads"]:
    """Decide whether rows run as coroutines, or as plain calls on threads.

    Threads are used if all of the user's own code is sync, or if a step has no async form or no async client.

    Args:
        chain: any Runnable.
        awaited: True: the caller awaits this one row; sync code alone is then no reason for threads.
    """
    forms = {form for part in parts(chain) if (form := _form(part.runnable)) is not None}
    if "never async" in forms:
        return "threads"
    return "threads" if forms == {"sync"} and not awaited else "async"


def _form(runnable: Any) -> str | None:
    """Return how a step runs: async, sync, or never async; None if it runs none of the user's code."""
    for cls, form in _FORMS:
        if isinstance(runnable, cls):
            return form(runnable)
    if is_graph_with_steps(runnable) and _must_block(runnable):
        return "never async"
    if own(runnable, "func") is not None or own(runnable, "afunc") is not None:
        return _function_form(runnable)
    if is_library(runnable):  # containers, parsers and the like have both forms
        return None
    return "async" if _overrides(runnable, Runnable, _ASYNC_FORMS) else "sync"


def _tool_form(tool: Any) -> str:
    if hasattr(tool, "coroutine"):
        return "sync" if tool.coroutine is None else "async"
    return "async" if _overrides(tool, BaseTool, ("_arun",)) else "sync"


def has_only_sync_client(model: Any) -> bool:
    """Whether only the sync client of a model has the user's proxy or certificates."""
    return (
        getattr(model, "http_client", None) is not None and getattr(model, "http_async_client", None) is None
    )


def _model_form(model: Any) -> str:
    if has_only_sync_client(model):
        return "never async"
    base = BaseChatModel if isinstance(model, BaseChatModel) else BaseLLM
    return "async" if _overrides(model, base, ("_agenerate", "_astream", "ainvoke")) else "sync"


def _function_form(runnable: Any) -> str | None:
    """Return the form of a function in a lambda, a passthrough or a graph's node; LangChain's own do not count."""
    if (afunc := own(runnable, "afunc")) is not None:
        return None if is_library(afunc) else "async"
    if (func := own(runnable, "func")) is None:
        return None
    return None if is_library(func) else "sync"


_FORMS: list[tuple[type, Callable[[Any], str | None]]] = [
    (RunnableGenerator, lambda r: "async" if hasattr(r, "_atransform") else "never async"),
    (BaseLanguageModel, _model_form),
    (BasePromptTemplate, lambda _: None),
    (BaseTool, _tool_form),
    (
        BaseRetriever,
        lambda r: "async" if _overrides(r, BaseRetriever, ("_aget_relevant_documents",)) else "sync",
    ),
]


def _overrides(runnable: Any, base: type, names: Iterable[str]) -> bool:
    """Whether a class defines its own async method. In LangChain's base classes, it only calls the sync one."""
    owners = (next((cls for cls in type(runnable).__mro__ if name in vars(cls)), base) for name in names)
    return any(not issubclass(base, owner) and not _is_base(owner) for owner in owners)


def _is_base(owner: type) -> bool:
    return owner.__module__.startswith("langchain_core.") and inspect.isabstract(owner)


def has_old_models(chain: Any) -> bool:
    """Whether a step, or a chain that a step's function closes over, is an old-style model: text in, text out."""
    found = [part.runnable for part in parts(chain)]
    functions = [own(step, name) for step in found for name in ("func", "afunc")]
    hidden = [value for function in functions for _, value in closed_over(function)]
    found += [part.runnable for value in hidden if isinstance(value, Runnable) for part in parts(value)]
    return any(isinstance(step, BaseLLM) for step in found)


def output_types(chain: Any, output_type: Any = None) -> Mapping[str, type]:
    """Return the classes from which stored outputs are rebuilt, by qualified name: the chain's, and the user's.

    Args:
        chain: any Runnable.
        output_type: a class or several that the chain does not show.
    """
    given = (
        output_type
        if isinstance(output_type, Iterable) and not isinstance(output_type, type)
        else [output_type]
    )
    found = {cls for part in parts(chain) for cls in _classes_of(part.runnable)}
    return {qualified(cls): cls for cls in [*found, *(cls for cls in given if cls is not None)]}


def _classes_of(runnable: Any) -> Iterator[type]:
    if isinstance(runnable, RunnableWithFallbacks | DynamicRunnable):
        return  # for an attribute, these answer with the attribute of one of their parts, or raise
    if isinstance(runnable, RunnableBindingBase):
        yield from _classes_in(runnable.kwargs)
        yield from _classes_in(getattr(runnable, "custom_output_type", None))
    elif hasattr(runnable, "func") or isinstance(runnable, RunnableLambda | RunnableGenerator):
        for name in ("func", "afunc", "_transform", "_atransform"):
            yield from _classes_of_function(getattr(runnable, name, None))
    elif not children(runnable):
        for name in ("pydantic_object", "tools", "response_format", "schema"):
            if name in attributes(runnable):
                yield from _classes_in(attributes(runnable)[name])


def _classes_of_function(function: Any) -> Iterator[type]:
    """Yield classes that a function has bound, closes over, or names as its result."""
    yield from _classes_in([value for _, value in closed_over(function)])
    try:
        yield from _classes_in(typing.get_type_hints(function).get("return"))
    except Exception:  # noqa: BLE001 - annotations may name what is not there
        return


def _classes_in(value: Any, depth: int = 6) -> Iterator[type]:
    """Yield rebuildable classes in a value, its containers, an annotation's arguments, a strategy object's fields."""
    if isinstance(value, type) and _is_rebuilt(value):
        yield value
    if depth:
        for part in _inside(value):
            yield from _classes_in(part, depth - 1)


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    if isinstance(value, list | tuple | set):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return vars(value).values()  # it is an agent's strategy for structured output
    return typing.get_args(value)


def _is_rebuilt(cls: type) -> bool:
    """Whether the codec stores objects of this class by name: models, enums, dataclasses, named tuples."""
    if issubclass(cls, BaseMessage | Runnable) or cls.__module__.partition(".")[0] in (
        "pydantic",
        *_LIBRARIES,
    ):
        return False
    return issubclass(cls, BaseModel | Enum) or dataclasses.is_dataclass(cls) or hasattr(cls, "_fields")


def remembers(chain: Any) -> bool:
    """Whether one of the chain's models has its own LangChain cache."""
    models = [part.runnable for part in parts(chain) if isinstance(part.runnable, BaseLanguageModel)]
    return any(model.cache for model in models)


def last_steps(chain: Any) -> Iterator[Any]:
    """Yield the steps that make the chain's output; look for them inside sequences, bindings and the like."""
    if isinstance(chain, RunnableSequence):
        yield from last_steps(chain.last)
    elif isinstance(chain, RunnableBindingBase) and not isinstance(chain, RunnableEachBase):
        yield from last_steps(chain.bound)
    else:
        yield chain


def none_is_no_answer(chain: Any) -> bool:
    """Whether the chain ends in a parser that returns None if the model made no tool call."""
    return any(getattr(step, "first_tool_only", False) for step in last_steps(chain))


def answer_is_a_message(chain: Any) -> bool:
    """Whether the chain's output is the message of a model, which itself shows whether it was cut."""
    last = [step for step in last_steps(chain) if isinstance(step, BaseChatModel)]
    models = [part.runnable for part in parts(chain) if isinstance(part.runnable, BaseChatModel)]
    return bool(last) and all(any(model is step for step in last) for model in models)


_ONE_BY_ONE = (
    RunnableSequence,
    RunnableBranch,
    RunnableBindingBase,
    RunnableWithFallbacks,
    BasePromptTemplate,
    BaseLanguageModel,
    BaseOutputParser,
)


def one_at_a_time(chain: Any) -> bool:
    """Whether a row of this chain never has two requests under way: nothing in it runs beside anything else."""
    return all(isinstance(part.runnable, _ONE_BY_ONE) for part in parts(chain))


def may_run_tools(chain: Any) -> bool:
    """Whether a tool stands in the chain, or a graph, whose nodes may run some."""
    return any(isinstance(part.runnable, BaseTool) or _is_graph(part.runnable) for part in parts(chain))


def keeps_state(chain: Any) -> bool:
    """Whether it keeps what a row did, so that the row cannot run again from its start.

    A graph with a checkpointer of its own does, and a history of messages.
    """
    return any(_has_history(part.runnable) or is_graph_with_steps(part.runnable) for part in parts(chain))


def _has_history(step: Any) -> bool:
    """Whether it is LangChain's own for that, whose module takes long to import."""
    return any(kind.__name__ == "RunnableWithMessageHistory" for kind in type(step).__mro__)


def is_graph_with_steps(step: Any) -> bool:
    """Whether it is a graph with a checkpointer of its own."""
    return _is_graph(step) and getattr(step, "checkpointer", None) not in (None, False, True)


def _must_block(graph: Any) -> bool:
    """Whether its checkpointer has the plain calls alone, and its nodes have them too."""
    method = getattr(type(graph.checkpointer), "aget_tuple", None)
    refuses = "NotImplementedError" in getattr(getattr(method, "__code__", None), "co_names", ())
    return refuses and not any(
        own(part.runnable, "afunc") is not None and own(part.runnable, "func") is None
        for part in parts(graph)
    )


def _is_graph(step: Any) -> bool:
    return isinstance(getattr(step, "nodes", None), Mapping)


def rehearsed(chain: Any) -> int:
    """Return in how many rounds a row may get made-up answers without coming to the chain's end, or to a tool.

    A step of the chain's sequence that asks a model takes a round at least, and the last of them is a model itself.
    """
    steps = list(chain.steps) if isinstance(chain, RunnableSequence) else []
    asking = [
        step for step in steps if any(isinstance(part.runnable, BaseLanguageModel) for part in parts(step))
    ]
    if not asking or may_run_tools(chain):
        return 0
    last = asking[-1].bound if isinstance(asking[-1], RunnableBinding) else asking[-1]
    return len(asking) - 1 if isinstance(last, BaseLanguageModel) else 0


def runs_again(chain: Any) -> list[str]:
    """Return the steps with code of the user's that run in every round of a row in batches.

    Functions, nodes of graphs that are functions, and retrievers.

    By their paths, as in "steps[0] RunnableLambda (clean)".
    """
    found = []
    for path, step in parts(chain):
        names = [
            getattr(function, "__name__", "") for _, function in functions(step) if not is_library(function)
        ]
        if names and (isinstance(step, RunnableLambda | RunnableGenerator) or _is_node(step)):
            found.append(f"{path} ({names[0].strip('<>')})")
        elif isinstance(step, BaseRetriever):
            found.append(path)
    return found


def _is_node(step: Any) -> bool:
    """Whether it is what LangGraph makes of a function."""
    return type(step).__name__ == "RunnableCallable"


_TOLD: Final = frozenset({"tags", "metadata", "run_name"})  # what a config says to listeners alone


def speaks(config: Mapping[str, Any] | None) -> bool:
    """Whether a config says more than a name."""
    return config is not None and any(value for name, value in config.items() if name not in _TOLD)


def anybody() -> bool:
    """Whether a handler would hear of a call made here: from this context, the environment, or a global setting."""
    return bool(get_async_callback_manager_for_config(ensure_config()).handlers)


def has_listeners(chain: Any) -> bool:
    """Whether a step brings callbacks of its own."""
    return any(_brings_callbacks(part.runnable) for part in parts(chain))


def _brings_callbacks(step: Any) -> bool:
    if isinstance(step, RunnableBindingBase):
        return bool(step.config_factories or (step.config or {}).get("callbacks"))
    return bool(attributes(step).get("callbacks"))
