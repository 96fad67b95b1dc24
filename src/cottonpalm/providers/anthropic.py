"""Anthropic's Messages format, also spoken by Bedrock's `invoke` for Claude."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.providers.answer import (
    MESSAGES,
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
from cottonpalm.providers.openai_codes import USED_UP
from cottonpalm.providers.used_up import is_used_up
from cottonpalm.types import Kind, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

NO_MONEY: Final = frozenset(
    {
        "billing_error",
        "organization_on_hold",
        "contract_spend_limit_reached",
        "enforced_spend_limit_reached",
        "linked_organization_billing_error",
    }
)
BY_CODE: Final[dict[str, Kind]] = {
    "overloaded_error": Kind.THROTTLE,
    "rate_limit_error": Kind.THROTTLE,
    "api_error": Kind.TRANSIENT,
    "timeout_error": Kind.TRANSIENT,
    "request_too_large": Kind.DEGRADE,
    "authentication_error": Kind.STOP_RUN,
    "permission_error": Kind.STOP_RUN,
    "not_found_error": Kind.STOP_RUN,
    "invalid_request_error": Kind.FAIL_ROW,
}
BEDROCK: Final[dict[str, Kind]] = {
    "ThrottlingException": Kind.THROTTLE,
    "ServiceQuotaExceededException": Kind.THROTTLE,
    "TooManyRequestsException": Kind.THROTTLE,
    "ModelTimeoutException": Kind.TRANSIENT,
    "ModelErrorException": Kind.TRANSIENT,
    "ModelStreamErrorException": Kind.TRANSIENT,
    "ModelNotReadyException": Kind.TRANSIENT,
    "InternalServerException": Kind.TRANSIENT,
    "ServiceUnavailableException": Kind.TRANSIENT,
    "AccessDeniedException": Kind.STOP_RUN,
    "UnrecognizedClientException": Kind.STOP_RUN,
    "InvalidClientTokenId": Kind.STOP_RUN,
    "InvalidSignatureException": Kind.STOP_RUN,
    "ExpiredTokenException": Kind.STOP_RUN,
    "ResourceNotFoundException": Kind.STOP_RUN,
    "FTUFormNotFilled": Kind.STOP_RUN,
    "ValidationException": Kind.FAIL_ROW,
}
_OF_THE_ACCOUNT: Final = (
    "credit balance is too low",
    "API usage limits",  # its own, or a workspace's
    "organization has been disabled",
)
_TELLS: Final = re.compile(rb'"type"\s*:\s*"(?:message_start|message_delta|message_stop|error)"')


def kind(complaint: Complaint) -> Kind | None:
    """Say what Anthropic's error codes mean; None if the status decides."""
    if complaint.codes & (NO_MONEY | USED_UP) or is_used_up(complaint):  # Zhipu and Bedrock speak it too
        return Kind.STOP_RUN
    if complaint.status < 400:  # an error inside a stream
        return next((BY_CODE[code] for code in sorted(complaint.codes) if code in BY_CODE), None)
    named = {"permission_error", "not_found_error", "authentication_error"} & complaint.codes
    amazons = next((BEDROCK[code] for code in sorted(complaint.codes) if code in BEDROCK), None)
    return Kind.STOP_RUN if named else (_in_words(complaint) or amazons)


def _in_words(complaint: Complaint) -> Kind | None:
    if complaint.status != 400:
        return None
    if any(words in complaint.message for words in _OF_THE_ACCOUNT):
        return Kind.STOP_RUN
    long = ("prompt is too long", "exceed context limit", "Input is too long")  # the last is Bedrock's
    return Kind.DEGRADE if any(words in complaint.message for words in long) else None


class Messages:
    """`/messages`."""

    name = "anthropic"
    maximum = MESSAGES

    def is_request(self, body: dict[str, Any]) -> bool:
        """Whether the body has a list of messages and a maximum, which this format requires."""
        return isinstance(body.get("messages"), list) and "max_tokens" in body

    def read(self, body: Mapping[str, Any]) -> Answer:
        """Read `content`, `stop_reason` and `usage`."""
        content = body.get("content")
        if not isinstance(content, list):
            return Answer(error=_error(body))
        counts, model = sub(body, "usage"), text_of(body.get("model")) or None
        answer = Answer(True, usage_of(counts), model, _stop(body.get("stop_reason")), tier=_tier(counts))
        if answer.text_wanted:
            answer.text = "".join(text_of(sub(part).get("text")) for part in content)
        return answer

    def stream(self) -> MessagesStream:
        """Return a reader of message events."""
        return MessagesStream()

    def kind(self, complaint: Complaint) -> Kind | None:
        """Judge by Anthropic's codes."""
        return kind(complaint)


class MessagesStream:
    """Reads message events. The first event counts the input, the last one the output."""

    def __init__(self) -> None:
        self._answer = Answer()
        self._kept = KeptLines()
        self._counts: dict[str, Any] = {}

    def feed(self, line: bytes) -> None:
        """Take one line."""
        if not line.startswith(b"data:"):
            return
        self._kept.lines.append(line)
        if _TELLS.search(line):
            self._take(data(line))

    def _take(self, event: dict[str, Any]) -> None:
        answer, message = self._answer, sub(event, "message")
        counts = sub(message, "usage") or sub(event, "usage")
        self._counts |= {name: value for name, value in counts.items() if value is not None}
        answer.model = text_of(message.get("model")) or answer.model
        answer.stop = _stop(sub(event, "delta").get("stop_reason")) or answer.stop
        answer.complete = answer.complete or event.get("type") == "message_stop"
        answer.error = answer.error or (_error(event) if event.get("type") == "error" else None)

    def answer(self) -> Answer:
        """Return the answer that the events make together."""
        self._answer.usage, self._answer.tier = usage_of(self._counts), _tier(self._counts)
        if self._answer.text_wanted:
            self._answer.text = self._kept.text(("delta", "text"))
        return self._answer


_COUNTS: Final = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def usage_of(counts: Mapping[str, Any]) -> Usage | None:
    """Read the usage. Anthropic counts cached input separately; here it is part of the input."""
    if not counts:
        return None
    if not counted(counts, *_COUNTS):
        return Usage()
    read, written = (
        count(counts.get("cache_read_input_tokens")),
        count(counts.get("cache_creation_input_tokens")),
    )
    for_an_hour = count(sub(counts, "cache_creation").get("ephemeral_1h_input_tokens"))
    return Usage(
        count(counts.get("input_tokens")) + read + written,
        count(counts.get("output_tokens")),
        read,
        written,
        cache_write_1h_tokens=for_an_hour,
        web_searches=count(sub(counts, "server_tool_use").get("web_search_requests")),
    )


def _tier(counts: Mapping[str, Any]) -> str | None:
    """Return the tier: fast mode and batches have prices of their own."""
    if counts.get("speed") == "fast":
        return "fast"
    return text_of(counts.get("service_tier")) or None


def _stop(reason: object) -> Stop | None:
    if reason in ("max_tokens", "model_context_window_exceeded"):
        return "cut"
    return "filtered" if reason == "refusal" else None


def _error(body: Mapping[str, Any]) -> Complaint | None:
    error = sub(body, "error")
    if not error:
        return None
    codes = (error.get("type"), sub(error, "details").get("error_code"))
    return Complaint(
        200, frozenset(code for code in codes if isinstance(code, str)), text_of(error.get("message"))
    )
