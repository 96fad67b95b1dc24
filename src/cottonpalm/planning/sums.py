"""Computes a `Plan` for all rows from what is known about some of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

from cottonpalm.planning import estimate
from cottonpalm.planning.estimate import Range
from cottonpalm.planning.plan import Basis, Plan
from cottonpalm.request.money.rules.prices import BATCH
from cottonpalm.types import PICO, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cottonpalm.planning.census import Census
    from cottonpalm.planning.looking import Look, Request
    from cottonpalm.stats import PromptUse
    from cottonpalm.types import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known about some rows, besides the census of all rows.

    Attributes:
        looks: the first requests of some rows.
        outcomes: outcomes of rows that were run, now or earlier.
        basis: where these outcomes come from.
        limit: how many rows may run at once under the known limits; None where no limit is known.
        spent_pico: pico-dollars that the sample cost.
        prompts: by model: what the prompts of these rows have in common.
    """

    looks: Sequence[Look]
    outcomes: Sequence[Outcome]
    basis: Basis
    limit: float | None
    spent_pico: int
    prompts: Mapping[str, PromptUse] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def plan_of(found: Census, stored: int, evidence: Evidence) -> Plan:
    """Add everything up to a plan."""
    looks = [look for look in evidence.looks if look.requests]
    ran = evidence.basis != "bound"
    # The sample is paid already: we know its part of the cost, and estimate only the rest.
    rest = found.asked - (len(evidence.outcomes) if evidence.basis == "sample" else 0)
    done = evidence.outcomes if evidence.basis == "sample" else []
    forecasts = _Forecasts(looks, list(evidence.outcomes), done, rest, found.asked)
    cost = forecasts.cost() if ran else forecasts.cost_bound()
    return Plan(
        rows=found.rows,
        unreadable=found.unreadable,
        stored=stored,
        cached=found.cached,
        duplicates=found.distinct.repeats,
        duplicates_exact=found.distinct.exact,
        asked=found.asked,
        requests=fmean(len(look.requests) for look in looks) if looks else None,
        models=tuple(sorted({request.model for look in looks for request in look.requests})),
        input_tokens=forecasts.tokens("input_tokens") if ran else forecasts.input_bound(),
        output_tokens=forecasts.tokens("output_tokens") if ran else forecasts.output_bound(),
        cost_usd=cost,
        flex_usd=forecasts.at("flex", cost, ran=ran),
        batch_usd=forecasts.at(BATCH, cost, ran=ran),
        duration_s=forecasts.duration_s(evidence.limit),
        basis=evidence.basis,
        sampled=len(evidence.outcomes),
        spent_usd=evidence.spent_pico / PICO,
        prompts=evidence.prompts,
        notes=(*evidence.notes, *_doubts(evidence, found)),
    )


