"""A message's usage in whole tokens: LangChain's class refuses fractions where a message is made anew."""

from __future__ import annotations

from math import ceil, isfinite
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def is_whole(usage: Any) -> bool:
    """Whether no count of a message's usage is a fraction, or there is none at all."""
    return type(usage) is not dict or all(
        is_whole(part) if type(part) is dict else type(part) is not float for part in usage.values()
    )


def in_wholes(usage: Mapping[str, Any]) -> dict[str, Any]:
    """The same usage with fractions of tokens rounded up, and 0 for what is no finite number."""
    return {name: in_wholes(part) if type(part) is dict else _whole(part) for name, part in usage.items()}


def _whole(part: Any) -> Any:
    return part if type(part) is not float else ceil(part) if isfinite(part) else 0
