"""The common part of all inputs: it counts rows, refuses a bad first row, and turns a later bad row into a failed one.

Fields of a row may hold its id and its priority.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias

from cottonpalm.cli.problems import NoRows, Problem
from cottonpalm.cli.readers.first_places import FirstPlaces
from cottonpalm.engine.input.frames import cell
from cottonpalm.engine.input.reader import Broken
from cottonpalm.types import ErrorRecord, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

Row: TypeAlias = dict[str, Any]
HEAD: Final = 255  # rows read ahead, besides the first
HEAD_CHARACTERS: Final = 1 << 22
BAD_ROW: Final = "BadRow"  # the name of its error in records
MORE: Final = "cottonpalm_more"  # the field for the cells of a row beyond those that the header names


class BadRow(Exception):
    """A row that cannot be used; the message begins with file and line. `row` is what could be read of it."""

    def __init__(self, message: str, row: Row | None = None) -> None:
        super().__init__(message)
        self.row = row


class InputRows:
    """The rows of one file or of standard input. Iterate it only once.

    Attributes:
        name: the input's name in messages; without folders, so that a broken row's message is the same anywhere.
        columns: the column names met so far, in order; complete at the end of the input.
        read: how many rows were read so far, including broken ones.
        ended: True: the end of the input was reached.
        schema: the input's own Arrow schema, or None.
        looks_ahead: whether `head` may read on: not from a pipe, whose next row may be hours away.
        limit: at most this many rows are read; None: all.
    """

    unit: ClassVar[str] = "line"  # messages give a row's place in this unit
    has_gaps: ClassVar[bool] = False  # a cell may be missing: no text, and no null that somebody wrote

    def __init__(self, name: str) -> None:
        self.name = name
        self.columns: list[str] = []
        self.read = 0
        self.ended = False
        self.limit: int | None = None
        self.schema: Any = None
        self.begins = 0  # the line on which the current row begins
        self._needs: tuple[str, ...] = ()
        self._fields: RowFields | None = None
        self._known: set[str] = set()
        self._fills = False
        self.looks_ahead = False
        self._ahead: list[Row | Broken] = []  # read by `head`, after the first row
        self._trouble: Exception | None = None  # what ended that
        self._begin()
        self._first = self._read_first()

    def need(self, columns: tuple[str, ...]) -> None:
        """From now on, treat a row that lacks one of these columns as broken."""
        self._needs = columns

    def fill(self) -> None:
        """From now on, give empty text for a missing cell of a table."""
        self._fills = self.has_gaps
        self._first = self._filled(self._first)

    def use(self, fields: RowFields) -> None:
        """From now on, treat a row whose id or priority cannot be used as broken.

        Raises:
            Problem: the first row is such a row.
        """
        fields.check_columns(self.columns, self.name)
        if (wrong := fields.wrong(self._first, self.begins, self.unit)) is not None:
            raise Problem(str(self.bad(wrong)))
        self._fields = fields

    def total(self) -> tuple[int, bool] | None:
        """Return how many rows there are, and whether that is exact; it is a guess until the end is reached."""
        found = (self.read, True) if self.ended else self._guess()
        if found is None or self.limit is None:
            return found
        return min(found[0], self.limit), found[1] or self.read >= self.limit

    def close(self) -> None:
        """Close the file."""

    def __length_hint__(self) -> int:
        """See `operator.length_hint`."""
        return (self.total() or (0, False))[0]

    def __iter__(self) -> Iterator[Row | Broken]:
        self.read = 1
        yield self._first
        for ahead in self._ahead:
            self.read += 1
            yield ahead
        if self._trouble is not None:
            raise self._trouble
        while not self._full and (found := self._guarded(self._next)) is not None:
            yield found
        self.ended = True
        if self._fields is not None:
            self._fields.all_met()

    @property
    def head(self) -> Sequence[Row | Broken]:
        """The first rows, to be looked at before the run; iterating gives them again."""
        if self.looks_ahead and not self._ahead and self._trouble is None:
            self.read, size = 1, 0
            try:
                while len(self._ahead) < HEAD and size < HEAD_CHARACTERS and not self._full:
                    if (found := self._guarded(self._next)) is None:
                        break
                    self._ahead.append(found)
                    size += _characters(found)
            except Exception as trouble:  # noqa: BLE001 - raised when these rows have been given
                self._trouble = trouble
            self.read = 0
        return [self._first, *self._ahead]

    @property
    def _full(self) -> bool:
        return self.limit is not None and self.read >= self.limit

    def _guarded(self, step: Callable[[], Row | None]) -> Row | Broken | None:
        """Return the next row, `Broken` for a row that cannot be used, or None at the end."""
        found: Row | Broken
        try:
            row = step()
            if row is None:
                return None
            found = self._filled(self._checked(row))
        except BadRow as bad:
            found = Broken(ErrorRecord(Kind.FAIL_ROW, BAD_ROW, str(bad)), bad.row)
        self.read += 1
        return found

    # -- the subclass for each format does these ----------------------------------------------------------------------

    def _begin(self) -> None:
        """Read what comes before the first row."""

    def _next(self) -> Row | None:
        """Set `begins` and return the next row, or None at the end. Raise BadRow for a row that cannot be used."""
        raise NotImplementedError  # pragma: no cover - each format has its own

    def _guess(self) -> tuple[int, bool] | None:
        """Guess how many rows there are, and say whether that is exact."""
        return None

    def _filled(self, row: Row) -> Row:
        return {name: cell(value) for name, value in row.items()} if self._fills else row

    # -- one row ------------------------------------------------------------------------------------------------------

    def _read_first(self) -> Row:
        try:
            row = self._next()
        except BadRow as bad:
            raise Problem(str(bad)) from None
        if row is None:
            raise NoRows(f"{self.name} holds no rows: nothing to do")
        return self._checked(row)

    def _checked(self, row: Row) -> Row:
        if not self._known.issuperset(row):
            self.columns += [column for column in row if column not in self._known]
            self._known.update(row)
        for column in self._needs:
            if column not in row:
                raise self.bad(f"no column {column!r}; this row has {listed(row)}", row)
        if (
            self._fields is not None
            and (wrong := self._fields.wrong(row, self.begins, self.unit)) is not None
        ):
            raise self.bad(wrong, row)
        return row

    def bad(self, what: str, row: Row | None = None) -> BadRow:
        """Return an error that names the file and the line on which the row begins, with what was read of it."""
        return BadRow(f"{self.name} {self.unit} {self.begins}: {what}", row)


def _characters(found: Row | Broken) -> int:
    return (
        sum(len(value) for value in found.values() if isinstance(value, str))
        if isinstance(found, dict)
        else 0
    )


def listed(names: Any) -> str:
    """List names for a message: `'id', 'text'`."""
    names = list(names)
    shown = ", ".join(repr(name) for name in names[:8]) or "none"
    return f"{shown}, …" if len(names) > 8 else shown


def request_column(columns: list[str], source: str) -> str:
    """Return the column that holds the requests of a batch file.

    Raises:
        Problem: it is no batch file of OpenAI's or Anthropic's shape.
    """
    found = next((name for name in ("body", "params") if name in columns), None)
    if found is None or "custom_id" not in columns:
        raise Problem(
            f"--requests: {source} is no batch file; a line is "
            '{"custom_id": "a1", "body": {"messages": […]}}, or with "params" in place of "body"'
        )
    return found


@dataclass(slots=True)
class RowFields:
    """The names of the fields that hold a row's id and its priority; None: there is no such field.

    An id is text or a number, different in each row. A priority is a number; a higher one starts first.
    """

    id: str | None = None
    priority: str | None = None
    _places: FirstPlaces = field(default_factory=FirstPlaces)

    def check_columns(self, columns: Iterable[str], name: str) -> None:
        """Check that both are columns of the input.

        Raises:
            Problem: one is not; the message names the existing columns.
        """
        for option, column in (("--id-field", self.id), ("--priority-field", self.priority)):
            if column is not None and column not in columns:
                raise Problem(f"{option} {column}: {name} has no such column; it has {listed(columns)}")

    def wrong(self, row: Mapping[str, Any], place: int, unit: str) -> str | None:
        """Say what is wrong with a row's id or priority; None if nothing is.

        Args:
            row: the row.
            place: the row's place, for instance its line.
            unit: the unit of places, for messages.
        """
        for column in (self.id, self.priority):
            if column is not None and column not in row:
                return f"no column {column!r}; this row has {listed(row)}"
        if self.priority is not None and _number(row[self.priority]) is None:
            return f"the priority in {self.priority!r} is {_told(row[self.priority])}, not a number"
        return None if self.id is None else self._wrong_id(row[self.id], place, unit)

    def _wrong_id(self, value: Any, place: int, unit: str) -> str | None:
        if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
            return f"the id in {self.id!r} is {_told(value)}; it must be text or a number"
        before = self._places.met(str(value), place)
        return None if before is None else f"the id {_told(value)} is the one of {unit} {before} already"

    def all_met(self) -> None:
        """No row comes any more: forget where each id was, as the output that is written now needs the memory."""
        self._places = FirstPlaces()

    @property
    def ids(self) -> Callable[[Any], str | None] | None:
        """Return a function that finds a row's id; None: rows have no ids."""
        return None if self.id is None else self.id_of

    @property
    def priorities(self) -> Callable[[Any], Any] | None:
        """Return a function that finds a row's priority; None: rows have no priorities."""
        return None if self.priority is None else self.priority_of

    def id_of(self, row: Any) -> str | None:
        """Return a row's id, or None if it cannot be used."""
        return str(row[self.id]) if isinstance(row, dict) and self.id in row else None

    def priority_of(self, row: Any) -> float | None:
        """Return a row's priority, or None if it cannot be used."""
        return _number(row.get(self.priority)) if isinstance(row, dict) else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if isfinite(number) else None


def _told(value: Any) -> str:
    if value == "" or value is None:
        return "empty"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
