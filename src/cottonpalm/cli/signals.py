"""Ctrl-C and SIGTERM: once stops cleanly, twice leaves."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any, Protocol

from cottonpalm.cli.problems import Code

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType
    from typing import Self

CODES = {signal.SIGINT: Code.INTERRUPTED, signal.SIGTERM: Code.TERMINATED}


class Stoppable(Protocol):
    """A run, as far as signals go."""

    def stop(self, reason: str = ...) -> None:
        """Admit no more, finish what is in flight."""

    def abort(self) -> None:
        """Leave now."""


class Signals:
    """While open, the first signal stops the run and the second leaves it. `code` is the exit code then.

    Args:
        run: what is stopped.
        say: tells the user; called inside the handler, so it must not lock or print by itself.
    """

    def __init__(self, run: Stoppable, say: Callable[[str], None]) -> None:
        self.code: Code | None = None
        self._run, self._say = run, say
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._on) for number in CODES}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a handler's form
        if self.code is None:
            self.code = CODES[signal.Signals(number)]
            self._say("stopping: what is in flight is finished and kept (once more to leave at once)")
            self._run.stop("interrupted")
        else:
            self._say("leaving: what is in flight is given up, what is done is kept")
            self._run.abort()
