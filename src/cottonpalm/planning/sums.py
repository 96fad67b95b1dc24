"""Adds up what is known of some rows to a `Plan` for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from cottonpalm.planning import estimate
from cottonpalm.planning.estimate import Range
from cottonpalm.planning.plan import Basis, Plan
from cottonpalm.types import PICO, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cottonpalm.planning.census import Census
    from cottonpalm.planning.looking import Look, Request
    from cottonpalm.types import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known besides the census.

    Attributes:
        looks: what some of the rows would ask.
        outcomes: of rows that were run, now or before.
        basis: where these come from.
        limit: rows at once, at the known limits; None where they are not known.
        spent_pico: what a sample did cost.
    """

    looks: Sequence[Look]
    outcomes: Sequence[Outcome]
    basis: Basis
    limit: float | None
    spent_pico: int
    notes: tuple[str, ...] = ()


def plan_of(found: Census, stored: int, evidence: Evidence) -> Plan:
    """All of it, added up."""
    looks = [look for look in evidence.looks if look.requests]
    ran = evidence.basis != "bound"
    # The sample is paid: its share is known, and only the rest is a forecast.
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
        flex_usd=forecasts.at_flex(cost, ran=ran),
        duration_s=forecasts.duration_s(evidence.limit),
        basis=evidence.basis,
        sampled=len(evidence.outcomes),
        spent_usd=evidence.spent_pico / PICO,
        notes=(*evidence.notes, *_doubts(evidence, found)),
    )


@dataclass(frozen=True, slots=True)
class _Forecasts:
    looks: Sequence[Look]
    outcomes: Sequence[Outcome]
    done: Sequence[Outcome]
    rest: int
    asked: int

    # -- from rows that were run

    def _sum(self, value: Callable[[Outcome], float]) -> Range:
        paid = sum(map(value, self.done))
        ahead = estimate.total([value(outcome) for outcome in self.outcomes], self.rest)
        return Range(*(paid + part for part in ahead))

    def cost(self) -> Range | None:
        """Of all rows asked, in dollars; None where a row's price is not known."""
        if any(outcome.cost_pico is None for outcome in self.outcomes if outcome.attempts):
            return None
        return self._sum(lambda outcome: (outcome.cost_pico or 0) / PICO)

    def tokens(self, kind: str) -> Range:
        """Of all rows asked."""
        return self._sum(lambda outcome: getattr(outcome.usage or Usage(), kind))

    def duration_s(self, limit: float | None) -> float | None:
        """Of the rows still to be asked, so many at once."""
        asked = [outcome.latency_s for outcome in self.outcomes if outcome.attempts]
        return (
            None if limit is None or not asked else self.rest * fmean(asked) / min(limit, max(1, self.rest))
        )

    # -- from what they would ask

    def _over_all(self, value: Callable[[Request], float]) -> Range:
        """The sum over all rows of what each request says, from the rows that were looked at."""
        per_row = [sum(map(value, look.requests)) for look in self.looks]
        return estimate.total(per_row, self.asked) if self.asked > len(per_row) else _exactly(sum(per_row))

    def input_bound(self) -> Range | None:
        """From the texts of the requests: the interval of any tokenizer, and that of the rows looked at."""
        if not self.looks:
            return None
        low, likely, high = (self._over_all(lambda request, n=n: request.input_tokens[n]) for n in range(3))  # type: ignore[misc]
        return Range(low.low, likely.likely, high.high)

    def output_bound(self) -> Range | None:
        """The most that the requests allow; None where one names no maximum and none is known."""
        requests = [request for look in self.looks for request in look.requests]
        if not requests or any(request.most_output is None for request in requests):
            return None
        most = self._over_all(lambda request: request.most_output or 0)
        return Range(0.0, most.likely, most.high)

    def cost_bound(self, *, flex: bool = False) -> Range | None:
        """Between the input alone and what a budget would hold for all of it."""
        requests = [request for look in self.looks for request in look.requests]
        if not requests or any(_rates(one, flex) is None or _bound(one, flex) is None for one in requests):
            return None
        least = self._over_all(lambda request: _cost(request, request.input_tokens.low, 0, flex))
        likely = self._over_all(
            lambda request: _cost(request, request.input_tokens.likely, request.most_output or 0, flex)
        )
        most = self._over_all(lambda request: (_bound(request, flex) or 0) / PICO)
        return Range(least.low, likely.likely, most.high)

    def at_flex(self, cost: Range | None, *, ran: bool) -> Range | None:
        """The same at the flex tier."""
        requests = [request for look in self.looks for request in look.requests]
        if cost is None or not requests or any(request.flex is None for request in requests):
            return None
        if not ran:
            return self.cost_bound(flex=True)
        into, out = self.tokens("input_tokens").likely, self.tokens("output_tokens").likely
        live = sum(_cost(request, into, out, flex=False) for request in requests)
        return (
            cost * (sum(_cost(request, into, out, flex=True) for request in requests) / live)
            if live
            else cost
        )


def _exactly(number: float) -> Range:
    return Range(number, number, number)


def _rates(request: Request, flex: bool) -> Any:
    return request.flex if flex else request.rates


def _bound(request: Request, flex: bool) -> int | None:
    return request.flex_bound if flex else request.bound


def _is_free(request: Request) -> bool:
    return request.rates is not None and request.rates.free


def _cost(request: Request, into: float, out: float, flex: bool) -> float:
    """Dollars."""
    rates = _rates(request, flex)
    return float(rates.cost(Usage(round(into), round(out)))) / PICO


def _doubts(evidence: Evidence, found: Census) -> list[str]:
    """What could not be found out, and what to do."""
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
    """What keeps the requests from being bounded, and what the bound does not hold."""
    if unbounded := {one.model for one in requests if one.most_output is None and not _is_free(one)}:
        yield f"requests to {min(unbounded)} name no maximum of output tokens: set max_tokens on the model"
    elif reasons := {one.why_unbounded for one in requests if one.bound is None and one.rates is not None}:
        yield min(reasons)
    if requests:
        yield "only the first requests of each row are seen: what depends on an answer comes on top"
