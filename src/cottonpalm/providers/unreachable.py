"""Says in words why a request reached no server."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_DEPTH: Final = 12  # the most causes that are followed from one exception
REFUSED: Final = "connection refused"
_UNKNOWN: Final = "unknown host"
_WORDS: Final = {
    errno.ECONNREFUSED: REFUSED,
    errno.EHOSTUNREACH: "no route to the host",
    errno.ENETUNREACH: "no network",
}
_TO_THE_FIRST: Final = frozenset({_UNKNOWN, *_WORDS.values()})  # before a word was said to it


def where_unreachable(words: str, netloc: str, proxy: str | None) -> str:
    """Return where that happened: a connection that goes by a proxy is made to the proxy; TLS is the server's."""
    if proxy is None:
        return f"{words} at {netloc}"
    if words in _TO_THE_FIRST:
        return f"{words} at the proxy {proxy}"
    return f"{words} at {netloc}, by the proxy {proxy}"


def proxy_of(client: Any, url: Any) -> str | None:
    """Return host and port of the proxy by which a client of either HTTP library sends; None where none is seen.

    Args:
        client: it may be another kind of client, or None.
        url: the request's, as the library has it.
    """
    transport = getattr(client, "_transport", None)
    for pattern, mounted in getattr(client, "_mounts", {}).items():  # the first one counts, as in the library
        if pattern.matches(url):
            transport = mounted or transport
            break
    pool = getattr(transport, "_pool", None)
    place = getattr(pool, "_proxy_url", None) or getattr(getattr(pool, "_proxy", None), "url", None)
    if place is None:
        return None
    host = place.host.decode() if isinstance(place.host, bytes) else place.host
    return host if place.port is None else f"{host}:{place.port}"


def why_unreachable(error: BaseException | None) -> str | None:
    """Return `connection refused`, `unknown host` or the like; None if the request may have reached a server."""
    for link in _behind(error, _DEPTH):
        if isinstance(link, socket.gaierror):
            return _UNKNOWN
        if isinstance(link, ssl.SSLError) and link.reason == "WRONG_VERSION_NUMBER":
            return "no TLS (http:// in place of https://?)"
        if type(link).__name__ == "ProxyError":  # it does not connect; its words are its status
            return str(link)
        if type(link).__name__ == "ConnectTimeout":  # of either HTTP library
            return "no connection in time (with https://: does the server speak TLS?)"
        if isinstance(link, OSError) and (words := _WORDS.get(link.errno or 0)) is not None:
            return words
    return None


def _behind(error: BaseException | None, depth: int) -> Iterator[BaseException]:
    """Yield the exception and its causes, since HTTP libraries raise several layers above the first one."""
    if error is None or not depth:
        return
    yield error
    members = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    for link in (*members, error.__cause__ or error.__context__):
        yield from _behind(link, depth - 1)
