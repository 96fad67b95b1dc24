"""The content of a table of results: the input's columns, and the columns of the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeAlias

from cottonpalm.cli.writers.lines import line_of
from cottonpalm.observers.formatting import told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cottonpalm.types import Outcome

Outcomes: TypeAlias = Callable[[], Iterator["Outcome"]]
BESIDE: Final = ("status", "error", "cost_usd")  # these columns follow the answer


@dataclass(frozen=True, slots=True)
class Table:
    """The table to write.

    Attributes:
        columns: the input's columns.
        outcomes: returns the outcomes in input order; may be called several times.
        schema: the input's own Arrow schema, if it has one.
        fields: the fields of answers that are objects: a column for each, in place of `output`.
    """

    columns: Sequence[str]
    outcomes: Outcomes
    schema: Any = None
    fields: Sequence[str] | None = None

    def names(self) -> list[str]:
        """Return all columns: the input's, then the answer's. A name that is already taken gets a prefix."""
        found, taken = list(self.columns), set(self.columns)
        for name in [*(["output"] if self.fields is None else self.fields), *BESIDE]:
            found.append(f"cottonpalm_{name}" if name in taken else name)
            taken.add(found[-1])
        return found

    def answers_of(self, outcome: Outcome) -> list[Any]:
        """Return the answer of one row as one column, or as its fields."""
        if self.fields is None:
            return [outcome.output]
        answer = outcome.output if isinstance(outcome.output, Mapping) else {}
        return [answer.get(field) for field in self.fields]


Write: TypeAlias = Callable[[BinaryIO, Table], list[str]]  # returns notes for the user


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


def write_jsonl(file: BinaryIO, table: Table) -> list[str]:
    """Write all lines, in input order."""
    for outcome in table.outcomes():
        file.write(line_of(outcome))
    return []
