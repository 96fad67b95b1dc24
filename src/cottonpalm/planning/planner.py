"""What `plan` finds out before it asks anything: the rows, the first requests of some rows, what the store holds."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.chain import traits
from cottonpalm.errors import ConfigError
from cottonpalm.planning.base import base_of
from cottonpalm.planning.census import LOOKED, census
from cottonpalm.planning.looking import look_at
from cottonpalm.planning.sums import Evidence, plan_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cottonpalm.engine.build import Builder
    from cottonpalm.engine.input.reader import Reader, Rows
    from cottonpalm.planning.census import Census
    from cottonpalm.planning.looking import Look
    from cottonpalm.planning.plan import Basis, Plan
    from cottonpalm.stats import PromptUse
    from cottonpalm.types import Item, Outcome

SHOWN: Final = 8  # steps that are named
HISTORY: Final = 20  # an estimate from the run's history needs at least this many rows that are done


@dataclass(frozen=True, slots=True)
class Survey:
    """What one pass over the rows has found."""

    found: Census
    stored: int
    history: list[Outcome]
    looks: list[Look]
    prompts: Mapping[str, PromptUse]
    notes: tuple[str, ...] = ()

    def drawn(self, count: int) -> list[Item]:
        """Draw `count` of the rows to be asked, at random; they come in the order of the input."""
        return _some(self.found, count) if count else []

    def plan(self, sampled: list[Outcome], limit: float | None) -> Plan:
        """Make the plan from what is known.

        Args:
            sampled: outcomes of drawn rows that were really run. If empty, the plan uses the history, and without
                enough history the bounds of the requests.
            limit: how many requests may be in flight, if that is known.
        """
        basis: Basis = "sample" if sampled else "history" if len(self.history) >= HISTORY else "bound"
        evidence = Evidence(
            looks=self.looks,
            outcomes=sampled or (self.history if basis == "history" else []),
            basis=basis,
            limit=limit,
            spent_pico=sum(outcome.cost_pico or 0 for outcome in sampled),
            prompts=self.prompts,
            notes=self.notes,
        )
        return plan_of(self.found, self.stored, evidence)


async def survey_of(
    builder: Builder,
    rows: Rows,
    *,
    ids: Sequence[Any] | Callable[[Any], Any] | None,
    configs: Any,
    sample: int,
) -> Survey:
    """Read the rows once, and run the chain of some of them up to its first requests, which are not sent.

    Raises:
        ConfigError: `sample` is negative.
        StoreError: the run's store cannot be used.
    """
    if not isinstance(sample, int) or isinstance(sample, bool) or sample < 0:
        raise ConfigError(f"sample={sample!r}: say how many rows are to be run")
    with base_of(builder, ids=ids, configs=configs) as base:
        known = None if builder.settings.cache is None else base.known
        found = await census(rows, base.reader, max(LOOKED, sample), known)
        notes = (*asked_again(base.reader, base.held), *_runs_again(builder))
    account = builder.accounts.for_planning()
    looks = await look_at(_some(found, LOOKED), builder.chain, account, builder.settings.lane.hosts)
    return Survey(found, base.reader.stored, base.history, looks, account.prompts.summary(), notes)


def asked_again(reader: Reader, held: int) -> Iterator[str]:
    """Say which rows would be asked although the store has held them.

    Args:
        reader: has read all rows.
        held: how many rows the run has done.
    """
    changed, new = reader.left_over()
    left = held - reader.stored - changed
    if changed:
        yield f"{changed:,} of the rows to ask were edited since the run asked them, in what the chain reads"
    if new and left > 0:
        rows = "row" if left == 1 else "rows"
        yield (
            f"the run holds {left:,} more {rows} not in this input, and {new:,} are new in it: a row that was only "
            "edited is both, and is asked and paid again (rows with ids keep their place)"
        )


def _runs_again(builder: Builder) -> Iterator[str]:
    """Say what of the user's own runs more than once for a row that goes through batches."""
    if builder.settings.mode != "live" and (steps := traits.runs_again(builder.chain)):
        shown = ", ".join(steps[:SHOWN]) + (f" and {len(steps) - SHOWN} more" if len(steps) > SHOWN else "")
        yield f"in batches these run once in each round of a row, tools but once: {shown}"


def _some(found: Census, count: int) -> list[Item]:
    """Pick `count` of the drawn rows at random; they come in the order of the input."""
    drawn = found.drawn
    if len(drawn) <= count:
        return drawn
    return sorted(Random(count).sample(drawn, count), key=lambda item: item.index)  # noqa: S311 - repeatable
