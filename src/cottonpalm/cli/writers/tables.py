"""What every table of results holds: the input's columns, and those of the answer."""

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
BESIDE: Final = ("status", "error", "cost_usd")  # the columns that follow the answer


@dataclass(frozen=True, slots=True)
class Table:
    """What is to be written.

    Attributes:
        columns: the input's.
        outcomes: gives them in input order, as often as it is asked.
        schema: the input's own Arrow schema, where it has one.
        fields: of answers that are objects: a column each, in place of `output`.
    """

    columns: Sequence[str]
    outcomes: Outcomes
    schema: Any = None
    fields: Sequence[str] | None = None

    def names(self) -> list[str]:
        """All columns: the input's, then those of the answer; a name that was taken before gets a prefix."""
        found, taken = list(self.columns), set(self.columns)
        for name in [*(["output"] if self.fields is None else self.fields), *BESIDE]:
            found.append(f"cottonpalm_{name}" if name in taken else name)
            taken.add(found[-1])
        return found

    def answers_of(self, outcome: Outcome) -> list[Any]:
        """The answer of one row: itself, or its fields."""
        if self.fields is None:
            return [outcome.output]
        answer = outcome.output if isinstance(outcome.output, Mapping) else {}
        return [answer.get(field) for field in self.fields]


Write: TypeAlias = Callable[[BinaryIO, Table], list[str]]  # what the user should know of what was written


def row_of(outcome: Outcome) -> Mapping[str, Any]:
    """The input's columns of one row; a row that is no mapping is its only column."""
    value = outcome.input
    if value is None or isinstance(value, Mapping):
        return value or {}
    return {"input": value}


def beside(outcome: Outcome) -> tuple[str, str | None, float | None]:
    """What `BESIDE` names: status, error and cost of one row."""
    error = outcome.error
    return outcome.status, None if error is None else f"{error.kind}: {told(error)}", outcome.cost_usd


def write_jsonl(file: BinaryIO, table: Table) -> list[str]:
    """All lines, in input order."""
    for outcome in table.outcomes():
        file.write(line_of(outcome))
    return []
