"""What a run came to, for programs and for people: as plain values, as text, as a page.

A `Report` holds no inputs, outputs or error messages, only counts and names of rows.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, Final

import orjson

from cottonpalm.observers.advice.rules import advice_of
from cottonpalm.observers.measures.rates import rates
from cottonpalm.observers.measures.reported import Reported
from cottonpalm.observers.words.formatting import clean, count, duration, money, rate
from cottonpalm.observers.words.kinds import why_stopped
from cottonpalm.observers.words.numbers import besides, percent
from cottonpalm.observers.words.prompts import on_prompts
from cottonpalm.types import PICO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from cottonpalm.observers.advice.advice import Advice
    from cottonpalm.observers.measures.reported import Spread, TopRow
    from cottonpalm.types import Outcome


@dataclass(frozen=True, slots=True)
class Report(Reported):
    """Where the time and the money of a run went, see `Reported` for its attributes."""

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values that JSON can hold."""
        plain: dict[str, Any] = orjson.loads(orjson.dumps(self))
        return plain

    def text(self) -> str:
        """The same for people, in lines of at most 80 columns."""
        return text_of(self)

    def advice(self) -> tuple[Advice, ...]:
        """What to change before the next run, the largest gain first; empty where there is nothing to say."""
        return advice_of(self)

    def short(self) -> str:
        """One line: rows, time, money."""
        counts, cost = self.counts, self.cost_usd
        parts = [f"{counts.ok:,} ok", f"{counts.failed:,} failed"]
        parts += [f"{counts.stored:,} stored before"] if counts.stored else []
        parts += [duration(self.wall_s)]
        parts += [rate(self.rows_per_s)] if self.rows_per_s else []
        parts += [_dollars(cost)] if cost else []
        return ", ".join(parts)

    def _repr_html_(self) -> str:
        """In a notebook: the page, in a frame of its own."""
        from cottonpalm.observers.notebook import framed  # noqa: PLC0415 - few need it

        return framed(self.to_html())

    def to_html(self, outcomes: Iterable[Outcome] = (), *, name: str | None = None) -> str:
        """The same as one HTML file that needs nothing else, to be opened in any browser.

        Args:
            outcomes: the run's, as `run.outcomes()`, where its failed, slowest and dearest rows are to be shown with
                their inputs and messages. Without them the page holds no text of any row.
            name: of the run.

        Raises:
            TypeError: `outcomes` is the name of a file.
        """
        if isinstance(outcomes, (str, PathLike)):
            raise TypeError(
                "to_html() returns the page as text, and writes no file: "
                f"Path({str(outcomes)!r}).write_text(run.report.to_html(run.outcomes()), encoding='utf-8')"
            )
        from cottonpalm.observers.page.of_outcomes import page_of_outcomes  # noqa: PLC0415 - few need it

        return page_of_outcomes(self, outcomes, name)


WIDTH: Final = 80
_LABEL: Final = 11  # columns of the first one
_WIDTHS: Final = (11, 13, 9, 9, 9, 9, 9)  # the first two grow with the run
_BARS: Final = "▁▂▃▄▅▆▇█"
_SPARK: Final = 40
_ADVICE: Final = 3
_SHOWN: Final = 3  # of the rows that stand out
STEPS: Final = 8  # that are named


def text_of(report: Reported) -> str:
    """The whole report; sections without anything in them are left out."""
    lines = [
        *_head(report),
        *_times(report),
        *_trend(report),
        *_errors(report.errors),
        *_models(report),
        *_steps(report),
    ]
    lines += ["", *_top("slowest", report.slowest, duration), *_top("dearest", report.dearest, _dollars)]
    lines += _wrapped("bound by", " ".join(report.bound_by))
    for advice in advice_of(report)[:_ADVICE]:
        lines += _wrapped("advice", advice.text())
    return "\n".join(line.rstrip()[:WIDTH] for line in lines)


def _head(report: Reported) -> Iterator[str]:
    counts = report.counts
    parts = [f"{counts.ok:,} ok", f"{counts.failed:,} failed"]
    more = {"left": counts.skipped, "stored before": counts.stored, "restarted": counts.restarts}
    parts += [f"{number:,} {name}" for name, number in more.items() if number]
    parts += [f"of {report.total:,}"] if report.stopped is not None and report.total is not None else []
    yield from _wrapped("rows", ", ".join(parts))
    if why := why_stopped(report.stopped):
        yield from _wrapped("stopped", why)
    if counts.cached or counts.cache_misses:
        said = f"{counts.cached:,} answered by the cache, {counts.cache_misses:,} asked"
        yield from _wrapped(
            "cache", said + (f", {counts.coalesced:,} joined a call" if counts.coalesced else "")
        )
    if counts.requests:
        retries = "a retry" if counts.retries == 1 else "retries"
        copies = f", {count(counts.hedges, 'copy', 'copies')} of late ones" if counts.hedges else ""
        yield from _wrapped("requests", f"{counts.requests:,}, {counts.retries:,} of them {retries}{copies}")
    if by := report.transports:
        ways = [f"{by.get('fast', 0):,} fast"]
        ways += [
            f"{number:,} by the SDK ({name.partition(': ')[2]})"
            for name, number in by.items()
            if name != "fast"
        ]
        yield from _wrapped("transport", ", ".join(ways))
    active = "" if report.wall_s - report.active_s < 1 else f", {duration(report.active_s)} of it active"
    yield from _wrapped("time", f"{duration(report.wall_s)}{active}, {rate(report.rows_per_s)}")
    usage = report.usage
    if usage.input_tokens or usage.output_tokens:
        yield from _wrapped("tokens", f"{usage.input_tokens:,} in, {usage.output_tokens:,} out")
    if prompts := on_prompts(report):
        yield from _wrapped("prompt", prompts)
    yield from _costs(report)


