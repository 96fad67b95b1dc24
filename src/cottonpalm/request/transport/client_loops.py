"""Lets one model object work on several event loops, although a connection belongs to the loop that made it.

An SDK keeps one async client per process. Its pooled connections are tied to the loop that first used them; on another
loop it fails ("Event loop is closed", "bound to a different event loop"). So on its first loop we use the client as it
is, and on any other loop a twin: the same client, hooks, cookies and settings, with an empty pool.

On a bridge's loop we never use the client itself: other code does not know that loop, and after a run it must find the
client as if the bridge had never used it. We twin only the HTTP libraries' own transports; what other transports keep
open on a bridge is closed at the end of the bridge's last run.
"""

from __future__ import annotations

import asyncio
import copy
import threading
import weakref
from collections import Counter
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.request.transport.http1.pool import hang_up

if TYPE_CHECKING:
    from types import ModuleType

_homes: Final[weakref.WeakKeyDictionary[Any, weakref.ref[Any]]] = weakref.WeakKeyDictionary()
_twins: Final[dict[int, dict[int, tuple[weakref.ref[Any], Any]]]] = {}  # loop -> client -> its twin there
_runs: Final[Counter[int]] = Counter()  # loop -> how many runs are under way on it
_lock: Final = threading.Lock()


def enter(loop: asyncio.AbstractEventLoop) -> None:
    """A run begins on this loop."""
    with _lock:
        _runs[id(loop)] += 1


async def leave(loop: asyncio.AbstractEventLoop) -> None:
    """A run ends on this loop; after the last one its twins are closed, or kept for the next, on a loop that lasts.

    On a closed loop nothing can be awaited, so its twins are only forgotten: another loop may get the same id.
    """
    lasting = is_lasting(loop)
    with _lock:
        _runs[id(loop)] -= 1
        if _runs[id(loop)] > 0:
            return
        del _runs[id(loop)]
        twins = list((_twins.get if lasting else _twins.pop)(id(loop), {}).values())
    if lasting:
        loop.hang_up(except_for=[wire for _, twin in twins for wire in _wires(twin)])  # type: ignore[attr-defined]
        return
    hang_up(loop)
    for _, twin in twins if not loop.is_closed() else ():
        await twin.aclose()


def has_run() -> bool:
    """Whether a run is under way on the loop that runs here."""
    return is_used(id(asyncio.get_running_loop()))


def is_used(loop_id: int) -> bool:
    """Whether a run is under way on the loop with this id."""
    return _runs.get(loop_id, 0) > 0


def is_lasting(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether it is a bridge's."""
    return getattr(loop, "lasting", False)


def on_a_bridge() -> bool:
    """Whether the caller runs on a bridge's loop; False also where no loop of asyncio runs at all."""
    try:
        return is_lasting(asyncio.get_running_loop())
    except RuntimeError:
        return False


def at_home(http: ModuleType, client: Any) -> Any:
    """Return the client itself on its own loop, or if it cannot be twinned; else its twin on this loop."""
    loop = asyncio.get_running_loop()
    if (home := _homes.get(client)) is not None and home() is loop:  # no lock: a client's loop never changes
        return client
    with _lock:
        home = _homes.get(client)
        if home is None and not is_lasting(loop) and not _is_from_elsewhere(client, loop):
            _homes[client] = weakref.ref(loop)
            return client
        if home is not None and home() is loop:
            return client
        known = _twins.get(id(loop), {}).get(id(client))
        if known is not None and known[0]() is client:
            return known[1]
        twin = _twin(http, client, keep=_runs[id(loop)] > 0)
        if twin is None:
            return client
        if _runs[id(loop)] > 0:
            forgotten = weakref.ref(client, partial(_forget, loop, id(client)))
            _twins.setdefault(id(loop), {})[id(client)] = (forgotten, twin)
        return twin


def _forget(loop: asyncio.AbstractEventLoop, number: int, _: Any) -> None:
    """A client is no more: close its twin. Called by the garbage collector, so no lock may be taken."""
    if (known := _twins.get(id(loop), {}).pop(number, None)) is not None:
        with suppress(RuntimeError):  # the loop is closed, and its connections with it
            loop.call_soon_threadsafe(lambda: loop.create_task(known[1].aclose()))


def _is_from_elsewhere(client: Any, loop: Any) -> bool:
    """Whether it holds connections that another or an unknown loop made before we first saw the client."""
    return any(getattr(wire, "_loop", None) is not loop for wire in _wires(client))


def _wires(client: Any) -> list[Any]:
    """What asyncio calls the transports of its pooled connections; None for one that is dug for in vain."""
    pool = getattr(getattr(client, "_transport", None), "_pool", None)
    return [_wire(connection) for connection in getattr(pool, "connections", ())]


def _wire(connection: Any) -> Any:
    """Dug out through the layers of a connection (TLS may be one)."""
    stream: Any = connection
    for name in ("_connection", "_network_stream", "_stream"):
        stream = getattr(stream, name, None)
    while (below := getattr(stream, "transport_stream", None)) is not None:
        stream = below
    return getattr(stream, "_transport", None)


def _twin(http: ModuleType, client: Any, *, keep: bool) -> Any:
    """Make a shallow copy with its own transports; None if one of them is not the library's."""
    try:
        transport = _fresh(http, client._transport, keep=keep)  # noqa: SLF001 - no public way to copy a client
        mounts = {
            pattern: mounted and _fresh(http, mounted, keep=keep)
            for pattern, mounted in client._mounts.items()  # noqa: SLF001
        }
    except (AttributeError, TypeError):
        return None
    twin = copy.copy(client)
    twin._transport, twin._mounts = transport, mounts  # noqa: SLF001
    return twin


def _fresh(http: ModuleType, transport: Any, *, keep: bool) -> Any:
    if type(transport) is not http.AsyncHTTPTransport:
        raise TypeError("a transport of the user's own")
    pool = copy.copy(transport._pool)  # noqa: SLF001
    pool._connections, pool._requests = [], []  # noqa: SLF001
    pool._optional_thread_lock = type(pool._optional_thread_lock)()  # noqa: SLF001
    if not keep:  # the loop has no run of ours, so nobody would close the twin at its end
        pool._max_keepalive_connections = 0  # noqa: SLF001
    transport = copy.copy(transport)
    transport._pool = pool  # noqa: SLF001
    return transport
