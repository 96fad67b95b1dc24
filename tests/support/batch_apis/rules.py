"""What the three Batch APIs accept and answer, strictly, as pure functions: the rules behind `batch_provider`."""

from __future__ import annotations

import json
import re
import zlib
from typing import Any, NamedTuple

from tests.support import shapes
from tests.support.replies import Reply, Request

CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")  # Anthropic's rule, the narrowest: the others take it too
PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "anthropic": "/v1/messages"}
FIELDS = {
    "chat": frozenset(
        [
            "messages",
            "model",
            "audio",
            "frequency_penalty",
            "function_call",
            "functions",
            "logit_bias",
            "logprobs",
            "max_completion_tokens",
            "max_tokens",
            "metadata",
            "modalities",
            "n",
            "parallel_tool_calls",
            "prediction",
            "presence_penalty",
            "prompt_cache_key",
            "prompt_cache_retention",
            "reasoning_effort",
            "response_format",
            "safety_identifier",
            "seed",
            "service_tier",
            "stop",
            "store",
            "stream",
            "stream_options",
            "temperature",
            "tool_choice",
            "tools",
            "top_logprobs",
            "top_p",
            "user",
            "verbosity",
            "web_search_options",
        ]
    ),
    "responses": frozenset(
        [
            "background",
            "conversation",
            "include",
            "input",
            "instructions",
            "max_output_tokens",
            "max_tool_calls",
            "metadata",
            "model",
            "parallel_tool_calls",
            "previous_response_id",
            "prompt",
            "prompt_cache_key",
            "reasoning",
            "safety_identifier",
            "service_tier",
            "store",
            "stream",
            "stream_options",
            "temperature",
            "text",
            "tool_choice",
            "tools",
            "top_logprobs",
            "top_p",
            "truncation",
            "user",
        ]
    ),
    "anthropic": frozenset(
        [
            "max_tokens",
            "messages",
            "model",
            "cache_control",
            "container",
            "context_management",
            "inference_geo",
            "mcp_servers",
            "metadata",
            "output_config",
            "output_format",
            "service_tier",
            "stop_sequences",
            "stream",
            "system",
            "temperature",
            "thinking",
            "tool_choice",
            "tools",
            "top_k",
            "top_p",
        ]
    ),
    "google": frozenset(
        [
            "contents",
            "tools",
            "toolConfig",
            "safetySettings",
            "systemInstruction",
            "generationConfig",
            "cachedContent",
            "model",
            "labels",
        ]
    ),
}


class Outcome(NamedTuple):
    """What became of one request: a status and a body, and what it used where it was answered."""

    status: int
    body: dict[str, Any]
    answer: shapes.Answer | None = None


class Row(NamedTuple):
    """One line of a batch."""

    custom_id: str
    body: dict[str, Any]


class Wrong(Exception):
    """A request that is refused."""

    def __init__(
        self, message: str, code: str | None = None, line: int | None = None, status: int = 400
    ) -> None:
        super().__init__(message)
        self.code, self.line, self.status = code, line, status


def asked(api: str, path: str, body: dict[str, Any], reply: Reply | None = None) -> Outcome:
    """The deterministic answer to a request, live or in a batch: equal requests get equal answers, ids included."""
    question = {name: value for name, value in body.items() if name not in ("stream", "service_tier")}
    seq = zlib.crc32(json.dumps(question, sort_keys=True).encode())
    request = Request(seq, path, api, body, shapes.last_user_text(body), 1, 1, b"")
    if unknown := sorted(body.keys() - FIELDS[api]):
        return _refused(request, f"Unrecognized request argument supplied: {unknown[0]}")
    if body.get("stream"):
        return _refused(request, "streams are not served here")
    if api == "anthropic" and not body.get("max_tokens"):
        return _refused(request, "max_tokens: Field required")
    reply = reply or Reply()
    if reply.status >= 400:
        return Outcome(*shapes.error(request, reply))
    answer = shapes.answer_for(request, reply)
    return Outcome(200, shapes.whole(request, answer), answer)


def _refused(request: Request, message: str) -> Outcome:
    status, body = shapes.error(request, Reply(status=400))
    body["error"]["message"] = message
    return Outcome(status, body)


def only(value: Any, *names: str, where: str = "") -> dict[str, Any]:
    """An object that has no other fields."""
    if not isinstance(value, dict):
        raise Wrong(f"{where or 'the body'} must be an object")
    if unknown := sorted(value.keys() - set(names)):
        raise Wrong(f"Unknown parameter: {where}{unknown[0]!r}")
    return value


