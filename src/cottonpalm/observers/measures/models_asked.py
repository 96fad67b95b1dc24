"""What each model was asked, used and cost, and what of that a batch could have taken. Not thread-safe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cottonpalm.observers.measures.reported import BatchUse, ModelUse
from cottonpalm.types import PICO

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.types import Usage

MODELS: Final = 100  # that are told apart
BATCH_SAVES: Final = 0.5  # of the price, at every provider that has a Batch API
REST: Final = "other"


class _Model:
    """The sums of one model; `flex` is what of it was served at that tier, at the price of a batch."""

    __slots__ = ("cost_pico", "failed", "flex", "flex_pico", "priced", "requests", "tokens_in", "tokens_out")

    def __init__(self) -> None:
        self.requests = self.failed = self.tokens_in = self.tokens_out = self.cost_pico = 0
        self.flex = self.flex_pico = 0
        self.priced = False

    def use(self) -> ModelUse:
        refused = self.requests == self.failed  # what was refused costs nothing
        cost_usd = self.cost_pico / PICO if self.priced or refused else None
        return ModelUse(self.requests, self.failed, self.tokens_in, self.tokens_out, cost_usd)


class ModelsAsked:
    """Adds up requests by model: its host and name."""

    def __init__(self) -> None:
        self._models: dict[str, _Model] = {}

    def add(self, model: str, usage: Usage | None, cost_pico: int | None, *, ok: bool, flex: bool) -> None:
        """One try of a request is over; see `protocols.Measure`."""
        if (used := self._models.get(model)) is None:
            model = model if len(self._models) < MODELS else REST
            used = self._models.setdefault(model, _Model())
        used.requests += 1
        if flex:
            used.flex += 1
            used.flex_pico += cost_pico or 0
        if not ok:
            used.failed += 1
        if usage is not None:
            used.tokens_in += usage.input_tokens
            used.tokens_out += usage.output_tokens
        if cost_pico is not None:
            used.cost_pico += cost_pico
            used.priced = True

    @property
    def requests(self) -> int:
        """Of all models."""
        return sum(used.requests for used in self._models.values())

    def uses(self) -> dict[str, ModelUse]:
        """What each was asked, by name."""
        return {name: used.use() for name, used in sorted(self._models.items())}

    def for_batches(self, has_batches: Callable[[str], bool], rows: int, cost_pico: int) -> BatchUse:
        """What of live rows could have gone through a batch: by the models' shares of requests and of money.

        Args:
            has_batches: whether a model has a Batch API.
            rows: that ran live, and what they cost.
            cost_pico: see `rows`.
        """
        theirs = [used for name, used in self._models.items() if has_batches(name)]
        asked = sum(used.requests for used in self._models.values())
        cost = sum(used.cost_pico for used in self._models.values())
        if not asked or not theirs:
            return BatchUse()
        of_rows = sum(used.requests - used.flex for used in theirs) / asked
        of_cost = sum(used.cost_pico - used.flex_pico for used in theirs) / cost if cost else 0.0
        return BatchUse(round(rows * of_rows), cost_pico * of_cost * BATCH_SAVES / PICO)
