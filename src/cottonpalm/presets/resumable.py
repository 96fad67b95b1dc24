"""Technique 8: finished rows stay finished, whatever happens to the process."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Unpack

from cottonpalm.engine.input.frames import list_in
from cottonpalm.errors import ConfigError, RunBusy
from cottonpalm.presets.base import Preset, counting, log
from cottonpalm.presets.checkpoint import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from langchain_core.runnables import Runnable

    from cottonpalm.presets.options import Options
    from cottonpalm.run import BaseRun
    from cottonpalm.types import Outcome

RUN: Final = "batch"
_inside: ContextVar[ResumableBatchProcessor | None] = ContextVar("cottonpalm_resumable", default=None)


class ResumableBatchProcessor(Preset):
    """Keeps every answer on disk before you see it; after a failure the same call does only what is not done.

    The checkpoint is a store of cottonpalm's own (SQLite), whatever its name ends in. Rows are known by what they are,
    not by their place: some may be added or moved between two calls. A chain that has changed since is warned of.
    Two batches at once on one file: the second one waits in the same object, and is refused from another.

    Args:
        chain: any Runnable.
        checkpoint_file: where; a relative one is of the folder where this object is made. It goes before `store=`.
        **options: every keyword of `BatchProcessor`; `run` is the name of the run in the file.
    """

    def __init__(
        self,
        chain: Runnable[Any, Any],
        checkpoint_file: str | Path = "batch_checkpoint.pkl",
        **options: Unpack[Options],
    ) -> None:
        self._run = options.pop("run", None) or RUN
        if not isinstance(checkpoint_file, str | Path):
            raise ConfigError(f"checkpoint_file={checkpoint_file!r} must be a file's path")
        self._file = checkpoint_file
        self._checkpoint = Checkpoint(checkpoint_file, {})
        self._lock = threading.Lock()
        super().__init__(chain, {**options, "store": self._checkpoint, "run": self._run})

    def _make(self, chain: Runnable[Any, Any], **changed: Any) -> None:
        super()._make(chain, **changed)
        self._checkpoint.types = self.processor.types

    @property
    def checkpoint_file(self) -> str | Path:
        """The file, as it was given; what is set here counts from the next call on."""
        return self._file

    @checkpoint_file.setter
    def checkpoint_file(self, value: str | Path) -> None:
        with self._alone():
            self._file, self._checkpoint.path = value, value

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Allow one call at a time; close the file after it."""
        if _inside.get() is self:
            raise RunBusy(f"a row of the batch on {self._checkpoint.path} called the object that runs it")
        with self._lock:
            token = _inside.set(self)
            try:
                yield
            finally:
                _inside.reset(token)
                self._checkpoint.close()

    def save_checkpoint(self, results: Sequence[Any], processed_count: int) -> None:
        """Replace the checkpoint by these outputs of the first rows: the next batch does not ask them again.

        Args:
            results: one output for each of the first rows. Where it is longer than `processed_count`, as
                `load_checkpoint` may give it, a None stands for a row that is not done.
            processed_count: how many of them are done.

        Raises:
            CannotStore: an output would not come back as it is.
            RunBusy: another batch works on this file.
        """
        with self._alone():
            self._checkpoint.save(self._run, results, processed_count)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """What is done so far: `results`, by row, None for a row that is not done; `processed_count`, how many are.

        None where there is no checkpoint.

        Raises:
            StoreError: the file is none of ours.
            RunBusy: another batch works on this file.
        """
        with self._alone():
            found = self._checkpoint.load(self._run)
        return None if found is None else {"results": found[0], "processed_count": found[1]}

    def batch(
        self, inputs: Iterable[Any], max_concurrency: int | None = 10, checkpoint_interval: int = 10
    ) -> list[Any]:
        """Every row's output, in order. What an earlier call has answered is not asked again.

        When all rows are answered, the checkpoint and the files beside it are gone; otherwise they stay, and the next
        call does the rows that failed and those that were never tried.

        Args:
            inputs: the rows.
            max_concurrency: rows at once, at most; None for as many as the provider takes.
            checkpoint_interval: log how far it is after so many rows. Every row is durable before that.

        Raises:
            StoreError: the file is none of ours, or cannot be written.
            RunStopped: a fault that no row survives, or a bound of yours, ended the run.
            Exception: the lowest failed row's own, once all rows have run.
        """
        rows, every = [*list_in(inputs)], counting(checkpoint_interval, "checkpoint_interval")
        if not rows:
            return []
        with self._alone():
            answers = self._batch(rows, max_concurrency, _Mileposts(every, len(rows)))
            self._checkpoint.delete(self._run)
        return answers

    def _batch(self, rows: list[Any], max_concurrency: int | None, mileposts: _Mileposts) -> list[Any]:
        if self._checkpoint.exists:
            self._checkpoint.adopt(self._run, rows)
            log.info("going on from the checkpoint %s", self.checkpoint_file)
        collected = self.processor.collect(
            rows, max_concurrency=max_concurrency, retry_failed=True, seen=mileposts.count
        )
        return collected.answers(return_exceptions=False)


class _Mileposts:
    """Logs now and then how far a batch is."""

    def __init__(self, every: int, total: int) -> None:
        self._every, self._total, self._done = every, total, 0

    def count(self, outcome: Outcome, _run: BaseRun) -> None:
        self._done += outcome.status == "ok"
        if outcome.status == "ok" and self._done % self._every == 0:
            log.info("checkpoint: %d of %d rows are done", self._done, self._total)
