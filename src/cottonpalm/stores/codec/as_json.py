"""Converts a value of any kind to plain JSON or text, for people and other programs: it need not come back."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from enum import Enum
from math import isfinite, isnan
from typing import Any, Final

import orjson
from langchain_core.documents import Document
from langchain_core.messages import BaseMessage
from pydantic import BaseModel

from cottonpalm.errors import StoredError


def dumped(value: Any) -> bytes:
    """Return compact JSON of any value that the store can keep."""
    try:
        return orjson.dumps(value, default=plain, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # integers beyond 64 bits, lone surrogates: a slower way, but exact
        return json.dumps(value, default=plain).encode()


def text_of(value: Any) -> str:
    """Return a value as text: JSON, but without quotes round what is a JSON string (a date, a decimal, a message).

    A missing value is empty text, be it None or NaN. JSON has no infinite number either: it is `inf`.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and not isfinite(value):
        return "" if isnan(value) else str(value)
    found = dumped(value).decode()
    return json.loads(found) if found.startswith('"') else found


def plain(value: Any) -> Any:
    """Return the JSON form of a value that JSON does not have. A message is its text, or an object with tool calls."""
    for kind, form in FORMS:
        if isinstance(value, kind):
            return form(value)
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
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
    (Document, lambda document: {"page_content": document.page_content, "metadata": document.metadata}),
    (BaseModel, lambda model: model.model_dump(mode="json")),  # a document is one, too
    (BaseException, lambda exc: f"{(kept := StoredError.of(exc)).type}: {kept}"),
    (set | frozenset, lambda members: sorted(members, key=repr)),
    (tuple, list),
    (bytes, lambda data: base64.b64encode(data).decode()),
    (Decimal, str),
    (timedelta, str),
    (Enum, lambda member: member.value),
    (Mapping, dict),
]
