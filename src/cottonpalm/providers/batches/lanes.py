"""A lane: what may travel in one batch together. `choice.lane_for` finds the lane of a live request."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

_ROTATING: Final = ("Bearer eyJ", "Bearer ya29.")  # tokens that live an hour
CREDENTIALS: Final = frozenset(
    {
        "authorization",
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "openai-organization",
        "openai-project",
        "x-goog-user-project",
        "anthropic-workspace-id",
        "anthropic-user-profile-id",
    }
)


@dataclass(frozen=True, slots=True)
class Lane:
    """What may travel in one batch together: same provider, endpoint and model. Holds no credential.

    Attributes:
        provider: "openai", "azure", "groq", "together", "mistral", "anthropic" or "gemini".
        origin: scheme, host and port.
        root: the path at which the Batch API begins.
        endpoint: the live path, as a line of the batch names it.
        model: one per batch.
        headers: of the live request that change what is answered, and travel with the whole batch: version and betas.
        account: equal for equal accounts; whatever the caller gave. Never a credential.
    """

    provider: str
    origin: str
    root: str
    endpoint: str
    model: str
    headers: tuple[tuple[str, str], ...] = ()
    account: str = ""

    def text(self) -> str:
        """As one line of JSON, to be stored; `Lane.of` reads it."""
        return orjson.dumps(self).decode()

    @classmethod
    def of(cls, text: str) -> Lane:
        """The lane that `text` was made of."""
        found = orjson.loads(text)
        return cls(**found | {"headers": tuple((name, value) for name, value in found["headers"])})

    @property
    def base(self) -> str:
        """The address at which the Batch API begins."""
        return self.origin + self.root

    @property
    def host(self) -> str:
        """Where live requests go, as in `BatchLane(hosts=)`."""
        return urlsplit(self.origin).netloc

    @property
    def label(self) -> str:
        """To show: provider and model."""
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class NoLane:
    """A request that no batch can hold; `why` ends the sentence "it runs live: ...".

    Nobody may have a Batch API at its address (`nowhere`), so that no other request there can go into one either.
    """

    why: str
    nowhere: bool = False


def credentials_of(url: str, headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that say who pays. For this process only: never to be stored, shown or logged."""
    found = {name: value for name, value in headers.items() if name in CREDENTIALS}
    if "x-goog-api-key" not in found and (key := parse_qs(urlsplit(url).query).get("key")):
        found["x-goog-api-key"] = key[0]
    return found


def whose(credentials: Mapping[str, str], salt: str) -> str:
    """Tells keys apart, and nothing of them: four bytes of a salted digest. Tokens that rotate do not count."""
    lasting = sorted((name, value) for name, value in credentials.items() if not value.startswith(_ROTATING))
    return blake2b(repr(lasting).encode(), digest_size=4, key=salt.encode()).hexdigest()
