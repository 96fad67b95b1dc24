"""What OpenTelemetry's conventions for generative AI say of a request: names and values. No I/O."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.observers.words.formatting import label

if TYPE_CHECKING:
    from cottonpalm.events import RequestFinished
    from cottonpalm.observers.told import Tries
    from cottonpalm.types import Kind

_PROVIDERS: Final = {  # the first end that fits
    "openai.azure.com": "azure.ai.openai",
    "cognitiveservices.azure.com": "azure.ai.openai",
    "services.ai.azure.com": "azure.ai.inference",
    "openai.com": "openai",
    "anthropic.com": "anthropic",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "googleapis.com": "gcp.gemini",
    "amazonaws.com": "aws.bedrock",
    "mistral.ai": "mistral_ai",
    "groq.com": "groq",
    "deepseek.com": "deepseek",
    "x.ai": "x_ai",
    "cohere.com": "cohere",
    "cohere.ai": "cohere",
    "perplexity.ai": "perplexity",
    "ml.cloud.ibm.com": "ibm.watsonx.ai",
}
OPERATION: Final = "chat"
KEYS: Final = 1000  # hosts and models that are remembered


@lru_cache(KEYS)
def asked_of(key: str) -> dict[str, Any]:
    """What is true of all requests to a host and model. Not to be changed."""
    host, _, model = map(label, key.partition("/"))
    server, port = _server_of(host)
    found: dict[str, Any] = {
        "gen_ai.operation.name": OPERATION,
        "gen_ai.provider.name": provider_of(server),
        "server.address": server,
    }
    if model:
        found["gen_ai.request.model"] = model
    if port is not None:
        found["server.port"] = port
    return found


def _server_of(host: str) -> tuple[str, int | None]:
    """The address and the port, of `name`, `name:8000`, `[::1]` and `[::1]:8000`."""
    name, _, port = host.rpartition(":")
    if name and port.isascii() and port.isdecimal() and (":" not in name or name.endswith("]")):
        return name.strip("[]"), int(port)
    return host.strip("[]"), None


@lru_cache(KEYS)
def span_name(key: str) -> str:
    """`chat gpt-4o-mini`."""
    model = label(key.partition("/")[2])
    return f"{OPERATION} {model}" if model else OPERATION


def error_of(event: RequestFinished | Tries) -> str | None:
    """`error.type` of a failed request: the status that says so, or else the kind."""
    return error_type(event.status, event.kind)


def error_type(status: int | None, kind: Kind | None) -> str | None:
    """The same of a request that ended so."""
    if kind is None:
        return None
    refused = status is not None and status >= 400  # a stream that breaks off began with 200
    return str(status) if refused else kind.value


def provider_of(host: str) -> str:
    """The name by which the conventions know a provider; the host itself where they know none."""
    if host.endswith("-aiplatform.googleapis.com"):  # its places: `europe-west4-aiplatform...`
        return "gcp.vertex_ai"
    return next((name for end, name in _PROVIDERS.items() if host == end or host.endswith(f".{end}")), host)
