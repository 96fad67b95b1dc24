"""How options are declared: in which panel of the help they stand, and how they are typed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

# Each panel makes its options.
WHAT: Final = partial(typer.Option, rich_help_panel="What to do with each row")
ROWS: Final = partial(typer.Option, rich_help_panel="Rows")
SPEED: Final = partial(typer.Option, rich_help_panel="Speed")
FAULTS: Final = partial(typer.Option, rich_help_panel="Faults")
MONEY: Final = partial(typer.Option, rich_help_panel="Money")
CACHE: Final = partial(typer.Option, rich_help_panel="Equal rows")
STATE: Final = partial(typer.Option, rich_help_panel="What is kept")
SEE: Final = partial(typer.Option, rich_help_panel="What is shown")


class Typed(NamedTuple):
    """Says of a field how its option is typed, where that is not what is kept.

    Attributes:
        type: of what is typed.
        kept: makes of it what is kept.
        option: the field whose option it is, where it is not the field's own.
    """

    type: Any
    kept: Callable[[Any], Any]
    option: str = ""
