"""Answers that nobody gave, to see what a chain would ask next. Text only: what asks for more is not made up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cottonpalm.providers.batches.lines import Result

if TYPE_CHECKING:
    from collections.abc import Mapping

TEXT: Final = "An answer that is made up."
_MORE: Final = (
    "tools",
    "functions",
    "response_format",
    "output_config",
    "output_format",
    "text",
    "toolConfig",
)
_USAGE: Final = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}


def made_up(url: str, body: Mapping[str, Any]) -> Result | None:
    """Return an answer to a request of this address and body; None where a text would be none."""
    if any(body.get(name) for name in _MORE):
        return None
    answer = next((shape for end, shape in _SHAPES if url.partition("?")[0].endswith(end)), None)
    return None if answer is None else Result("", 200, {**answer, "model": body.get("model") or "a-model"})


_CHAT: Final[dict[str, Any]] = {
    "id": "made-up",
    "object": "chat.completion",
    "created": 0,
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": TEXT, "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
_RESPONSES: Final[dict[str, Any]] = {
    "id": "resp_made_up",
    "object": "response",
    "created_at": 0,
    "status": "completed",
    "output": [
        {
            "id": "msg_made_up",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": TEXT, "annotations": []}],
        }
    ],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        **_USAGE,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    },
}
_MESSAGE: Final[dict[str, Any]] = {
    "id": "msg_made_up",
    "type": "message",
    "role": "assistant",
    "content": [{"type": "text", "text": TEXT}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
_CANDIDATES: Final[dict[str, Any]] = {
    "candidates": [
        {"content": {"role": "model", "parts": [{"text": TEXT}]}, "finishReason": "STOP", "index": 0}
    ],
    "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2},
}
_SHAPES: Final = (
    ("/chat/completions", _CHAT),
    ("/responses", _RESPONSES),
    ("/messages", _MESSAGE),
    (":generateContent", _CANDIDATES),
)
