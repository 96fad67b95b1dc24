"""Tables as rows: pandas and polars frames, Arrow tables, columns of them, arrays. None of these is imported here.

A table of a library that is not named here (DuckDB, Ibis, DataFusion) is known by Arrow's own protocol, the method
`__arrow_c_stream__`. Tables in parts (an Arrow dataset, `read_csv` with a `chunksize`) are read a part at a time.

A row is a dict of Python values; a column or an array of one dimension gives its values. What is missing in either
(NaN, None, NA, NaT, null) is empty text, as in a CSV: a prompt filled with None or nan would ask about that word.
Data that looks like rows and is none (one text, one dict, a path) is refused before anything is asked.
"""

from __future__ import annotations

import datetime as dt
import os
import sys
from collections.abc import AsyncIterable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from cottonpalm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

Kind = Literal["pandas", "polars", "arrow", "dataset", ""]
BLOCK: Final = 1024  # rows of a frame that are turned into Python values at once
FEW: Final = 32  # of a dataset, whose cells may be images that are only then unpacked
_ATOMS: Final = frozenset({str, int, bool, type(None), bytes, dt.datetime, dt.date, dt.time, dt.timedelta})


class FrameRows(Sequence[Any]):
    """The rows of a frame, made a block at a time while they are read. Each pass makes them anew, and equal."""

    def __init__(
        self, count: int, block: Callable[[int, int], list[Any]], labels: Any = None, *, at_once: int = BLOCK
    ) -> None:
        self._count, self._block, self._at_once = count, block, at_once
        self.labels = labels  # of a pandas frame: its index

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Any]:
        for first in range(0, self._count, self._at_once):
            yield from self._block(first, min(first + self._at_once, self._count))

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self[place] for place in range(*at.indices(self._count))]
        place = at + self._count if at < 0 else at
        if not 0 <= place < self._count:
            raise IndexError(at)
        return self._block(place, place + 1)[0]


def kind_of(table: Any) -> Kind:
    """Which library's table this is; "" for anything else."""
    if _is(table, "pandas", "DataFrame"):
        return "pandas"
    if _is(table, "polars", "DataFrame", "LazyFrame"):
        return "polars"
    if _is(table, "pyarrow", "Table", "RecordBatch"):
        return "arrow"
    return "dataset" if _is(table, "datasets", "Dataset") else ""


def rows_in(given: Any, *, without: frozenset[str] = frozenset()) -> Any:
    """Return the rows of a table, or what was given where it is no table.

    Args:
        given: what a caller passed as rows.
        without: columns to leave out.

    Raises:
        ConfigError: it is something else that would be taken for rows by mistake.
    """
    _refuse(given)
    if (parts := _parts_of(given)) is not None:
        return (row for part in parts for row in rows_in(part, without=without))
    given = collected(given)
    if _is(given, "pandas", "DataFrame"):
        return _of_pandas(given, without)
    if _is(given, "polars", "DataFrame"):
        frame = given.drop([name for name in given.columns if name in without])
        return FrameRows(frame.height, lambda first, end: _filled(frame.slice(first, end - first).to_dicts()))
    if _is(given, "pyarrow", "Table", "RecordBatch"):
        return _of_arrow(given, without)
    if kind_of(given) == "dataset":
        return _of_dataset(given, without)
    values = values_in(given)
    return values if values is given else list(map(cell, values))


def collected(table: Any) -> Any:
    """Return the whole of a lazy table or of a stream of Arrow, and any other table as it is.

    A caller that needs one twice collects it once: of a second time the rows may change places, or be gone.
    """
    if _is(table, "polars", "LazyFrame"):
        return table.collect()
    if _is(table, "pyarrow.dataset", "Dataset", "Scanner"):
        return table.to_table()
    return _arrow().table(table) if _is_stream(table) else table


def values_in(given: Any) -> Any:
    """Return the values of a column or an array as a list; anything else as it is."""
    if _is(given, "pandas", "Series", "Index"):
        return list(map(plain, given.tolist()))
    if _is(given, "polars", "Series"):
        return given.to_list()
    if _is(given, "pyarrow", "Array", "ChunkedArray"):
        return given.to_pylist()
    return given.tolist() if _is(given, "numpy", "ndarray") and given.ndim else given


def list_in(given: Any) -> Sequence[Any]:
    """Return rows that can be counted and read twice, for the methods that give all answers in order.

    Raises:
        ConfigError: as for `rows_in`; or it is an async iterator.
    """
    if given is None or (isinstance(given, str | bytes | Mapping) and not given):
        return []  # as LangChain has it
    rows = rows_in(given)
    if isinstance(rows, Sequence) or (hasattr(rows, "__len__") and hasattr(rows, "__getitem__")):
        return rows  # type: ignore[no-any-return]
    if isinstance(rows, AsyncIterable):
        raise ConfigError(
            "batch needs rows that it can count; an async iterator goes to astart or stream_batch"
        )
    if not isinstance(rows, Iterable):
        raise no_rows(rows)
    return list(rows)


