"""The text of what a chain gave, for whoever shows or counts it."""

from __future__ import annotations

from typing import Any


def text_of(output: Any) -> str:
    """Return a string itself, the text of a message or of its content blocks, or `str` of any other output."""
    content = getattr(output, "content", output)
    if isinstance(content, list):
        return "".join(map(_text_of_block, content))
    return content if isinstance(content, str) else "" if content is None else str(content)


def _text_of_block(block: Any) -> str:
    """Return a block's text; a block that is not text (tool call, reasoning, image) has none."""
    if isinstance(block, dict):
        text = block.get("text") if block.get("type") in ("text", None) else None
        return text if isinstance(text, str) else ""
    return block if isinstance(block, str) else ""
