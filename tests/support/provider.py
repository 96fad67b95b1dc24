"""The server behind `loopback`: one protocol object per connection, no framework."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs

import orjson

from tests.support import shapes, streams
from tests.support.replies import Reply, Request, from_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.replies import Latency, Script

APIS = (
    ("/chat/completions", "chat"),
    ("/responses", "responses"),
    ("/messages", "anthropic"),
    ("/embeddings", "embeddings"),
    (":generateContent", "google"),
    (":streamGenerateContent", "google"),
)
REASONS = {
    200: b"OK",
    400: b"Bad Request",
    401: b"Unauthorized",
    404: b"Not Found",
    429: b"Too Many Requests",
}
RESET = struct.pack("ii", 1, 0)  # SO_LINGER of zero seconds: closing sends RST
ORDINARY = Reply()


class Arrival(NamedTuple):
    """One line of the log. `at_s` is seconds of the server's monotonic clock."""

    seq: int
    at_s: float
    path: str
    text: str
    nth: int


@dataclass(frozen=True, slots=True)
class Billed:
    """Answers and their tokens."""

    answers: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0

    def plus(self, answer: shapes.Answer) -> Billed:
        return Billed(
            self.answers + 1,
            self.input_tokens + answer.input_tokens,
            self.output_tokens + answer.output_tokens,
            self.cached_tokens + answer.cached,
        )


@dataclass(slots=True)
class Stats:
    """What GET /_stats says."""

    requests: int
    in_flight: int
    peak: int
    abandoned: int
    counts: dict[str, int]
    billed: dict[str, int]
    billed_unseen: dict[str, int]
    arrivals: list[list[Any]]


