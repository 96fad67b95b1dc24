"""What a run came to, as numbers and as plain text of at most 80 columns.

A `Report` holds no inputs, outputs or error messages, only counts and row names.
"""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.observers.formatting import clean, count, duration, money, rate
from cottonpalm.types import PICO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cottonpalm.observers.measures import Histogram
    from cottonpalm.types import Usage


@dataclass(frozen=True, slots=True)
class Spread:
    """How values are spread, in seconds; quantiles are within one per cent."""

    count: int = 0
    total: float = 0.0
    mean: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    max: float = 0.0

    @classmethod
    def of(cls, seen: Histogram) -> Spread:
        """What a histogram has counted."""
        p50, p90, p95, p99 = (seen.quantile(share) for share in (0.5, 0.9, 0.95, 0.99))
        return cls(seen.count, seen.total, seen.mean, p50, p90, p95, p99, seen.highest)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many. The rows of this run are ok + failed + skipped; `stored` ones were done before."""

    ok: int = 0
    failed: int = 0
    skipped: int = 0
    stored: int = 0
    cached: int = 0  # of the ok ones: answered without a request, `coalesced` included
    cache_misses: int = 0  # rows that were asked although there is a cache
    coalesced: int = 0  # waited for an equal row in flight and took its answer
    requests: int = 0  # sent and ended
    retries: int = 0  # of requests, and of rows
    restarts: int = 0  # of streams that had shown something
    hedges: int = 0  # copies sent of requests that were late


@dataclass(frozen=True, slots=True)
class ModelUse:
    """What one model (host and name) was asked, used and cost."""

    requests: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """A stretch of the run: rows per second in it, and the mean of what was seen in it; None where nothing was."""

    at_s: float
    rows_per_s: float
    limit: float | None
    in_flight: float | None


@dataclass(frozen=True, slots=True)
class TopRow:
    """A row that stands out: `value` is seconds or dollars."""

    index: int
    id: str | None
    value: float


@dataclass(frozen=True, slots=True)
class Report:
    """Where the time and the money of a run went.

    Attributes:
        counts: how many rows and requests.
        wall_s: from the start to now, or to the end.
        active_s: the same without the time in which the run was held, or waited for its reader or its source.
        rows_per_s: rows of this run over `wall_s`.
        row_latency_s: from a row's start to its answer.
        request_latency_s: from sending a request to the end of its answer.
        waits_s: by what was waited for: `queue` (read, not started), `permit` (in line under the limit), `pause` (a
            wait the provider asked for), `backoff` (before a retry), `call` (the provider), `store` (a group to be
            durable).
        over_time: at most 120 moments.
        errors: failed rows by kind, then by type.
        usage: tokens of all rows.
        cost_usd: what all rows cost, None where that is not known.
        cost_per_row_usd: the same over the rows that are ok or failed.
        by_model: what each model was asked.
        slowest, dearest: at most ten rows each.
        bound_by: one or two sentences on what kept the run from being faster.
        bound_s: seconds of the run by what kept it from being faster, see `cottonpalm.model.Bottleneck`; two things may
            do so at once.
    """

    counts: Counts
    wall_s: float
    active_s: float
    rows_per_s: float
    row_latency_s: Spread
    request_latency_s: Spread
    waits_s: Mapping[str, Spread]
    over_time: tuple[Moment, ...]
    errors: Mapping[str, Mapping[str, int]]
    usage: Usage
    cost_usd: float | None
    cost_per_row_usd: float | None
    by_model: Mapping[str, ModelUse]
    slowest: tuple[TopRow, ...]
    dearest: tuple[TopRow, ...]
    bound_by: tuple[str, ...]
    bound_s: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values that JSON can hold."""
        return asdict(self)

    def text(self) -> str:
        """The same for people, in lines of at most 80 columns."""
        from cottonpalm.observers.report import text_of  # noqa: PLC0415 - it needs this module

        return text_of(self)


WIDTH: Final = 80
_LABEL: Final = 11  # columns of the first one
_BARS: Final = "▁▂▃▄▅▆▇█"
_SPARK: Final = 40
_SHOWN: Final = 3  # of the rows that stand out


