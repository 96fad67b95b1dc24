"""What OpenAI, Anthropic and Google put on the wire: whole answers and errors, as pure functions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.support import google

if TYPE_CHECKING:
    from tests.support.replies import Reply, Request

ERRORS = {  # status or code -> (OpenAI type, OpenAI code, Anthropic type, message)
    400: ("invalid_request_error", None, "invalid_request_error", "The request is not valid."),
    401: ("invalid_request_error", "invalid_api_key", "authentication_error", "Incorrect API key provided."),
    403: ("invalid_request_error", None, "permission_error", "This key may not use this resource."),
    404: ("invalid_request_error", "model_not_found", "not_found_error", "The model does not exist."),
    413: ("invalid_request_error", None, "request_too_large", "The request is too large."),
    429: ("requests", "rate_limit_exceeded", "rate_limit_error", "Rate limit reached."),
    500: ("server_error", None, "api_error", "The server had an error."),
    503: ("server_error", None, "api_error", "The engine is overloaded."),
    529: ("server_error", None, "overloaded_error", "Overloaded"),
    "insufficient_quota": (
        "insufficient_quota",
        "insufficient_quota",
        "invalid_request_error",
        "Your credit balance is too low: you exceeded your current quota.",
    ),
    "context_length_exceeded": (
        "invalid_request_error",
        "context_length_exceeded",
        "invalid_request_error",
        "prompt is too long: 200001 tokens > 200000 maximum",
    ),
}
FINISH = {
    "chat": {
        "stop": "stop",
        "length": "length",
        "filter": "content_filter",
        "refusal": "stop",
        "tool": "tool_calls",
    },
    "anthropic": {
        "stop": "end_turn",
        "length": "max_tokens",
        "filter": "refusal",
        "refusal": "refusal",
        "tool": "tool_use",
    },
}


@dataclass(slots=True)
class Answer:
    """What the model said, before it has a provider's shape."""

    text: str
    finish: str
    tool: tuple[str, dict[str, Any]] | None
    input_tokens: int
    output_tokens: int
    usage: bool
    cached: int = 0
    reasoning: int = 0


def as_json(value: Any) -> str:
    """In short form, with all digits of its integers."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def tokens(text: str) -> int:
    """Four characters are one token here."""
    return (len(text) + 3) // 4


def plain_text(content: Any) -> str:
    """The text of a message's content, a string or a list of blocks."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return "" if content is None else str(content)
    return "".join(part if isinstance(part, str) else part.get("text", "") for part in content)


def messages_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    if "contents" in body:
        return google.messages_of(body)
    found = body.get("messages", body.get("input"))
    if isinstance(found, list) and found and isinstance(found[0], dict):
        return found
    return [{"role": "user", "content": found}]


def last_user_text(body: dict[str, Any]) -> str:
    for message in reversed(messages_of(body)):
        if message.get("role") == "user" and (text := plain_text(message.get("content"))):
            return text
    return ""


def input_tokens(body: dict[str, Any]) -> int:
    prompt = sum(tokens(plain_text(message.get("content"))) for message in messages_of(body))
    told = body.get("system") or body.get("instructions") or google.text_of(body.get("systemInstruction"))
    return prompt + tokens(plain_text(told)) + 3


def answer_for(request: Request, reply: Reply) -> Answer:
    """'answer to: <last user text>', in the asked form, within the asked maximum."""
    body, text, tool = request.body, reply.text, reply.tool
    if text is None:
        text = f"answer to: {request.text}"
        if tool is None:
            tool = _forced_tool(body, text)
        if tool is None and (schema := _schema(body)) is not None:
            text = as_json(instance(schema, text, schema))
    if tool is not None:
        text = ""
    size = tokens(as_json(tool[1]) if tool else text)
    finish = "tool" if tool and reply.finish == "stop" else reply.finish
    maximum = body.get("max_completion_tokens") or body.get("max_output_tokens") or body.get("max_tokens")
    maximum = maximum or (body.get("generationConfig") or {}).get("maxOutputTokens")
    if maximum and size > maximum:
        text, size, finish, tool = text[: 4 * maximum], maximum, "length", None
    cached, reasoning = min(reply.cached, input_tokens(body)), reply.reasoning
    return Answer(text, finish, tool, input_tokens(body), size + reasoning, reply.usage, cached, reasoning)


def _schema(body: dict[str, Any]) -> dict[str, Any] | None:
    if (named := google.schema_of(body)) is not None:
        return named
    if (form := body.get("response_format")) and form.get("type") == "json_schema":
        return form["json_schema"].get("schema", {})
    form = (body.get("text") or {}).get("format") or body.get("output_format")
    form = form or (body.get("output_config") or {}).get("format")
    return form.get("schema") if form and form.get("type") == "json_schema" else None


def _forced_tool(body: dict[str, Any], text: str) -> tuple[str, dict[str, Any]] | None:
    choice = body.get("tool_choice")
    forced = (
        choice in {"required", "any"}
        if isinstance(choice, str)
        else bool(choice) and choice["type"] != "auto"
    )
    if not forced or not body.get("tools"):
        return None
    wanted = (
        choice.get("name") or choice.get("function", {}).get("name") if isinstance(choice, dict) else None
    )
    for tool in body["tools"]:
        spec = tool.get("function", tool)
        if wanted in (None, spec.get("name")):
            schema = spec.get("parameters") or spec.get("input_schema") or {}
            return spec["name"], instance(schema, text, schema)
    return None


