"""When a run that is going will be ready, by how it went lately."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Final

from cottonpalm.observers.measures.pace import SURE, WIDE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cottonpalm.live.reading import Standing
    from cottonpalm.observers.measures.reported import Moment, Reported

LATELY: Final = 0.25  # of the run: what the end is judged by


def left(report: Reported, each: Standing) -> tuple[float, float, float] | None:
    """Seconds until the end by how it went lately: most likely, least, most; None where that cannot be told."""
    if each.about is None or (each.said or {}).get("binding") == "batch":  # nobody knows until when
        return None
    rows = each.about - each.ok - each.failed
    moments = report.over_time[max(0, len(report.over_time) - 1 - int(len(report.over_time) * LATELY) - 3) :]
    mean, error = _rate(moments[:-1] or moments)
    if rows <= 0 or mean <= 0:
        return None
    low, high = max(mean / 4, mean - WIDE * error), mean + WIDE * error
    return rows / mean, rows / high, rows / low


def _rate(moments: Sequence[Moment]) -> tuple[float, float]:
    """Rows a second in the mean, and its standard error."""
    rates = [moment.rows_per_s for moment in moments]
    if not rates:
        return 0.0, 0.0
    mean = sum(rates) / len(rates)
    if len(rates) < SURE:
        return mean, 0.0
    return mean, sqrt(sum((value - mean) ** 2 for value in rates) / (len(rates) - 1) / len(rates))
