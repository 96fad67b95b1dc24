"""Converts values between Arrow and Python where the two differ: nanoseconds, and text that is not valid."""

from __future__ import annotations

from functools import cache
from typing import Any

from cottonpalm.cli.files.plain_arrays import plain_array


def in_python(column: Any) -> list[Any]:
    """Return the values of a column as Python can hold them.

    Nanoseconds become microseconds. If that would lose digits, they become text (for a duration: the nanoseconds).
    Each value is judged by itself: what a row says does not depend on the rows beside it.
    """
    import pyarrow as pa

    if (coarse := _coarse(column.type, text=False)).equals(column.type):
        return list(column.to_pylist())
    try:
        return list(column.cast(coarse).to_pylist())
    except pa.ArrowInvalid:
        short = column.cast(coarse, safe=False)
        long = column.cast(_coarse(column.type, text=True)).to_pylist()
        kept = (one.equals(other) for one, other in zip(short.cast(column.type), column, strict=True))
        return [one if same else text for one, same, text in zip(short.to_pylist(), kept, long, strict=True)]


@cache
def _coarse(kind: Any, *, text: bool) -> Any:
    """Return the type without nanoseconds, at any depth."""
    import pyarrow as pa

    types = pa.types
    if types.is_struct(kind):
        return pa.struct([part.with_type(_coarse(part.type, text=text)) for part in kind])
    for is_kind, make in ((types.is_list, pa.list_), (types.is_large_list, pa.large_list)):
        if is_kind(kind):
            return make(kind.value_field.with_type(_coarse(kind.value_type, text=text)))
    if types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_coarse(kind.value_type, text=text)), kind.list_size)
    if types.is_map(kind):
        key, item = (_coarse(part, text=text) for part in (kind.key_type, kind.item_type))
        return pa.map_(kind.key_field.with_type(key), kind.item_field.with_type(item))
    return _without_nanos_of_its_own(kind, text=text)


def _without_nanos_of_its_own(kind: Any, *, text: bool) -> Any:
    import pyarrow as pa

    if getattr(kind, "unit", None) != "ns":
        return kind
    if pa.types.is_duration(kind):
        return pa.int64() if text else pa.duration("us")
    if text:
        return pa.string()
    return pa.timestamp("us", kind.tz) if pa.types.is_timestamp(kind) else pa.time64("us")


def to_arrow(values: list[Any], kind: Any) -> Any:
    """Return values as an array of a type. It takes what `in_python` made, and empty text for no value.

    Raises:
        pyarrow.ArrowInvalid, TypeError, NotImplementedError, OverflowError: this type cannot hold one of the values.
    """
    import pyarrow as pa

    if not _is_text(kind):
        values = [None if isinstance(value, str) and not value else value for value in values]
    if (plain := plain_array(values, kind)) is not None:
        return plain
    try:
        return pa.array(values, type=kind)
    except (pa.ArrowInvalid, TypeError, NotImplementedError):
        parts = [_one(value, kind) for value in values]
        return pa.concat_arrays(parts) if parts else pa.array([], type=kind)


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    inner = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(inner) or types.is_large_string(inner) or types.is_string_view(inner))


def _one(value: Any, kind: Any) -> Any:
    import pyarrow as pa

    try:
        return pa.array([value], type=kind)
    except (pa.ArrowInvalid, TypeError, NotImplementedError):
        if isinstance(kind, pa.BaseExtensionType):
            return kind.wrap_array(_one(value, kind.storage_type))
        if pa.types.is_time64(kind) and isinstance(value, str):  # Arrow reads no time of day
            return pa.array([_nanos_of(value)]).cast(kind)
        text = _coarse(kind, text=True)
        return pa.array([value], None if text.equals(kind) else text).cast(kind)


def _nanos_of(clock: str) -> int:
    """Return the nanoseconds since midnight of a time such as 12:30:00.000000001, which has all nine digits."""
    hours, minutes, nanos = clock.replace(".", "").split(":")
    return (int(hours) * 60 + int(minutes)) * 60 * 10**9 + int(nanos)
