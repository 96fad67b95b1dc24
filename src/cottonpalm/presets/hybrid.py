"""Technique 10: answers now, or cheaper ones later."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Unpack

from cottonpalm.engine.input.frames import list_in
from cottonpalm.local.fetch import cache_folder
from cottonpalm.presets import by_langasync
from cottonpalm.presets.base import Preset, RowsProcessor, log
from cottonpalm.presets.by_langasync import MISSING, Carried
from cottonpalm.runtime.bridge import bridge
from cottonpalm.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from langchain_core.runnables import Runnable

    from cottonpalm.presets.options import Options


class HybridBatchProcessor(Preset):
    """Runs rows live, or through the provider's Batch API at half the price.

    Args:
        chain: any Runnable.
        **options: every keyword of `BatchProcessor`. Without `store` and `run`, what is out is kept in a file in the
            user's cache folder until all rows are answered.

    Attributes:
        langasync_available: whether langasync is installed and carries this chain whole: then `use_batch_api=True` goes
            through it. Otherwise it goes through our own adapters, which carry any chain.
    """

    def __init__(self, chain: Runnable[Any, Any], **options: Unpack[Options]) -> None:
        super().__init__(chain, options)
        self._options: dict[str, Any] = {**options}
        self._carried = by_langasync.carried(chain, options)
        self.langasync_available = isinstance(self._carried, Carried)

    def batch(
        self, inputs: Iterable[Any], use_batch_api: bool = False, max_concurrency: int | None = 10
    ) -> list[Any]:
        """Every row's output, in order.

        Args:
            inputs: the rows.
            use_batch_api: half the price, and an answer within a day: waits for it. The same call again, in this
                process or a later one, goes on with what is out. What no batch can hold runs live.
            max_concurrency: live: rows at once, at most; None for as many as the provider takes.

        Raises:
            RunStopped: a fault that no row survives, or a bound of yours, ended the run.
            Exception: the lowest failed row's own, once all rows have run.
        """
        rows = [*list_in(inputs)]
        if not use_batch_api:
            log.info("the rows run live")
            collected = self.processor.collect(rows, max_concurrency=max_concurrency)
            return collected.answers(return_exceptions=False)
        log.info("the rows go through the provider's Batch API, at half the price and within a day")
        if self._options.get("store") is not None:
            processor = RowsProcessor(self.chain, **{"mode": "batch", **self._options})
            return processor.collect(rows).answers(return_exceptions=False)
        return self._kept_meanwhile(rows)

    def _kept_meanwhile(self, rows: list[Any]) -> list[Any]:
        """In a run named by the chain and the rows, so that the same call finds it; forgotten once it is answered."""
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        described = repr((sorted(self.processor.description.items(), key=repr), rows))
        run = f"hybrid-{hashlib.blake2b(described.encode(), digest_size=8).hexdigest()}"
        if not isinstance(self._carried, Carried) or not rows:
            return self._by_ours(rows, folder, run)
        file = folder / f"{run}.json"
        found = bridge().wait(by_langasync.answers(self._carried, rows, file))
        if isinstance(found, str):
            log.info("langasync does not carry these rows (%s): our own adapters do", found)
            return self._by_ours(rows, folder, run)
        left = [row for row, answer in zip(rows, found, strict=True) if answer is MISSING]
        log.info(
            "langasync brought %d of %d answers; what they cost is not counted",
            len(rows) - len(left),
            len(rows),
        )
        others = iter(self._by_ours(left, folder, run) if left else [])
        answers = [next(others) if answer is MISSING else answer for answer in found]
        file.unlink(missing_ok=True)
        return answers

    def _by_ours(self, rows: list[Any], folder: Path, run: str) -> list[Any]:
        store = open_store(folder / "batches.db")
        try:
            own = {"mode": "batch", "store": store, "run": run}
            collected = RowsProcessor(self.chain, **{**self._options, **own}).collect(rows)
            answers = collected.answers(return_exceptions=False)
            store.remove(run)
        finally:
            store.close()
        return answers
