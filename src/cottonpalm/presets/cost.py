"""Technique 4: counts costs, and stops when an hour has cost too much."""

from __future__ import annotations

import re
import threading
from math import inf
from typing import TYPE_CHECKING, Any, Final, Unpack

from cottonpalm import clock
from cottonpalm.config import Budget
from cottonpalm.engine.input.frames import list_in
from cottonpalm.engine.output.texts import text_of
from cottonpalm.errors import ConfigError, RunStopped
from cottonpalm.observers.words.formatting import money
from cottonpalm.presets.base import Preset, log
from cottonpalm.presets.estimates import EstimateGate, Hour
from cottonpalm.setting_checks import budget_of
from cottonpalm.types import PICO

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from langchain_core.runnables import Runnable

    from cottonpalm.presets.options import Options
    from cottonpalm.run import BaseRun
    from cottonpalm.types import Outcome

INPUT_USD, OUTPUT_USD = 0.15e-6, 0.60e-6  # dollars per token in the document (gpt-4o-mini)
TOKENS_PER_WORD: Final = 1.3
SAID_EVERY: Final = 10  # requests
WORDS: Final = 1_000  # of an answer, before one was seen
_UNSPACED: Final = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]"
)


class CostAwareBatchProcessor(Preset):
    """Counts what each row cost, and stops when the last hour has cost more than its budget.

    A cost is what the provider's own token counts come to at the model's prices. Where no price is known (a fake model,
    a lambda, a model of your own without `prices=`), a row is counted afterwards at the document's rates over its
    texts, and marked as estimated: its outcome's `cost_source`, and `estimated_cost`.

    The hourly budget is `Budget(per_hour=budget_per_hour)`, a ceiling that no sliding hour passes, for each request
    whose price and whose most tokens are known: one that might pass it is not sent, and the run stops. For all others
    (no known price or maximum, no client that is seen) a row is held back until its estimate at the document's rates
    fits: its own text, and an answer as long as the longest so far (1,000 words before there was one). Where not even
    one such row fits, rows go one by one, as in the listing, until the hour has cost more than the budget.

    Args:
        chain: any Runnable.
        budget_per_hour: US dollars in any 3,600 seconds.
        **options: every keyword of `BatchProcessor`. A `budget=` of yours gets this `per_hour`, unless its own is
            smaller, and all who share it spend from it; with one, requests that cannot be bounded are refused, as
            everywhere.

    Attributes:
        budget_per_hour: US dollars; may be changed at any time.
        cost_tracker: `total_cost` (US dollars since it was made; what is set by hand counts as spent, or given back),
            `start_time` (Unix seconds), `request_count`.
        estimated_cost: the part of `total_cost` that is an estimate.
    """

    def __init__(
        self, chain: Runnable[Any, Any], budget_per_hour: float = 10.0, **options: Unpack[Options]
    ) -> None:
        if not (isinstance(budget_per_hour, int | float) and 0 <= budget_per_hour < inf):
            raise ConfigError(
                f"budget_per_hour={budget_per_hour!r} must be a number of dollars, not negative"
            )
        given = budget_of(options.get("budget"), "budget")
        self._budget: Budget = given or Budget(per_hour=budget_per_hour)
        # A smaller one of the budget stays: it would be raised to ten dollars, which the caller may not even have said.
        hours = (budget_per_hour, self._budget.per_hour)
        self._budget.per_hour = min(dollars for dollars in hours if dollars is not None)
        self._strict = given is not None
        self.estimated_cost = 0.0
        tracker = {"total_cost": 0.0, "start_time": clock.wall(), "request_count": 0}
        self._hour = Hour(tracker, lambda: self.budget_per_hour)
        self._answer_usd: float | None = None  # the most that an answer without a price was estimated at
        self._priced = False  # every row so far had a price: the request level keeps the ceiling
        self._lock = threading.Lock()
        super().__init__(chain, options | {"budget": self._budget})

    def _make(self, chain: Runnable[Any, Any], **changed: Any) -> None:
        super()._make(chain, **changed)
        self._answer_usd, self._priced = None, False
        self.processor.stand_round(lambda: EstimateGate(self._hour, self._may_cost, self._count))
        if not self._strict:
            self.processor.let_unbounded_pass()

    @property
    def budget_per_hour(self) -> float:
        """US dollars in any 3,600 seconds."""
        return self._budget.per_hour or 0.0

    @budget_per_hour.setter
    def budget_per_hour(self, dollars: float) -> None:
        self._budget.per_hour = dollars

    @property
    def cost_tracker(self) -> dict[str, Any]:
        """What was spent so far, and asked; another dictionary may be put in its place."""
        return self._hour.tracker

    @cost_tracker.setter
    def cost_tracker(self, tracker: dict[str, Any]) -> None:
        self._hour.tracker = tracker

    def estimate_cost(self, input_text: str, output_text: str) -> float:
        """US dollars for these texts at the document's rates, by their words: a guess."""
        return _tokens(input_text) * INPUT_USD + _tokens(output_text) * OUTPUT_USD

    def check_budget(self) -> None:
        """Do nothing while the last hour has cost no more than the budget.

        Raises:
            RunStopped: it has cost more; says when the next row may go. Its reason is "budget".
        """
        if self._over():
            raise self._stopped()

    def batch(self, inputs: Iterable[Any]) -> list[Any]:
        """Every row's output, in order.

        Raises:
            RunStopped: the last hour cost more than the budget, or the next request might have taken it there, while
                there were rows left to start; `outcomes` holds what was done. Or a fault that no row survives, or a
                bound of yours, ended the run.
            Exception: the lowest failed row's own, once all rows have run.
        """
        rows = [*list_in(inputs)]
        if rows:
            self.check_budget()
        over = False

        def see(_outcome: Outcome, run: BaseRun) -> None:
            nonlocal over
            if run.stopped is None and self._over():
                over = True
                run.stop("budget")

        collected = self.processor.collect(rows, seen=see)
        if over and not collected.overlook_stop():
            raise self._stopped(collected.outcomes)
        return collected.answers(return_exceptions=False)

    def _over(self) -> bool:
        return self._hour.spent() > self.budget_per_hour

    def _stopped(self, outcomes: Sequence[Outcome] = ()) -> RunStopped:
        spent, free_s = self._hour.spent(), self._hour.free_after_s()
        budget = money(round(self.budget_per_hour * PICO))
        message = (
            f"over budget: the last hour cost ${spent:.6f}, the budget is {budget} an hour. "
            f"Call again in {free_s:.0f} s with the rows that are not done, or raise budget_per_hour."
        )
        return RunStopped(message, reason="budget", outcomes=outcomes)

    def _count(self, outcome: Outcome) -> None:
        """Add one row that was asked."""
        if outcome.cost_pico is not None and self._answer_usd is None:
            self._priced = True
        estimated = self._estimate(outcome) if outcome.cost_pico is None else 0.0
        dollars = estimated or outcome.cost_usd or 0.0
        self._hour.add(dollars)
        with self._lock:
            self.estimated_cost += estimated
            before = self.cost_tracker.get("request_count", 0)
            self.cost_tracker["request_count"] = count = before + outcome.attempts
        if count // SAID_EVERY > before // SAID_EVERY:
            log.info("%d requests so far, $%.6f in all", count, self.cost_tracker["total_cost"])
        log.debug("row %d cost $%.6f", outcome.index, dollars)

    def _may_cost(self, row: Any) -> float:
        """Dollars to hold for a row: nothing where prices are known, as the request level then holds the real bound."""
        if self._priced:
            return 0.0
        answer = WORDS * TOKENS_PER_WORD * OUTPUT_USD if self._answer_usd is None else self._answer_usd
        return self.estimate_cost(str(row), "") + answer

    def _estimate(self, outcome: Outcome) -> float:
        """Estimate dollars for a row without a known price, and note them on its outcome; 0 if it has no answer."""
        if outcome.output is None:
            return 0.0
        dollars = self.estimate_cost(str(outcome.input), text_of(outcome.output))
        answer = dollars - self.estimate_cost(str(outcome.input), "")
        with self._lock:
            self._answer_usd, self._priced = max(self._answer_usd or 0.0, answer), False
        outcome.cost_pico, outcome.cost_source = round(dollars * PICO), "estimated"
        return dollars


def _tokens(text: str) -> float:
    """Guess tokens as the document does: 1.3 per word; in scripts without spaces between words, one per character."""
    spaced, unspaced = _UNSPACED.subn(" ", text)
    return len(spaced.split()) * TOKENS_PER_WORD + unspaced
