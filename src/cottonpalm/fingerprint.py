"""What a chain's answers depend on, written down without secrets, so that a later run can tell whether it changed."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import orjson
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough
from langchain_core.runnables.base import RunnableBindingBase, RunnableGenerator
from langchain_core.runnables.configurable import RunnableConfigurableAlternatives
from langchain_core.runnables.fallbacks import RunnableWithFallbacks
from langchain_core.runnables.retry import RunnableRetry

from cottonpalm.chain_traits import answer_is_a_message, how_to_call, none_is_no_answer, output_types
from cottonpalm.chain_walk import Part, children, parts
from cottonpalm.described import class_code, code_of, described, fields_of
from cottonpalm.pure.changes import CODE, Changes, compare

__all__ = [
    "Changes",
    "Part",
    "answer_is_a_message",
    "compare",
    "describe",
    "digest",
    "how_to_call",
    "none_is_no_answer",
    "output_types",
    "parts",
]

_FUNCTIONS = ("func", "afunc", "_transform", "_atransform")


def describe(chain: Any, extra: dict[str, Any] | None = None) -> dict[str, Any]:
    """The chain's parts by path: class, parameters, prompts, schemas, and hashes of the user's own code.

    JSON-able, equal for equal chains in every process, without keys, headers, clients or addresses.

    Args:
        chain: any Runnable.
        extra: further parts by name, values of any kind.
    """
    found = {part.path: _description(part.runnable) for part in parts(chain)}
    found = {path: form for path, form in found.items() if form}
    return found | {name: described(value) for name, value in (extra or {}).items()}


def digest(description: dict[str, Any]) -> bytes:
    """A description in 16 bytes."""
    canonical = orjson.dumps(description, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    return sha256(canonical).digest()[:16]


def _description(runnable: Any) -> dict[str, Any]:
    if isinstance(runnable, RunnableRetry):
        return {}  # how often something is tried does not shape its answer
    if isinstance(runnable, RunnableBindingBase):
        return _binding(runnable)
    if isinstance(runnable, RunnableLambda | RunnableGenerator | RunnablePassthrough):
        return _functions(runnable)
    if isinstance(runnable, RunnableWithFallbacks):
        return {"exceptions": sorted(cls.__qualname__ for cls in runnable.exceptions_to_handle)}
    if isinstance(runnable, RunnableConfigurableAlternatives):
        return _alternatives(runnable)
    if _is_container(runnable):
        return {}
    form: dict[str, Any] = {"class": _class_path(runnable), **fields_of(runnable)}
    if (code := class_code(type(runnable))) is not None:
        form[CODE] = code
    return form


def _is_container(runnable: Any) -> bool:
    """LangChain's own composites: what they do is said by the paths of their parts."""
    return type(runnable).__module__.startswith("langchain_core.runnables.") and bool(children(runnable))


def _class_path(runnable: Any) -> str:
    cls = type(runnable)
    return f"{cls.__module__.partition('.')[0]}.{cls.__qualname__}"


def _binding(runnable: RunnableBindingBase[Any, Any]) -> dict[str, Any]:
    kwargs = {name: value for name, value in runnable.kwargs.items() if not name.startswith("ls_")}
    configurable = (runnable.config or {}).get("configurable") or {}
    return {name: form for name, form in (("kwargs", described(kwargs)), ("configurable", described(configurable))) if form}


def _functions(runnable: Any) -> dict[str, Any]:
    codes = {name.strip("_"): code_of(getattr(runnable, name, None)) for name in _FUNCTIONS}
    return {name: {CODE: code} for name, code in codes.items() if code is not None}


def _alternatives(runnable: RunnableConfigurableAlternatives[Any, Any]) -> dict[str, Any]:
    made = {
        f"alternative {name}": {CODE: code}
        for name, choice in runnable.alternatives.items()
        if not isinstance(choice, Runnable) and (code := code_of(choice)) is not None
    }
    return {"choices": sorted([*runnable.alternatives, runnable.default_key]), **made}
