"""Tells which rows ask the same question: a 16-byte key for any Python value, and a count of repeated keys.

Equal values have equal keys in every process and on every Python version: a key does not depend on hash
seeds, on addresses, or on the order of a dict or a set. Values have different keys if a prompt could show
the difference (1 and 1.0, a tuple and a list, NaN and None). Counting repeats takes bounded memory.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from enum import Enum
from hashlib import blake2b
from math import isnan
from types import ModuleType
from typing import Any, Final

import orjson

KEY_BYTES: Final = 16
HALF: Final = KEY_BYTES // 2
_SORTED: Final = orjson.OPT_SORT_KEYS
_PLAIN: Final = frozenset((str, int, bool, type(None)))
_NESTING: Final = 60  # values nested deeper are encoded by the slower general code
_OPEN: Final = (Enum, Mapping, list, tuple, AbstractSet)
_HASHER: Final = blake2b(digest_size=KEY_BYTES)  # always empty: copying it is faster than making a new one
_ADDRESS: Final = re.compile(r"\b0x[0-9a-fA-F]{4,}")


def content_key(
    row: Any, configurable: Mapping[str, Any] | None = None, kwargs: Mapping[str, Any] | None = None
) -> bytes:
    """The key of a question: the row, its config's `configurable` and the call's keyword arguments."""
    if configurable or kwargs:
        return _canonical(("asked", row, dict(configurable or {}), dict(kwargs or {})))
    if type(row) is str:
        return _digest(b"s" + row.encode("utf-8", "surrogatepass"))
    if type(row) in _PLAIN or _is_json(row, _NESTING):
        try:
            data = orjson.dumps(row, option=_SORTED)
        except TypeError:  # a lone surrogate, a big integer, a key that is no text
            return _canonical(row)
        hasher = _HASHER.copy()  # `_digest` written out, for speed: a reopened run brings a million rows here
        hasher.update(data)
        return hasher.digest()
    return _canonical(row)


def joined_key(question: bytes, whole: bytes) -> bytes:
    """The content key of a row of which only a part is asked: half of the part's key, half of the whole row's.

    So two such keys tell whether the rows ask the same (`same_question`), and whether they are the same. Where the part
    is the whole row, it is that row's key.
    """
    return question[:HALF] + whole[HALF:]


def same_question(content: bytes, other: bytes) -> bool:
    """Whether two content keys are of rows that ask the same."""
    return content[:HALF] == other[:HALF]


def is_told(row: Any) -> bool:
    """Whether a row's key covers everything that the row holds.

    Of a generator, a local function, a bound method or an object that cannot be copied, the key covers only a name.
    """
    if type(row) in _PLAIN or _is_json(row, _NESTING):
        return True
    work, seen = [row], [row]  # `seen` keeps temporary objects alive, so that no id is used twice
    ids: set[int] = set()
    while work:
        value = work.pop()
        if _atom(value) is not None or id(value) in ids:
            continue
        ids.add(id(value))
        if not isinstance(value, _OPEN) and not _is_told(value):
            return False
        children = _open(value)[1]
        work += children
        seen += children
    return True


def _is_told(value: Any) -> bool:
    if hasattr(value, "isoformat") or isinstance(getattr(type(value), "model_fields", None), dict):
        return True
    if callable(value) and hasattr(value, "__qualname__"):
        bound = getattr(value, "__self__", None)
        return "<" not in value.__qualname__ and (bound is None or isinstance(bound, ModuleType))
    try:
        return bool(value.__reduce_ex__(2))
    except Exception:  # noqa: BLE001 - see `_reduced`
        return False


def id_key(id: str) -> bytes:  # noqa: A002 - the word users know
    """The key of a row that has an id of its own."""
    return _digest(b"i" + id.encode("utf-8", "surrogatepass"))


def _digest(data: bytes) -> bytes:
    hasher = _HASHER.copy()
    hasher.update(data)
    return hasher.digest()


def _is_json(value: Any, depth: int) -> bool:
    """Whether JSON can represent `value` without loss: exact types, finite numbers, no deep nesting."""
    kind = type(value)
    if kind in _PLAIN or (kind is dict and _PLAIN.issuperset(map(type, value.values()))):
        return depth > 0 or kind is not dict
    if kind is float:
        return bool(value - value == 0)  # neither NaN nor infinite
    if depth == 0 or (kind is not dict and kind is not list):
        return False
    parts = value.values() if kind is dict else value
    return all(_is_json(part, depth - 1) for part in parts)


def _canonical(value: Any) -> bytes:
    hasher = blake2b(b"v", digest_size=KEY_BYTES)
    for token in _tokens(value):
        hasher.update(token)
    return hasher.digest()


class _Leave:
    """A mark on the stack of work: the container with this id is finished."""

    def __init__(self, identity: int) -> None:
        self.identity = identity


def _tokens(value: Any) -> Iterator[bytes]:
    """Yield a prefix code of `value`. An explicit stack allows any depth; a cycle is cut where it returns to itself."""
    work: list[Any] = [value]
    path: dict[int, int] = {}  # id of each container that we are inside of -> its depth
    alive: list[Any] = []  # keeps temporary objects alive, so that no id is used twice
    while work:
        item = work.pop()
        if type(item) is _Leave:
            del path[item.identity]
            continue
        if (atom := _atom(item)) is not None:
            yield atom
            continue
        if (depth := path.get(id(item))) is not None:
            yield b"^%d;" % (len(path) - depth)
            continue
        tag, children = _open(item)
        yield b"%s%d;" % (tag, len(children))
        path[id(item)] = len(path)
        alive.append(item)
        work.append(_Leave(id(item)))
        work.extend(reversed(children))


def _sized(tag: bytes, body: bytes) -> bytes:
    return b"%s%d:%s" % (tag, len(body), body)


def _atom(value: Any) -> bytes | None:  # noqa: PLR0911 - one line a kind
    """The token of a value without parts, or None."""
    if value is None or value is True or value is False:
        return b"N" if value is None else b"T" if value else b"F"
    if isinstance(value, Enum | type):
        return None if isinstance(value, Enum) else _sized(b"c", _name(value))
    if isinstance(value, str):
        return _sized(b"s", value.encode("utf-8", "surrogatepass"))
    if isinstance(value, int):
        return b"i%x;" % value if value >= 0 else b"i-%x;" % -value
    if isinstance(value, float):
        return b"n" if isnan(value) else b"f" + struct.pack(">d", value)
    if isinstance(value, bytes | bytearray | memoryview):
        return _sized(b"b", bytes(value))
    return None


def _open(value: Any) -> tuple[bytes, list[Any]]:
    """Return the tag and the parts of a value that has parts, always in the same order."""
    if isinstance(value, Enum):
        return _sized(b"e", _name(type(value))), [value.value]
    if isinstance(value, Mapping):
        return b"d", [part for pair in _ordered(value.items()) for part in pair]
    if isinstance(value, list):
        return b"l", list(value)
    if isinstance(value, tuple):
        return b"t", list(value)
    if isinstance(value, AbstractSet):
        return b"S", sorted(value, key=_canonical)
    return _sized(b"o", _name(type(value))), _parts(value)


def _ordered(pairs: Any) -> list[tuple[Any, Any]]:
    return sorted(pairs, key=lambda pair: _canonical(pair[0]))


def _name(cls: type) -> bytes:
    return f"{cls.__module__}:{cls.__qualname__}".encode()


def _parts(value: Any) -> list[Any]:
    """Return what makes this object different from others of its class."""
    if callable(name := getattr(value, "isoformat", None)):  # dates and times, including fold and zone
        return [name(), str(getattr(value, "tzinfo", None))]
    if isinstance(fields := getattr(type(value), "model_fields", None), dict):
        return [_model_fields(value, fields)]
    if callable(value) and hasattr(value, "__qualname__"):
        return [getattr(value, "__module__", None), value.__qualname__]
    return [_reduced(value)]


def _model_fields(value: Any, fields: dict[str, Any]) -> dict[str, Any]:
    """A Pydantic object's fields. A message's own id is left out: LangChain draws a new one each time."""
    message = {"content", "additional_kwargs", "response_metadata"} <= fields.keys()
    found = {name: getattr(value, name, None) for name in fields if not (message and name == "id")}
    return found | (getattr(value, "__pydantic_extra__", None) or {})


def _reduced(value: Any) -> Any:
    """Return the state that `copy` would use; else the object's text without addresses. We rebuild nothing from it."""
    try:
        reduced = value.__reduce_ex__(2)
    except Exception:  # noqa: BLE001 - any object may refuse; then its text has to do
        return _ADDRESS.sub("", repr(value))
    if isinstance(reduced, str):
        return reduced
    _, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
    return [arguments, state, list(items or ()), list(pairs or ())]


