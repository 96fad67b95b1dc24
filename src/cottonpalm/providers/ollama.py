"""Ollama's own chat format: JSON lines, local models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cottonpalm.providers.answer import (
    OLLAMA,
    Answer,
    Complaint,
    KeptLines,
    Stop,
    count,
    counted,
    data,
    sub,
    text_of,
)
from cottonpalm.types import Kind, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping


class OllamaChat:
    """`/api/chat`."""

    name = "ollama"
    maximum = OLLAMA

    def is_request(self, body: dict[str, Any]) -> bool:
        """Whether the body has a list of messages."""
        return isinstance(body.get("messages"), list)

    def read(self, body: Mapping[str, Any]) -> Answer:
        """Read `message` and the counters beside it."""
        if error := body.get("error"):
            return Answer(error=Complaint(200, frozenset(), text_of(error)))
        message, model = sub(body, "message"), text_of(body.get("model")) or None
        usage = None
        if "eval_count" in body or "prompt_eval_count" in body:
            sound = counted(body, "prompt_eval_count", "eval_count")
            into, out = count(body.get("prompt_eval_count")), count(body.get("eval_count"))
            usage = Usage(into, out) if sound else Usage()
        stop: Stop | None = "cut" if body.get("done_reason") == "length" else None
        complete = bool(message) and body.get("done") is not False
        answer = Answer(complete, usage, model, stop)
        if answer.text_wanted:
            answer.text = text_of(message.get("content"))
        return answer

    def stream(self) -> OllamaStream:
        """Return a reader of JSON lines."""
        return OllamaStream(self, "message", "content")

    def kind(self, complaint: Complaint) -> Kind | None:  # noqa: ARG002 - the status says all
        """Return None, since the status decides."""
        return None


class OllamaText(OllamaChat):
    """`/api/generate`: text in, text out."""

    def is_request(self, body: dict[str, Any]) -> bool:
        """Whether the body has a prompt."""
        return isinstance(body.get("prompt"), str)

    def read(self, body: Mapping[str, Any]) -> Answer:
        """Read `response`, as if it were a message."""
        if "response" not in body:
            return super().read(body)
        return super().read({**body, "message": {"content": text_of(body.get("response"))}})

    def stream(self) -> OllamaStream:
        """Return a reader of JSON lines whose text is beside the counters."""
        return OllamaStream(self, "response")


class OllamaStream:
    """Reads JSON lines. The last line holds the counters."""

    def __init__(self, family: OllamaChat, *text: str) -> None:
        self._answer = Answer()
        self._kept = KeptLines()
        self._family, self._text = family, text

    def feed(self, line: bytes) -> None:
        """Take one line."""
        self._kept.lines.append(line)
        if b'"done":true' in line.replace(b" ", b"") or line.startswith(b'{"error"'):
            self._answer = self._family.read(data(line))

    def answer(self) -> Answer:
        """Return the answer, from what the last line said."""
        if self._answer.text_wanted:
            self._answer.text = self._kept.text(self._text)
        return self._answer
