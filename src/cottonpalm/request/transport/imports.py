"""Says when a module is there that others may import later: it need not be loaded for those who never use it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_awaited: Final[dict[str, Callable[[ModuleType], None]]] = {}
_looking: Final = threading.local()  # the names that this thread asks the other finders for


def when_imported(name: str, then: Callable[[ModuleType], None]) -> None:
    """Give `then` the module: now if it is loaded, else as soon as it is, before whoever imports it goes on.

    Args:
        name: of a module at the top level.
        then: may be called twice, by two threads.
    """
    _awaited[name] = then
    if not any(finder is _Watch for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watch)
    if sys.modules.get(name) is not None:  # None: somebody keeps it from being imported
        then(importlib.import_module(name))  # which waits for another thread that is loading it


class _Watch:
    """A finder of Python's import system that leaves the finding to the others."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:  # noqa: ARG004 - as it is called
        if name not in _awaited or name in vars(_looking):
            return None
        vars(_looking)[name] = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            del vars(_looking)[name]
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, _awaited[name])  # type: ignore[assignment]
        return spec


class _Loader:
    """A module's own loader, which says when it has loaded it."""

    def __init__(self, own: Any, then: Callable[[ModuleType], None]) -> None:
        self._own, self._then = own, then

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._own  # what asks for it later finds nothing of ours
        self._own.exec_module(module)
        self._then(module)
