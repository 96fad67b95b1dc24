"""What a run through batches goes by: the user's own bounds, and what its chain can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cottonpalm.config import BatchLane


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTerms:
    """How a run goes through batches.

    Attributes:
        lane: the user's own bounds.
        name: of the run.
        linear: the chain makes one request at a time.
        keeps_state: the chain keeps what a row did when it ran before, so that no row may run twice.
        sends: False makes no new batches: answers of earlier ones are used, and the rest is asked live.
        detach: leave once everything is submitted.
        deadline_s: seconds from now in which all rows are to be done.
        cheapest: batches only where their price is known to be lower, or not known.
        rehearsed: in how many rounds made-up answers cannot bring the chain to its end.
        tools: the chain has tools, which run once in all the rounds of a row; None: it has none.
        lazy: the rows are read as they are needed: nobody else holds them in memory.
    """

    lane: BatchLane
    name: str
    linear: bool = False
    keeps_state: bool = False
    sends: bool = True
    detach: bool = False
    deadline_s: float | None = None
    cheapest: bool = False
    lazy: bool = False
    rehearsed: int = 0
    tools: Mapping[str, type] | None = None

    @property
    def at_its_price(self) -> bool:
        """Batches were asked for, and nothing else."""
        return self.sends and not (self.cheapest or self.lane.or_live)

    @property
    def flexes(self) -> bool:
        """Whether requests may go to the flex tier: it is cheap, slow, and answers only who stays."""
        return self.cheapest and self.deadline_s is None and not (self.detach or self.lane.cancel)
