"""The text of what chains put out: strings, messages, content blocks."""

from __future__ import annotations

from typing import Any


def text_of(output: Any) -> str:
    """A string itself, the text of a message or of its content blocks; of anything else what `str` makes of it."""
    content = getattr(output, "content", output)
    if isinstance(content, list):
        return "".join(map(_text_of_block, content))
    return content if isinstance(content, str) else "" if content is None else str(content)


def _text_of_block(block: Any) -> str:
    """Blocks that are no text (tool calls, reasoning, images) have none."""
    if isinstance(block, dict):
        text = block.get("text") if block.get("type") in ("text", None) else None
        return text if isinstance(text, str) else ""
    return block if isinstance(block, str) else ""
