"""A chain's own `with_fallbacks()`: whoever asks its models but the last need not wait for a provider that is down.

Nothing outside tells which of its models is being asked, so the list of them is looked at as it is gone through.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar

from langchain_core.runnables import RunnableWithFallbacks

from cottonpalm.request.row_account import OTHERS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

Way = TypeVar("Way")
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


def one_by_one(ways: Sequence[Way], handled: Sequence[type[BaseException]]) -> Generator[Way]:
    """Yield each way to an answer; whoever asks by it can see meanwhile whether another one stands behind it."""
    before, left = OTHERS.get(), len(ways) - 1
    goes_on = any(issubclass(Exception, one) for one in handled)
    try:
        for way in ways:
            OTHERS.set(before or (goes_on and left > 0))
            left -= 1
            yield way
    finally:
        OTHERS.set(before)


def _told(listed: Callable[[Any], Iterator[Any]]) -> Callable[[Any], Iterator[Any]]:
    def runnables(self: Any) -> Iterator[Any]:
        yield from one_by_one([*listed(self)], self.exceptions_to_handle)

    return runnables
