"""A server on 127.0.0.1 that answers each request with the bytes it was told, and keeps what it was sent."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import struct
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

Then = Literal["keep", "close", "reset", "hang"]


@dataclass(frozen=True)
class Wire:
    """The bytes of one answer, in the pieces in which they are sent, and what becomes of the connection."""

    pieces: tuple[bytes, ...]
    then: Then = "keep"


def wire(
    body: object,
    status: str = "200 OK",
    headers: dict[str, str] | None = None,
    *,
    packed: bool = False,
    chunks: int = 0,
    until_close: bool = False,
    then: Then = "keep",
) -> Wire:
    """An answer; a body that is not bytes is sent as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    told = {"Content-Type": "application/json", "X-Request-Id": "req-1", **(headers or {})}
    if packed:
        content, told["Content-Encoding"] = gzip.compress(content), "gzip"
    if chunks:
        told["Transfer-Encoding"] = "chunked"
        size = max(1, len(content) // chunks)
        parts = [content[at : at + size] for at in range(0, len(content), size)]
        content = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    elif not until_close:
        told["Content-Length"] = str(len(content))
    head = "".join(
        [f"HTTP/1.1 {status}\r\n", *(f"{name}: {value}\r\n" for name, value in told.items()), "\r\n"]
    )
    return Wire((head.encode(), content), "close" if until_close else then)


def cut(full: Wire, kept: int, then: Then = "close") -> Wire:
    """The same answer, broken off `kept` bytes before its end."""
    whole = b"".join(full.pieces)
    return Wire((whole[: len(whole) - kept],), then)


@dataclass
class Sent:
    """One request as the server saw it."""

    line: str
    headers: dict[str, str]
    body: Any
    connection: int


@dataclass
class Server:
    """Answers with `wire`, whatever is asked."""

    context: ssl.SSLContext | None = None
    wire: Wire = field(default_factory=lambda: Wire((b"",)))
    sent: list[Sent] = field(default_factory=list)
    connections: int = 0

    def __enter__(self) -> Self:
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(20)

    async def _main(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.context)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._over.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    @property
    def url(self) -> str:
        scheme, host = ("https", "localhost") if self.context else ("http", "127.0.0.1")
        return f"{scheme}://{host}:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        try:
            while True:
                sent = await _read(reader, number)
                self.sent.append(sent)  # to the list of now: the connection may be older
                told = self.wire
                for piece in told.pieces:
                    writer.write(piece)
                    await writer.drain()
                if told.then == "hang":
                    await self._over.wait()
                if told.then == "reset":
                    raw = writer.get_extra_info("socket")
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    writer.transport.abort()
                    return
                if told.then == "close":
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader, connection: int) -> Sent:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Sent(line, headers, json.loads(body) if body else None, connection)