def instance(schema: dict[str, Any], text: str, root: dict[str, Any]) -> Any:
    """A value that fits the schema; its strings are `text`."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return instance((root.get("$defs") or root.get("definitions"))[name], text, root)
    for combined in ("anyOf", "oneOf", "allOf"):
        if schema.get(combined):
            return instance(schema[combined][0], text, root)
    if "const" in schema or "enum" in schema:
        return schema.get("const", (schema.get("enum") or [None])[0])
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if kind == "object":
        return {name: instance(part, text, root) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [instance(schema.get("items", {}), text, root)]
    least = schema.get("minimum", 1)
    return {"integer": int(least), "number": float(least), "boolean": True, "null": None}.get(kind, text)


# -- whole answers ----------------------------------------------------------------------------------------


def whole(request: Request, answer: Answer) -> dict[str, Any]:
    """The answer as one JSON body."""
    return _WHOLE.get(request.api, _chat)(request, answer)


def _chat(request: Request, answer: Answer) -> dict[str, Any]:
    refused = answer.finish == "refusal"
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if refused or answer.tool else answer.text,
    }
    message["refusal"] = answer.text if refused else None
    if answer.tool:
        message["tool_calls"] = [tool_call(request, answer)]
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": FINISH["chat"][answer.finish],
    }
    body = {**chat_head(request, "chat.completion"), "choices": [choice]}
    if answer.usage:
        body["usage"] = chat_usage(answer)
    return body


def chat_head(request: Request, kind: str) -> dict[str, Any]:
    model = request.body.get("model", "gpt-test")
    return {"id": f"chatcmpl-{request.seq}", "object": kind, "created": 1_700_000_000, "model": model}


def chat_usage(answer: Answer) -> dict[str, Any]:
    total = answer.input_tokens + answer.output_tokens
    return {
        "prompt_tokens": answer.input_tokens,
        "completion_tokens": answer.output_tokens,
        "total_tokens": total,
        "prompt_tokens_details": {"cached_tokens": answer.cached},
        "completion_tokens_details": {"reasoning_tokens": answer.reasoning},
    }


def tool_call(request: Request, answer: Answer) -> dict[str, Any]:
    name, arguments = answer.tool or ("", {})
    function = {"name": name, "arguments": as_json(arguments)}
    return {"id": f"call_{request.seq}", "type": "function", "function": function}


def _responses(request: Request, answer: Answer) -> dict[str, Any]:
    part = {"type": "output_text", "text": answer.text, "annotations": []}
    if answer.finish == "refusal":
        part = {"type": "refusal", "refusal": answer.text}
    item: dict[str, Any] = {
        "type": "message",
        "id": f"msg_{request.seq}",
        "role": "assistant",
        "content": [part],
    }
    if answer.tool:
        call = tool_call(request, answer)
        item = {"type": "function_call", "id": f"fc_{request.seq}", "call_id": call["id"], **call["function"]}
    reason = {"length": "max_output_tokens", "filter": "content_filter"}.get(answer.finish)
    status = "incomplete" if reason else "completed"
    total = answer.input_tokens + answer.output_tokens
    usage = {
        "input_tokens": answer.input_tokens,
        "input_tokens_details": {"cached_tokens": answer.cached},
        "output_tokens": answer.output_tokens,
        "output_tokens_details": {"reasoning_tokens": answer.reasoning},
        "total_tokens": total,
    }
    return {
        "id": f"resp_{request.seq}",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": reason} if reason else None,
        "instructions": None,
        "metadata": {},
        "model": request.body.get("model", "gpt-test"),
        "output": [{**item, "status": status}],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": usage if answer.usage else None,
    }


def _anthropic(request: Request, answer: Answer) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "text", "text": answer.text}]
    if answer.tool:
        name, arguments = answer.tool
        content = [{"type": "tool_use", "id": f"toolu_{request.seq}", "name": name, "input": arguments}]
    body = {**anthropic_head(request), "content": content, "stop_reason": FINISH["anthropic"][answer.finish]}
    body["usage"] = {**anthropic_input(answer), "output_tokens": answer.output_tokens}
    if not answer.usage:
        del body["usage"]
    return body


def anthropic_input(answer: Answer) -> dict[str, int]:
    """Anthropic counts what was cached apart."""
    return {
        "input_tokens": answer.input_tokens - answer.cached,
        "cache_read_input_tokens": answer.cached,
        "cache_creation_input_tokens": 0,
    }


def anthropic_head(request: Request) -> dict[str, Any]:
    model = request.body.get("model", "claude-test")
    head = {"id": f"msg_{request.seq}", "type": "message", "role": "assistant", "model": model}
    return {**head, "stop_sequence": None}


def _embeddings(request: Request, answer: Answer) -> dict[str, Any]:
    given = request.body.get("input")
    count = len(given) if isinstance(given, list) else 1
    data = [{"object": "embedding", "index": i, "embedding": [0.1, 0.2, 0.3]} for i in range(count)]
    usage = {"prompt_tokens": answer.input_tokens, "total_tokens": answer.input_tokens}
    return {"object": "list", "data": data, "model": request.body.get("model"), "usage": usage}


_WHOLE = {"google": google.whole, "responses": _responses, "anthropic": _anthropic, "embeddings": _embeddings}


# -- errors -----------------------------------------------------------------------------------------------


def error(request: Request, reply: Reply) -> tuple[int, dict[str, Any]]:
    """Status and body of an error in the provider's shape."""
    kind, code, anthropic, message = ERRORS.get(
        reply.code or reply.status, ERRORS.get(reply.status, ERRORS[500])
    )
    if request.api == "google":
        return reply.status, google.error(reply, message)
    if request.api != "anthropic":
        return reply.status, {
            "error": {"message": message, "type": kind, "param": None, "code": reply.code or code}
        }
    status = 400 if reply.code == "insufficient_quota" else reply.status
    body = {
        "type": "error",
        "error": {"type": anthropic, "message": message},
        "request_id": f"req_{request.seq}",
    }
    return status, body
