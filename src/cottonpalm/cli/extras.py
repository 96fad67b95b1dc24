"""Packages that only some files need: loaded when met, and where one is missing, the command that installs it."""

from __future__ import annotations

import importlib
from typing import Any

from cottonpalm.cli.problems import Problem


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
