"""Which batch lane a live request could travel in, and what has no place in one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

# The providers' own names, which no batch line needs; `*` stands for any ending.
_HARMLESS: Final = re.compile(
    r"accept|accept-encoding|accept-language|connection|content-type|content-length|cookie|host|user-agent|date"
    r"|transfer-encoding|traceparent|tracestate|baggage|idempotency-key|x-stainless-.*|x-request-id|x-client-request-id"
    r"|anthropic-version|anthropic-beta|anthropic-dangerous-direct-browser-access|x-goog-api-client|x-goog-user-project"
    r"|x-server-timeout|x-ms-.*|sentry-trace|x-datadog-.*|x-amzn-trace-id"
)
CREDENTIALS: Final = frozenset(
    {
        "authorization",
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "openai-organization",
        "openai-project",
        "x-goog-user-project",
    }
)


@dataclass(frozen=True, slots=True)
class Lane:
    """What may travel in one batch together: same provider, endpoint and model. Holds no credential.

    Attributes:
        provider: "openai", "azure", "groq", "together", "mistral", "anthropic" or "gemini".
        origin: scheme, host and port.
        endpoint: the live path, as a line of the batch names it.
        model: one per batch.
        betas: of Anthropic, which travel as a header of the whole batch.
        account: equal for equal accounts; whatever the caller gave. Never a credential.
    """

    provider: str
    origin: str
    endpoint: str
    model: str
    betas: str = ""
    account: str = ""

    def text(self) -> str:
        """As one line of JSON, to be stored; `Lane.of` reads it."""
        return orjson.dumps(self).decode()

    @classmethod
    def of(cls, text: str) -> Lane:
        """The lane that `text` was made of."""
        return cls(**orjson.loads(text))

    @property
    def label(self) -> str:
        """To show: provider and model."""
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class NoLane:
    """A request that no batch can hold; `why` ends the sentence "it runs live: ..."."""

    why: str


def lane_for(
    url: str,
    headers: Mapping[str, str],
    body: Mapping[str, Any],
    *,
    hosts: Mapping[str, str] | None = None,
    account: str = "",
) -> Lane | NoLane:
    """The lane of a live request, or why it has none.

    Args:
        url: the whole address of the live request.
        headers: its headers, names in lower case.
        body: its JSON.
        hosts: providers of addresses that are not the providers' own: {"proxy:8080": "openai"}.
        account: passed on to `Lane.account`.
    """
    raise NotImplementedError


def credentials_of(url: str, headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that say who pays. For this process only: never to be stored, shown or logged."""
    found = {name: value for name, value in headers.items() if name in CREDENTIALS}
    if "x-goog-api-key" not in found and (key := parse_qs(urlsplit(url).query).get("key")):
        found["x-goog-api-key"] = key[0]
    return found
