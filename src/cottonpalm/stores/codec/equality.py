"""Decides whether an output that was read back equals the original, and which classes are needed to rebuild it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from enum import Enum
from math import isnan
from typing import Any

from langchain_core.load.serializable import Serializable
from pydantic import BaseModel


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal in value and type, including NaN; a subclass of `str` equals its text."""
    if isinstance(a, str) and not isinstance(a, Enum):
        return type(b) is str and str.__eq__(a, b) is True
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return _all_same([*a], [*b]) and _all_same([*a.values()], [*b.values()])
    if isinstance(a, list | tuple):
        return _all_same(a, b)
    if isinstance(a, BaseModel):
        return _same_model(a, b)
    return _same_leaf(a, b)


def _same_leaf(a: Any, b: Any) -> bool:
    if type(a).__module__ == "numpy" and hasattr(a, "tobytes"):
        return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
    return bool(a == b or (isinstance(a, float) and isnan(a) and isnan(b)))


def _all_same(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))


def _same_model(a: BaseModel, b: BaseModel) -> bool:
    return (isinstance(a, Serializable) and a == b) or (  # a message: its class fixes its fields' types
        same(a.__dict__, b.__dict__)
        and same(a.__pydantic_extra__, b.__pydantic_extra__)
        and (a.__pydantic_private__ or {}) == (b.__pydantic_private__ or {})
    )


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