def no_rows(given: Any) -> ConfigError:
    """The error for what cannot be iterated."""
    return ConfigError(f"rows must be a list, a table or an iterator, not {type(given).__name__}")


def plain(value: Any) -> Any:
    """Return the Python value of what a pandas column holds; None for what is missing."""
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is float:
        return None if value != value else value  # noqa: PLR0124 - a NaN
    pandas = sys.modules.get("pandas")
    if pandas is not None and (value is pandas.NA or value is pandas.NaT):
        return None
    if pandas is not None and isinstance(value, pandas.Timestamp):
        return value.to_pydatetime(warn=False)  # `python -W error` would raise that nanoseconds are lost
    for form in ("to_pytimedelta", "tolist"):  # of Timedelta, numpy's scalars and arrays
        if kind is not dict and (found := getattr(value, form, None)) is not None:
            return found()
    return value


def cell(value: Any) -> Any:
    """Return the Python value of a cell as a chain is asked it: empty text for what is missing."""
    return "" if (found := plain(value)) is None else found


def _filled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: cell(value) for name, value in row.items()} for row in rows]


def _of_pandas(frame: Any, without: frozenset[str]) -> FrameRows:
    names = list(map(str, frame.columns))
    if len(set(names)) < len(names):
        doubled = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"the frame has the column {doubled!r} twice; rename one")
    places = [(place, name) for place, name in enumerate(names) if name not in without]
    if not places and len(frame):
        raise ConfigError(
            "the frame has no columns to ask of, and its index is no part of a row: frame.reset_index() makes it one"
        )

    def block(first: int, end: int) -> list[dict[str, Any]]:
        part = frame.iloc[first:end]
        columns = [map(cell, part.iloc[:, place].tolist()) for place, _ in places]
        kept = [name for _, name in places]
        return [dict(zip(kept, cells, strict=True)) for cells in zip(*columns, strict=True)]

    return FrameRows(len(frame), block, frame.index)


def _of_arrow(table: Any, without: frozenset[str]) -> FrameRows:
    names = list(table.schema.names)
    if len(set(names)) < len(names):
        doubled = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"the table has the column {doubled!r} twice; rename one")
    kept = table.select([name for name in names if name not in without])

    return FrameRows(table.num_rows, lambda first, end: _filled(kept.slice(first, end - first).to_pylist()))


def _of_dataset(dataset: Any, without: frozenset[str]) -> FrameRows:
    names = [name for name in dataset.column_names if name not in without]

    def block(first: int, end: int) -> list[dict[str, Any]]:
        part = dataset[first:end]
        return _filled(
            [dict(zip(names, cells, strict=True)) for cells in zip(*map(part.get, names), strict=True)]
        )

    return FrameRows(len(dataset), block, at_once=FEW)


def _parts_of(given: Any) -> Iterable[Any] | None:
    """Return the tables that make up what may be larger than memory; None of anything else."""
    if _is(given, "pyarrow.dataset", "Dataset", "Scanner"):
        return given.to_batches()  # type: ignore[no-any-return]
    readers = (
        _is(given, "pyarrow", "RecordBatchReader"),
        _is(given, "pandas.io.parsers", "TextFileReader"),  # of read_csv with a chunksize
        _is(given, "pandas.api.typing", "JsonReader"),  # and of read_json
    )
    return given if any(readers) else None


def _is_stream(given: Any) -> bool:
    """Whether it gives itself as a stream of Arrow tables, and we know nothing better of it."""
    if not hasattr(type(given), "__arrow_c_stream__"):
        return False
    column = (
        _is(given, "pandas", "Series")
        or _is(given, "polars", "Series")
        or _is(given, "pyarrow", "ChunkedArray")
    )
    return not column and kind_of(given) == ""


def _arrow() -> Any:
    try:
        import pyarrow  # noqa: PLC0415 - only for such a table
    except ImportError as exc:
        raise ConfigError("rows are a stream of Arrow, which needs pyarrow: pip install pyarrow") from exc
    return pyarrow


def _is(value: Any, library: str, *names: str) -> bool:
    """Whether it is of one of these classes, of a library that somebody has imported."""
    module = sys.modules.get(library)
    found = tuple(cls for name in names if isinstance(cls := getattr(module, name, None), type))
    return isinstance(value, found)


def _refuse(given: Any) -> None:
    if isinstance(given, str | bytes | bytearray):
        raise ConfigError(
            f"rows is one {'text' if isinstance(given, str) else 'piece of bytes'}, whose every character would be "
            "asked: put it in a list, [text], or ask it alone with invoke(text)"
        )
    if isinstance(given, os.PathLike):
        raise ConfigError(
            f"rows is a path: read {os.fspath(given)!r} first, for instance with pandas, "
            "or use the command: cottonpalm run FILE"
        )
    if isinstance(given, Mapping):
        if given and all(kind_of(part) == "dataset" for part in given.values()):
            splits = ", ".join(repr(name) for name in given)
            raise ConfigError(f"rows is a set of datasets; name one of its splits: {splits}")
        raise ConfigError(
            "rows is one dict, which is one row: put it in a list, [row], or ask it with invoke(row)"
        )
