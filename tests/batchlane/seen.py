"""What has to be equal of an output that came live and one that came through a batch."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import BaseMessage
from pydantic import BaseModel

OTHERWISE = frozenset(  # equal but for these
    (
        "id",
        "created",
        "created_at",
        "completed_at",
        "headers",
        "service_tier",
        "request_id",
        "system_fingerprint",
    )
)


def seen(value: Any) -> Any:
    """What has to be equal of an output."""
    if isinstance(value, BaseMessage):
        return type(value).__name__, seen(value.model_dump())
    if isinstance(value, BaseModel):
        return type(value).__name__, seen(value.model_dump())
    if isinstance(value, dict):
        return {name: seen(part) for name, part in value.items() if name not in OTHERWISE}
    return [seen(part) for part in value] if isinstance(value, list | tuple) else value
