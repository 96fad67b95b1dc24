"""Technique 1: as many requests at once as the provider takes."""

from __future__ import annotations

import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Unpack

from cottonpalm.config import AdaptiveConcurrency
from cottonpalm.presets.base import Preset, answers_or_none, counting, log
from cottonpalm.setting_checks import concurrency_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from langchain_core.runnables import Runnable

    from cottonpalm.presets.options import Options
    from cottonpalm.run import BaseRun
    from cottonpalm.types import Outcome

REMEMBERED: Final = 100  # the success rate covers this many latest rows
ENOUGH: Final = 10  # the rule needs this many rows to judge
STEP, LEAST, MOST = 2, 5, 50  # the numbers of the rule that `adjust_concurrency` applies


class AdaptiveBatchProcessor(Preset):
    """Finds how many requests the provider takes at once, holds just under it, and follows it when it moves.

    Args:
        chain: any Runnable.
        initial_concurrency: where the search starts. It goes before `concurrency=`, of which the bounds are kept, and
            widened where they do not hold it.
        **options: every keyword of `BatchProcessor`.

    Attributes:
        success_rate: 1 for each row answered and 0 for each that failed, of the last 100.
    """

    def __init__(
        self, chain: Runnable[Any, Any], initial_concurrency: int = 10, **options: Unpack[Options]
    ) -> None:
        self._limits = concurrency_of(options.pop("concurrency", "auto"))
        self._begins(counting(initial_concurrency, "initial_concurrency"))
        super().__init__(chain, {**options, "concurrency": self._limits})
        self.success_rate: deque[int] = deque(maxlen=REMEMBERED)

    def _make(self, chain: Runnable[Any, Any], **changed: Any) -> None:
        super()._make(chain, **{**changed, "concurrency": self._limits})

    def _begins(self, initial: int) -> None:
        """Start at this number, and widen the bounds if needed to include it."""
        limits = self._limits
        least, most = min(limits.minimum, initial), max(limits.maximum, initial)
        self._limits = AdaptiveConcurrency(initial=initial, minimum=least, maximum=most)
        self._before: Callable[[], BaseRun | None] = lambda: None

    @property
    def concurrency(self) -> int:
        """Requests that may be in flight: what the latest run has found, and before it where the next one starts.

        What is set here is where the next run starts.
        """
        run = self.processor.last_run
        if run is None or run is self._before():
            return self._limits.initial
        return max(1, int(run.stats.limit))

    @concurrency.setter
    def concurrency(self, value: int) -> None:
        self._begins(counting(value, "concurrency"))
        if (run := self.processor.last_run) is not None:
            self._before = weakref.ref(run)
        self.processor.start_at(self._limits)

    def adjust_concurrency(self) -> None:
        """Apply the document's rule by hand: two more above 95 % success, two fewer below 80 %, from 10 rows on.

        It moves between 5 and 50, and never against its own direction. The engine does not need it: it has found its
        limit by what the provider said.
        """
        if len(self.success_rate) < ENOUGH:
            return
        share, now = sum(self.success_rate) / len(self.success_rate), self.concurrency
        if share > 0.95:
            self.concurrency = max(now, min(now + STEP, MOST))
        elif share < 0.80:
            self.concurrency = min(now, max(now - STEP, LEAST))

    def batch(self, inputs: Iterable[Any]) -> list[Any]:
        """Every row's output, in order; None for a row that failed.

        Raises:
            RunStopped: a fault that no row survives, or a bound of yours, ended the run.
        """
        collected = self.processor.collect(inputs, seen=self._note)
        log.info("concurrency is now %d", self.concurrency)
        return answers_or_none(collected)

    def _note(self, outcome: Outcome, _run: BaseRun) -> None:
        if outcome.status != "skipped":
            self.success_rate.append(int(outcome.status == "ok"))
