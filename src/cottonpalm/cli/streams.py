"""Standard input, output and error, which whoever started us may have closed."""

from __future__ import annotations

import os
import sys


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
