"""Helps to declare options: the panel of the help in which an option appears, and how the user types it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def _option(*flags: str, metavar: str | None = None, **how: Any) -> Any:
    """Declare an option. Where its metavar lists all the words that it takes, the shell completes them."""
    words = (metavar or "").split("|")
    if len(words) > 1 and all(word.isalpha() and word.islower() for word in words):
        how["autocompletion"] = one_of(words)
    return typer.Option(*flags, metavar=metavar, **how)


def one_of(words: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a function that completes these words in the shell."""

    def begun(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return begun


# Each of these declares an option in its panel.
WHAT: Final = partial(_option, rich_help_panel="What to do with each row")
ROWS: Final = partial(_option, rich_help_panel="Rows")
SPEED: Final = partial(_option, rich_help_panel="Speed")
FAULTS: Final = partial(_option, rich_help_panel="Faults")
MONEY: Final = partial(_option, rich_help_panel="Money")
CACHE: Final = partial(_option, rich_help_panel="Equal rows")
STATE: Final = partial(_option, rich_help_panel="What is kept")
SEE: Final = partial(_option, rich_help_panel="What is shown")


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
