"""Shows a run while it goes: a live display on a terminal, now and then a plain line elsewhere.

The numbers are polled from the run a few times a second, so that showing them costs nothing per row.
"""

from __future__ import annotations

import datetime as dt
import sys
import threading
from collections import deque
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from cottonpalm import clock
from cottonpalm.events import (
    Binding,
    BudgetShare,
    CostSpike,
    EndpointRests,
    Event,
    Paused,
    RequestFinished,
    RowFinished,
    RunEnded,
    RunStarted,
    Unreachable,
)
from cottonpalm.observers.measures.funds import enough_for
from cottonpalm.observers.measures.pace import Pace
from cottonpalm.observers.terminal import logs
from cottonpalm.observers.terminal.coming import ComingRows
from cottonpalm.observers.terminal.panel import Faults, Numbers, line, panel
from cottonpalm.observers.told import Told
from cottonpalm.observers.words.formatting import binds, clean, duration, money, told
from cottonpalm.observers.words.numbers import share_of_budget
from cottonpalm.types import numbered, pico

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cottonpalm.observers.measures.pace import Left

REFRESH_S: Final = 0.25  # of the live display
PLAIN_EVERY_S: Final = 10.0  # between lines where there is no terminal
READY_S: Final = 120.0  # left, from where on the time of day is told
DAY_S: Final = 86_400.0
ECHOED: Final = 2  # columns of a `^C` that the terminal shows behind the display
FAILS: Final = ("pause", "down", "probe")  # the provider's doing, which passes
OWN: Final = ("own requests", "own tokens")  # the user's ceilings
LONG_REST_S: Final = 8.0  # rests of an endpoint from here on are told to everybody
LONG_PAUSE_S: Final = 60.0  # pauses from here on are told to everybody


class Snapshot(Protocol):
    """What is read of a run; the engine's `Stats` is one."""

    @property
    def total(self) -> int | None:
        """Rows in all; None while unknown."""

    @property
    def stored(self) -> int:
        """Rows found done in the store."""

    @property
    def ok(self) -> int:
        """Rows answered by this process."""

    @property
    def failed(self) -> int:
        """Rows failed in this process."""

    @property
    def finished(self) -> bool:
        """Whether the run has ended."""

    @property
    def requests(self) -> int:
        """Requests in flight."""

    @property
    def limit(self) -> float:
        """How many may be."""

    @property
    def binding(self) -> Binding:
        """What keeps the run from being faster."""

    @property
    def pause_s(self) -> float:
        """Seconds for which a provider wants to be left alone."""

    @property
    def silent_s(self) -> float:
        """Seconds for which requests are in flight and none was accepted."""

    @property
    def trouble(self) -> str:
        """Why the latest request reached nobody; "" where it did."""

    @property
    def attempts(self) -> int:
        """Requests of the rows that are done."""

    @property
    def allowed_per_s(self) -> float | None:
        """Requests a second by the user's own ceilings; None where there are none, or nobody knows."""

    @property
    def cost_usd(self) -> float:
        """Spent by this process."""

    @property
    def budget_spent_usd(self) -> float | None:
        """Spent in the eyes of the budget: by all its runs and their processes, and what is uncertain; None without."""

    @property
    def chunks(self) -> int | None:
        """Chunks that are done; None where rows are not counted by chunk."""

    @property
    def chunks_total(self) -> int | None:
        """Chunks in all; None while unknown."""

    @property
    def out(self) -> int:
        """Rows that wait for answers from batches."""

    @property
    def cost_known(self) -> bool:
        """Whether that is all that was spent."""


