"""What a run came to, as numbers: no inputs, outputs or error messages, only counts and names of rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cottonpalm.observers.measures.bounded import Histogram
    from cottonpalm.stats import PromptUse
    from cottonpalm.types import Usage


@dataclass(frozen=True, slots=True)
class Spread:
    """How values are spread, in seconds; quantiles are within one per cent.

    Attributes:
        bars: (upper end in seconds, how many values) of a histogram with twenty bars a decade; empty bars are left out.
    """

    count: int = 0
    total: float = 0.0
    mean: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    max: float = 0.0
    bars: tuple[tuple[float, int], ...] = ()

    @classmethod
    def of(cls, seen: Histogram) -> Spread:
        """What a histogram has counted."""
        p50, p90, p95, p99 = (seen.quantile(share) for share in (0.5, 0.9, 0.95, 0.99))
        return cls(seen.count, seen.total, seen.mean, p50, p90, p95, p99, seen.highest, seen.bars())


@dataclass(frozen=True, slots=True)
class Counts:
    """How many. The rows of this run are ok + failed + skipped; `stored` ones were done before."""

    ok: int = 0
    failed: int = 0
    skipped: int = 0
    stored: int = 0
    cached: int = 0  # of the ok ones: answered without a request, `coalesced` included
    cache_misses: int = 0  # rows that were asked although there is a cache
    coalesced: int = 0  # waited for an equal row in flight and took its answer
    requests: int = 0  # sent and ended
    retries: int = 0  # of requests, and of rows
    restarts: int = 0  # of streams that had shown something
    hedges: int = 0  # copies sent of requests that were late
    overtaken: int = 0  # requests whose copy was answered before them


@dataclass(frozen=True, slots=True)
class ModelUse:
    """What one model (host and name) was asked, used and cost."""

    requests: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class StepUse:
    """A step of the chain, measured on a sample of the rows: how often it ran, and the seconds in it.

    The time of the steps inside another one is theirs, not its.
    """

    name: str
    calls: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class BatchUse:
    """Rows whose requests ran live at a provider that has a Batch API, and what they would have cost less in it."""

    rows: int = 0
    saves_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Moment:
    """A stretch of the run: rows per second in it, and the mean of what was seen in it; None where nothing was.

    Attributes:
        tokens: of the rows that ended in it.
        cost_usd: of the same rows, as far as it is known.
        failed_tries: requests that ended in it without an answer.
        bound_s: seconds of it by what kept the run from being faster.
    """

    at_s: float
    rows_per_s: float
    limit: float | None
    in_flight: float | None
    tokens: int = 0
    cost_usd: float = 0.0
    failed_tries: int = 0
    bound_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TopRow:
    """A row that stands out: `value` is seconds or dollars."""

    index: int
    id: str | None
    value: float


@dataclass(frozen=True, slots=True)
class SizeClass:
    """Rows that used at least `tokens` tokens, in and out, and less than twice as many; seconds and dollars of all."""

    tokens: int
    rows: int = 0
    seconds: float = 0.0
    cost_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Repeats:
    """Rows that asked what an earlier row had asked already, and were asked all the same; what they cost."""

    rows: int = 0
    cost_usd: float = 0.0
    exact: bool = True  # False: scaled up from a fair sample


@dataclass(frozen=True, slots=True)
class Money:
    """Where the dollars went, as far as they are known.

    Attributes:
        ok_usd: rows that were answered, all their tries included.
        failed_usd: rows that failed.
        left_usd: rows that are not done: the run ended amid their requests.
        failed_tries_usd: tries of requests that brought no answer; part of the three above.
        saved_usd: what answers from the cache would have cost; None: not known.
        budget_usd: the bound that was set; None without one.
        estimated_usd: rows whose answers did not say what they used, by the length of their texts; part of the first
            three...
        estimated_rows: ...and how many these are.
        uncertain_usd: the most that is charged besides, for requests whose answer never came, or whose cost was not
            told or not stored; a budget counts it. What is estimated of such answers is part of it, too.
    """

    ok_usd: float = 0.0
    failed_usd: float = 0.0
    left_usd: float = 0.0
    failed_tries_usd: float = 0.0
    saved_usd: float | None = 0.0
    budget_usd: float | None = None
    estimated_usd: float = 0.0
    estimated_rows: int = 0
    uncertain_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Reported:
    """Where the time and the money of a run went.

    Attributes:
        counts: how many rows and requests.
        wall_s: from the start to now, or to the end.
        active_s: the same without the time in which the run was held, or waited for its reader or its source.
        rows_per_s: rows of this run over `wall_s`.
        row_latency_s: from a row's start to its answer.
        request_latency_s: from sending a request to the end of its answer.
        waits_s: by what was waited for: `queue` (read, not started), `permit` (in line under the limit), `pause` (after
            a rejection), `backoff` (before a retry), `call` (the provider), `first` (the first token of a streamed
            answer), `store` (a group to be durable), `warm` (until the prompt that it shares was in the provider's
            cache).
        over_time: at most 120 moments.
        errors: failed rows by kind, then by type.
        usage: tokens of all rows, also of those that the end of the run left amid their requests.
        cost_usd: what these cost, None where that is not known.
        cost_per_row_usd: the same over the rows that are ok or failed.
        by_model: what each model was asked.
        slowest, dearest: at most ten rows each.
        bound_by: one or two sentences on what kept the run from being faster.
        bound_s: seconds of the run by what kept it from being faster, see `cottonpalm.types.Bottleneck`; two things may
            do so at once.
        sizes: rows by how many tokens they used, the smallest first.
        repeats: rows that a cache would have answered.
        money: where the dollars went.
        prompts: by model: what its prompts have in common, and what the provider's prompt cache made of that.
        transports: model calls by transport, "fast", or "stock" with the reason; empty where the fast one was not
            wanted, or none was streamed or made by a chat model that it knows.
        steps: of the chain, the one that took most first; empty where nothing was seen of them.
        batch: what the batch lane could have taken; nothing where the run went through it.
        total: rows that the run was given; None where that is not known.
        over: False while the run goes on.
        stopped: why it ended before its rows did, as `RunStopped.reason`; None where it did not.
    """

    counts: Counts
    wall_s: float
    active_s: float
    rows_per_s: float
    row_latency_s: Spread
    request_latency_s: Spread
    waits_s: Mapping[str, Spread]
    over_time: tuple[Moment, ...]
    errors: Mapping[str, Mapping[str, int]]
    usage: Usage
    cost_usd: float | None
    cost_per_row_usd: float | None
    by_model: Mapping[str, ModelUse]
    slowest: tuple[TopRow, ...]
    dearest: tuple[TopRow, ...]
    bound_by: tuple[str, ...]
    bound_s: Mapping[str, float]
    sizes: tuple[SizeClass, ...] = ()
    repeats: Repeats = Repeats()
    money: Money = Money()
    prompts: Mapping[str, PromptUse] = field(default_factory=dict)
    transports: Mapping[str, int] = field(default_factory=dict)
    steps: tuple[StepUse, ...] = ()
    batch: BatchUse = BatchUse()
    total: int | None = None
    over: bool = True
    stopped: str | None = None
