"""Providers, file formats and observers that other packages bring, by entry points."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from cottonpalm.cli.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.metadata import EntryPoint

    from cottonpalm.protocols import Observer

Kind: TypeAlias = Literal["providers", "readers", "writers", "observers"]


def plugins(kind: Kind) -> dict[str, EntryPoint]:
    """What installed packages bring, by name; of several with one name, the first found."""
    found = entry_points(group=f"cottonpalm.{kind}")
    return {each.name: each for each in reversed(list(found))}


def load(kind: Kind, name: str) -> Any:
    """Import one.

    Raises:
        Problem: it is not there, or cannot be imported.
    """
    known = plugins(kind)
    if name not in known:
        raise Problem(f"no installed package brings {name!r} for cottonpalm.{kind}; {_there_are(known)}")
    try:
        return known[name].load()
    except Exception as error:
        package = getattr(known[name].dist, "name", "a package")
        raise Problem(f"{name} of {package} cannot be imported: {type(error).__name__}: {error}") from error


def _there_are(known: dict[str, EntryPoint]) -> str:
    return f"there are {', '.join(sorted(known))}" if known else "none is installed"


def observers_of(names: Sequence[str]) -> list[Observer]:
    """Make the observers of these names.

    Raises:
        Problem: there is none of that name, or it is no observer.
    """
    made = [load("observers", name)() for name in names]
    for name, observer in zip(names, made, strict=True):
        if not callable(getattr(observer, "see", None)):
            raise Problem(f"--observer {name}: it has no method see(event)")
    return made
