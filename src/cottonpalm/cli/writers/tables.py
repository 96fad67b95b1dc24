"""The content of a table of results: the input's columns, and the columns of the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

from cottonpalm.cli.readers.rows import listed
from cottonpalm.cli.writers.lines import line_of
from cottonpalm.engine.output.table import names_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cottonpalm.types import Outcome

Outcomes: TypeAlias = Callable[[], Iterator["Outcome"]]


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
        """Return all columns; see `names_of`."""
        return names_of(self.columns, self.fields)

    def answers_of(self, outcome: Outcome) -> list[Any]:
        """Return the answer of one row as one column, or as its fields."""
        if self.fields is None:
            return [outcome.output]
        answer = outcome.output if isinstance(outcome.output, Mapping) else {}
        return [answer.get(field) for field in self.fields]


class Fields:
    """What answers have of the columns that were named for them; what they lack is in no table, and has to be said.

    Args:
        names: the columns.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names, self._found = names, set[str]()
        self._others: list[str] | None = None  # the fields of the first answer that is an object
        self._plain = 0

    def see(self, answer: Any) -> None:
        """Look at one answer."""
        if not isinstance(answer, Mapping):
            self._plain += 1
            return
        if self._others is None:
            self._others = [str(name) for name in answer]
        self._found.update(name for name in self._names if name in answer)

    def notes(self) -> Iterator[str]:
        """What the user should know."""
        if self._plain:
            said = "1 answer is no object" if self._plain == 1 else f"{self._plain:,} answers are no objects"
            yield f"{said}, so the table lacks them: the same command without --columns writes them"
        if self._others is not None:
            for name in self._names:
                if name not in self._found:
                    yield f"no answer has {name!r}, which --columns names; the first has {listed(self._others)}"


Write: TypeAlias = Callable[[BinaryIO, Table], list[str]]  # returns notes for the user


def write_jsonl(file: BinaryIO, table: Table) -> list[str]:
    """Write all lines, in input order."""
    for outcome in table.outcomes():
        file.write(line_of(outcome))
    return []
