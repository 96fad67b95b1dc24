"""Rows a second over a run: counted over stretches in which enough of them ended to call it a rate."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cottonpalm.observers.measures.reported import Reported

ENOUGH: Final = 10  # rows, in the mean, of which a rate is made: fewer come and go by chance


def widths(report: Reported) -> list[float]:
    """How many seconds each moment lasts."""
    starts = [moment.at_s for moment in report.over_time]
    ends = [*starts[1:], max(report.wall_s, starts[-1])] if starts else []
    return [end - start for start, end in zip(starts, ends, strict=True)]


def window_s(report: Reported) -> float | None:
    """Over how many seconds a rate is counted; None where the whole run has too few rows for one that changes."""
    widths_s = widths(report)
    rows = sum(m.rows_per_s * width_s for m, width_s in zip(report.over_time, widths_s, strict=True))
    if rows < ENOUGH - 1e-6:
        return None
    return max(*widths_s, ENOUGH * sum(widths_s) / rows)


def rates(report: Reported) -> list[float]:
    """The rate round each moment. A short last moment is counted with what was before it."""
    over_s = window_s(report)
    if over_s is None:
        return [report.rows_per_s] * len(report.over_time)
    widths_s = widths(report)
    ends = list(accumulate(widths_s, initial=0.0))
    so_far = list(
        accumulate(
            (m.rows_per_s * width_s for m, width_s in zip(report.over_time, widths_s, strict=True)),
            initial=0.0,
        )
    )

    def by(at_s: float) -> float:
        """Rows that had ended by then, as if they came evenly within a moment."""
        slot = min(len(widths_s) - 1, max(0, bisect_right(ends, at_s) - 1))
        share = min(1.0, (at_s - ends[slot]) / widths_s[slot]) if widths_s[slot] else 1.0
        return so_far[slot] + share * (so_far[slot + 1] - so_far[slot])

    found = []
    for start, width in zip(ends, widths_s, strict=False):
        from_s = min(max(0.0, start + width / 2 - over_s / 2), max(0.0, ends[-1] - over_s))
        found.append(round((by(from_s + over_s) - by(from_s)) / over_s, 9))
    return found
