"""What changes over a run: rows, requests in flight, money, and what bound, in at most 120 stretches of time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cottonpalm.observers.measures.bounded import Timeline
from cottonpalm.observers.measures.reported import Moment
from cottonpalm.types import PICO

if TYPE_CHECKING:
    from cottonpalm.observers.measures.bounded import Point


class Course:
    """Counts what happens until the next look, which puts it where it belongs.

    Attributes:
        rows: that have ended since the last look; `tokens`, `cost_pico` and `failed_tries` likewise.
    """

    __slots__ = ("_bound", "_flights", "_kept", "_limits", "cost_pico", "failed_tries", "rows", "tokens")

    def __init__(self) -> None:
        self.rows = self.tokens = self.cost_pico = self.failed_tries = 0
        self._kept = {name: Timeline() for name in ("rows", "tokens", "cost_pico", "failed_tries")}
        self._limits, self._flights = Timeline(), Timeline()
        self._bound: dict[str, Timeline] = {}

    def look(self, from_s: float, at_s: float, state: str, limit: float | None, in_flight: int) -> None:
        """Between two moments, in seconds from the start, `state` bound; the rest is as it is now."""
        for name, kept in self._kept.items():
            kept.add(at_s, getattr(self, name))
            setattr(self, name, 0)
        if limit is not None:
            self._limits.add(at_s, limit)
        self._flights.add(at_s, in_flight)
        if state:
            if state not in self._bound:
                self._bound[state] = Timeline()
            self._bound[state].spread(from_s, at_s)

    def moments(self, wall_s: float) -> tuple[Moment, ...]:
        """All of it, with what has happened since the last look."""
        counted = {name: kept.copy() for name, kept in self._kept.items()}
        if any(getattr(self, name) for name in counted):
            for name, kept in counted.items():
                kept.add(wall_s, getattr(self, name))
        width_s = counted["rows"].width_s
        totals = {name: _by_start(kept, width_s) for name, kept in counted.items()}
        limits, flights = _by_start(self._limits.copy(), width_s), _by_start(self._flights.copy(), width_s)
        bound = {state: _by_start(kept.copy(), width_s) for state, kept in self._bound.items()}
        moments = []
        for point in counted["rows"].points(wall_s):
            at_s = point.at_s
            tokens, cost_pico, failed = (
                _total(totals[name].get(at_s)) for name in ("tokens", "cost_pico", "failed_tries")
            )
            seconds = {state: _total(kept.get(at_s)) for state, kept in bound.items()}
            moments.append(
                Moment(
                    at_s,
                    point.total / point.width_s if point.width_s else 0.0,
                    _mean(limits.get(at_s)),
                    _mean(flights.get(at_s)),
                    round(tokens),
                    cost_pico / PICO,
                    round(failed),
                    {state: value for state, value in seconds.items() if value},
                )
            )
        return tuple(moments)


def _by_start(kept: Timeline, width_s: float) -> dict[float, Point]:
    return {point.at_s: point for point in kept.widened(width_s).points()}


def _total(point: Point | None) -> float:
    return 0.0 if point is None else point.total


def _mean(point: Point | None) -> float | None:
    return point.total / point.samples if point is not None and point.samples else None
