"""Makes Arrow arrays of text, numbers and truth values from their bytes.

`pyarrow.array` looks first whether its values are a pandas object, and loads all of pandas for that where it is
installed: up to a second, and some 50 MB, at the end of each run that writes Parquet.
"""

from __future__ import annotations

from array import array
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST: Final = 2**31 - 1  # bytes of text in one array: its offsets have 32 bits


def plain_array(values: list[Any], kind: Any) -> Any | None:
    """Return the values as an array of this type; None if they are not all plain values of just this type.

    Raises:
        UnicodeEncodeError: a text that UTF-8 cannot hold.
    """
    import pyarrow as pa

    if (plain := _plain(kind)) is None:
        return None
    exact, make = plain
    if not set(map(type, values)) <= {exact, type(None)}:
        return None
    try:
        parts = make(values)
    except OverflowError:  # a number that needs more bits: pyarrow finds words for it
        return None
    there = pa.py_buffer(_bits([value is not None for value in values]))
    return pa.Array.from_buffers(kind, len(values), [there, *map(pa.py_buffer, parts)])


@cache
def _plain(kind: Any) -> tuple[type, Callable[[list[Any]], tuple[Any, ...]]] | None:
    """The Python type of an Arrow type's values, and what makes their buffers, but for who is there at all."""
    import pyarrow as pa

    if kind == pa.string():
        return str, _text
    if kind == pa.bool_():
        return bool, lambda values: (_bits([value is True for value in values]),)
    if kind == pa.float64():
        return float, lambda values: (array("d", [0.0 if value is None else value for value in values]),)
    codes = {pa.int16(): "h", pa.int32(): "i", pa.int64(): "q"}
    if (code := codes.get(kind)) is None:
        return None
    return int, lambda values: (array(code, [0 if value is None else value for value in values]),)


def _text(values: list[str | None]) -> tuple[Any, ...]:
    encoded = [b"" if value is None else value.encode() for value in values]
    if sum(map(len, encoded)) > LONGEST:
        raise OverflowError("more text than one array holds")
    return array("i", accumulate(map(len, encoded), initial=0)), b"".join(encoded)


def _bits(flags: list[bool]) -> bytes:
    """One bit for each, the first one lowest."""
    number = int("0" + "".join("1" if flag else "0" for flag in reversed(flags)), 2)
    return number.to_bytes(len(flags) // 8 + 1, "little")
