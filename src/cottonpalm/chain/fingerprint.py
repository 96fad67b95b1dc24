"""Writes down what a chain's answers depend on, without secrets, so that a later run can see whether it changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import orjson
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough, RunnablePick
from langchain_core.runnables.base import RunnableBindingBase, RunnableGenerator
from langchain_core.runnables.configurable import RunnableConfigurableAlternatives
from langchain_core.runnables.fallbacks import RunnableWithFallbacks
from langchain_core.runnables.retry import RunnableRetry

from cottonpalm.chain.code import is_builtin
from cottonpalm.chain.describe import class_path, code_form, described, fields_of
from cottonpalm.chain.installed import is_library
from cottonpalm.chain.reads import closed_over
from cottonpalm.chain.walk import children, functions, parts

_PARAMETERS = (str, int, float, bool, BaseMessage, type)


def describe(chain: Any) -> dict[str, Any]:
    """Return the chain's parts by path: class, parameters, prompts, schemas, and hashes of the user's own code.

    The result can be written as JSON, and is equal for equal chains in every process. It holds no keys, headers,
    clients or addresses.
    """
    found = {part.path: _description(part.runnable) for part in parts(chain)}
    return {path: form for path, form in found.items() if form}


def together(described: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the descriptions of a chain and of its fallbacks as one: what a run keeps, and is compared with."""
    found = dict(described[0])
    for number, fallback in enumerate(described[1:], 1):
        found.update({f"fallback {number}: {path}": part for path, part in fallback.items()})
    return found


def digest(description: dict[str, Any]) -> bytes:
    """Return a 16-byte digest of a description."""
    canonical = orjson.dumps(description, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    return sha256(canonical).digest()[:16]


def _description(runnable: Any) -> dict[str, Any]:
    for cls, form in _FORMS:
        if isinstance(runnable, cls):
            return form(runnable)
    if type(runnable).__module__.startswith("langgraph."):
        return _graph(runnable)
    return {} if _is_container(runnable) else _plain(runnable)


def _plain(runnable: Any) -> dict[str, Any]:
    """Describe a prompt, a model, a parser or the user's own Runnable: its class, parameters and code."""
    form = {"class": class_path(type(runnable)), **fields_of(runnable)}
    return form | code_form(type(runnable), _beside(runnable))


def _beside(runnable: Any) -> frozenset[int]:
    """The Runnables inside it that are parts of their own."""
    return frozenset(id(child) for _, child in children(runnable))


def _is_container(runnable: Any) -> bool:
    """Whether it is one of LangChain's composites: the paths of their parts say what they do."""
    return type(runnable).__module__.startswith("langchain_core.runnables.") and bool(children(runnable))


def _graph(runnable: Any) -> dict[str, Any]:
    """Describe a graph by the names of its nodes, and a node by its function."""
    if isinstance(nodes := getattr(runnable, "nodes", None), Mapping):
        return {"nodes": sorted(nodes)}
    return _functions(runnable)


def _binding(runnable: RunnableBindingBase[Any, Any]) -> dict[str, Any]:
    kwargs = {name: value for name, value in runnable.kwargs.items() if not name.startswith("ls_")}
    configurable = (runnable.config or {}).get("configurable") or {}
    return {
        name: form
        for name, form in (("kwargs", described(kwargs)), ("configurable", described(configurable)))
        if form
    }


def _functions(runnable: Any) -> dict[str, Any]:
    """Describe the user's functions by the hash of their code, a library's by the parameters they close over.

    Of Python's own, nothing else would tell `str.upper` from `str.lower`.
    """
    form: dict[str, Any] = {}
    for name, function in functions(runnable):
        if is_library(function) and not is_builtin(function):
            bound = {label: value for label, value in closed_over(function) if isinstance(value, _PARAMETERS)}
            form |= {f"{name} with": shown} if (shown := described(bound)) else {}
        elif code := code_form(function, _beside(runnable)):
            form[name] = code
    return form


def _alternatives(runnable: RunnableConfigurableAlternatives[Any, Any]) -> dict[str, Any]:
    made = {
        f"alternative {name}": code
        for name, choice in runnable.alternatives.items()
        if not isinstance(choice, Runnable) and (code := code_form(choice))
    }
    return {"choices": sorted([*runnable.alternatives, runnable.default_key]), **made}


def _fallbacks(runnable: RunnableWithFallbacks[Any, Any]) -> dict[str, Any]:
    return {"exceptions": sorted(cls.__qualname__ for cls in runnable.exceptions_to_handle)}


_FORMS: list[tuple[Any, Callable[[Any], dict[str, Any]]]] = [
    (RunnableRetry, lambda _: {}),  # the number of tries does not shape an answer
    (RunnableBindingBase, _binding),
    (RunnableLambda | RunnableGenerator | RunnablePassthrough, _functions),
    (RunnableWithFallbacks, _fallbacks),
    (RunnableConfigurableAlternatives, _alternatives),
    # Its field is named like a secret.
    (RunnablePick, lambda runnable: {"picked": described(runnable.keys)}),
]
