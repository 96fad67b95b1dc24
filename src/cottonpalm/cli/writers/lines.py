"""Converts an outcome to a line of JSON, and a value of any kind to plain JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import orjson
from langchain_core.documents import Document
from langchain_core.messages import BaseMessage
from pydantic import BaseModel

if TYPE_CHECKING:
    from cottonpalm.types import Outcome


def line_of(outcome: Outcome) -> bytes:
    """Return one line with its line break. It always has all the documented fields."""
    error, usage = outcome.error, outcome.usage
    fields = {
        "index": outcome.index,
        "id": outcome.id,
        "status": outcome.status,
        "input": outcome.input,
        "output": outcome.output,
        "error": None if error is None else asdict(error),
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


def dumped(value: Any) -> bytes:
    """Return compact JSON of any value that the store can keep."""
    try:
        return orjson.dumps(value, default=plain, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # integers beyond 64 bits, lone surrogates: a slower way, but exact
        return json.dumps(value, default=plain).encode()


def text_of(value: Any) -> str:
    """Return a value as text: JSON, but without quotes round what is a JSON string (a date, a decimal, a message)."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    found = dumped(value).decode()
    return json.loads(found) if found.startswith('"') else found


def plain(value: Any) -> Any:
    """Return the JSON form of a value that JSON does not have. A message is its text, or an object with tool calls."""
    for kind, form in FORMS:
        if isinstance(value, kind):
            return form(value)
    return value.isoformat() if hasattr(value, "isoformat") else repr(value)


def _message(message: BaseMessage) -> Any:
    calls = getattr(message, "tool_calls", None)
    text = str(message.text)
    if not calls:
        return text
    return {
        "content": text,
        "tool_calls": [{"name": c["name"], "args": c["args"], "id": c["id"]} for c in calls],
    }


FORMS: Final[list[tuple[Any, Callable[[Any], Any]]]] = [
    (BaseMessage, _message),
    (BaseModel, lambda model: model.model_dump(mode="json")),
    (Document, lambda document: {"page_content": document.page_content, "metadata": document.metadata}),
    (set | frozenset, lambda members: sorted(members, key=repr)),
    (tuple, list),
    (bytes, lambda data: base64.b64encode(data).decode()),
    (Decimal, str),
    (Enum, lambda member: member.value),
    (Mapping, dict),
]
