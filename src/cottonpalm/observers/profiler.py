"""Measures a run as it goes: cheap enough to be always on, bounded in memory however many rows there are."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from cottonpalm import clock
from cottonpalm.observers.measures.course import Course
from cottonpalm.observers.measures.models_asked import REST, ModelsAsked
from cottonpalm.observers.measures.reported import BatchUse, Counts, Money, Spread, StepUse
from cottonpalm.observers.measures.rows_ended import RowsEnded
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
        self._course = Course()
        self._rows = RowsEnded(self._course)
        self._ended_rows: list[tuple[float, Item, Outcome]] = []  # when, of rows that are not counted yet
        self._counts = threading.Lock()
        self._latency = Values()
        self._waits = {name: Values() for name in WAITS}
        self._models = ModelsAsked()
        self._failed_tries_pico = 0
        self._retries = self._restarts = self._hedges = self._overtaken = 0
        self._steps: dict[str, tuple[int, float]] = {}
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
            took_s, queued_s = self._rows.add(self._ended_rows[:now])
            del self._ended_rows[:now]
        self._latency.note_all(took_s)
        self._waits["queue"].note_all(queued_s)

    def look(self) -> None:
        """Some time has passed, whether rows ended in it or not."""
        self._look_at(clock.now())

    def restarted(self) -> None:
        """A streamed row starts over."""
        self._restarts += 1

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
        wall_s, rows = max(0.0, now - self._began), self._rows
        states_s = dict(self._states_s)
        idle_s = sum(states_s.get(state, 0.0) for state in IDLE)
        cost_usd = rows.cost_pico / PICO if rows.cost_known else None
        waits = {name: values.counted() for name, values in self._waits.items()}
        return Report(
            counts=self._counted(besides.stored),
            wall_s=wall_s,
            active_s=max(0.0, wall_s - idle_s),
            rows_per_s=rows.done / wall_s if wall_s else 0.0,
            row_latency_s=Spread.of(self._latency.counted()),
            request_latency_s=Spread.of(waits["call"]),
            waits_s={name: Spread.of(seen) for name, seen in waits.items()},
            over_time=self._course.moments(wall_s),
            errors={kind: _by_count(types) for kind, types in sorted(rows.errors.items())},
            usage=rows.usage,
            cost_usd=cost_usd,
            cost_per_row_usd=cost_usd / rows.done if cost_usd is not None and rows.done else None,
            by_model=self._models.uses(),
            slowest=rows.slowest,
            dearest=rows.dearest,
            bound_by=bound_by(
                states_s,
                wall_s,
                clock.cpu() - self._cpu,
                self._look().limit or 0.0,
                dict(self._whys),
                seen=self._models.requests > 0,
            ),
            bound_s={state: seconds for state, seconds in sorted(states_s.items()) if state},
            sizes=rows.sizes.classes(),
            repeats=rows.repeats.counted(),
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
        rows = self._rows
        return Counts(
            ok=rows.done - rows.failed,
            failed=rows.failed,
            skipped=rows.skipped,
            stored=stored,
            cached=rows.hits,
            cache_misses=rows.done - rows.hits if self._cached else 0,
            coalesced=rows.coalesced,
            requests=self._models.requests,
            retries=self._retries + rows.retries,
            restarts=self._restarts,
            hedges=self._hedges,
            overtaken=self._overtaken,
        )

    def _money(self, besides: Besides) -> Money:
        rows = self._rows
        return Money(
            ok_usd=(rows.cost_pico - rows.failed_pico - rows.left_pico) / PICO,
            failed_usd=rows.failed_pico / PICO,
            left_usd=rows.left_pico / PICO,
            failed_tries_usd=self._failed_tries_pico / PICO,
            saved_usd=besides.saved_usd,
            budget_usd=besides.budget_usd,
            estimated_usd=rows.estimated_pico / PICO,
            estimated_rows=rows.estimated,
            uncertain_usd=besides.uncertain_usd,
        )

    def _for_batches(self, has_batches: Callable[[str], bool] | None) -> BatchUse:
        if has_batches is None:
            return BatchUse()
        rows = self._rows
        live_pico = rows.cost_pico - rows.left_pico - rows.elsewhere_pico
        return self._models.for_batches(has_batches, rows.asked - rows.elsewhere, live_pico)


def _steps(seen: Mapping[str, tuple[int, float]]) -> tuple[StepUse, ...]:
    ordered = sorted(seen.items(), key=lambda pair: (-pair[1][1], pair[0]))
    return tuple(StepUse(name, calls, seconds) for name, (calls, seconds) in ordered)


def _by_count(types: dict[str, int]) -> dict[str, int]:
    return dict(sorted(types.items(), key=lambda pair: (-pair[1], pair[0])))
