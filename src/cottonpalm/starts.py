"""Many rows through the full interface: lazily read, as outcomes, interleaved streams, the failed ones again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any

from cottonpalm.engine.input.row_configs import Configs, for_rows, most_at_once, same_for_all
from cottonpalm.errors import ConfigError
from cottonpalm.making import Asked
from cottonpalm.planning.planner import PlanCalls
from cottonpalm.results import Collected, row_of
from cottonpalm.run import AsyncRun, Run

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from cottonpalm.engine.build import Stored
    from cottonpalm.engine.input.reader import Rows
    from cottonpalm.types import Outcome


class StartCalls(PlanCalls):
    """Calls for any iterable of rows."""

    def start(
        self,
        rows: Rows,
        ids: Sequence[Any] | Callable[[Any], Any] | None = None,
        priorities: Sequence[float] | Callable[[Any], float] | None = None,
        *,
        config: RunnableConfig | None = None,
        stored: Stored = "yield",
    ) -> Run:
        """A run over any iterable of rows, read lazily; iterate it inside `with` for outcomes as they complete.

        Args:
            rows: a list, an iterator or an async iterator.
            ids: one for each row, or a function of the row.
            priorities: one for each row, or a function of the row; higher starts first.
            config: for every row.
            stored: what the store holds already is "yield"ed as outcomes, or "skip"ped (only counted); "retry" skips
                too, but does again what failed for good, and "again" does that and yields the others.

        Raises:
            RunStopped: at the end of the iteration, if the run stopped early.
        """
        engine = self._engine(
            rows, ids=ids, priorities=priorities, configs=same_for_all(config), stored=stored
        )
        return self._remember(Run(engine))

    def astart(
        self,
        rows: Rows,
        ids: Sequence[Any] | Callable[[Any], Any] | None = None,
        priorities: Sequence[float] | Callable[[Any], float] | None = None,
        *,
        config: RunnableConfig | None = None,
        stored: Stored = "yield",
    ) -> AsyncRun:
        """`start` on the running loop: iterate inside `async with`. Opening the store may block for a moment."""
        engine = self._engine(
            rows, ids=ids, priorities=priorities, configs=same_for_all(config), stored=stored
        )
        return self._remember(AsyncRun(engine))

    async def stream_batch(
        self, inputs: Rows, config: RunnableConfig | None = None, *, max_concurrency: int | None = None
    ) -> AsyncIterator[tuple[int, Any]]:
        """(index, chunk) of many rows, interleaved as they come. What failed is raised at the end.

        Where a row breaks off, or its answer is refused, and it is asked again, `(index, RESTARTED)` says that its
        pieces so far are void; the next ones are the new answer from its beginning. A row that the cache or the store
        knows comes as one piece. A slow reader slows the calls; leaving early closes every connection.
        """
        engine = await self._aengine(
            inputs, configs=same_for_all(config), max_concurrency=max_concurrency, streaming=True
        )
        collected = Collected(inputs if isinstance(inputs, Sequence) else ())
        async with self._remember(AsyncRun(engine)) as run:
            collected.run = run
            while (got := await collected.anext_of(run)) is not None:
                for piece in collected.pieces(got):
                    yield row_of(got), piece
        collected.raise_failures()

    def start_failed(self) -> Run:
        """A run over the rows of the store that failed, those that failed for good included, from their kept inputs.

        An outcome's `index` is the row's number in the store.

        Raises:
            ConfigError: there is no store.
        """
        return self._remember(Run(self._watched(self._builder.engine_for_failed())))

    def retry(
        self,
        rows: Rows | None = None,
        config: Configs = None,
        *,
        ids: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> list[Outcome]:
        """Do the failed rows again, those that failed for good included; returns their outcomes, in row order.

        Straight after `batch` there is nothing to say: each row is asked as it was, with its config and keywords.

        Args:
            rows: the run's rows, where the store does not keep them (`store_inputs=False`).
            config: as it was given with these rows.
            ids: as they were given with these rows.
            kwargs: as they were given with these rows.

        Raises:
            ConfigError: there is no run to take failed rows from, or not all that their answers depend on.
            RunStopped: as for `start`.
        """
        if rows is None and (config is not None or ids is not None or kwargs):
            raise ConfigError("a config, ids or keywords for retry() need the rows they were given with")
        if self._settings.store is None:
            return self._retry_last()
        last = asked = self._asked
        if rows is not None:
            asked = Asked(rows, for_rows(config, rows), ids, kwargs)
        with self._remember(self._failed_run(asked, given=rows is not None), asked=last) as run:
            outcomes = list(run)
        return sorted(outcomes, key=lambda outcome: outcome.index)

    def _failed_run(self, asked: Asked | None, *, given: bool) -> Run:
        """From the rows, where they are given or are not all that their answers depend on; else from the store."""
        if asked is None or not (given or asked.configs or asked.kwargs):
            return Run(self._watched(self._builder.engine_for_failed()))
        rows, configs, ids, kwargs = asked
        return Run(self._engine(rows, ids=ids, configs=configs, kwargs=kwargs, stored="retry"))

    def _retry_last(self) -> list[Outcome]:
        last, asked = self.last_run, self._asked
        if last is None or asked is None:
            raise ConfigError(
                "retry() found no batch to go on with: call batch first, or give store= and run="
            )
        known = last.outcomes()
        failed = [outcome for outcome in known if outcome.status != "ok"]
        configs = asked.configs
        engine = self._engine(
            [outcome.input for outcome in failed],
            configs=[configs[outcome.index] for outcome in failed] if isinstance(configs, list) else configs,
            kwargs=asked.kwargs,
            max_concurrency=most_at_once(configs if isinstance(configs, list) else None),
        )
        with Run(engine) as run:
            for outcome in run:
                outcome.index = failed[outcome.index].index
                outcome.id = known[outcome.index].id
                known[outcome.index] = outcome
        return [known[outcome.index] for outcome in failed]
