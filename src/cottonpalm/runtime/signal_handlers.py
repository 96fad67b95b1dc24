"""Tells the exceptions that signal handlers raise, such as soft timeouts.

They are meant for the program, and not for the row in whose code they happen to arrive.
"""

from __future__ import annotations

import signal
import threading
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType

BaseExc = TypeVar("BaseExc", bound=BaseException)
_DEPTH: Final = 16  # the most causes that are followed from one exception
# Listed once: that takes three times as long as asking who handles each, which is done for every row that fails.
_SIGNALS: Final = tuple(map(int, signal.valid_signals()))


def raised_by_handler(exc: BaseException) -> BaseException | None:
    """Return the exception that a signal handler raised in this thread: this one, or one behind it; None: none did."""
    if threading.current_thread() is not threading.main_thread():  # handlers run there alone
        return None
    handlers = set(_handlers())
    return next((found for found in _behind(exc) if _passed_through(found, handlers)), None)


def raised_anew(exc: BaseExc) -> BaseExc:
    """Return it without its traceback, which would grow with each raise; a handler's keeps it, which tells it."""
    return exc if raised_by_handler(exc) is exc else exc.with_traceback(None)


def _handlers() -> Iterator[CodeType]:
    """The code of all handlers that are installed now; one that a row's own code installed is gone by then."""
    for number in _SIGNALS:
        handler: Any = signal.getsignal(number)
        while isinstance(handler, partial):
            handler = handler.func
        code = getattr(getattr(handler, "__func__", handler), "__code__", None)
        if code is not None:
            yield code


def _behind(exc: BaseException) -> Iterator[BaseException]:
    """The exception, and those that it was raised from, or while they were handled, or that it groups."""
    line = [exc]
    for _ in range(_DEPTH):
        if not line:
            return
        yield (found := line.pop(0))
        line += [other for other in (found.__cause__, found.__context__) if other is not None]
        line += found.exceptions if isinstance(found, BaseExceptionGroup) else ()


def _passed_through(exc: BaseException, handlers: set[CodeType]) -> bool:
    return any(frame.f_code in handlers for frame, _ in traceback.walk_tb(exc.__traceback__))
