"""When two chains of two processes are the same, so that an answer kept on disk by one may stand for the other's.

Within a process an object of the user's own is the very object it is (`sameness`). Between processes only what can be
written down counts: prompts, models, parameters, addresses, the text of functions and of what they use. Where a chain
holds more than that, only its author can tell, by a version string.
"""

from __future__ import annotations

import logging
import re
import sys
from functools import partial
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from langchain_core.runnables import Runnable

from cottonpalm import fingerprint
from cottonpalm.chain_walk import is_library
from cottonpalm.described import class_code, class_path, code_of, described
from cottonpalm.pure.secrets import looks_secret
from cottonpalm.sameness import form_of, own_objects

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PLAIN: Final = (str, bytes, int, float, bool, type(None))
_SILENT: Final = (BuiltinFunctionType, logging.Logger, re.Pattern)
_CLIENTS: Final = ("anthropic", "httpx", "httpx2", "openai")  # whose clients only carry a request
_OURS: Final = "cottonpalm.cli."  # the command line's prompts: told by their fields


class Untold(Exception):
    """Something in a chain cannot be written down; the text names it."""


def digest(chains: Sequence[Any], version: str | None, *others: Any) -> bytes:
    """Equal for the same chains with the same other things beside them (functions, plain values), in every process.

    Args:
        chains: the chain and its fallbacks.
        version: the user's own version string, which answers for all that cannot be told.
        others: what else shapes an answer.

    Raises:
        Untold: a part cannot be written down, and there is no version string.
    """
    form = form_of(chains)
    own = [*(found for chain in chains for found in own_objects(chain)), *others]
    if version is None:
        telling = _Telling()
        return fingerprint.digest({**form, "own": [telling.told(part) for part in own]})
    known = [_told_plainly(part) if isinstance(part, _PLAIN) else code_of(part) for part in own]
    return fingerprint.digest({**form, "own": known, "version": version})


class _Telling:
    """Writes down what shapes an answer. Each function is written down once, so that recursion ends."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def told(self, part: Any) -> Any:
        """All that `part` does, as JSON."""
        if isinstance(part, str) and looks_secret(part):
            raise Untold("a text that looks like a credential")  # not even as a hash
        if isinstance(part, _PLAIN):
            return _told_plainly(part)
        if isinstance(part, list | tuple):
            return [self.told(inside) for inside in part]
        if isinstance(part, dict):
            return [[self.told(name), self.told(inside)] for name, inside in part.items()]
        if isinstance(part, partial):
            return [self.told(part.func), self.told(part.args), self.told(part.keywords)]
        return _told_by_name(part) if _is_installed(part) else self._told_by_text(part)

    def _told_by_text(self, part: Any) -> Any:
        if isinstance(part, type):
            return [described(part), class_code(part)]
        if isinstance(part, FunctionType):
            return self._function(part)
        raise Untold(_shown(part))

    def _function(self, function: FunctionType) -> Any:
        """Its text, its defaults, and what it uses from around it."""
        if id(function) in self._seen:
            return None
        self._seen.add(id(function))
        code = code_of(function)
        if code is None or not code.startswith("source:"):
            raise Untold(_shown(function))
        around = [*(function.__defaults__ or ()), function.__kwdefaults__ or {}, *_used(function)]
        return [code, *(self._beside(part) for part in around)]

    def _beside(self, part: Any) -> Any:
        """What a function uses: a Runnable with all its parts."""
        if isinstance(part, Runnable) and (is_library(part) or type(part).__module__.startswith(_OURS)):
            return [fingerprint.describe(part), [self.told(found) for found in own_objects(part)]]
        return self.told(part)


def _told_plainly(part: Any) -> Any:
    return str(part) if isinstance(part, str) else described(part)


def _used(function: FunctionType) -> Iterator[Any]:
    """What a function closes over, and the globals that it names."""
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue
    names = sorted(set(_names(function.__code__)))
    yield from (function.__globals__[name] for name in names if name in function.__globals__)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for inside in code.co_consts:
        if isinstance(inside, CodeType):
            yield from _names(inside)


def _is_installed(part: Any) -> bool:
    """Whether a library's code says what it does; for the command line's prompts the description has said it."""
    if isinstance(part, _SILENT):
        return True
    if isinstance(part, ModuleType):
        return _is_installed_module(part.__name__)
    if isinstance(part, type | FunctionType):
        return _is_installed_module(part.__module__)
    module = type(part).__module__
    return module.startswith(_OURS) or module.partition(".")[0] in _CLIENTS


def _is_installed_module(name: str) -> bool:
    top = name.partition(".")[0]
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    return top in sys.stdlib_module_names or top == "cottonpalm" or "site-packages" in file


def _told_by_name(part: Any) -> Any:
    if isinstance(part, re.Pattern):
        return [described(part.pattern), part.flags]
    if isinstance(part, type):
        return class_path(part)
    return getattr(part, "__qualname__", None) or getattr(part, "__name__", None)


def _shown(part: Any) -> str:
    if isinstance(part, ModuleType):
        return f"module {part.__name__}"
    if isinstance(part, FunctionType | MethodType):
        return f"function {part.__qualname__}"
    return f"an object of class {type(part).__qualname__}"