def openai_rows(content: bytes, endpoint: str, most_rows: int) -> list[Row]:
    """The lines of an input file; the first that is wrong fails the whole batch."""
    rows: list[Row] = []
    seen: set[str] = set()
    lines = content.splitlines()
    if not 1 <= len(lines) <= most_rows:
        raise Wrong(f"the file has {len(lines)} lines, not 1 to {most_rows}", "max_requests_exceeded")
    for number, line in enumerate(lines, 1):
        found = _openai_line(line, endpoint, number)
        if found.custom_id in seen:
            raise Wrong("custom_id must be unique within a batch", "duplicate_custom_id", number)
        seen.add(found.custom_id)
        if rows and found.body.get("model") != rows[0].body.get("model"):
            raise Wrong("all lines must name one model", "mismatched_model", number)
        rows.append(found)
    return rows


def _openai_line(line: bytes, endpoint: str, number: int) -> Row:
    try:
        found = json.loads(line)
    except json.JSONDecodeError:
        raise Wrong("not valid JSON", "invalid_json_line", number) from None
    if not isinstance(found, dict) or found.keys() != {"custom_id", "method", "url", "body"}:
        raise Wrong("a line needs custom_id, method, url and body", "invalid_line", number)
    if not isinstance(found["custom_id"], str) or not found["custom_id"]:
        raise Wrong("custom_id must be a string", "invalid_custom_id", number)
    if found["method"] != "POST" or found["url"] != endpoint:
        raise Wrong(f"{found['method']} {found['url']} is not the batch's endpoint", "invalid_url", number)
    if found["body"].get("stream"):
        raise Wrong("streams have no place in a batch", "invalid_request", number)
    return Row(found["custom_id"], found["body"])


def mistral_rows(content: bytes, model: str, most_rows: int) -> list[Row]:
    """The lines of an input file of a job for one model, which lines need not name."""
    lines = [json.loads(line) for line in content.splitlines()]
    if not 1 <= len(lines) <= most_rows:
        raise Wrong(f"the file has {len(lines)} lines, not 1 to {most_rows}")
    for number, line in enumerate(lines, 1):
        only(line, "custom_id", "body", where=f"line {number}: ")
        if line["body"].get("stream"):
            raise Wrong("streams have no place in a batch", line=number)
        if line["body"].setdefault("model", model) != model:
            raise Wrong("a line names another model", line=number)
    if len({line["custom_id"] for line in lines}) < len(lines):
        raise Wrong("custom_id must be unique")
    return [Row(line["custom_id"], line["body"]) for line in lines]


def anthropic_rows(body: Any, most_rows: int) -> list[Row]:
    """The requests of a message batch."""
    requests = only(body, "requests").get("requests")
    if not isinstance(requests, list) or not requests:
        raise Wrong("requests: Field required")
    if len(requests) > most_rows:
        raise Wrong(f"requests: at most {most_rows}")
    seen: set[str] = set()
    for number, request in enumerate(requests):
        where = f"requests.{number}."
        only(request, "custom_id", "params", where=where)
        if not CUSTOM_ID.fullmatch(str(request.get("custom_id"))):
            raise Wrong(f"{where}custom_id: must match ^[a-zA-Z0-9_-]{{1,64}}$")
        if request["custom_id"] in seen:
            raise Wrong(f"{where}custom_id: must be unique")
        seen.add(request["custom_id"])
        params = request.get("params")
        if not isinstance(params, dict) or {"stream", "speed", "store"} & params.keys():
            raise Wrong(f"{where}params: stream, speed and store are not supported in batches")
    return [Row(request["custom_id"], request["params"]) for request in requests]


def gemini_rows(content: bytes) -> list[Row]:
    """The lines of an uploaded file."""
    rows = []
    for number, line in enumerate(content.splitlines(), 1):
        found = json.loads(line)
        if not isinstance(found, dict) or found.keys() != {"key", "request"}:
            raise Wrong("a line needs key and request", line=number)
        rows.append(Row(found["key"], found["request"]))
    if len({row.custom_id for row in rows}) < len(rows):
        raise Wrong("keys must be unique")
    return rows


def tokens_of(rows: list[Row]) -> int:
    """Of the input of all rows."""
    return sum(shapes.input_tokens(row.body) for row in rows)
