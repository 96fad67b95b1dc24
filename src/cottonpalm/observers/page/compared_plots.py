"""The two plots of two runs: rows done over time, and within how long rows were answered."""

from __future__ import annotations

from itertools import zip_longest
from math import log10
from typing import TYPE_CHECKING, Final

from cottonpalm.observers.page.markup import Markup, kept, tag
from cottonpalm.observers.page.over_time import seen
from cottonpalm.observers.page.parts import Column, none, section, table, unfold
from cottonpalm.observers.page.plots import Line, axis, chart, percent_of, text
from cottonpalm.observers.words.formatting import duration
from cottonpalm.observers.words.numbers import Tick, logarithmic, per_second, times, two

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cottonpalm.observers.measures.reported import Spread
    from cottonpalm.observers.page.markup import Part
    from cottonpalm.observers.page.story import Story

HEIGHT: Final = 150
DECADES: Final = 4  # what is quicker is at the left edge


def rates(a: Story, b: Story) -> Markup:
    """Rows done over the time of both."""
    end_s = max(a.report.wall_s, b.report.wall_s, 1e-9)
    lines = [_course(b, end_s), _course(a, end_s)]
    top = max((value for line in lines for _, value in line), default=0.0)
    if len(lines[0]) < 2 or len(lines[1]) < 2 or not top:
        return section("Rows done", "a second", tag("p", "Too short to have a course.", class_="none"))
    behind = unfold(_rates_table(a, b))
    label = (
        f"Rows done per second: A {per_second(a.report.rows_per_s)} on average over {duration(a.report.wall_s)},"
        f" B {per_second(b.report.rows_per_s)} over {duration(b.report.wall_s)}."
    )
    named = _named(lines, top, (b, a))
    drawn = chart(
        HEIGHT, label, [Line(lines[0], "line", area=True), Line(lines[1], "other")], top, pad=24, over=named
    )
    marks = axis(times(end_s, 5), end_s, kept(duration(end_s)))
    return section("Rows done", "a second, from each run's start", drawn, marks, behind)


def _rates_table(a: Story, b: Story) -> Markup:
    """Each run at its own moments, side by side."""
    columns = [Column(head, number=True) for head in ("from", "A", "from", "B")]
    one, other = (
        [[kept(duration(each.moment.at_s)), per_second(each.rows_per_s)] for each in seen(story.report)]
        for story in (a, b)
    )
    return table(columns, [[*x, *y] for x, y in zip_longest(one, other, fillvalue=["", ""])])


def _course(story: Story, end_s: float) -> list[tuple[float, float]]:
    scale = story.report.wall_s / end_s
    return [(each.middle * scale, each.rows_per_s) for each in seen(story.report)]


def _named(
    lines: Sequence[Sequence[tuple[float, float]]], top: float, stories: tuple[Story, Story]
) -> Iterator[Part]:
    """`B, mean 17.0` above the highest point of each line, as far from one another as they are."""
    for line, letter, story in zip(lines, "BA", stories, strict=True):
        x, y = max(line, key=lambda point: point[1])
        x = min(0.88, max(0.12, x))
        said = f"{letter}, mean {per_second(story.report.rows_per_s)}"
        yield text(percent_of(x), HEIGHT - y * (HEIGHT - 24) / top - 6, said, "tick middle halo")


def within(a: Story, b: Story) -> Markup:
    """What part of the rows was answered within how long."""
    spreads = [story.report.row_latency_s for story in (a, b)]
    ends = [upper for spread in spreads for upper, _ in spread.bars if upper > 0]
    title, note = "Rows answered within", "share of rows, seconds on a logarithmic scale"
    if not ends or not all(spread.count for spread in spreads):
        return section(title, note, none())
    high = log10(max(ends)) + 0.05
    low = max(log10(min(ends)) - 0.1, high - DECADES)
    one, other = (_cumulative(spread, low, high) for spread in spreads)
    label = f"Half of the rows were answered within {two(spreads[0].p50)} s in A and {two(spreads[1].p50)} s in B."
    shares = [Tick(0.5, kept("50 %")), Tick(0.9, kept("90 %"))]
    lines = [Line(other, "line"), Line(one, "other")]
    drawn = chart(HEIGHT, label, lines, 1.0, pad=24, ticks=shares, over=_halves(spreads, low, high))
    marks = [tick._replace(value=log10(tick.value)) for tick in logarithmic(10**low, 10**high)]
    return section(title, note, drawn, axis(marks, high, None, zero=low), unfold(_within_table(a, b)))


def _within_table(a: Story, b: Story) -> Markup:
    """Of what part of the rows were answered within how many seconds."""
    columns = [Column("rows"), Column("A, seconds", number=True), Column("B, seconds", number=True)]
    rows: list[list[Part]] = [
        [said, *(two(getattr(story.report.row_latency_s, name)) for story in (a, b))]
        for said, name in (("50 %", "p50"), ("90 %", "p90"), ("95 %", "p95"), ("99 %", "p99"), ("all", "max"))
    ]
    return table(columns, rows)


def _cumulative(spread: Spread, low: float, high: float) -> list[tuple[float, float]]:
    points, so_far = [(0.0, 0.0)], 0
    for upper, number in spread.bars:
        so_far += number
        at = (log10(upper) - low) / (high - low) if upper > 0 else 0.0
        points.append((max(0.0, at), so_far / spread.count))
    return [*points, (1.0, 1.0)]


def _halves(spreads: Sequence[Spread], low: float, high: float) -> Iterator[Part]:
    """The letters beside the middle of each line, the left one at its left."""
    at = [(log10(max(spread.p50, 1e-9)) - low) / (high - low) for spread in spreads]
    for letter, x, other in (("A", at[0], at[1]), ("B", at[1], at[0])):
        shift = 0.025 if x > other or (x == other and letter == "A") else -0.025
        half = HEIGHT - 0.5 * (HEIGHT - 24) + 4  # so that the letter's middle is there
        yield text(percent_of(min(0.98, max(0.02, x + shift))), half, letter, "tick middle halo")
