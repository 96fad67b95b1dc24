"""Measures a run as it goes: cheap enough to be always on, bounded in memory however many rows there are."""

from __future__ import annotations

import threading
from heapq import heappush, heapreplace
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from cottonpalm import clock
from cottonpalm.observers.measures.course import Course
from cottonpalm.observers.measures.models_asked import REST, ModelsAsked
from cottonpalm.observers.measures.reported import BatchUse, Counts, Money, Spread, StepUse, TopRow
from cottonpalm.observers.measures.rows_seen import TOP, TYPES
from cottonpalm.observers.measures.sizes_and_repeats import RepeatedRows, Sizes, number_of
from cottonpalm.observers.report import Report
from cottonpalm.observers.values import Values
from cottonpalm.observers.words.bottleneck import bound_by
from cottonpalm.types import PICO, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cottonpalm.stats import PromptUse
    from cottonpalm.types import Bottleneck, Item, Outcome

Wait: TypeAlias = Literal["queue", "permit", "pause", "backoff", "call", "first", "store", "warm"]
WAITS: Final[tuple[Wait, ...]] = ("queue", "permit", "pause", "backoff", "call", "first", "store", "warm")
STEPS: Final = 50
LOOK_EVERY_S: Final = 0.05
IDLE: Final[tuple[Bottleneck, ...]] = ("held", "reader", "source")  # nobody's fault but those outside
GROUP: Final = 32  # so are rows: many at once are far cheaper


class Look(NamedTuple):
    """One look at the run: what holds more rows back and why, how many requests may be (if known) and are in flight."""

    state: Bottleneck
    limit: float | None
    in_flight: int
    why: str = ""


class Besides(NamedTuple):
    """What a report says besides what was measured: the run knows it.

    Attributes:
        total: rows that the run was given; None: not known.
        stored: rows that were found done.
        saved_usd: by the cache; None: not known.
        budget_usd: what may be spent; None without a bound.
        uncertain_usd: the most that is charged besides what rows cost.
        prompts: what the prompts to each model had in common.
        has_batches: whether a model (host and name) has a Batch API; None: the run could not have gone through one.
        transports: model calls by transport.
        over: the run is.
        stopped: why it ended before its rows did; None: it did not.
    """

    total: int | None
    stored: int
    saved_usd: float | None
    budget_usd: float | None
    uncertain_usd: float
    prompts: Mapping[str, PromptUse]
    has_batches: Callable[[str], bool] | None
    transports: Mapping[str, int]
    over: bool
    stopped: str | None


