"""What the loopback provider may answer, and small scripts made of it.

A script is a function of the request that gives a `Reply` (None: the ordinary answer), or a list of replies
used in order of arrival, after which every answer is ordinary. All replies are plain data, so that a script
can also be sent to a server in another process as JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Literal, TypeAlias

Ending: TypeAlias = Literal["whole", "hang", "held", "reset", "cut", "stall", "malformed", "stream_error"]
Finish: TypeAlias = Literal["stop", "length", "filter", "refusal"]


@dataclass(slots=True)
class Request:
    """One request as a script sees it. `text` is the last user text; `nth` counts its arrivals from 1."""

    seq: int
    path: str
    api: str  # chat, responses, anthropic, google, embeddings, other
    body: dict[str, Any]
    text: str
    nth: int
    in_flight: int  # this one included
    head: bytes = field(repr=False)

    @property
    def stream(self) -> bool:
        return bool(self.body.get("stream")) or self.path.endswith(":streamGenerateContent")

    @property
    def headers(self) -> dict[str, str]:
        """Names in lower case. Parsed when asked for."""
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer.

    Args:
        status: 200, or the status of an error whose body has the provider's shape.
        text: the answer's text; None is the server's deterministic one.
        code: the error's name, see `shapes.ERRORS`.
        headers: added to the response.
        delay_s: seconds before the answer; None is the server's latency.
        ending: how the answer reaches the client, or does not.
        finish: why the model stopped.
        usage: whether the answer says what it cost.
        cached: tokens of the prompt that were read from the provider's cache.
        reasoning: tokens of the answer that nobody sees.
        tool: (name, arguments) for a tool call in place of text.
        chunks: pieces of a streamed answer.
        chunk_gap_s: seconds between them.
        raw: the whole body, sent as it is.
    """

    status: int = 200
    text: str | None = None
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float | None = None
    ending: Ending = "whole"
    finish: Finish = "stop"
    usage: bool = True
    cached: int = 0
    reasoning: int = 0
    tool: tuple[str, dict[str, Any]] | None = None
    chunks: int = 4
    chunk_gap_s: float = 0.0
    raw: str | None = None

    def after(self, delay_s: float) -> Reply:
        """The same answer, `delay_s` seconds after the request."""
        return replace(self, delay_s=delay_s)

    def having(self, **headers: str) -> Reply:
        """The same answer with more headers; an underscore in a name stands for a dash."""
        return replace(self, headers={**self.headers, **{k.replace("_", "-"): v for k, v in headers.items()}})


Script: TypeAlias = Callable[[Request], Reply | None] | Sequence[Reply | None] | None
Latency: TypeAlias = float | Callable[[Request], float]


def ok(text: str | None = None, **more: Any) -> Reply:
    return Reply(text=text, **more)


def fails(status: int, code: str | None = None, **more: Any) -> Reply:
    """Any error status with the provider's ordinary code for it."""
    return Reply(status=status, code=code, **more)


def too_many(retry_after_s: float | str | None = None, retry_after_ms: float | None = None) -> Reply:
    """429 with the given wait, or without any."""
    headers = {}
    if retry_after_s is not None:
        headers["retry-after"] = f"{retry_after_s}"
    if retry_after_ms is not None:
        headers["retry-after-ms"] = f"{retry_after_ms}"
    return Reply(status=429, headers=headers)


def no_credit() -> Reply:
    """The account has no money left: 429 insufficient_quota, or Anthropic's 400 about the credit balance."""
    return Reply(status=429, code="insufficient_quota")


def bad_key() -> Reply:
    return Reply(status=401)


def unknown_model() -> Reply:
    return Reply(status=404)


def context_too_long() -> Reply:
    return Reply(status=400, code="context_length_exceeded")


def hangs() -> Reply:
    """Never answers; the connection stays open."""
    return Reply(ending="hang")


def held() -> Reply:
    """Answers when the test calls `server.release()`."""
    return Reply(ending="held")


def resets() -> Reply:
    """The connection is reset before any byte of the answer."""
    return Reply(ending="reset")


def cut_body() -> Reply:
    """The connection closes half-way through the answer, streamed or not."""
    return Reply(ending="cut")


def stalls() -> Reply:
    """Half of the answer comes, then nothing more; the connection stays open."""
    return Reply(ending="stall")


def malformed() -> Reply:
    """A whole response whose body is no JSON."""
    return Reply(ending="malformed")


def error_in_stream() -> Reply:
    """An error event in the middle of a stream; a 500 where no stream was asked for."""
    return Reply(ending="stream_error")


def cut_by_length(text: str | None = None) -> Reply:
    return Reply(text=text, finish="length")


def filtered() -> Reply:
    return Reply(text="", finish="filter")


def refused(text: str = "I cannot help with that.") -> Reply:
    return Reply(text=text, finish="refusal")


def no_usage() -> Reply:
    return Reply(usage=False)


def rate_headers(
    *, requests: tuple[int, int], tokens: tuple[int, int], reset: str = "1s", anthropic: bool = False
) -> dict[str, str]:
    """The provider's headers for (limit, left) of requests and of tokens."""
    head = "anthropic-ratelimit-{what}-{part}" if anthropic else "x-ratelimit-{part}-{what}"
    return {
        head.format(what=what, part=part): str(value)
        for what, (limit, left) in (("requests", requests), ("tokens", tokens))
        for part, value in (("limit", limit), ("remaining", left), ("reset", reset))
    }


def lognormal(median_s: float, sigma: float, seed: int) -> Callable[[Request], float]:
    """Latency with a long tail: the next draw for each request in order of arrival."""
    random = Random(seed)
    return lambda _: median_s * random.lognormvariate(0, sigma)


def uniform(low_s: float, high_s: float, seed: int) -> Callable[[Request], float]:
    random = Random(seed)
    return lambda _: random.uniform(low_s, high_s)


def faulty(
    seed: int, faults: Sequence[tuple[float, Reply]], *, first: int = 2
) -> Callable[[Request], Reply | None]:
    """Each share of the requests gets its reply; from arrival `first` + 1 on a text is answered well.

    The draw depends on (seed, text, nth) alone: the order in which rows arrive changes nothing.
    """

    def script(request: Request) -> Reply | None:
        if request.nth > first:
            return None
        draw = Random(f"{seed}|{request.text}|{request.nth}").random()
        for share, reply in faults:
            if draw < share:
                return reply
            draw -= share
        return None

    return script


def capped(limit: int, reply: Reply | None = None) -> Callable[[Request], Reply | None]:
    """A provider that pushes back whenever more than `limit` requests are in flight."""
    pushed_back = reply or too_many()
    return lambda request: pushed_back.after(0.0) if request.in_flight > limit else None


def from_json(script: Any) -> Script:
    """A script sent as JSON: a list of replies, or {"faulty": [seed, [[share, {...}]], first]},
    or {"replies": [...], "always": {...}}."""
    if not isinstance(script, dict):
        return [Reply(**reply) if reply else None for reply in script]
    if "faulty" in script:
        seed, faults, first = script["faulty"]
        return faulty(seed, [(share, Reply(**reply)) for share, reply in faults], first=first)
    always = Reply(**script["always"]) if "always" in script else None
    replies = iter([Reply(**reply) if reply else None for reply in script.get("replies", ())])
    return lambda _: next(replies, always)
