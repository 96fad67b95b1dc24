"""Plots as SVG that stretches to any width without stretching its text. Colours are the stylesheet's.

Each is an outer `<svg>` without a viewBox, whose texts and bars stand at percentages; paths are in an inner one that is
stretched, with lines that keep their width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cottonpalm.observers.numbers import Tick, linear
from cottonpalm.observers.page.markup import Markup, join, kept, tag

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cottonpalm.observers.page.markup import Part

X: Final = 1000.0  # units across, of the inner svg
NEAR: Final = 12.0  # per cent of the width: a mark nearer to the last one is left out


class Span(NamedTuple):
    """From where to where, as shares of the width."""

    start: float
    end: float


class Line(NamedTuple):
    """Values at shares of the width, in order. `step`: each holds until the next."""

    points: Sequence[tuple[float, float]]
    class_: str
    area: bool = False
    step: bool = False


def percent_of(share: float) -> str:
    """`12.5%`."""
    return f"{100 * share:.2f}".rstrip("0").rstrip(".") + "%"


def plot(height: int, label: str, *parts: Part, class_: str = "plot", **more: str) -> Markup:
    """The outer svg. `label` says in a sentence what can be seen."""
    return tag(
        "svg",
        *parts,
        class_=class_,
        width="100%",
        height=height,
        role="img",
        aria_label=label,
        focusable="false",
        **more,
    )


def inner(height: int, *parts: Part) -> Markup:
    """What is stretched to the width: paths in `X` units across."""
    return tag(
        "svg",
        *parts,
        width="100%",
        height=height,
        viewBox=f"0 0 {X:.0f} {height}",
        preserveAspectRatio="none",
    )


def chart(
    height: int,
    label: str,
    lines: Sequence[Line],
    top: float,
    *,
    pad: int = 10,
    ticks: Sequence[Tick] | None = None,
    bands: Sequence[tuple[Span, str]] = (),
    ceiling: tuple[float, str, str] | None = None,
    over: Iterable[Part] = (),
    **more: str,
) -> Markup:
    """Lines over one axis from 0 to `top`.

    Args:
        height: in pixels.
        label: what is to be seen, for those who do not see it.
        lines: drawn in this order.
        top: the value at the upper edge, less `pad` pixels.
        pad: room above.
        ticks: marks of the axis.
        bands: stretches of the width with their name, drawn behind.
        ceiling: a value, its name and its class, drawn across.
        over: what is drawn last.
        **more: attributes of the svg.
    """
    marks = linear(top) if ticks is None else ticks
    scale = (height - pad) / top if top > 0 else 0.0
    paths = [_path(line, height, scale) for line in lines]
    parts: list[Part] = [
        *(_band(span, name, height) for span, name in bands),
        *(_grid(height - mark.value * scale) for mark in marks),
        inner(height, *paths),
        tag("line", class_="axis", x1="0", x2="100%", y1=height - 0.5, y2=height - 0.5),
        *(text("0", height - mark.value * scale + 12, mark.label, "tick y") for mark in marks),
    ]
    if ceiling is not None:
        value, name, class_ = ceiling
        y = height - value * scale
        parts.append(tag("line", class_=class_, x1="0", x2="100%", y1=y, y2=y))
        parts.append(text("100%", y - 5, name, "tick end halo"))
    return plot(
        height, label, *parts, *(_band_name(span, name, height) for span, name in bands), *over, **more
    )


def _grid(y: float) -> Markup:
    y = round(y) + 0.5
    return tag("line", class_="grid", x1="0", x2="100%", y1=y, y2=y)


def _band(span: Span, _name: str, height: int) -> Markup:
    width = percent_of(max(0.004, span.end - span.start))
    return tag("rect", class_="band", x=percent_of(span.start), width=width, y="0", height=height)


def _band_name(span: Span, name: str, height: int) -> Markup | None:
    """Its name within it, in two lines where it is narrow."""
    width = span.end - span.start
    if width < 0.055 or not name:
        return None
    lines, class_ = ([name], "tick middle") if width >= 0.12 else (name.split(" ", 1), "tick middle tight")
    middle, top = percent_of(span.start + width / 2), height / 2 - 7 * len(lines)
    return join(text(middle, top + 14 * n, line, class_) for n, line in enumerate(lines, 1))


def text(x: str, y: float, said: str, class_: str = "tick") -> Markup:
    """A text at a share of the width."""
    return tag("text", said, x=x, y=round(y, 1), class_=class_)


def _path(line: Line, height: int, scale: float) -> Part:
    points = [(X * x, height - y * scale) for x, y in line.points]
    if not points:
        return None
    drawn = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for x, y in points[1:]:
        drawn += f"H{x:.1f}V{y:.1f}" if line.step else f"L{x:.1f} {y:.1f}"
    outline = tag("path", d=drawn, class_=line.class_)
    if not line.area:
        return outline
    under = f"{drawn}L{points[-1][0]:.1f} {height}L{points[0][0]:.1f} {height}Z"
    return join((tag("path", d=under, class_=f"{line.class_} area"), outline))


def axis(
    ticks: Sequence[Tick], end: float, last: str | None, *, zero: float = 0.0, near: float = NEAR
) -> Markup:
    """The marks below a plot; the last one goes before those near to it, on a narrow page also before `close` ones."""
    width = end - zero
    parts: list[Part] = []
    if last is not None:
        parts.append(text("100%", 14, last, "tick end"))
    for number, mark in enumerate(ticks):
        share = (mark.value - zero) / width if width else 0.0
        if last is not None and 100 * share > 100 - near:
            continue
        place = "" if share < 0.03 else " end" if share > 0.97 else " middle"
        odd = " odd" if number and number % 2 == 0 else ""
        close = " close" if last is not None and 100 * share > 100 - 2 * near else ""
        parts.append(text(percent_of(min(1.0, share)), 14, kept(mark.label), f"tick{place}{odd}{close}"))
    return tag("svg", *parts, class_="axis-x", width="100%", height=20, aria_hidden="true")


def lane(spans: Iterable[Span], family: str, label: str) -> Markup:
    """When something held: bars from left to right, told apart by their hatch."""
    bars = [
        tag(
            "rect",
            class_=f"lane {family}",
            x=percent_of(span.start),
            width=percent_of(max(0.003, span.end - span.start)),
            y="4",
            height="10",
        )
        for span in spans
    ]
    return plot(18, label, *bars)


def share_bar(share: float, class_: str = "", mark: float | None = None) -> Markup:
    """A bar beside a number: how much of the most, or of the whole."""
    parts: list[Part] = [tag("rect", class_="track", width="100%", height="4", y="3")] if mark else []
    width = percent_of(min(1.0, max(0.0, share)))
    parts.append(tag("rect", class_=f"share {class_}".strip(), width=width, height="4", y="3"))
    if mark is not None:
        parts.append(
            tag(
                "rect",
                class_="mark",
                x=percent_of(mark),
                width="1.5",
                height="10",
                transform="translate(-1.5)",
            )
        )
    return tag("svg", *parts, class_="bar", width="100%", height="10", aria_hidden="true")


def cell_bar(share: float, class_: str = "") -> Markup:
    """A bar in a cell of a table."""
    width = percent_of(min(1.0, max(0.004, share))) if share > 0 else "0"
    bar = tag("rect", class_=f"share {class_}".strip(), width=width, height="6", y="2")
    return tag("svg", bar, class_="cell-bar", width="100%", height="10", aria_hidden="true")


def hatches() -> Markup:
    """The patterns that lanes are filled with, once a page."""
    slanted = tag("path", d="M-1 1l2 -2M0 6l6 -6M5 7l2 -2", class_="hatch bad")
    upright = tag("path", d="M1.5 0V6M4.5 0V6", class_="hatch ink")
    size: dict[str, str] = {"width": "6", "height": "6", "patternUnits": "userSpaceOnUse"}
    patterns = tag(
        "defs", tag("pattern", slanted, id="slanted", **size), tag("pattern", upright, id="upright", **size)
    )
    return tag("svg", patterns, class_="nowhere", width="0", height="0", aria_hidden="true")