class Provider:
    """All state of the server; touched by its loop's thread alone."""

    def __init__(self, script: Script, latency: Latency) -> None:
        self.arrivals: list[Arrival] = []
        self.counts: Counter[str] = Counter()
        self.billed, self.billed_unseen = Billed(), Billed()
        self.in_flight = self.peak = self.abandoned = 0
        self.connections: set[Connection] = set()
        self.url = ""
        self._latency = latency
        self._held: deque[Callable[[], None]] = deque()
        self._watched: list[tuple[int, int, Callable[[], None]]] = []
        self._resting: list[Callable[[], None]] = []
        self.use(script)

    async def open(self, port: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = await self._loop.create_server(
            lambda: Connection(self, self._loop), "127.0.0.1", port, backlog=2048
        )
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        """Drop every connection; nothing is left on the loop."""
        self._server.close()
        for connection in tuple(self.connections):
            connection.drop()
        await self._server.wait_closed()

    def use(self, script: Script) -> None:
        self._script, self._first = script, len(self.arrivals)

    def arrive(self, path: str, head: bytes, body: dict[str, Any]) -> Request:
        seq = len(self.arrivals)
        api = next((api for end, api in APIS if path.endswith(end)), "other")
        text = shapes.last_user_text(body)
        self.counts[text] = nth = self.counts[text] + 1
        self.arrivals.append(Arrival(seq, self._loop.time(), path, text, nth))
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        if self._watched:
            self._tell()
        return Request(seq, path, api, body, text, nth, self.in_flight, head)

    def leave(self) -> None:
        self.in_flight -= 1
        self._rest()

    def reply_to(self, request: Request) -> tuple[Reply, float]:
        """The script's reply and the seconds to wait before it."""
        reply, script = None, self._script
        if callable(script):
            reply = script(request)
        elif isinstance(script, Sequence) and request.seq - self._first < len(script):
            reply = script[request.seq - self._first]
        reply = reply or ORDINARY
        if reply.delay_s is not None:
            return reply, reply.delay_s
        return reply, self._latency(request) if callable(self._latency) else self._latency

    def charge(self, answer: shapes.Answer, *, seen: bool) -> None:
        if seen:
            self.billed = self.billed.plus(answer)
        else:
            self.billed_unseen = self.billed_unseen.plus(answer)

    def hold(self, answer: Callable[[], None]) -> None:
        self._held.append(answer)

    def release(self, count: int | None) -> None:
        for _ in range(len(self._held) if count is None else count):
            self._held.popleft()()

    def watch(self, requests: int, in_flight: int, reached: Callable[[], None]) -> None:
        self._watched.append((requests, in_flight, reached))
        self._tell()

    def at_rest(self, reached: Callable[[], None]) -> None:
        self._resting.append(reached)
        self._rest()

    def _rest(self) -> None:
        if self.in_flight == 0 and self._resting:
            resting, self._resting = self._resting, []
            for reached in resting:
                reached()

    def _tell(self) -> None:
        waiting, self._watched = self._watched, []
        for requests, in_flight, reached in waiting:
            if len(self.arrivals) >= requests and self.in_flight >= in_flight:
                reached()
            else:
                self._watched.append((requests, in_flight, reached))

    def stats(self, *, log: bool = True) -> Stats:
        return Stats(
            len(self.arrivals),
            self.in_flight,
            self.peak,
            self.abandoned,
            dict(self.counts),
            asdict(self.billed),
            asdict(self.billed_unseen),
            [list(arrival) for arrival in self.arrivals] if log else [],
        )


class Connection(asyncio.Protocol):
    """One client connection: reads a request, answers it, keeps alive."""

    def __init__(self, provider: Provider, loop: asyncio.AbstractEventLoop) -> None:
        self.provider, self.loop = provider, loop
        self._buffer = b""
        self._request: Request | None = None  # the one under way
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.provider.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.provider.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._request is not None:
            self.provider.abandoned += 1
            self._over()

    def drop(self) -> None:
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._request is None:
            self._next()

    def _next(self) -> None:
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lower = head.lower()
        at = lower.find(b"\r\ncontent-length:")
        size = int(lower[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(rest) < size:
            return
        body, self._buffer = rest[:size], rest[size:]
        method, path, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        path, _, query = path.partition("?")
        if path.startswith("/_"):
            self._control(path, parse_qs(query), body)
        elif method != "POST":
            self._send(404, b"{}")
        else:
            self._begin(path, head, body)

    # -- control ------------------------------------------------------------------------------------------

    def _control(self, path: str, query: dict[str, list[str]], body: bytes) -> None:
        if path == "/_stats":
            self._send(200, orjson.dumps(self.provider.stats(log=query.get("log") != ["0"])))
        elif path == "/_script":
            self.provider.use(from_json(orjson.loads(body)))
            self._send(200, b"{}")
        elif path == "/_wait":
            numbers = (int(query.get(name, ["0"])[0]) for name in ("requests", "in_flight"))
            self.provider.watch(*numbers, self._reached)
        else:
            self._send(404, b"{}")

    def _reached(self) -> None:
        if not self.transport.is_closing():
            where = {"requests": len(self.provider.arrivals), "in_flight": self.provider.in_flight}
            self._send(200, orjson.dumps(where))

    # -- model requests -----------------------------------------------------------------------------------

    def _begin(self, path: str, head: bytes, body: bytes) -> None:
        request = self._request = self.provider.arrive(path, head, orjson.loads(body))
        reply, delay_s = self.provider.reply_to(request)
        if reply.ending == "hang":
            return
        if reply.ending == "held":
            self.provider.hold(lambda: self._request is request and self._answer(request, reply))
        elif delay_s > 0:
            self._timer = self.loop.call_later(delay_s, self._answer, request, reply)
        else:
            self._answer(request, reply)

    def _answer(self, request: Request, reply: Reply) -> None:
        if reply.ending == "reset":
            self._reset()
        elif reply.raw is not None:
            self._finish(reply.status, reply.raw.encode(), reply)
        elif reply.status >= 400:
            self._error(request, reply)
        elif request.stream and request.api != "embeddings":
            self._stream(request, reply)
        elif reply.ending == "stream_error":
            self._error(request, Reply(status=500))
        else:
            self._whole(request, reply)

    def _error(self, request: Request, reply: Reply) -> None:
        status, body = shapes.error(request, reply)
        self._finish(status, orjson.dumps(body), reply)

    def _whole(self, request: Request, reply: Reply) -> None:
        answer = shapes.answer_for(request, reply)
        body = orjson.dumps(shapes.whole(request, answer))
        self.provider.charge(answer, seen=reply.usage and reply.ending in {"whole", "held"})
        if reply.ending == "malformed":
            self._finish(200, body[: len(body) // 2], reply)
        elif reply.ending in {"cut", "stall"}:
            self.transport.write(_head(200, len(body), reply) + body[: len(body) // 2])
            if reply.ending == "cut":
                self._hang_up()
        else:
            self._finish(200, body, reply)

    def _stream(self, request: Request, reply: Reply) -> None:
        answer = shapes.answer_for(request, reply)
        events = streams.events(request, answer, reply.chunks)
        whole = reply.ending in {"whole", "held"}
        self.provider.charge(answer, seen=whole and reply.usage and streams.usage_is_streamed(request))
        if not whole:
            events = events[: len(events) // 2]
        if reply.ending == "malformed":
            events.append(b'event: content_block_delta\ndata: {"id": "broken\n\n')
        elif reply.ending == "stream_error":
            events.append(streams.error_event(request))
        self.transport.write(_head(200, None, reply))
        self._events(deque(events), reply)

    def _events(self, events: deque[bytes], reply: Reply) -> None:
        while events:
            event = events.popleft()
            self.transport.write(b"%x\r\n%b\r\n" % (len(event), event))
            if events and reply.chunk_gap_s:
                self._timer = self.loop.call_later(reply.chunk_gap_s, self._events, events, reply)
                return
        if reply.ending == "cut":
            self._hang_up()
        elif reply.ending != "stall":
            self._over()
            self.transport.write(b"0\r\n\r\n")
            self._next()

    # -- endings ------------------------------------------------------------------------------------------

    def _finish(self, status: int, body: bytes, reply: Reply) -> None:
        self._over()
        self.transport.write(_head(status, len(body), reply) + body)
        self._next()

    def _send(self, status: int, body: bytes) -> None:
        self.transport.write(_head(status, len(body), ORDINARY) + body)
        self._next()

    def _over(self) -> None:
        self._request, self._timer = None, None
        self.provider.leave()

    def _hang_up(self) -> None:
        self._over()
        self.transport.close()

    def _reset(self) -> None:
        self._over()
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()


def _head(status: int, size: int | None, reply: Reply) -> bytes:
    """The response's head; a body of unknown size is a chunked stream of events."""
    lines = b"HTTP/1.1 %d %b\r\n" % (status, REASONS.get(status, b"Error"))
    if size is None:
        lines += b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
    else:
        lines += b"content-type: application/json\r\ncontent-length: %d\r\n" % size
    for name, value in reply.headers.items():
        lines += f"{name}: {value}\r\n".encode()
    return lines + b"\r\n"
