"""Cohere's chat format: `/v2/chat`, and the older `/v1/chat`, which has one message and a history."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.providers.answer import (
    COHERE,
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

_STOPS: Final[dict[str, Stop]] = {
    "MAX_TOKENS": "cut",
    "ERROR_LIMIT": "cut",  # at the end of the model's context
    "ERROR_TOXIC": "filtered",
}
_FAILED: Final = frozenset({"ERROR", "TIMEOUT", "USER_CANCEL"})
_BLOCKED: Final = 498  # request or answer holds a word that the account forbids; at others it is a limit
_PER_MONTH: Final = re.compile(r"(?:/|\bper|\ba) ?month\b", re.IGNORECASE)
_NO_MODEL: Final = re.compile(r"\bmodel '[^']*' not found\b")
_ENDS: Final = re.compile(rb'"(?:type|event_type)"\s*:\s*"(?:message-end|stream-end)"')


def kind(complaint: Complaint) -> Kind | None:
    """Say what Cohere means; it has no codes, only statuses and words. None if the status decides."""
    if complaint.status == _BLOCKED:
        return Kind.FAIL_ROW
    if complaint.status == 400 and "too many tokens" in complaint.message.lower():
        return Kind.DEGRADE
    if complaint.status == 404 and _NO_MODEL.search(complaint.message):
        return Kind.STOP_RUN
    if complaint.status == 429 and _PER_MONTH.search(complaint.message):
        return Kind.STOP_RUN  # of a trial key
    return None


class CohereChat:
    """`/v2/chat` and `/v1/chat`."""

    name = "cohere"
    maximum = COHERE

    def is_request(self, body: dict[str, Any]) -> bool:
        """Whether the body has messages, or one, and says whether to stream, as Cohere's SDK does.

        The path alone says little: it may be of a service of the user's own. What connectors find has no bound.
        """
        asks = isinstance(body.get("messages"), list) or isinstance(body.get("message"), str)
        return asks and isinstance(body.get("stream"), bool) and not body.get("connectors")

    def read(self, body: Mapping[str, Any]) -> Answer:
        """Read `message` (v2) or `text` (v1), and the usage beside it."""
        old = "text" in body
        shaped = old or isinstance(body.get("message"), dict)
        answer = _ended(body, sub(body, "meta") if old else sub(body, "usage"))
        answer.complete = answer.complete and shaped
        if answer.text_wanted:
            answer.text = text_of(body.get("text")) or _text(sub(body, "message").get("content"))
        return answer

    def stream(self) -> CohereStream:
        """Return a reader of events."""
        return CohereStream()

    def kind(self, complaint: Complaint) -> Kind | None:
        """Judge by status and words."""
        return kind(complaint)


class CohereStream:
    """Reads events: SSE (v2) or JSON lines (v1). The last one says how the answer ended and what it used."""

    def __init__(self) -> None:
        self._answer = Answer()
        self._kept = KeptLines()

    def feed(self, line: bytes) -> None:
        """Take one line."""
        self._kept.lines.append(line)
        if _ENDS.search(line):
            event = data(line)
            delta, response = sub(event, "delta"), sub(event, "response")
            self._answer = _ended(delta or event, sub(delta, "usage") or sub(response, "meta"))
            self._answer.error = None  # it broke off: the SDK raises no error that is told in a stream

    def answer(self) -> Answer:
        """Return the answer that the events make together."""
        if self._answer.text_wanted:
            self._answer.text = self._kept.text(("delta", "message", "content", "text"), ("text",))
        return self._answer


def _ended(end: Mapping[str, Any], counts: Mapping[str, Any]) -> Answer:
    """Read how an answer ended. One that Cohere broke off is an error under a good status."""
    reason = text_of(end.get("finish_reason"))
    if reason in _FAILED:
        message = text_of(end.get("error")) or f"the answer ended with {reason}"
        return Answer(usage=usage_of(counts), error=Complaint(200, frozenset(), message))
    return Answer(bool(reason), usage_of(counts), stop=_STOPS.get(reason))


def usage_of(counts: Mapping[str, Any]) -> Usage | None:
    """Read the usage: what is billed, where that is told. The model's tokens include a preamble of Cohere's own."""
    if not counts:
        return None
    for name in ("billed_units", "tokens"):
        units = {unit: _whole(value) for unit, value in sub(counts, name).items()}
        if counted(units, "input_tokens", "output_tokens"):
            return Usage(count(units.get("input_tokens")), count(units.get("output_tokens")))
    return Usage()


def _whole(value: object) -> object:
    """Counts are numbers with a point in Cohere's API."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _text(content: object) -> str:
    return "".join(text_of(sub(part).get("text")) for part in content) if isinstance(content, list) else ""
