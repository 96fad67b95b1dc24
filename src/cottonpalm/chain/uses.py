"""Finds what code reads from outside, and what the functions that it reads there read themselves.

Both the fingerprint and the cache's key use this walk through the user's code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Final

from langchain_core.runnables import Runnable

from cottonpalm.chain.installed import module_of, release_of
from cottonpalm.chain.reads import Read, data_of, methods_of, read_by
from cottonpalm.chain.walk import functions, parts

_NESTED: Final = 6  # containers looked into for functions


def uses(code: Any) -> list[Read]:
    """All that a function, a class, or what wraps one reads; each function inside it once.

    A name is a path, as "helper.WORD". Of code that is installed at a fixed version, only what it was given is read.
    """
    return list(_uses(code, "", set()))


def _uses(code: Any, path: str, seen: set[int]) -> Iterator[Read]:
    if isinstance(code, type) and not issubclass(code, Enum) and id(code) not in seen:
        seen.add(id(code))
        for read in data_of(code):
            yield from _followed(read, f"{path}.{read.name}".strip("."), seen)
    for label, function in _functions_in(code):
        if id(function) in seen:
            continue
        seen.add(id(function))
        for read in read_by(function):
            yield from _followed(read, ".".join(part for part in (path, label, read.name) if part), seen)


def _followed(read: Read, at: str, seen: set[int]) -> Iterator[Read]:
    """What is read, under its path, and what the code in it reads in turn."""
    yield read._replace(name=at)
    for inner, held in _code_in(at, read.value, _NESTED):
        if inner != at:
            yield Read(inner, held)
        yield from _uses(held, inner, seen)


def _functions_in(code: Any) -> Iterator[tuple[str, Any]]:
    """The functions that make up a piece of code; of a class its methods, by name."""
    if isinstance(code, MethodType):
        yield "", code  # with its object
        return
    if isinstance(code, partial):
        yield "", code
        yield from _functions_in(code.func)
    elif isinstance(code, type):
        yield from methods_of(code)
    elif isinstance(code, FunctionType | BuiltinFunctionType):
        yield "", code
    elif not isinstance(code, Runnable):
        yield "", code  # an object: what its methods read of it
        yield from methods_of(type(code))
    if isinstance(wrapped := getattr(code, "__wrapped__", None), FunctionType):
        yield "", wrapped  # `lru_cache` holds the function where we cannot see it


def _code_in(path: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    """The user's own code in a value: itself, in containers, or what a Runnable was made of."""
    if isinstance(value, Runnable):
        for part in parts(value):
            yield from _code_in(path, type(part.runnable), depth)
            for name, function in functions(part.runnable):
                yield from _code_in(f"{path}.{name}", function, depth)
    elif isinstance(value, Mapping | list | tuple):
        for name, inside in _inside(value) if depth else ():
            yield from _code_in(f"{path}[{name}]", inside, depth - 1)
    elif is_code(value) and not (isinstance(value, type) and release_of(module_of(value)) is not None):
        yield path, value
    elif release_of(type(value).__module__) is None and not isinstance(value, ModuleType):
        yield f"{path}.{type(value).__qualname__}", type(value)  # it does what its class says
        yield path, value


def _inside(value: Mapping[Any, Any] | Sequence[Any]) -> Iterable[tuple[Any, Any]]:
    return value.items() if isinstance(value, Mapping) else enumerate(value)


def is_code(value: Any) -> bool:
    """Whether a value is a function, a class, or what wraps one."""
    wrapped = getattr(value, "__wrapped__", None)
    return isinstance(value, FunctionType | MethodType | partial | type) or isinstance(wrapped, FunctionType)
