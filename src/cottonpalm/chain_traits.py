"""What the engine wants to know of a chain: how to call it, what it answers with."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from functools import partial
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel, BaseLanguageModel, BaseLLM
from langchain_core.messages import BaseMessage
from langchain_core.output_parsers import BaseLLMOutputParser
from langchain_core.prompts import BasePromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough, RunnableSequence
from langchain_core.runnables.base import RunnableBindingBase, RunnableEachBase, RunnableGenerator
from langchain_core.tools import BaseTool
from pydantic import BaseModel

from cottonpalm.chain_walk import attributes, children, parts
from cottonpalm.stores.codec import qualified

_ASYNC_FORMS = ("ainvoke", "astream", "atransform", "abatch")


def how_to_call(chain: Any) -> Literal["async", "threads"]:
    """Whether rows run as coroutines, or as plain calls on threads.

    Threads, where all of the user's own code is sync, and where a step has no async form or no async client.
    """
    forms = {form for part in parts(chain) if (form := _form(part.runnable)) is not None}
    if "never async" in forms:
        return "threads"
    return "threads" if forms == {"sync"} else "async"


def _form(runnable: Any) -> str | None:
    """"async", "sync", "never async"; None for what runs no code of the user's, or is counted by its parts."""
    if isinstance(runnable, RunnableGenerator):
        return "async" if hasattr(runnable, "_atransform") else "never async"
    if isinstance(runnable, BaseLanguageModel):
        return _model_form(runnable)
    if isinstance(runnable, BasePromptTemplate):
        return None
    if isinstance(runnable, BaseTool):
        has_async = getattr(runnable, "coroutine", None) is not None or _overrides(runnable, BaseTool, ("_arun",))
        return "async" if has_async and getattr(runnable, "coroutine", True) is not None else "sync"
    if isinstance(runnable, BaseRetriever):
        return "async" if _overrides(runnable, BaseRetriever, ("_aget_relevant_documents",)) else "sync"
    if hasattr(runnable, "func") or hasattr(runnable, "afunc"):
        return _function_form(runnable)
    if _is_langchains(runnable):
        return None
    if isinstance(runnable, BaseLLMOutputParser):
        return "async" if _overrides(runnable, Runnable, (*_ASYNC_FORMS, "aparse", "aparse_result")) else "sync"
    return "async" if _overrides(runnable, Runnable, _ASYNC_FORMS) else "sync"


def _model_form(model: Any) -> str:
    if getattr(model, "http_client", None) is not None and getattr(model, "http_async_client", None) is None:
        return "never async"  # the user's proxy or certificates are on the sync client alone
    base = BaseChatModel if isinstance(model, BaseChatModel) else BaseLLM
    return "async" if _overrides(model, base, ("_agenerate", "_astream", "ainvoke")) else "sync"


def _function_form(runnable: Any) -> str | None:
    """A lambda, a passthrough with a side effect, a graph's node. LangChain's own functions count as nobody's."""
    if (afunc := getattr(runnable, "afunc", None)) is not None:
        return None if _is_langchain_code(afunc) else "async"
    if (func := getattr(runnable, "func", None)) is None:
        return None
    return None if _is_langchain_code(func) else "sync"


def _is_langchain_code(function: Any) -> bool:
    while isinstance(function, partial):
        function = function.func
    module = getattr(function, "__module__", None) or type(function).__module__
    return module.partition(".")[0].startswith(("langchain", "langgraph", "operator", "builtins"))


def _is_langchains(runnable: Any) -> bool:
    """Classes of LangChain's own: containers, parsers and the like, which have both forms."""
    return type(runnable).__module__.partition(".")[0].startswith(("langchain", "langgraph"))


def _overrides(runnable: Any, base: type, names: Iterable[str]) -> bool:
    """Whether the object's class has its own version of one of these methods, below LangChain's core."""
    for name in names:
        own = getattr(type(runnable), name, None)
        owner = next((cls for cls in type(runnable).__mro__ if name in vars(cls)), None)
        if own is not None and own is not getattr(base, name, None) and owner is not None:
            if not owner.__module__.startswith("langchain_core.") or not _is_below_core(owner, base):
                return True
    return False


