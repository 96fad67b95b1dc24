"""A chain's own `with_fallbacks()`: whoever asks its models but the last need not wait for a provider that is down.

Nothing outside tells which of its models is being asked, so the list of them is looked at as it is gone through.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from langchain_core.runnables import RunnableWithFallbacks

from cottonpalm.request.row_account import OTHERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_OURS: Final = "cottonpalm"
_lock: Final = threading.Lock()


def install() -> None:
    """Look at the lists of `with_fallbacks()`, once per process."""
    with _lock:
        listed: Any = RunnableWithFallbacks.runnables
        if not hasattr(listed.fget, _OURS):
            told = _told(listed.fget)
            setattr(told, _OURS, True)
            RunnableWithFallbacks.runnables = property(told, doc=listed.__doc__)  # type: ignore[method-assign, assignment]


def _told(listed: Callable[[Any], Iterator[Any]]) -> Callable[[Any], Iterator[Any]]:
    def runnables(self: Any) -> Iterator[Any]:
        before, left = OTHERS.get(), len(self.fallbacks)
        goes_on = any(issubclass(Exception, handled) for handled in self.exceptions_to_handle)
        try:
            for runnable in listed(self):
                OTHERS.set(before or (goes_on and left > 0))
                left -= 1
                yield runnable
        finally:
            OTHERS.set(before)

    return runnables
