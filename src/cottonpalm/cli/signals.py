"""Ctrl-C, SIGTERM and SIGHUP: the first stops the run cleanly, the second ends it now, whatever the chain is doing.

This module also keeps standard input, output and error open: the program that started us may have closed them.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

from cottonpalm import clock
from cottonpalm.shell import Code

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType
    from typing import Self

CODES: Final = {signal.SIGINT: Code.INTERRUPTED, signal.SIGTERM: Code.TERMINATED}
HANG_UP: Final = getattr(signal, "SIGHUP", None)  # the terminal is gone; Windows has none
# Signals no further apart are one: `timeout` sends its own to the command and to the command's group, and a program
# that passes on the terminal's Ctrl-C sends it to one that has it already. Nobody presses a key twice that fast.
ONE_S: Final = 0.1
LEAVE_S: Final = 10  # so long after the second signal we end the process: a step may block the loop
SHOW_CURSOR: Final = b"\x1b[?25h\n"


class Stoppable(Protocol):
    """The part of a run that signals need."""

    def stop(self, reason: str = ...) -> None:
        """Start no more rows, finish the rows in flight."""

    def abort(self) -> None:
        """End the run now."""


class Signals:
    """While this is open, the first signal stops the run, and the second one aborts it. `code` is then the exit code.

    If the run has not ended ten seconds after the second signal, or at a third one, the process ends. This is safe at
    any moment, as a kill is.

    It is opened before there is a run; `over` then names the run, which may already be at its first row.

    Args:
        say: tells the user. The signal handler calls it, so it must not lock or print itself.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.code: Code | None = None
        self._run: Stoppable | None = None
        self._say = say
        self._leaving = False
        self._counted_s = -ONE_S  # when the latest signal came that was no repetition
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._on) for number in CODES}
            if HANG_UP is not None and signal.getsignal(HANG_UP) != signal.SIG_IGN:  # as under `nohup`
                self._before[HANG_UP] = signal.signal(HANG_UP, self._on)
            if hasattr(signal, "SIGALRM"):  # Windows has none: there the third Ctrl-C ends the process
                self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._depart)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._leaving and hasattr(signal, "alarm"):
            signal.alarm(0)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def over(self, run: Stoppable) -> None:
        """Name the run, and apply the signals that came before."""
        self._run = run
        self._pass_on()

    def _pass_on(self) -> None:
        if self._run is not None and self._leaving:
            self._run.abort()
        elif self._run is not None and self.code is not None:
            self._run.stop("interrupted")

    def _on(self, number: int, frame: FrameType | None) -> None:
        if (now := clock.now()) - self._counted_s < ONE_S:
            return
        self._counted_s = now
        if self.code is None:
            self.code = Code.HUNG_UP if number == HANG_UP else CODES[signal.Signals(number)]
            self._say("stopping: what is in flight is finished and kept (once more to leave at once)")
            self._pass_on()
        elif number == HANG_UP:
            return  # the system and the shell may both say it: nobody asked twice
        elif not self._leaving:
            self._leaving = True
            self._say("leaving: what is in flight is given up, what is done is kept")
            if hasattr(signal, "alarm"):
                signal.alarm(LEAVE_S)  # a signal handler must not start a thread
            self._pass_on()
        else:
            self._depart(number, frame)

    def _depart(self, number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG002 - a handler's form
        with suppress(OSError):
            if os.isatty(2):
                os.write(2, SHOW_CURSOR)
            os.write(
                2,
                b"cottonpalm: left at once: the chain or the store did not let go; what is stored is kept, begin again"
                b" to go on\n",
            )
        os._exit(self.code or Code.INTERRUPTED)


def hold_standard_streams() -> None:
    """Make sure that descriptors 0 to 2 are open, so that a file opened later does not become one of them.

    What a locale such as latin-1 has no character for is shown escaped on both outputs, as Python does on stderr alone.
    If `sys.stdin` or `sys.stdout` was closed, it stays None, so that code that needs it can report this.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest free number, which is this one
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - open as long as we run
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def leave_standard_error() -> None:
    """Where standard error cannot be written (a full disk), Python would end with 120, whatever our exit code is."""
    try:
        sys.stderr.flush()
    except OSError:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - open as long as we run
