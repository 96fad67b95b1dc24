"""Counts how rows ended, and decides when too many have failed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cottonpalm.types import PICO, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cottonpalm.events import Binding
    from cottonpalm.types import ErrorRecord, Outcome, Unreached

SHARE_FROM: Final = 100  # a share of failures counts only from this many finished rows on
SAME: Final = 20  # first rows that fail for one reason say that all will
_NUMBERED: Final = re.compile(r"\S*\d\S*")  # ids, numbers of rows, amounts


@dataclass(slots=True)
class CacheCounts:
    """What the cache did in this process's part of a run.

    Attributes:
        hits: rows that the cache answered...
        coalesced: ...how many of them got the answer of an equal row in flight.
        misses: rows that the cache did not have.
        saved: the tokens that the hits would have used, as far as they are known.
        saved_usd: the dollars that they would have cost...
        saved_known: ...False once the price of a hit is not known.
    """

    hits: int = 0
    coalesced: int = 0
    misses: int = 0
    saved: Usage = field(default_factory=Usage)
    saved_usd: float = 0.0
    saved_known: bool = True

    def hit(self, usage: Usage | None, cost_pico: int | None, *, in_flight: bool) -> None:
        """Count one answer that cost nothing."""
        self.hits += 1
        self.coalesced += in_flight
        if usage is not None:
            self.saved += usage
        if cost_pico is None:
            self.saved_known = False
        else:
            self.saved_usd += cost_pico / PICO


@dataclass(frozen=True, slots=True)
class PromptUse:
    """What the prompts to one model have in common, and what its provider's prompt cache made of that. In tokens.

    Those of the first line are of one prompt, on average over the first ones, and are estimates.

    Attributes:
        prompt: all of it...
        shared: ...of these, the same in every prompt, from its start...
        again: ...the same as in some earlier prompt, from its start...
        later: ...and the same in the first prompts, but after something that differs.
        looked: how many prompts were compared.
        minimum: the fewest that the provider caches; 0: not known.
        asked: "itself": the provider caches by itself; "cache_control" or "breakpoints": where the request says so.
        on: 1 where this run asks for the cache.
        read: of all requests, what was read from the cache; `written` likewise.
        saved_usd: what that saved; below 0 where writing cost more.
        input_usd: dollars for a token of input, 0 where it is not known...
        read_rate: ...what a token that is read costs, as a part of that; `write_rate` likewise.
    """

    prompt: int = 0
    shared: int = 0
    again: int = 0
    later: int = 0
    looked: int = 0
    minimum: int = 0
    asked: str = ""
    on: int = 0
    read: int = 0
    written: int = 0
    saved_usd: float = 0.0
    input_usd: float = 0.0
    read_rate: float = 1.0
    write_rate: float = 1.0


@dataclass(frozen=True, slots=True)
class Stats:
    """A snapshot of a run. `stored` rows were found done; the other counts are this process's work.

    `requests` are in flight, `binding` is what keeps the run from being faster, `pause_s` the seconds
    for which a provider wants to be left alone, the longest of them, `silent_s` those for which none has answered.
    `allowed_per_s` are the requests a second that the user's own ceilings allow, as large as the answered ones are;
    None without ceilings, or before an answer.
    `trouble` says why the latest request reached nobody ("connection refused at 127.0.0.1:4999"), or what a provider
    that counts as down said last ("provider down: the answer of ... broke off"); "" otherwise. `unreached` says what
    did not let the request through, as `cottonpalm.types.Unreached`.

    `started` is a `clock.now()` stamp. In dollars: `cost_usd` is what finished rows cost (`cost_known` is False once a
    row's cost could not be told), `reported_usd` what providers reported, `uncertain_usd` the most that is charged
    besides, `budget_left_usd` what is neither spent nor reserved, `budget_spent_usd` what the budget counts as spent:
    by all runs that share it and all their processes, with what is uncertain; None without a budget.
    `out` are rows that wait for answers from batches.
    `chunks` are those whose rows are all done, out of `chunks_total` where that is known; None without `chunk_size`.
    """

    total: int | None
    stored: int
    ok: int
    failed: int
    skipped: int
    in_flight: int
    waiting: int
    limit: float
    requests: int
    binding: Binding
    pause_s: float
    silent_s: float
    cost_usd: float
    cost_known: bool
    reported_usd: float
    uncertain_usd: float
    budget_left_usd: float | None
    repeated: int
    attempts: int
    started: float
    finished: bool
    chunks: int | None = None
    chunks_total: int | None = None
    out: int = 0
    cache: CacheCounts = field(default_factory=CacheCounts)
    trouble: str = ""
    unreached: Unreached = ""
    allowed_per_s: float | None = None
    budget_spent_usd: float | None = None


@dataclass(slots=True)
class Tally:
    """Counts how the rows of this process ended.

    Args:
        max_failures: a number of rows (0: none may fail), or a share of the finished ones when below 1; None, or the
            share 1.0, for no bound.
    """

    max_failures: float | None = None
    ok: int = 0
    failed: int = 0
    skipped: int = 0
    attempts: int = 0
    cost_pico: int = 0
    cost_known: bool = True
    kinds: dict[str, int] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        """Count one row."""
        if outcome.status == "ok":
            self.ok += 1
        elif outcome.status == "failed":
            self.failed += 1
            if outcome.error is not None:
                self.kinds[outcome.error.kind] = self.kinds.get(outcome.error.kind, 0) + 1
        else:
            self.skipped += 1
        self.attempts += outcome.attempts
        if outcome.cost_pico is not None:
            self.cost_pico += outcome.cost_pico
        elif outcome.attempts and (outcome.status == "ok" or outcome.usage is not None):
            self.cost_known = False  # a row that was refused costs nothing

    def too_many(self) -> str | None:
        """Return why the run should stop, or None."""
        bound, finished = self.max_failures, self.ok + self.failed
        if bound is None or not self.failed or goes_on(bound):
            return None
        if bound >= 1 or bound == 0:
            rows = "row" if self.failed == 1 else "rows"
            return f"{self.failed} {rows} failed, max_failures={bound:g}" if self.failed > bound else None
        if finished >= SHARE_FROM and self.failed > bound * finished:
            return f"{self.failed} of {finished} rows failed, max_failures={bound * 100:g}%"
        return None


def goes_on(max_failures: float | None) -> bool:
    """Whether all rows may fail: a share of 1.0 says so, and the number 1 is a number of rows."""
    return isinstance(max_failures, float) and max_failures == 1.0


@dataclass(slots=True)
class FirstRows:
    """Whether a run fails as a whole: its first rows all failed for one reason that no other try would change.

    Rows that fail fast may come back before the good ones, which take their time: it is waited for all that began
    before them, unless more have failed than are under way.
    """

    _failed: int = 0
    _reason: tuple[str, str, str] | None = None
    _error: ErrorRecord | None = None
    _last_began_s: float = 0.0  # of the first rows that failed
    mixed: bool = False  # they did not all fail, or not for one reason

    def add(self, outcome: Outcome, *, began_s: float) -> None:
        """A row that was asked is over; it began then."""
        if self.mixed or outcome.status == "skipped":
            return
        error = outcome.error
        if outcome.status != "failed" or error is None or error.retryable:
            self.mixed = True
            return
        reason = (error.kind, error.type, _NUMBERED.sub("#", error.message))
        self.mixed = self._reason not in (None, reason)
        self._reason, self._error = reason, error
        self._failed += 1
        if self._failed <= SAME:
            self._last_began_s = max(self._last_began_s, began_s)

    def all_alike(self, under_way: Iterable[float]) -> bool:
        """Whether that is so, as far as can be told; `under_way`: when each row began that is not over."""
        if self.mixed or self._failed < SAME:
            return False
        began = list(under_way)
        return len(began) <= self._failed or min(began) > self._last_began_s

    def __str__(self) -> str:
        error = self._error
        return (
            ""
            if error is None
            else (
                f"the first {SAME} rows that were over all failed alike: {error.type}: {error.message.rstrip('.')}. "
                "If the others are to be asked all the same, set max_failures=1.0"
            )
        )