class Profiler:
    """Fed by the engine (rows, on its loop) and by the request level (requests, from any thread). Changes nothing.

    Args:
        look: looks at the run; called a few times a second.
        cached: there is a cache, so rows that are asked are misses.
    """

    def __init__(self, look: Callable[[], Look], *, cached: bool) -> None:
        self._look, self._cached = look, cached
        self._began, self._cpu = clock.now(), clock.cpu()
        self._ended: float | None = None
        self._looked = self._began
        self._states_s: dict[Bottleneck, float] = {}
        self._whys: dict[Bottleneck, str] = {}  # the latest of each
        self._course, self._sizes, self._repeats = Course(), Sizes(), RepeatedRows()
        self._ended_rows: list[tuple[float, Item, Outcome]] = []  # when, of rows that are not counted yet
        self._counts = threading.Lock()
        self._latency = Values()
        self._waits = {name: Values() for name in WAITS}
        self._errors: dict[str, dict[str, int]] = {}
        self._models = ModelsAsked()
        self._tokens = [0, 0, 0, 0, 0]
        self._cost_pico, self._cost_known = 0, True
        self._failed_pico = self._left_pico = self._failed_tries_pico = 0
        self._estimated_pico = self._estimated = 0
        self._ok = self._failed = self._skipped = self._hits = self._coalesced = 0
        self._retries = self._restarts = self._hedges = self._overtaken = 0
        self._live_rows = self._live_pico = 0  # what did not go through the batch lane
        self._steps: dict[str, tuple[int, float]] = {}
        self._slowest: list[tuple[float, int, str | None]] = []
        self._dearest: list[tuple[float, int, str | None]] = []
        self._lock = threading.Lock()

    # -- rows, on the run's loop

    def row(self, item: Item, outcome: Outcome) -> None:
        """A row of this run has ended."""
        now, ended = clock.now(), self._ended_rows
        ended.append((now, item, outcome))
        if len(ended) >= GROUP:
            self._count()
        if now - self._looked >= LOOK_EVERY_S:
            self._look_at(now)

    def _count(self) -> None:
        """Count the rows that have ended since it was last called. From any thread."""
        with self._counts:
            now = len(self._ended_rows)  # others may be added meanwhile, at the end
            for ended_s, item, outcome in self._ended_rows[:now]:
                self._count_row(ended_s, item, outcome)
            del self._ended_rows[:now]

    def _count_row(self, ended_s: float, item: Item, outcome: Outcome) -> None:
        if outcome.status == "skipped":
            self._skipped += 1
            if outcome.attempts:  # it was left amid its requests
                self._spent(outcome)
                self._left_pico += outcome.cost_pico or 0
            return
        latency_s = outcome.latency_s
        self._latency.note(latency_s)
        self._waits["queue"].note(ended_s - latency_s - item.arrived_s)
        self._course.rows += 1
        if outcome.status == "ok":
            self._ok += 1
            if outcome.cached:
                self._hits += 1
                self._coalesced += item.answer is not None
        else:
            self._failed += 1
            self._error(outcome)
        if item.calls > 1:
            self._retries += item.calls - 1
        if outcome.attempts:
            self._used(item, outcome)
        if len(self._slowest) < TOP or latency_s > self._slowest[0][0]:
            _keep(self._slowest, latency_s, outcome)

    def look(self) -> None:
        """Some time has passed, whether rows ended in it or not."""
        self._look_at(clock.now())

    def restarted(self) -> None:
        """A streamed row starts over."""
        self._restarts += 1

    def _spent(self, outcome: Outcome) -> int:
        """Count what a row's requests used and cost, and return its tokens."""
        used = 0
        if (usage := outcome.usage) is not None:
            tokens = self._tokens
            tokens[0] += usage.input_tokens
            tokens[1] += usage.output_tokens
            tokens[2] += usage.cache_read_tokens
            tokens[3] += usage.cache_write_tokens
            tokens[4] += usage.reasoning_tokens
            used = usage.input_tokens + usage.output_tokens
            self._course.tokens += used
        if outcome.cost_pico:
            self._paid(outcome.cost_pico, estimated=outcome.cost_source == "estimated")
        elif outcome.cost_pico is None and (usage is not None or outcome.status == "ok"):
            self._cost_known = False  # a row that was refused costs nothing
        return used

    def _used(self, item: Item, outcome: Outcome) -> None:
        used, cost = self._spent(outcome), outcome.cost_pico or 0
        if outcome.lane == "live":
            self._live_rows += 1
            self._live_pico += cost
        self._sizes.add(used, outcome.latency_s, cost)
        if outcome.status == "failed":
            self._failed_pico += cost
        elif (number := number_of(item.question or item.content, item.row)) is not None:
            self._repeats.add(number, cost)
        if cost and (len(self._dearest) < TOP or cost > self._dearest[0][0]):
            _keep(self._dearest, cost, outcome)

    def _paid(self, cost_pico: int, *, estimated: bool) -> None:
        self._cost_pico += cost_pico
        self._course.cost_pico += cost_pico
        if estimated:
            self._estimated_pico += cost_pico
            self._estimated += 1

    def _error(self, outcome: Outcome) -> None:
        if (error := outcome.error) is None:
            return
        types = self._errors.setdefault(str(error.kind), {})
        name = error.type if error.type in types or len(types) < TYPES else REST
        types[name] = types.get(name, 0) + 1

    def _look_at(self, now: float) -> None:
        seen = self._look()
        self._count()
        with self._lock:  # whoever asks for the report may be on another thread
            before, self._looked = self._looked, now
            self._states_s[seen.state] = self._states_s.get(seen.state, 0.0) + now - before
            if seen.why:
                self._whys[seen.state] = seen.why
            began = self._began
            self._course.look(before - began, now - began, seen.state, seen.limit, seen.in_flight)
        for values in (self._latency, *self._waits.values()):
            values.counted()

    # -- requests and waits, from any thread

    def request(
        self,
        model: str,
        seconds: float | None,
        usage: Usage | None,
        cost_pico: int | None,
        *,
        ok: bool,
        flex: bool = False,
    ) -> None:
        """See `protocols.Measure`."""
        if seconds is not None:
            self._waits["call"].note(seconds)
        with self._lock:
            self._models.add(model, usage, cost_pico, ok=ok, flex=flex)
            if not ok:
                self._course.failed_tries += 1
                self._failed_tries_pico += cost_pico or 0

    def retried(self) -> None:
        """See `protocols.Measure`."""
        with self._lock:
            self._retries += 1

    def hedged(self) -> None:
        """A copy of a late request was sent."""
        with self._lock:
            self._hedges += 1

    def overtaken(self) -> None:
        """See `protocols.Measure`."""
        with self._lock:
            self._overtaken += 1

    def stepped(self, steps: Mapping[str, tuple[int, float]]) -> None:
        """See `protocols.Measure`."""
        with self._lock:
            for name, (calls, seconds) in steps.items():
                known = name if name in self._steps or len(self._steps) < STEPS else REST
                before, before_s = self._steps.get(known, (0, 0.0))
                self._steps[known] = before + calls, before_s + seconds

    def waited(self, what: Wait, seconds: float) -> None:
        """Somebody has waited so long."""
        values = self._waits[what]
        values.note(seconds)
        if values.many:
            values.counted()

    # -- what it came to

    def end(self) -> None:
        """The run is over: time stands still from here on."""
        if self._ended is None:
            self._ended = clock.now()

    def report(self, besides: Besides) -> Report:
        """All of it, so far, from any thread."""
        self._count()
        with self._lock:
            return self._report(besides)

    def _report(self, besides: Besides) -> Report:
        now = self._ended if self._ended is not None else clock.now()
        wall_s, done = max(0.0, now - self._began), self._ok + self._failed
        states_s = dict(self._states_s)
        idle_s = sum(states_s.get(state, 0.0) for state in IDLE)
        cost_usd = self._cost_pico / PICO if self._cost_known else None
        waits = {name: values.counted() for name, values in self._waits.items()}
        return Report(
            counts=self._counted(besides.stored),
            wall_s=wall_s,
            active_s=max(0.0, wall_s - idle_s),
            rows_per_s=done / wall_s if wall_s else 0.0,
            row_latency_s=Spread.of(self._latency.counted()),
            request_latency_s=Spread.of(waits["call"]),
            waits_s={name: Spread.of(seen) for name, seen in waits.items()},
            over_time=self._course.moments(wall_s),
            errors={kind: _by_count(types) for kind, types in sorted(self._errors.items())},
            usage=Usage(*self._tokens),
            cost_usd=cost_usd,
            cost_per_row_usd=cost_usd / done if cost_usd is not None and done else None,
            by_model=self._models.uses(),
            slowest=_top(self._slowest, 1.0),
            dearest=_top(self._dearest, 1 / PICO),
            bound_by=bound_by(
                states_s,
                wall_s,
                clock.cpu() - self._cpu,
                self._look().limit or 0.0,
                dict(self._whys),
                seen=self._models.requests > 0,
            ),
            bound_s={state: seconds for state, seconds in sorted(states_s.items()) if state},
            sizes=self._sizes.classes(),
            repeats=self._repeats.counted(),
            steps=_steps(self._steps),
            money=self._money(besides),
            prompts=besides.prompts,
            batch=self._for_batches(besides.has_batches),
            transports=besides.transports,
            total=besides.total,
            over=besides.over,
            stopped=besides.stopped,
        )

    def _counted(self, stored: int) -> Counts:
        asked = self._ok + self._failed - self._hits
        return Counts(
            ok=self._ok,
            failed=self._failed,
            skipped=self._skipped,
            stored=stored,
            cached=self._hits,
            cache_misses=asked if self._cached else 0,
            coalesced=self._coalesced,
            requests=self._models.requests,
            retries=self._retries,
            restarts=self._restarts,
            hedges=self._hedges,
            overtaken=self._overtaken,
        )

    def _money(self, besides: Besides) -> Money:
        return Money(
            ok_usd=(self._cost_pico - self._failed_pico - self._left_pico) / PICO,
            failed_usd=self._failed_pico / PICO,
            left_usd=self._left_pico / PICO,
            failed_tries_usd=self._failed_tries_pico / PICO,
            saved_usd=besides.saved_usd,
            budget_usd=besides.budget_usd,
            estimated_usd=self._estimated_pico / PICO,
            estimated_rows=self._estimated,
            uncertain_usd=besides.uncertain_usd,
        )

    def _for_batches(self, has_batches: Callable[[str], bool] | None) -> BatchUse:
        if has_batches is None:
            return BatchUse()
        return self._models.for_batches(has_batches, self._live_rows, self._live_pico)


def _steps(seen: Mapping[str, tuple[int, float]]) -> tuple[StepUse, ...]:
    ordered = sorted(seen.items(), key=lambda pair: (-pair[1][1], pair[0]))
    return tuple(StepUse(name, calls, seconds) for name, (calls, seconds) in ordered)


def _keep(rows: list[tuple[float, int, str | None]], value: float, outcome: Outcome) -> None:
    entry = (value, outcome.index, outcome.id)
    if len(rows) < TOP:
        heappush(rows, entry)
    else:
        heapreplace(rows, entry)


def _top(rows: list[tuple[float, int, str | None]], unit: float) -> tuple[TopRow, ...]:
    ordered = sorted(rows, key=lambda row: (-row[0], row[1]))
    return tuple(TopRow(index, id_, value * unit) for value, index, id_ in ordered)


def _by_count(types: dict[str, int]) -> dict[str, int]:
    return dict(sorted(types.items(), key=lambda pair: (-pair[1], pair[0])))
