"""The kinds of value that JSON does not have: how each is encoded and decoded, and when two values are equal."""

from __future__ import annotations

import datetime as dt
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from functools import cache
from inspect import signature
from math import isfinite
from operator import is_
from typing import Any, Final, TypeAlias
from uuid import UUID

import orjson
from langchain_core.load.serializable import Serializable
from langchain_core.runnables.utils import AddableDict
from pydantic import BaseModel

from cottonpalm.errors import CannotStore, StoredError
from cottonpalm.stores.codec.equality import same
from cottonpalm.stores.codec.whole_tokens import in_wholes, is_whole

TAG: Final = "$"
_ARRAYS: Final = frozenset("biufmM")  # kinds of numpy data: booleans, integers, floats, times
_NAMES: Final[
    dict[str, Any]
] = (  # data is stored under the fields' own names; before Pydantic 2.11 an alias hides these
    {"by_alias": True, "by_name": True} if "by_name" in signature(BaseModel.model_validate).parameters else {}
)
Types: TypeAlias = Mapping[str, type]
Decode: TypeAlias = Callable[[Any, Types], Any]
Encode: TypeAlias = Callable[[Any], Any]
Stored: TypeAlias = dict[str, Any]
Shape: TypeAlias = tuple[Any, ...]
_LEVELS: Final = 2  # of dicts in a message's fields: metadata, usage and its details
_MOST_SHAPES: Final = 1_000
_PROVED: Final = set[Shape]()  # shapes of model answers that came back equal


class Proved(dict[str, Any]):
    """The stored form of a Pydantic model, whose plain JSON made an equal model."""

    __slots__ = ()


def qualified(cls: type) -> str:
    """Return a class's name in records: module and qualified name."""
    return f"{cls.__module__}:{cls.__qualname__}"


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can hold the text; False if it has lone surrogates."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_number(value: Any) -> bool:
    """Whether JSON holds it as the same number, or as true or false."""
    kind = type(value)
    return kind is bool or (kind is int and -(2**63) <= value < 2**64) or (kind is float and isfinite(value))


def encode_kind(value: Any, encode: Encode) -> Any:
    """Return the tagged form of a value that is not plain JSON; `encode` converts its parts."""
    if is_data(type(value)):  # first, since most are
        return _lc(value, encode)
    if isinstance(value, Enum):  # checked before `str` and `int`, which may be among its base classes
        return _enum(value, encode)
    if (array := _array(value)) is not None:
        return array
    for cls in type(value).__mro__:
        if (encoder := _ENCODERS.get(cls)) is not None and (stored := encoder(value, encode)) is not None:
            return stored
    if is_dataclass(value) and not isinstance(value, type):
        return _fields(
            "data", value, {f.name: getattr(value, f.name) for f in fields(value) if f.init}, encode
        )
    raise CannotStore(
        f"an output of type {type(value).__name__} cannot be stored: return text, JSON, a message, a document or a"
        " Pydantic model, or run without a store"
    )


# Encoders. If one returns None, the next base class decides.


def _tagged(kind: str, value: Any) -> Stored:
    return {TAG: kind, "v": value}


def _fields(kind: str, value: Any, found: Mapping[str, Any], encode: Encode) -> Stored:
    return {TAG: kind, "c": qualified(type(value)), "v": {name: encode(part) for name, part in found.items()}}


def _text(value: str, encode: Encode) -> Any:  # noqa: ARG001
    exact = str.__str__(value)  # LangChain's parsers return subclasses of str; we store the text
    return (
        exact
        if is_unicode(exact)
        else _tagged("str", b64encode(exact.encode("utf-8", "surrogatepass")).decode())
    )


def _pairs(value: Mapping[Any, Any], encode: Encode) -> Stored | None:
    if type(value) not in (dict, AddableDict):
        return None
    return _tagged("dict", [[encode(name), encode(part)] for name, part in value.items()])


