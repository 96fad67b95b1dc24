"""How many tokens a provider lets wait for a model's batches, as its refusals tell. No clock, no I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cottonpalm.providers.batches.lines import Phase
from cottonpalm.providers.batches.stages import Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.providers.batches.lanes import Lane
    from cottonpalm.providers.batches.stages import Batch

_TOLD: Final = re.compile(r"[Ll]imit:? ([0-9][0-9,]*) enqueued tokens")


@dataclass(slots=True)
class Queue:
    """How many tokens a provider lets wait for one account and model, as its refusals tell.

    Its count need not be ours, and others may fill it too: where by our count there was room, half of what was there
    is tried next, after a wait that grows; what is taken doubles that again.

    Attributes:
        told: by the provider.
        tokens: by our own count; None: no refusal so far.
        refusals: so many in a row although there was room by our count.
    """

    told: int | None = None
    tokens: int | None = None
    refusals: int = 0

    def refused(self, told: int | None, ours: int) -> None:
        """A batch was refused when so many tokens of ours were there, its own among them."""
        self.told = told if told is not None else self.told
        bound = min((each for each in (self.tokens, self.told) if each is not None), default=None)
        if bound is not None and ours > bound:
            self.tokens = bound
            return
        self.tokens = max(1, ours // 2)
        self.refusals += 1

    def taken(self) -> None:
        """A batch was not refused."""
        self.refusals = 0
        if self.tokens is not None:
            self.tokens = 2 * self.tokens if self.told is None else min(self.told, 2 * self.tokens)


class Queues:
    """Those of one run.

    Args:
        later_s: how long to wait after so many refusals in a row.
    """

    def __init__(self, later_s: Callable[[int], float]) -> None:
        self._later_s = later_s
        self._of: dict[Lane, Queue] = {}
        self._not_before: dict[Lane, float] = {}

    def tokens(self, lane: Lane) -> int | None:
        """What may wait there; None: nothing is known."""
        return self._of[lane].tokens if lane in self._of else None

    def rest_s(self, lane: Lane, now: float) -> float:
        """How long nothing more is submitted there, as its queue was full although there was room by our count."""
        return max(0.0, self._not_before.get(lane, 0.0) - now)

    def learn(self, batch: Batch, others: int, now: float) -> None:
        """A batch is over; `others`: tokens of other batches that wait there."""
        lane = batch.lane
        if not is_full(batch):
            if lane in self._of and batch.stage is Stage.COLLECTED:
                self._of[lane].taken()
            return
        queue = self._of.setdefault(lane, Queue())
        queue.refused(told_limit(batch.why), batch.tokens + others)
        if queue.refusals:
            self._not_before[lane] = now + self._later_s(queue.refusals)


def is_full(batch: Batch) -> bool:
    """Whether a batch was refused since too much waits."""
    return batch.state is not None and batch.state.phase is Phase.FAILED and batch.state.queue_full


def told_limit(message: str) -> int | None:
    """How many tokens may wait, where a provider says so: "... Limit: 900,000 enqueued tokens"."""
    found = _TOLD.search(message)
    return int(found[1].replace(",", "")) if found else None
