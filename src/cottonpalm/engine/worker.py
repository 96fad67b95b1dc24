"""A worker: the local engine in another process. It answers the rows that its run sends, and nothing is stored here."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from cottonpalm import clock
from cottonpalm.engine.build import Builder
from cottonpalm.engine.executors.workers.links import Heard
from cottonpalm.engine.executors.workers.travel import unpacked
from cottonpalm.engine.input.reader import CarriedRow
from cottonpalm.engine.run_asked import RunAsked
from cottonpalm.engine.shared import LENT, Lent
from cottonpalm.errors import RunStopped
from cottonpalm.events import (
    BudgetShare,
    CostSpike,
    LimitChanged,
    RowFinished,
    RowStarted,
    RunEnded,
    RunStarted,
)
from cottonpalm.request.limiter.limiters import Limits
from cottonpalm.request.money.remote import MoneyTold, purse_and_ledger
from cottonpalm.settings import Settings
from cottonpalm.stores import database_of
from cottonpalm.types import ErrorRecord, Kind, Outcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cottonpalm.engine.executors.workers.links import Begin, Order, WorkerRow
    from cottonpalm.events import Event

BEAT_S: Final = 0.5  # says something at least this often...
SOON_S: Final = 0.05  # ...and while rows wait for its first share of a cap
GATHER_S: Final = 0.01  # outcomes of so long travel together...
AT_ONCE: Final = 256  # ...or so many
AHEAD_S: Final = 0.25  # wants the rows of so long besides those under way
MOST_AHEAD: Final = 2048
_OWN: Final = (  # the run makes these itself
    RowStarted,
    RowFinished,
    RunStarted,
    RunEnded,
    BudgetShare,
    CostSpike,
    LimitChanged,
)


class Worker:
    """Answers rows for one run. All methods are called on one loop."""

    def __init__(self, begin: Begin) -> None:
        chain, given = unpacked(begin.chain)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._wake = asyncio.Event()
        self._rows: deque[WorkerRow] = deque()
        self._more = asyncio.Event()
        self._stop = False
        self._done: list[Outcome] = []
        self._events: list[Event] = []
        self._measures: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self._warnings: list[tuple[str, str]] = []
        self._over: tuple[str, str] | None = None
        self._received, self._answered = 0, 0
        self._recent: deque[tuple[float, int]] = deque()
        settings = Settings.of(chain, {**given, "limits": Limits(), "observers": [self], "max_failures": 1.0})
        self._cap = settings.cap
        builder = Builder(chain, settings)
        self._purse = None
        if begin.paid:
            ledger, self._purse = purse_and_ledger(self._ring)
            builder.accounts.purse = (ledger, self._purse)
        self._spare = begin.spare
        self._lent = Lent(builder.accounts.purse, set())
        LENT.set(self._lent)
        if begin.place is not None:
            url, run = begin.place
            builder.accounts.place = (_database(url), run)
        self._engine = builder.engine(RunAsked(rows=self._source(), kwargs=unpacked(begin.kwargs)))
        self._engine.account.measure = Forward(self._measures)
        self._engine.account.alerts.on_warn = lambda topic, text: self._warnings.append((topic, text))
        self._keep_to_share()
        self._main = self._loop.create_task(self._engine.main())
        self._reading = self._loop.create_task(self._read())

    # -- called by its run

    async def tell(self, order: Order) -> None:
        """Take what the run says."""
        self._rows.extend(order.rows)
        self._received += len(order.rows)
        if order.money is not None and self._purse is not None:
            self._purse.grant(order.money, order.why)
        if order.stop:
            self._stop = True
            self._engine.stop()
            for stop in tuple(self._lent.stops):
                stop()
        if order.leave:
            self._stop = True
            self._engine.abort()
        self._more.set()
        if self._lacks_share():
            self._wake.set()

    async def hear(self) -> Heard:
        """Wait until there is something to say, or a moment has passed; return it."""
        if not (self._wake.is_set() or self._over):
            try:
                async with asyncio.timeout(SOON_S if self._lacks_share() else BEAT_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
        asked = self._purse is not None and self._purse.asks
        if self._done and len(self._done) < AT_ONCE and not (self._over or asked):
            await asyncio.sleep(GATHER_S)
        self._wake.clear()
        return self._heard()

    async def close(self) -> None:
        """End at once."""
        self._engine.abort()
        for task in (self._main, self._reading):
            task.cancel()
        await asyncio.wait([self._main, self._reading])

    # -- its own run

    def see(self, event: Event) -> None:
        """See `protocols.Observer`: what rows meet with is told to the run."""
        if not isinstance(event, _OWN):
            self._events.append(event)

    async def _source(self) -> AsyncIterator[CarriedRow]:
        while True:
            while self._rows:
                yield CarriedRow(*self._rows.popleft())
            if self._stop:
                return
            self._more.clear()
            await self._more.wait()

    async def _read(self) -> None:
        """Collect the outcomes until the run here is over."""
        why = ("", "")
        try:
            while True:
                outcome = await self._engine.outbox.receive()
                self._answered += 1
                self._done.append(_to_travel(outcome))
                self._wake.set()
        except StopAsyncIteration:
            pass
        except RunStopped as stopped:
            why = ("", "") if self._stop else (stopped.reason, self._engine.why)
        except Exception as exc:  # noqa: BLE001 - the run decides what it means
            why = ("error", f"{type(exc).__name__}: {exc}")
        self._over = why
        self._wake.set()

    def _ring(self) -> None:
        if threading.get_ident() == self._thread:
            self._wake.set()
        else:
            self._loop.call_soon_threadsafe(self._wake.set)

    def _heard(self) -> Heard:
        done, self._done = self._done, []
        events, self._events = self._events, []
        measures = self._measures.copy()
        self._measures.clear()
        warnings, self._warnings = self._warnings, []
        self._keep_to_share()
        account = self._engine.account
        flow = account.flow
        return Heard(
            done,
            self._wants(len(done)),
            self._money(),
            events,
            measures,
            flow.limit(),
            flow.in_flight(),
            [LimitChanged(flow.shown(each.key), int(each.limit), each.in_flight) for each in flow.seen()],
            flow.pause_s(),
            self._over,
            warnings,
            account.transports.taken(),
        )

    def _money(self) -> MoneyTold:
        if self._purse is not None:
            return self._purse.told(idle=self._over is not None or self._received == self._answered)
        spending = self._engine.account.spending
        reported, spending.reported = spending.reported, 0
        uncertain, spending.uncertain = spending.uncertain, 0
        return MoneyTold(reported, uncertain)

    def _share(self) -> int:
        """How many requests it may have in flight; 0 before its first one, and while others have all there are."""
        return int(sum(limiter.limit for limiter in self._engine.account.flow.seen()))

    def _lacks_share(self) -> bool:
        """Whether it has rows, and no share of the cap yet."""
        return self._cap is not None and self._received > self._answered and not self._share()

    def _keep_to_share(self) -> None:
        """Of a cap on the rows of all workers, run as many at once as its share; others lie ready."""
        if self._cap is not None and (cap := max(1, min(self._cap, self._share()))) != self._engine.cap:
            self._engine.cap = cap

    def _wants(self, done: int) -> int:
        """The rows that may be under way, and those of the next moment at the present rate."""
        now = clock.now()
        self._recent.append((now, done))
        while self._recent[0][0] < now - 1.0:
            self._recent.popleft()
        span = max(now - self._recent[0][0], AHEAD_S)
        ahead = min(MOST_AHEAD, int(sum(count for _, count in self._recent) / span * AHEAD_S))
        limit = int(self._engine.account.flow.limit())
        if self._spare is not None:
            return limit + self._spare
        return limit + max(4, limit // 4) + ahead


def _database(url: str) -> Any:
    if url.startswith("ray:"):
        from cottonpalm.engine.executors.workers.ray.limits import ActorDatabase  # noqa: PLC0415 - an extra

        return ActorDatabase()
    return database_of(url)


class Forward:
    """See `protocols.Measure`: notes what the run's own measures are to be told."""

    def __init__(self, calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]]) -> None:
        self._calls = calls

    def request(self, *values: Any, **more: Any) -> None:
        """See `protocols.Measure`."""
        self._calls.append(("request", values, more))

    def retried(self) -> None:
        """See `protocols.Measure`."""
        self._calls.append(("retried", (), {}))

    def hedged(self) -> None:
        """See `protocols.Measure`."""
        self._calls.append(("hedged", (), {}))

    def overtaken(self) -> None:
        """See `protocols.Measure`."""
        self._calls.append(("overtaken", (), {}))

    def stepped(self, *values: Any) -> None:
        """See `protocols.Measure`."""
        self._calls.append(("stepped", values, {}))

    def waited(self, *values: Any) -> None:
        """See `protocols.Measure`."""
        self._calls.append(("waited", values, {}))


def _to_travel(outcome: Outcome) -> Outcome:
    """Return the outcome without what the run has itself, and with an exception only if that can travel."""
    outcome.input = None
    if outcome.exception is not None and not _travels(outcome.exception):
        outcome.exception = None
    if outcome.status == "ok" and not isinstance(outcome.output, str | int | float | None | bool):
        try:
            pickle.dumps(outcome.output)
        except Exception as exc:  # noqa: BLE001 - whatever it is: this row's answer stays here
            outcome.status, outcome.output = "failed", None
            text = f"the answer cannot travel from its worker: {type(exc).__name__}: {exc}"
            outcome.error = ErrorRecord(Kind.FAIL_ROW, "CannotTravel", text)
    return outcome


def _travels(exc: BaseException) -> bool:
    """Whether an exception arrives as it was sent."""
    try:
        return type(pickle.loads(pickle.dumps(exc))) is type(exc)  # noqa: S301 - our own bytes
    except Exception:  # noqa: BLE001 - then it does not
        return False
