"""A pool of HTTP/1.1 connections on one event loop, for requests whose answers are read whole."""

from __future__ import annotations

import asyncio
import select
import socket
from collections import Counter, deque
from contextvars import Context
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cottonpalm.request.transport.http1.reader import Answered, Malformed, Reader
from cottonpalm.runtime.due import Due

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterable


IN_VAIN: Final = 2  # requests on a kept connection that met its end, from which none is kept
# From this status on the server says that it is broken itself. Of several behind one address, the broken one fails
# soonest: its connection, free again before all others, would get each next try. A new one may lead to one that works.
UNWELL: Final = 500


class NotConnected(Exception):
    """No connection could be made, so nothing was sent."""


class TooSlow(Exception):
    """Nothing came for as long as the client waits."""

    def __init__(self, phase: str) -> None:
        super().__init__(phase)
        self.phase = phase  # "connect" or "read"


class Origin(NamedTuple):
    """Where a request goes, and how connections there are made and kept.

    Attributes:
        context: for TLS; None: a plain connection.
        name: the server's name in its certificate.
        options: socket options.
        idle_s: for how long an unused connection is kept.
        connect_s: seconds that a connection may take to be made; None: any.
    """

    host: str
    port: int
    context: ssl.SSLContext | None
    name: str | None
    options: tuple[Any, ...]
    idle_s: float
    connect_s: float | None


