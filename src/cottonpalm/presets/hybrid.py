"""Technique 10: answers now, or cheaper ones later."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from cottonpalm.presets.base import Preset, log

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langchain_core.runnables import Runnable


class HybridBatchProcessor(Preset):
    """Runs rows live. Asked for a provider's batch API, it says that no batch lane can serve the chain yet.

    Args:
        chain: any Runnable.
        **options: every keyword of `BatchProcessor`.

    Attributes:
        langasync_available: whether langasync is installed. It is not imported.
    """

    def __init__(self, chain: Runnable[Any, Any], **options: Any) -> None:
        super().__init__(chain, options)
        self.langasync_available = find_spec("langasync") is not None

    def batch(
        self, inputs: Iterable[Any], use_batch_api: bool = False, max_concurrency: int | None = 10
    ) -> list[Any]:
        """Every row's output, in order.

        Args:
            inputs: the rows.
            use_batch_api: asks for half the price and an answer within a day. There is no batch lane yet: a warning is
                logged, and the rows run live at the full price.
            max_concurrency: rows at once, at most; None for as many as the provider takes.

        Raises:
            RunStopped: a fault that no row survives, or a bound of yours, ended the run.
            Exception: the lowest failed row's own, once all rows have run.
        """
        if use_batch_api:
            log.warning("no batch lane can serve this chain yet: its rows run live, at the full price")
        else:
            log.info("the rows run live")
        return self.processor.collect(inputs, max_concurrency=max_concurrency).answers(
            return_exceptions=False
        )
