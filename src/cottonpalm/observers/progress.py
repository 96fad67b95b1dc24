"""Shows a run while it goes: a live display on a terminal, now and then a plain line elsewhere.

The numbers are polled from the run a few times a second, so that showing them costs nothing per row.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
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
from cottonpalm.observers.formatting import binds, clean, duration, money, rate, share_of_budget, told
from cottonpalm.types import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

REFRESH_S: Final = 0.25  # of the live display
PLAIN_EVERY_S: Final = 10.0  # between lines where there is no terminal
RATE_WINDOW_S: Final = 30.0  # over which the rate is measured
MINUTE_S: Final = 60.0
BAR: Final = 20  # columns
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
    def cost_pico(self) -> int:
        """Spent by this process."""

    @property
    def chunks(self) -> int | None:
        """Chunks that are done; None where rows are not counted by chunk."""

    @property
    def chunks_total(self) -> int | None:
        """Chunks in all; None while unknown."""

    @property
    def cost_known(self) -> bool:
        """Whether that is all that was spent."""


class Pace:
    """Rows per second over the last half minute.

    Args:
        window_s: seconds that are looked at.
        rpm: requests per minute at most, or None. A minute's share may go out at once: what is looked at is a minute
            then, and until it is over, no more is expected of a row's one request.
    """

    def __init__(self, window_s: float = RATE_WINDOW_S, rpm: float | None = None) -> None:
        self._window_s = window_s if rpm is None else max(window_s, MINUTE_S)
        self._most_per_s = None if rpm is None else rpm / MINUTE_S
        self._seen: deque[tuple[float, int]] = deque()

    def expected(self, per_s: float | None) -> float | None:
        """What to reckon with from here on, where `per_s` was seen."""
        if (
            per_s is None
            or self._most_per_s is None
            or self._seen[-1][0] - self._seen[0][0] >= self._window_s
        ):
            return per_s
        return min(per_s, self._most_per_s)

    def note(self, now_s: float, done: int) -> float | None:
        """Take a sample; None until two samples lie apart."""
        self._seen.append((now_s, done))
        while len(self._seen) > 2 and self._seen[1][0] <= now_s - self._window_s:
            self._seen.popleft()
        first_s, first = self._seen[0]
        return None if now_s <= first_s else (done - first) / (now_s - first_s)


@dataclass(frozen=True, slots=True)
class View:
    """One moment of a run, ready to be shown."""

    done: int
    failed: int
    total: int | None
    exact: bool
    in_flight: int
    limit: float
    per_s: float | None
    cost: str | None
    chunks: str | None = None
    binds: str = ""
    expected_per_s: float | None = None  # None: as it was

    @property
    def left_s(self) -> float | None:
        """Seconds until the end at the pace that is expected."""
        per_s = self.per_s if self.expected_per_s is None else self.expected_per_s
        if self.total is None or not per_s:
            return None
        return max(0, self.total - self.done) / per_s

    def counted(self) -> str:
        """`412 of 1,000 (41 %)`."""
        if self.total is None:
            return f"{self.done:,} rows"
        about, share = "" if self.exact else "about ", min(100, 100 * self.done // max(1, self.total))
        return f"{self.done:,} of {about}{self.total:,} ({share} %)"

    def details(self) -> list[str]:
        """Everything else, the most wanted first."""
        flight = f"{self.in_flight}/{self.limit:.0f} in flight"
        per_s = "" if self.per_s is None else rate(self.per_s) if self.per_s else "0/s"
        parts = [f"{self.failed:,} failed", flight, self.binds, per_s, self.chunks, self.cost]
        return [part for part in parts if part]

    def eta(self) -> str:
        """`1 min 25 s left`, or nothing."""
        return "" if self.left_s is None else f"{duration(self.left_s)} left"

    def line(self, width: int = 80) -> str:
        """All of it in one line; what does not fit is left out, the least wanted first."""
        parts = [self.counted(), self.eta(), *self.details()]
        parts = [part for part in parts if part]
        while len(", ".join(parts)) > width and len(parts) > 1:
            parts.pop()
        return ", ".join(parts)


class Progress:
    """An observer that shows a run on stderr.

    Args:
        console: where to; stderr by default.
        verbose: also tell of retries, pauses and failed rows as they happen.
        total: how many rows the source holds and whether that is exact; None while nobody knows.
        live: redraw in place; by default where the console is a terminal.
        lines: show the numbers at all; False leaves only what `verbose` and `say` tell.
        rpm: requests per minute at most, where the user said so.
    """

    def __init__(
        self,
        *,
        console: Console | None = None,
        verbose: bool = False,
        total: Callable[[], tuple[int, bool] | None] = lambda: None,
        live: bool | None = None,
        lines: bool = True,
        rpm: float | None = None,
    ) -> None:
        self._console = console or Console(stderr=True, highlight=False, markup=False, emoji=False)
        can_redraw = self._console.is_terminal and not self._console.is_dumb_terminal
        shared = (
            sys.stdout is not None and sys.stdout.isatty()
        )  # what is printed there goes above the display
        self._live = Live(console=self._console, auto_refresh=False, transient=True, redirect_stdout=shared)
        self._redraws = lines and (can_redraw if live is None else live)
        self._lines, self._verbose, self._total = lines, verbose, total
        self._stats: Callable[[], Snapshot] | None = None
        self._name = ""
        self._rests: dict[str, float] = {}  # the latest of each endpoint
        self._pace = Pace(rpm=rpm)
        self._next_plain_s = 0.0
        self._told: deque[str] = deque()
        self._stop, self._wake = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, stats: Callable[[], Snapshot]) -> None:
        """Where the numbers come from: `lambda: run.stats`. Shows nothing before."""
        self._stats = stats

    def say(self, text: str) -> None:
        """Show one line above the display. From any thread, and safe in a signal handler."""
        self._told.append(text)
        self._wake.set()

    def see(self, event: Event) -> None:
        """Take note of one event."""
        match event:
            case RunStarted():
                self._name = clean(event.name or "", 18)
                self.start()
            case RunEnded():
                self.close()
            case Paused() if self._verbose or event.seconds >= LONG_PAUSE_S:
                self.say(f"pause: {clean(event.key)} asks to wait {duration(event.seconds)}")
            case BudgetShare() | CostSpike() | EndpointRests() | Unreachable():
                self._warn(event)
            case RequestFinished(kind=Kind()) if self._verbose:
                self.say(self._request(event))
            case RowFinished() if self._verbose and event.outcome.error is not None:
                error = event.outcome.error
                self.say(f"row {event.outcome.index} failed ({error.kind}): {clean(told(error))}")

    def _warn(self, event: BudgetShare | CostSpike | EndpointRests | Unreachable) -> None:
        match event:
            case Unreachable():
                self.say(f"{clean(event.reason)}; it is asked again and again")
            case BudgetShare():
                self.say(share_of_budget(event))
            case CostSpike():
                cost, usual = money(event.cost_pico), money(event.median_pico)
                self.say(f"row {event.index} cost {cost}, where others cost {usual}")
            case EndpointRests() if self._is_news(event):
                lasts, why = duration(event.seconds), clean(event.message)
                self.say(f"endpoint {clean(event.endpoint)} rests for {lasts}, the others go on: {why}")

    def _is_news(self, rest: EndpointRests) -> bool:
        """Short rests are told to those who want it all, and so is a long one that is just like the one before."""
        before, self._rests[rest.endpoint] = self._rests.get(rest.endpoint), rest.seconds
        return self._verbose or LONG_REST_S <= rest.seconds != before

    @staticmethod
    def _request(event: RequestFinished) -> str:
        status = "no answer" if event.status is None else f"HTTP {event.status}"
        took = duration(event.latency_s)
        return f"row {event.index}: {status} from {clean(event.key)} after {took} ({event.kind})"

    # -- the display, on a thread of its own ------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to show. Once is enough; RunStarted does it too."""
        if self._thread is None:
            self._next_plain_s = clock.now() + PLAIN_EVERY_S
            self._thread = threading.Thread(target=self._run, name="cottonpalm-progress", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Take the live display away and tell what is still to be told."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=2.0)
            self._tell()

    def _run(self) -> None:
        if self._redraws:
            self._live.start()
        try:
            while not self._stop.is_set():
                self._tick()
                self._wake.wait(REFRESH_S)
                self._wake.clear()
        finally:
            if self._redraws:
                self._live.stop()
            self._tell()

    def _tick(self) -> None:
        self._tell()
        if not self._lines or self._stats is None:
            return
        view = self.view(self._stats())
        if self._redraws:
            self._live.update(self.picture(view), refresh=True)
        elif clock.now() >= self._next_plain_s:
            self._next_plain_s = clock.now() + PLAIN_EVERY_S
            self._print(view.line())

    def _tell(self) -> None:
        while self._told:
            self._print(self._told.popleft())

    def _print(self, text: str) -> None:
        # soft_wrap: a log line stays one line; rich would break it at 80 columns where there is no terminal
        self._console.print(Text(text), soft_wrap=not self._console.is_terminal)

    def view(self, stats: Snapshot) -> View:
        """What to show of these numbers, now."""
        done_here = stats.ok + stats.failed
        known = self._total() if stats.total is None else (stats.total, True)
        total, exact = known if known is not None else (None, False)
        if not (total or exact):
            total = None  # nothing was read yet
        cost = money(stats.cost_pico) if stats.cost_known else None
        per_s = self._pace.note(clock.now(), done_here)
        return View(
            done=done_here + stats.stored,
            failed=stats.failed,
            total=total,
            exact=exact,
            in_flight=stats.requests,
            limit=stats.limit,
            per_s=per_s,
            cost=cost,
            chunks=_chunks(stats.chunks, stats.chunks_total),
            binds=binds(stats.binding.what, stats.pause_s, stats.silent_s, stats.trouble),
            expected_per_s=self._pace.expected(per_s),
        )

    def picture(self, view: View) -> Table:
        """The live display: two lines, with as much in them as the terminal has room for."""
        width, counted = self._console.width, Text(view.counted())
        parts = [Text(self._name, style="bold"), counted, Text(view.eta(), style="cyan")]
        while len(parts) > 1 and _width(parts) > width:
            parts.pop(0 if len(parts) == 3 else 1)  # the name goes first, then the time that is left
        row: list[Text | ProgressBar] = [part for part in parts if part]
        if view.total and _width(parts) + 1 + BAR <= width:
            bar = ProgressBar(total=view.total, completed=view.done, width=BAR)
            row.insert(row.index(counted), bar)
        head = Table.grid(padding=(0, 1))
        for _ in row:
            head.add_column(no_wrap=True)
        head.add_row(*row)
        details = view.details()
        while len(" · ".join(details)) + 2 > width and len(details) > 1:
            details.pop()
        body = Table.grid()
        body.add_row(head)
        body.add_row(Text("  " + " · ".join(details), style="dim", no_wrap=True, overflow="ellipsis"))
        return body


def _chunks(done: int | None, total: int | None) -> str | None:
    if done is None:
        return None
    return f"{done:,} chunks" if total is None else f"chunks {done:,}/{total:,}"


def _width(parts: list[Text]) -> int:
    """Columns that these take side by side."""
    return sum(part.cell_len + 1 for part in parts if part) - 1
