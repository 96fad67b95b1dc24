"""Converts an outcome to a line of JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from cottonpalm.stores.codec.as_json import dumped

if TYPE_CHECKING:
    from cottonpalm.types import Outcome


ERROR: Final = ("kind", "type", "message", "retryable")  # its fields in a line


def line_of(outcome: Outcome) -> bytes:
    """Return one line with its line break. It always has all the documented fields."""
    error, usage = outcome.error, outcome.usage
    fields = {
        "index": outcome.index,
        "id": outcome.id,
        "status": outcome.status,
        "input": outcome.input,
        "output": outcome.output,
        "error": None if error is None else {name: getattr(error, name) for name in ERROR},
        "attempts": outcome.attempts,
        "usage": None if usage is None else asdict(usage),
        "cost_usd": outcome.cost_usd,
        "cost_source": outcome.cost_source,
        "latency_s": round(outcome.latency_s, 4),
        "cached": outcome.cached,
        "lane": outcome.lane,
        "model": outcome.model,
    }
    return dumped(fields) + b"\n"
