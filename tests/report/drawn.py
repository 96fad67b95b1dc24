"""Reads a page as eyes do: what a plot shows is found by the marks of its axes, what a table shows by its words."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VOID = {"meta", "br", "col", "line", "rect", "path"}
DASHES = str.maketrans({"\u00a0": " ", "\u202f": " ", "\u2009": "", "\u2212": "-"})


@dataclass
class Node:
    """An element."""

    tag: str
    attrs: dict[str, str]
    children: list[Node | str] = field(default_factory=list)

    def all(self, tag: str, class_: str = "") -> list[Node]:
        """Those below it, in order, whose classes include all of `class_`."""
        return [
            node
            for node in self.below()
            if node.tag == tag and set(class_.split()) <= set(node.attrs.get("class", "").split())
        ]

    def below(self) -> Iterator[Node]:
        for child in self.children:
            if isinstance(child, Node):
                yield child
                yield from child.below()

    @property
    def said(self) -> str:
        """All its words."""
        parts = [child if isinstance(child, str) else child.said for child in self.children]
        return " ".join(" ".join(parts).split()).translate(DASHES)


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open = [Node("page", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Node(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


class Page:
    """A page and its sections by their heading."""

    def __init__(self, text: str) -> None:
        builder = _Builder()
        builder.feed(text)
        builder.close()
        [self.root] = builder.open

    def section(self, title: str) -> Node:
        [found] = [
            each for each in self.root.all("section") if (heads := each.all("h2")) and heads[0].said == title
        ]
        return found

    def plot(self, begins: str) -> Node:
        """By the beginning of its sentence."""
        [found] = [svg for svg in self.root.all("svg") if svg.attrs.get("aria-label", "").startswith(begins)]
        return found


def share(percent: str) -> float:
    """`12.5%` as 0.125."""
    return float(percent.removesuffix("%")) / 100


def number(said: str) -> float:
    """`$1,234.5`, `12`, `87 %` as a number; a percentage as a share."""
    value = float(re.sub(r"[^0-9.\-]", "", said.split(" ", maxsplit=1)[0] if "%" not in said else said))
    return value / 100 if "%" in said else value


def seconds(said: str) -> float:
    """`10 ms`, `0.3`, `1 s`."""
    return number(said) / (1000 if said.endswith(" ms") else 1)


def scale(plot: Node, height: int) -> Callable[[float], float]:
    """What a height in pixels means, by the marks at the side: each stands 12 px below its value."""
    marks = [(number(text.said), float(text.attrs["y"]) - 12) for text in plot.all("text", "tick y")]
    value, y = marks[-1]
    for mark, at in marks:
        assert abs(mark / value - (height - at) / (height - y)) < 0.03, "the marks are one scale"
    return lambda at: (height - at) * value / (height - y)


def line(plot: Node, class_: str, height: int) -> list[tuple[float, float]]:
    """The points of a line, as shares of the width and values; a step line has both ends of each step."""
    [path] = [each for each in plot.all("path", class_) if "area" not in each.attrs["class"]]
    value = scale(plot, height)
    points: list[tuple[float, float]] = []
    for what, said in re.findall(r"([MLHV])([-0-9. ]+)", path.attrs["d"]):
        numbers = [float(each) for each in said.split()]
        if what in "ML":
            points.append((numbers[0] / 1000, value(numbers[1])))
        elif what == "H":
            points.append((numbers[0] / 1000, points[-1][1]))
        else:
            points.append((points[-1][0], value(numbers[0])))
    return points


def along(svg: Node, scale_of: Callable[[str], float]) -> Callable[[float], float]:
    """What a share of the width means, by two marks below a plot."""
    marks = [
        (share(text.attrs["x"]), scale_of(text.said))
        for text in svg.all("text")
        if text.attrs["x"] != "100%" and text.said != "less"
    ]
    (x0, v0), (x1, v1) = marks[0], marks[-1]
    return lambda x: v0 + (x - x0) * (v1 - v0) / (x1 - x0)


def rows_of(table: Node) -> list[list[str]]:
    """Its cells' words, body and foot."""
    return [[cell.said for cell in row.all("td")] for row in table.all("tr") if row.all("td")]


def widths_of(table: Node) -> list[float]:
    """Its bars, as shares of their room."""
    return [
        share(rect.attrs["width"] if rect.attrs["width"] != "0" else "0%")
        for rect in table.all("rect", "share")
    ]


def falling(values: list[Any]) -> bool:
    return all(one >= other for one, other in pairwise(values))
