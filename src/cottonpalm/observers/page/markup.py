"""HTML and SVG as text that is safe by the way it is made: what is not `Markup` is escaped."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING, Final, TypeAlias

from cottonpalm.observers.words.formatting import clean

if TYPE_CHECKING:
    from collections.abc import Iterable

NBSP: Final = "\u00a0"
_QUANTITY: Final = re.compile(
    r"(?<=\d) (?=(?:ms|s|min|h|d|k|M|G)\b|%)|(?<=\d (?:h|d)) (?=\d)|(?<=\d min) (?=\d)"
)
_VOID: Final = frozenset({"br", "meta", "line", "rect", "path", "col", "input", "link"})
_HTML: Final = frozenset({"br", "meta", "col", "input", "link"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Part: TypeAlias = "Markup | str | None"
Value: TypeAlias = "str | float | bool | None"


def tag(name: str, *parts: Part, **attributes: Value) -> Markup:
    """`tag("td", "5 < 6", class_="num")`. None and False leave an attribute out; `_` becomes `-`."""
    head = "".join(map(_attribute, attributes.items()))
    if name in _VOID:
        return Markup(f"<{name}{head}>" if name in _HTML else f"<{name}{head}/>")
    return Markup(f"<{name}{head}>{join(parts)}</{name}>")


def _attribute(pair: tuple[str, Value]) -> str:
    name, value = pair
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("__", ":").replace("_", "-")
    if value is True:
        return f" {name}"
    return f' {name}="{escape(f"{value:.6g}" if isinstance(value, float) else str(value))}"'


def join(parts: Iterable[Part]) -> Markup:
    """All of them, side by side."""
    return Markup("".join(part if isinstance(part, Markup) else escape(part) for part in parts if part))


def kept(text: str) -> str:
    """A quantity that is not broken over lines: its spaces do not break, and a minus is one."""
    return text.replace(" %", "\u202f%").replace(" ", NBSP).replace("-", "\u2212")


def sentence(text: str) -> str:
    """Words around quantities, which keep together."""
    return _QUANTITY.sub(NBSP, text).replace(f"{NBSP}%", "\u202f%")


def foreign(text: str, most: int = 200, *, name: str = "bdi", class_: str | None = None) -> Markup:
    """Text of a row or a provider: one line, cut, in its own direction, unable to hide or to reorder anything."""
    return tag(name, clean(text, most, joined=True), dir="auto", class_=class_)


def words(text: str) -> Markup:
    """A sentence of ours, with what stands in backticks shown as what can be typed."""
    parts = sentence(text).split("`")
    return join(tag("code", part) if at % 2 else part for at, part in enumerate(parts))
