"""OpenAI's two wire formats, chat completions and Responses, also spoken by Azure, Groq, Mistral and others."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal

from cottonpalm.providers.answer import (
    CHAT,
    RESPONSES,
    TEXT,
    Answer,
    Complaint,
    KeptLines,
    Maximum,
    Stop,
    count,
    counted,
    data,
    loads,
    status_of,
    sub,
    text_of,
)
from cottonpalm.providers.openai_codes import kind
from cottonpalm.types import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cottonpalm.types import Kind

FLEX: Final = "flex"  # the tier of service that answers later, for less
CUT: Final = frozenset({"length", "model_length", "model_context_window_exceeded"})  # OpenAI, Mistral, Zhipu
FILTERED: Final = frozenset({"content_filter", "sensitive"})  # Zhipu says "sensitive"
GAVE_UP: Final = frozenset(
    {
        "insufficient_system_resource",  # DeepSeek
        "network_error",  # Zhipu
        "abort",  # vLLM, SGLang
        "error",  # vLLM, OpenRouter
    }
)
_TELLS: Final = re.compile(
    rb'"finish_reason"\s*:\s*"|"usage"\s*:\s*\{|"refusal"\s*:\s*"|"error"\s*:\s*[{"]|"type"\s*:\s*"error"'
)
_DELTAS: Final = (("choices", 0, "delta", "content"), ("choices", 0, "delta", "refusal"))
_ENDS: Final = re.compile(rb'"type"\s*:\s*"(?:response\.(?:completed|incomplete|failed)|error)"')


class Chat:
    """`/chat/completions`."""

    name = "openai"
    maximum = CHAT

    def is_request(self, body: dict[str, Any]) -> bool:
        """Whether the body has a list of messages."""
        return isinstance(body.get("messages"), list)

    def read(self, body: Mapping[str, Any]) -> Answer:
        """Read `choices` and `usage`."""
        choices = body.get("choices")
        if not isinstance(choices, list) or not choices:
            return Answer(error=_error(body))
        stops = [_chat_stop(choice) for choice in choices]
        stop = next((stop for stop in stops if stop), None)
        usage, model = chat_usage(body.get("usage")), text_of(body.get("model")) or None
        answer = Answer(True, usage, model, stop, tier=text_of(body.get("service_tier")) or None)
        answer.gave_up = next(filter(None, map(_gave_up, choices)), "")
        if answer.gave_up:
            answer.complete, answer.error = False, _error(body)
        if answer.text_wanted:
            answer.text = "".join(_chat_text(choice) for choice in choices)
        return answer

    def stream(self) -> ChatStream:
        """Return a reader of `chat.completion.chunk` lines."""
        return ChatStream()

    def kind(self, complaint: Complaint) -> Kind | None:
        """By OpenAI's codes."""
        return kind(complaint)


class Text(Chat):
    """`/completions`: text in, text out, for models of the old style and base models on one's own servers."""

    maximum: Maximum = TEXT

    def is_request(self, body: dict[str, Any]) -> bool:
        """Whether the body has a prompt, or several."""
        return isinstance(body.get("prompt"), str | list)

    def stream(self) -> ChatStream:
        """Return a reader of chunks whose text is in the choice itself."""
        return ChatStream(("choices", 0, "text"))


class ChatStream:
    """Reads chunks. It does not parse a line that has none of the words we look for."""

    def __init__(self, *texts: tuple[str | int, ...]) -> None:
        self._answer = Answer()
        self._kept = KeptLines()
        self._texts = texts or _DELTAS

    def feed(self, line: bytes) -> None:
        """Take one line."""
        if line.startswith((b"data: [DONE]", b"data:[DONE]")):
            self._answer.complete = True
        if not line.startswith(b"data:"):
            return
        self._kept.lines.append(line)
        if _TELLS.search(line):
            self._take(data(line))

    def _take(self, chunk: dict[str, Any]) -> None:
        answer = self._answer
        usage = chunk.get("usage") or sub(chunk, "x_groq").get("usage")
        answer.usage = chat_usage(usage) or answer.usage
        answer.model = text_of(chunk.get("model")) or answer.model
        answer.tier = text_of(chunk.get("service_tier")) or answer.tier
        answer.error = answer.error or _error(chunk)
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            answer.stop = answer.stop or _chat_stop(choice)
            answer.gave_up = answer.gave_up or _gave_up(choice)
            answer.usage = chat_usage(sub(choice).get("usage")) or answer.usage  # Moonshot counts here
            answer.complete = answer.complete or bool(sub(choice).get("finish_reason"))

    def answer(self) -> Answer:
        """Return the answer that the lines make together."""
        if self._answer.text_wanted:
            self._answer.text = self._kept.text(*self._texts)
        if self._answer.error or self._answer.gave_up:
            self._answer.complete = False
        return self._answer


class Responses:
    """`/responses`."""

    name = "openai"
    maximum = RESPONSES

    def is_request(self, body: dict[str, Any]) -> bool:
        """Whether the body has an `input`."""
        return isinstance(body.get("input"), (str, list)) and "messages" not in body

    def read(self, body: Mapping[str, Any]) -> Answer:
        """Read `output`, `status` and `usage`."""
        usage, model = _responses_usage(body), text_of(body.get("model")) or None
        if body.get("status") == "failed" or not isinstance(body.get("output"), list):
            return Answer(False, usage, model, error=_error(body))
        answer = Answer(True, usage, model, _responses_stop(body))
        answer.tier = text_of(body.get("service_tier")) or None
        if answer.text_wanted:
            answer.text = _responses_text(body)
        return answer

    def stream(self) -> ResponsesStream:
        """Return a reader of `response.*` events."""
        return ResponsesStream()

    def kind(self, complaint: Complaint) -> Kind | None:
        """By OpenAI's codes."""
        return kind(complaint)


