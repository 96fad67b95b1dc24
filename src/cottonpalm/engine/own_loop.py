"""The loop that a run lives on, for those who call from other threads."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class OwnLoop:
    """The loop of one run. Before `enter`, nothing runs that a call from another thread could disturb.

    Args:
        turn: called on the loop after one or more nudges.

    Attributes:
        finished: no row is under way any more.
    """

    def __init__(self, turn: Callable[[], None]) -> None:
        self.finished = False
        self._turn = turn
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._nudged = False

    def enter(self, loop: asyncio.AbstractEventLoop) -> None:
        """The run begins on this loop, and on this thread."""
        self._loop, self._thread = loop, threading.get_ident()

    @property
    def here(self) -> bool:
        """Whether the caller is on the loop's thread."""
        return threading.get_ident() == self._thread

    def call(self, function: Callable[[], None]) -> None:
        """Call this on the loop: at once from there, soon from another thread, never if the loop is closed."""
        if self._loop is None or self.here:
            function()
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: the run is over
            self._loop.call_soon_threadsafe(function)

    def nudge(self) -> None:
        """Something changed: check once, in the next turn of the loop, whether more rows may start."""
        if self._nudged or self._loop is None or self.finished:
            return
        self._nudged = True
        here, loop = threading.get_ident() == self._thread, self._loop
        with contextlib.suppress(RuntimeError):  # the loop is closed: the run is over
            (loop.call_soon if here else loop.call_soon_threadsafe)(self._next_turn)

    def _next_turn(self) -> None:
        self._nudged = False
        self._turn()