def _is_below_core(owner: type, base: type) -> bool:
    """An owner between `base` and `Runnable` only passes on to the sync form."""
    return issubclass(base, owner) or owner.__module__.startswith(("langchain_core.runnables.", "langchain_core.output_parsers."))


def output_types(chain: Any, output_type: Any = None) -> Mapping[str, type]:
    """The classes stored outputs are rebuilt with, by qualified name: those found in the chain, and the user's.

    Args:
        chain: any Runnable.
        output_type: a class or several that the chain does not show.
    """
    given = output_type if isinstance(output_type, Iterable) and not isinstance(output_type, type) else [output_type]
    found = {cls for part in parts(chain) for cls in _classes_of(part.runnable)}
    return {qualified(cls): cls for cls in [*found, *(cls for cls in given if cls is not None)]}


def _classes_of(runnable: Any) -> Iterator[type]:
    if isinstance(runnable, RunnableBindingBase):
        yield from _classes_in(runnable.kwargs)
        yield from _classes_in(getattr(runnable, "custom_output_type", None))
    elif isinstance(runnable, RunnableLambda | RunnableGenerator | RunnablePassthrough):
        for name in ("func", "afunc", "_transform", "_atransform"):
            yield from _classes_of_function(getattr(runnable, name, None))
    elif not children(runnable):
        for name in ("pydantic_object", "tools", "response_format", "schema"):
            if name in attributes(runnable):
                yield from _classes_in(attributes(runnable)[name])


def _classes_of_function(function: Any) -> Iterator[type]:
    """Classes bound into a function, closed over, or named as its result."""
    if isinstance(function, partial):
        yield from _classes_in([*function.args, function.keywords])
        function = function.func
    if function is None:
        return
    for cell in getattr(function, "__closure__", None) or ():
        try:
            yield from _classes_in(cell.cell_contents)
        except ValueError:  # not filled yet
            continue
    try:
        yield from _classes_in(typing.get_type_hints(function).get("return"))
    except Exception:  # noqa: BLE001 - annotations may name what is not there
        return


def _classes_in(value: Any, depth: int = 6) -> Iterator[type]:
    if isinstance(value, type):
        if _is_rebuilt(value):
            yield value
        elif typing.get_args(value):  # list[Model] is a type as well
            yield from _classes_in(typing.get_args(value), depth - 1)
    elif not depth:
        return
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _classes_in(part, depth - 1)
    elif isinstance(value, list | tuple | set):
        for part in value:
            yield from _classes_in(part, depth - 1)
    elif arguments := typing.get_args(value):
        yield from _classes_in(arguments, depth - 1)


def _is_rebuilt(cls: type) -> bool:
    """Classes whose objects the codec stores by name: models, enums, dataclasses, named tuples."""
    if issubclass(cls, BaseMessage | Runnable):
        return False
    return issubclass(cls, BaseModel | Enum) or dataclasses.is_dataclass(cls) or hasattr(cls, "_fields")


def last_steps(chain: Any) -> Iterator[Any]:
    """What makes the chain's output: the last step, looked for inside sequences, bindings and the like."""
    if isinstance(chain, RunnableSequence):
        yield from last_steps(chain.last)
    elif isinstance(chain, RunnableBindingBase) and not isinstance(chain, RunnableEachBase):
        yield from last_steps(chain.bound)
    else:
        yield chain


def none_is_no_answer(chain: Any) -> bool:
    """Whether the chain ends in a parser that says None when the model made no tool call."""
    return any(getattr(step, "first_tool_only", False) for step in last_steps(chain))


def answer_is_a_message(chain: Any) -> bool:
    """Whether the chain's output is the model's own message, which shows by itself that it was cut."""
    return any(isinstance(step, BaseChatModel) for step in last_steps(chain))
