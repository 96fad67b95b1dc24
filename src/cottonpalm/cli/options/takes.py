"""Makes commands from a run's spec: a field of it is an option, which the user may type in another form."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, Final, get_args, get_type_hints

from cottonpalm.cli.options.panels import Typed
from cottonpalm.cli.options.spec import RunSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import typer

HINTS: Final[Mapping[str, Any]] = get_type_hints(RunSpec, include_extras=True)
DEFAULTS: Final[Mapping[str, Any]] = {field.name: field.default for field in fields(RunSpec)}


def takes(names: str, **instead: Any) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Make a command from a function (context, spec, and the command's own parameters), with options in this order.

    Args:
        names: fields of `RunSpec`, which the function gets as one spec, and the function's own parameters.
        instead: replaces the declarations of some of these fields; such an option may be left out, and is then None.
    """
    hints = {**HINTS, **instead}
    defaults = {**DEFAULTS, **dict.fromkeys(instead)}

    def command_of(function: Callable[..., int]) -> Callable[..., int]:
        own = inspect.signature(function, eval_str=True).parameters

        @wraps(function)
        def command(context: typer.Context, **typed: Any) -> int:
            given = {name: typed.pop(name) for name in list(typed) if name not in own}
            return function(context, RunSpec(**_kept(given, hints)), **typed)

        shown = [own[name] if name in own else _option(name, hints, defaults) for name in names.split()]
        signature = inspect.Signature([own["context"], *shown])
        command.__signature__ = signature  # type: ignore[attr-defined]
        command.__annotations__ = {name: one.annotation for name, one in signature.parameters.items()}
        return command

    return command_of


def _option(name: str, hints: Mapping[str, Any], defaults: Mapping[str, Any]) -> inspect.Parameter:
    """Return a field as typer needs it: its type, its help, its default (an empty list for a repeatable option)."""
    kept, shown, *_ = get_args(hints[name])
    how = _typed(hints[name])
    kind = kept if how is None else how.type
    default = [] if kind == list[str] else defaults[name]
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if default is MISSING else default,
        annotation=Annotated[kind, shown],
    )


def _kept(given: Mapping[str, Any], hints: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a spec, converted from what the user typed."""
    found: dict[str, Any] = {}
    for name, hint in hints.items():
        how = _typed(hint)
        option = name if how is None else how.option or name
        if option in given:
            found[name] = given[option] if how is None else how.kept(given[option])
    return found


def _typed(hint: Any) -> Typed | None:
    return next((each for each in getattr(hint, "__metadata__", ()) if isinstance(each, Typed)), None)
