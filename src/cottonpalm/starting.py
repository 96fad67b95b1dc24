"""What `BatchProcessor.start` takes and what its run gives, for type checkers: `stream` says which of two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Required, TypeAlias, TypedDict, TypeVar

if TYPE_CHECKING:
    import typing_extensions
    from langchain_core.runnables import RunnableConfig

    from cottonpalm.types import Outcome

    Told = typing_extensions.TypeVar("Told", default=Outcome)  # what the reader of a run gets
else:
    Told = TypeVar("Told")  # Python 3.11 knows no default

Ids: TypeAlias = Sequence[Any] | Callable[[Any], Any] | None
Ranks: TypeAlias = Sequence[float] | Callable[[Any], float] | None


class How(TypedDict, total=False):
    """All but `stream`."""

    config: RunnableConfig | None
    skip_stored: bool
    retry_failed: bool


class Whole(How, total=False):
    """The reader gets outcomes."""

    stream: Literal[False]


class Streamed(How, total=False):
    """The reader gets events."""

    stream: Required[Literal[True]]


class Either(How, total=False):
    """It is not known which."""

    stream: Required[bool]
