"""Rate, requests in flight, and what bound, on one axis of time."""

from __future__ import annotations

from bisect import bisect_right
from operator import itemgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from cottonpalm.observers.measures.rates import rates, widths, window_s
from cottonpalm.observers.page.markup import Markup, join, kept, tag
from cottonpalm.observers.page.parts import Column, section, table, unfold
from cottonpalm.observers.page.plots import Line, Span, axis, chart, lane, percent_of, text
from cottonpalm.observers.words.formatting import binds, count, duration
from cottonpalm.observers.words.numbers import per_second, percent, times

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cottonpalm.observers.measures.reported import Moment, Reported
    from cottonpalm.observers.page.markup import Part

RATE: Final = 112
FLIGHT: Final = 96
ASIDE: Final = 0.08  # of the width: how far the name of a line reaches to each side
NOTHING: Final = "\u2013"
LEAST: Final = 0.005  # of the run: what bound for less has no lane
LOOKS: Final = 3  # fewer make no line
NAME: Final = 16  # pixels that the name of a line takes above it
FAMILIES: Final = {
    "limits": "the provider's limits",
    "fails": "the provider fails",
    "yours": "your own settings",
    "machine": "this machine",
    "nobody": "no one",
}
_FAMILY: Final = {
    **dict.fromkeys(("concurrency", "requests", "tokens", "pace"), "limits"),
    **dict.fromkeys(("pause", "down", "probe"), "fails"),
    **dict.fromkeys(("own requests", "own tokens", "maximum", "cap", "budget", "held", "batch"), "yours"),
    **dict.fromkeys(("cpu", "reader", "store", "source"), "machine"),
    "tail": "nobody",
}
_NAMES: Final = {"concurrency": "Limit in flight", "pause": "Pause", "down": "Provider down"}


class Seen(NamedTuple):
    """One moment, where it lies on the axis, and the rate of rows round it."""

    moment: Moment
    start: float
    end: float
    width_s: float
    rows_per_s: float

    @property
    def middle(self) -> float:
        """Where its value is drawn."""
        return (self.start + self.end) / 2


def family(state: str, report: Reported) -> str:
    """Whose doing it is. Where no request was seen, it is no provider's."""
    if _FAMILY.get(state) == "limits" and not report.by_model:
        return "nobody"
    return _FAMILY.get(state, "nobody")


def name_of(state: str, *, seen: bool = True) -> str:
    """What bound, as the name of a lane; `seen`: there were requests whose limit it could be."""
    said = (_NAMES.get(state) if seen else "") or binds(state, 0.0, seen=seen) or state  # type: ignore[arg-type]  # also of a newer version
    return said[:1].upper() + said[1:]


def seen(report: Reported) -> list[Seen]:
    """The moments with their places."""
    end_s = max(report.wall_s, 1e-9)
    return [
        Seen(moment, moment.at_s / end_s, min(1.0, (moment.at_s + width_s) / end_s), width_s, rate)
        for moment, width_s, rate in zip(report.over_time, widths(report), rates(report), strict=True)
    ]


def lanes(report: Reported) -> list[tuple[str, float]]:
    """What bound for long enough to be shown, the longest first."""
    found = [
        (state, seconds)
        for state, seconds in report.bound_s.items()
        if report.wall_s and seconds / report.wall_s >= LEAST
    ]
    return sorted(found, key=lambda pair: (-pair[1], pair[0]))


def spans(moments: Sequence[Seen], state: str) -> list[Span]:
    """When it bound; neighbours are one."""
    shares = (
        (each, min(1.0, each.moment.bound_s.get(state, 0.0) / each.width_s if each.width_s else 0))
        for each in moments
    )
    return _merged(
        Span(each.start, each.start + (each.end - each.start) * share) for each, share in shares if share > 0
    )


def over_time(report: Reported) -> Markup | None:
    """The section; None for a run too short to have a course."""
    moments = seen(report)
    if len(moments) < 2:
        return None
    note = "Rows done, requests in flight, and what kept the run from being faster."
    shown = lanes(report)
    body = tag(
        "div",
        _rate(report, moments),
        _flight(report, moments),
        *_lanes(report, moments, shown),
        _axis(report),
        class_="time",
        tabindex="0",
        role="group",
        aria_label="Over time: the arrow keys move along the time axis",
        data_starts=" ".join(f"{each.start:.4f}" for each in moments),
        data_times="|".join(kept(duration(each.moment.at_s)) for each in moments),
    )
    legend = _legend([family(state, report) for state, _ in shown])
    return section(
        "Over time", note, body, legend, unfold(_as_table(report, moments)), aside=_grain(report, moments)
    )


def _grain(report: Reported, moments: Sequence[Seen]) -> Markup:
    """How fine the plots are."""
    width_s, over_s = moments[0].width_s, window_s(report)
    said = f"each point is {kept(duration(width_s))}"
    if over_s is not None and over_s > 1.1 * width_s:
        said += f", a rate is over {kept(duration(over_s))}"
    return tag("small", said, class_="aside")


