"""The one patch: `send` of the two HTTP clients that LangChain's integrations use.

It acts only on model requests of a row, and is silent otherwise: the same objects go in and come out. It is
installed once per process and stays, since whoever patches later may hold on to it.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.providers.call import WHOSE, Call, call_of
from cottonpalm.providers.paths import family_of
from cottonpalm.request.active_runs import LIVE, shadow_row
from cottonpalm.request.row_account import ROW, RowAccount
from cottonpalm.request.transport.client_loops import at_home, on_a_bridge
from cottonpalm.request.transport.drivers import drive, drive_sync
from cottonpalm.request.transport.sender import INSIDE, Sender

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

OPT_OUT: Final = "COTTONPALM_NO_HOOK"
_CLIENTS: Final = ("httpx", "httpx2")
_WHOSE: Final[dict[bytes, str]] = {name.encode(): name for name in WHOSE}
_PROBE: Final[ContextVar[list[str] | None]] = ContextVar("cottonpalm_probe", default=None)
_lock: Final = threading.Lock()
# What was put into each client, by library; never a mark on the function: later wrappers would hide it.
_installed: Final[dict[str, tuple[Any, Any]]] = {}
_probing = 0


def install() -> None:
    """Patch `send` of httpx and httpx2, once; does nothing where COTTONPALM_NO_HOOK is set."""
    if os.environ.get(OPT_OUT, "") not in ("", "0"):
        return
    with _lock:
        for name in _CLIENTS:
            if name not in _installed and importlib.util.find_spec(name) is not None:
                _installed[name] = _patch(importlib.import_module(name))


def reaches() -> bool:
    """Whether a request through each client still reaches the hook: somebody may have put the old `send` back."""
    with _lock:
        names = sorted(_installed)
    return bool(names) and all(_reached(importlib.import_module(name)) for name in names)


def _patch(http: ModuleType) -> tuple[Any, Any]:
    http.AsyncClient.send = _async_send(http, http.AsyncClient.send)
    http.Client.send = _sync_send(http, http.Client.send)
    return http.AsyncClient.send, http.Client.send


def _async_send(http: ModuleType, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def send(self: Any, request: Any, **options: Any) -> Any:
        found = _ours(self, request) if LIVE or _probing or ROW.get() is not None else None
        if found is None:  # on a bridge, what is not ours may leave nothing behind either
            client = at_home(http, self) if LIVE and on_a_bridge() else self
            return await original(client, request, **options)
        again = functools.partial(original, at_home(http, self), **options)
        found[1].streams = stream = options.get("stream", False)
        return await drive(*found, Sender(http, request, stream, again))

    return send


def _sync_send(http: ModuleType, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def send(self: Any, request: Any, **options: Any) -> Any:
        found = _ours(self, request) if LIVE or _probing or ROW.get() is not None else None
        if found is None:
            return original(self, request, **options)
        again = functools.partial(original, self, **options)
        found[1].streams = stream = options.get("stream", False)
        return drive_sync(*found, Sender(http, request, stream, again))

    return send


def _ours(client: Any, request: Any) -> tuple[RowAccount, Call] | None:
    """The row and the call if this is a model request of a row; None: not ours, leave it alone."""
    if INSIDE.get():
        return None
    if (seen := _PROBE.get()) is not None:
        seen.append(type(request).__module__)
        return None
    row = ROW.get()
    if row is not None and not row.run.flow.hooked:
        return None
    if (call := _call(request)) is None:
        return None
    if row is None:
        row = shadow_row(client)
    elif client not in row.run.clients:
        row.run.clients.add(client)
    return None if row is None else (row, call)


def _call(request: Any) -> Call | None:
    if request.method != "POST":
        return None
    url = request.url
    path = url.path
    if (family := family_of(path)) is None:
        return None
    content = getattr(request, "_content", None)  # what is not in memory is not ours; `.content` would raise
    if not isinstance(content, bytes):
        return None
    headers = {}
    for raw, value in request.headers.raw:  # most of them are of no interest: not even decoded
        if (name := _WHOSE.get(raw.lower())) is not None:
            headers[name] = value.decode("latin-1")
    return call_of(family, (url.scheme, url.host, url.port, path), headers, content)


def _reached(http: ModuleType) -> bool:
    if (http.AsyncClient.send, http.Client.send) == _installed[http.__name__]:
        return True
    return _passed_on(http)


def _passed_on(http: ModuleType) -> bool:
    """Whether those who patched after us still call us: only a request can tell."""
    global _probing  # noqa: PLW0603 - counts the probes under way
    seen: list[str] = []
    with _lock:
        _probing += 1
    token = _PROBE.set(seen)
    try:
        _probe(http)
    finally:
        _PROBE.reset(token)
        with _lock:
            _probing -= 1
    return len(seen) >= 2  # one sync, one async


def _probe(http: ModuleType) -> None:
    """A request through a client of each kind that goes nowhere."""
    transport = http.MockTransport(lambda _: http.Response(200))
    request = http.Request("POST", "http://probe.invalid/chat/completions", json={})
    with http.Client(transport=transport, trust_env=False) as client:
        client.send(request)
    client = http.AsyncClient(transport=transport, trust_env=False)
    _without_loop(client.send(http.Request("POST", "http://probe.invalid/chat/completions", json={})))


def _without_loop(coroutine: Any) -> None:
    """Run a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    finally:
        coroutine.close()
