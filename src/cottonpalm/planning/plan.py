"""`Plan`: what `BatchProcessor.plan` found out about a run. It holds data and has no behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cottonpalm.planning.estimate import Range
    from cottonpalm.stats import PromptUse

Basis: TypeAlias = Literal["bound", "history", "sample"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run over some rows would ask, cost and take.

    Attributes:
        rows: rows in the input.
        unreadable: rows that cannot be read, and would fail without a call.
        stored: rows that the run's store holds already.
        cached: rows that the cache can answer.
        duplicates: rows that ask the same as an earlier one...
        duplicates_exact: ...and whether that was counted, or estimated (beyond 131,072 different rows).
        asked: rows that would be asked.
        requests: first requests of a row, on average; None where no request could be seen.
        models: the models that they go to.
        input_tokens: of all rows asked; None where nothing could be seen.
        output_tokens: the same. With basis "bound", `high` is the most that the requests allow, and `low` is 0.
        cost_usd: of all rows asked, when sent live; None where a price or a maximum of tokens is not known.
        flex_usd: the same at the price list's flex tier; None where a model has no flex rates.
        batch_usd: the same through the provider's Batch API; None where it has none, or its price is not known.
        duration_s: seconds at the known limits; None where the limit, or the time an answer takes, is not known.
        basis: where output, cost and duration come from: the "bound" of each request, the "history" of rows that the
            store holds, or a "sample" that was run. The last two hold the truth in at least 90 of 100 plans; with
            "bound" the cost is below `high`.
        sampled: rows that were run, or taken from history.
        spent_usd: what the sample did cost; it is part of `cost_usd`.
        notes: what could not be found out, in words.
        prompts: by model: what the prompts of the rows that were looked at have in common. The cost of "bound" does not
            count on a prompt cache.
    """

    rows: int
    unreadable: int
    stored: int
    cached: int
    duplicates: int
    duplicates_exact: bool
    asked: int
    requests: float | None
    models: tuple[str, ...]
    input_tokens: Range | None
    output_tokens: Range | None
    cost_usd: Range | None
    flex_usd: Range | None
    batch_usd: Range | None
    duration_s: float | None
    basis: Basis
    sampled: int
    spent_usd: float
    notes: tuple[str, ...]
    prompts: Mapping[str, PromptUse] = field(default_factory=dict)
