"""Converts outputs to JSON and back, without pickle. It refuses an output that would not come back equal.

Plain JSON is stored as it is. Any other value is stored as an object whose key "$" names its kind (a tag). A dict that
has its own key "$" is stored as such an object too, so that data is never mistaken for a tag.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from cottonpalm.errors import CannotStore
from cottonpalm.stores.codec import kinds
from cottonpalm.stores.codec.equality import classes_in, same

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cottonpalm.stores.codec.kinds import Types

TAG: Final = kinds.TAG
_ATOMS: Final[dict[type, Callable[[Any], bool]]] = {
    str: kinds.is_unicode,
    int: kinds.is_number,
    float: kinds.is_number,
    bool: kinds.is_number,
    type(None): lambda _: True,
}
_LEAVES: Final = frozenset(_ATOMS)
_DEPTH: Final = 100  # the deepest nesting of containers; JSON readers do not go much deeper
_TEXT_CHARS: Final = 10_000  # characters kept of an output that cannot be stored


def encode(value: Any) -> Any:
    """Return the JSON form of `value`; plain JSON is returned as it is.

    Raises:
        CannotStore: no faithful form is known.
    """
    return value if _plain(value, _DEPTH) else _encode(value, _DEPTH)


def decode(stored: Any, types: Types) -> Any:
    """Return the value that `encode` got. An object whose class is not in `types` comes back as its plain data."""
    kind = type(stored)
    if kind in _LEAVES:
        return stored
    if kind is list:
        return [part if type(part) in _LEAVES else decode(part, types) for part in stored]
    if TAG not in stored:
        return {name: part if type(part) in _LEAVES else decode(part, types) for name, part in stored.items()}
    return _decoder(stored[TAG])(stored, types, decode)


def check(value: Any, types: Types) -> Any:
    """Encode `value` and prove that it comes back equal; return the JSON form.

    Raises:
        CannotStore: it would not come back equal; the message says why and what helps.
    """
    if _plain(value, _DEPTH):
        return value
    if (proved := kinds.proved_form(value)) is not None:
        return proved
    try:
        stored = _encode(value, _DEPTH)
        if kinds.makes_an_equal_one(value, stored, types):
            return stored
        back = decode(orjson.loads(orjson.dumps(stored)), types)
    except CannotStore as exc:
        raise CannotStore(str(exc), text=text_of(value)) from None
    except Exception as exc:
        raise CannotStore(f"{_named(value)} cannot be stored: {exc}", text=text_of(value)) from exc
    if not same(value, back):
        raise CannotStore(_mismatch(value), text=text_of(value))
    return stored


def text_of(value: Any) -> str:
    """Return the text that is shown for a value that could not be stored."""
    try:
        return repr(value)[:_TEXT_CHARS]
    except Exception:  # noqa: BLE001 - a broken __repr__ must not hide the answer's failure
        return f"<{_named(value)} without a readable repr>"


def _plain(value: Any, depth: int) -> bool:
    """Whether JSON can hold `value` without loss: exact types, finite numbers, valid text, none of our tags."""
    kind = type(value)
    if kind is str and value.isascii():  # most rows are, or hold nothing else
        return True
    if kind is dict:
        return depth > 0 and TAG not in value and _all_plain(value, 0) and _all_plain(value.values(), depth)
    if kind is list:
        return depth > 0 and _all_plain(value, depth)
    return (atom := _ATOMS.get(kind)) is not None and atom(value)


def _all_plain(parts: Iterable[Any], depth: int) -> bool:
    """Whether all parts of a container are plain; 0: they are the names of a dict, which must be text."""
    for part in parts:
        kind = type(part)
        if kind is str and part.isascii():  # most are, and a call would take longer than all else
            continue
        if kind is int and depth and -(2**63) <= part < 2**64:
            continue
        if not (_plain(part, depth - 1) if depth else kind is str and kinds.is_unicode(part)):
            return False
    return True


def _encode(value: Any, depth: int) -> Any:
    if not depth:
        raise CannotStore(f"the output is nested more than {_DEPTH} levels deep")
    kind = type(value)
    if kind is list:
        return [_encode(part, depth - 1) for part in value]
    if kind is dict and TAG not in value and all(type(name) is str for name in value) and _plain([*value], 1):
        return {name: _encode(part, depth - 1) for name, part in value.items()}
    if kind in _LEAVES and _plain(value, 0):
        return value
    return kinds.encode_kind(
        value, lambda part: part if _plain(part, depth - 1) else _encode(part, depth - 1)
    )


def _decoder(tag: Any) -> Callable[[dict[str, Any], Types, kinds.Decode], Any]:
    if (found := kinds.DECODERS.get(tag)) is None:
        raise CannotStore(
            f"the record holds a value of kind {tag!r}, which this version of cottonpalm does not know"
        )
    return found


def _named(value: Any) -> str:
    return f"an output of type {type(value).__name__}"


def _mismatch(value: Any) -> str:
    missing = classes_in(value)
    if not missing:
        return f"{_named(value)} would not come back from the store equal"
    names = ", ".join(sorted({cls.__name__ for cls in missing}))
    return (
        f"{_named(value)} would not come back from the store equal: pass output_type={names} so that it can be rebuilt"
        " (its class must also survive a round trip through JSON)"
    )
