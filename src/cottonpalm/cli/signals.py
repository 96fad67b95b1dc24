"""Ctrl-C and SIGTERM: once stops cleanly, twice leaves, whatever the chain is doing.

Standard input, output and error are held open here too: whoever started us may have closed them.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

from cottonpalm.cli.problems import Code

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType
    from typing import Self

CODES: Final = {signal.SIGINT: Code.INTERRUPTED, signal.SIGTERM: Code.TERMINATED}
LEAVE_S: Final = 10  # after the second signal: a step that blocks the loop cannot be broken off
SHOW_CURSOR: Final = b"\x1b[?25h\n"


class Stoppable(Protocol):
    """A run, as far as signals go."""

    def stop(self, reason: str = ...) -> None:
        """Admit no more, finish what is in flight."""

    def abort(self) -> None:
        """Leave now."""


class Signals:
    """While open, the first signal stops the run and the second leaves it. `code` is the exit code then.

    A run that does not end within ten seconds of the second signal, or until a third, is left as it is: the process
    ends. That is safe at any moment, as a kill is.

    It is opened before the run, which may be at its first row before it is there to be named: `over` says which run.

    Args:
        say: tells the user; called inside the handler, so it must not lock or print by itself.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.code: Code | None = None
        self._run: Stoppable | None = None
        self._say = say
        self._leaving = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._on) for number in CODES}
            self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._depart)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._leaving:
            signal.alarm(0)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def over(self, run: Stoppable) -> None:
        """This is the run; what came before it is made up for."""
        self._run = run
        self._pass_on()

    def _pass_on(self) -> None:
        if self._run is not None and self._leaving:
            self._run.abort()
        elif self._run is not None and self.code is not None:
            self._run.stop("interrupted")

    def _on(self, number: int, frame: FrameType | None) -> None:
        if self.code is None:
            self.code = CODES[signal.Signals(number)]
            self._say("stopping: what is in flight is finished and kept (once more to leave at once)")
            self._pass_on()
        elif not self._leaving:
            self._leaving = True
            self._say("leaving: what is in flight is given up, what is done is kept")
            signal.alarm(LEAVE_S)  # no thread is started in a handler
            self._pass_on()
        else:
            self._depart(number, frame)

    def _depart(self, number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG002 - a handler's form
        with suppress(OSError):
            if os.isatty(2):
                os.write(2, SHOW_CURSOR)
            os.write(
                2,
                b"cottonpalm: left at once: the chain did not let go; what is done is kept, begin again to go on\n",
            )
        os._exit(self.code or Code.INTERRUPTED)


def hold_standard_streams() -> None:
    """Make descriptors 0 to 2 lead somewhere: a file opened later must not be taken for one of them.

    `sys.stdin` and `sys.stdout` stay None where they were closed, so that it can be said to who needs them.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - open as long as we run
