"""What the tries of a failed row met, one below the other on one axis: when it worked, and when it waited."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cottonpalm.observers.page.markup import Markup, kept, tag
from cottonpalm.observers.page.plots import percent_of
from cottonpalm.observers.words.formatting import clean, duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cottonpalm.types import Try

SEEN_S: Final = 0.05  # a shorter wait is not told
LEAST: Final = 0.004  # of the width: a bar that can be seen


def timeline(tries: Sequence[Try], attempts: int) -> Markup:
    """A line for each try: what it met, a bar on the common axis, and the seconds in words.

    Args:
        tries: in order; not empty.
        attempts: how many there were in all.
    """
    whole_s = max(each.at_s + each.took_s for each in tries) or 1.0
    lines, before_s = [], 0.0
    for each in tries:
        lines.append(_line(each, before_s, whole_s))
        before_s = max(before_s, each.at_s + each.took_s)
    left_out = attempts - len(tries)
    note = f"{left_out:,} more between them are not kept." if left_out > 0 else None
    return tag("div", tag("ol", *lines, class_="tries"), tag("p", note, class_="note") if note else None)


def _line(each: Try, before_s: float, whole_s: float) -> Markup:
    waited_s = each.at_s - before_s
    took = f"took {kept(duration(each.took_s))}"
    said = f"waited {kept(duration(waited_s))}, {took}" if waited_s >= SEEN_S else took
    return tag(
        "li",
        tag("span", clean(each.met, 60) or "answered", class_="mono"),
        _bar(each, before_s, whole_s),
        tag("span", said, class_="said"),
    )


def _bar(each: Try, before_s: float, whole_s: float) -> Markup:
    start = max(0.0, each.at_s) / whole_s
    width = min(1.0 - start, max(LEAST, each.took_s / whole_s))
    waits = before_s / whole_s
    dashes = tag("line", class_="other", x1=percent_of(waits), x2=percent_of(start), y1="6", y2="6")
    colour = "share bad" if each.met else "share plain"
    bar = tag("rect", class_=colour, x=percent_of(start), width=percent_of(width), y="2", height="8")
    return tag("svg", dashes if start > waits else None, bar, width="100%", height="12", aria_hidden="true")