SAMPLE: Final = 1 << 17  # up to so many distinct rows are counted exactly; of more, a fair sample
HASHES: Final = 1 << 64


class Distinct:
    """Counts rows that ask the same as an earlier one, in bounded memory.

    Up to 131,072 different rows the count is exact. Beyond that, it looks only at rows whose hash lies below a bound,
    lowers the bound as rows come, and scales the count up.
    """

    def __init__(self, most: int = SAMPLE) -> None:
        self._most = most
        self._bound = HASHES
        self._seen: set[int] = set()
        self._repeats: dict[int, int] = {}

    def add(self, content: bytes) -> None:
        """Take note of one row's content hash."""
        number = int.from_bytes(content[:8], "big")
        if number >= self._bound:
            return
        if number in self._seen:
            self._repeats[number] = self._repeats.get(number, 0) + 1
            return
        self._seen.add(number)
        while len(self._seen) > self._most:
            self._bound //= 2
            self._seen = {seen for seen in self._seen if seen < self._bound}
            self._repeats = {seen: times for seen, times in self._repeats.items() if seen < self._bound}

    @property
    def exact(self) -> bool:
        """Whether all rows were looked at, so that the count is exact."""
        return self._bound == HASHES

    @property
    def repeats(self) -> int:
        """How many rows were repeats."""
        return sum(self._repeats.values()) * (HASHES // self._bound)
