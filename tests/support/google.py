"""What Gemini puts on the wire: answers, streams and errors, as pure functions of request and answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from tests.support.replies import Reply

if TYPE_CHECKING:
    from tests.support.replies import Request
    from tests.support.shapes import Answer

FINISH = {
    "stop": "STOP",
    "length": "MAX_TOKENS",
    "filter": "SAFETY",
    "refusal": "PROHIBITED_CONTENT",
    "tool": "STOP",
}
STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
TYPE = "type.googleapis.com/google.rpc"


def text_of(content: Any) -> str:
    """The text of one `content` object."""
    parts = (content or {}).get("parts", ()) if isinstance(content, dict) else ()
    return "".join(part.get("text", "") for part in parts)


def messages_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    """`contents` in the shape of other providers' messages."""
    contents = body["contents"] if isinstance(body["contents"], list) else [body["contents"]]
    return [{"role": content.get("role", "user"), "content": text_of(content)} for content in contents]


def schema_of(body: dict[str, Any]) -> dict[str, Any] | None:
    """The JSON schema that the answer has to fit, if the request names one."""
    config = body.get("generationConfig") or {}
    return config.get("responseJsonSchema") or config.get("responseSchema")


def whole(request: Request, answer: Answer) -> dict[str, Any]:
    """The answer as one body."""
    return _piece(request, answer, answer.text, last=True)


def events(request: Request, answer: Answer, pieces: list[str]) -> list[bytes]:
    """The answer as server-sent events; usage and the reason come with the last one."""
    texts = pieces or [""]
    found = [_piece(request, answer, text, last=number == len(texts)) for number, text in enumerate(texts, 1)]
    return [b"data: " + orjson.dumps(piece) + b"\r\n\r\n" for piece in found]


def _piece(request: Request, answer: Answer, text: str, *, last: bool) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"text": text}]
    if answer.tool:
        parts = [{"functionCall": {"name": answer.tool[0], "args": answer.tool[1]}}]
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
    body: dict[str, Any] = {
        "candidates": [candidate],
        "modelVersion": model_of(request),
        "responseId": f"r-{request.seq}",
    }
    if last:
        candidate["finishReason"] = FINISH[answer.finish]
        if answer.usage:
            body["usageMetadata"] = usage(answer)
    return body


def model_of(request: Request) -> str:
    """The model that the path names."""
    return request.path.rpartition("/")[2].partition(":")[0]


def usage(answer: Answer) -> dict[str, int]:
    """Google counts what was thought beside what was said."""
    return {
        "promptTokenCount": answer.input_tokens,
        "candidatesTokenCount": answer.output_tokens - answer.reasoning,
        "thoughtsTokenCount": answer.reasoning,
        "cachedContentTokenCount": answer.cached,
        "totalTokenCount": answer.input_tokens + answer.output_tokens,
    }


def error(reply: Reply, message: str) -> dict[str, Any]:
    return {
        "error": {
            "code": reply.status,
            "message": message,
            "status": STATUS.get(reply.status, "UNKNOWN"),
        }
    }


# -- replies that only Google gives ---------------------------------------------------------------------------


def exhausted(quota_id: str, retry_delay: str | None = None) -> Reply:
    """429 RESOURCE_EXHAUSTED with the quota that is used up, and the wait that is asked for."""
    quota = {"quotaMetric": "generativelanguage.googleapis.com/requests", "quotaId": quota_id}
    details: list[dict[str, Any]] = [{"@type": f"{TYPE}.QuotaFailure", "violations": [quota]}]
    if retry_delay is not None:
        details.append({"@type": f"{TYPE}.RetryInfo", "retryDelay": retry_delay})
    return _detailed(
        429, "You exceeded your current quota, please check your plan and billing details.", details
    )


def key_invalid() -> Reply:
    """400 for a key that is none."""
    info = {"@type": f"{TYPE}.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}
    return _detailed(400, "API key not valid. Please pass a valid API key.", [info])


def too_many_tokens() -> Reply:
    return _detailed(
        400, "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576)."
    )


def prompt_blocked() -> Reply:
    """200 without candidates: the prompt itself was refused."""
    body = {
        "promptFeedback": {"blockReason": "SAFETY"},
        "usageMetadata": {"promptTokenCount": 5, "totalTokenCount": 5},
        "modelVersion": "gemini-test",
    }
    return Reply(raw=orjson.dumps(body).decode())


def _detailed(status: int, message: str, details: list[dict[str, Any]] | None = None) -> Reply:
    said = {"code": status, "message": message, "status": STATUS[status], "details": details or []}
    return Reply(status=status, raw=orjson.dumps({"error": said}).decode())
