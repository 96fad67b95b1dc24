"""Technique 10: answers now, or cheaper ones later."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Unpack

from cottonpalm.config import BatchLane
from cottonpalm.engine.input.frames import list_in
from cottonpalm.engine.input.keys import content_key, is_told
from cottonpalm.errors import LocalModelError, StoreError
from cottonpalm.local.fetch import cache_folder
from cottonpalm.presets import by_langasync, langasync_batch
from cottonpalm.presets.base import Preset, RowsProcessor, log
from cottonpalm.presets.by_langasync import MISSING, Carried
from cottonpalm.request.money.rules.prices import BATCH, PriceBook
from cottonpalm.runtime.bridge import bridge
from cottonpalm.stores import open_store
from cottonpalm.types import PICO, numbered

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from langchain_core.runnables import Runnable

    from cottonpalm.presets.options import Options
    from cottonpalm.protocols import Store
    from cottonpalm.types import Outcome, Usage

_KEPT: Final = (
    "the parser does not take its answer. The batch is kept: the same call, also with another parser, uses the answers"
    " of the others, which are not paid again, and asks anew what the parser does not take"
)


class HybridBatchProcessor(Preset):
    """Runs rows live, or through the provider's Batch API at half the price.

    Args:
        chain: any Runnable.
        **options: every keyword of `BatchProcessor`. Without `store` and `run`, what is out is kept in a file in the
            user's cache folder until all rows are answered.

    Attributes:
        langasync_available: whether langasync is installed and carries this chain whole: then `use_batch_api=True` goes
            through it. Otherwise, also where it is set to False, it goes through our own adapters, which carry any
            chain.
        processor: the `BatchProcessor` that ran the latest batch, or what langasync left of it.
        cost_usd: dollars that the latest batch cost, whoever carried it; None where a price is not known.
    """

    def __init__(self, chain: Runnable[Any, Any], **options: Unpack[Options]) -> None:
        super().__init__(chain, options)
        self.cost_usd: float | None = 0.0
        # The run that the latest batch is kept in, if in no store of the user's, and what rows it has.
        self._kept: tuple[str, list[Any]] | None = None

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
        self._kept = None
        if not use_batch_api:
            log.info("the rows run live")
            return self._answered(self._live, rows, max_concurrency=max_concurrency)
        log.info("the rows go through the provider's Batch API, at half the price and within a day")
        if self._options.get("store") is not None:
            return self._answered(self._batching(), rows)
        return self._kept_meanwhile(rows)

    def retry(self) -> list[Outcome]:
        """See `Preset`; what was kept meanwhile is kept on, so that the same `batch` again has all answers."""
        if self._kept is None:
            return super().retry()
        (run, rows), (_, store) = self._kept, _place()
        try:
            if store.look(run) is None:  # all rows were answered
                return []
            self.processor = self._batching(store=store, run=run)
            return self.processor.retry(rows)
        finally:
            store.close()

    def _make(self, chain: Runnable[Any, Any], **changed: Any) -> None:
        super()._make(chain, **changed)
        self._live = self.processor
        self._carried = by_langasync.carried(chain, self._options)
        self.langasync_available = isinstance(self._carried, Carried)

    def _batching(self, **own: Any) -> RowsProcessor:
        """What sends rows in batches; without a Batch API it answers them live, as the listing does."""
        lane = replace(self._options.get("lane") or BatchLane(), or_live=True)
        return RowsProcessor(self.chain, **{"mode": "batch", **self._options, **own, "lane": lane})

    def _answered(self, processor: RowsProcessor, rows: list[Any], **more: Any) -> list[Any]:
        self.processor = processor
        collected = processor.collect(rows, **more)
        run = processor.last_run
        self.cost_usd = 0.0 if run is None or not rows else run.report.cost_usd
        return collected.answers(return_exceptions=False)

    def _kept_meanwhile(self, rows: list[Any]) -> list[Any]:
        """In a run named by the chain and the rows, so that the same call finds it; forgotten once it is answered."""
        run = _named(self.processor, rows)
        folder, store = _place()
        try:
            if not isinstance(self._carried, Carried) or not self.langasync_available or not rows:
                return self._by_ours(rows, store, run)
            # What stands behind the model is no part of the batch: it may be mended, and the answers are used.
            batch = _named(RowsProcessor(self._carried.asking), rows)
            name = f"{batch}-langasync"
            held = store.open_run(name, None)  # the same call in another process is refused
            answers = self._by_langasync(self._carried, rows, store, run, folder / f"{batch}.json")
            held.close()
            store.remove(name)
        finally:
            store.close()
        return answers

    def _by_langasync(
        self, carried: Carried, rows: list[Any], store: Store, run: str, file: Path
    ) -> list[Any]:
        """Every row's output; what langasync does not bring, our own adapters do.

        Raises:
            Exception: the parser's, at the lowest row of which it does not take the answer. The batch is kept, and when
                it is asked for again, our own adapters ask such rows anew.
        """
        if not file.exists() and store.look(run) is not None:  # it was refused, and ours have taken the rows
            return self._by_ours(rows, store, run)
        again = langasync_batch.not_taken(file)
        found = bridge().wait(by_langasync.answers(carried, rows, file))
        if isinstance(found, str):
            log.info("langasync does not carry these rows (%s): our own adapters do", found)
            return self._by_ours(rows, store, run)
        brought = [MISSING if again and isinstance(one, Exception) else one for one in found.answers]
        left = [row for row, answer in zip(rows, brought, strict=True) if answer is MISSING]
        cost = self._cost(carried, found.used)
        log.info(
            "langasync brought %d of %d answers%s",
            len(rows) - len(left),
            len(rows),
            "" if cost is None else f", which cost ${cost:.6f}",
        )
        self.cost_usd = 0.0
        try:
            others = iter(self._asked(left, store, run) if left else [])
        except Exception as failure:
            self._name_place(failure, [place for place, answer in enumerate(brought) if answer is MISSING])
            raise
        self.cost_usd = None if cost is None or self.cost_usd is None else cost + self.cost_usd
        answers = [next(others) if answer is MISSING else answer for answer in brought]
        for index, answer in enumerate(answers):
            if isinstance(answer, Exception):
                langasync_batch.note_not_taken(file)
                answer.add_note(f"cottonpalm: {numbered(index)} of {len(rows):,} rows: {_KEPT}")
                raise answer
        if left:
            store.remove(run)
        file.unlink(missing_ok=True)
        return answers

    def _name_place(self, failure: Exception, places: list[int]) -> None:
        """Say which of all rows failed; the run knows those alone that langasync has left, from `places`."""
        outcomes = () if self.last_run is None else self.last_run.outcomes()
        if failed := [places[outcome.index] for outcome in outcomes if outcome.status == "failed"]:
            failure.add_note(
                f"cottonpalm: that counts the {len(places):,} rows alone that langasync has left. Of all rows it is"
                f" {numbered(min(failed))}"
            )

    def _cost(self, carried: Carried, used: Iterable[Usage]) -> float | None:
        """Dollars, at the price of a batch."""
        rates = PriceBook().rates(carried.model, carried.base_url, BATCH)
        return None if rates is None else sum(rates.cost(usage) for usage in used) / PICO

    def _by_ours(self, rows: list[Any], store: Store, run: str) -> list[Any]:
        answers = self._asked(rows, store, run)
        store.remove(run)
        return answers

    def _asked(self, rows: list[Any], store: Store, run: str) -> list[Any]:
        self._kept = run, rows
        return self._answered(self._batching(store=store, run=run), rows)


def _place() -> tuple[Path, Store]:
    """The folder and the store where a call that names none keeps what is out.

    Raises:
        StoreError: nothing can be kept there.
    """
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        return folder, open_store(folder / "batches.db")
    except (OSError, LocalModelError, StoreError) as exc:
        raise StoreError(
            f"batches that are out are kept in the user's cache folder, which does not work ({exc}). Nothing was sent:"
            " give store= and run= for a place of your own, or set XDG_CACHE_HOME to a folder where you may write"
        ) from exc


def _named(processor: RowsProcessor, rows: list[Any]) -> str:
    """A name for these rows under the processor's chain, the same in every process."""
    # Objects may show an address, or less than they hold; of what a key does not cover, that is all there is.
    keys = [content_key(row if is_told(row) else repr(row)) for row in rows]
    described = repr((sorted(processor.description.items(), key=repr), keys))
    return f"hybrid-{hashlib.blake2b(described.encode(), digest_size=8).hexdigest()}"
