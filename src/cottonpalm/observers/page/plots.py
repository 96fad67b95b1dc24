"""Plots as SVG that stretches to any width without stretching its text. Colours are the stylesheet's.

Each is an outer `<svg>` without a viewBox, whose texts and bars stand at percentages; paths are in an inner one that is
stretched, with lines that keep their width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cottonpalm.observers.page.markup import Markup, join, kept, tag
from cottonpalm.observers.words.numbers import Tick, linear

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cottonpalm.observers.page.markup import Part

X: Final = 1000.0  # units across, of the inner svg
LETTER: Final = 7.0  # pixels of one, in a wide font
IN_WORDS: Final = 6.4  # the same of small letters, on average
GAP: Final = 8.0  # pixels between two marks
ROOMS: Final = (700, 520, 300, 180, 100)  # pixels across, as the stylesheet tells plots apart; see `apart`


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


def plot(height: int, label: str, *parts: Part, class_: str = "plot") -> Markup:
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
    """
    marks = linear(top) if ticks is None else ticks
    scale = (height - pad) / top if top > 0 else 0.0
    paths = [_path(line, height, scale) for line in lines]
    parts: list[Part] = [
        *(_band(span, height) for span, _ in bands),
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
    return plot(height, label, *parts, *(_band_name(span, name) for span, name in bands), *over)


def _grid(y: float) -> Markup:
    y = round(y) + 0.5
    return tag("line", class_="grid", x1="0", x2="100%", y1=y, y2=y)


def _band(span: Span, height: int) -> Markup:
    width = percent_of(max(0.004, span.end - span.start))
    return tag("rect", class_="band", x=percent_of(span.start), width=width, y="0", height=height)


def _band_name(span: Span, name: str) -> Markup | None:
    """Its name at its top, in as few lines as it has room for, from the width on that has it."""
    width = span.end - span.start
    found = []
    for lines in ([name], name.split(" ", 1)):
        needed = IN_WORDS * max(map(len, lines))
        if name and (rooms := [room for room in ROOMS if width * room >= needed]):
            found.append((rooms[-1], len(lines), lines))
    if not found:
        return None
    room, _, lines = min(found)
    class_ = "tick soft middle" + ("" if room == ROOMS[-1] else f" from-{room}")
    middle = percent_of(span.start + width / 2)
    return join(text(middle, 14.0 * n, line, class_) for n, line in enumerate(lines, 1))


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


class _Label(NamedTuple):
    """Words at a share of the width, and how they stand there: from it, around it, or up to it."""

    share: float
    letters: int
    before: float

    def box(self, width: float) -> tuple[float, float]:
        """From where to where it goes, in pixels."""
        own = LETTER * self.letters
        left = self.share * width - own * self.before
        return left, left + own + GAP


def label(share: float, said: str, place: str = "middle") -> _Label:
    """What `apart` asks for. `place`: "", "middle" or "end"."""
    return _Label(share, len(said), {"": 0.0, "middle": 0.5, "end": 1.0}[place])


def apart(labels: Sequence[_Label], taken: Sequence[_Label] = ()) -> list[str | None]:
    """The class of each label, so that none lies over another in any width; None: it is left out.

    Args:
        labels: those that matter most first.
        taken: those that stand there in any case.
    """
    left, found = set(range(len(labels))), dict[int, str]()
    for wider, room in zip((None, *ROOMS), ROOMS, strict=False):
        boxes = [each.box(room) for each in taken]
        for number in sorted(left):
            start, end = labels[number].box(room)
            if any(start < other_end and end > other_start for other_start, other_end in boxes):
                left.discard(number)
                found[number] = "" if wider is None else f" from-{wider}"
            else:
                boxes.append((start, end))
    return [None if found.get(number) == "" else found.get(number, "") for number in range(len(labels))]


def axis(ticks: Sequence[Tick], end: float, last: str | None, *, zero: float = 0.0) -> Markup:
    """The marks below a plot, as many as there is room for; the last one, and those with a unit, go before others."""
    width = end - zero
    parts: list[Part] = []
    if last is not None:
        parts.append(text("100%", 14, last, "tick end"))
    marks = [(min(1.0, (mark.value - zero) / width if width else 0.0), mark.label) for mark in ticks]
    marks.sort(key=lambda mark: not any(map(str.isalpha, mark[1])))
    places = ["" if share < 0.03 else "end" if share > 0.97 else "middle" for share, _ in marks]
    labels = [label(share, said, place) for (share, said), place in zip(marks, places, strict=True)]
    classes = apart(labels, [] if last is None else [label(1.0, last, "end")])
    for (share, said), place, class_ in zip(marks, places, classes, strict=True):
        if class_ is not None:
            parts.append(text(percent_of(share), 14, kept(said), f"tick {place}".strip() + class_))
    drawn = tag("svg", *parts, class_="axis-x", width="100%", height=20, aria_hidden="true")
    return tag("div", drawn, class_="axis-box")


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