def _tuple(value: tuple[Any, ...], encode: Encode) -> Stored | None:
    if type(value) is tuple:
        return _tagged("tuple", [encode(part) for part in value])
    if hasattr(value, "_fields"):
        return _fields("data", value, value._asdict(), encode)  # type: ignore[attr-defined]  # a NamedTuple
    return None


def _set(value: Any, encode: Encode) -> Stored | None:
    if type(value) not in (set, frozenset):
        return None
    return _tagged(type(value).__name__, [encode(part) for part in sorted(value, key=repr)])


def _exact(cls: type, kind: str, form: Callable[[Any], Any]) -> Callable[[Any, Encode], Stored | None]:
    return lambda value, _: _tagged(kind, form(value)) if type(value) is cls else None


def _enum(value: Enum, encode: Encode) -> Stored:
    return {TAG: "enum", "c": qualified(type(value)), "v": encode(value.value)}


def _error(value: BaseException, encode: Encode) -> Stored:
    """Encode an exception in an answer: what it said, as no class of it can be made anew from that."""
    kept = StoredError.of(value)
    return {TAG: "error", "c": kept.type, "v": encode(str(kept))}


def _array(value: Any) -> Stored | None:
    """Encode a numpy scalar or array of numbers, times or booleans; None for anything else."""
    if type(value).__module__ != "numpy" or getattr(getattr(value, "dtype", None), "kind", "") not in _ARRAYS:
        return None
    numbers = value.view(f"i{value.itemsize}") if value.dtype.kind in "mM" else value
    flat = [part if part - part == 0 else str(part) for part in numbers.reshape(-1).tolist()]
    return {TAG: "numpy", "c": value.dtype.str, "s": None if value.shape == () else [*value.shape], "v": flat}


def _lc(value: Serializable, encode: Encode) -> Stored:
    """Encode a message, document or the like by its class's name and the fields that differ from their defaults."""
    return _lc_form(value, {name: encode(part) for name, part in _given(value).items()})


def _lc_form(value: Serializable, parts: Stored) -> Stored:
    return {TAG: "lc", "c": type(value).__name__, "v": parts}


def _given(value: Serializable) -> Stored:
    """The fields that differ from their defaults."""
    held = value.__dict__
    found = {name: held[name] for name, default in _defaults(type(value)) if held[name] != default}
    return found | extra if (extra := value.__pydantic_extra__) else found


def count_in_wholes(output: Any) -> bool:
    """Make the usage of the messages in an output one of whole tokens; return whether one was not.

    LangChain's class refuses other counts where it is made anew, and a paid answer must not be lost for its counts.
    """
    if isinstance(output, dict | list | tuple):
        parts = output.values() if isinstance(output, dict) else output
        return sum(map(count_in_wholes, parts)) > 0  # of all parts, not up to the first
    usage = getattr(output, "usage_metadata", None) if is_data(type(output)) else None
    if usage is None or is_whole(usage):
        return False
    output.usage_metadata = in_wholes(usage)
    return True


def proved_form(value: Any) -> Stored | None:
    """Encode a model's answer whose shape came back equal before; None: any other value."""
    if type(value) is not _answer_class() or not is_whole(value.usage_metadata):  # type: ignore[attr-defined]
        return None
    parts = _given(value)
    return _lc_form(value, parts) if _shape(parts, _LEVELS) in _PROVED else None


def makes_an_equal_one(value: Any, stored: Stored, types: Types) -> bool:
    """Whether a message, a Pydantic model or the like is stored as plain JSON that makes an equal one.

    Plain JSON comes back equal; so this needs no text. A message is stored by its own parts. That they make an equal
    one is proved for the first answer of a model of each shape: what LangChain checks of it are names and types; see
    `proved_form`. False: it is not known.
    """
    cls = type(value)
    if isinstance(stored, Proved):
        return types.get(stored["c"]) is cls
    if not is_data(cls):
        return False
    held, parts = value.__dict__, stored["v"]
    if not all(map(is_, parts.values(), map(held.get, parts))):
        return False
    equal = bool(cls(**parts) == value)
    shape = _shape(parts, _LEVELS) if cls is _answer_class() else None
    if equal and shape is not None and len(_PROVED) < _MOST_SHAPES:
        _PROVED.add(shape)
    return equal


