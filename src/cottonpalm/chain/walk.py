"""Walks a chain: finds every Runnable inside it, with its path. It calls and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from langchain_core.runnables import (
    Runnable,
    RunnableBranch,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
    RunnableSequence,
    RunnableWithFallbacks,
)
from langchain_core.runnables.base import RunnableBindingBase, RunnableEachBase
from langchain_core.runnables.configurable import DynamicRunnable, RunnableConfigurableAlternatives
from langchain_core.runnables.passthrough import RunnableAssign
from langchain_core.runnables.router import RouterRunnable

from cottonpalm.chain.installed import is_library
from cottonpalm.chain.reads import attributes, closed_over, read_by

_NESTED = 6  # inside one attribute, look for Runnables in containers up to this depth
_PLAIN = frozenset({type(None), bool, bytes, float, int, str})
_FUNCTIONS = ("func", "afunc", "_transform", "_atransform")


class Part(NamedTuple):
    """One Runnable of a chain. `path` names it for people: "steps[1] ChatOpenAI"."""

    path: str
    runnable: Any


def parts(chain: Any) -> list[Part]:
    """Return every Runnable in the chain, outermost first, each object once, even if there are cycles."""
    return list(_walk(chain, "", set()))


def _walk(runnable: Any, path: str, seen: set[int]) -> Iterator[Part]:
    if id(runnable) in seen:
        return
    seen.add(id(runnable))
    name = "arguments" if isinstance(runnable, RunnableBindingBase) else type(runnable).__name__
    yield Part(f"{path} {name}".strip(), runnable)
    for label, child in children(runnable):
        if not label:  # a binding: a new retry or tag must not change the paths inside it
            yield from _walk(child, path, seen)
            continue
        inner = label if not path or label.startswith("[") else f".{label}"
        yield from _walk(child, f"{path}{inner}", seen)


_met: ContextVar[dict[int, tuple[Any, list[tuple[str, Any]]]] | None] = ContextVar("met", default=None)


@contextmanager
def at_rest() -> Iterator[None]:
    """While this lasts, no chain changes: what is inside a Runnable is looked for once."""
    token = _met.set({})
    try:
        yield
    finally:
        _met.reset(token)


def children(runnable: Any) -> Sequence[tuple[str, Any]]:
    """Return the Runnables directly inside this one, with their labels."""
    if (met := _met.get()) is None:
        return _children(runnable)
    if (found := met.get(id(runnable))) is None:
        found = met[id(runnable)] = runnable, _children(runnable)  # held, so that no other one gets its id
    return found[1]


def _children(runnable: Any) -> list[tuple[str, Any]]:
    for cls, inside in _INSIDE:
        if isinstance(runnable, cls):
            return [(label, child) for label, child in inside(runnable) if child is not None]
    if is_library(runnable) and (function := own(runnable, "func") or own(runnable, "afunc")):
        return [
            pair for name, value in closed_over(function) for pair in _nested(f"uses.{name}", value, _NESTED)
        ]
    if isinstance(nodes := getattr(runnable, "nodes", None), Mapping) and is_library(runnable):
        return list(_nested("nodes", nodes, 1))  # a graph: only its nodes are Runnables of the user
    return [pair for name, value in attributes(runnable).items() for pair in _nested(name, value, _NESTED)]


def _numbered(name: str, items: Sequence[Any]) -> list[tuple[str, Any]]:
    return [(f"{name}[{index}]", item) for index, item in enumerate(items)]


def _branches(runnable: RunnableBranch[Any, Any]) -> list[tuple[str, Any]]:
    found = [
        (f"branches[{index}].{label}", child)
        for index, pair in enumerate(runnable.branches)
        for label, child in zip(("condition", "then"), pair, strict=True)
    ]
    return [*found, ("default", runnable.default)]


def _alternatives(runnable: RunnableConfigurableAlternatives[Any, Any]) -> list[tuple[str, Any]]:
    """Return the alternatives that exist; one that a function makes when it is chosen cannot be read."""
    found = [(f"alternatives[{name}]", child) for name, child in runnable.alternatives.items()]
    return [("default", runnable.default), *(pair for pair in found if isinstance(pair[1], Runnable))]


def _deps(runnable: RunnableLambda[Any, Any]) -> list[tuple[str, Any]]:
    """The Runnables that its functions read, or whose methods they do."""
    read = [value for _, function in functions(runnable) for _, value, _ in read_by(function)]
    owners = [value if isinstance(value, Runnable) else getattr(value, "__self__", None) for value in read]
    found = {id(owner): owner for owner in owners if isinstance(owner, Runnable)}
    return _numbered("uses", list(found.values()))


def functions(runnable: Any) -> list[tuple[str, Any]]:
    """The functions a Runnable was made of. A lambda's own `_transform` is a method, a generator's is the user's."""
    found = [(name.strip("_"), own(runnable, name)) for name in _FUNCTIONS]
    return [
        (name, function)
        for name, function in found
        if callable(function) and getattr(function, "__self__", None) is not runnable
    ]


def own(runnable: Any, name: str) -> Any:
    """An attribute that is not passed on from what a Runnable wraps: that is a part of its own.

    LangChain's wrappers pass on methods in a function that is new at each look, without end, or raise.
    """
    try:
        return object.__getattribute__(runnable, name)
    except AttributeError:
        return None


_INSIDE: list[tuple[type, Any]] = [
    (RunnableSequence, lambda r: _numbered("steps", r.steps)),
    (RunnableParallel, lambda r: list(r.steps__.items())),
    (RunnableAssign, lambda r: [("assign", r.mapper)]),
    (RunnableWithFallbacks, lambda r: [("first", r.runnable), *_numbered("fallbacks", r.fallbacks)]),
    (RunnableBranch, _branches),
    (RunnableBindingBase, lambda r: [("", r.bound)]),
    (RunnableEachBase, lambda r: [("each", r.bound)]),
    (RunnableConfigurableAlternatives, _alternatives),
    (DynamicRunnable, lambda r: [("default", r.default)]),
    (RouterRunnable, lambda r: list(r.runnables.items())),
    (RunnableLambda, _deps),
    (RunnablePassthrough, lambda _: []),
]


def _nested(label: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    """Yield the Runnables in an attribute: itself, in containers, or behind an object's `bound` (a graph's node)."""
    if type(value) in _PLAIN:  # nearly all of them, and the checks below are slow
        return
    if isinstance(value, Runnable):
        yield label, value
    elif isinstance(bound := getattr(value, "bound", None), Runnable):
        yield label, bound
    elif depth and isinstance(value, Mapping):
        for name, part in value.items():
            yield from _nested(f"{label}[{name}]", part, depth - 1)
    elif depth and isinstance(value, list | tuple):
        for index, part in enumerate(value):
            yield from _nested(f"{label}[{index}]", part, depth - 1)
