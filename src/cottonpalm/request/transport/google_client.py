"""Google's SDK sends async requests by aiohttp where that is installed, which the hook does not see.

Its client holds one of httpx in any case. Within a row it takes that one; elsewhere, and where somebody gave it an
aiohttp session of their own, it sends as before.
"""

from __future__ import annotations

import functools
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.request.row_account import ROW

if TYPE_CHECKING:
    from collections.abc import Callable

_MODULE: Final = "google.genai._api_client"
_READY: Final = "_async_client_session_request_args"  # the client's last attribute that depends on the choice
_lock: Final = threading.Lock()
_patched: set[int] = set()


def install() -> None:
    """Patch the SDK's choice if it is imported by now, once per process."""
    client: Any = getattr(sys.modules.get(_MODULE), "BaseApiClient", None)
    if client is None:
        return
    with _lock:
        if id(client) not in _patched and hasattr(client, "_use_aiohttp"):
            _patched.add(id(client))
            client._use_aiohttp = _chosen(client._use_aiohttp)  # noqa: SLF001 - it has no public choice


def _chosen(original: Callable[[Any], bool]) -> Callable[[Any], bool]:
    @functools.wraps(original)
    def use_aiohttp(self: Any) -> bool:
        return original(self) and not _is_seen_by_httpx(self)

    return use_aiohttp


def _is_seen_by_httpx(client: Any) -> bool:
    """Whether a row asks, and the client is whole and has another way."""
    row, about = ROW.get(), vars(client)
    if row is None or not row.run.flow.hooked or _READY not in about:
        return False
    own = getattr(about.get("_http_options"), "aiohttp_client", None)
    return own is None and about.get("_async_httpx_client") is not None
