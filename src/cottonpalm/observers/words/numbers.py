"""Shares, amounts and scales as reports show them."""

from __future__ import annotations

from math import ceil, floor, log10
from typing import TYPE_CHECKING, Final, NamedTuple

from cottonpalm.observers.words.formatting import currency, duration

if TYPE_CHECKING:
    from cottonpalm.events import BudgetShare

SHORT: Final = 3.5  # decades
MARKS: Final = 6  # at most about so many on a long logarithmic axis
_STEPS: Final = (1, 2, 5, 10)
_TIMES_S: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)


def percent(share: float) -> str:
    """`86 %`, `0.4 %`, `99.1 %`; 0 and 100 only where they are exact."""
    value = 100 * share
    if value in (0, 100):
        return f"{value:.0f} %"
    if 0 < value < 0.1:
        return "< 0.1 %"
    if 99.9 < value < 100:
        return "> 99.9 %"
    return f"{value:.1f} %" if value < 1 or 99 < value < 100 else f"{value:,.0f} %"


def money_usd(dollars: float) -> str:
    """Two digits that count, and no zeros behind the cents: `$20.52`, `$0.41`, `$0.00043`, `$0`."""
    sign, rate = currency()
    shown = dollars * rate
    if shown <= 0 or shown >= 1:
        return f"{sign}{shown:,.2f}" if shown else f"{sign}0"
    digits = max(4, 1 - floor(log10(shown)))
    whole, _, part = f"{shown:.{digits}f}".partition(".")
    return f"{sign}{whole}.{part.rstrip('0').ljust(2, '0')}"


def roughly(seconds: float) -> str:
    """A duration that is estimated: `46 min`, `4 min 40 s`, `1 h 20 min`."""
    return f"{round(seconds / 60)} min" if 600 <= seconds < 3570 else duration(seconds)


def amount(number: float) -> str:
    """`740`, `29.4 M`, `1.2 k` from ten thousand on: tokens in tables."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size and number >= 10_000:
            return f"{number / size:.1f}".removesuffix(".0") + f" {unit}"
    return f"{number:,.0f}"


def two(seconds: float) -> str:
    """Two digits that count: `0.44`, `3.1`, `18`, `1,240`."""
    if seconds <= 0:
        return "0"
    digits = max(0, 1 - floor(log10(seconds)))
    return f"{seconds:,.{digits}f}" if seconds < 10 else f"{seconds:,.0f}"


def brief(seconds: float) -> str:
    """The same in at most five characters, for a narrow column: no finer than a millisecond."""
    return "<.001" if 0 < seconds < 0.001 else f"{seconds:.3f}" if 0 < seconds < 0.01 else two(seconds)


def per_second(number: float) -> str:
    """Rows a second in a column: `12.3`, `0.44`, `1,240`."""
    return two(number) if number < 1 else f"{number:,.1f}" if number < 100 else f"{number:,.0f}"


class Tick(NamedTuple):
    """A mark on an axis."""

    value: float
    label: str


def linear(top: float, most: int = 3) -> list[Tick]:
    """At most so many round marks above 0 and up to `top`."""
    if top <= 0:
        return []
    size = 10.0 ** floor(log10(top / most))
    step = next((size * step for step in _STEPS if top / (size * step) <= most + 1e-9), size * 10)
    digits = max(0, -floor(log10(step) + 1e-9))
    return [Tick(step * n, f"{step * n:,.{digits}f}") for n in range(1, floor(top / step + 1e-9) + 1)]


def times(end_s: float, most: int = 8) -> list[Tick]:
    """Marks on an axis of time from 0 to `end_s`, the first with its unit."""
    step = next((step for step in _TIMES_S if end_s / step <= most), ceil(end_s / most / 86400) * 86400)
    name, unit = next(
        (name, unit) for name, unit in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)) if step % unit == 0
    )
    numbers = range(1, floor(end_s / step + 1e-9) + 1)
    marks = (Tick(n * step, f"{n * step // unit}{f' {name}' if n == 1 else ''}") for n in numbers)
    return [Tick(0.0, "0"), *marks]


def logarithmic(low: float, high: float) -> list[Tick]:
    """Marks in seconds, whole decades with their unit: at 1 and 3 on a short axis, at few decades on a long one."""
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    steps = (1, 3) if log10(high / low) <= SHORT else (1,)
    every = max(1, round(log10(high / low) / MARKS))
    values = [(power, step * 10.0**power) for power in decades if power % every == 0 for step in steps]
    return [Tick(value, _marked(power, value)) for power, value in values if low <= value <= high]


def _marked(power: int, value: float) -> str:
    """`0.1 s`, `10 ms`: in the unit in which it is short."""
    if power < -1:
        return f"{1000 * value:.{max(0, -power - 3)}f} ms"
    return f"{value:,.{max(0, -power)}f} s"


def besides(most: str) -> str:
    """What may be charged besides what is known."""
    return f"up to {most} besides, for requests whose answer never came, or whose cost was not told or not stored"


def share_of_budget(event: BudgetShare) -> str:
    """How much of the budget is spent, and whether that is the end of it."""
    spent, budget = money_usd(event.spent_usd), money_usd(event.budget_usd)
    if event.share >= 1 and event.spent_usd < event.budget_usd:
        return f"budget: {spent} of {budget} is spent, and what is left is too little for another request"
    return f"budget: {percent(event.share)} reached, {spent} of {budget}"