def _shape(parts: Mapping[str, Any], levels: int) -> Shape | None:
    """The names and types of what it holds; None where it holds more than plain JSON, lists, or many levels."""
    found: list[Any] = [*parts]
    for part in parts.values():
        kind: Any = type(part)
        if kind is str:
            if not is_unicode(part):
                return None
        elif kind is dict:
            if part and (not levels or (kind := _shape(part, levels - 1)) is None):
                return None
        elif part and not is_number(part):
            return None
        found.append(kind)
    return tuple(found)


@cache
def _answer_class() -> type[Serializable]:
    """AIMessage. Others have fields in which not each text is allowed."""
    return data_classes()["AIMessage"]


@cache
def _defaults(cls: type[Serializable]) -> list[tuple[str, Any]]:
    """Return a class's fields with their defaults; a required field gets a default that equals nothing."""
    required = object()
    return [
        (
            name,
            required
            if field.is_required()
            else field.get_default(call_default_factory=True, validated_data={}),
        )
        for name, field in cls.model_fields.items()
    ]


def is_data(cls: type) -> bool:
    """Whether this is one of LangChain's classes that only hold data."""
    return data_classes().get(cls.__name__) is cls


@cache
def data_classes() -> Mapping[str, type[Serializable]]:
    """Return LangChain's classes that only hold data, by name. We never rebuild a prompt, a model or other code."""
    from langchain_core import agents, documents, messages, outputs, prompt_values  # noqa: PLC0415

    modules = (messages, documents, prompt_values, outputs, agents)
    names = [(module, name) for module in modules for name in getattr(module, "__all__", vars(module))]
    named = [getattr(module, name) for module, name in names]  # the packages import some of them only now
    found = [part for part in named if isinstance(part, type)]
    return {cls.__name__: cls for cls in found if issubclass(cls, Serializable) and cls.is_lc_serializable()}


def _model(value: BaseModel, encode: Encode) -> Stored:
    """Encode as JSON if that is enough (it also holds Enums and nested models), else as Python data in our tags."""
    cls = type(value)
    try:
        data = value.model_dump(mode="json", by_alias=False, warnings=False)
        if same(value, _validated(cls, data)):
            found = {TAG: "pydantic", "c": qualified(cls), "v": encode(data), "u": _unset(value)}
            return Proved(found) if found["v"] is data else found
    except Exception:  # noqa: BLE001, S110 - the other form may hold what this one does not
        pass
    data = value.model_dump(mode="python", by_alias=False, warnings=False)
    return {TAG: "pydantic", "c": qualified(cls), "v": encode(data), "u": _unset(value)}


def _unset(value: BaseModel) -> list[str]:
    return sorted(type(value).model_fields.keys() - value.model_fields_set)


_ENCODERS: Final[dict[type, Callable[[Any, Encode], Any]]] = {
    str: _text,
    dict: _pairs,
    tuple: _tuple,
    set: _set,
    frozenset: _set,
    BaseModel: _model,
    BaseException: _error,
    int: _exact(int, "int", str),
    float: _exact(float, "float", repr),
    bytes: _exact(bytes, "bytes", lambda value: b64encode(value).decode()),
    dt.datetime: _exact(dt.datetime, "datetime", lambda value: [value.isoformat(), value.fold]),
    dt.date: _exact(dt.date, "date", dt.date.isoformat),
    dt.time: _exact(dt.time, "time", lambda value: [value.isoformat(), value.fold]),
    dt.timedelta: _exact(
        dt.timedelta, "timedelta", lambda value: [value.days, value.seconds, value.microseconds]
    ),
    Decimal: _exact(Decimal, "decimal", str),
    UUID: _exact(UUID, "uuid", str),
}


