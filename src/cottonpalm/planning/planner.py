"""`plan`: what a run over some rows would cost and how long it would take, before it is made."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.batches import BatchCalls
from cottonpalm.engine.input.row_configs import same_for_all
from cottonpalm.errors import ConfigError
from cottonpalm.planning.base import base_of
from cottonpalm.planning.census import LOOKED, Census, census
from cottonpalm.planning.looking import look_at
from cottonpalm.planning.sums import Evidence, plan_of
from cottonpalm.run import AsyncRun
from cottonpalm.runtime.bridge import bridge

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_core.runnables import RunnableConfig

    from cottonpalm.engine.input.reader import Rows
    from cottonpalm.planning.plan import Basis, Plan
    from cottonpalm.types import Item, Outcome

HISTORY: Final = 20  # rows of the run that must be done before they say anything about the others


class PlanCalls(BatchCalls):
    """Calls that look ahead."""

    def plan(
        self,
        rows: Rows,
        *,
        ids: Sequence[Any] | Callable[[Any], Any] | None = None,
        config: RunnableConfig | None = None,
        sample: int = 0,
    ) -> Plan:
        """What `start(rows)` would ask, cost and take; no model is called, unless for a sample.

        The rows are read once, in bounded memory. For some of them the chain runs up to its first requests, which are
        not sent: steps before those do run. Where the run's store holds at least 20 answers, they say what the others
        will be like.

        Args:
            rows: any iterable; an iterator is used up.
            ids: as for `start`.
            config: for every row.
            sample: so many rows, drawn at random, are run for real; where there is a store their answers are kept.

        Raises:
            ConfigError: `sample` is negative.
            RunStopped: the sample's run was stopped.
            StoreError: as for `start`.
        """
        return bridge().wait(self.aplan(rows, ids=ids, config=config, sample=sample))

    async def aplan(
        self,
        rows: Rows,
        *,
        ids: Sequence[Any] | Callable[[Any], Any] | None = None,
        config: RunnableConfig | None = None,
        sample: int = 0,
    ) -> Plan:
        """`plan` on the running loop."""
        if not isinstance(sample, int) or isinstance(sample, bool) or sample < 0:
            raise ConfigError(f"sample={sample!r}: say how many rows are to be run")
        configs = same_for_all(config)
        with base_of(self._builder, ids=ids, configs=configs) as base:
            known = None if self._settings.cache is None else base.known
            found = await census(rows, base.reader, max(LOOKED, sample), known)
        looks = await look_at(_some(found, LOOKED), self.chain, self._builder.planning_account())
        outcomes, limit = await self._sampled(found, sample, configs)
        basis: Basis = "sample" if outcomes else "history" if len(base.history) >= HISTORY else "bound"
        evidence = Evidence(
            looks=looks,
            outcomes=outcomes or (base.history if basis == "history" else []),
            basis=basis,
            limit=limit or self._settings.cap,
            spent_pico=sum(outcome.cost_pico or 0 for outcome in outcomes),
        )
        return plan_of(found, base.reader.stored, evidence)

    async def _sampled(self, found: Census, sample: int, configs: Any) -> tuple[list[Outcome], float | None]:
        """The outcomes of rows drawn at random, run for real, and the limit that was in force at their end."""
        if not sample or not found.drawn:
            return [], None
        drawn = _some(found, sample)
        ids = [item.id for item in drawn] if any(item.id is not None for item in drawn) else None
        engine = await self._aengine([item.row for item in drawn], ids=ids, configs=configs)
        async with self._remember(AsyncRun(engine)) as run:
            outcomes = [outcome async for outcome in run]
            return [outcome for outcome in outcomes if outcome.status != "skipped"], run.stats.limit


def _some(found: Census, count: int) -> list[Item]:
    """So many of the rows that were drawn, at random, in the order of the input."""
    drawn = found.drawn
    if len(drawn) <= count:
        return drawn
    return sorted(Random(count).sample(drawn, count), key=lambda item: item.index)  # noqa: S311 - repeatable
