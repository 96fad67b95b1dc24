"""Which rows may still go through batches when all of them are to be done by a deadline: pure decisions.

Rows go out in batches as long as they could still be done live afterwards. From the moment on at which that would be
tight, batches are pulled back: one at a time, the one with the most left first, as many as keep the live lane at work
while the next one is being cancelled. What a batch has done by then is kept.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cottonpalm.providers.batches.stages import Batch

SLOWER: Final = 1.15  # the live lane may be so much slower than it was
TAIL: Final = 2.0  # times a row's usual time, for the last ones
LIKELY: Final = 0.1  # of the past batches came back in time: then it is tried, which costs nothing
SURE: Final = 0.9  # the same where a cancel may lose answers that are paid for
FEWEST: Final = 50  # rows in a batch
DOUBLED: Final = 20  # after so many batches they become twice as large, so that a run never has too many
# Providers that may not give back what a cancelled batch has done.
LOSES_ON_CANCEL: Final = frozenset({"gemini"})


class Live(NamedTuple):
    """How fast rows are answered live: rows in a second, seconds for one row."""

    rows_per_s: float
    row_s: float


class Sent(NamedTuple):
    """A batch that is out.

    Attributes:
        tag: its own.
        rows: in it.
        left: those that are still to be answered.
        cancelling_s: seconds since it was asked to stop; None: it was not.
    """

    tag: str
    rows: int
    left: int
    cancelling_s: float | None = None


class Past(NamedTuple):
    """How long a batch took; `ended` False: it was cancelled by then, so it would have taken longer."""

    seconds: float
    ended: bool


def reserve_s(rows: int, live: Live, cancel_s: float) -> float:
    """Return how long it takes to get so many rows back, and to do them live."""
    if not rows:
        return 0.0
    return SLOWER * rows / live.rows_per_s + TAIL * live.row_s + cancel_s


def wants_live(left_s: float, rows: int, going_live: int, live: Live, cancel_s: float) -> bool:
    """Whether a further row has to go live now.

    Args:
        left_s: until the deadline.
        rows: that are not answered yet, in any lane.
        going_live: those of them that are live, or are being pulled back.
        live: how fast that lane is.
        cancel_s: how long a provider may take to cancel a batch.
    """
    if left_s > reserve_s(rows, live, cancel_s):
        return False
    last_chance = left_s <= reserve_s(rows - going_live, live, cancel_s)
    fed = going_live / live.rows_per_s >= cancel_s + live.row_s
    return last_chance or not fed


def to_cancel(
    left_s: float, going_live: int, sent: Iterable[Sent], live: Live, cancel_s: float, *, waiting: int = 0
) -> list[str]:
    """Return the batches to pull back now, by tag.

    Until a batch is over, all of its rows may have to be done live: its cancel may hang, and then nothing comes back.

    Args:
        left_s: until the deadline.
        going_live: rows that are live, without those of batches that are being cancelled.
        sent: all batches that are out.
        live: how fast the live lane is.
        cancel_s: how long a provider may take to cancel a batch.
        waiting: rows that are not answered, neither live nor in one of these batches.
    """
    sent = list(sent)
    rows = going_live + waiting + sum(batch.rows for batch in sent)
    going_live += sum(batch.rows for batch in sent if batch.cancelling_s is not None)
    tags = []
    for batch in sorted(sent, key=lambda batch: -batch.left):
        if batch.cancelling_s is None and wants_live(left_s, rows, going_live, live, cancel_s):
            tags.append(batch.tag)
            going_live += batch.rows
    return tags


def to_give_up(
    left_s: float, going_live: int, sent: Iterable[Sent], live: Live, cancel_s: float
) -> list[str]:
    """Return the batches whose rows can wait no longer for the end of their cancel: they may be paid twice."""
    sent = list(sent)
    late = [batch for batch in sent if batch.cancelling_s is not None and batch.cancelling_s >= cancel_s]
    tight = left_s <= reserve_s(going_live + sum(batch.rows for batch in sent), live, cancel_s)
    return [batch.tag for batch in late] if tight else []


def worth_a_batch(
    left_s: float, rows: int, live: Live, cancel_s: float, past: Sequence[Past], *, loses: bool
) -> bool:
    """Whether a batch that is submitted now may come back before it would be pulled back.

    Args:
        left_s: until the deadline.
        rows: that are not answered yet.
        live: how fast the live lane is.
        cancel_s: how long a provider may take to cancel a batch.
        past: this account's batches of that model.
        loses: a cancel may lose what is paid for.
    """
    time_s = left_s - reserve_s(rows, live, cancel_s)
    if time_s <= 0:
        return False
    takes_s = quantile(past, SURE if loses else LIKELY)
    if takes_s is None:  # nothing is known: then only a try that cannot be paid twice
        return not loses
    return takes_s <= time_s


def rows_in_a_batch(live: Live, cancel_s: float, made: int) -> int:
    """Return how many rows to put into one batch: what the live lane does while one is cancelled."""
    return max(FEWEST, math.ceil(live.rows_per_s * cancel_s)) << (made // DOUBLED)


def quantile(past: Sequence[Past], share: float) -> float | None:
    """Return the seconds after which this share of batches had ended; None: nothing is known, inf: too few ended.

    Those that were cancelled count as long as they ran (Kaplan and Meier 1958).
    """
    if not any(one.ended for one in past):
        return None
    at_risk, surviving = len(past), 1.0
    for seconds in sorted({one.seconds for one in past}):
        ones = [one for one in past if one.seconds == seconds]
        surviving *= 1 - sum(one.ended for one in ones) / at_risk
        at_risk -= len(ones)
        if 1 - surviving >= share - 1e-9:  # rounding
            return seconds
    return math.inf


def expected_s(age_s: float, rows: int, done: int, past: Sequence[Past]) -> float | None:
    """Return how long a batch that is out will still take; None: nothing tells.

    Args:
        age_s: seconds since it was sent.
        rows: in it.
        done: those that are answered, where the provider counts them meanwhile.
        past: how long others took.
    """
    if 0 < done < rows:
        return age_s * (rows - done) / done
    slower = [one for one in past if one.seconds > age_s]
    takes_s = quantile(slower, 0.5)
    return None if takes_s is None or math.isinf(takes_s) else takes_s - age_s


def turnarounds(batches: Iterable[Batch], provider: str, model: str) -> list[Past]:
    """Return how long past batches took: those of the model, else those of its provider."""
    ours = [batch for batch in batches if batch.lane.provider == provider and batch.sent_at is not None]
    same = [batch for batch in ours if batch.lane.model == model]
    found = [_past(batch) for batch in same or ours]
    return [one for one in found if one is not None]


def _past(batch: Batch) -> Past | None:
    at = batch.ended_at or batch.cancelled_at
    if batch.sent_at is None or at is None or batch.state is None or batch.state.faults:
        return None
    if batch.cancelled_at is not None:
        return Past(max(0.0, batch.cancelled_at - batch.sent_at), ended=False)
    return Past(max(0.0, at - batch.sent_at), ended=batch.state.done > 0)


class LivePace:
    """Learns how fast the live lane is, from the rows that it has done."""

    def __init__(self) -> None:
        self._seconds: list[float] = []
        self._ends: list[float] = []

    @property
    def known(self) -> bool:
        """Whether any row was done live."""
        return bool(self._seconds)

    def done(self, now: float, seconds: float) -> None:
        """A row was done live, at `now`, and took so long."""
        self._seconds = [*self._seconds[-_KEPT:], seconds]
        self._ends = [*self._ends[-_KEPT:], now]

    def starved(self) -> None:
        """The live lane had nothing to do: how much it did then says nothing of how much it can do."""
        self._ends = []

    def live(self, in_flight: float, most_per_s: float) -> Live:
        """Return how fast it is.

        Args:
            in_flight: rows that may run at once.
            most_per_s: rows in a second that known limits allow.
        """
        row_s = sorted(self._seconds)[len(self._seconds) * 9 // 10] if self._seconds else _UNKNOWN_S
        row_s = max(row_s, 1e-3)
        if len(self._ends) > _MEASURED and (took := self._ends[-1] - self._ends[0]) > row_s:
            return Live((len(self._ends) - 1) / took, row_s)
        return Live(max(1e-6, min(most_per_s, in_flight / row_s)), row_s)


_KEPT: Final = 200
_MEASURED: Final = 20  # rows that have to be done before it counts how many were
_UNKNOWN_S: Final = 30.0  # for a row of which nothing is known
