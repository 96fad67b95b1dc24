"""Rows that stand out: those that failed, by kind; the slowest and the dearest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cottonpalm.observers.measures.rows_seen import PLACES, Glance
from cottonpalm.observers.page.markup import Markup, foreign, join, kept, tag
from cottonpalm.observers.page.parts import Cell, Column, none, section, table, unfold
from cottonpalm.observers.page.plots import X, cell_bar, inner, plot
from cottonpalm.observers.page.tries import timeline
from cottonpalm.observers.words.formatting import count, duration
from cottonpalm.observers.words.numbers import amount, money_usd, percent
from cottonpalm.types import PICO

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cottonpalm.observers.measures.reported import Reported
    from cottonpalm.observers.measures.rows_seen import KindSeen, RowsSeen
    from cottonpalm.observers.page.markup import Part
    from cottonpalm.observers.page.story import Story

KINDS: Final = {
    "throttle": "turned away",
    "transient": "may pass",
    "reask": "answer does not fit",
    "degrade": "cut, or too long",
    "fail_row": "cannot be answered",
    "stop_run": "no row can be answered",
}
MANY: Final = 10_000  # rows from which on places in the input are shown
TIMES: Final = "time"


def failed(story: Story) -> Markup:
    """The section, also where nothing failed."""
    if not story.failed:
        return section("Failed rows", "", none())
    if story.rows is None:
        return section("Failed rows", f"{story.failed:,}, by kind.", _counted(story.report))
    mend = f" `{story.mend}` asks them again." if story.mend else ""
    note = f"{story.failed:,}, by kind, each with its commonest message.{mend}"
    return section("Failed rows", note, _kinds(story.rows), _places(story.rows))


def _kinds(rows: RowsSeen) -> Markup:
    columns = [
        Column("kind", sorts=True),
        Column("rows", number=True, sorts=True),
        Column("", class_="bars"),
        Column("example", class_="example"),
        Column("where", number=True, sorts=True),
    ]
    kinds = sorted(rows.kinds.items(), key=lambda pair: -pair[1].rows)
    most = max(kind.rows for kind in rows.kinds.values())
    return table(columns, [_kind(name, kind, most, rows) for name, kind in kinds], class_="blocks kinds")


def _kind(name: str, kind: KindSeen, most: int, rows: RowsSeen) -> list[Part | Cell]:
    example = kind.example
    _, type_, message = example.error or ("", "", "")
    said = foreign(f"{type_}: {message}" if message else type_, class_="mono")
    if about := rows.texts.get(example.at):
        said = join((said, tag("small", foreign(about))))
    if tries := rows.tries.get(example.at):
        met = f"What its {count(example.tries, 'try', 'tries')} met"
        said = join((said, unfold(timeline(tries, example.tries), met)))
    where = join((f"row {example.at + 1:,}", tag("small", count(example.tries, "try", "tries"))))
    return [
        Cell(join((tag("code", name), tag("small", KINDS.get(name, "")))), name),
        Cell(f"{kind.rows:,}", kind.rows),
        cell_bar(kind.rows / most, "bad"),
        said,
        Cell(where, example.at),
    ]


def _counted(report: Reported) -> Markup:
    """What the report alone knows: kinds and types, without any text of a row."""
    columns = [
        Column("kind", sorts=True),
        Column("error", sorts=True),
        Column("rows", number=True, sorts=True),
        Column("", class_="bars"),
    ]
    found = [
        (number, kind, type_) for kind, types in report.errors.items() for type_, number in types.items()
    ]
    most = max((number for number, _, _ in found), default=1)
    rows: list[list[Part | Cell]] = [
        [
            Cell(join((tag("code", kind), tag("small", KINDS.get(kind, "")))), kind),
            foreign(type_, class_="mono"),
            Cell(f"{number:,}", number),
            cell_bar(number / most, "bad"),
        ]
        for number, kind, type_ in sorted(found, reverse=True)
    ]
    return table(columns, rows)


def _places(rows: RowsSeen) -> Markup | None:
    """Where in the input they are: one bad file shows as one block."""
    if rows.rows < MANY:
        return None
    places = rows.places()
    most = max(places)
    bars = "".join(
        f"M{X * (at + 0.5) / PLACES:.1f} 34V{34 - max(1.5, 32 * number / most):.1f}"
        for at, number in enumerate(places)
        if number
    )
    label = f"Failed rows by their place in the input, in {PLACES} stretches; at most {most:,} in one."
    axis = tag("line", class_="base", x1="0", x2="100%", y1="34.5", y2="34.5")
    middle = f"by place in the input, at most {most:,} in one stretch"
    ends = tag("div", *(tag("span", said) for said in ("first row", middle, "last row")), class_="ends")
    drawn = plot(36, label, inner(36, tag("path", d=bars, class_="places")), axis)
    return tag("div", drawn, ends, unfold(_places_table(rows, places)), class_="places")


def _places_table(rows: RowsSeen, places: Sequence[int]) -> Markup:
    """The stretches with failed rows in them."""
    starts = [-(-at * rows.length // PLACES) for at in range(PLACES + 1)]
    lines: list[list[Part]] = [
        [f"{starts[at] + 1:,}", f"{starts[at + 1]:,}", f"{number:,}"]
        for at, number in enumerate(places)
        if number
    ]
    return table([Column(head, number=True) for head in ("from row", "to row", "failed")], lines)


def outstanding(story: Story) -> Markup | None:
    """The slowest and the dearest rows, side by side."""
    slow, dear = _slowest(story), _dearest(story)
    if not slow and not dear:
        return None
    parts = []
    if slow:
        parts.append(section("Slowest rows", _slow_note(story), _table(story, slow, TIMES)))
    if dear:
        parts.append(section("Dearest rows", _dear_note(story), _table(story, dear, "money")))
    return tag("div", *parts, class_="halves")


def _slowest(story: Story) -> list[Glance]:
    if story.rows is not None:
        return story.rows.slowest
    return [Glance(row.index, row.value, None, 0, 0) for row in story.report.slowest]


def _dearest(story: Story) -> list[Glance]:
    if story.rows is not None:
        return story.rows.dearest
    return [Glance(row.index, 0.0, round(row.value * PICO), 0, 0) for row in story.report.dearest]


def _slow_note(story: Story) -> str:
    spread = story.report.row_latency_s
    return f"The median row took {kept(duration(spread.p50))}." if spread.count else ""


def _dear_note(story: Story) -> str:
    """What share of the money the long rows take."""
    report = story.report
    for at, size in enumerate(report.sizes):
        over = report.sizes[at:]
        rows, cost = sum(each.rows for each in over), sum(each.cost_usd for each in over)
        done = report.counts.ok + report.counts.failed
        if size.tokens and done and report.cost_usd and rows / done <= 0.1:
            share, of_money = percent(rows / done), percent(min(1.0, cost / report.cost_usd))
            return f"From {size.tokens:,} tokens on: {kept(share)} of rows, {kept(of_money)} of the money."
    return ""


def _table(story: Story, rows: Sequence[Glance], by: str) -> Markup:
    known, tokens = story.rows is not None, any(row.tokens for row in rows)
    columns = [
        Column("row", number=True, sorts=True),
        Column(by, number=True, sorts=True),
        Column("", class_="bars"),
    ]
    columns += [Column("tokens", number=True, class_="wide", sorts=True)] if tokens else []
    columns += [Column("input", class_="excerpt")] if known else []
    most = max(_value(row, by) for row in rows) or 1.0
    return table(columns, [_line(story, row, by, most, tokens=tokens) for row in rows], class_="rows")


def _value(row: Glance, by: str) -> float:
    return row.seconds if by == TIMES else (row.cost_pico or 0) / PICO


def _line(story: Story, row: Glance, by: str, most: float, *, tokens: bool) -> list[Part | Cell]:
    value = _value(row, by)
    said = duration(value) if by == TIMES else money_usd(value)
    cells: list[Part | Cell] = [
        Cell(f"{row.at + 1:,}", row.at),
        Cell(kept(said), value),
        cell_bar(value / most),
    ]
    cells += [Cell(kept(amount(row.tokens)), row.tokens)] if tokens else []
    cells += [foreign(story.rows.texts.get(row.at, ""), name="div")] if story.rows is not None else []
    return cells
