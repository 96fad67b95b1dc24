"""What the rows of a run came to: counted many at once, which is far cheaper than one by one."""

from __future__ import annotations

from heapq import heappush, heapreplace
from typing import TYPE_CHECKING

from cottonpalm.observers.measures.models_asked import REST
from cottonpalm.observers.measures.reported import TopRow
from cottonpalm.observers.measures.rows_seen import TOP, TYPES
from cottonpalm.observers.measures.sizes_and_repeats import RepeatedRows, Sizes, number_of
from cottonpalm.types import PICO, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cottonpalm.observers.measures.course import Course
    from cottonpalm.types import Item, Outcome


class RowsEnded:
    """Add rows as they have ended, then read.

    Args:
        course: is told how many ended, what they used and what was paid for them.

    Attributes:
        done: rows that were answered or failed; `failed` are those that failed, `skipped` all others.
        hits: rows that the cache answered; `coalesced`: those of them that waited for an equal row's answer.
        retries: calls of a chain after a row's first.
        asked: rows of `done` that called a chain; `elsewhere`: those of them that did not go live, or not in all;
            `elsewhere_pico`: what these cost.
        cost_pico: of all rows; of it, `failed_pico` of failed ones, `left_pico` of those that were left amid their
            requests, and `estimated_pico` of `estimated` rows.
        cost_known: it is known of each.
        errors: failed rows by kind and type.
    """

    def __init__(self, course: Course) -> None:
        self._course = course
        self.done = self.failed = self.skipped = self.hits = self.coalesced = self.retries = 0
        self.asked = self.elsewhere = self.elsewhere_pico = 0
        self.cost_pico = self.failed_pico = self.left_pico = self.estimated_pico = self.estimated = 0
        self.cost_known = True
        self.errors: dict[str, dict[str, int]] = {}
        self.sizes, self.repeats = Sizes(), RepeatedRows()
        self._tokens = [0, 0, 0, 0, 0]
        self._slowest: list[tuple[float, int, str | None]] = []
        self._dearest: list[tuple[float, int, str | None]] = []

    def add(self, rows: Iterable[tuple[float, Item, Outcome]]) -> tuple[list[float], list[float]]:
        """Count rows, each with when it ended; return how long each took, and how long it waited before."""
        took_s: list[float] = []
        queued_s: list[float] = []
        slowest = self._slowest
        for ended_s, item, outcome in rows:
            status, latency_s = outcome.status, outcome.latency_s
            if status == "skipped":
                self._skip(outcome)
                continue
            took_s.append(latency_s)
            queued_s.append(ended_s - latency_s - item.arrived_s)
            if status != "ok":
                self._fail(outcome)
            elif outcome.cached:
                self.hits += 1
                self.coalesced += item.answer is not None
            if item.calls > 1:
                self.retries += item.calls - 1
            if outcome.attempts:
                self._used(item, outcome)
            if len(slowest) < TOP or latency_s > slowest[0][0]:
                _keep(slowest, latency_s, outcome)
        self.done += len(took_s)
        self._course.rows += len(took_s)
        return took_s, queued_s

    @property
    def usage(self) -> Usage:
        """Tokens of all rows."""
        return Usage(*self._tokens)

    @property
    def slowest(self) -> tuple[TopRow, ...]:
        """At most ten rows and their seconds, the slowest first."""
        return _top(self._slowest, 1.0)

    @property
    def dearest(self) -> tuple[TopRow, ...]:
        """At most ten rows and their dollars, the dearest first."""
        return _top(self._dearest, 1 / PICO)

    def _skip(self, outcome: Outcome) -> None:
        self.skipped += 1
        if outcome.attempts:  # it was left amid its requests
            self._spent(outcome)
            self.left_pico += outcome.cost_pico or 0

    def _fail(self, outcome: Outcome) -> None:
        self.failed += 1
        if (error := outcome.error) is None:
            return
        types = self.errors.setdefault(str(error.kind), {})
        name = error.type if error.type in types or len(types) < TYPES else REST
        types[name] = types.get(name, 0) + 1

    def _used(self, item: Item, outcome: Outcome) -> None:
        used, cost = self._spent(outcome), outcome.cost_pico or 0
        self.asked += 1
        if outcome.lane != "live":
            self.elsewhere += 1
            self.elsewhere_pico += cost
        self.sizes.add(used, outcome.latency_s, cost)
        if outcome.status == "failed":
            self.failed_pico += cost
        elif (number := number_of(item.question or item.content, item.row)) is not None:
            self.repeats.add(number, cost)
        if cost and (len(self._dearest) < TOP or cost > self._dearest[0][0]):
            _keep(self._dearest, cost, outcome)

    def _spent(self, outcome: Outcome) -> int:
        """Count what a row's requests used and cost, and return its tokens."""
        usage, cost = outcome.usage, outcome.cost_pico
        if cost:
            self.cost_pico += cost
            self._course.cost_pico += cost
            if outcome.cost_source == "estimated":
                self.estimated_pico += cost
                self.estimated += 1
        elif cost is None and (usage is not None or outcome.status == "ok"):
            self.cost_known = False  # a row that was refused costs nothing
        if usage is None:
            return 0
        tokens = self._tokens
        tokens[0] += usage.input_tokens
        tokens[1] += usage.output_tokens
        tokens[2] += usage.cache_read_tokens
        tokens[3] += usage.cache_write_tokens
        tokens[4] += usage.reasoning_tokens
        used = usage.input_tokens + usage.output_tokens
        self._course.tokens += used
        return used


def _keep(rows: list[tuple[float, int, str | None]], value: float, outcome: Outcome) -> None:
    entry = (value, outcome.index, outcome.id)
    if len(rows) < TOP:
        heappush(rows, entry)
    else:
        heapreplace(rows, entry)


def _top(rows: list[tuple[float, int, str | None]], unit: float) -> tuple[TopRow, ...]:
    ordered = sorted(rows, key=lambda row: (-row[0], row[1]))
    return tuple(TopRow(index, id_, value * unit) for value, index, id_ in ordered)
