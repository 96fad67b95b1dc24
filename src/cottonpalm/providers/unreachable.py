"""Says in words why a request reached no server."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEPTH: Final = 12  # the most causes that are followed from one exception
_WORDS: Final = {
    errno.ECONNREFUSED: "connection refused",
    errno.EHOSTUNREACH: "no route to the host",
    errno.ENETUNREACH: "no network",
}


def why_unreachable(error: BaseException | None) -> str | None:
    """Return `connection refused`, `unknown host` or the like; None if the request may have reached a server."""
    for link in _behind(error, _DEPTH):
        if isinstance(link, socket.gaierror):
            return "unknown host"
        if isinstance(link, ssl.SSLError) and link.reason == "WRONG_VERSION_NUMBER":
            return "no TLS (http:// in place of https://?)"
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
