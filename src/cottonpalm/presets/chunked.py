"""Technique 6: many rows, counted and paced by chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from cottonpalm.events import ChunkFinished
from cottonpalm.presets.base import Preset, answers_or_none, counting, log
from cottonpalm.setting_checks import observers_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langchain_core.runnables import Runnable

    from cottonpalm.events import Event
    from cottonpalm.presets.options import ChunkedOptions


class ChunkedBatchProcessor(Preset):
    """Counts rows by chunks. A chunk is no barrier: a straggler does not hold up the next one.

    Args:
        chain: any Runnable.
        chunk_size: rows in a chunk.
        **options: every keyword of `BatchProcessor`; `chunk_pause` is the one that makes a pause between chunks.
    """

    def __init__(
        self, chain: Runnable[Any, Any], chunk_size: int = 100, **options: Unpack[ChunkedOptions]
    ) -> None:
        counting(chunk_size, "chunk_size")
        observers = [*observers_of(options.pop("observers", ())), _ChunkLog()]
        super().__init__(chain, {**options, "chunk_size": chunk_size, "observers": observers})

    @property
    def chunk_size(self) -> int:
        """Rows in a chunk; may be set, and holds from the next call on."""
        size: int = self._options["chunk_size"]
        return size

    @chunk_size.setter
    def chunk_size(self, rows: int) -> None:
        self._make(self.chain, chunk_size=counting(rows, "chunk_size"))

    def batch(self, inputs: Iterable[Any], max_concurrency: int | None = 10) -> list[Any]:
        """Every row's output, in order; None for a row that failed.

        Args:
            inputs: the rows.
            max_concurrency: rows at once, at most; None for as many as the provider takes.

        Raises:
            RunStopped: a fault that no row survives, or a bound of yours, ended the run.
        """
        return answers_or_none(self.processor.collect(inputs, max_concurrency=max_concurrency))


class _ChunkLog:
    """Logs how each chunk ended."""

    def see(self, event: Event) -> None:
        if isinstance(event, ChunkFinished):
            log.info(
                "chunk %d: %d rows, %d failed, %.1f s",
                event.index + 1,
                event.rows,
                event.failed,
                event.seconds,
            )
