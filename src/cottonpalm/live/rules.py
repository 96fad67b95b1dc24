"""Who may ask the live page for what. Pure decisions, made before anything of the store is read.

Three things are asked of every request. Its `Host` is an address or a name of this machine, so that a page elsewhere
whose name was pointed at us (DNS rebinding) gets nothing. It knows the token of this start. And what changes a run
comes from our own page (`Origin`), or from a program that sends the token in a header, which no page elsewhere can.
"""

from __future__ import annotations

import ipaddress
import secrets
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Collection

LOCAL: Final = frozenset({"localhost"})
SAFE: Final = frozenset({"GET", "HEAD"})
PORTS: Final = range(65536)


class Asked(NamedTuple):
    """What a request says of itself; None: nothing."""

    method: str
    host: str | None
    origin: str | None = None
    cookie: str | None = None
    bearer: str | None = None
    token: str | None = None  # in the address


class Refusal(NamedTuple):
    """A status and a sentence."""

    status: int
    why: str


_NOT_OURS: Final = Refusal(421, "This address is none of mine. Open the one that cottonpalm printed.")
_NO_TOKEN: Final = Refusal(
    401, "This page needs the token of this start. Open the address that cottonpalm printed, with its token."
)
_ELSEWHERE: Final = Refusal(403, "Only the live page itself may change a run.")


def refusal(asked: Asked, token: str, names: Collection[str]) -> Refusal | None:
    """Why a request gets nothing; None: it may go on.

    Args:
        asked: the request.
        token: of this start.
        names: of this machine, besides addresses and `localhost`.
    """
    if not is_ours(asked.host, names):
        return _NOT_OURS
    by_header = same(asked.bearer, token)
    if not (by_header or same(asked.cookie, token) or (asked.method in SAFE and same(asked.token, token))):
        return _NO_TOKEN
    if asked.method in SAFE or (by_header and asked.origin is None) or _from_here(asked):
        return None
    return _ELSEWHERE


def is_ours(host: str | None, names: Collection[str]) -> bool:
    """Whether a `Host` header names this machine. An address cannot be rebound; a name can, so it must be known."""
    name = host_name(host)
    return name is not None and (name in LOCAL or name in names or _is_address(name))


def host_name(host: str | None) -> str | None:
    """`[::1]:80` is `::1`; None for what is none."""
    if not host or "/" in host or "@" in host:
        return None
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    return parts.hostname or None


def same(given: str | None, token: str) -> bool:
    """Compare in a time that does not tell where they differ."""
    return given is not None and secrets.compare_digest(given.encode(), token.encode())


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _from_here(asked: Asked) -> bool:
    """Whether `Origin` is the very place that was asked."""
    if asked.origin is None:
        return False
    parts = urlsplit(asked.origin)
    return parts.scheme in ("http", "https") and parts.netloc == asked.host
