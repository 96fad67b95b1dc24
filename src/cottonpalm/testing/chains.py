"""A chain that does what its script says."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import Runnable

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import RunnableConfig


class ScriptedChain(Runnable[Any, Any]):
    """Each call takes the script's next steps: a float waits, an exception is raised, the rest are replies.

    Args:
        *steps: taken in the order of the calls, whatever their rows.
        then: the reply to a row once the script has run out; without it, a further call is an AssertionError.

    Attributes:
        rows: the input of every call, in order.
        active: calls under way now.
        peak: the most calls that were ever under way at once.
    """

    def __init__(self, *steps: Any, then: Callable[[Any], Any] | None = None) -> None:
        self._steps, self._then = iter(steps), then
        self._lock = threading.Lock()
        self.rows: list[Any] = []
        self.active = self.peak = 0

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002, ARG002
        """Do the next steps, up to a reply or an exception."""
        self._enter(input)
        try:
            while isinstance(step := self._next(input), float):  # noqa: ASYNC110 - the script says how long
                await asyncio.sleep(step)
            return _said(step)
        finally:
            self._leave()

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002, ARG002
        """Do the next steps, up to a reply or an exception. A wait is a real one here."""
        self._enter(input)
        try:
            while isinstance(step := self._next(input), float):
                threading.Event().wait(step)
            return _said(step)
        finally:
            self._leave()

    def _next(self, row: Any) -> Any:
        with self._lock:
            for step in self._steps:
                return step
        if self._then is None:
            raise AssertionError("the script ran out: one call more than expected")
        return self._then(row)

    def _enter(self, row: Any) -> None:
        with self._lock:
            self.rows.append(row)
            self.active += 1
            self.peak = max(self.peak, self.active)

    def _leave(self) -> None:
        with self._lock:
            self.active -= 1


def _said(step: Any) -> Any:
    if isinstance(step, BaseException) or (isinstance(step, type) and issubclass(step, BaseException)):
        raise step
    return step