class ResponsesStream:
    """Waits for the event that ends the response, since this event holds the whole response."""

    def __init__(self) -> None:
        self._answer = Answer()

    def feed(self, line: bytes) -> None:
        """Take one line."""
        if not line.startswith(b"data:") or not _ENDS.search(line):
            return
        event = data(line)
        if event.get("type") == "error":
            self._answer = Answer(error=_error({"error": event}))
        elif response := sub(event, "response"):
            self._answer = Responses().read(response)

    def answer(self) -> Answer:
        """Return the answer, from the last event."""
        return self._answer


def chat_usage(usage: object) -> Usage | None:
    """Read `usage` of chat completions. Cached tokens are part of the input, reasoning is part of the output."""
    counts = sub(usage)
    if not counts:
        return None
    if not counted(counts, "prompt_tokens", "completion_tokens"):
        return Usage()
    into, out = sub(counts, "prompt_tokens_details"), sub(counts, "completion_tokens_details")
    return Usage(
        counts.get("prompt_tokens") or 0,
        _written(counts, "prompt_tokens", "completion_tokens"),
        count(into.get("cached_tokens"))
        or count(counts.get("prompt_cache_hit_tokens"))  # DeepSeek
        or count(counts.get("cached_tokens")),  # Together
        count(into.get("cache_write_tokens")),
        count(out.get("reasoning_tokens")),
        audio_input_tokens=count(into.get("audio_tokens")),
        audio_output_tokens=count(out.get("audio_tokens")),
    )


def responses_usage(usage: object) -> Usage | None:
    """Read `usage` of the Responses API."""
    counts = sub(usage)
    if not counts:
        return None
    if not counted(counts, "input_tokens", "output_tokens"):
        return Usage()
    into = sub(counts, "input_tokens_details")
    return Usage(
        count(counts.get("input_tokens")),
        _written(counts, "input_tokens", "output_tokens"),
        count(into.get("cached_tokens")),
        count(into.get("cache_write_tokens")),
        count(sub(counts, "output_tokens_details").get("reasoning_tokens")),
    )


def _written(counts: Mapping[str, Any], read: str, wrote: str) -> int:
    """Return the tokens that the model wrote, thoughts included.

    xAI, and Gemini at its OpenAI-compatible address, bill thoughts that they count in the total alone.
    """
    beyond = count(counts.get("total_tokens")) - count(counts.get(read))
    return max(count(counts.get(wrote)), beyond)


def _responses_usage(body: Mapping[str, Any]) -> Usage | None:
    """Read the usage, and count the uses of the provider's own tools, which only the output shows."""
    usage, output = responses_usage(body.get("usage")), body.get("output")
    if usage is None or not isinstance(output, list):
        return usage
    kinds = [item.get("type") for item in output if isinstance(item, dict)]
    web, files = kinds.count("web_search_call"), kinds.count("file_search_call")
    return replace(usage, web_searches=web, file_searches=files) if web or files else usage


def _chat_stop(choice: object) -> Stop | None:
    choice = sub(choice)
    reason = text_of(choice.get("finish_reason"))
    if reason in CUT:
        return "cut"
    message = sub(choice, "message") or sub(choice, "delta")
    return "filtered" if reason in FILTERED or message.get("refusal") else None


def _gave_up(choice: object) -> str:
    reason = text_of(sub(choice).get("finish_reason"))
    return reason if reason in GAVE_UP else ""


def _chat_text(choice: object) -> str:
    message = sub(choice, "message")
    return (
        text_of(message.get("content")) or text_of(message.get("refusal")) or text_of(sub(choice).get("text"))
    )


def _responses_stop(body: Mapping[str, Any]) -> Stop | None:
    reason = sub(body, "incomplete_details").get("reason")
    if reason == "max_output_tokens":
        return "cut"
    refused = any(part.get("type") == "refusal" for part in _parts(body))
    return "filtered" if reason == "content_filter" or refused else None


def _responses_text(body: Mapping[str, Any]) -> str:
    return "".join(text_of(part.get("text")) or text_of(part.get("refusal")) for part in _parts(body))


def _parts(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    contents = [item.get("content") for item in body["output"] if isinstance(item, dict)]
    return [
        part
        for content in contents
        if isinstance(content, list)
        for part in content
        if isinstance(part, dict)
    ]


def _error(body: Mapping[str, Any]) -> Complaint | None:
    """Return the error object of an answer with a good status, as proxies send it."""
    error = body.get("error")
    if not error:
        return None
    fields = error if isinstance(error, dict) else {"message": error}
    status = status_of(fields.get("code"))
    codes = frozenset(code for code in (fields.get("code"), fields.get("type")) if isinstance(code, str))
    return Complaint(status or 200, codes, text_of(fields.get("message")))


def flex_refusal(status: int, content: bytes) -> Literal["no room", "unknown"] | None:
    """Return why a request was not served at the flex tier; None: this answer says something else.

    "no room" passes, and is not billed; "unknown": the tier is not served for this model, or not to this account.
    """
    error = sub(loads(content), "error")
    code, said = text_of(error.get("code")) or text_of(error.get("type")), text_of(error.get("message"))
    if status == 429:
        found = "resource_unavailable" in code or "resource unavailable" in said.lower()
        return "no room" if found else None
    return "unknown" if status == 400 and error.get("param") == "service_tier" else None
