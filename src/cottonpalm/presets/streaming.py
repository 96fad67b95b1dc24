"""Technique 3: the texts of many rows, piece by piece as they come."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Unpack

from cottonpalm.engine.output.texts import text_of
from cottonpalm.presets.base import Preset, counting

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from langchain_core.runnables import Runnable

    from cottonpalm.engine.input.reader import Rows
    from cottonpalm.presets.options import Options


class StreamingBatchProcessor(Preset):
    """Streams many rows at once, under the limits, budget and cache of every other call.

    Args:
        chain: any Runnable.
        **options: every keyword of `BatchProcessor`.
    """

    def __init__(self, chain: Runnable[Any, Any], **options: Unpack[Options]) -> None:
        super().__init__(chain, options)

    async def stream_batch(
        self, inputs: Rows, max_concurrency: int | None = 10
    ) -> AsyncGenerator[tuple[int, str], None]:
        """(index, text) of all rows, interleaved; no piece is empty.

        Where a row broke off and is asked again, `cottonpalm.RESTARTED`, a text that says so, comes before its new
        answer. A slow reader slows the calls; leaving the loop early closes every connection.

        Args:
            inputs: the rows: a list, an iterator or an async iterator.
            max_concurrency: rows at once, at most; None for as many as the provider takes.

        Raises:
            Exception: at the end, what the lowest failed row raised.
            RunStopped: at the end, if the run stopped early.
        """
        if max_concurrency is not None:
            counting(max_concurrency, "max_concurrency")
        chunks = self.processor.stream_batch(inputs, max_concurrency=max_concurrency)
        async with aclosing(chunks):  # type: ignore[type-var]  # it is a generator
            async for index, chunk in chunks:
                if text := text_of(chunk):
                    yield index, text
