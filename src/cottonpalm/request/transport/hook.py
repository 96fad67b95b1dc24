"""The only patch we make: it wraps `send` of the two HTTP libraries that LangChain's integrations use.

It acts only on model requests of a row; any other request passes through it unchanged. It is installed once per
process and stays, since code that patches `send` later may keep a reference to it. A library that nobody has imported
yet gets it when somebody does.
"""

from __future__ import annotations

import functools
import importlib
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
from cottonpalm.request.transport.imports import when_imported
from cottonpalm.request.transport.replay import LOOK, REPLAY
from cottonpalm.request.transport.sender import INSIDE, Sender
from cottonpalm.request.transports import BY_SDK, STREAMED, StockCall

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

OPT_OUT: Final = "COTTONPALM_NO_HOOK"
_CLIENTS: Final = ("httpx", "httpx2")
_WHOSE: Final[dict[bytes, str]] = {name.encode(): name for name in WHOSE}
_PROBE: Final[ContextVar[list[str] | None]] = ContextVar("cottonpalm_probe", default=None)
_lock: Final = threading.Lock()
# The functions put into each library's clients. We do not mark the functions: a later wrapper would hide the mark.
_installed: Final[dict[str, tuple[Any, Any]]] = {}
_probing = 0
_wanted = False


def install() -> None:
    """Patch `send` of httpx and httpx2, once. Do nothing if COTTONPALM_NO_HOOK is set."""
    global _wanted  # noqa: PLW0603 - as `_installed`, of the process
    if os.environ.get(OPT_OUT, "") not in ("", "0"):
        return
    _wanted = True
    for name in _CLIENTS:
        if name not in _installed:
            when_imported(name, _patch_once)


def reaches() -> bool:
    """Whether a request through each library still reaches the hook: other code may have put the old `send` back."""
    with _lock:
        names = sorted(_installed)
    return _wanted and all(_reached(importlib.import_module(name)) for name in names)


def is_ours(send: Any) -> bool:
    """Whether this function is the hook itself."""
    return any(send in ours for ours in _installed.values())


def _patch_once(http: ModuleType) -> None:
    with _lock:
        if http.__name__ not in _installed:
            _installed[http.__name__] = _patch(http)


def _patch(http: ModuleType) -> tuple[Any, Any]:
    http.AsyncClient.send = _async_send(http, http.AsyncClient.send)
    http.Client.send = _sync_send(http, http.Client.send)
    return http.AsyncClient.send, http.Client.send


def _async_send(http: ModuleType, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def send(self: Any, request: Any, **options: Any) -> Any:
        if (replay := REPLAY.get()) is not None:
            return replay(http, request)
        if (look := LOOK.get()) is not None:
            look.seen(http, self, request, functools.partial(_through, original, options))
        found = _ours(self, request, awaited=True) if LIVE or _probing or ROW.get() is not None else None
        if found is None:  # on a bridge, what is not ours may leave nothing behind either
            client = at_home(http, self) if LIVE and on_a_bridge() else self
            return await original(client, request, **options)
        again = functools.partial(original, at_home(http, self), **options)
        found[1].streams = stream = options.get("stream", False)
        return await drive(*found, Sender(http, request, stream, again, _counted(found[0], stream=stream)))

    return send


async def _through(original: Callable[..., Any], options: dict[str, Any], client: Any, request: Any) -> Any:
    return await original(client, request, **options)


def _sync_send(http: ModuleType, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def send(self: Any, request: Any, **options: Any) -> Any:
        found = _ours(self, request, awaited=False) if LIVE or _probing or ROW.get() is not None else None
        if found is None:
            return original(self, request, **options)
        again = functools.partial(original, self, **options)
        found[1].streams = stream = options.get("stream", False)
        return drive_sync(*found, Sender(http, request, stream, again, _counted(found[0], stream=stream)))

    return send


def _counted(row: RowAccount, *, stream: bool) -> StockCall | None:
    """The call that the fast transport has left to the SDK; streams go by the SDK from the start."""
    call, counts = BY_SDK.get(), row.run.transports
    return StockCall(counts, STREAMED) if call is None and stream and counts.wanted else call


def _ours(client: Any, request: Any, *, awaited: bool) -> tuple[RowAccount, Call] | None:
    """Return the row and the call if this is a model request of a row; None: leave the request alone."""
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
        row = shadow_row(client, awaited=awaited and not on_a_bridge())
    elif client not in row.run.clients:
        row.run.clients.add(client)
    call.client = client
    return None if row is None else (row, call)


def _call(request: Any) -> Call | None:
    if request.method != "POST":
        return None
    url = request.url
    path = url.path
    if (family := family_of(path)) is None:
        return None
    content = getattr(request, "_content", None)  # only a body in memory; `.content` would raise without it
    if not isinstance(content, bytes):
        return None
    headers = {  # we decode only the few headers that we need
        _WHOSE[name]: value.decode("latin-1")
        for raw, value in request.headers.raw
        if (name := raw.lower()) in _WHOSE
    }
    call = call_of(family, (url.scheme, url.host, url.port, path), headers, content)
    if call is not None:
        call.request = request
    return call


def _reached(http: ModuleType) -> bool:
    if (http.AsyncClient.send, http.Client.send) == _installed[http.__name__]:
        return True
    return _passed_on(http)


def _passed_on(http: ModuleType) -> bool:
    """Whether a wrapper that was installed after ours still calls ours: only a request can show that."""
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
    return len(seen) >= 2  # one sync request and one async request


def _probe(http: ModuleType) -> None:
    """Send a request through a sync and an async client whose transport sends nothing."""
    transport = http.MockTransport(lambda _: http.Response(200))
    request = http.Request("POST", "http://probe.invalid/chat/completions", json={})
    with http.Client(transport=transport, trust_env=False) as client:
        client.send(request)
    client = http.AsyncClient(transport=transport, trust_env=False)
    _without_loop(client.send(http.Request("POST", "http://probe.invalid/chat/completions", json={})))


def _without_loop(coroutine: Any) -> None:
    """Run a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    finally:
        coroutine.close()
