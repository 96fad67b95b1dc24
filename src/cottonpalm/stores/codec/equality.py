"""Decides whether an output that was read back equals the original, and which classes are needed to rebuild it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import is_dataclass
from decimal import Decimal
from enum import Enum
from typing import Any, Final

from langchain_core.load.serializable import Serializable
from langchain_core.runnables.utils import AddableDict
from pydantic import BaseModel

from cottonpalm.errors import StoredError

_PLAIN: Final = frozenset((str, int, bool, type(None)))


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal in value and type, to the sign of a zero; a NaN equals another.

    A subclass of `str` equals its text, the dict of LangChain's that can be added equals a plain one, and an exception
    what is kept of it.
    """
    if type(a) in _PLAIN:
        return type(a) is type(b) and bool(a == b)
    if isinstance(a, str) and not isinstance(a, Enum):
        return type(b) is str and str.__eq__(a, b) is True
    a = _in_its_place(a)
    if type(a) is not type(b):
        return False
    if type(a).__module__ == "numpy" and hasattr(a, "tobytes"):
        return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
    for kind, rule in _RULES:
        if isinstance(a, kind):
            return rule(a, b)
    return bool(a == b)


def _in_its_place(value: Any) -> Any:
    """What comes back for a value of a class that is not made anew."""
    if type(value) is AddableDict:
        return dict(value)
    return StoredError.of(value) if isinstance(value, BaseException) else value


def _all_same(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return len(a) == len(b) and all(map(same, a, b))


def _same_set(a: AbstractSet[Any], b: AbstractSet[Any]) -> bool:
    there = {part: part for part in b}
    return a == b and all(same(part, there[part]) for part in a)


def _same_model(a: BaseModel, b: BaseModel) -> bool:
    return (isinstance(a, Serializable) and a == b) or (  # a message: its class fixes its fields' types
        same(a.__dict__, b.__dict__)
        and same(a.__pydantic_extra__, b.__pydantic_extra__)
        and (a.__pydantic_private__ or {}) == (b.__pydantic_private__ or {})
    )


_RULES: Final[list[tuple[Any, Callable[[Any, Any], bool]]]] = [
    (dict, lambda a, b: _all_same([*a], [*b]) and _all_same([*a.values()], [*b.values()])),
    ((list, tuple), _all_same),
    ((set, frozenset), _same_set),
    (BaseModel, _same_model),
    (StoredError, lambda a, b: (a.type, str(a)) == (b.type, str(b))),
    (float, lambda a, b: float.hex(a) == float.hex(b)),
    (Decimal, lambda a, b: a.as_tuple() == b.as_tuple()),
]


def classes_in(value: Any) -> set[type]:
    """Return the classes inside `value` that a reader must know to rebuild them."""
    return set(_classes(value, 20))


def _classes(value: Any, depth: int) -> Iterator[type]:
    model = isinstance(value, BaseModel) and not isinstance(value, Serializable)
    if model or isinstance(value, Enum) or is_dataclass(value) or hasattr(value, "_fields"):
        yield type(value)
    elif depth and isinstance(value, BaseModel):
        yield from _classes(vars(value), depth - 1)
    elif depth and isinstance(value, Mapping):
        yield from _classes([*value, *value.values()], depth - 1)
    elif depth and isinstance(value, list | tuple | set | frozenset):
        for part in value:
            yield from _classes(part, depth - 1)