class Connection(asyncio.Protocol):
    """One connection: one request at a time. Its answer has to be there `until` a moment of the loop's time."""

    __slots__ = (
        "_answer",
        "_heard",
        "_loop",
        "_reader",
        "_touched",
        "_watch",
        "closed",
        "idle_since",
        "until",
        "wire",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._reader = Reader()
        self._answer: asyncio.Future[Answered] | None = None
        self._touched = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._heard: Callable[[], bool] = bool
        self.closed = False
        self.idle_since = self.until = 0.0
        self.wire: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self.wire = transport
        if (sock := transport.get_extra_info("socket")) is not None:
            self._heard = _readable(sock.fileno())

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._watch is not None:
            self._touched = self._loop.time()
        if self._answer is None:  # a server that speaks unasked is about to close
            self.close()
            return
        try:
            if self._reader.feed(data):
                self._done()
        except Malformed as error:
            self._fail(error)

    def eof_received(self) -> bool:
        """The server sends no more."""
        self._ended()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        if exc is not None:
            self._fail(exc)
        else:
            self._ended()
        self.closed = True

    def _ended(self) -> None:
        self.closed = True
        if self._answer is None:
            return
        try:
            if self._reader.ended():
                self._done()
        except Malformed as error:
            self._fail(error)

    def _done(self) -> None:
        answer = self._over()
        if not self._reader.reusable:
            self.close()
        if answer is not None and not answer.done():
            answer.set_result(self._reader.answered)  # type: ignore[arg-type]

    def _fail(self, error: Exception) -> None:
        answer = self._over()
        self.close()
        if answer is not None and not answer.done():
            answer.set_exception(error)

    def _over(self) -> asyncio.Future[Answered] | None:
        answer, self._answer = self._answer, None
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        return answer

    @property
    def silent(self) -> bool:
        """Nothing of the latest answer has come."""
        return not self._reader.began

    def ask(self, head: bytes, body: bytes, read_s: float | None) -> asyncio.Future[Answered]:
        """Send a request; the future has the answer, or what became of it."""
        self._reader.fresh()
        self._answer = answer = self._loop.create_future()
        if read_s is not None:
            self._touched = self._loop.time()
            self._watch = self._loop.call_later(read_s, self._look, read_s)
        self.wire.write(head + body)
        return answer

    def cut(self) -> None:
        """End the request that is under way, if there is one, with a TimeoutError like that of `asyncio.timeout`."""
        if self._answer is not None:
            error = TimeoutError()
            error.__cause__ = asyncio.CancelledError()
            self._fail(error)

    def _look(self, read_s: float) -> None:
        """Whether bytes still come."""
        left = self._touched + read_s - self._loop.time()
        if left > 0:
            self._watch = self._loop.call_later(left, self._look, read_s)
        else:
            self._watch = None
            self._fail(TooSlow("read"))

    def gone(self) -> bool:
        """Whether no other request may go out on it: a server may have closed it of which the loop has yet to hear."""
        return self.closed or self._heard()

    def close(self) -> None:
        """Close it at once: whoever waited is gone, or nothing more is to come."""
        if not self.closed:
            self.closed = True
            if self.wire is not None:
                self.wire.abort()


class Pool:
    """The connections of one loop. Not thread-safe: it belongs to its loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._idle: dict[Origin, deque[Connection]] = {}
        # Who closes after each answer and does not say so: no connection there ever answered twice, and requests on one
        # that was kept came to nothing.
        self._twice: set[Origin] = set()
        self._in_vain: Counter[Origin] = Counter()
        self._due: Due[Connection] = Due(loop, attrgetter("until"), Connection.cut)
        # For a host of several addresses. Another loop (uvloop) may not know how to try two at once.
        self._more: dict[str, Any] = (
            {"happy_eyeballs_delay": 0.25} if isinstance(loop, asyncio.BaseEventLoop) else {}
        )

    async def send(  # noqa: PLR0917
        self,
        origin: Origin,
        head: bytes,
        body: bytes,
        read_s: float | None = None,
        timeout_s: float | None = None,
        began: Callable[[Callable[[], None]], None] | None = None,
    ) -> Answered:
        """Send a request and return its answer, read whole. Cancelled, it closes the connection.

        Args:
            origin: where to.
            head: the request line and all headers, with the empty line.
            body: the body.
            read_s: seconds without a byte after which the answer counts as lost; None: any.
            timeout_s: seconds that all of it may take; None: any.
            began: told what cuts it off, as it goes out: it then ends with a TimeoutError.

        Raises:
            TimeoutError: it took longer than `timeout_s`, or was cut off.
            NotConnected: no connection could be made.
            TooSlow: the connection or the answer took too long.
            Malformed: the answer broke off, or is not HTTP.
            OSError: the connection was reset.
        """
        until = None if timeout_s is None else self._loop.time() + timeout_s
        connection = kept = self._free(origin)
        if connection is None:
            connection = await self._connected_by(until, origin, began)
        answer = connection.ask(head, body, read_s)
        if began is not None:
            began(connection.cut)
        try:
            if until is None:
                answered = await answer
            else:
                connection.until = until
                self._due.add(connection)
                try:
                    answered = await answer
                finally:
                    self._due.discard(connection)
        except BaseException as error:
            connection.close()
            if kept is not None and kept.silent and isinstance(error, Malformed | OSError):
                self._in_vain[origin] += 1
            raise
        if kept is not None:
            self._twice.add(origin)
        if not connection.closed:
            self._keep(origin, connection, answered.status)
        return answered

    def _keep(self, origin: Origin, connection: Connection, status: int) -> None:
        ends = self._in_vain and self._in_vain[origin] >= IN_VAIN and origin not in self._twice
        if ends or status >= UNWELL:
            connection.close()
            return
        connection.idle_since = self._loop.time()
        self._idle.setdefault(origin, deque()).append(connection)

    def _free(self, origin: Origin) -> Connection | None:
        """Return the connection that was used last, and close those that nobody needed for long."""
        idle = self._idle.get(origin)
        if not idle:
            return None
        too_old = self._loop.time() - origin.idle_s
        while idle and (idle[0].closed or idle[0].idle_since < too_old):
            idle.popleft().close()
        while idle:
            if not (connection := idle.pop()).gone():
                return connection
            connection.close()
        return None

    async def _connected_by(
        self, until: float | None, origin: Origin, began: Callable[[Callable[[], None]], None] | None
    ) -> Connection:
        async with asyncio.timeout_at(until) as limit:
            if began is not None:
                began(lambda: limit.reschedule(self._loop.time()))
            return await self._connect(origin)

    def _connect(self, origin: Origin) -> Awaitable[Connection]:
        """Connect in a context of its own: a connection outlives the row, whose context it would keep."""
        return self._loop.create_task(self._connected(origin), context=Context())

    async def _connected(self, origin: Origin) -> Connection:
        try:
            async with asyncio.timeout(origin.connect_s):
                _, connection = await self._loop.create_connection(
                    lambda: Connection(self._loop),
                    origin.host,
                    origin.port,
                    ssl=origin.context,
                    server_hostname=origin.name,
                    **({} if _is_address(origin.host) else self._more),
                )
        except TimeoutError as error:
            raise TooSlow("connect") from error
        except Exception as error:  # mostly OSError, of which ssl.SSLError is one
            raise NotConnected(str(error)) from error
        _set(connection.wire.get_extra_info("socket"), origin.options)
        tls = connection.wire.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() not in (None, "http/1.1"):
            connection.close()
            raise NotConnected("the server chose a newer HTTP")
        return connection

    def close(self) -> None:
        """Close what is idle; the pool remains of use."""
        for idle in self._idle.values():
            for connection in idle:
                connection.close()
        self._idle.clear()

    @property
    def idle(self) -> int:
        """How many connections wait for their next request."""
        return sum(not connection.closed for idle in self._idle.values() for connection in idle)


_pools: Final[dict[asyncio.AbstractEventLoop, Pool]] = {}


def pool_of(loop: asyncio.AbstractEventLoop) -> Pool:
    """Return this loop's pool. Call it on the loop."""
    if (pool := _pools.get(loop)) is None:
        pool = _pools[loop] = Pool(loop)
    return pool


def hang_up(loop: asyncio.AbstractEventLoop) -> None:
    """Forget this loop's pool, and close what is idle in it."""
    pool = _pools.pop(loop, None)
    if pool is not None and not loop.is_closed():
        pool.close()


def _is_address(host: str) -> bool:
    """Whether the host is one address, not a name that may have several."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return True
    return False


def _readable(number: int) -> Callable[[], bool]:
    """Return what tells whether bytes or an end have come to this file that nobody has read; it must not be closed."""
    if not hasattr(select, "poll"):
        return lambda: bool(select.select([number], [], [], 0)[0])
    poll = select.poll()
    poll.register(number, select.POLLIN)
    return lambda: bool(poll.poll(0))


def _set(sock: Any, options: Iterable[Any]) -> None:
    for option in options:
        try:
            sock.setsockopt(*option)
        except OSError:  # as in httpcore's clients, what this system does not know is left out
            continue
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