def _costs(report: Reported) -> Iterator[str]:
    if report.cost_usd is not None and report.cost_per_row_usd is not None:
        estimated = report.money.estimated_rows
        yield from _wrapped("cost", _cost(report.cost_usd, report.cost_per_row_usd, estimated))
    if uncertain_usd := report.money.uncertain_usd:
        yield from _wrapped("uncertain", besides(_dollars(uncertain_usd)))


def _cost(whole_usd: float, of_row_usd: float, estimated: int) -> str:
    said = f"{_dollars(whole_usd)}, {_dollars(of_row_usd)} a row"
    if estimated:
        said += f"; estimated for {count(estimated, 'row')} whose answers did not say what they used"
    return said


def _times(report: Reported) -> Iterator[str]:
    spreads = {"row": report.row_latency_s, "request": report.request_latency_s}
    spreads |= {f"· {name}": spread for name, spread in report.waits_s.items() if spread.total >= 0.0005}
    if not any(spread.count for spread in spreads.values()):
        return
    yield ""
    yield _cells("seconds", ("count", "in all", "p50", "p90", "p95", "p99", "max"))
    for name, spread in spreads.items():
        if spread.count:
            yield _cells(name, (f"{spread.count:,}", *map(_short, _values(spread))))


def _values(spread: Spread) -> tuple[float, ...]:
    return spread.total, spread.p50, spread.p90, spread.p95, spread.p99, spread.max


def _cells(first: str, others: Sequence[str]) -> str:
    return first.ljust(_LABEL) + "".join(
        cell.rjust(width) for cell, width in zip(others, _WIDTHS, strict=True)
    )


def _short(seconds: float) -> str:
    if seconds >= 10_000:
        return f"{seconds:,.0f}"
    return f"{seconds:,.1f}" if seconds >= 100 else f"{seconds:.3f}"


def _trend(report: Reported) -> Iterator[str]:
    moments = report.over_time
    if len(moments) < 2:
        return
    yield ""
    for name, values in (
        ("rows/s", rates(report)),
        ("in flight", [moment.in_flight for moment in moments]),
        ("limit", [moment.limit for moment in moments]),
    ):
        known = [value for value in values if value is not None]
        if known:
            first, last, most = (_number(value) for value in (known[0], known[-1], max(known)))
            yield f"{name.ljust(_LABEL)}{_sparks(values)}  {first} → {last}, most {most}"


def _sparks(values: Sequence[float | None]) -> str:
    """A mark for each stretch of time; where nothing is known of one, a gap, so that all lines keep the same time."""
    share = max(1, -(-len(values) // _SPARK))
    parts = [values[n : n + share] for n in range(0, len(values), share)]
    known = [[value for value in part if value is not None] for part in parts]
    merged = [sum(part) / len(part) if part else None for part in known]
    top = max((value for value in merged if value is not None), default=0.0) or 1.0
    return "".join(" " if value is None else _BARS[min(7, int(value / top * 7.99))] for value in merged)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _errors(errors: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    if errors:
        yield ""
    for kind, types in errors.items():
        said = ", ".join(f"{number:,} {clean(name)}" for name, number in types.items())
        yield from _wrapped(kind, said)


def _models(report: Reported) -> Iterator[str]:
    if report.by_model:
        yield ""
    for name, used in report.by_model.items():
        said = f"{count(used.requests, 'request')}, {used.failed:,} failed"
        said += f", {used.input_tokens:,} tokens in, {used.output_tokens:,} out"
        said += "" if used.cost_usd is None else f", {_dollars(used.cost_usd)}"
        yield from _wrapped("model", f"{clean(name, 60)}: {said}")


def _steps(report: Reported) -> Iterator[str]:
    """Where the time of a row goes inside the chain."""
    whole_s = sum(step.seconds for step in report.steps)
    if whole_s > 0 and len(report.steps) > 1:
        parts = [f"{clean(step.name, 60)} {percent(step.seconds / whole_s)}" for step in report.steps]
        yield from _wrapped("steps", ", ".join(parts[:STEPS]))


def _top(label: str, rows: Sequence[TopRow], shown: Callable[[float], str]) -> Iterator[str]:
    if rows:
        names = (f"row {row.index + 1}{f' ({clean(row.id, 30)})' if row.id else ''}" for row in rows[:_SHOWN])
        said = (f"{name} {shown(row.value)}" for name, row in zip(names, rows, strict=False))
        yield from _wrapped(label, ", ".join(said))


def _dollars(dollars: float) -> str:
    return money(round(dollars * PICO))


def _wrapped(label: str, said: str) -> list[str]:
    return textwrap.wrap(said, WIDTH, initial_indent=label.ljust(_LABEL), subsequent_indent=" " * _LABEL)
