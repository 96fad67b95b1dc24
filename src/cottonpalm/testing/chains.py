"""A chain that does what its script says."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_core.runnables import Runnable

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import RunnableConfig


class _Step(NamedTuple):
    value: Any
    waits: bool


class ScriptedChain(Runnable[Any, Any]):
    """Each call takes the script's next steps: a float waits, an exception is raised, the rest are replies.

    Args:
        *steps: taken in the order of the calls, not of the rows.
        then: the reply to a row once the script has run out, whatever its type; an exception is raised. Without it,
            a further call is an AssertionError.
    """

    def __init__(self, *steps: Any, then: Callable[[Any], Any] | None = None) -> None:
        self._steps, self._then = iter(steps), then
        self._lock = threading.Lock()
        # Public fields of a chain count as its parameters, and what was called makes no other chain of it.
        self._rows: list[Any] = []
        self._active = self._peak = 0

    @property
    def rows(self) -> list[Any]:
        """The input of every call, in order."""
        return self._rows

    @property
    def active(self) -> int:
        """Calls under way now."""
        return self._active

    @property
    def peak(self) -> int:
        """The most calls that were ever under way at once."""
        return self._peak

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002, ARG002
        """Do the next steps, up to a reply or an exception."""
        self._enter(input)
        try:
            while (step := self._next(input)).waits:  # noqa: ASYNC110 - the script says how long
                await asyncio.sleep(step.value)
            return _said(step.value)
        finally:
            self._leave()

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002, ARG002
        """Do the next steps, up to a reply or an exception. A wait is a real one here."""
        self._enter(input)
        try:
            while (step := self._next(input)).waits:
                threading.Event().wait(step.value)
            return _said(step.value)
        finally:
            self._leave()

    def _next(self, row: Any) -> _Step:
        with self._lock:
            for step in self._steps:
                return _Step(step, isinstance(step, float))
        if self._then is None:
            raise AssertionError("the script ran out: one call more than expected")
        return _Step(self._then(row), False)

    def _enter(self, row: Any) -> None:
        with self._lock:
            self._rows.append(row)
            self._active += 1
            self._peak = max(self._peak, self._active)

    def _leave(self) -> None:
        with self._lock:
            self._active -= 1


def _said(step: Any) -> Any:
    if isinstance(step, BaseException) or (isinstance(step, type) and issubclass(step, BaseException)):
        raise step
    return step
