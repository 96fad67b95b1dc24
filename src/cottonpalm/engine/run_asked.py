"""What a call asks of its run: the rows, what was given with them, and how they are answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from langchain_core.runnables import RunnableConfig


class SampleOf(NamedTuple):
    """An input of which a plan runs a sample: how many rows it has, and how many of them the store held before."""

    rows: int
    stored: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAsked:
    """What one call of a processor asks.

    Attributes:
        rows: a list, or anything that gives rows.
        ids, priorities, configs: one for each row, or a function of the row.
        kwargs: for the chain.
        most: rows at once.
        total: how many rows there are, where a source without a length has a known number of them.
        skip_stored, retry_failed: see `BatchProcessor.start`.
        streaming: the reader gets the chunks of an answer as they come.
        many: False for `invoke` and `stream`, which have one input.
        awaited: the chain's async form is used, as the bare chain would; else where that is better.
        sampled: the rows were drawn for a plan. They run live: somebody waits for them.
        sample_of: what they were drawn from; None: they are all that is left of it.
    """

    rows: Any
    ids: Sequence[Any] | Callable[[Any], Any] | None = None
    priorities: Sequence[float] | Callable[[Any], float] | None = None
    configs: list[RunnableConfig] | Callable[[Any], RunnableConfig] | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    most: int | None = None
    total: int | None = None
    skip_stored: bool = False
    retry_failed: bool = False
    streaming: bool = False
    many: bool = True
    awaited: bool = False
    sampled: bool = False
    sample_of: SampleOf | None = None

    @property
    def sized(self) -> int | None:
        """How many rows the source itself says it holds; None: it does not say."""
        return len(self.rows) if hasattr(self.rows, "__len__") else None