def _row(name: str, small: str, drawn: Part, values: Part, data: str) -> Markup:
    return tag(
        "div",
        tag("div", tag("b", name), tag("small", small) if small else None, class_="name"),
        tag("div", drawn, class_="plot-cell"),
        tag("div", values, class_="values", data_at=data),
        class_="plot-row",
    )


def _value(number: str, unit: str) -> Markup:
    return tag("span", tag("b", number), f" {unit}")


def _whole(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.0f}" if value >= 9.95 or not value % 1 else f"{value:.1f}"


def _failing(moments: Sequence[Seen]) -> list[tuple[Span, str]]:
    """When the provider failed for most of a moment, as bands through the plots."""
    found: list[tuple[Span, str]] = []
    for state in ("down", "pause", "probe"):
        some = [
            Span(each.start, each.end)
            for each in moments
            if each.width_s and each.moment.bound_s.get(state, 0) / each.width_s >= 0.5
        ]
        found += [(span, name_of(state).lower()) for span in _merged(some)]
    return found


def _merged(pieces: Iterable[Span]) -> list[Span]:
    found: list[Span] = []
    for each in pieces:
        if found and each.start - found[-1].end < 0.002:
            found[-1] = Span(found[-1].start, each.end)
        else:
            found.append(each)
    return found


def _rate(report: Reported, moments: Sequence[Seen]) -> Markup:
    mean, most = report.rows_per_s, max(each.rows_per_s for each in moments)
    data = "|".join(per_second(each.rows_per_s) for each in moments)
    if window_s(report) is None:
        return _row("Rows done", "a second", _few("rows"), _value(per_second(mean), "mean"), data)
    label = (
        f"Rows done per second over {duration(report.wall_s)}: {per_second(mean)} on average,"
        f" {per_second(most)} at most."
    )
    line = Line(to_edges([(each.middle, each.rows_per_s) for each in moments]), "line", area=True)
    drawn = chart(RATE, label, [line], most, bands=_failing(moments))
    values = join((_value(per_second(mean), "mean"), _value(per_second(most), "most")))
    return _row("Rows done", "a second", drawn, values, data)


def _few(what: str) -> Markup:
    """In place of a line that would be drawn of next to nothing."""
    return tag("p", f"Too few {what} for a line.", class_="note")