def text_of(report: Report) -> str:
    """The whole report; sections without anything in them are left out."""
    lines = [
        *_head(report),
        *_times(report),
        *_trend(report.over_time),
        *_errors(report.errors),
        *_models(report),
    ]
    lines += ["", *_top("slowest", report.slowest, duration), *_top("dearest", report.dearest, _dollars)]
    lines += _wrapped("bound by", " ".join(report.bound_by))
    return "\n".join(line.rstrip()[:WIDTH] for line in lines)


def _head(report: Report) -> Iterator[str]:
    counts = report.counts
    parts = [f"{counts.ok:,} ok", f"{counts.failed:,} failed"]
    more = {"skipped": counts.skipped, "stored before": counts.stored, "restarted": counts.restarts}
    parts += [f"{number:,} {name}" for name, number in more.items() if number]
    yield from _wrapped("rows", ", ".join(parts))
    if counts.cached or counts.cache_misses:
        said = f"{counts.cached:,} answered by the cache, {counts.cache_misses:,} asked"
        yield from _wrapped(
            "cache", said + (f", {counts.coalesced:,} joined a call" if counts.coalesced else "")
        )
    if counts.requests:
        copies = f", {counts.hedges:,} copies of late ones" if counts.hedges else ""
        yield from _wrapped("requests", f"{counts.requests:,}, {counts.retries:,} of them retries{copies}")
    active = "" if report.wall_s - report.active_s < 1 else f", {duration(report.active_s)} of it active"
    yield from _wrapped("time", f"{duration(report.wall_s)}{active}, {rate(report.rows_per_s)}")
    usage = report.usage
    if usage.input_tokens or usage.output_tokens:
        yield from _wrapped("tokens", f"{usage.input_tokens:,} in, {usage.output_tokens:,} out")
    if report.cost_usd is not None and report.cost_per_row_usd is not None:
        yield from _wrapped("cost", f"{_dollars(report.cost_usd)}, {_dollars(report.cost_per_row_usd)} a row")


def _times(report: Report) -> Iterator[str]:
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
    return first.ljust(_LABEL) + "".join(cell.rjust(9) for cell in others)


def _short(seconds: float) -> str:
    if seconds >= 10_000:
        return f"{seconds:,.0f}"
    return f"{seconds:.1f}" if seconds >= 100 else f"{seconds:.3f}"


def _trend(moments: Sequence[Moment]) -> Iterator[str]:
    if len(moments) < 2:
        return
    yield ""
    for name, values in (
        ("rows/s", [moment.rows_per_s for moment in moments]),
        ("in flight", [moment.in_flight for moment in moments]),
        ("limit", [moment.limit for moment in moments]),
    ):
        known = [value for value in values if value is not None]
        if known:
            first, last, most = (_number(value) for value in (known[0], known[-1], max(known)))
            yield f"{name.ljust(_LABEL)}{_sparks(known)}  {first} → {last}, most {most}"


def _sparks(values: Sequence[float]) -> str:
    share = max(1, -(-len(values) // _SPARK))
    merged = [sum(part) / len(part) for n in range(0, len(values), share) if (part := values[n : n + share])]
    top = max(merged) or 1.0
    return "".join(_BARS[min(7, int(value / top * 7.99))] for value in merged)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _errors(errors: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    if errors:
        yield ""
    for kind, types in errors.items():
        said = ", ".join(f"{number:,} {clean(name)}" for name, number in types.items())
        yield from _wrapped(kind, said)


def _models(report: Report) -> Iterator[str]:
    if report.by_model:
        yield ""
    for name, used in report.by_model.items():
        said = f"{count(used.requests, 'request')}, {used.failed:,} failed"
        said += f", {used.input_tokens:,} tokens in, {used.output_tokens:,} out"
        said += "" if used.cost_usd is None else f", {_dollars(used.cost_usd)}"
        yield from _wrapped("model", f"{clean(name, 60)}: {said}")


def _top(label: str, rows: Sequence[TopRow], shown: Callable[[float], str]) -> Iterator[str]:
    if rows:
        names = (f"row {row.index}{f' ({clean(row.id, 30)})' if row.id else ''}" for row in rows[:_SHOWN])
        said = (f"{name} {shown(row.value)}" for name, row in zip(names, rows, strict=False))
        yield from _wrapped(label, ", ".join(said))


def _dollars(dollars: float) -> str:
    return money(round(dollars * PICO))


def _wrapped(label: str, said: str) -> list[str]:
    return textwrap.wrap(said, WIDTH, initial_indent=label.ljust(_LABEL), subsequent_indent=" " * _LABEL)
