"""Helps to declare options: the panel of the help in which an option appears, and how the user types it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

# Each of these declares an option in its panel.
WHAT: Final = partial(typer.Option, rich_help_panel="What to do with each row")
ROWS: Final = partial(typer.Option, rich_help_panel="Rows")
SPEED: Final = partial(typer.Option, rich_help_panel="Speed")
FAULTS: Final = partial(typer.Option, rich_help_panel="Faults")
MONEY: Final = partial(typer.Option, rich_help_panel="Money")
CACHE: Final = partial(typer.Option, rich_help_panel="Equal rows")
STATE: Final = partial(typer.Option, rich_help_panel="What is kept")
SEE: Final = partial(typer.Option, rich_help_panel="What is shown")


class Typed(NamedTuple):
    """Says how the user types a field's option, if that differs from what is stored.

    Attributes:
        type: the type of what the user types.
        kept: converts it to what is stored.
        option: the field that declares the option, if it is another field.
    """

    type: Any
    kept: Callable[[Any], Any]
    option: str = ""
