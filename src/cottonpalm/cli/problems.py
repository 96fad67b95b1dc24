"""The one exception of the command line, and the exit codes."""

from __future__ import annotations

import os
from enum import IntEnum

from cottonpalm.cli.urls import without_secrets
from cottonpalm.faults import CottonpalmError


class Code(IntEnum):
    """What the command tells the shell. Of several, the first that applies of 130/143, 4, 3."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    SOME_FAILED = 3
    STOPPED = 4
    INTERRUPTED = 130
    TERMINATED = 143


class Problem(CottonpalmError):
    """Something the user can mend. The message is one line: what, where (file and line), and how to mend it."""

    def __init__(self, message: str, code: Code = Code.USAGE) -> None:
        super().__init__(message)
        self.code = code


def shown(path: str) -> str:
    """A path as short as it can be said from here; an address without what may be secret in it."""
    here = os.getcwd() + os.sep  # noqa: PTH109 - compared as text
    return without_secrets(path.removeprefix(here))


def os_problem(action: str, path: str, error: OSError, code: Code = Code.USAGE) -> Problem:
    """`cannot read reviews.csv: Permission denied`."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    return Problem(f"cannot {action} {shown(path)}: {reason}", code)
