"""How long things took: a table of histograms over one logarithmic axis, and what the rows waited for."""

from __future__ import annotations

from math import log10
from typing import TYPE_CHECKING, Final

from cottonpalm.observers.page.markup import Markup, join, kept, tag
from cottonpalm.observers.page.parts import Column, section, table, unfold
from cottonpalm.observers.page.plots import apart, axis, label, percent_of, plot, text
from cottonpalm.observers.words.formatting import duration
from cottonpalm.observers.words.numbers import Tick, brief, logarithmic, two

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cottonpalm.observers.measures.reported import Reported, Spread
    from cottonpalm.observers.page.markup import Part

HEIGHT: Final = 46
FEW: Final = 20  # below so many values each is a dot, and there are no percentiles
STEP: Final = 0.05  # decades a bar
DECADES: Final = 5  # what is quicker by so many is at the edge
GAP: Final = 6 * STEP  # between those and the others
QUANTILES: Final = ("p50", "p90", "p99", "max")
NO_TIME: Final = 1e-6  # seconds: what took less took none
_NAMES: Final = {
    "first": ("First token", "of a streamed answer"),
    "permit": ("In line", "for a permit under the limit"),
    "queue": ("Not started", "read, and waiting to start"),
    "pause": ("Pause", "after a rejection"),
    "backoff": ("Backoff", "before the next try"),
    "store": ("Disk", "until an outcome was durable"),
}


def spreads(report: Reported) -> dict[tuple[str, str], Spread]:
    """All that has any values worth a line, rows first."""
    found = {("A row", "from its start to its answer"): report.row_latency_s}
    if "first" in report.waits_s:
        found[_NAMES["first"]] = report.waits_s["first"]
    found["A request", "sent to the end of its answer"] = report.request_latency_s
    for name, spread in report.waits_s.items():
        if name in _NAMES and name != "first" and spread.total >= 0.01 * report.row_latency_s.total:
            found[_NAMES[name]] = spread
    return {name: spread for name, spread in found.items() if spread.count}


def latency(report: Reported) -> Markup | None:
    """The section; None where nothing was timed."""
    found = spreads(report)
    if not found:
        return None
    low, high = _domain(list(found.values()))
    many = any(spread.count >= FEW for spread in found.values())
    head = tag("div", _heads(report.row_latency_s, low, high), class_="plot-cell")
    rows = [tag("div", tag("div", class_="name"), head, _columns(QUANTILES, many=many), class_="spread head")]
    rows += [
        _row(name, spread, low, high, many=many, first=n == 0)
        for n, (name, spread) in enumerate(found.items())
    ]
    ticks = [tick._replace(value=log10(tick.value)) for tick in logarithmic(10**low, 10**high)]
    if any(upper < 10**low for spread in found.values() for upper, _ in spread.bars):
        ticks.insert(0, Tick(low, "less"))
    rows.append(
        tag(
            "div",
            tag("div", class_="name"),
            tag("div", axis(ticks, high, None, zero=low), class_="plot-cell"),
            class_="spread foot",
        )
    )
    marks = "the three ticks are p50, p90 and p99" if many else "each dot is one"
    note = f"Seconds on a logarithmic scale; {marks}."
    return section("How long things took", note, *rows, unfold(_as_table(found)))


def _domain(all_of: list[Spread]) -> tuple[float, float]:
    """The powers of ten between which all bars lie, with an edge."""
    uppers = [upper for spread in all_of for upper, _ in spread.bars if upper > 0]
    timed = [log10(upper) for upper in uppers if upper > NO_TIME]
    high = max(timed, default=0.0) + 2 * STEP
    low = max(min(timed, default=-1.0), high - DECADES)
    low -= GAP if min(uppers, default=1.0) < 10 ** (low - STEP) else 2 * STEP
    middle = (low + high) / 2
    return (low, high) if high - low >= 1 else (middle - 0.5, middle + 0.5)


def _at(value: float, low: float, high: float) -> float:
    return 0.0 if value <= 0 else min(1.0, max(0.0, (log10(value) - low) / (high - low)))


