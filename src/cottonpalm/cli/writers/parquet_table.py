"""Writes results as Parquet: the input's columns keep their types; answers get a type if they all have the same."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import orjson

from cottonpalm.cli.files.arrow_types import to_arrow
from cottonpalm.cli.problems import extra
from cottonpalm.cli.writers.column_types import JSON, NULL, SIMPLE, Shape, merged, shape_of
from cottonpalm.engine.output.table import beside, encodable, row_of
from cottonpalm.stores.codec.as_json import dumped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cottonpalm.cli.writers.tables import Table
    from cottonpalm.types import Outcome

PAGE: Final = 512  # rows that are made into arrays at once
GROUP_ROWS: Final = 1 << 14
GROUP_BYTES: Final = 1 << 25
OWN: Final = Shape("own")  # the column keeps the type that it has in the input
FIXED: Final = (Shape("text"), Shape("text"), Shape("float"))  # status, error, cost_usd
NATIVE: Final = frozenset({*SIMPLE, int, dt.datetime, dt.time})


def write_parquet(file: BinaryIO, table: Table) -> list[str]:
    """Write all rows. It reads the outcomes twice: for the types, and for the values."""
    pa = extra("pyarrow", "parquet", "a Parquet file")
    try:
        _write(file, table)
    except (pa.ArrowInvalid, TypeError, NotImplementedError, OverflowError):
        # some stored rows do not fit the input's present types, or Arrow has no way back to these
        if table.schema is None:
            raise
        file.seek(0)
        file.truncate()
        _write(file, replace(table, schema=None))
    return []


def shapes_of(table: Table) -> list[Shape]:
    """Return the shape of each column."""
    own = () if table.schema is None else set(table.schema.names)
    answers = len(table.names()) - len(table.columns) - len(FIXED)
    found = [*(OWN if name in own else NULL for name in table.columns), *[NULL] * answers, *FIXED]
    asked = [n for n, shape in enumerate(found) if shape is NULL]
    for outcome in table.outcomes():
        values = _values(outcome, table)
        for n in asked:
            if found[n] is not JSON:
                found[n] = merged(found[n], shape_of(native(values[n])))
    return found


def _values(outcome: Outcome, table: Table) -> list[Any]:
    row = row_of(outcome)
    return [*(row.get(column) for column in table.columns), *table.answers_of(outcome), *beside(outcome)]


def native(value: Any) -> Any:
    """Return a value that Arrow can hold; any other value as its JSON form."""
    kind = type(value)
    if kind in NATIVE:
        return value
    if kind is list:
        return [native(part) for part in value]
    if kind is dict:
        return {name: native(part) for name, part in value.items()}
    return value if shape_of(value) is not JSON else orjson.loads(dumped(value))


def _schema(table: Table, shapes: list[Shape]) -> Any:
    import pyarrow as pa

    return pa.schema(
        table.schema.field(name).with_nullable(True)
        if shape is OWN
        else pa.field(encodable(name), arrow_type(shape))
        for name, shape in zip(table.names(), shapes, strict=True)
    )


def arrow_type(shape: Shape) -> Any:
    """Return the Arrow type of a shape; a column that is always empty is text, and so is JSON."""
    import pyarrow as pa

    if shape.kind == "list":
        return pa.list_(arrow_type(shape.parts[0]))
    if shape.kind == "struct":
        return pa.struct(list(zip(shape.names, map(arrow_type, shape.parts), strict=True)))
    if shape.kind == "decimal":
        before, after = shape.digits
        return (pa.decimal128 if before + after <= 38 else pa.decimal256)(before + after, after)
    return {
        "bool": pa.bool_(),
        "int": pa.int64(),
        "long": pa.int64(),
        "float": pa.float64(),
        "bytes": pa.binary(),
        "date": pa.date32(),
        "time": pa.time64("us"),
        "local": pa.timestamp("us"),
        "moment": pa.timestamp("us", "UTC"),
        "span": pa.duration("us"),
    }.get(shape.kind, pa.string())


def _write(file: BinaryIO, table: Table) -> None:
    from pyarrow import parquet

    shapes = shapes_of(table)
    schema = _schema(table, shapes)
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for group in _groups(table, shapes, schema):
            writer.write_table(group)


def _groups(table: Table, shapes: list[Shape], schema: Any) -> Iterator[Any]:
    """Yield tables, each large enough for a row group."""
    import pyarrow as pa

    pages: list[Any] = []
    outcomes = table.outcomes()
    while page := [_values(outcome, table) for outcome in islice(outcomes, PAGE)]:
        pages.append(_page(page, shapes, schema))
        if sum(map(len, pages)) >= GROUP_ROWS or sum(part.nbytes for part in pages) >= GROUP_BYTES:
            yield pa.concat_tables(pages)
            pages = []
    if pages:
        yield pa.concat_tables(pages)


def _page(rows: list[list[Any]], shapes: list[Shape], schema: Any) -> Any:
    import pyarrow as pa

    columns = zip(schema, shapes, map(list, zip(*rows, strict=True)), strict=True)
    return pa.table(
        [_array(_fitting(values, shape), field.type) for field, shape, values in columns], schema=schema
    )


def _fitting(values: list[Any], shape: Shape) -> list[Any]:
    """Convert values for the column's type; a column of the input's own type keeps its values."""
    if shape is OWN:
        return values
    if shape is JSON:
        return [None if value is None else dumped(value).decode() for value in values]
    return [native(value) for value in values]


def _array(values: list[Any], kind: Any) -> Any:
    try:
        return to_arrow(values, kind)
    except UnicodeEncodeError:
        return to_arrow([_encodable(value) for value in values], kind)


def _encodable(value: Any) -> Any:
    """Write lone surrogates within a value as their numbers."""
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, list):
        return [_encodable(part) for part in value]
    if isinstance(value, dict):
        return {_encodable(name): _encodable(part) for name, part in value.items()}
    return value
