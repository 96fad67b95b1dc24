"""A provider that caches prompts as the vendors document it, behind an HTTP transport: for runs in virtual time.

`caching_server.py` puts it behind a socket. It has its own notion of a prompt, so that ours can be wrong.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import deque
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, Self

from cottonpalm import clock

if TYPE_CHECKING:
    from random import Random

MARKS = ("cache_control", "prompt_cache_breakpoint")


@dataclass(frozen=True)
class Vendor:
    """What one vendor documents; prices in dollars for a million tokens, `read` and `write` as parts of the input's."""

    name: str
    url: str
    model: str
    minimum: int
    step: int = 128
    life_s: float = 300.0
    usable: Literal["arrives", "begins", "ends"] = "ends"  # a request that wrote it
    asked: Literal["itself", "cache_control", "breakpoints"] = "itself"
    first: int = 1  # requests of a prefix after which others hit
    servers: int = 1  # a request without a key goes to any of them
    per_minute: float = 1e9  # that one server takes of one prefix, before others get it too
    input: float = 1.0
    output: float = 4.0
    read: float = 0.1
    write: float = 1.0
    chars: int = 4  # that are a token


OPENAI = Vendor("OpenAI", "https://api.openai.com/v1", "gpt-4.1", 1_024, input=2.0, output=8.0, read=0.25)
OPENAI_NEW = replace(
    OPENAI,
    name="OpenAI 5.6",
    model="gpt-5.6",
    step=1,
    life_s=1_800.0,
    asked="breakpoints",
    input=4.0,
    output=20.0,
    read=0.1,
    write=1.25,
)
ANTHROPIC = Vendor(
    name="Anthropic",
    url="https://api.anthropic.com",
    model="claude-opus-5-5",
    minimum=512,
    step=1,
    usable="begins",
    asked="cache_control",
    input=4.0,
    output=20.0,
    read=0.05,
    write=1.25,
)
MISTRAL = Vendor(
    name="Mistral",
    url="https://api.mistral.ai/v1",
    model="mistral-small-latest",
    minimum=64,
    step=64,
    servers=4,
    input=0.15,
    output=0.6,
)
GROQ = Vendor(
    name="Groq",
    url="https://api.groq.com/openai/v1",
    model="openai/gpt-oss-120b",
    minimum=1_024,
    life_s=7_200.0,
    input=0.15,
    output=0.6,
    read=0.5,
)
GEMINI = Vendor(
    name="Gemini",
    url="https://generativelanguage.googleapis.com/v1beta",
    model="gemini-2.5-flash",
    minimum=2_048,
    input=0.3,
    output=2.5,
)
DEEPSEEK = Vendor(
    name="DeepSeek",
    url="https://api.deepseek.com/v1",
    model="deepseek-chat",
    minimum=64,
    step=64,
    life_s=7_200.0,
    first=2,
    input=0.27,
    output=1.1,
    read=0.07 / 0.27,
)
VLLM = Vendor(
    name="vLLM",
    url="http://gpu-1.example:8000/v1",
    model="qwen3-8b",
    minimum=16,
    step=16,
    life_s=1e9,
    usable="arrives",
    input=0.0,
    output=0.0,
)
VENDORS = (OPENAI, OPENAI_NEW, ANTHROPIC, MISTRAL, GROQ, GEMINI, DEEPSEEK)


@dataclass
class Entry:
    """A prefix in the cache of one server."""

    answers: int = 0
    until_s: float = 0.0


@dataclass
class Bill:
    """What was used, in tokens, and what it costs."""

    requests: int = 0
    fresh: int = 0
    read: int = 0
    written: int = 0
    written_1h: int = 0
    output: int = 0
    usd: float = 0.0

    @property
    def tokens(self) -> tuple[int, int, int]:
        """The input: fresh, read and written."""
        return self.fresh, self.read, self.written


