"""The steps of the chain by name: where the time of a row goes inside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cottonpalm.observers.page.markup import Markup, foreign, kept
from cottonpalm.observers.page.parts import Cell, Column, section, table
from cottonpalm.observers.page.plots import cell_bar
from cottonpalm.observers.words.formatting import clean
from cottonpalm.observers.words.numbers import percent, two

if TYPE_CHECKING:
    from cottonpalm.observers.measures.reported import Reported, StepUse
    from cottonpalm.observers.page.markup import Part


def steps(report: Reported) -> Markup | None:
    """The section; None for a chain of one step, or one whose steps were not seen."""
    whole_s = sum(step.seconds for step in report.steps)
    if len(report.steps) < 2 or whole_s <= 0:
        return None
    columns = [
        Column("step", sorts=True),
        Column("calls", number=True, sorts=True),
        Column("seconds a call", number=True, sorts=True),
        Column("", class_="bars"),
        Column("of the time", number=True, sorts=True),
    ]
    lines = [_line(step, whole_s) for step in report.steps]
    note = "Seconds in each step itself, without the steps inside it; measured on a sample of the rows."
    return section("Steps of the chain", note, table(columns, lines, class_="steps"))


def _line(step: StepUse, whole_s: float) -> list[Part | Cell]:
    a_call, share = step.seconds / step.calls if step.calls else 0.0, step.seconds / whole_s
    return [
        Cell(foreign(step.name, 60, class_="mono"), clean(step.name, 60)),
        Cell(f"{step.calls:,}", step.calls),
        Cell(two(a_call), a_call),
        cell_bar(share),
        Cell(kept(percent(share)), share),
    ]
