"""The one exception of the command line, the exit codes, and packages that only some files need."""

from __future__ import annotations

import importlib
import os
from enum import IntEnum
from typing import Any

from cottonpalm.cli.urls import without_secrets
from cottonpalm.errors import CottonpalmError


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


def extra(module: str, name: str, need: str) -> Any:
    """Import a package of an extra.

    Args:
        module: what is imported.
        name: the extra it comes with.
        need: what needs it, for the message.

    Raises:
        Problem: it is not installed; the message holds the command.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = (error.name or module).partition(".")[0]
        raise Problem(f"{need} needs the package {package}: pip install 'cottonpalm[{name}]'") from None
