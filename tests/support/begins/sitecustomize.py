"""Read by each Python that starts with this folder in its PYTHONPATH: another default transport, where one is wanted.

It loads nothing of ours: the default is set when the module that has it is loaded.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

WANTED = "COTTONPALM_TESTS_TRANSPORT"
PLACE = "cottonpalm.request.transports"


class Wanted:
    """Finds the module that has the default, and sets it."""

    def __init__(self, transport: str) -> None:
        self._transport = transport

    def find_spec(self, name: str, path: Sequence[str] | None, target: object = None) -> ModuleSpec | None:
        found = PathFinder.find_spec(name, path) if name == PLACE else None
        if found is None or found.loader is None:
            return None
        loaded = found.loader.exec_module

        def load(module: ModuleType) -> None:
            loaded(module)
            vars(module)["DEFAULT_TRANSPORT"] = self._transport

        found.loader.exec_module = load  # type: ignore[method-assign]
        return found


def begin() -> None:
    """Set the default that the environment wants, if it wants one."""
    if wanted := os.environ.get(WANTED):
        sys.meta_path.insert(0, Wanted(wanted))


begin()
