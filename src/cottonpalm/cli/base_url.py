"""Finds out, once a run got no answer, whether its `--base-url` has the wrong path or the wrong scheme."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence

WRONG: Final = re.compile(r"\b40[45]\b|not found|<!doctype|<html|not allowed", re.IGNORECASE)
OF_A_MODEL: Final = re.compile(r"\bmodel\b.*\bnot (?:exist|found)", re.IGNORECASE)  # only an API says this
NO_TLS: Final = re.compile(r"ssl|tls|time|connect", re.IGNORECASE)
PATHS: Final = ("/v1", "/api/v1", "/openai/v1", "/compatible-mode/v1")
VERSIONS: Final = ("/v1", "/v1beta")
OWN: Final = {  # whose packages put the version behind the address themselves: its name, its usual address
    "anthropic": ("Anthropic", "https://api.anthropic.com"),
    "google": ("Gemini", "https://generativelanguage.googleapis.com"),
}
PATIENCE_S: Final = 3.0


def diagnosis(base_url: str | None, failure: str, provider: str) -> str | None:
    """Say where the server's API is, or that it is not at this address; None where the failure does not point there.

    The server is asked for its list of models, at this address and at the usual ones; nothing is sent but that.

    Args:
        base_url: the address that was given.
        failure: what the first failed row says.
        provider: whose protocol is spoken.
    """
    if base_url is None:
        return None
    base, parts = base_url.rstrip("/"), urlsplit(base_url)
    if parts.scheme == "https" and NO_TLS.search(failure) and _speaks_plainly(parts.netloc):
        plain = f"http{base.removeprefix('https')}"
        return f"the server at {parts.netloc} speaks plain HTTP, no TLS: say --base-url {plain}"
    if not WRONG.search(failure):
        return None
    origin = f"{parts.scheme}://{parts.netloc}"
    ends: tuple[str, ...]
    if provider in OWN:
        ends, others = VERSIONS, _above(base, origin)
        kind, usual = OWN[provider]
        hint = f"; it is the address that /v1 is put behind, such as {usual}"
    else:
        ends, others = ("",), [f"{begin}{path}" for begin in (base, origin) for path in PATHS]
        kind, hint = "OpenAI-compatible", "" if base.endswith("/v1") else "; it mostly ends in /v1"
    if OF_A_MODEL.search(failure) or _has_models(base, ends):
        return None  # the address is right, and the model's name is not
    for other in dict.fromkeys(others):
        if other != base and _has_models(other, ends):
            return f"the server's API is at {other}: say --base-url {other}"
    return f"there is no {kind} API at {base}: check --base-url{hint}"


def _above(base: str, origin: str) -> list[str]:
    """Return the addresses above this one, up to the server's root."""
    above = []
    while len(base) > len(origin):
        base = base.rpartition("/")[0]
        above.append(base)
    return above


def _speaks_plainly(place: str) -> bool:
    """Whether an HTTP server without TLS is at this very port."""
    import httpx

    if ":" not in place:  # http:// would be another port
        return False
    try:
        return not httpx.get(f"http://{place}/", timeout=PATIENCE_S, follow_redirects=False).is_redirect
    except httpx.HTTPError:
        return False


def _has_models(base: str, ends: Sequence[str]) -> bool:
    """Whether a list of models is behind this address and one of these ends of it, perhaps behind a key."""
    import httpx

    def lists_models(end: str) -> bool:
        answer = httpx.get(f"{base}{end}/models", timeout=PATIENCE_S, follow_redirects=False)
        return answer.status_code in (200, 401, 403) and "json" in answer.headers.get("content-type", "")

    try:
        return any(map(lists_models, ends))
    except httpx.HTTPError:
        return False
