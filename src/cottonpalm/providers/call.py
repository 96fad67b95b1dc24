"""Decides whether a request is a model request, and finds its model and the account whose limit it uses."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from cottonpalm import clock
from cottonpalm.providers.answer import loads
from cottonpalm.providers.paths import model_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cottonpalm.providers.answer import Family

SIGNATURE_LIFE_S: Final = 300.0  # AWS refuses a request whose signature is older than this
# never stored and never logged, so a digest of a credential is useful only in this process
_SALT: Final = os.urandom(16)
_digests: Final[dict[str, bytes]] = {}  # account -> digest of its credential; never leaves this process
WHOSE: Final = (
    "authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "openai-organization",
    "openai-project",
)
_ROTATING: Final = ("Bearer eyJ", "Bearer ya29.")  # tokens that live for an hour: we go by the host instead
_SIGNED: Final = "AWS4-HMAC-SHA256"


@dataclass(slots=True, eq=False)
class Call:
    """One request to a model, as the chain made it.

    Attributes:
        key: host, port, model and account (as a salted digest); requests with the same key share a limit.
        label: host and model, to show to the user.
        body: the parsed `content`.
        signed: True: its headers hold a signature that expires.
        born: the `clock.now()` at which the chain made it.
        most_output: the most tokens of one answer that the request allows; None if it names no maximum.
        streams: True: its answer is read piece by piece.
        request: the HTTP library's own object, with all headers.
        client: the library's client that sends it.
        batched: it is or was a line of a batch, which has a price of its own.
        asked_as: the request of the chain, where `body` asks for another tier of service than that did.
    """

    key: str
    label: str
    family: Family
    model: str
    url: str
    content: bytes
    body: dict[str, Any]
    signed: bool
    born: float
    most_output: int | None = None
    streams: bool = False
    request: Any = None
    client: Any = None
    batched: bool = False
    asked_as: Call | None = None

    @property
    def identity(self) -> tuple[str, str, bytes]:
        """A value that is equal for equal questions to the same model and account. We use it only to find failures."""
        if self.asked_as is not None:
            return self.asked_as.identity
        return (self.key, self.url, blake2b(self.content, digest_size=16).digest())

    @property
    def tier(self) -> str | None:
        """The tier of service that the request asks for; None if it leaves that to the account."""
        if self.batched:
            return "batch"
        if self.body.get("speed") == "fast":
            return "fast"
        asked = self.body.get("service_tier") or self.body.get("serviceTier")
        return asked.lower() if isinstance(asked, str) else None


def call_of(
    family: Family, url: tuple[str, str, int | None, str], headers: Mapping[str, str], content: bytes
) -> Call | None:
    """Return the request as a `Call` if its body has the shape of this format, else None.

    Args:
        family: the format spoken at the path.
        url: scheme, host, port (unless it is the scheme's default) and path.
        headers: with names in lower case; only those in `WHOSE` matter.
        content: the whole body.
    """
    scheme, host, port, path = url
    body = loads(content)
    if not isinstance(body, dict) or not family.is_request(body):
        return None
    model = _model(body, path)
    if model is None:
        return None
    where = host if port is None else f"{host}:{port}"
    label = f"{where}/{model}"
    return Call(
        key=f"{label}#{_account(tuple(map(headers.get, WHOSE)))}",
        label=label,
        family=family,
        model=model,
        url=f"{scheme}://{where}{path}",
        content=content,
        body=body,
        signed=headers.get("authorization", "").startswith(_SIGNED),
        born=clock.now(),
        most_output=family.maximum.of(body),
    )


def _model(body: dict[str, Any], path: str) -> str | None:
    named = body.get("model")
    return named if isinstance(named, str) and named else model_in(path)


@lru_cache(maxsize=64)
def _account(headers: tuple[str | None, ...]) -> str:
    """Name the account whose quota this is by six bytes of a salted digest. The credential itself is not kept."""
    lasting = "\0".join(map(_lasting, headers)).encode()
    account = blake2b(lasting, digest_size=6, key=_SALT).hexdigest()
    _digests[account] = blake2b(lasting).digest()
    return account


def whose(key: str) -> bytes | None:
    """Return bytes that are the same in all processes for equal keys, to make a keyed digest of them.

    Never store, show or send these bytes. None if `key` is not the key of a `Call`.
    """
    label, _, account = key.rpartition("#")
    digest = _digests.get(account)
    return None if digest is None else label.encode() + b"\0" + digest


def _lasting(value: str | None) -> str:
    """Return the part of a credential that is the same in every request."""
    if value is None or value.startswith(_ROTATING):
        return ""
    return value.partition("Credential=")[2].partition("/")[0] if value.startswith(_SIGNED) else value
