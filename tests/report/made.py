"""Reports made up from the numbers that a test is about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cottonpalm.observers.measures.reported import Counts, ModelUse, Moment, Money, Spread
from cottonpalm.observers.report import Report
from cottonpalm.types import Usage

NOTHING = Report(
    counts=Counts(),
    wall_s=0.0,
    active_s=0.0,
    rows_per_s=0.0,
    row_latency_s=Spread(),
    request_latency_s=Spread(),
    waits_s={},
    over_time=(),
    errors={},
    usage=Usage(),
    cost_usd=None,
    cost_per_row_usd=None,
    by_model={},
    slowest=(),
    dearest=(),
    bound_by=(),
    bound_s={},
)


def made(rows: int = 1000, wall_s: float = 600.0, **more: Any) -> Report:
    """A run of so many good rows in so many seconds, with whatever else is given."""
    counts = more.pop("counts", Counts(ok=rows))
    usual: dict[str, Any] = {
        "active_s": wall_s,
        "rows_per_s": rows / wall_s if wall_s else 0.0,
        "cost_usd": 10.0,
        "by_model": {"host/model": ModelUse(rows, 0, 0, 0, None)},
    }
    return replace(NOTHING, counts=counts, wall_s=wall_s, **{**usual, **more})


def moments(
    number: int,
    width_s: float,
    *,
    tokens: int = 0,
    state: str = "",
    in_flight: float = 10,
    limit: float = 100,
) -> tuple[Moment, ...]:
    """So many equal stretches, all bound by `state`; a row a second."""
    bound = {state: width_s} if state else {}
    return tuple(Moment(n * width_s, 1.0, limit, in_flight, tokens, 0.01, 0, bound) for n in range(number))


def spent(**amounts: float) -> Money:
    """Where money went."""
    return Money(**amounts)
