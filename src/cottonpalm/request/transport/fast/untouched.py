"""Whether a request would pass an SDK and its HTTP library as they were written.

Mocks, recorders and tracers put functions of theirs into these classes. The lean client would pass them by: a test that
has a mock would ask the real provider, and pay it.
"""

from __future__ import annotations

from operator import attrgetter
from types import FunctionType
from typing import Any, Final

from cottonpalm.request.transport import hook

_LIBRARIES: Final = ("openai", "anthropic", "httpx", "httpx2", "httpcore", "httpcore2")
_written: Final[set[Any]] = set()  # methods of a class that were looked at


class _Methods:
    """The methods of one class that a request passes."""

    def __init__(self, *names: str) -> None:
        self._names, self._of = frozenset(names), attrgetter(*names)

    def changed(self, thing: Any) -> str:
        """Say which is not as its library has it; "" if all are."""
        kind = type(thing)
        try:
            own, found = thing.__dict__, self._of(kind)
        except AttributeError:  # another version
            return f"{kind.__name__} is not as it is known"
        if found in _written and self._names.isdisjoint(own):
            return ""
        for name in sorted(self._names):
            if name in own or not _as_written(getattr(kind, name)):
                return f"{kind.__name__}.{name} is not its library's own"
        _written.add(found)
        return ""


_ASKED: Final = _Methods("create", "parse")
_SENT_BY: Final = _Methods("post", "request")
_PASSED: Final = _Methods(
    "send",
    "build_request",
    "_send_handling_auth",
    "_send_handling_redirects",
    "_send_single_request",
    "_transport_for_url",
)
_EXCHANGED: Final = _Methods("handle_async_request")


def patched(sdk: Any, *resources: Any) -> str:
    """Say what on the way of a request is not as its library has it; "" if all is.

    Args:
        sdk: the SDK's client.
        resources: what LangChain calls to create something.
    """
    client = getattr(sdk, "_client", None)
    transport = getattr(client, "_transport", None)
    pool = getattr(transport, "_pool", None)
    for resource in resources:
        if why := _ASKED.changed(resource):
            return why
    why = _SENT_BY.changed(sdk) or _PASSED.changed(client)
    if why or pool is None:  # another transport has a reason of its own
        return why
    return _EXCHANGED.changed(transport) or _EXCHANGED.changed(pool)


def _as_written(method: Any) -> bool:
    """A wrapper may have the name and the module of what it wraps; its globals are its own."""
    if hook.is_ours(method):
        method = method.__wrapped__
    return (
        type(method) is FunctionType
        and method.__globals__.get("__name__", "").partition(".")[0] in _LIBRARIES
    )
