"""What a run will have cost at its end, and how far its budget takes it. No clock."""

from __future__ import annotations

from typing import Final

FROM: Final = 0.02  # of the rows are done: from there on what all will cost is told


def at_the_end(cost: float, done: int, stored: int, total: int | None) -> float | None:
    """What a process will have spent when all is done, at the price of its rows so far; None while these are too few.

    Args:
        cost: what its rows have cost.
        done: rows that are, those included that were found done.
        stored: those; whatever they cost, it is not part of `cost`.
        total: rows in all.
    """
    here, its = done - stored, (total or 0) - stored
    return cost * its / here if 0 < here < its and here >= FROM * its else None


def enough_for(unspent: float, cost: float, done: int, stored: int, total: int | None) -> int | None:
    """After how many rows in all the budget will be spent; None where it is enough for all, as far as is known.

    Args:
        unspent: what the budget still holds.
        cost: see `at_the_end`, as for all that follows.
        done: rows that are.
        stored: of them, those that were found done.
        total: rows in all.
    """
    whole = at_the_end(cost, done, stored, total)
    if not whole or whole - cost <= unspent:
        return None
    return done + round((done - stored) * max(0.0, unspent) / cost)
