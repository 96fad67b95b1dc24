"""The facts of a run, as the JSON text that its row holds: names of columns may be among them, and be no UTF-8."""

from __future__ import annotations

import json
from typing import Any

import orjson


def read(text: str) -> dict[str, Any]:
    """Return the facts that `merged` has written."""
    try:
        return orjson.loads(text)  # type: ignore[no-any-return]
    except orjson.JSONDecodeError:  # half a pair of surrogates: orjson takes none
        return json.loads(text)  # type: ignore[no-any-return]


def merged(text: str, values: dict[str, Any]) -> str:
    """Return the facts with these values in the place of those of the same name."""
    facts = read(text) | values
    try:
        return orjson.dumps(facts).decode()
    except TypeError:
        return json.dumps(facts, separators=(",", ":"))
