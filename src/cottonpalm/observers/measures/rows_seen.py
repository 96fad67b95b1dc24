"""Which rows stand out among any number of them: failed ones by kind, the slowest, the dearest. One pass, bounded."""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappush, heapreplace
from typing import TYPE_CHECKING, Final, NamedTuple

from cottonpalm.types import PICO

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cottonpalm.types import Try

TOP: Final = 10  # the slowest and the dearest rows
PLACES: Final = 200
TYPES: Final = 50  # types of errors that are told apart


class Glance(NamedTuple):
    """What is looked at of a row: where it is in the input, and how it went. `error`: kind, type and message."""

    at: int
    seconds: float
    cost_pico: int | None
    tokens: int
    tries: int
    error: tuple[str, str, str] | None = None


@dataclass(slots=True)
class KindSeen:
    """Rows that failed in one way: how many, and one of those whose message is the commonest."""

    rows: int = 0
    messages: dict[str, int] = field(default_factory=dict)
    examples: dict[str, Glance] = field(default_factory=dict)

    def add(self, row: Glance, type_: str) -> None:
        """Count one row."""
        self.rows += 1
        name = type_ if type_ in self.messages or len(self.messages) < TYPES else "other"
        self.messages[name] = self.messages.get(name, 0) + 1
        self.examples.setdefault(name, row)

    @property
    def example(self) -> Glance:
        """The first row of the commonest type."""
        return self.examples[max(self.messages, key=self.messages.__getitem__)]


class RowsSeen:
    """Add rows in any order, then read.

    `texts` may hold excerpts of the inputs of `shown` rows, by index; `tries` what the tries of failed ones met.
    """

    def __init__(self) -> None:
        self.ok = self.failed = self.tokens = 0
        self.cost_pico = 0
        self.cost_known = True
        self.kinds: dict[str, KindSeen] = {}
        self.texts: dict[int, str] = {}
        self.tries: dict[int, tuple[Try, ...]] = {}
        self._slow: list[tuple[float, int, Glance]] = []
        self._dear: list[tuple[float, int, Glance]] = []
        self.failed_at: list[int] = []
        self._last = 0

    def add(self, rows: Iterable[Glance]) -> RowsSeen:
        """Look at rows."""
        slow, dear = self._slow, self._dear
        for row in rows:
            at, seconds, cost, tokens, tries, error = row
            if error is None:
                self.ok += 1
            else:
                self._fail(row, error)
            self.tokens += tokens
            if cost is not None:
                self.cost_pico += cost
                if len(dear) < TOP or cost > dear[0][0]:
                    _keep(dear, cost, row)
            elif tries and (error is None or tokens):  # a row that was refused costs nothing
                self.cost_known = False
            self._last = max(self._last, at)
            if len(slow) < TOP or seconds > slow[0][0]:
                _keep(slow, seconds, row)
        return self

    def _fail(self, row: Glance, error: tuple[str, str, str]) -> None:
        self.failed += 1
        self.failed_at.append(row.at)
        self.kinds.setdefault(error[0], KindSeen()).add(row, error[1])

    @property
    def cost_usd(self) -> float | None:
        """What all cost; None where that is not known of each."""
        return self.cost_pico / PICO if self.cost_known else None

    @property
    def slowest(self) -> list[Glance]:
        """At most ten rows, the slowest first."""
        return [row for _, _, row in sorted(self._slow, reverse=True)]

    @property
    def dearest(self) -> list[Glance]:
        """At most ten rows, the dearest first."""
        return [row for _, _, row in sorted(self._dear, reverse=True) if row.cost_pico]

    @property
    def shown(self) -> set[int]:
        """Indices of the rows of which a text can be shown."""
        examples = (kind.example for kind in self.kinds.values())
        return {row.at for row in (*self.slowest, *self.dearest, *examples)}

    def places(self) -> list[int]:
        """Failed rows by their place in the input: 200 stretches of equal length."""
        counts = [0] * PLACES
        for index in self.failed_at:
            counts[index * PLACES // self.length] += 1
        return counts

    @property
    def length(self) -> int:
        """Of the input, as far as it was seen."""
        return self._last + 1

    @property
    def rows(self) -> int:
        """All that were looked at."""
        return self.ok + self.failed


def _keep(top: list[tuple[float, int, Glance]], value: float, row: Glance) -> None:
    """Among the highest; of equal ones the first rows stay."""
    if len(top) < TOP:
        heappush(top, (value, -row.at, row))
    else:
        heapreplace(top, (value, -row.at, row))
