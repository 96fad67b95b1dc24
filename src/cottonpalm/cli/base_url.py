"""Finds out, once a run got no answer, whether its `--base-url` has the wrong path or the wrong scheme."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

WRONG: Final = re.compile(r"\b40[45]\b|not found|<!doctype|<html|not allowed", re.IGNORECASE)
NO_TLS: Final = re.compile(r"ssl|tls|time|connect", re.IGNORECASE)
PATHS: Final = ("/v1", "/api/v1", "/openai/v1", "/compatible-mode/v1")
PATIENCE_S: Final = 3.0


def diagnosis(base_url: str | None, failure: str) -> str | None:
    """Say where the server's API is, or that it is not at this address; None where the failure does not point there.

    The server is asked for its list of models, at this address and at the usual ones; nothing is sent but that.

    Args:
        base_url: the address that was given.
        failure: what the first failed row says.
    """
    if base_url is None:
        return None
    base, parts = base_url.rstrip("/"), urlsplit(base_url)
    if parts.scheme == "https" and NO_TLS.search(failure) and _speaks_plainly(parts.netloc):
        plain = f"http{base.removeprefix('https')}"
        return f"the server at {parts.netloc} speaks plain HTTP, no TLS: say --base-url {plain}"
    if not WRONG.search(failure):
        return None
    if _has_models(base):
        return None  # the address is right, and the model's name is not
    origin = f"{parts.scheme}://{parts.netloc}"
    others = dict.fromkeys(f"{begin}{path}" for begin in (base, origin) for path in PATHS)
    for other in others:
        if other != base and _has_models(other):
            return f"the server's API is at {other}: say --base-url {other}"
    hint = "" if parts.path.rstrip("/").endswith("/v1") else "; it mostly ends in /v1"
    return f"there is no OpenAI-compatible API at {base}: check --base-url{hint}"


def _speaks_plainly(place: str) -> bool:
    """Whether an HTTP server without TLS is at this very port."""
    import httpx

    if ":" not in place:  # http:// would be another port
        return False
    try:
        return not httpx.get(f"http://{place}/", timeout=PATIENCE_S, follow_redirects=False).is_redirect
    except httpx.HTTPError:
        return False


def _has_models(base: str) -> bool:
    """Whether a list of models is at this address, perhaps behind a key."""
    import httpx

    try:
        answer = httpx.get(f"{base}/models", timeout=PATIENCE_S, follow_redirects=False)
    except httpx.HTTPError:
        return False
    return answer.status_code in (200, 401, 403) and "json" in answer.headers.get("content-type", "")