@dataclass
class CachingTransport:
    """Answers every request after `latency_s`; a fifth of that is over when the answer begins.

    Attributes:
        sent: (virtual seconds, body) of each request.
        fails: statuses that the next requests get instead of an answer.
    """

    vendor: Vendor
    latency_s: float = 1.0
    jitter: Random | None = None  # answers take from half to one and a half times as long
    bill: Bill = field(default_factory=Bill)
    sent: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    fails: deque[int] = field(default_factory=deque)
    _cache: dict[tuple[int, bytes], Entry] = field(default_factory=dict)
    _minute: dict[tuple[bytes, int], deque[float]] = field(default_factory=dict)

    async def handle_async_request(self, request: Any) -> Any:
        """One request of an async client of httpx or httpx2."""
        http = sys.modules[type(request).__module__.partition(".")[0]]
        status, answer = await self.exchange(json.loads(await request.aread()))
        return http.Response(status, json=answer, request=request)

    async def exchange(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Return status and answer to one request, when its time has passed."""
        self.sent.append((clock.now(), body))
        if self.fails:
            await asyncio.sleep(self.latency_s)
            return self.fails.popleft(), {"error": {"message": "no"}}
        read, written, hour, total = self._begin(body)
        latency_s = self.latency_s * (1 if self.jitter is None else self.jitter.uniform(0.5, 1.5))
        if self.vendor.usable == "arrives":
            self._store(body)
        for usable, share in (("begins", 0.2), ("ends", 0.8)):
            await asyncio.sleep(latency_s * share)
            if self.vendor.usable == usable:
                self._store(body)
        return 200, self._answer(body, read, written, hour, total)

    async def aclose(self) -> None:
        """Nothing is open."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    # -- the cache

    def _begin(self, body: dict[str, Any]) -> tuple[int, int, bool, int]:
        now, server = clock.now(), self._server(body)
        text, ends, hour = _flat(body)
        read = 0
        for size, digest in self._places(text, ends, body):
            entry = self._cache.get((server, digest))
            if entry is not None and entry.answers >= self.vendor.first and entry.until_s >= now:
                entry.until_s = now + (3_600.0 if hour else self.vendor.life_s)
                read = size
        places = self._places(text, ends, body)
        longest = places[-1][0] if places else 0
        written = max(0, longest - read) if self.vendor.write > 1 else 0
        return read, written, hour, len(text) // self.vendor.chars

    def _store(self, body: dict[str, Any]) -> None:
        server = self._server(body, again=True)
        text, ends, hour = _flat(body)
        for _, digest in self._places(text, ends, body):
            entry = self._cache.setdefault((server, digest), Entry())
            entry.answers += 1
            entry.until_s = clock.now() + (3_600.0 if hour else self.vendor.life_s)

    def _places(self, text: str, ends: list[int], body: dict[str, Any]) -> list[tuple[int, bytes]]:
        """Prefixes that can be cached: tokens and digest, the shortest first."""
        vendor = self.vendor
        if vendor.asked == "itself":
            sizes = list(range(vendor.minimum, len(text) // vendor.chars + 1, vendor.step))
        else:
            sizes = [end // vendor.chars for end in ends[-4:]]
            if (
                vendor.asked == "breakpoints"
                and (body.get("prompt_cache_options") or {}).get("mode") != "explicit"
            ):
                sizes.append(len(text) // vendor.chars)
        found, hashed, at = [], blake2b(digest_size=16), 0
        for size in sizes:
            hashed.update(text[at * vendor.chars : size * vendor.chars].encode())
            at = size
            if size >= vendor.minimum:
                found.append((size, hashed.digest()))
        return found

    def _server(self, body: dict[str, Any], *, again: bool = False) -> int:
        """Who answers: by the prompt's start and the key; what is too much for one server goes to the next."""
        vendor, key = self.vendor, str(body.get("prompt_cache_key", ""))
        start = _flat(body)[0][:1_024] + key
        if vendor.servers > 1 and not key:
            start += str(hash(json.dumps(body)) % vendor.servers)
        digest = blake2b(start.encode(), digest_size=4).digest()
        server = int.from_bytes(digest)
        if vendor.per_minute >= 1e9:
            return server
        now, at = clock.now(), 0
        while True:
            recent = self._minute.setdefault((digest, at), deque())
            while recent and recent[0] < now - 60:
                recent.popleft()
            if again or len(recent) < vendor.per_minute:
                if not again:
                    recent.append(now)
                return server + at
            at += 1

    # -- the answer

    def _answer(
        self, body: dict[str, Any], read: int, written: int, hour: bool, total: int
    ) -> dict[str, Any]:
        vendor, out = self.vendor, 20
        fresh = total - read - written
        one = vendor.input / 1e6
        bill = self.bill
        self.bill = replace(
            bill,
            requests=bill.requests + 1,
            fresh=bill.fresh + fresh,
            read=bill.read + read,
            written=bill.written + written,
            written_1h=bill.written_1h + (written if hour else 0),
            output=bill.output + out,
            usd=bill.usd
            + one * (fresh + read * vendor.read + written * (2.0 if hour else vendor.write))
            + out * vendor.output / 1e6,
        )
        return _shape(
            vendor, body, {"read": read, "written": written, "hour": hour, "total": total, "out": out}
        )


def _shape(vendor: Vendor, body: dict[str, Any], used: dict[str, Any]) -> dict[str, Any]:
    text = "answer"
    if vendor.name == "Anthropic":
        split = "ephemeral_1h_input_tokens" if used["hour"] else "ephemeral_5m_input_tokens"
        usage = {
            "input_tokens": used["total"] - used["read"] - used["written"],
            "cache_read_input_tokens": used["read"],
            "cache_creation_input_tokens": used["written"],
            "cache_creation": {split: used["written"]},
            "output_tokens": used["out"],
        }
        head = {
            "id": "m",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "stop_sequence": None,
        }
        return {
            **head,
            "stop_reason": "end_turn",
            "content": [{"type": "text", "text": text}],
            "usage": usage,
        }
    if vendor.name == "Gemini":
        counts = {"promptTokenCount": used["total"], "candidatesTokenCount": used["out"]}
        counts |= {"cachedContentTokenCount": used["read"]} if used["read"] else {}
        parts = {"role": "model", "parts": [{"text": text}]}
        return {"candidates": [{"content": parts, "finishReason": "STOP"}], "usageMetadata": counts}
    details = {"cached_tokens": used["read"], "cache_write_tokens": used["written"]}
    usage = {"prompt_tokens": used["total"], "completion_tokens": used["out"], "total_tokens": 0}
    if vendor.name == "DeepSeek":
        usage |= {"prompt_cache_hit_tokens": used["read"]}
    else:
        usage |= {"prompt_tokens_details": details}
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    head = {"id": "c", "object": "chat.completion", "created": 0, "model": body["model"]}
    return {**head, "choices": [choice], "usage": usage}


def _flat(body: dict[str, Any]) -> tuple[str, list[int], bool]:
    """The prompt as one text, where it is marked, and whether for an hour."""
    parts: list[Any] = [*(body.get("tools") or []), *_listed(body.get("system"))]
    parts += (body.get("systemInstruction") or {}).get("parts", [])
    for message in body.get("messages") or body.get("contents") or []:
        parts += _listed(message.get("content") or message.get("parts"))
    text, ends, hour = "", [], False
    for part in parts:
        marks = [part[name] for name in MARKS if isinstance(part, dict) and name in part]
        text += _text(part)
        if marks:
            ends.append(len(text))
            hour = hour or marks[0].get("ttl") == "1h"
    return text, ends, hour


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _text(part: Any) -> str:
    if isinstance(part, dict) and "text" in part:
        return str(part["text"])
    return part if isinstance(part, str) else json.dumps(part)
