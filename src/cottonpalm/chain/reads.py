"""Finds what a function reads from outside, and what an object holds. It calls, imports and parses nothing."""

from __future__ import annotations

import dis
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import resolve_name
from itertools import chain as joined
from itertools import takewhile
from operator import attrgetter, itemgetter, methodcaller
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final, NamedTuple

from langchain_core.runnables import Runnable

from cottonpalm.chain.installed import module_of, release_of

_CLOSURES: Final = 4  # functions within functions, looked into for what they close over
_GLOBAL: Final = frozenset(("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"))
_CLOSED: Final = frozenset(("LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"))
_ATTRIBUTE: Final = frozenset(("LOAD_ATTR", "LOAD_METHOD"))
_STORED: Final = frozenset(("STORE_GLOBAL", "STORE_DEREF"))
_BY_TEXT: Final = frozenset(("globals", "eval", "exec", "vars", "__import__"))
GETTERS: Final = (itemgetter, attrgetter, methodcaller)
_ABSENT: Final = object()
_MAKING: Final = frozenset(("__init__", "__post_init__"))  # what they assign need not change later


class Read(NamedTuple):
    """A value that a function reads. `name` as its code says it: "INSTRUCTION", "settings.prompt", "import re"."""

    name: str
    value: Any
    assigned: bool = False  # by the function as well: state, that changes while it runs


@dataclass(frozen=True, slots=True)
class Imported:
    """A module that a function imports when it is called."""

    name: str


class _Step(NamedTuple):
    """One name in a function's code, the attributes that are then taken of it, and the operation."""

    name: str
    attributes: tuple[str, ...]
    operation: str


def read_by(function: Any) -> Iterator[Read]:
    """What one function reads: arguments it was given before, defaults; then closures, globals and imports by name.

    The globals of a function that is installed at a fixed version are as fixed as its text, and left out.
    """
    if isinstance(function, partial):
        yield from (Read(f"argument {place}", part) for place, part in enumerate(function.args))
        yield from (Read(name, part) for name, part in function.keywords.items())
        return
    if isinstance(function, GETTERS):
        of = type(function).__name__
        yield from (Read(f"{of} {place}", part) for place, part in enumerate(asked_of(function)))
        return
    if isinstance(function, BuiltinFunctionType) and not isinstance(
        function.__self__, ModuleType | type | None
    ):
        yield Read("object", function.__self__)  # the table of a `{...}.get`
    if isinstance(function, MethodType):
        yield from _of_object(function.__self__)
        function = function.__func__
    if isinstance(function, FunctionType):
        yield from _defaults(function)
        yield from _looked_up(function)
    elif not isinstance(function, type | BuiltinFunctionType):
        yield from _of_object(function)  # that is called as a function


def asked_of(getter: Any) -> tuple[Any, ...]:
    """What an `itemgetter` or its like was made with."""
    made, given = getter.__reduce__()
    if isinstance(made, partial):
        return (*made.args, *joined.from_iterable(made.keywords.items()), *given)
    return tuple(given)


def _of_object(owner: Any) -> Iterator[Read]:
    """What the methods of the user's own object read of it; a Runnable is a part of the chain itself."""
    if isinstance(owner, type):
        yield from data_of(owner)
    if isinstance(owner, Runnable | type) or release_of(module_of(owner)) is not None:
        return
    codes = {name: function.__code__ for name, function in methods_of(type(owner))}
    read = {name for code in codes.values() for name in code.co_names}
    assigned = {
        step.argval
        for method, code in codes.items()
        for step in dis.get_instructions(code)
        if step.opname == "STORE_ATTR" and method not in _MAKING
    }
    for name, value in sorted(getattr(owner, "__dict__", {}).items()):
        if name in read:
            yield Read(f"self.{name}", _itself(value), name in assigned)


def methods_of(cls: type) -> Iterator[tuple[str, FunctionType]]:
    """The functions of the user's own class and of its own bases, by name; a property's too.

    Of a list, here and below: a class may get another name while its code is followed, from a part that makes
    something when it is first looked at, or on another thread.
    """
    for base in cls.__mro__:
        if release_of(module_of(base)) is None:
            for name, part in list(vars(base).items()):
                for one in (getattr(part, "__func__", part), getattr(part, "fget", None)):
                    if isinstance(one, FunctionType):
                        yield name, one


def data_of(cls: type) -> Iterator[Read]:
    """What the user's own class holds beside its methods: its text need not say it, as in `PROMPT = file.read()`."""
    for base in cls.__mro__:
        if release_of(module_of(base)) is None:
            for name, value in list(vars(base).items()):
                is_made_by_python = name.startswith("__") or name == "_abc_impl"
                if not (is_made_by_python or hasattr(type(value), "__get__")):
                    yield Read(name, value)


def _defaults(function: FunctionType) -> Iterator[Read]:
    values = function.__defaults__ or ()
    names = function.__code__.co_varnames[: function.__code__.co_argcount][-len(values) :] if values else ()
    yield from map(Read, names, values)
    yield from map(Read, function.__kwdefaults__ or {}, (function.__kwdefaults__ or {}).values())


