"""Converts values between Arrow and Python where the two differ: nanoseconds, and text that is not valid."""

from __future__ import annotations

from functools import cache
from typing import Any

from cottonpalm.cli.files.plain_arrays import plain_array


def in_python(batch: Any) -> Any:
    """Return the batch with values that Python can hold.

    Nanoseconds become microseconds. If that would lose digits, they become text (for a duration: the nanoseconds).
    """
    import pyarrow as pa

    schema = batch.schema
    coarse = _without_nanos(schema, text=False)
    if coarse.equals(schema):
        return batch
    try:
        return batch.cast(coarse)
    except pa.ArrowInvalid:
        return batch.cast(_without_nanos(schema, text=True))


@cache
def _without_nanos(schema: Any, *, text: bool) -> Any:
    import pyarrow as pa

    return pa.schema([field.with_type(_coarse(field.type, text=text)) for field in schema])


def _coarse(kind: Any, *, text: bool) -> Any:
    """Return the type without nanoseconds, at any depth."""
    import pyarrow as pa

    types = pa.types
    if types.is_struct(kind):
        return pa.struct([part.with_type(_coarse(part.type, text=text)) for part in kind])
    for is_kind, make in ((types.is_list, pa.list_), (types.is_large_list, pa.large_list)):
        if is_kind(kind):
            return make(kind.value_field.with_type(_coarse(kind.value_type, text=text)))
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
        pyarrow.ArrowInvalid, pyarrow.ArrowTypeError: this type cannot hold one of the values.
    """
    import pyarrow as pa

    if not _is_text(kind):
        values = [None if isinstance(value, str) and not value else value for value in values]
    if (plain := plain_array(values, kind)) is not None:
        return plain
    try:
        return pa.array(values, type=kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError):
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
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError):
        return pa.array([value]).cast(kind)
