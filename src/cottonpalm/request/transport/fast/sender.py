"""Sends one request of the fast transport for `attempts`, and shows its answer as the HTTP library would."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from cottonpalm import clock
from cottonpalm.request.attempt.steps import Done, KeptFailure, Reply
from cottonpalm.request.transport.client_loops import at_home
from cottonpalm.request.transport.http1.pool import NotConnected, TooSlow, pool_of
from cottonpalm.request.transport.http1.reader import Answered, Malformed, Undecodable
from cottonpalm.request.transport.sender import Sender

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.request.transport.fast.template import Template


class FastSender:
    """Sends one request; each try calls `once`.

    Attributes:
        sent: whether there was a try.
    """

    __slots__ = ("_body", "_like", "sent")

    def __init__(self, like: Template, body: bytes) -> None:
        self._like, self._body, self.sent = like, body, False

    async def once(
        self,
        timeout_s: float,
        body: bytes | None = None,
        began: Callable[[Callable[[], None]], None] | None = None,
    ) -> Reply:
        """Send once; an exception becomes part of the reply. See `Sender.once`."""
        like, pool, at, self.sent = self._like, pool_of(asyncio.get_running_loop()), clock.now(), True
        body = self._body if body is None else body
        read_s = None if like.read_s is None or like.read_s >= timeout_s else like.read_s
        answered, content = None, None
        try:
            answered = await pool.send(like.origin, like.head(body), body, read_s, timeout_s, began)
            content = None if answered.foreign else answered.content
        except TimeoutError as exc:
            return Reply(error=self.timed_out(round(clock.now() - at, 3), exc))
        except NotConnected:  # nothing was sent: the SDK's own client may know another way
            pass
        except (TooSlow, Malformed, OSError) as exc:
            return Reply(error=self._error(exc))
        if answered is None or 300 <= (status := answered.status) < 400:  # it follows where it is told to go
            return await self._stock(timeout_s - (clock.now() - at), body, began)
        if content is None:
            return self._unpacked(answered)
        if status < 300:
            return Reply(status, answered.headers, content, answered, json=answered.json)
        return Reply(
            status, answered.headers, content, answered, as_error=lambda: self._status_error(answered)
        )

    def timed_out(self, seconds: float, cause: BaseException | None = None) -> Exception:
        """Return the library's own exception for an answer that took too long."""
        error: Exception = self._like.http.ReadTimeout(
            f"no answer within {seconds:g} s", request=self._like.request
        )
        error.__cause__ = cause
        return error

    def _error(self, exc: Exception) -> Exception:
        """The HTTP library's own exception."""
        http = self._like.http
        if isinstance(exc, TooSlow):
            kind, said = (http.ConnectTimeout if exc.phase == "connect" else http.ReadTimeout), ""
        elif isinstance(exc, Undecodable):
            kind, said = http.DecodingError, str(exc)
        elif isinstance(exc, Malformed):
            kind, said = http.RemoteProtocolError, str(exc)
        else:
            kind, said = http.ReadError, ""
        error: Exception = kind(said, request=self._like.request)
        below = _below(http, kind, said)
        if below is not None and isinstance(exc, OSError):
            below.__cause__ = exc
        deepest = exc.__cause__ if isinstance(exc, Undecodable) else exc
        error.__cause__ = error.__context__ = below or deepest
        return error

    def _status_error(self, answered: Answered) -> Exception:
        response = response_of(self._like.http, self._like.request, answered)
        error: Exception = self._like.http.HTTPStatusError(
            f"HTTP {answered.status}", request=self._like.request, response=response
        )
        return error

    async def _stock(
        self, timeout_s: float, body: bytes, began: Callable[[Callable[[], None]], None] | None
    ) -> Reply:
        """Send through the SDK's own HTTP client."""
        like = self._like
        headers = [
            (name, value) for name, value in like.request.headers.raw if name.lower() != b"content-length"
        ]
        request = like.http.Request(
            "POST", like.request.url, headers=headers, content=body, extensions=like.request.extensions
        )
        send = partial(like.send, at_home(like.http, like.client()))
        return await Sender(like.http, request, stream=False, send=send).once(timeout_s, began=began)

    def _unpacked(self, answered: Answered) -> Reply:
        """The HTTP library unpacks what it can, and leaves what it does not know as it is."""
        like = self._like
        try:
            response = response_of(like.http, like.request, answered)
        except like.http.DecodingError as exc:
            return Reply(error=exc)
        return Sender(like.http, like.request, stream=False, send=like.send).reply(response)


def _below(http: Any, kind: type, said: str) -> Exception | None:
    """The same exception of the library below the HTTP library, which would have been its cause."""
    core = sys.modules.get({"httpx": "httpcore", "httpx2": "httpcore2"}.get(http.__name__, ""))
    found = getattr(core, kind.__name__, None)
    return None if found is None else found(said)


def response_of(http: Any, request: Any, answered: Answered) -> Any:
    """Return the answer as the HTTP library's own response, read whole."""
    raw = list(answered.raw)
    known = {name.lower() for name, _ in raw}
    raw += [(name, value) for name, value in answered.headers.items() if name not in known]  # marks of ours
    response = http.Response(
        answered.status,
        headers=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in raw],
        content=answered.body,
        request=request,
        extensions={"http_version": answered.version, "reason_phrase": answered.reason},
    )
    if "content-length" not in known:  # the library counts the body where no length came
        response.headers.pop("content-length", None)
    return response


def again(done: Done) -> Callable[[Any, Any], Any]:
    """Return what gives a `send` the end of this request in place of sending: a response made again."""

    def replay(http: Any, request: Any) -> Any:
        if isinstance(done.raw, Answered):
            return response_of(http, request, done.raw)
        if done.kept is not None:
            return kept_response(http, request, done.kept)
        done.raw.request = request
        return done.raw

    return replay


def kept_response(http: Any, request: Any, kept: KeptFailure) -> Any:
    """Make a response from a failure known before."""
    gone = ("content-encoding", "content-length", "transfer-encoding")
    headers = {name: value for name, value in kept.headers.items() if name not in gone}
    return http.Response(kept.status, headers=headers, content=kept.content, request=request)
