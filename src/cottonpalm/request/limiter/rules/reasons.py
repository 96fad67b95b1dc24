"""What is believed of a limit, and why, in words for people. No clock, no I/O."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from cottonpalm.request.limiter.rules.causes import SURE
from cottonpalm.request.limiter.rules.ceilings import MINUTE_S
from cottonpalm.request.limiter.rules.shown import WINDOW

if TYPE_CHECKING:
    from cottonpalm.request.limiter.rules.gates import Gates
    from cottonpalm.types import Unit

MISLEADING: Final = "the headers do not fit: not used"


def why(gates: Gates, held_by: str, left: float = math.inf) -> str:
    """Why it is believed that this binds: `requests per second: about 40, found from 3 rejections`.

    Args:
        gates: what is known of one key.
        held_by: as in `Snapshot.held_by`; "" for nothing.
        left: what others who share the number in flight leave of the most that is allowed.
    """
    if not held_by:
        return ""
    if held_by.startswith("own "):
        return _ceiling(gates, held_by.removeprefix("own "))
    if held_by in gates.quotas.shown:
        return _quota(gates, held_by)
    most = gates.concurrency.maximum
    if held_by == "in flight" and left < most and left <= gates.concurrency.limit:
        return f"{left:,.0f} of the {most:,.0f} that you allow, as other runs on this store have the rest"
    said = {"pace": _pace, "probe": _probe}.get(held_by, _number)(gates)
    return f"{said}; {MISLEADING}" if gates.quotas.misleading else said


def _pace(gates: Gates) -> str:
    bucket = gates.bucket
    if not bucket.rate:
        seen = gates.refusals.seen
        after = f"after {_rejections(seen)}" if seen else "as nobody knows yet how many fit"
        return f"more and more are sent, evenly spaced, {after}"
    tokens = gates.heavy > SURE
    rate = bucket.rate * (gates.usual_ask if tokens else 1.0)
    unit = "tokens" if tokens else "requests"
    return f"{_per(unit, rate)}, {_found(bucket.rejections, 'found in an earlier run')}"


def _number(gates: Gates) -> str:
    number = gates.concurrency
    fits = f"requests in flight: {int(number.limit):,}"
    if number.knee.found:
        return f"{fits}, as with more each takes longer"
    if number.wall is not None:
        return f"{fits} fit, {_found(number.rejections, 'found in an earlier run, or by another process')}"
    return f"{fits}, and more as long as they are taken" if number.starting else f"{fits} are allowed"


def _probe(gates: Gates) -> str:
    if gates.recovery.dead:
        return "one request asks whether it works again"
    return f"one request asks whether more are taken, after {_rejections(gates.refusals.seen)}"


def _quota(gates: Gates, unit: Unit) -> str:
    shown = gates.quotas.shown[unit]
    if shown.way == WINDOW:
        return f"{unit}: {shown.limit:,.0f} until a window ends, as the headers show"
    return f"{_per(unit, shown.rate)}, as the headers show, which predict what is left"


def _ceiling(gates: Gates, unit: str) -> str:
    most = next(ceiling.most for of, ceiling in gates.ceilings if of == unit)
    size = gates.usual_size
    each = f", about {size:,.0f} for each request" if unit == "tokens" and size else ""
    return f"your ceiling: {most:,.0f} {unit} a minute{each}"


def _per(unit: str, per_s: float) -> str:
    """`requests per second: about 40`; per minute where that is less than one."""
    time, rate = ("second", per_s) if per_s >= 1 else ("minute", MINUTE_S * per_s)
    return f"{unit} per {time}: about {_two_digits(rate)}"


def _two_digits(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{float(f'{value:.2g}'):,.0f}"


def _found(rejections: int, otherwise: str) -> str:
    return f"found from {_rejections(rejections)}" if rejections else otherwise


def _rejections(number: int) -> str:
    return f"{number:,} rejection{'' if number == 1 else 's'}"
