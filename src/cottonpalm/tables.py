"""`map_table`: a table with the answers as columns, of the same kind as the table that was given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cottonpalm.engine.input.frames import kind_of
from cottonpalm.engine.output.table import (
    answers_of,
    arrow_column,
    fields_of,
    free_names,
    pandas_column,
    polars_column,
)
from cottonpalm.errors import ConfigError
from cottonpalm.observers.words.formatting import told

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cottonpalm.types import Outcome


def written(table: Any, output: str | None) -> frozenset[str]:
    """Return the columns that `map_table` writes for sure; the chain is not given them.

    Raises:
        ConfigError: it is no table, or no name of a column.
    """
    if output is not None and not (isinstance(output, str) and output):
        raise ConfigError(
            f"output={output!r}: say how the column of the answers is called, or None for their fields"
        )
    if kind_of(table) == "" and not (isinstance(table, list) and all(isinstance(row, dict) for row in table)):
        raise ConfigError(
            f"map_table needs a pandas or polars frame, an Arrow table, a dataset or a list of dicts, "
            f"not {type(table).__name__}"
        )
    return frozenset() if output is None else frozenset({output, error_column(output)})


def check_not_read(read: frozenset[str] | None, columns: frozenset[str]) -> None:
    """Refuse to write over what is asked.

    Args:
        read: the columns that the chain reads; None: it is not known which.
        columns: those that are written.

    Raises:
        ConfigError: the chain reads one of them.
    """
    for name in sorted((read or frozenset()) & columns):
        raise ConfigError(
            f"output: the chain reads the column {name!r}, which would be written over; name another one"
        )


def error_column(output: str | None) -> str:
    """Return the name of the column that says why a row has no answer."""
    return "error" if output is None else f"{output}_error"


def with_answers(table: Any, output: str | None, outcomes: Sequence[Outcome]) -> Any:
    """Return the table with the answers.

    Args:
        table: as it was given; it is not changed.
        output: the column of the answers; None: answers are objects, and each field becomes a column. Nobody named
            those, so none of them takes the place of a column of the table.
        outcomes: one for each row, in order.
    """
    fields = None if output is not None else fields_of(outcomes)
    names = ["output" if output is None else output] if fields is None else fields
    names = [*names, error_column(output)]
    if output is None:
        names = free_names(names, _columns(table))
    lines = [[*answers_of(outcome, fields), _why(outcome)] for outcome in outcomes]
    columns = {name: [line[place] for line in lines] for place, name in enumerate(names)}
    return _ADD[kind_of(table)](table, columns)


def _columns(table: Any) -> list[str]:
    kind = kind_of(table)
    if kind == "":
        return list({str(name): None for row in table for name in row})
    names = (
        table.schema.names if kind == "arrow" else table.column_names if kind == "dataset" else table.columns
    )
    return list(map(str, names))


def _why(outcome: Outcome) -> str | None:
    return None if outcome.error is None else told(outcome.error)


def _to_pandas(frame: Any, columns: Mapping[str, list[Any]]) -> Any:
    made = {name: pandas_column(cells, frame.index) for name, cells in columns.items()}
    return frame.assign(**made)


def _to_polars(frame: Any, columns: Mapping[str, list[Any]]) -> Any:
    return frame.with_columns(*(polars_column(name, cells) for name, cells in columns.items()))


def _to_arrow(table: Any, columns: Mapping[str, list[Any]]) -> Any:
    import pyarrow as pa  # noqa: PLC0415

    whole = table if isinstance(table, pa.Table) else pa.Table.from_batches([table])
    for name, cells in columns.items():
        made = arrow_column(name, cells)
        there = whole.schema.get_field_index(name)
        whole = whole.append_column(name, made) if there < 0 else whole.set_column(there, name, made)
    return whole


def _to_dataset(dataset: Any, columns: Mapping[str, list[Any]]) -> Any:
    kept = dataset.remove_columns([name for name in columns if name in dataset.column_names])
    for name, cells in columns.items():
        kept = kept.add_column(name, arrow_column(name, cells))  # a list of several types it would refuse
    return kept


def _to_dicts(rows: Sequence[dict[str, Any]], columns: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    lines = zip(*columns.values(), strict=True)
    return [{**row, **dict(zip(columns, line, strict=True))} for row, line in zip(rows, lines, strict=True)]


_ADD = {
    "pandas": _to_pandas,
    "polars": _to_polars,
    "arrow": _to_arrow,
    "dataset": _to_dataset,
    "": _to_dicts,
}
