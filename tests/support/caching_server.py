"""The provider of `prompt_caching.py` on 127.0.0.1: real sockets, real HTTP, real time.

    with CachingServer(CachingTransport(ANTHROPIC, 0.05)) as server:
        client = httpx2.AsyncClient(transport=server.transport())

Requests keep the vendor's own URL, by which its terms are known; only the connection goes to this machine.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Self

import httpx2
from aiohttp import web

if TYPE_CHECKING:
    from types import TracebackType

    from tests.support.prompt_caching import CachingTransport


class CachingServer:
    """One provider in a thread of this process."""

    def __init__(self, provider: CachingTransport) -> None:
        self.provider = provider
        self.port = 0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._ready = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(20), "the server did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(20)

    def transport(self) -> httpx2.AsyncBaseTransport:
        """What takes a client's requests here, whatever host they are meant for."""
        return _Here(self.port)

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(client_max_size=2**24)
        app.router.add_post("/{path:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.port = runner.addresses[0][1]
        self._ready.set()
        await self._over.wait()
        await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        status, answer = await self.provider.exchange(await request.json())
        return web.json_response(answer, status=status)


class _Here(httpx2.AsyncHTTPTransport):
    def __init__(self, port: int) -> None:
        super().__init__(limits=httpx2.Limits(max_connections=None))
        self._port = port

    async def handle_async_request(self, request: Any) -> Any:
        here = request.url.copy_with(scheme="http", host="127.0.0.1", port=self._port)
        sent = httpx2.Request(request.method, here, headers=request.headers, stream=request.stream)
        return await super().handle_async_request(sent)
