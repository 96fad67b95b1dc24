"""Learns from one request that an SDK made how to make all of its kind: their head, and what varies in them."""

from __future__ import annotations

import json
import weakref
from typing import TYPE_CHECKING, Any, Final

import orjson

from cottonpalm import clock
from cottonpalm.providers.call import WHOSE, Call, call_of
from cottonpalm.providers.paths import family_of
from cottonpalm.request.transport.http1.pool import Origin
from cottonpalm.request.transport.sender import connecting_soon

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cottonpalm.request.transport.replay import Look

# what differs from row to row; all else of a payload is part of its kind
VARIES: Final = ("messages", "system")
_OURS: Final = frozenset({b"content-length", b"transfer-encoding", b"accept-encoding", b"connection"})
_PORTS: Final = {"http": 80, "https": 443}
_SDKS: Final = ("openai.", "anthropic.")
_SDK_SAYS: Final = ("timeout", "openai", "_openai", "azure", "_azure")
_FOREVER_S: Final = 3600.0
_AS_THE_SDK: Final = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME


class Unfit(Exception):
    """Requests of this kind are not sent by the fast transport; the message says why."""


class Template:
    """How requests of one kind are made. Its head holds credentials: never show or store it.

    Attributes:
        http: the HTTP library of the SDK.
        client: the SDK's HTTP client, as long as the model keeps it; its pool is not used.
        send: sends a request through that client, after all.
        origin: where the requests go.
        read_s: seconds without a byte that the SDK's client waits for; None: any.
    """

    __slots__ = (
        "_call",
        "_fixed",
        "_head",
        "_parts",
        "client",
        "http",
        "origin",
        "read_s",
        "request",
        "send",
    )

    def __init__(self, look: Look, payload: Mapping[str, Any]) -> None:
        """Learn from a request.

        Args:
            look: what the SDK was about to send.
            payload: what the model made of the row, which the SDK turned into that.

        Raises:
            Unfit: they differ in more than their order, or the client is not a plain one.
        """
        self.http, self.request, self.send = look.http, look.request, look.send
        self.client: weakref.ref[Any] = weakref.ref(look.client)
        self.origin = _origin(look.http, look.client, look.request)
        self.read_s: float | None = (look.request.extensions.get("timeout") or {}).get("read")
        self._call = _call(look.request)
        self._head = _head(look.request)
        given = {name: value for name, value in payload.items() if name in VARIES}
        self._fixed = {name: value for name, value in self._call.body.items() if name not in given}
        self._parts = _parts(self._call.body, given)
        if orjson.loads(self.body(payload)) != self._call.body:
            raise Unfit("the SDK changes what the model wants to send")

    def body(self, payload: Mapping[str, Any]) -> bytes:
        """Return the body of the request that this payload makes, in the order of the SDK.

        Raises:
            TypeError: the payload holds what is not JSON...
            ValueError: ...or a number that JSON does not know.
        """
        return b"{%b}" % b",".join(
            [
                part if isinstance(part, bytes) else b'"%b":%b' % (part.encode(), _plain(payload[part]))
                for part in self._parts
            ]
        )

    def head(self, body: bytes) -> bytes:
        """Return the request line and the headers, for this body."""
        return self._head % len(body)

    def call(self, payload: Mapping[str, Any], body: bytes) -> Call:
        """Return the request as `attempts` sees it."""
        like = self._call
        return Call(
            like.key,
            like.label,
            like.family,
            like.model,
            like.url,
            body,
            {**self._fixed, **{part: payload[part] for part in self._parts if isinstance(part, str)}},
            False,
            clock.now(),
            like.most_output,
        )

    def __repr__(self) -> str:
        return f"<Template {self._call.label}>"


def _plain(value: Any) -> bytes:
    """As JSON.

    Raises:
        TypeError: it is no plain JSON.
        ValueError: it holds a number that JSON does not know, which orjson writes as null.
    """
    text = orjson.dumps(value, option=_AS_THE_SDK)
    if b"null" in text:
        json.dumps(value, allow_nan=False)
    return text


def _call(request: Any) -> Call:
    url, content = request.url, getattr(request, "_content", None)
    family = family_of(url.path)
    if request.method != "POST" or family is None or not isinstance(content, bytes):
        raise Unfit("its requests are not those of a known API")
    headers = {
        name: value.decode("latin-1")
        for raw, value in request.headers.raw
        if (name := raw.lower().decode("latin-1")) in WHOSE
    }
    call = call_of(family, (url.scheme, url.host, url.port, url.path), headers, content)
    if call is None or call.signed:
        raise Unfit("its requests are not those of a known API, or they are signed")
    return call


def _parts(body: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[bytes | str, ...]:
    """The body as pieces of JSON that stay, and names of what varies, in its order."""
    parts: list[bytes | str] = []
    for name, value in body.items():
        parts.append(name if name in given else orjson.dumps({name: value})[1:-1])
    return tuple(parts)


def _head(request: Any) -> bytes:
    """The request line and the headers as the SDK made them, with a place for the length."""
    lines = [b"POST %b HTTP/1.1" % request.url.raw_path]
    for name, value in request.headers.raw:
        if name.lower() not in _OURS:
            lines.append(b"%b: %b" % (name, value))
    lines.append(b"Accept-Encoding: gzip")
    if any(b"\r" in line or b"\n" in line for line in lines):
        raise Unfit("a header breaks its line")
    return b"\r\n".join(lines).replace(b"%", b"%%") + b"\r\nContent-Length: %d\r\n\r\n"


def _origin(http: Any, client: Any, request: Any) -> Origin:
    """Where the request goes, connected as the SDK's client would.

    Raises:
        Unfit: the client does more than to connect and send.
    """
    transport, url = getattr(client, "_transport", None), request.url
    pool = getattr(transport, "_pool", None)
    if type(transport) is not http.AsyncHTTPTransport or type(pool).__name__ != "AsyncConnectionPool":
        raise Unfit("its HTTP client has a transport or a proxy of its own")
    if any(_mounted(client, url)) or getattr(client, "_auth", None) is not None:
        raise Unfit("its HTTP client uses a proxy, mounts or an auth of its own")
    hooks = [hook for hooks in client.event_hooks.values() for hook in hooks]
    # theirs are for redirects
    if not all(getattr(hook, "__module__", "").startswith(_SDKS) for hook in hooks):
        raise Unfit("its HTTP client has event hooks")
    if any(getattr(pool, name, None) for name in ("_uds", "_local_address", "_http2", "_proxy", "_retries")):
        raise Unfit("its HTTP client connects in a way of its own")
    extensions = {name for name in request.extensions if not name.startswith(_SDK_SAYS)}
    if extensions or url.scheme not in _PORTS:
        raise Unfit("its requests have extensions")
    waits = request.extensions.get("timeout") or {}
    idle_s = getattr(pool, "_keepalive_expiry", None)
    return Origin(
        url.host,
        url.port or _PORTS[url.scheme],
        getattr(pool, "_ssl_context", None) if url.scheme == "https" else None,
        url.host if url.scheme == "https" else None,
        tuple(getattr(pool, "_socket_options", None) or ()),
        _FOREVER_S if idle_s is None else idle_s,
        connecting_soon(waits)["connect"],
    )


def _mounted(client: Any, url: Any) -> list[Any]:
    """The client's transports for patterns that match this URL."""
    return [
        transport
        for pattern, transport in getattr(client, "_mounts", {}).items()
        if transport is not None and pattern.matches(url)
    ]
