"""How processes divide what a provider or a user allows: to each its share, by what all of them want. No clock, no I/O.

Each process renews its rows about once a second. Whoever has more than its fair share cedes what is above it at its
own renewal; whoever has less takes of what is free then, and of nothing else. So the sum never exceeds the total,
however slow or dead some of them are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

TTL_S: Final = 5.0  # a holder that did not renew for so long is dead
KEPT_S: Final = (
    60.0  # so long after its end a row says what may still count against a minute, or what a dead one knew
)
TURN_S: Final = 10.0  # what cannot be divided evenly is others' turn after so long
FULL: Final = 0.8  # of a share that is used: somebody who waits would use more of it
SPARE: Final = 1.25  # times what is used, for whoever does not need more
POOL: Final = b""  # the holder of what nobody holds


class Row(NamedTuple):
    """One holder's row of one key and unit.

    Attributes:
        holder: who; POOL for what is free of a learnt limit.
        amount: what it may use, and nobody else.
        least: what it needs to do anything at all; 0 for one that is idle.
        want: what it could use.
        total: the most that all of them may use, as this one was told; 0 where that is learnt.
        firm: of a learnt limit: it is known that no more fits.
        expires: wall clock; it lives until then.
    """

    holder: bytes
    amount: float
    least: float
    want: float
    total: float
    firm: bool
    expires: float


def wanted(used: float, least: float, amount: float, most: float, *, waits: bool) -> tuple[float, float]:
    """(least, want) of a holder.

    Args:
        used: of its amount.
        least: what its next request needs.
        amount: what it holds.
        most: what it could ever use.
        waits: somebody is in line.
    """
    if waits and used + least >= FULL * amount:
        return min(least, most), most
    return (min(least, most), min(most, SPARE * used + least)) if used or waits else (0.0, 0.0)


def fair(needs: Sequence[tuple[bytes, float, float]], total: int, turn: int = 0) -> dict[bytes, int]:
    """Whole parts of `total` that add up to it.

    To each, in turn, the least it needs, as far as that goes; then evenly, up to what each wants; then evenly.

    Args:
        needs: (holder, least, want) of each.
        total: what there is.
        turn: who comes first where something cannot be divided.
    """
    order = sorted(needs)
    first = turn % len(order)
    order = order[first:] + order[:first]
    parts: dict[bytes, int] = {}
    left = total
    for holder, least, _ in order:
        parts[holder] = int(least) if least <= left else 0
        left -= parts[holder]
    left = _fill(parts, {holder: int(want) for holder, _, want in order}, left)
    _fill(parts, {holder: parts[holder] + left for holder in parts}, left)
    return parts


def _fill(parts: dict[bytes, int], most: dict[bytes, int], left: int) -> int:
    """Raise all parts evenly, none above its most; what is left then."""
    while left and (lower := [holder for holder in parts if parts[holder] < most[holder]]):
        each = max(1, left // len(lower))
        for holder in lower[:left]:
            more = min(each, most[holder] - parts[holder])
            parts[holder] += more
            left -= more
    return left


def portion(rows: Sequence[Row], mine: Row, now: float) -> tuple[float, float]:
    """What this holder may use of a total that is known, and what would be fair.

    Where holders were told different totals, the smallest counts. What a holder may have used in the last minute is
    not free before that minute is over, also where it died.

    Args:
        rows: of this key and unit, as far as they still count.
        mine: this holder's need; its amount does not matter.
        now: wall clock.
    """
    others = [row for row in rows if row.holder != mine.holder and row.amount + row.want > 0]
    living = [row for row in others if now < row.expires]
    total = min([mine.total, *(row.total for row in living)])
    free = total - sum(row.amount for row in others)
    if not others:
        return total, total
    part = fair(_needs([*living, mine]), int(total), int(now // TURN_S))[mine.holder]
    return max(0.0, min(part, free)), part


def _needs(rows: Sequence[Row]) -> list[tuple[bytes, float, float]]:
    return [(row.holder, row.least, row.want) for row in rows]


class Division(NamedTuple):
    """What becomes of a learnt limit.

    Attributes:
        amount: of this holder from now on.
        pool: what nobody holds.
        total: all that is known to fit.
        firm: it is known that no more does.
        divided: the amount bounds this holder; else it goes by what it learns itself.
    """

    amount: float
    pool: float
    total: float
    firm: bool
    divided: bool


def division(rows: Sequence[Row], mine: Row, owed: float, now: float, *, new: bool) -> Division:
    """What this holder may use of a limit that its holders learn: each knows its own part, and all parts are the total.

    Before anybody met resistance, nothing is divided, and who comes when nobody lives begins as if alone. What the
    dead held is anybody's who wants it.

    Args:
        rows: of this key and unit, as far as they still count.
        mine: this holder's row; its amount is what it knows to fit.
        owed: what it ceded and still uses.
        now: wall clock.
        new: it holds nothing yet.
    """
    others = [row for row in rows if row.holder not in (mine.holder, POOL) and now < row.expires]
    free = [row for row in rows if row.holder not in (mine.holder, *(row.holder for row in others))]
    pool = sum(row.amount for row in free)
    firm = any(row.firm and row.amount >= 1 for row in (*others, *free)) or mine.firm
    held, theirs = mine.amount, sum(row.amount for row in others)
    total = held + owed + pool + theirs
    if not firm or total < 1 or (new and not others):
        return Division(held, 0.0, held + theirs, firm=False, divided=False)
    part = fair(_needs([*others, mine]), int(total), int(now // TURN_S))[mine.holder]
    if part > held:
        more = max(0.0, min(part - held, mine.want - held, pool))
        return Division(held + more, pool - more, total, firm, divided=True)
    cedes = (held - part > 1 or part < 1) and any(row.want > row.amount for row in others)
    return Division(float(part) if cedes else held, pool, total, firm, divided=True)
