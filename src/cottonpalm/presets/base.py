"""The common part of the ten classes: a chain, and the `BatchProcessor` that does the work."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from cottonpalm.engine.input.frames import list_in
from cottonpalm.errors import ConfigError
from cottonpalm.keywords import check_keywords, keywords_of
from cottonpalm.processor import BatchProcessor
from cottonpalm.request.limiter.limiters import Limits
from cottonpalm.results import Collected
from cottonpalm.types import numbered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from langchain_core.runnables import Runnable, RunnableConfig

    from cottonpalm.config import AdaptiveConcurrency
    from cottonpalm.protocols import Gate
    from cottonpalm.run import BaseRun
    from cottonpalm.types import Outcome

log = logging.getLogger("cottonpalm")


class RowsProcessor(BatchProcessor):
    """A `BatchProcessor` whose `collect` is `batch` with every row's whole outcome."""

    def collect(
        self,
        inputs: Iterable[Any],
        *,
        max_concurrency: int | None = None,
        priorities: Sequence[float] | None = None,
        retry_failed: bool = False,
        seen: Callable[[Outcome, BaseRun], object] | None = None,
    ) -> Collected:
        """Run the rows to their end; what failed is raised by the methods of what is returned, or not at all.

        Args:
            inputs: the rows.
            max_concurrency: rows at once, at most.
            priorities: one for each row.
            retry_failed: as for `BatchProcessor.start`.
            seen: gets each outcome as it comes, and the run, on the run's loop.
        """
        collected = Collected(list_in(inputs), seen)
        config = _config(max_concurrency)
        if collected.inputs:
            collected.wait(
                self._collect(collected, config, priorities=priorities, kwargs={}, retry_failed=retry_failed)
            )
        return collected

    def let_unbounded_pass(self) -> None:
        """Send requests whose cost cannot be bounded, budget or not; what they cost is counted afterwards."""
        self._builder.accounts.refuses_unbounded = False

    def start_at(self, limits: AdaptiveConcurrency) -> None:
        """Forget the limits that were found: the next run begins with these, apart from other processors."""
        self._builder.start_at(limits, Limits())

    def stand_round(self, made: Callable[[], Gate]) -> None:
        """Let a gate of each run's own stand round every row that is asked."""
        self._builder.gates.append(made)

    @property
    def description(self) -> Mapping[str, Any]:
        """What the answers depend on, part by part, without secrets."""
        return self._builder.facts.description

    @property
    def types(self) -> Mapping[str, type]:
        """The classes that stored outputs are rebuilt with."""
        return self._builder.facts.types


class Preset:
    """A chain and its processor.

    Attributes:
        chain: the chain. Another one may be put in its place, and runs from the next call on.
        processor: the `BatchProcessor` that runs it.
    """

    def __init__(self, chain: Runnable[Any, Any], options: Mapping[str, Any]) -> None:
        own = type(self)
        check_keywords(
            own.__name__, options, [*keywords_of(own.__init__), *keywords_of(BatchProcessor.__init__)]
        )
        self._options = dict(options)
        self._make(chain)

    @property
    def chain(self) -> Runnable[Any, Any]:
        """The chain that the next call runs."""
        return self._chain

    @chain.setter
    def chain(self, chain: Runnable[Any, Any]) -> None:
        self._make(chain)

    @property
    def last_run(self) -> BaseRun | None:
        """The latest batch's run: its `outcomes()` tell what became of each row. Messages name it, and `retry`."""
        return self.processor.last_run

    def retry(self) -> list[Outcome]:
        """Do the failed rows of the latest `batch` again; return their outcomes, in row order."""
        return self.processor.retry()

    @property
    def errors(self) -> dict[int, str]:
        """Why each failed row of the latest batch failed, in words, by its place in the batch."""
        run = self.processor.last_run
        outcomes = () if run is None else run.outcomes()
        return {
            one.index: f"{one.error.type}: {one.error.message}" for one in outcomes if one.error is not None
        }

    def _make(self, chain: Runnable[Any, Any], **changed: Any) -> None:
        """A processor for this chain, with some options changed. What is known of the calls before goes with them."""
        options = {**self._options, **changed}
        self.processor = RowsProcessor(chain, **options)
        self._chain, self._options = chain, options


def answers_or_none(collected: Collected) -> list[Any]:
    """Return all outputs in order, None for a row that failed; log how many failed.

    Raises:
        RunStopped: the run stopped before all rows were tried.
    """
    answers = collected.answers_or_none()
    failed = [outcome for outcome in collected.outcomes if outcome.status != "ok"]
    if failed and (error := failed[0].error) is not None:
        log.warning(
            "%d of %d rows failed and are None, first %s (%s: %s); processor.last_run.outcomes() has all reasons",
            *(len(failed), len(answers), numbered(failed[0].index), error.type, error.message),
        )
    return answers


def counting(value: int, what: str) -> int:
    """A whole number from 1 on.

    Raises:
        ConfigError: it is not.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise ConfigError(f"{what}={value!r} must be a whole number, at least 1")


def _config(max_concurrency: int | None) -> RunnableConfig | None:
    if max_concurrency is None:
        return None
    return {"max_concurrency": counting(max_concurrency, "max_concurrency")}
