"""Finds the type of a column that holds all its values exactly. If there is none, the values become JSON text."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from functools import reduce
from typing import Any, Final

from cottonpalm.stores.codec.kinds import is_unicode

EXACT: Final = 2**53  # a float holds integers up to here exactly
WORD: Final = 2**63


@dataclass(frozen=True, slots=True)
class Shape:
    """The type of some values.

    Attributes:
        kind: null, bool, int, long (integers that no float holds), float, text, bytes, date, time, moment (with a
            zone), local (without), span, decimal, list, struct, or json if nothing else fits.
        parts: the shape of a list's element, or of a struct's fields.
        names: the names of a struct's fields.
        digits: a decimal's digits before and after the point.
    """

    kind: str
    parts: tuple[Shape, ...] = ()
    names: tuple[str, ...] = ()
    digits: tuple[int, int] = (0, 0)


NULL: Final = Shape("null")
JSON: Final = Shape("json")
INT: Final = Shape("int")
LONG: Final = Shape("long")
FLOAT: Final = Shape("float")
SIMPLE: Final[dict[type, Shape]] = {
    type(None): NULL,
    str: Shape("text"),
    bool: Shape("bool"),
    float: FLOAT,
    bytes: Shape("bytes"),
    dt.date: Shape("date"),
    dt.timedelta: Shape("span"),
}


def shape_of(value: Any) -> Shape:
    """Return the shape of one value."""
    kind = type(value)
    if (simple := SIMPLE.get(kind)) is not None:
        return simple
    if kind is int:
        return (INT if -EXACT <= value <= EXACT else LONG) if -WORD <= value < WORD else JSON
    if kind is list:
        return _joined("list", (reduce(merged, map(shape_of, value), NULL),))
    if kind is dict:
        return _struct(value)
    return _timed(value)


def _struct(value: dict[Any, Any]) -> Shape:
    if not value or not all(type(name) is str and is_unicode(name) for name in value):
        return JSON
    return _joined("struct", tuple(map(shape_of, value.values())), tuple(value))


def _timed(value: Any) -> Shape:
    kind = type(value)
    if kind is dt.datetime:
        return Shape("local" if value.tzinfo is None else "moment")
    if kind is dt.time and value.tzinfo is None:
        return Shape("time")
    if kind is Decimal and value.is_finite():
        _, digits, exponent = value.as_tuple()
        after = max(0, -int(exponent))
        return _decimal((max(1, len(digits) + int(exponent)), after))
    return JSON


def _decimal(digits: tuple[int, int]) -> Shape:
    return Shape("decimal", digits=digits) if sum(digits) <= 76 else JSON


def _joined(kind: str, parts: tuple[Shape, ...], names: tuple[str, ...] = ()) -> Shape:
    return JSON if JSON in parts else Shape(kind, parts, names)


def merged(one: Shape, other: Shape) -> Shape:
    """Return the shape that holds the values of both shapes."""
    if one == other or other is NULL:
        return one
    if one is NULL:
        return other
    if one.kind == other.kind:
        return _widened(one, other)
    kinds = {one.kind, other.kind}
    return LONG if kinds <= {"int", "long"} else FLOAT if kinds <= {"int", "float"} else JSON


def _widened(one: Shape, other: Shape) -> Shape:
    """Merge two shapes of the same kind."""
    if one.kind == "decimal":
        (a, b), (c, d) = one.digits, other.digits
        return _decimal((max(a, c), max(b, d)))
    if one.names != other.names:
        return JSON
    return _joined(one.kind, tuple(map(merged, one.parts, other.parts)), one.names)
