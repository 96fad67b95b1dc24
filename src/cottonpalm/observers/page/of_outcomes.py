"""The page of a run whose outcomes are at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cottonpalm import clock
from cottonpalm.observers.measures.rows_seen import Glance, RowsSeen
from cottonpalm.observers.page.run_page import page_of
from cottonpalm.observers.page.story import Story, stopped_state
from cottonpalm.observers.words.excerpt import excerpt
from cottonpalm.observers.words.kinds import why_stopped

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cottonpalm.observers.measures.reported import Reported
    from cottonpalm.observers.page.story import State
    from cottonpalm.types import Outcome


def page_of_outcomes(report: Reported, outcomes: Iterable[Outcome], name: str | None) -> str:
    """One HTML file; without outcomes it holds no text of any row."""
    outcomes = list(outcomes)
    rows = rows_seen([outcome for outcome in outcomes if outcome.status != "skipped"])
    if rows is not None:
        rows.cost_pico += sum(outcome.cost_pico or 0 for outcome in outcomes if outcome.status == "skipped")
    failed = rows.failed if rows is not None else report.counts.failed
    now = clock.wall()
    return page_of(
        Story(
            report,
            name,
            _state(report, failed),
            why_stopped(report.stopped),
            models=tuple(report.by_model),
            began=now - report.wall_s,
            ended=now if report.over else None,
            total=report.total,
            rows=rows,
        ),
        written=now,
    )


def _state(report: Reported, failed: int) -> State:
    if not report.over:
        return "running"
    if report.stopped is not None:
        return stopped_state(report.stopped)
    return "some failed" if failed else "done"


def rows_seen(outcomes: list[Outcome]) -> RowsSeen | None:
    """Which of them stand out, with excerpts of their inputs; None without any."""
    if not outcomes:
        return None
    seen = RowsSeen().add(map(_glance, outcomes))
    shown = [outcome for outcome in outcomes if outcome.index in seen.shown]
    seen.texts = {outcome.index: excerpt(outcome.input, outcome.id) for outcome in shown}
    seen.tries = {outcome.index: outcome.error.tries for outcome in shown if outcome.error is not None}
    return seen


def _glance(outcome: Outcome) -> Glance:
    usage, error = outcome.usage, outcome.error
    return Glance(
        outcome.index,
        outcome.latency_s,
        outcome.cost_pico,
        usage.input_tokens + usage.output_tokens if usage is not None else 0,
        outcome.attempts,
        None if error is None else (str(error.kind), error.type, error.message),
    )
