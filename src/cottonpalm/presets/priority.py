"""Technique 7: the most important rows start first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Unpack

from cottonpalm.engine.input.frames import list_in
from cottonpalm.errors import ConfigError
from cottonpalm.presets.base import Preset, answers_or_none

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langchain_core.runnables import Runnable

    from cottonpalm.presets.options import Options


@dataclass(order=True)
class PriorityTask:
    """A row for a heap of your own: ordered by `priority` alone, the smallest first, so negate it."""

    priority: float
    index: int = field(compare=False)
    input: Any = field(compare=False)


class PriorityBatchProcessor(Preset):
    """Starts rows in the order of their priorities, retries included, and answers in the order of the input.

    Args:
        chain: any Runnable.
        **options: every keyword of `BatchProcessor`.
    """

    def __init__(self, chain: Runnable[Any, Any], **options: Unpack[Options]) -> None:
        super().__init__(chain, options)

    def batch(
        self,
        inputs: Iterable[Any],
        priorities: Iterable[float] | None = None,
        max_concurrency: int | None = 10,
    ) -> list[Any]:
        """Every row's output, in order; None for a row that failed.

        Args:
            inputs: the rows.
            priorities: one for each row, higher starts first; None: `priority=` of the processor, or all the same.
            max_concurrency: rows at once, at most; None for as many as the provider takes.

        Raises:
            ConfigError: there are more or fewer priorities than rows (it is a ValueError).
            RunStopped: a fault that no row survives, or a bound of yours, ended the run.
        """
        rows, given = [*list_in(inputs)], None if priorities is None else list(priorities)
        if given is not None and len(given) != len(rows):
            raise ConfigError(f"{len(given)} priorities were given for {len(rows)} rows; give one for each")
        return answers_or_none(
            self.processor.collect(rows, max_concurrency=max_concurrency, priorities=given)
        )