def _heads(spread: Spread, low: float, high: float) -> Markup:
    """The names of the three ticks above those of the first row, as far as they do not meet."""
    named = []
    if spread.count >= FEW:
        quantiles = (("p50", spread.p50), ("p99", spread.p99), ("p90", spread.p90))
        named = [(_at(value, low, high), name) for name, value in quantiles]
    classes = apart([label(at, name) for at, name in named])
    parts = [
        text(percent_of(at), 14, name, f"tick middle{class_}")
        for (at, name), class_ in zip(named, classes, strict=True)
        if class_ is not None
    ]
    return tag("svg", *parts, class_="heads", width="100%", height=18, aria_hidden="true")


def _row(
    names: tuple[str, str], spread: Spread, low: float, high: float, *, many: bool, first: bool
) -> Markup:
    title, small = names
    said = f"{title}, {small}: {_sentence(spread)}"
    parts = list(_bars(spread, low, high, "accent" if first else "plain"))
    known = spread.count >= FEW
    quantiles = [brief(value) if known else "" for value in (spread.p50, spread.p90, spread.p99)]
    return tag(
        "div",
        tag("div", tag("b", title), tag("small", small), class_="name"),
        tag("div", plot(HEIGHT, said, *parts), class_="plot-cell"),
        _columns([*quantiles, brief(spread.max)], many=many),
        class_="spread",
    )


def _columns(values: Sequence[str], *, many: bool) -> Markup:
    """The columns beside the plots: three quantiles and the most, or that alone where all have few values."""
    if not many:
        return tag("div", tag("span", values[-1]), class_="four one")
    spans = [tag("span", value) for value in values[:-1]]
    return tag("div", *spans, tag("span", values[-1], class_="max"), class_="four")


def _sentence(spread: Spread) -> str:
    if spread.count < FEW:
        return f"{spread.count} values up to {two(spread.max)} s."
    return (
        f"half took at most {two(spread.p50)} s, nine in ten {two(spread.p90)} s, 99 in a hundred {two(spread.p99)} s,"
        f" the longest {two(spread.max)} s."
    )


def _bars(spread: Spread, low: float, high: float, class_: str) -> Iterator[Part]:
    width = STEP / (high - low)
    floor = HEIGHT - 3
    most = max((count for _, count in spread.bars), default=1)
    gap = min(7.0, (floor - 8) / most)
    for upper, count in spread.bars:
        left = max(0.0, _at(upper, low, high) - width)
        if spread.count < FEW:
            x = percent_of(left + width / 2)
            for nth in range(count):
                yield tag("circle", cx=x, cy=round(floor - 4 - gap * nth, 1), r="3", class_=f"dot {class_}")
            continue
        height = max(0.8, (floor - 4) * count / most)
        yield tag(
            "rect",
            x=percent_of(left),
            width=percent_of(width * 0.9),
            y=round(floor - height, 1),
            height=round(height, 1),
            class_=f"histogram {class_}",
        )
    yield tag("line", x1="0", x2="100%", y1=floor + 0.5, y2=floor + 0.5, class_="base")
    if spread.count >= FEW:
        for value, top in ((spread.p50, 6), (spread.p90, 14), (spread.p99, 22)):
            x = percent_of(_at(value, low, high))
            yield tag("line", x1=x, x2=x, y1=top, y2=floor + 3, class_="quantile")


def _as_table(found: dict[tuple[str, str], Spread]) -> Markup:
    columns = [
        Column("what"),
        *(
            Column(name, number=True)
            for name in ("count", "in all", "mean", "p50", "p90", "p95", "p99", "max")
        ),
    ]
    rows = []
    for (title, small), spread in found.items():
        seconds = (spread.mean, spread.p50, spread.p90, spread.p95, spread.p99, spread.max)
        cells: list[Part] = [join((title, ", ", small)), f"{spread.count:,}", kept(duration(spread.total))]
        rows.append([*cells, *(two(value) for value in seconds)])
    return table(columns, rows)
