"""Small readers that the adapters share. Total functions: what makes no sense is None."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def without(body: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The body without some of its fields."""
    return {name: value for name, value in body.items() if name not in names}


def stamp(value: object) -> float | None:
    """Unix seconds, from a number or an RFC 3339 text."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    try:
        return datetime.fromisoformat(value).timestamp() if isinstance(value, str) else None
    except ValueError:
        return None


def number(value: object) -> int:
    """A count, which Google writes as a text; 0 where there is none."""
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def text(value: object) -> str | None:
    """A text that is not empty."""
    return value if isinstance(value, str) and value else None


def texts(*values: object) -> tuple[str, ...]:
    """Those that are texts, in their order."""
    return tuple(found for value in values if (found := text(value)))
