"""The same answers as server-sent events, one entry each. Pure functions of request and answer."""

from __future__ import annotations

from typing import Any

import orjson

from tests.support import google, shapes
from tests.support.replies import Reply, Request


def events(request: Request, answer: shapes.Answer, pieces: int) -> list[bytes]:
    """The answer as server-sent events, one entry each."""
    if request.api == "google":
        return google.events(request, answer, _split(answer.text, pieces))
    made = {"anthropic": _anthropic_events, "responses": _response_events}.get(request.api, _chat_events)
    return made(request, answer, pieces)


def usage_is_streamed(request: Request) -> bool:
    return request.api in {"anthropic", "google", "responses"} or bool(
        (request.body.get("stream_options") or {}).get("include_usage")
    )


def _split(text: str, pieces: int) -> list[str]:
    step = max(1, -(-len(text) // max(1, pieces)))
    return [text[start : start + step] for start in range(0, len(text), step)]


def _chat_events(request: Request, answer: shapes.Answer, pieces: int) -> list[bytes]:
    head = shapes.chat_head(request, "chat.completion.chunk")

    def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return b"data: " + orjson.dumps({**head, "choices": [choice]}) + b"\n\n"

    key = "refusal" if answer.finish == "refusal" else "content"
    out = [event({"role": "assistant", "content": ""})]
    out += [event({key: piece}) for piece in _split(answer.text, pieces)]
    if answer.tool:
        out.append(event({"tool_calls": [{"index": 0, **shapes.tool_call(request, answer)}]}))
    out.append(event({}, shapes.FINISH["chat"][answer.finish]))
    if answer.usage and usage_is_streamed(request):
        usage = {**head, "choices": [], "usage": shapes.chat_usage(answer)}
        out.append(b"data: " + orjson.dumps(usage) + b"\n\n")
    out.append(b"data: [DONE]\n\n")
    return out


def _response_events(request: Request, answer: shapes.Answer, pieces: int) -> list[bytes]:
    whole = shapes.whole(request, answer)
    [item] = whole["output"]
    where = {"item_id": item.get("id"), "output_index": 0, "content_index": 0}
    started = {**whole, "status": "in_progress", "output": [], "usage": None}
    found = [
        {"type": "response.created", "response": started},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}},
        *(
            {"type": "response.output_text.delta", **where, "delta": piece, "logprobs": []}
            for piece in _split(answer.text, pieces)
        ),
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": f"response.{whole['status']}", "response": whole},
    ]
    return [
        b"event: %s\ndata: " % event["type"].encode()
        + orjson.dumps({**event, "sequence_number": n})
        + b"\n\n"
        for n, event in enumerate(found)
    ]


def _anthropic_events(request: Request, answer: shapes.Answer, pieces: int) -> list[bytes]:
    def event(kind: str, **fields: Any) -> bytes:
        return b"event: %s\ndata: " % kind.encode() + orjson.dumps({"type": kind, **fields}) + b"\n\n"

    started = {**shapes.anthropic_input(answer), "output_tokens": 1}
    message = {**shapes.anthropic_head(request), "content": [], "stop_reason": None, "usage": started}
    block: dict[str, Any] = {"type": "text", "text": ""}
    deltas = [{"type": "text_delta", "text": piece} for piece in _split(answer.text, pieces)]
    if answer.tool:
        name, arguments = answer.tool
        block = {"type": "tool_use", "id": f"toolu_{request.seq}", "name": name, "input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": orjson.dumps(arguments).decode()}]
    stop = {"stop_reason": shapes.FINISH["anthropic"][answer.finish], "stop_sequence": None}
    return [
        event("message_start", message=message),
        event("content_block_start", index=0, content_block=block),
        *(event("content_block_delta", index=0, delta=delta) for delta in deltas),
        event("content_block_stop", index=0),
        event("message_delta", delta=stop, usage={"output_tokens": answer.output_tokens}),
        event("message_stop"),
    ]


def error_event(request: Request) -> bytes:
    _, body = shapes.error(request, Reply(status=529))
    lead = b"event: error\n" if request.api == "anthropic" else b""
    return lead + b"data: " + orjson.dumps(body) + b"\n\n"
