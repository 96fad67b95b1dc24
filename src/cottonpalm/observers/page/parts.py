"""What sections are built from: headings, tables that sort, and tables behind plots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from cottonpalm.observers.page.markup import Markup, join, tag, words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cottonpalm.observers.page.markup import Part


class Column(NamedTuple):
    """A column of a table: its head, whether it holds numbers, bars or what a narrow page can do without."""

    head: str
    number: bool = False
    class_: str = ""
    sorts: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """What is shown, and by what it is sorted where that is not what is shown."""

    shown: Part
    by: float | str


def section(title: str, note: str, *parts: Part, aside: Part = None, class_: str = "") -> Markup:
    """A part of the page under its own heading. `note` is a sentence; backticks in it become code."""
    name = title.lower().replace(" ", "-")
    head = tag("h2", title, id=name)
    heading = tag("div", head, tag("p", words(note)) if note else None, aside, class_="heading")
    return tag("section", heading, *parts, class_=class_ or None, aria_labelledby=name)


def table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[Part | Cell]],
    *,
    class_: str = "",
    last: bool = False,
    caption: str = "",
) -> Markup:
    """A table. `last`: the last row sums the others up."""
    head = tag("tr", *(_head(column) for column in columns))
    body = [
        tag("tr", *(_cell(column, cell) for column, cell in zip(columns, row, strict=True))) for row in rows
    ]
    foot = tag("tfoot", body.pop()) if last and body else None
    sorts = any(column.sorts for column in columns)
    name = f"{class_}{' sorts' if sorts else ''}".strip()
    title = tag("caption", caption, class_="unseen") if caption else None
    return tag("table", title, tag("thead", head), tag("tbody", *body), foot, class_=name or None)


def _head(column: Column) -> Markup:
    return tag("th", column.head, scope="col", class_=_class_of(column), data_sorts=column.sorts)


def _cell(column: Column, cell: Part | Cell) -> Markup:
    if isinstance(cell, Cell):
        return tag("td", cell.shown, class_=_class_of(column), data_by=cell.by)
    return tag("td", cell, class_=_class_of(column))


def _class_of(column: Column) -> str | None:
    return f"{'number ' if column.number else ''}{column.class_}".strip() or None


def unfold(behind: Markup, name: str = "Show as a table") -> Markup:
    """What stands behind a plot, to be unfolded."""
    shown = tag("div", behind, class_="scrolls", tabindex="0", role="group", aria_label=name)
    return tag("details", tag("summary", name), shown)


def pairs(rows: Sequence[tuple[str, Part]]) -> Markup:
    """Names and values, a line each."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in rows))


def none() -> Markup:
    """For a section without anything in it."""
    return join((tag("p", "None.", class_="none"),))
