"""What to change before the next run, computed from a report. No clock, no I/O: a report in, sentences out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cottonpalm.observers.advice import money
from cottonpalm.observers.advice.advice import Advice, capital, rows_of
from cottonpalm.observers.advice.words import FACTOR, FAILED, LIMITS, TWICE, WAITS
from cottonpalm.observers.measures.rates import widths
from cottonpalm.observers.words.formatting import count, duration
from cottonpalm.observers.words.numbers import percent, roughly

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cottonpalm.observers.measures.reported import Reported

WORTH: Final = 0.05  # of the time, the money or the rows: what gains less is not said
ROWS: Final = 100  # fewer tell too little
SECONDS: Final = 60.0  # a shorter run need not be faster
MANY_FAILED: Final = 0.01  # of the rows


def advice_of(report: Reported) -> tuple[Advice, ...]:
    """What is worth changing, the largest gain first; empty where there is nothing to say, see `why_nothing`."""
    if rows_of(report) < ROWS:
        return ()
    found = [advice for rule in _RULES for advice in rule(report) if advice.share >= WORTH]
    failed = [advice for advice in _failed_rows(report) if advice.share >= MANY_FAILED]
    return tuple(sorted(found, key=lambda advice: -advice.share) + failed)


def why_nothing(report: Reported) -> str:
    """Why there is no advice, in a sentence."""
    rows = rows_of(report)
    if not rows:
        return "No row was asked."
    if rows < ROWS:
        return f"{count(rows, 'row')} of this run: fewer than {ROWS} tell too little."
    if report.wall_s < SECONDS:
        money = f", and no change would save {percent(WORTH)} of its money" if report.cost_usd else ""
        return f"The run took less than a minute{money}."
    return f"No single change would save {percent(WORTH)} of the time{' or of the money' if report.cost_usd else ''}."


# -- time: what bound the run


def _limits(report: Reported) -> Iterator[Advice]:
    """A limit that bound: what twice as much would bring, as long as nothing else binds sooner."""
    if report.wall_s < SECONDS:
        return
    for state, bound in LIMITS.items():
        seconds = min(report.bound_s.get(state, 0.0), report.wall_s)
        # Where no model was seen, no provider is known whose limit it could be.
        if seconds <= 0 or (state in ("concurrency", "pace") and not report.by_model):
            continue
        factor, next_bound = _factor(report, state)
        gain = seconds * (1 - 1 / factor)
        share, left = percent(seconds / report.wall_s), roughly(report.wall_s - gain)
        rate = _seen(report, state, bound.quota)
        why = f"{capital(bound.named)}{rate} bound {share} of the run; twice as much would leave {left}"
        yield Advice(
            f"bound by {state}",
            "s",
            gain,
            report.wall_s,
            bound.what,
            f"{why}{next_bound}.",
            bound.how,
            then=bound.then,
        )


def _factor(report: Reported, state: str) -> tuple[float, str]:
    """How much faster twice the limit can be: no more than the room below the limit in flight allows."""
    if state not in ("tokens", "requests", "pace", "own requests", "own tokens"):
        return FACTOR, ""
    seen = [moment for moment in report.over_time if moment.bound_s.get(state, 0.0) > 0]
    flying = [moment.in_flight for moment in seen if moment.in_flight is not None]
    limits = [moment.limit for moment in seen if moment.limit is not None]
    if not flying or not limits or not sum(flying):
        return FACTOR, ""
    in_flight, limit = sum(flying) / len(flying), sum(limits) / len(limits)
    room = max(1.0, limit / in_flight)
    if room >= FACTOR:
        return FACTOR, f" ({in_flight:,.0f} of {limit:,.0f} were in flight)"
    return room, f", as then the limit of {limit:,.0f} in flight binds"


def _seen(report: Reported, state: str, quota: str) -> str:
    """`, 500,000 tokens a minute,`: what came through while it bound."""
    if not quota:
        return ""
    seconds = amount = 0.0
    for moment, width_s in zip(report.over_time, widths(report), strict=True):
        if moment.bound_s.get(state, 0.0) >= 0.5 * width_s > 0:
            seconds += width_s
            amount += moment.tokens if quota == "tokens" else moment.rows_per_s * width_s
    if seconds < 1 or not amount:
        return ""
    return f" (about {_two_digits(amount / seconds * 60)} {quota} a minute came through)"


def _waits(report: Reported) -> Iterator[Advice]:
    """Time in which everything waited for somebody: at most all of it can be gained."""
    if report.wall_s < SECONDS:
        return
    for state, bound in WAITS.items():
        seconds = min(report.bound_s.get(state, 0.0), report.wall_s)
        if seconds > 0:
            share = percent(seconds / report.wall_s)
            why = f"{capital(bound.named)} took {duration(seconds)} ({share} of the run): at most that can be gained."
            yield Advice(
                f"bound by {state}",
                "s",
                seconds,
                report.wall_s,
                bound.what,
                why,
                bound.how,
                then=bound.then,
            )


def _cpu(report: Reported) -> Iterator[Advice]:
    """This process had no time left."""
    seconds = min(report.bound_s.get("cpu", 0.0), report.wall_s)
    if report.wall_s >= SECONDS and seconds > 0:
        gain, share = seconds / 2, percent(seconds / report.wall_s)
        left = roughly(report.wall_s - gain)
        why = f"This machine's CPU was full for {share} of the run; two processes would leave {left}."
        how = '`--executor processes`, or `executor="processes"`: they share limits, budget, cache and store'
        yield Advice("bound by cpu", "s", gain, report.wall_s, "Use a second process.", why, how, then=TWICE)


def _tail(report: Reported) -> Iterator[Advice]:
    """At the end only a few long rows were under way."""
    seconds = min(report.bound_s.get("tail", 0.0), report.wall_s)
    gain = seconds - report.row_latency_s.p50
    if report.wall_s >= SECONDS and gain > 0:
        why = (
            f"For the last {duration(seconds)} ({percent(seconds / report.wall_s)} of the run) only its last rows were"
            f" under way; the slowest row took {duration(report.row_latency_s.max)}, the median one"
            f" {duration(report.row_latency_s.p50)}."
        )
        how = "`--priority-field`, or `priorities=`, higher for longer rows"
        yield Advice(
            "long rows last", "s", gain, report.wall_s, "Start long rows first.", why, how, then="at best"
        )


# -- rows


def _failed_rows(report: Reported) -> Iterator[Advice]:
    """Rows that failed, by what would help them; the largest kind first."""
    rows = rows_of(report)
    kinds = {kind: sum(types.values()) for kind, types in report.errors.items()}
    for kind, number in sorted(kinds.items(), key=lambda pair: -pair[1]):
        if kind in FAILED:
            what, how_so, how = FAILED[kind]
            why = f"{number:,} of {count(rows, 'row')} ({percent(number / rows)}) {how_so}."
            yield Advice(f"failed: {kind}", "rows", number, rows, what, why, how, exact=True, then="still ok")


_RULES: Final[tuple[Callable[[Reported], Iterator[Advice]], ...]] = (
    _limits,
    _waits,
    _cpu,
    _tail,
    money.repeats,
    money.long_rows,
    money.thrown_away,
    money.prompts,
    money.batch,
)


def _two_digits(value: float) -> str:
    """`500,000`, `740`: two digits that count."""
    digits = max(0, len(str(int(value))) - 2)
    return f"{round(value / 10**digits) * 10**digits:,.0f}"
