"""How commands show their help, and what completes what is typed."""

from __future__ import annotations

from typing import Any

import typer  # noqa: TC002 - typer itself reads the annotation
from typer.core import TyperCommand, TyperGroup


class Command(TyperCommand):
    """A command whose help says nothing of the types of its flags."""

    def get_help_option(self, ctx: Any) -> Any:
        """`--help`, without `<bool>`."""
        return _plain(super().get_help_option(ctx))


class Group(TyperGroup):
    """The program, likewise; commands in the order in which they are made."""

    def get_help_option(self, ctx: Any) -> Any:
        """`--help`, without `<bool>`."""
        return _plain(super().get_help_option(ctx))

    def get_params(self, ctx: Any) -> list[Any]:
        """Its options, those for completion without `<bool>`."""
        return [_plain(option) for option in super().get_params(ctx)]


def _plain(option: Any) -> Any:
    if option is not None and option.param_type_name == "option":
        option.metavar = ""
    return option


def runs_like(context: typer.Context, incomplete: str) -> list[str]:
    """The runs of the store whose names begin so, for the shell."""
    from cottonpalm.cli.held_store import existing_store
    from cottonpalm.errors import CottonpalmError

    try:
        with existing_store(context.params.get("store") or "cottonpalm.db") as store:
            names = [info.name for info in store.runs()]
    except CottonpalmError:
        return []
    return [name for name in names if name.startswith(incomplete)]