def _looked_up(function: FunctionType) -> Iterator[Read]:
    closure = _closure(function)
    if release_of(module_of(function)) is not None:
        yield from map(Read, closure, closure.values())
        return
    steps = sorted(set(_steps(function.__code__)))  # their order in the code is that of one version of Python
    assigned = {step.name for step in steps if step.operation in _STORED}
    for step in steps:
        if step.operation == "IMPORT_NAME":
            yield Read(f"import {step.name}", Imported(_resolved(step.name, function)))
        elif step.operation not in _STORED:
            held = function.__globals__ if step.operation in _GLOBAL else closure
            if step.name in held:
                yield Read(*_followed(step, held[step.name]), step.name in assigned)


def _closure(function: FunctionType) -> dict[str, Any]:
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = _itself(cell.cell_contents)
        except ValueError:  # the closure's cell is still empty
            continue
    return found


def _itself(value: Any) -> Any:
    """A value; its class where it is a proxy of what its context holds, as Flask's `current_app` is.

    Such a one raises where there is no context, whatever it is asked. One that wraps a function or a Runnable is that.
    """
    try:
        speaks = value.__class__ is type(value)
        getattr(value, "__self__", None)  # werkzeug's tells its own class where there is no context
        if speaks or isinstance(value, FunctionType | Runnable):
            return value
    except Exception:  # noqa: BLE001, S110 - it is the user's code, which may raise anything
        pass
    return type(value)


def _steps(code: CodeType) -> Iterator[_Step]:
    """Each name that code looks up, assigns or imports, also in the functions that it makes."""
    steps = list(dis.get_instructions(code))
    for place, step in enumerate(steps):
        if step.opname in _GLOBAL | _CLOSED:
            taken = takewhile(lambda after: after.opname in _ATTRIBUTE, steps[place + 1 :])
            yield _Step(str(step.argval), tuple(str(after.argval) for after in taken), step.opname)
        elif step.opname in _STORED:
            yield _Step(str(step.argval), (), step.opname)
        elif step.opname == "IMPORT_NAME":
            dots = steps[place - 2].argval  # how many stand before the name
            yield _Step("." * (dots if isinstance(dots, int) else 0) + str(step.argval), (), step.opname)
    for inside in code.co_consts:
        if isinstance(inside, CodeType):
            yield from _steps(inside)


def looks_up_by_text(function: FunctionType) -> bool:
    """Whether it can read a name that its code does not say, as in `globals()["PROMPT"]`."""
    if release_of(module_of(function)) is not None:
        return False
    said = {step.name for step in _steps(function.__code__)}
    return not (said & _BY_TEXT).isdisjoint(_BY_TEXT - function.__globals__.keys())


def _resolved(name: str, function: FunctionType) -> str:
    try:
        return resolve_name(name, function.__globals__.get("__package__") or "")
    except ImportError:
        return name


def _followed(step: _Step, value: Any) -> tuple[str, Any]:
    """`settings.prompt`, where `settings` was looked up: as far as that can be read without running code."""
    name, value = step.name, _itself(value)
    for attribute in step.attributes:
        inner = _held_by(value).get(attribute, _ABSENT)
        if inner is _ABSENT:
            break
        name, value = f"{name}.{attribute}", _itself(inner)
    return name, value


def _held_by(value: Any) -> Mapping[str, Any]:
    """What a module, or an object of the user's own, holds; classes, functions and Runnables are read as a whole."""
    if isinstance(value, ModuleType):
        return vars(value)
    is_whole = isinstance(value, Runnable | type | FunctionType | partial)
    return {} if is_whole or release_of(module_of(value)) is not None else attributes(value)


def closed_over(function: Any, depth: int = _CLOSURES) -> list[tuple[str, Any]]:
    """What a function closes over, by name; functions it closes over are opened in their turn."""
    if isinstance(function, partial):
        return [*((read.name, read.value) for read in read_by(function)), *closed_over(function.func, depth)]
    if isinstance(function, GETTERS):
        return [(read.name, read.value) for read in read_by(function)]
    function = getattr(function, "__func__", function)
    if not isinstance(function, FunctionType) or not depth:
        return []
    found: list[tuple[str, Any]] = []
    for name, value in _closure(function).items():
        found += closed_over(value, depth - 1) if isinstance(value, FunctionType) else [(name, value)]
    return found


def attributes(value: Any) -> dict[str, Any]:
    """The public attributes of an object: a Pydantic model's fields, or what its instance holds."""
    if isinstance(fields := getattr(type(value), "model_fields", None), Mapping):
        return {name: getattr(value, name, None) for name in fields}
    held = dict(getattr(value, "__dict__", {}))
    slots = joined.from_iterable(getattr(cls, "__slots__", ()) for cls in type(value).__mro__)
    held.update({name: getattr(value, name) for name in slots if hasattr(value, name)})
    return {name: part for name, part in held.items() if not name.startswith("_")}