# Decoders.


def _plain_out(make: Callable[[Any], Any]) -> Callable[[Stored, Types, Decode], Any]:
    return lambda stored, types, decode: make(stored["v"])  # noqa: ARG005


def _parts_out(make: Callable[[Any], Any]) -> Callable[[Stored, Types, Decode], Any]:
    return lambda stored, types, decode: make([decode(part, types) for part in stored["v"]])


def _dict_out(stored: Stored, types: Types, decode: Decode) -> dict[Any, Any]:
    return {decode(name, types): decode(part, types) for name, part in stored["v"]}


def _enum_out(stored: Stored, types: Types, decode: Decode) -> Any:
    value = decode(stored["v"], types)
    cls = types.get(stored["c"])
    return value if cls is None else cls(value)


def _data_out(stored: Stored, types: Types, decode: Decode) -> Any:
    data = {name: decode(part, types) for name, part in stored["v"].items()}
    cls = types.get(stored["c"])
    return data if cls is None else cls(**data)


def _model_out(stored: Stored, types: Types, decode: Decode) -> Any:
    data = decode(stored["v"], types)
    cls = types.get(stored["c"])
    if cls is None or not issubclass(cls, BaseModel):
        return data
    model = _validated(cls, data)
    model.__pydantic_fields_set__.difference_update(stored["u"])
    return model


def _validated(cls: type[BaseModel], data: Any) -> BaseModel:
    try:
        return cls.model_validate(data, **_NAMES)
    except ValueError:  # strict fields accept dates, sets and the like only from JSON
        return cls.model_validate_json(orjson.dumps(data), **_NAMES)


def _error_out(stored: Stored, types: Types, decode: Decode) -> StoredError:
    return StoredError(stored["c"], decode(stored["v"], types))


def _lc_out(stored: Stored, types: Types, decode: Decode) -> Any:
    if (cls := data_classes().get(stored["c"])) is None:
        raise CannotStore(
            f"the record holds a {stored['c']!r}, which is not among LangChain's classes that only hold data"
        )
    return cls(**{name: decode(part, types) for name, part in stored["v"].items()})


def _array_out(stored: Stored, types: Types, decode: Decode) -> Any:  # noqa: ARG001
    flat, shape = [float(part) if isinstance(part, str) else part for part in stored["v"]], stored["s"]
    try:
        import numpy as np  # noqa: PLC0415 - whoever stored it has it; whoever reads it may not
    except ImportError:
        return flat[0] if shape is None else flat
    found = np.array(flat, dtype=stored["c"] if stored["c"][1] not in "mM" else "i8").astype(stored["c"])
    return found[0] if shape is None else found.reshape(shape)


DECODERS: Final[dict[Any, Callable[[Stored, Types, Decode], Any]]] = {
    "str": _plain_out(lambda text: b64decode(text).decode("utf-8", "surrogatepass")),
    "dict": _dict_out,
    "tuple": _parts_out(tuple),
    "set": _parts_out(set),
    "frozenset": _parts_out(frozenset),
    "int": _plain_out(int),
    "float": _plain_out(float),
    "bytes": _plain_out(b64decode),
    "datetime": _plain_out(lambda v: dt.datetime.fromisoformat(v[0]).replace(fold=v[1])),
    "date": _plain_out(dt.date.fromisoformat),
    "time": _plain_out(lambda v: dt.time.fromisoformat(v[0]).replace(fold=v[1])),
    "timedelta": _plain_out(lambda v: dt.timedelta(*v)),
    "decimal": _plain_out(Decimal),
    "uuid": _plain_out(UUID),
    "enum": _enum_out,
    "data": _data_out,
    "pydantic": _model_out,
    "lc": _lc_out,
    "numpy": _array_out,
    "error": _error_out,
}
