"""Sends one request through an HTTP client, and shows its answer to `attempts` and to the chain."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cottonpalm import clock
from cottonpalm.providers.raised import asks_on
from cottonpalm.request.attempt.steps import Done, KeptFailure, Reply
from cottonpalm.request.transport.stream_reader import AsyncTap, Reading, SyncTap, tap_class
from cottonpalm.runtime.time_limit import TimeLimit

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from cottonpalm.request.transports import StockCall

# True below the original `send`: a transport may itself use a client, and we must leave its requests alone.
INSIDE: Final[ContextVar[bool]] = ContextVar("cottonpalm_inside", default=False)
# a connection takes no longer, TLS included: a server that is there answers within seconds
CONNECT_S: Final = 10.0
_OF_THE_WIRE: Final = frozenset({"content-encoding", "content-length", "transfer-encoding"})


@dataclass(slots=True)
class Sender:
    """Sends one request.

    Attributes:
        http: the HTTP library of the request, `httpx` or `httpx2`.
        stream: True: the caller reads the body itself.
        send: the original `send` with all its options; each try calls it once with a request.
        counted: the call of the SDK that it is for; None: its transport is not counted.
    """

    http: ModuleType
    request: Any
    stream: bool
    send: Callable[[Any], Any]
    counted: StockCall | None = None

    async def once(
        self,
        timeout_s: float,
        body: bytes | None = None,
        began: Callable[[Callable[[], None]], None] | None = None,
    ) -> Reply:
        """Send once, as a task; an exception becomes part of the reply.

        Args:
            timeout_s: for the whole answer, or until a stream begins.
            body: the body to send in place of the request's own.
            began: told what cuts it off, as it goes out.
        """
        request = self._with(body)
        self._sends()
        kept = request.extensions
        request.extensions = {**kept, "timeout": connecting_soon(kept.get("timeout"))}
        token = INSIDE.set(True)
        at, loop = clock.now(), asyncio.get_running_loop()
        try:
            with TimeLimit(timeout_s) as limit:
                if began is not None:
                    began(limit.cut)
                response = await self.send(request)
                if self.stream and response.status_code >= 400:
                    await response.aread()
        except TimeoutError as exc:
            return Reply(error=self.timed_out(round(clock.now() - at, 3), exc))
        except Exception as exc:
            if loop.is_closed():  # the library's exception is then not caused by the provider
                raise
            return Reply(error=exc)  # `attempts` judges it, and raises it when the tries are used up
        finally:
            INSIDE.reset(token)
            request.extensions = kept
        return self.reply(response)

    def once_sync(self, timeout_s: float, body: bytes | None = None) -> Reply:
        """Send once, and block this thread. The timeout limits each socket operation."""
        request = self._with(body)
        self._sends()
        kept = request.extensions
        request.extensions = {**kept, "timeout": _lowered(connecting_soon(kept.get("timeout")), timeout_s)}
        token = INSIDE.set(True)
        try:
            response = self.send(request)
            if self.stream and response.status_code >= 400:
                response.read()
        except Exception as exc:  # noqa: BLE001 - judged, and raised again when the tries are used up
            return Reply(error=exc)
        finally:
            INSIDE.reset(token)
            request.extensions = kept
        return self.reply(response)

    def _sends(self) -> None:
        if self.counted is not None:
            self.counted.sends()

    def _with(self, body: bytes | None) -> Any:
        """Return the request, or a copy with another body. The chain's own request is not changed."""
        if body is None:
            return self.request
        request = self.request
        headers = [(name, value) for name, value in request.headers.raw if name.lower() != b"content-length"]
        return self.http.Request(
            request.method, request.url, headers=headers, content=body, extensions=request.extensions
        )

    def response(self, done: Done, gap_s: float) -> Any:
        """Return what the chain gets as a task. We read a stream in parallel; `gap_s` limits the wait for a piece."""
        if done.ending is not None:
            tap = tap_class(AsyncTap, self.http.AsyncByteStream)
            self._tap(
                done, lambda source, reading: tap(source, reading, gap_s, lambda: self.timed_out(gap_s))
            )
        return done.raw if done.kept is None else self._again(done.kept)

    def response_sync(self, done: Done) -> Any:
        """Return what the chain gets on a thread."""
        if done.ending is not None:
            self._tap(done, tap_class(SyncTap, self.http.SyncByteStream))
        return done.raw if done.kept is None else self._again(done.kept)

    def _tap(self, done: Done, tap: Callable[[Any, Reading], Any]) -> None:
        """Read a stream as it passes; from now on the stream's reader settles the try."""
        assert done.ending is not None
        try:
            reading = Reading(done.ending, done.raw.status_code, done.raw.headers, self.http)
            done.raw.stream = tap(done.raw.stream, reading)
        except BaseException:
            done.ending.abandon()
            raise

    def _again(self, kept: KeptFailure) -> Any:
        """Make a response again from a failure known before.

        Raises:
            HTTPStatusError: of the library, to an SDK that would ask again and again whatever the answer says.
        """
        headers = {name: value for name, value in kept.headers.items() if name not in _OF_THE_WIRE}
        response = self.http.Response(
            kept.status, headers=headers, content=kept.content, request=self.request
        )
        if kept.status >= 400 and asks_on():
            raise self._as_error(response)
        return response

    def timed_out(self, seconds: float, cause: BaseException | None = None) -> Exception:
        """Return the library's own exception for an answer that took too long."""
        error: Exception = self.http.ReadTimeout(f"no answer within {seconds:g} s", request=self.request)
        error.__cause__ = cause
        return error

    def reply(self, response: Any) -> Reply:
        """Return what `attempts` is told of a response."""
        still_open = self.stream and response.status_code < 400
        response.request = self.request  # the chain expects its own request, not our copy
        return Reply(
            response.status_code,
            response.headers,
            None if still_open else response.content,
            response,
            as_error=lambda: self._as_error(response),
        )

    def _as_error(self, response: Any) -> Exception:
        error: Exception = self.http.HTTPStatusError(
            f"HTTP {response.status_code}", request=self.request, response=response
        )
        return error


def connecting_soon(timeouts: dict[str, float | None] | None) -> dict[str, float | None]:
    """Bound the time for a connection, unless the client has one of its own beside the time for an answer."""
    told = timeouts or {}
    connect_s, answer_s = told.get("connect"), told.get("read")
    if connect_s is not None and connect_s != answer_s:
        return told
    return {**told, "connect": CONNECT_S if connect_s is None else min(connect_s, CONNECT_S)}


def _lowered(timeouts: dict[str, float | None] | None, timeout_s: float) -> dict[str, float]:
    """Lower the timeouts: no socket operation of a thread may take longer than the whole try."""
    own = {name: (timeouts or {}).get(name) for name in ("connect", "read", "write", "pool")}
    return {name: timeout_s if value is None else min(value, timeout_s) for name, value in own.items()}
