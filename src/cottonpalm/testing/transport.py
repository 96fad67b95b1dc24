"""An HTTP transport that fails on purpose, for real model classes without a server."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from enum import Enum
from typing import Any, Self, TypeAlias


class Flaw(Enum):
    """Ways in which an answer fails to arrive."""

    DROP = "drop"  # the connection closes before the answer
    STALL = "stall"  # nothing comes, until the client's read timeout
    CUT = "cut"  # the connection closes half-way through the answer
    MALFORMED = "malformed"  # the answer is not JSON


Step: TypeAlias = "int | tuple[int, Mapping[str, str]] | Flaw | str | Mapping[str, Any] | float | None"


class FlakyTransport:
    """Answers by a script: `httpx.AsyncClient(transport=FlakyTransport(429, Flaw.DROP, "fine"))`.

    It serves sync and async clients of `httpx` and `httpx2`; a model takes such a client as `http_client` or
    `http_async_client`. Answers have the shape of chat completions, or of Anthropic messages where the path
    says so; they are whole answers, streams are not made.

    Args:
        *steps: one for each request, in order: a status (429), a status with headers ((429, {"retry-after": "7"})),
            a `Flaw`, the answer's text, a whole JSON body as a dict, or None for the ordinary answer. A float waits
            so many seconds and the next step answers.
        then: a function of the request that gives a step, once the script has run out; without it the answers
            are ordinary ("answer to: " and the last message).

    Attributes:
        requests: every request, in order.
    """

    def __init__(self, *steps: Step, then: Callable[[Any], Step] | None = None) -> None:
        self._steps, self._then = iter(steps), then
        self._lock = threading.Lock()
        self.requests: list[Any] = []

    async def handle_async_request(self, request: Any) -> Any:
        """Answer one request of an async client."""
        await request.aread()
        self.requests.append(request)
        while isinstance(step := self._next(request), float):  # noqa: ASYNC110 - the script says how long
            await asyncio.sleep(step)
        if step is Flaw.STALL:
            await asyncio.sleep(_read_timeout_s(request))
        return _answer(request, step)

    def handle_request(self, request: Any) -> Any:
        """Answer one request of a sync client."""
        request.read()
        self.requests.append(request)
        while isinstance(step := self._next(request), float):
            threading.Event().wait(step)
        if step is Flaw.STALL:
            threading.Event().wait(_read_timeout_s(request))
        return _answer(request, step)

    def _next(self, request: Any) -> Step:
        with self._lock:
            for step in self._steps:
                return step
        return None if self._then is None else self._then(request)

    def close(self) -> None:
        """Nothing is open."""

    async def aclose(self) -> None:
        """Nothing is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _read_timeout_s(request: Any) -> float:
    """Return the seconds that the client waits for an answer; a day if it has no limit."""
    return (request.extensions.get("timeout") or {}).get("read") or 86_400.0


def _answer(request: Any, step: Step) -> Any:
    http = sys.modules[type(request).__module__.partition(".")[0]]  # the library that asks, httpx or httpx2
    if step is Flaw.DROP:
        raise http.RemoteProtocolError("Server disconnected without sending a response.", request=request)
    if step is Flaw.STALL:
        raise http.ReadTimeout("The read operation timed out", request=request)
    status, headers = step if isinstance(step, tuple) else (step, {}) if isinstance(step, int) else (200, {})
    body = json.dumps(_body(request, step, status)).encode()
    if step is Flaw.MALFORMED:
        body = body[: len(body) // 2]
    headers = {"content-type": "application/json", **headers}
    if step is not Flaw.CUT:
        return http.Response(status, headers=headers, content=body, request=request)
    return http.Response(200, headers=headers, stream=_cut_stream(http, body, request), request=request)


def _cut_stream(http: Any, body: bytes, request: Any) -> Any:
    cut = http.RemoteProtocolError(
        "peer closed connection without sending complete message body", request=request
    )

    class CutStream(http.SyncByteStream, http.AsyncByteStream):  # type: ignore[misc]
        def __iter__(self) -> Iterator[bytes]:
            yield body[: len(body) // 2]
            raise cut

        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield body[: len(body) // 2]
            raise cut

    return CutStream()


def _body(request: Any, step: Step, status: int) -> Mapping[str, Any]:
    if isinstance(step, Mapping):
        return step
    anthropic = request.url.path.endswith("/messages")
    if status >= 400:
        kind = "rate_limit_error" if status == 429 else "error"
        error = {"type": kind, "message": f"scripted {status}", "param": None, "code": None}
        return {"type": "error", "error": error}
    asked = json.loads(request.content)
    text = step if isinstance(step, str) else f"answer to: {_last_text(asked)}"
    return (_message if anthropic else _completion)(
        asked.get("model", "scripted"), text, len(request.content)
    )


def _last_text(asked: Mapping[str, Any]) -> str:
    content = (asked.get("messages") or [{"content": ""}])[-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _completion(model: str, text: str, size: int) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    used, said = size // 4, len(text) // 4 + 1
    usage = {"prompt_tokens": used, "completion_tokens": said, "total_tokens": used + said}
    head = {"id": "chatcmpl-scripted", "object": "chat.completion", "created": 0, "model": model}
    return {**head, "choices": [choice], "usage": usage}


def _message(model: str, text: str, size: int) -> dict[str, Any]:
    usage = {"input_tokens": size // 4, "output_tokens": len(text) // 4 + 1}
    head = {"id": "msg_scripted", "type": "message", "role": "assistant", "model": model}
    content = [{"type": "text", "text": text}]
    return {**head, "stop_reason": "end_turn", "stop_sequence": None, "content": content, "usage": usage}
