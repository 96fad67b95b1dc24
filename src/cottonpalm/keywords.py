"""Names the nearest keyword where one is misspelt, as newer Pythons do."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Iterable

Init = TypeVar("Init", bound=Callable[..., None])


def names_nearest(init: Init) -> Init:
    """Make an `__init__` say which of its keywords was meant."""
    known = keywords_of(init)

    @functools.wraps(init)
    def wrapped(self: Any, *args: Any, **given: Any) -> None:
        check_keywords(init.__qualname__.partition(".")[0], given, known)
        init(self, *args, **given)

    return cast("Init", wrapped)


def keywords_of(function: Callable[..., Any]) -> list[str]:
    """Return the names that a function takes."""
    named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [each.name for each in inspect.signature(function).parameters.values() if each.kind in named]


def check_keywords(caller: str, given: Iterable[str], known: list[str]) -> None:
    """Check that each name is known.

    Raises:
        TypeError: one is not; the message names the nearest.
    """
    for name in given:
        if name not in known:
            near = get_close_matches(name.lower(), known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else f"; it takes {', '.join(_to_name(known))}"
            raise TypeError(f"{caller}() takes no keyword {name!r}{hint}")


def _to_name(known: list[str]) -> list[str]:
    """The keywords in their order, each once, without those that are always given."""
    return [name for name in dict.fromkeys(known) if name not in ("self", "chain")]
