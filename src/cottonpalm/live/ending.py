"""When a run that is going will end, by how it went lately."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Final, NamedTuple

from cottonpalm.observers.measures import funds
from cottonpalm.observers.measures.pace import SURE, WIDE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cottonpalm.live.reading import Standing
    from cottonpalm.observers.measures.reported import Moment, Reported

LATELY: Final = 0.25  # of the run: what the end is judged by


class Ending(NamedTuple):
    """Seconds until the end: most likely, least, most.

    Attributes:
        enough_for: rows in all, after which the budget is spent; None: it is enough for all.
    """

    seconds: float
    least: float
    most: float
    enough_for: int | None


def ending(report: Reported, each: Standing) -> Ending | None:
    """When it ends by how it went lately; None where that cannot be told."""
    if each.about is None or (each.said or {}).get("binding") == "batch":  # nobody knows until when
        return None
    done, enough_for = each.ok + each.failed, _enough_for(report, each)
    rows = (each.about if enough_for is None else enough_for) - done
    moments = report.over_time[max(0, len(report.over_time) - 1 - int(len(report.over_time) * LATELY) - 3) :]
    mean, error = _rate(moments[:-1] or moments)
    if rows <= 0 or mean <= 0:
        return None
    low, high = max(mean / 4, mean - WIDE * error), mean + WIDE * error
    return Ending(rows / mean, rows / high, rows / low, enough_for)


def _enough_for(report: Reported, each: Standing) -> int | None:
    """See `funds.enough_for`: by the rows of the process that works on it, which says what these cost."""
    said, budget = each.said or {}, report.money.budget_usd
    spent = said.get("budget_spent_usd")  # an older process says none
    if budget is None or spent is None or not said["cost_known"]:
        return None
    done = each.ok + each.failed
    here = said["ok"] + said["failed"]
    return funds.enough_for(budget - spent, said["cost_usd"], done, done - here, each.about)


def _rate(moments: Sequence[Moment]) -> tuple[float, float]:
    """Rows a second in the mean, and its standard error."""
    rates = [moment.rows_per_s for moment in moments]
    if not rates:
        return 0.0, 0.0
    mean = sum(rates) / len(rates)
    if len(rates) < SURE:
        return mean, 0.0
    return mean, sqrt(sum((value - mean) ** 2 for value in rates) / (len(rates) - 1) / len(rates))
