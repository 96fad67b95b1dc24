"""Google's `generateContent` format (Gemini API and Vertex)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.providers.answer import (
    GENERATE,
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
from cottonpalm.providers.used_up import is_used_up
from cottonpalm.types import Kind, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

_REFUSED_TO_ALL: Final = frozenset(  # reasons; the statuses beside them may be of one input's file
    {
        "API_KEY_INVALID",
        "API_KEY_SERVICE_BLOCKED",
        "SERVICE_DISABLED",
        "CONSUMER_INVALID",
        "CONSUMER_SUSPENDED",
        "BILLING_DISABLED",
        "IAM_PERMISSION_DENIED",
        "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
    }
)
_PLACE: Final = re.compile(r"\b(?:location|country|region|billing)\b", re.IGNORECASE)
_FILTERS: Final = frozenset(
    {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE", "IMAGE_SAFETY"}
)


def kind(complaint: Complaint) -> Kind | None:
    """Say what Google's reasons mean; None if the status decides."""
    if complaint.codes & _REFUSED_TO_ALL:
        return Kind.STOP_RUN
    if "FAILED_PRECONDITION" in complaint.codes and _PLACE.search(complaint.message):
        return Kind.STOP_RUN
    if is_used_up(complaint):
        return Kind.STOP_RUN
    words = ("exceeds the maximum number of tokens", "token limit")
    if complaint.status == 400 and any(word in complaint.message for word in words):
        return Kind.DEGRADE
    return None


class GenerateContent:
    """`…:generateContent` and `…:streamGenerateContent`."""

    name = "google"
    maximum = GENERATE

    def is_request(self, body: dict[str, Any]) -> bool:
        """Whether the body has contents, one or a list."""
        return isinstance(body.get("contents"), (list, dict))

    def read(self, body: Mapping[str, Any]) -> Answer:
        """Read `candidates` and `usageMetadata`."""
        usage, model = usage_of(sub(body, "usageMetadata")), text_of(body.get("modelVersion")) or None
        candidates = body.get("candidates")
        if not isinstance(candidates, list) or not candidates:
            blocked = bool(sub(body, "promptFeedback").get("blockReason"))
            return Answer(blocked, usage, model, "filtered" if blocked else None)
        reasons = [text_of(sub(candidate).get("finishReason")) for candidate in candidates]
        stop = next((stop for stop in map(_stop, reasons) if stop), None)
        answer = Answer(any(reasons), usage, model, stop, tier=_tier(sub(body, "usageMetadata")))
        if answer.text_wanted:
            answer.text = _text(body)
        return answer

    def stream(self) -> GenerateStream:
        """Return a reader of partial responses."""
        return GenerateStream()

    def kind(self, complaint: Complaint) -> Kind | None:
        """Judge by Google's reasons."""
        return kind(complaint)


class GenerateStream:
    """Reads pieces that are responses themselves. The last one says how the answer ended and what it used."""

    def __init__(self) -> None:
        self._answer = Answer()
        self._kept = KeptLines()

    def feed(self, line: bytes) -> None:
        """Take one line."""
        self._kept.lines.append(line)
        if b"finishReason" not in line and b"usageMetadata" not in line and b"blockReason" not in line:
            return
        piece, answer = GenerateContent().read(data(line)), self._answer
        answer.complete = answer.complete or piece.complete
        answer.usage, answer.model = piece.usage or answer.usage, piece.model or answer.model
        answer.stop, answer.tier = answer.stop or piece.stop, piece.tier or answer.tier

    def answer(self) -> Answer:
        """Return the answer that the pieces make together."""
        if self._answer.text_wanted:
            self._answer.text = "".join(_text(data(line)) for line in self._kept.lines)
        return self._answer


_COUNTS: Final = ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "toolUsePromptTokenCount")


def usage_of(counts: Mapping[str, Any]) -> Usage | None:
    """Read the usage. Google does not count thoughts as part of the candidates, nor tool prompts of the prompt."""
    if not counts:
        return None
    if not counted(counts, *_COUNTS):
        return Usage()
    thoughts = count(counts.get("thoughtsTokenCount"))
    return Usage(
        count(counts.get("promptTokenCount")) + count(counts.get("toolUsePromptTokenCount")),
        count(counts.get("candidatesTokenCount")) + thoughts,
        count(counts.get("cachedContentTokenCount")),
        0,
        thoughts,
        audio_input_tokens=_of_kind(counts, "promptTokensDetails", "AUDIO"),
        audio_cached_tokens=_of_kind(counts, "cacheTokensDetails", "AUDIO"),
        audio_output_tokens=_of_kind(counts, "candidatesTokensDetails", "AUDIO"),
        image_output_tokens=_of_kind(counts, "candidatesTokensDetails", "IMAGE"),
    )


def _of_kind(counts: Mapping[str, Any], name: str, modality: str) -> int:
    details = counts.get(name)
    parts = map(sub, details) if isinstance(details, list) else ()
    return sum(count(part.get("tokenCount")) for part in parts if part.get("modality") == modality)


def _tier(counts: Mapping[str, Any]) -> str | None:
    """Return the tier of service, in the words that a request uses."""
    return text_of(counts.get("serviceTier")).lower() or None


def _stop(reason: str) -> Stop | None:
    return "cut" if reason == "MAX_TOKENS" else "filtered" if reason in _FILTERS else None


def _text(body: Mapping[str, Any]) -> str:
    candidates = body.get("candidates")
    first = candidates[0] if isinstance(candidates, list) and candidates else None
    parts = sub(first, "content").get("parts")
    return "".join(text_of(sub(part).get("text")) for part in parts) if isinstance(parts, list) else ""
