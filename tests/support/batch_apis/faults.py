"""What may go wrong with a batch, chosen for each one when it is made."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from random import Random


@dataclass(slots=True)
class Faults:
    """How one batch fares. Rows are numbered from 0.

    Args:
        looks: it ends at this look (GET of the batch), each one bringing it on evenly.
        turnaround_s: it ends so long after it was made, instead.
        cancel_looks: looks (or, with `turnaround_s`, seconds) from the request to cancel it to its end.
        expire: it expires with this share of its rows done (Gemini: with none, as it gives nothing back then).
        refused: rows answered with `refused_as`.
        broken: rows answered with 500.
        all_refused: every row is answered with `refused_as`, so that there is no file of answers.
        missing: rows that are not executed, and of which nothing comes back.
        twice: rows that come back twice.
        foreign: the first result that comes back is of another batch.
        shuffle: the results are in this random order.
        invalid: the whole of it fails in validation, with this code, naming the first line.
        gone: its results are no longer kept once it has ended.
        late: so many looks after its end it does not yet say where its answers are.
        hidden: so many listings do not show it.
        hidden_s: no listing shows it for so long.
        lose: the answer to the request that makes it is lost "before" it is made, or "after".
    """

    looks: int = 2
    turnaround_s: float | None = None
    cancel_looks: float = 1
    expire: float | None = None
    refused: frozenset[int] = frozenset()
    broken: frozenset[int] = frozenset()
    all_refused: bool = False
    refused_as: int = 400
    missing: frozenset[int] = frozenset()
    twice: frozenset[int] = frozenset()
    foreign: bool = False
    shuffle: int | None = None
    invalid: str | None = None
    gone: bool = False
    late: int = 0
    hidden: int = 0
    hidden_s: float = 0.0
    lose: Literal["before", "after"] | None = None


@dataclass(slots=True)
class Weather:
    """What the server does to requests that are no batches.

    Args:
        reads: statuses of the next GETs, in order; 0 answers as usual.
        creates: statuses of the next requests that would make a batch, which is then not made.
        cut: so many of the next downloads of results break off half way.
        short: so many of the next downloads of results are half as long, and nothing tells it.
        fewer: so many of the next downloads of results lack half of their lines, likewise.
    """

    reads: list[int] = field(default_factory=list)
    creates: list[int] = field(default_factory=list)
    cut: int = 0
    short: int = 0
    fewer: int = 0


def by_chance(rng: Random, rows: int, base: Faults | None = None) -> Faults:
    """Some of everything. Deterministic for a seed."""
    base = base or Faults()
    some = lambda share: frozenset(n for n in range(rows) if rng.random() < share)  # noqa: E731
    return replace(
        base,
        looks=rng.randint(1, 5),
        expire=rng.random() if rng.random() < 0.2 else None,
        refused=some(0.02),
        broken=some(0.05),
        missing=some(0.03),
        twice=some(0.05),
        shuffle=rng.getrandbits(32) if rng.random() < 0.7 else None,
        invalid="invalid_request" if rng.random() < 0.05 else None,
        hidden_s=rng.choice((0.0, 0.0, 0.005, 0.02)),
        lose=rng.choice((None, None, None, "before", "after")),
    )
