"""`--chain MODULE:ATTR`: the user's own chain, and a clear word where it is none."""

from __future__ import annotations

import importlib
import sys
import traceback
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import Runnable

from cottonpalm.cli.problems import Problem

if TYPE_CHECKING:
    from types import ModuleType


def load_chain(spec: str, folder: str) -> Runnable[Any, Any]:
    """The Runnable that `spec` names; modules in `folder` are found first. A row's dict is the chain's input.

    Raises:
        Problem: there is no such module or attribute, importing it fails, or it is no Runnable.
    """
    name, _, path = spec.partition(":")
    if not all((*name.split("."), *path.split("."))) or "/" in name or name.endswith(".py"):
        raise Problem(f"--chain {spec}: write MODULE:ATTRIBUTE, for instance {_example(name, path)}")
    found: Any = _module(name, folder, spec)
    for part in path.split("."):
        if not hasattr(found, part):
            raise Problem(f"--chain {spec}: {_described(found)} has no attribute {part!r}{_hint(found)}")
        found = getattr(found, part)
    if not isinstance(found, Runnable):
        raise Problem(f"--chain {spec} is no Runnable but {_kind(found)}")
    return found


def _module(name: str, folder: str, spec: str) -> ModuleType:
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise Problem(
                f"--chain {spec}: no module {error.name!r} in {folder} or among the installed ones"
            ) from None
        raise Problem(f"--chain {spec}: importing it fails: {_last(error)}") from error
    except Exception as error:
        raise Problem(f"--chain {spec}: importing it fails: {_last(error)}") from error
    except SystemExit as error:
        raise Problem(f"--chain {spec}: importing it ends the program (sys.exit at module level)") from error


def _example(name: str, path: str) -> str:
    """What was probably meant: `app.py:chain` is a module all the same."""
    module = name.removesuffix(".py")
    return f"{module}:{path or 'chain'}" if module.isidentifier() else "app:chain"


def _last(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} ({error.filename} line {error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename} line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"


def _described(found: Any) -> str:
    return f"module {found.__name__!r}" if hasattr(found, "__spec__") else type(found).__name__


def _hint(found: Any) -> str:
    chains = (
        [name for name, value in vars(found).items() if isinstance(value, Runnable)]
        if hasattr(found, "__spec__")
        else []
    )
    return f"; its Runnables are {', '.join(chains[:5])}" if chains else ""


def _kind(found: Any) -> str:
    if callable(found) and not isinstance(found, type):
        return "a function; name the chain it makes, or wrap it: RunnableLambda(function)"
    return (
        f"{found.__name__}, a class; name an instance"
        if isinstance(found, type)
        else f"{'an' if type(found).__name__[0] in 'aeiou' else 'a'} {type(found).__name__}"
    )
