"""`--chain MODULE:ATTR`: the user's own chain, and a clear word where it is none."""

from __future__ import annotations

from typing import Any

from langchain_core.runnables import Runnable

from cottonpalm.cli.importing import Meant, kind_of, load
from cottonpalm.cli.problems import Problem


def load_chain(spec: str, folder: str) -> Runnable[Any, Any]:
    """The Runnable that `spec` names; modules in `folder` are found first. A row's dict is the chain's input.

    Raises:
        Problem: there is no such module or attribute, importing it fails, or it is no Runnable.
    """
    found = load(Meant("--chain", "chain", _is_chain, "Runnables"), spec, folder)
    if not isinstance(found, Runnable):
        raise Problem(f"--chain {spec} is no Runnable but {_kind(found)}")
    return found


def _is_chain(found: Any) -> bool:
    return isinstance(found, Runnable)


def _kind(found: Any) -> str:
    if isinstance(found, type):
        return f"{kind_of(found)}; name an instance"
    if callable(found):
        return "a function; name the chain it makes, or wrap it: RunnableLambda(function)"
    return kind_of(found)
