"""Divides what a provider or a user allows among processes, by what each of them wants. No clock, no I/O.

Each process renews its rows about once a second. At its own renewal, a process with more than its fair share gives up
what is above the share, and a process with less takes only from what is free then. So the sum never exceeds the total,
even if some processes are slow or dead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

TTL_S: Final = 5.0  # a holder that did not renew for this long counts as dead
KEPT_S: Final = 60.0  # a dead row stays this long: its use may still count, and it may know a limit
TURN_S: Final = 10.0  # what cannot be divided evenly goes to other holders after this time
FULL: Final = 0.8  # from this used part of a share on, a holder with waiting requests wants more
SPARE: Final = 1.25  # a holder that needs no more keeps so many times what it uses
POOL: Final = b""  # stands as the holder of what nobody holds

# What was used of a minute, oldest first: (wall-clock time until which it counts, how much).
Parts: TypeAlias = "tuple[tuple[float, float], ...]"


class Row(NamedTuple):
    """The row of one holder for one key and unit.

    Attributes:
        holder: the holder's id; POOL for the free part of a learnt limit.
        amount: what this holder alone may use.
        least: the least it needs to make any progress; 0 if it is idle.
        want: what it could use.
        total: the most that all holders may use, as this one was told; 0 if the limit is learnt.
        firm: True: for a learnt limit, it is known that no more fits.
        expires: the wall-clock time until which it lives.
        used: of a minute, what it used and may use until it expires; () where its amount says all.
    """

    holder: bytes
    amount: float
    least: float
    want: float
    total: float
    firm: bool
    expires: float
    used: Parts = ()

    def taken(self, now: float) -> float:
        """Return what others must leave to it: all that it holds; once it is dead, what still counts of its minute."""
        if now < self.expires or not self.used:
            return self.amount
        return min(self.amount, sum(amount for until, amount in self.used if now < until))


def parts_used(before: Parts, more: float, used: float, now: float, counts_s: float) -> Parts:
    """Return the parts of a minute's use, which add up to what was used in the minute before.

    A part counts up to `TTL_S` longer than it has to. So they add up to too much as the first of them end, or where
    less was used than it seemed: that is taken from what ends first.

    Args:
        before: those of the last time.
        more: used since.
        used: in the minute before.
        now: wall clock.
        counts_s: how long anything counts after it was used.
    """
    parts = {until: amount for until, amount in before if now < until}
    until = (now // TTL_S + 1) * TTL_S + counts_s
    parts[until] = parts.get(until, 0.0) + more
    over = sum(parts.values()) - used
    for until, amount in parts.items():
        parts[until] = max(0.0, amount - max(0.0, over))
        over -= amount
    return tuple((until, amount) for until, amount in parts.items() if amount)


def wanted(used: float, least: float, amount: float, most: float, *, waits: bool) -> tuple[float, float]:
    """Return (least, want) of a holder.

    Args:
        used: how much of its amount it uses.
        least: what its next request needs.
        amount: what it holds.
        most: the most it could ever use.
        waits: True: some of its requests wait in line.
    """
    if waits and used + least >= FULL * amount:
        return min(least, most), most
    return (min(least, most), min(most, SPARE * used + least)) if used or waits else (0.0, 0.0)


def fair(needs: Sequence[tuple[bytes, float, float]], total: int, turn: int = 0) -> dict[bytes, int]:
    """Divide `total` into whole parts that add up to it.

    First each holder in turn gets the least it needs, while something is left. Then the parts grow evenly up to what
    each holder wants. What is left after that is divided evenly.

    Args:
        needs: (holder, least, want) of each holder.
        total: the amount to divide.
        turn: decides which holder comes first for what cannot be divided.
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
    """Raise all parts evenly, none above its most; return what is left."""
    while left and (lower := [holder for holder in parts if parts[holder] < most[holder]]):
        each = max(1, left // len(lower))
        for holder in lower[:left]:
            more = min(each, most[holder] - parts[holder])
            parts[holder] += more
            left -= more
    return left


def portion(rows: Sequence[Row], mine: Row, now: float) -> tuple[float, float]:
    """Return what this holder may use of a known total, and what would be its fair share.

    If holders were told different totals, the smallest counts. What a holder may have used in the last minute stays
    taken until a minute after that, even if the holder died.

    Args:
        rows: of this key and unit, as far as they still count.
        mine: this holder's need; its amount does not matter.
        now: wall clock.
    """
    others = [row for row in rows if row.holder != mine.holder and row.amount + row.want > 0]
    living = [row for row in others if now < row.expires]
    total = min([mine.total, *(row.total for row in living)])
    free = total - sum(row.taken(now) for row in others)
    if not others:
        return total, total
    part = fair(_needs([*living, mine]), int(total), int(now / TURN_S))[mine.holder]
    return max(0.0, min(part, free)), part


def _needs(rows: Sequence[Row]) -> list[tuple[bytes, float, float]]:
    return [(row.holder, row.least, row.want) for row in rows]


class Division(NamedTuple):
    """How a learnt limit is divided.

    Attributes:
        amount: what this holder holds from now on.
        pool: what nobody holds.
        total: everything that is known to fit.
        firm: True: it is known that no more fits.
        divided: True: `amount` bounds this holder. False: the holder follows what it learns itself.
    """

    amount: float
    pool: float
    total: float
    firm: bool
    divided: bool


def division(rows: Sequence[Row], mine: Row, owed: float, now: float, *, new: bool) -> Division:
    """Return what this holder may use of a limit that the holders learn. Each knows its part; the total is their sum.

    Before any holder was rejected, nothing is divided. A holder that comes when no other lives begins as if alone. Any
    holder may take what dead holders held.

    Args:
        rows: of this key and unit, as far as they still count.
        mine: this holder's row; its amount is what the holder knows to fit.
        owed: what it gave up but still uses.
        now: wall clock.
        new: True: it holds nothing yet.
    """
    others = [row for row in rows if row.holder not in (mine.holder, POOL) and now < row.expires]
    free = [row for row in rows if row.holder not in (mine.holder, *(row.holder for row in others))]
    pool = sum(row.amount for row in free)
    firm = any(row.firm and row.amount >= 1 for row in (*others, *free)) or mine.firm
    held, theirs = mine.amount, sum(row.amount for row in others)
    total = held + owed + pool + theirs
    if not firm or total < 1 or (new and not others):
        return Division(held, 0.0, held + theirs, firm=False, divided=False)
    part = fair(_needs([*others, mine]), int(total), int(now / TURN_S))[mine.holder]
    more = max(0.0, min(part - held, mine.want - held, pool))
    cedes = (held - part > 1 or part < 1) and any(row.want > row.amount for row in others)
    return Division(float(part) if cedes else held + more, pool - more, total, firm, divided=True)
