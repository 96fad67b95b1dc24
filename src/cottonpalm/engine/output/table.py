"""Outcomes as a table: the input's columns, then the answer's, then how the row ended. Frames are made of it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel

from cottonpalm.errors import ConfigError
from cottonpalm.observers.words.formatting import told
from cottonpalm.stores.codec.as_json import dumped, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cottonpalm.types import Outcome

BESIDE: Final = ("status", "error", "cost_usd")  # these columns follow the answer
PLAIN: Final = frozenset({str, int, float, type(None)})  # equal ones are the same, as True and 1 are not


def names_of(columns: Sequence[str], fields: Sequence[str] | None) -> list[str]:
    """Return all columns: the input's, then the answer's; see `free_names`.

    Args:
        columns: the input's.
        fields: of answers that are objects: a column for each, in place of `output`.
    """
    return [*columns, *free_names([*(["output"] if fields is None else fields), *BESIDE], columns)]


def free_names(names: Sequence[str], taken: Iterable[str]) -> list[str]:
    """Return names for columns beside others; one that is taken gets a prefix, until it is free."""
    found: list[str] = []
    known = set(taken)
    for name in names:
        free = name
        while free in known:
            free = f"cottonpalm_{free}"
        found.append(free)
        known.add(free)
    return found


def row_of(outcome: Outcome) -> Mapping[str, Any]:
    """Return the input's columns of one row; a row that is not a mapping is its only column."""
    value = outcome.input
    if value is None or isinstance(value, Mapping):
        return value or {}
    return {"input": value}


def beside(outcome: Outcome) -> tuple[str, str | None, float | None]:
    """Return the columns of `BESIDE`: status, error and cost of one row."""
    error = outcome.error
    return outcome.status, None if error is None else f"{error.kind}: {told(error)}", outcome.cost_usd


def fields_of(outcomes: Sequence[Outcome]) -> list[str] | None:
    """Return the fields of the answers, if every answer is an object; None if some are not, or there is none."""
    answers = [_object(outcome.output) for outcome in outcomes if outcome.status == "ok"]
    if not answers or None in answers:
        return None
    return list(dict.fromkeys(str(name) for answer in answers for name in answer or ()))


def answers_of(outcome: Outcome, fields: Sequence[str] | None) -> list[Any]:
    """Return the answer of one row as one value, or as its fields; None where there is no answer."""
    if outcome.status != "ok":
        return [None] * (1 if fields is None else len(fields))
    if fields is None:
        return [cell(outcome.output)]
    answer = _object(outcome.output) or {}
    return [cell(answer.get(field)) for field in fields]


def cell(value: Any) -> Any:
    """Return what stands in a frame for a value: a message is its text, and an object its plain data."""
    if isinstance(value, list):
        return [cell(part) for part in value]
    if value is None or isinstance(value, str | bool | int | float | bytes) or hasattr(value, "isoformat"):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, dict):
        return {str(name): cell(part) for name, part in value.items()}
    return plain(value)


def columns_of(outcomes: Sequence[Outcome]) -> dict[str, list[Any]]:
    """Return the table of some outcomes, column by column, in input order."""
    rows = [row_of(outcome) for outcome in outcomes]
    columns, fields = list(dict.fromkeys(name for row in rows for name in row)), fields_of(outcomes)
    lines = [
        [*(row.get(name) for name in columns), *answers_of(outcome, fields), *beside(outcome)]
        for row, outcome in zip(rows, outcomes, strict=True)
    ]
    names = list(map(encodable, names_of([str(name) for name in columns], fields)))
    found = {name: [line[place] for line in lines] for place, name in enumerate(names)}
    return found | {name: _with_gaps(found[name]) for name in names[: len(columns)]}


def _with_gaps(cells: list[Any]) -> list[Any]:
    """Return a column of the input with None where a cell was missing: empty text among what is no text."""
    others = [value for value in cells if value is not None and value != ""]
    if not others or any(isinstance(value, str) for value in others):
        return cells
    return [None if isinstance(value, str) else value for value in cells]


def to_pandas(outcomes: Sequence[Outcome], index: Any = None) -> Any:
    """Return a pandas frame; `index` has the label of every input row, from which the outcomes' rows are taken."""
    pandas = _library("pandas")
    labels = None if index is None else index.take([outcome.index for outcome in outcomes])
    index = pandas.RangeIndex(len(outcomes)) if labels is None else labels
    found = {name: pandas_column(cells, index) for name, cells in columns_of(outcomes).items()}
    return pandas.DataFrame(found, index=index)


