"""Providers, file formats and observers that other packages bring, by entry points."""

from __future__ import annotations

from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from cottonpalm.cli.problems import Problem
from cottonpalm.shell import Code

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
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


@contextmanager
def named(what: str, code: Code = Code.USAGE, let: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Say with what a plugin's code failed, in one line.

    Args:
        what: what the user asked of it; the message begins with it.
        code: the exit code.
        let: errors that the caller tells of.

    Raises:
        Problem: it failed.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, (Problem, *let)):
            raise
        raise Problem(f"{what}: {type(error).__name__}: {error}", code) from error


def _there_are(known: dict[str, EntryPoint]) -> str:
    return f"there are {', '.join(sorted(known))}" if known else "none is installed"


def observers_of(names: Sequence[str]) -> list[Observer]:
    """Make the observers of these names.

    Raises:
        Problem: there is none of that name, or it is no observer.
    """
    return [_observer(name) for name in names]


def _observer(name: str) -> Observer:
    make = load("observers", name)
    with named(f"--observer {name}"):
        made: Observer = make()
    if not callable(getattr(made, "see", None)):
        raise Problem(f"--observer {name}: it has no method see(event)")
    return made