@dataclass(frozen=True, slots=True)
class _Forecasts:
    looks: Sequence[Look]
    outcomes: Sequence[Outcome]
    done: Sequence[Outcome]
    rest: int
    asked: int

    # -- estimates from rows that were run

    def _sum(self, value: Callable[[Outcome], float]) -> Range:
        paid = sum(map(value, self.done))
        ahead = estimate.total([value(outcome) for outcome in self.outcomes], self.rest)
        return Range(*(paid + part for part in ahead))

    def cost(self) -> Range | None:
        """Return the cost of all rows asked, in dollars; None where a row's price is not known."""
        if any(outcome.cost_pico is None for outcome in self.outcomes if outcome.attempts):
            return None
        return self._sum(lambda outcome: (outcome.cost_pico or 0) / PICO)

    def tokens(self, kind: str) -> Range:
        """Return the tokens of this kind of all rows asked."""
        return self._sum(lambda outcome: getattr(outcome.usage or Usage(), kind))

    def duration_s(self, limit: float | None) -> float | None:
        """Return the seconds for all rows still to be asked, `limit` at once."""
        asked = [outcome.latency_s for outcome in self.outcomes if outcome.attempts]
        return (
            None if limit is None or not asked else self.rest * fmean(asked) / min(limit, max(1, self.rest))
        )

    # -- estimates from the requests that rows would make

    def _over_all(self, value: Callable[[Request], float]) -> Range:
        """Estimate the sum of `value` over the requests of all rows, from the rows that were looked at."""
        per_row = [sum(map(value, look.requests)) for look in self.looks]
        return estimate.total(per_row, self.asked) if self.asked > len(per_row) else _exactly(sum(per_row))

    def input_bound(self) -> Range | None:
        """Estimate input tokens from the requests' texts. The range covers any tokenizer, and the draw of the rows."""
        if not self.looks:
            return None
        low, likely, high = (self._over_all(lambda request, n=n: request.input_tokens[n]) for n in range(3))  # type: ignore[misc]
        return Range(low.low, likely.likely, high.high)

    def output_bound(self) -> Range | None:
        """Return the most output tokens that the requests allow; None where a request has no known maximum."""
        requests = [request for look in self.looks for request in look.requests]
        if not requests or any(request.most_output is None for request in requests):
            return None
        most = self._over_all(lambda request: request.most_output or 0)
        return Range(0.0, most.likely, most.high)

    def cost_bound(self, tier: str | None = None) -> Range | None:
        """Return the range from the cost of the input alone to what a budget would reserve for all requests."""
        requests = [request for look in self.looks for request in look.requests]
        if not requests or any(_rates(one, tier) is None or _bound(one, tier) is None for one in requests):
            return None
        least = self._over_all(lambda request: _cost(request, request.input_tokens.low, 0, tier))
        likely = self._over_all(
            lambda request: _cost(request, request.input_tokens.likely, request.most_output or 0, tier)
        )
        most = self._over_all(lambda request: (_bound(request, tier) or 0) / PICO)
        return Range(least.low, likely.likely, most.high)

    def at(self, tier: str, cost: Range | None, *, ran: bool) -> Range | None:
        """Return what `cost` would be at a cheaper tier; None where a request cannot go there."""
        requests = [request for look in self.looks for request in look.requests]
        if cost is None or not requests or any(tier not in request.cheaper for request in requests):
            return None
        if not ran:
            return self.cost_bound(tier)
        into, out = self.tokens("input_tokens").likely, self.tokens("output_tokens").likely
        live = sum(_cost(request, into, out, None) for request in requests)
        return cost * (sum(_cost(request, into, out, tier) for request in requests) / live) if live else cost


def _exactly(number: float) -> Range:
    return Range(number, number, number)


def _rates(request: Request, tier: str | None) -> Any:
    return request.rates if tier is None else request.cheaper.get(tier, (None, None))[0]


def _bound(request: Request, tier: str | None) -> int | None:
    return request.bound if tier is None else request.cheaper.get(tier, (None, None))[1]


def _is_free(request: Request) -> bool:
    return request.rates is not None and request.rates.free


def _cost(request: Request, into: float, out: float, tier: str | None) -> float:
    """Return the dollars that this request costs with so many input and output tokens."""
    rates = _rates(request, tier)
    return float(rates.cost(Usage(round(into), round(out)))) / PICO


def _doubts(evidence: Evidence, found: Census) -> list[str]:
    """Say what could not be found out, and what the user can do."""
    looks, notes = evidence.looks, []
    requests = [request for look in looks for request in look.requests]
    if unseen := sorted({name for look in looks for name in look.unseen}):
        notes.append(
            f"requests to {unseen[0]} cannot be seen before they are made: only a sample tells their cost"
        )
    if failing := [look.error for look in looks if look.error is not None and not look.requests]:
        notes.append(
            f"{len(failing)} of {len(looks)} rows that were looked at fail before they ask: "
            f"{type(failing[0]).__name__}: {failing[0]}"
        )
    elif found.asked and not requests and not unseen:
        notes.append("the chain makes no request that can be seen")
    if unpriced := sorted({request.model for request in requests if request.rates is None}):
        notes.append(f"no price is known for {unpriced[0]}: pass prices= (--price {unpriced[0]}=IN:OUT)")
    return [*notes, *_doubts_of_bound(requests)] if evidence.basis == "bound" else notes


def _doubts_of_bound(requests: Sequence[Request]) -> Iterator[str]:
    """Say why some requests have no bound, and which costs the bound does not include."""
    if unbounded := {one.model for one in requests if one.most_output is None and not _is_free(one)}:
        yield f"requests to {min(unbounded)} name no maximum of output tokens: set max_tokens on the model"
    elif reasons := {one.why_unbounded for one in requests if one.bound is None and one.rates is not None}:
        yield min(reasons)
    if requests:
        yield "only the first requests of each row are seen: what depends on an answer comes on top"