def to_polars(outcomes: Sequence[Outcome]) -> Any:
    """Return a polars frame."""
    polars = _library("polars")
    return polars.DataFrame([polars_column(name, cells) for name, cells in columns_of(outcomes).items()])


def to_arrow(outcomes: Sequence[Outcome]) -> Any:
    """Return an Arrow table."""
    arrow, columns = _library("pyarrow"), columns_of(outcomes)
    return arrow.table([arrow_column(name, cells) for name, cells in columns.items()], names=list(columns))


def pandas_column(cells: list[Any], index: Any) -> Any:
    """Return a column; pandas from 3 on keeps texts in Arrow, and half a pair of surrogates as its number."""
    series = index.to_series().__class__  # pandas' own class, of whichever pandas the frame is
    try:
        made = series(cells, index=index)
    except UnicodeEncodeError:
        return series(list(map(text_or_none, cells)), index=index)
    # beside a gap pandas makes floats of integers, which hold no long ones
    return made if _all_kept(made.tolist(), cells) else series(cells, index=index, dtype=object)


def polars_column(name: str, cells: list[Any]) -> Any:
    """Return a column; values of different types, which it cannot hold together, stand there as text."""
    import polars as pl  # noqa: PLC0415 - only for such a frame

    if all(value is None for value in cells):
        return pl.Series(name, cells, dtype=pl.Float64 if name.endswith("cost_usd") else pl.String)
    for make in (pl.Series, _whole_polars_column):
        try:
            made = make(name, cells)
        except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
            continue
        if _all_kept(made.to_list(), cells):
            return made
    return pl.Series(name, list(map(text_or_none, cells)))


def _whole_polars_column(name: str, cells: list[Any]) -> Any:
    """Do it with a type for all cells: a series takes that of the first, and drops what later dicts have besides."""
    import polars as pl  # noqa: PLC0415 - only for such a frame

    rows = [[value] for value in cells]
    return pl.DataFrame(rows, schema=[name], orient="row", infer_schema_length=None).to_series()


def arrow_column(name: str, cells: list[Any]) -> Any:
    """Do the same for an Arrow table."""
    import pyarrow as pa  # noqa: PLC0415 - only for such a table

    if all(value is None for value in cells):
        return pa.array(cells, pa.float64() if name.endswith("cost_usd") else pa.string())
    with suppress(pa.ArrowException, TypeError, ValueError, OverflowError):
        made = pa.array(cells)
        if _all_kept(made.to_pylist(), cells):
            return made
    return pa.array(list(map(text_or_none, cells)))


def _all_kept(found: list[Any], cells: list[Any]) -> bool:
    # as in most columns, in a fifth of the time
    if {*map(type, found), *map(type, cells)} <= PLAIN and found == cells:
        return True
    return all(map(_kept, found, cells))


def _kept(found: Any, cell: Any) -> bool:
    """Whether a column gives the value of a cell back; a field that a dict lacks is None there."""
    if found is cell or cell is None:
        return True
    if isinstance(cell, dict):
        return isinstance(found, dict) and all(_kept(found.get(name), cell[name]) for name in cell)
    if isinstance(cell, list | tuple):
        return isinstance(found, list | tuple) and len(found) == len(cell) and all(map(_kept, found, cell))
    if isinstance(cell, bool) != isinstance(found, bool):
        return False
    equal = found == cell  # of an array: an array, and no table changes those
    return equal is not False or (cell != cell and found != found)  # noqa: PLR0124 - NaN


def text_or_none(value: Any) -> str | None:
    """Return a value as text: JSON, except for what is text already."""
    if value is None:
        return None
    return encodable(value) if isinstance(value, str) else dumped(value).decode()


def encodable(text: str) -> str:
    """Return the text with its lone surrogates as their numbers, since UTF-8 has none."""
    return text.encode(errors="backslashreplace").decode()


def _object(value: Any) -> Mapping[str, Any] | None:
    if isinstance(value, BaseModel) and not hasattr(value, "lc_id"):  # a message is text, not an object
        return value.model_dump()
    return value if isinstance(value, Mapping) else None


def _library(name: str) -> Any:
    from importlib import import_module  # noqa: PLC0415 - only for a frame

    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(f"this needs the package {name}: pip install {name}") from error
