"""Which batch lane a live request could travel in, by its address and shape, and what has no place in one."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlsplit

from cottonpalm.providers.batches.anthropic import AnthropicBatches
from cottonpalm.providers.batches.gemini import GeminiBatches
from cottonpalm.providers.batches.lanes import CREDENTIALS, Lane, NoLane
from cottonpalm.providers.batches.mistral import MistralBatches
from cottonpalm.providers.batches.openai import AZURE, GROQ, TOGETHER, OpenAIBatches

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cottonpalm.providers.batches.adapter import Adapter

ADAPTERS: Final[dict[str, Adapter]] = {
    adapter.name: adapter
    for adapter in (
        OpenAIBatches(),
        OpenAIBatches(AZURE),
        OpenAIBatches(GROQ),
        OpenAIBatches(TOGETHER),
        MistralBatches(),
        AnthropicBatches(),
        GeminiBatches(),
    )
}
HOSTS: Final = (  # ends of host names; `us.api.openai.com` is OpenAI's too
    ("api.openai.com", "openai"),
    (".openai.azure.com", "azure"),
    (".cognitiveservices.azure.com", "azure"),
    (".services.ai.azure.com", "azure"),
    ("api.groq.com", "groq"),
    ("api.together.xyz", "together"),
    ("api.together.ai", "together"),
    ("api.mistral.ai", "mistral"),
    ("api.anthropic.com", "anthropic"),
    ("generativelanguage.googleapis.com", "gemini"),
)
# `beta` is Anthropic's, where a header names the betas
_QUERY: Final = frozenset({"api-version", "key", "alt", "$alt", "beta"})
_HARMLESS: Final = re.compile(  # what clients send of their own accord, and nothing is lost without
    r"accept|accept-encoding|accept-language|connection|content-type|content-length|cookie|host|user-agent|date"
    r"|transfer-encoding|traceparent|tracestate|baggage|sentry-trace|idempotency-key|x-request-id|x-client-request-id"
    r"|x-stainless-.*|x-ms-.*|x-datadog-.*|x-goog-api-client|x-server-timeout"
    r"|anthropic-version|anthropic-beta|anthropic-dangerous-direct-browser-access"
)


def adapter_of(lane: Lane) -> Adapter:
    """Who speaks to the lane's provider."""
    return ADAPTERS[lane.provider]


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
    parts = urlsplit(url)
    adapter = ADAPTERS.get((hosts or {}).get(parts.netloc) or _provider(parts.hostname or ""))
    if adapter is None:
        return NoLane(
            f"no Batch API is known at {parts.hostname}; --batch-host {parts.netloc}=PROVIDER, or"
            f' BatchLane(hosts={{"{parts.netloc}": ...}}), says whose is there',
            nowhere=True,
        )
    place = adapter.place(parts.path, body)
    if place is None:
        return NoLane(f"the Batch API of {adapter.name} does not serve {parts.path}")
    if strange := _strange(frozenset(headers)) or _strange_query(parts.query):
        return NoLane(f"a batch has no place for {strange}")
    if why := adapter.refuses(body):
        return NoLane(why)
    kept = tuple((name, _sorted(headers[name])) for name in adapter.headers if headers.get(name))
    return Lane(adapter.name, f"{parts.scheme}://{parts.netloc}", *place, kept, account)


def has_batches(model: str, hosts: Mapping[str, str] | None = None) -> bool:
    """Whether a Batch API is known for a host and model ("api.openai.com/gpt-4o-mini"); `hosts` as for `lane_for`."""
    place = model.partition("/")[0]
    return ((hosts or {}).get(place) or _provider(place.partition(":")[0])) in ADAPTERS


def _sorted(values: str) -> str:
    """A header's values, whose order means nothing."""
    return ",".join(sorted({part.strip() for part in values.split(",")} - {""}))


@lru_cache(maxsize=256)
def _provider(host: str) -> str:
    """By the end of a host name, at a dot."""
    return next((name for end, name in HOSTS if f".{host}".endswith(f".{end.lstrip('.')}")), "")


@lru_cache(maxsize=256)
def _strange(names: frozenset[str]) -> str | None:
    """A header that somebody added, and that may matter."""
    added = sorted(name for name in names if name not in CREDENTIALS and not _HARMLESS.fullmatch(name))
    return f"the header {added[0]!r}" if added else None


def _strange_query(query: str) -> str | None:
    added = sorted(name for name, _ in parse_qsl(query, keep_blank_values=True) if name not in _QUERY)
    return f"{added[0]!r} in the address" if added else None
