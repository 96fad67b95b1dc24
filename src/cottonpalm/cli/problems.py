"""The command line's only exception, and the import of optional packages."""

from __future__ import annotations

import difflib
import importlib
import os
from pathlib import Path
from typing import Any

from cottonpalm.errors import CottonpalmError
from cottonpalm.shell import Code
from cottonpalm.urls import shown


class Problem(CottonpalmError):
    """An error that the user can mend. Its one-line message says what, where (file and line), and how to mend it."""

    def __init__(self, message: str, code: Code = Code.USAGE) -> None:
        super().__init__(message)
        self.code = code


class NoRows(Problem):
    """An input without a single row."""


def os_problem(action: str, path: str, error: OSError, code: Code = Code.USAGE) -> Problem:
    """Describe a system error: `cannot read reviews.csv: Permission denied`; name the nearest to what is not there."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    if isinstance(error, IsADirectoryError):
        reason += "; name a file in it"
    elif isinstance(error, FileNotFoundError) and action == "read":
        reason += _nearest(Path(path))
    elif isinstance(error, PermissionError) and action == "write":
        reason += "; name a file in a folder where you may write"
    return Problem(f"cannot {action} {shown(path)}: {reason}", code)


def _nearest(path: Path) -> str:
    """Name the file that may have been meant, or the folder that is not there."""
    if set("*?[") & set(path.name):
        return "; a pattern stands for Parquet files alone: name one file, or a folder of Parquet files"
    if not path.parent.is_dir():
        return f" (there is no folder {shown(str(path.parent))})"
    try:
        stems = {entry.stem.lower(): entry for entry in path.parent.iterdir() if entry.is_file()}
    except OSError:
        return ""
    near = difflib.get_close_matches(path.stem.lower(), stems, n=1)  # of endings, many are alike
    return f"; did you mean {shown(str(stems[near[0]]))}?" if near else ""


def extra(module: str, name: str, need: str) -> Any:
    """Import an optional package.

    Args:
        module: the module to import.
        name: the extra that installs it.
        need: what needs it, for the message.

    Raises:
        Problem: it is not installed; the message gives the command to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = (error.name or module).partition(".")[0]
        raise Problem(f"{need} needs the package {package}: pip install 'cottonpalm[{name}]'") from None
