"""`MODULE:ATTRIBUTE`: imports the user's own chain or schema; looks first in the folder of the command."""

from __future__ import annotations

import importlib
import inspect
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_core.runnables import Runnable

from cottonpalm.cli.problems import Problem
from cottonpalm.engine.own_frame import own_frame

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType


class Meant(NamedTuple):
    """What an option looks for. Its messages use this.

    Attributes:
        flag: the option.
        example: an attribute's name.
        fits: whether the user could have meant this attribute of a module.
        called: the plural noun for such attributes.
    """

    flag: str
    example: str
    fits: Callable[[Any], bool]
    called: str


def load(meant: Meant, spec: str, folder: str) -> Any:
    """Import what `spec` names; do not check whether it fits.

    Args:
        meant: what the option looks for.
        spec: MODULE:ATTRIBUTE; the attribute may have dots.
        folder: modules here go before installed ones.

    Raises:
        Problem: there is no such module or attribute, or importing it fails.
    """
    said, (name, _, path) = f"{meant.flag} {spec}", spec.partition(":")
    if not all((*name.split("."), *path.split("."))) or "/" in name or name.endswith(".py"):
        raise Problem(f"{said}: write MODULE:ATTRIBUTE, for instance {_example(name, path or meant.example)}")
    found: Any = _module(name, folder, said)
    for part in path.split("."):
        if not hasattr(found, part):
            raise Problem(f"{said}: {_described(found)} has no attribute {part!r}{_hint(found, meant)}")
        found = getattr(found, part)
    return found


def kind_of(found: Any) -> str:
    """Name an object's kind in words: `an int`, `a class`."""
    if isinstance(found, type):
        return f"{found.__name__}, a class"
    name = type(found).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _module(name: str, folder: str, said: str) -> ModuleType:
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise Problem(
                f"{said}: no module {error.name!r} in {folder} or among the installed ones"
            ) from None
        raise Problem(f"{said}: importing it fails: {_last(error)}") from error
    except Exception as error:
        raise Problem(f"{said}: importing it fails: {_last(error)}") from error
    except SystemExit as error:
        raise Problem(f"{said}: importing it ends the program (sys.exit at module level)") from error


def _example(name: str, path: str) -> str:
    """Guess what the user meant: `app.py:chain` names a file where a module is needed."""
    module = name.removesuffix(".py")
    return f"{module if module.isidentifier() else 'app'}:{path}"


def _last(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} ({error.filename} line {error.lineno})"
    where = own_frame(error)
    return f"{type(error).__name__}: {error}{f' (at {where})' if where else ''}"


def _described(found: Any) -> str:
    return f"module {found.__name__!r}" if hasattr(found, "__spec__") else type(found).__name__


def _hint(found: Any, meant: Meant) -> str:
    if not hasattr(found, "__spec__"):
        return ""
    names = [name for name, value in vars(found).items() if meant.fits(value)]
    return f"; its {meant.called} are {', '.join(names[:5])}" if names else ""


def load_chain(spec: str, folder: str) -> Runnable[Any, Any]:
    """Import the Runnable that `spec` names; modules in `folder` go first. A row's dict is the chain's input.

    Raises:
        Problem: there is no such module or attribute, importing it fails, or it is no Runnable.
    """
    found = load(Meant("--chain", "chain", _is_chain, "Runnables"), spec, folder)
    if _is_factory(found):
        found = _made(found, spec)
    if not isinstance(found, Runnable):
        raise Problem(f"--chain {spec} is no Runnable but {_kind(found)}")
    return found


def _is_factory(found: Any) -> bool:
    """Whether it is a function that makes a chain: one that needs no argument."""
    if isinstance(found, Runnable | type) or not inspect.isfunction(found):
        return False
    needed = (one for one in inspect.signature(found).parameters.values() if one.default is one.empty)
    return all(one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) for one in needed)


def _made(factory: Callable[[], Any], spec: str) -> Any:
    try:
        made = factory()
    except Exception as error:
        raise Problem(f"--chain {spec}: making the chain fails: {_last(error)}") from error
    if not isinstance(made, Runnable):
        raise Problem(f"--chain {spec} makes no Runnable but {kind_of(made)}")
    return made


def _is_chain(found: Any) -> bool:
    return isinstance(found, Runnable)


def _kind(found: Any) -> str:
    if isinstance(found, type):
        return f"{kind_of(found)}; name an instance"
    if callable(found):
        return (
            "a function with arguments; name the chain, what makes it, or wrap it: RunnableLambda(function)"
        )
    return kind_of(found)