class Progress:
    """An observer that shows a run on stderr.

    Args:
        console: where to; stderr by default.
        verbose: also tell of retries, pauses and failed rows as they happen.
        total: how many rows the source holds and whether that is exact; None while nobody knows.
        live: redraw in place; by default where the console is a terminal.
        lines: show the numbers at all; False leaves only what `verbose` and `say` tell.
        budget_usd: what may be spent; None without a bound.

    Attributes:
        coming: the answers that stream, as whoever reads the run tells of them.
        failed_before: how many rows failed for good in earlier processes.
    """

    every_s = REFRESH_S  # between two looks

    def __init__(
        self,
        *,
        console: Console | None = None,
        verbose: bool = False,
        total: Callable[[], tuple[int, bool] | None] = lambda: None,
        live: bool | None = None,
        lines: bool = True,
        budget_usd: float | None = None,
    ) -> None:
        self._console = console or Console(stderr=True, highlight=False, markup=False, emoji=False)
        can_redraw = self._console.is_terminal and not self._console.is_dumb_terminal
        # what is printed there goes above the display
        shared = sys.stdout is not None and sys.stdout.isatty()
        self._live = Live(console=self._console, auto_refresh=False, transient=True, redirect_stdout=shared)
        self._redraws = lines and (can_redraw if live is None else live)
        self._lines, self._verbose, self._total = lines, verbose, total
        self._stats: Callable[[], Snapshot] | None = None
        self._name = ""
        self._rests: dict[str, float] = {}  # the latest of each endpoint
        self._pace, self._faults = Pace(), Faults()
        self._budget: Callable[[], float | None] = lambda: budget_usd
        self.coming, self.failed_before = ComingRows(), 0
        self._next_plain_s = 0.0
        self._why = ""  # the last one that was told where lines are not redrawn
        self._told: deque[str] = deque()
        self._stop, self._wake = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._sees: dict[type[Event], Callable[[Any], None]] = {
            RunStarted: self._started,
            RunEnded: lambda _: self.close(),
            RowFinished: self._row_finished,
            Paused: self._paused,
            EndpointRests: self._rests_now,
            CostSpike: self._spike,
            BudgetShare: lambda event: self.say(share_of_budget(event)),
            Unreachable: lambda event: self.say(f"{clean(event.reason)}; it is asked again and again"),
        }

    def watch(self, stats: Callable[[], Snapshot], budget: Callable[[], float | None] | None = None) -> None:
        """Where the numbers come from: `lambda: run.stats`. Shows nothing before.

        `budget`: what may be spent, in dollars, where it can be changed while the run goes.
        """
        self._stats = stats
        self._budget = budget or self._budget

    @property
    def _budget_usd(self) -> float | None:
        return self._budget()

    def say(self, text: str) -> None:
        """Show one line above the display. From any thread, and safe in a signal handler."""
        self._told.append(text)
        self._wake.set()

    def see(self, event: Event) -> None:
        """Take note of one event."""
        self.see_all([(0.0, event)])

    def see_all(self, events: Sequence[tuple[float, Event]]) -> None:
        """The same of several."""
        kinds = Told.of(events).kinds
        for _, request in kinds.requests if self._verbose else ():
            self._request_finished(request)
        for _, event in (*kinds.failed, *kinds.rest):
            if (sees := self._sees.get(type(event))) is not None:
                sees(event)

    def _started(self, event: RunStarted) -> None:
        self._name = clean(event.name or "", 18)
        self.start()

    def _paused(self, event: Paused) -> None:
        if self._verbose or event.seconds >= LONG_PAUSE_S:
            self.say(f"pause: {clean(event.key)} asks to wait {duration(event.seconds)}")

    def _request_finished(self, event: RequestFinished) -> None:
        if event.kind is not None:
            status = "no answer" if event.status is None else f"HTTP {event.status}"
            took = duration(event.latency_s)
            self.say(f"{numbered(event.index)}: {status} from {clean(event.key)} after {took} ({event.kind})")

    def _row_finished(self, event: RowFinished) -> None:
        row = event.outcome
        if (error := row.error) is None:
            return
        self._faults.add(row.index, error.kind, told(error))
        if self._verbose:
            where = "" if error.where is None else f" (at {clean(error.where)})"
            self.say(f"{numbered(row.index)} failed ({error.kind}): {clean(told(error))}{where}")

    def _spike(self, event: CostSpike) -> None:
        cost, usual = money(pico(event.cost_usd)), money(pico(event.median_usd))
        self.say(f"{numbered(event.index)} cost {cost}, where others cost {usual}")

    def _rests_now(self, event: EndpointRests) -> None:
        if self._is_news(event):
            lasts, why = duration(event.seconds), clean(event.message)
            self.say(f"endpoint {clean(event.endpoint)} rests for {lasts}, the others go on: {why}")

    def _is_news(self, rest: EndpointRests) -> bool:
        """Short rests are told to those who want it all, and so is a long one that is just like the one before."""
        before, self._rests[rest.endpoint] = self._rests.get(rest.endpoint), rest.seconds
        return self._verbose or LONG_REST_S <= rest.seconds != before

    # -- the display, on a thread of its own ------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to show. Once is enough; RunStarted does it too."""
        if self._thread is None:
            self._next_plain_s = clock.now() + PLAIN_EVERY_S
            thread = threading.Thread(target=self._run, name="cottonpalm-progress", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system gives no more threads: what is told is told at the end
                return
            self._thread = thread

    def close(self) -> None:
        """Take the live display away and tell what is still to be told."""
        self._stop.set()
        self._wake.set()
        if self._thread is threading.current_thread():
            return
        if self._thread is not None:
            self._thread.join(timeout=2.0)
        self._tell()

    def _run(self) -> None:
        try:
            with logs.shown(self._live) if self._redraws else nullcontext():
                while not self._stop.is_set():
                    self._tick()
                    self._wake.wait(self.every_s)
                    self._wake.clear()
        finally:
            self._tell()

    def _tick(self) -> None:
        self._tell()
        if not self._lines or self._stats is None:
            return
        numbers = self.numbers(self._stats())
        if self._redraws:
            self._live.update(self.picture(numbers), refresh=True)
        elif clock.now() >= self._next_plain_s:
            self._next_plain_s = clock.now() + PLAIN_EVERY_S
            self._print(line(numbers))
            if numbers.why and numbers.why != self._why:
                self._why = numbers.why
                self._print(f"  {numbers.binds}: {numbers.why}")

    def _tell(self) -> None:
        while self._told:
            self._print(self._told.popleft())

    def _print(self, text: str) -> None:
        # soft_wrap: a log line stays one line; rich would break it at 80 columns where there is no terminal
        self._console.print(Text(text), soft_wrap=not self._console.is_terminal)

    def numbers(self, stats: Snapshot) -> Numbers:
        """What to show of these numbers, now."""
        done_here = stats.ok + stats.failed
        known = self._total() if stats.total is None else (stats.total, True)
        total, exact = known if known is not None else (None, False)
        if not (total or exact):
            total = None  # nothing was read yet
        done, per_s = done_here + stats.stored, self._pace.note(clock.now(), done_here)
        waits = stats.binding.what == "batch"  # nobody knows until when
        lasts = self._lasts(stats, done, total)
        last = total if lasts is None else lasts
        rows = None if last is None or waits else max(0, last - done)
        last_rows = stats.binding.what == "tail"
        allowed = _allowed(stats, done_here)
        left = None if rows is None else self._pace.left(rows, allowed, last=last_rows)
        return Numbers(
            name=self._name,
            done=done,
            total=total,
            exact=exact,
            in_flight=stats.requests,
            limit=stats.limit,
            binds=binds(
                stats.binding.what,
                stats.pause_s,
                stats.silent_s,
                stats.trouble,
                seen=bool(stats.binding.key),
            ),
            fails=stats.binding.what in FAILS or bool(stats.trouble),
            per_s=per_s,
            bars=self._pace.bars,
            left=left,
            before_s=rows / self._pace.before if rows and self._pace.before else None,
            ready=_ready(left),
            cost_usd=stats.cost_usd if stats.cost_known or stats.cost_usd else None,
            cost_known=stats.cost_known,
            budget_usd=self._budget_usd,
            spent_before_usd=_before(stats),
            failed=stats.failed,
            failed_before=self.failed_before,
            kinds=self._faults.kinds,
            faults=self._faults.last,
            more=_chunks(stats.chunks, stats.chunks_total) or (f"{stats.out:,} out" if stats.out else ""),
            coming=self.coming.shown,
            streams=len(self.coming),
            why=clean(stats.binding.why),
            stored=stats.stored,
            enough_for=lasts,
            over=stats.finished,
        )

    def _lasts(self, stats: Snapshot, done: int, total: int | None) -> int | None:
        """See `funds.enough_for`; where it is not known what rows cost, nor is that."""
        if not self._budget_usd or not stats.cost_known:
            return None
        cost = stats.cost_usd
        return enough_for(self._budget_usd - _before(stats) - cost, cost, done, stats.stored, total)

    def picture(self, numbers: Numbers) -> Group:
        """The live display, as wide as the terminal, but for a `^C`: one line more, and the first would stay behind."""
        console = self._console
        unicode = console.encoding.startswith("utf")
        return Group(*panel(numbers, max(1, console.width - ECHOED), unicode=unicode))


def _before(stats: Snapshot) -> float:
    """What the budget counts besides the rows of this process: of others, of requests under way, uncertain."""
    return max(0.0, (stats.budget_spent_usd or 0.0) - stats.cost_usd)


def _allowed(stats: Snapshot, done: int) -> float | None:
    """Rows a second by the user's own ceiling, where that binds."""
    if stats.allowed_per_s is None or stats.binding.what not in OWN:
        return None
    return stats.allowed_per_s / (max(1.0, stats.attempts / done) if done else 1.0)


def _ready(left: Left | None) -> str:
    """The time of day at which all will be done, in the zone of this machine; nothing for the next two minutes."""
    if left is None or left.seconds < READY_S:
        return ""
    then = dt.datetime.fromtimestamp(clock.wall() + left.seconds, dt.UTC).astimezone()
    return f"{then:%H:%M}" if left.seconds < DAY_S else f"{then:%-d %b, %H:%M}"


def _chunks(done: int | None, total: int | None) -> str | None:
    if done is None:
        return None
    return f"{done:,} chunks" if total is None else f"chunks {done:,}/{total:,}"