def to_edges(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Drawn out to both edges."""
    return [(0.0, points[0][1]), *points, (1.0, points[-1][1])] if points else []


def _in_flight(report: Reported) -> float:
    """The mean, from how long each request took; 0 where they are not all known."""
    return report.request_latency_s.total / report.wall_s if report.over and report.wall_s else 0.0


def _flight(report: Reported, moments: Sequence[Seen]) -> Markup | None:
    flying = [(each.middle, each.moment.in_flight) for each in moments if each.moment.in_flight is not None]
    limits = [(each.start, each.moment.limit) for each in moments if each.moment.limit is not None]
    if not flying:
        return None
    mean = _in_flight(report) or _mean([value for _, value in flying])
    limit = _mean([value for _, value in limits]) if limits else None
    top = max((value for _, value in (*flying, *limits)), default=1.0)
    failed = sum(each.moment.failed_tries for each in moments)
    flights, bounds = to_edges(flying), _bounds(flying, limits)
    lines = [Line(flights, "line", area=True)]
    if limits:
        lines.append(Line(bounds, "limit", step=True))
    label = f"Requests in flight over {duration(report.wall_s)}: {_whole(mean)} on average"
    label += f", of a limit of {_whole(limit)}" if limit is not None else ""
    label += f"; {count(failed, 'try', 'tries')} failed." if failed else "."
    drawn = chart(
        FLIGHT,
        label,
        lines,
        top,
        pad=16,
        bands=[(span, "") for span, _ in _failing(moments)],
        over=_over(moments, flights, bounds, top),
    )
    if len(flying) < LOOKS:
        drawn = _few("looks")
    values: list[Part] = [_value(_whole(mean), "in flight")]
    values += [_value(_whole(limit), "limit")] if limit is not None else []
    values += [_value(f"{failed:,}", "failed try" if failed == 1 else "failed tries")] if failed else []
    now = "|".join(
        " of ".join(
            _whole(value) for value in (each.moment.in_flight, each.moment.limit) if value is not None
        )
        for each in moments
    )
    return _row("In flight", "of the limit", drawn, join(values), data=now)


def _bounds(
    flying: Sequence[tuple[float, float]], limits: list[tuple[float, float]]
) -> list[tuple[float, float]]:
    """The limit's line. Looks that found none come first where workers have not begun: it starts after them."""
    begins_late = bool(limits) and flying[0][0] < limits[0][0]
    return to_edges(limits)[begins_late:]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _over(
    moments: Sequence[Seen],
    flying: Sequence[tuple[float, float]],
    limits: Sequence[tuple[float, float]],
    top: float,
) -> Iterator[Part]:
    """Red ticks where tries failed, and the names of the two lines beside them."""
    scale = (FLIGHT - 16) / top if top else 0.0
    for each in moments:
        if each.moment.failed_tries:
            x = f"{100 * each.middle:.2f}%"
            yield tag("line", class_="failed", x1=x, x2=x, y1=FLIGHT - 9, y2=FLIGHT - 1)
    middle = _free(moments)
    x = percent_of(middle)
    limit, flight = _reach(limits, middle, scale, step=True), _reach(flying, middle, scale, step=False)
    if limit is not None:
        yield text(x, FLIGHT - limit[1] - 4, "limit", "tick middle halo")
    if flight is None:
        return
    low, high = flight
    if high + NAME < FLIGHT and not (
        limit is not None and limit[0] - 2 < high + NAME and high < limit[1] + NAME
    ):
        yield text(x, FLIGHT - high - 4, "in flight", "tick middle halo")
    elif low > 1.5 * NAME:
        yield text(x, FLIGHT - low + NAME, "in flight", "tick soft middle")


def _reach(
    line: Sequence[tuple[float, float]], at: float, scale: float, *, step: bool
) -> tuple[float, float] | None:
    """Between which heights a line goes where its name shall stand."""
    if not line or line[0][0] > at + ASIDE:
        return None
    ends = [_height(line, x, step=step) for x in (at - ASIDE, at + ASIDE)]
    values = [*ends, *(value for x, value in line if abs(x - at) < ASIDE)]
    return scale * min(values), scale * max(values)


def _height(line: Sequence[tuple[float, float]], at: float, *, step: bool) -> float:
    """The value of a line at a share of the width."""
    after = min(len(line) - 1, bisect_right(line, at, key=itemgetter(0)))
    (x0, y0), (x1, y1) = line[max(0, after - 1)], line[after]
    return y0 if step or x1 == x0 else y0 + (y1 - y0) * (at - x0) / (x1 - x0)


def _free(moments: Sequence[Seen]) -> float:
    """Where the names of lines can stand: in the middle, unless the provider failed just then."""
    bands = [span for span, _ in _failing(moments)]
    places = (0.5, 0.3, 0.7, 0.15, 0.85)
    return next((x for x in places if not any(b.start - ASIDE < x < b.end + ASIDE for b in bands)), places[0])


def _lanes(report: Reported, moments: Sequence[Seen], shown: Sequence[tuple[str, float]]) -> Iterator[Markup]:
    if not shown:
        return
    yield tag(
        "div",
        tag("div", tag("b", "What bound"), class_="name"),
        tag("div", class_="plot-cell"),
        tag("div", tag("span", "share"), tag("span", "time"), class_="values two"),
        class_="plot-row lane-head",
    )
    for state, seconds in shown:
        share = percent(min(1.0, seconds / report.wall_s))
        name = name_of(state, seen=bool(report.by_model))
        label = f"{name} bound {share} of the run, {duration(seconds)}."
        values = join((tag("span", kept(share), class_="ink"), tag("span", kept(duration(seconds)))))
        drawn = lane(spans(moments, state), family(state, report), label)
        yield tag(
            "div",
            tag("div", name, class_="name"),
            tag("div", drawn, class_="plot-cell"),
            tag("div", values, class_="values two"),
            class_="plot-row lane-row",
        )


def _axis(report: Reported) -> Markup:
    drawn = axis(times(report.wall_s), report.wall_s, kept(duration(report.wall_s)))
    return tag(
        "div",
        tag("div", class_="name now", aria_live="off"),
        tag("div", drawn, class_="plot-cell"),
        tag("div", class_="values"),
        class_="plot-row axis-row",
    )


def _legend(families: Sequence[str]) -> Markup | None:
    there = [name for name in FAMILIES if name in families]
    if not there:
        return None
    keys = [
        tag(
            "span",
            tag(
                "svg",
                tag("rect", class_=f"lane {name}", x="0.5", y="0.5", width="13", height="9"),
                width="14",
                height="10",
                aria_hidden="true",
            ),
            FAMILIES[name],
        )
        for name in there
    ]
    two = tag("span", "Two things can bind at once.") if len(families) > 1 else None
    return tag("p", *keys, two, class_="legend")


def _as_table(report: Reported, moments: Sequence[Seen]) -> Markup:
    columns = [
        Column("from"),
        *(Column(name, number=True) for name in ("rows/s", "in flight", "limit", "tokens", "failed tries")),
        Column("bound by"),
    ]
    return table(columns, [_line(each, seen=bool(report.by_model)) for each in moments])


def _line(each: Seen, *, seen: bool) -> list[Part]:
    moment = each.moment
    bound = sorted(((seconds, state) for state, seconds in moment.bound_s.items() if state), reverse=True)
    return [
        kept(duration(moment.at_s)),
        per_second(each.rows_per_s),
        _whole(moment.in_flight),
        _whole(moment.limit),
        f"{moment.tokens:,}",
        f"{moment.failed_tries:,}",
        ", ".join(name_of(state, seen=seen) for _, state in bound[:2]),
    ]
