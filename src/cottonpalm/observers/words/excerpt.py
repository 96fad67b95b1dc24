"""What a row was about, in a few words."""

from __future__ import annotations

from typing import Any, Final

LONGEST: Final = 400  # characters; whoever shows it cuts it further


def excerpt(value: Any, id_: str | None) -> str:
    """A row's longest text; its id where it has none."""
    return (_text(value) or id_ or "")[:LONGEST]


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, dict):
        return max(map(_text, value.values()), key=len, default="")
    if isinstance(value, list | tuple):  # messages: the last one asks
        return next(filter(None, map(_text, reversed(value))), "")
    content = getattr(value, "content", None)
    return _text(content) if content is not None else str(value)
