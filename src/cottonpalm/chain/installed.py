"""Decides whether a module is a library's, installed at a fixed version that identifies it, or the user's own code."""

from __future__ import annotations

import json
import sys
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path, PurePath
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from importlib.metadata import Distribution

LIBRARIES: Final = ("langchain", "langgraph", "operator", "builtins", "functools")
_OURS: Final = "cottonpalm"
_PLACES: Final = ("site-packages", "dist-packages")


def module_of(value: Any) -> str:
    """The module that a value's code stands in; `functools.wraps` copies `__module__`, not where a function stands."""
    while (inner := _inside(value)) is not None:
        value = inner
    if isinstance(value, FunctionType):
        return str(value.__globals__.get("__name__", value.__module__))
    if isinstance(value, ModuleType):
        return value.__name__
    if isinstance(value, type | BuiltinFunctionType):
        return value.__module__ or "builtins"
    return type(value).__module__


def _inside(value: Any) -> Any:
    """The function that a partial, a bound method or `lru_cache` was made of; their own types are Python's."""
    if isinstance(value, partial):
        return value.func
    if isinstance(value, MethodType):
        return value.__func__
    wrapped = None if isinstance(value, FunctionType | type) else getattr(value, "__wrapped__", None)
    return wrapped if isinstance(wrapped, FunctionType) else None


def is_library(value: Any) -> bool:
    """Whether a function, or the class of an object, belongs to LangChain or LangGraph."""
    return module_of(value).partition(".")[0].startswith(LIBRARIES)


def release_of(module: str) -> str | None:
    """What a module was installed with, as "numpy 2.1.0"; None: the user's own code, which may change any day.

    Python's own modules, LangChain's and ours are named without a version: what a chain does with them is described.
    """
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names or top == _OURS or top.startswith(LIBRARIES):
        return top
    if top == "__main__":
        return None  # a program is the user's own, also where a launcher that is installed runs it
    file = PurePath(_file(module, top))
    if any(place in file.parts for place in _PLACES):
        return _release(top)
    folder = _folder(file, top)
    return _release(top, folder) if folder and _holds_releases(folder) else None


def _file(module: str, top: str) -> str:
    """Return the path of a module; if it is not imported yet, the path of its package."""
    if (loaded := sys.modules.get(module) or sys.modules.get(top)) is not None:
        return getattr(loaded, "__file__", None) or ""
    try:
        return getattr(find_spec(top), "origin", None) or ""
    except (ImportError, ValueError):
        return ""


def _folder(file: PurePath, top: str) -> str:
    """Return the folder that a package, or a module of one file, lies in; "" where there is none."""
    for inside in getattr(sys.modules.get(top), "__path__", ()):  # a namespace package has no file
        return str(PurePath(inside).parent)
    return str(file.parent.parent if file.stem == "__init__" else file.parent) if file.parts else ""


@cache
def _holds_releases(folder: str) -> bool:
    """Whether libraries are installed into a folder of another name (`pip install --target`), as for AWS Lambda."""
    return any(Path(folder).glob("*.dist-info"))


@cache
def _release(top: str, folder: str | None = None) -> str | None:
    """The distributions that a package comes from; None where one of them has no version that is fixed.

    Args:
        top: the package.
        folder: where it lies, if the user's own code may lie there too: so must its distributions.
    """
    distributions = _distributions(top)
    if folder and any(Path(str(one.locate_file(""))).absolute() != Path(folder) for one in distributions):
        return None
    found = [_fixed(one) for one in distributions]
    return " + ".join(sorted(one for one in found if one)) if found and all(found) else None


def _distributions(top: str) -> list[Distribution]:
    from importlib import metadata  # noqa: PLC0415 - slow to import, and few chains need it

    try:
        if _holds(by_name := metadata.distribution(top), top):
            return [by_name]
    except (metadata.PackageNotFoundError, ValueError):
        pass
    names = sorted(set(metadata.packages_distributions().get(top, ())))  # reads all that is installed
    return [metadata.distribution(name) for name in names]


def _holds(distribution: Distribution, top: str) -> bool:
    tops = (distribution.read_text("top_level.txt") or "").split()
    return top in tops or any(file.parts[0] in (top, f"{top}.py") for file in distribution.files or ())


def _fixed(distribution: Distribution) -> str | None:
    """Name and version, of a repository the commit too; None for a folder, whose text changes under one version."""
    named = f"{distribution.metadata['Name']} {distribution.version}"
    try:
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    except ValueError:
        return None
    if "dir_info" in origin:
        return None
    commit = origin.get("vcs_info", {}).get("commit_id")
    digest = origin.get("archive_info", {}).get("hash")
    return " ".join(part for part in (named, commit, digest) if part)
