"""The account of one row, carried by the context variable `ROW`: what the row used and holds, and how to close it."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Protocol

from cottonpalm.providers import dressed
from cottonpalm.request.endpoints.way_back import WayBack
from cottonpalm.request.loose_ends import LooseEnds
from cottonpalm.request.row_usage import RowUsage
from cottonpalm.runtime.wait_queue import RowClosed
from cottonpalm.types import Fault, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cottonpalm.providers import TooDear
    from cottonpalm.providers.call import Call
    from cottonpalm.request.endpoints.endpoints import Stay
    from cottonpalm.request.limiter.limiter import Limiter, Permit
    from cottonpalm.request.recording import Recording
    from cottonpalm.request.run_account import RunAccount
    from cottonpalm.runtime.wait_queue import Place, Waiter


class HandsOver(Protocol):
    """A call of a chat model that holds a permit."""

    def hand_over(self) -> None:
        """Give it back: the requests under the call are seen, and take the permits."""


ROW: Final[ContextVar[RowAccount | None]] = ContextVar("cottonpalm_row", default=None)
MODEL: Final[ContextVar[HandsOver | None]] = ContextVar("cottonpalm_model", default=None)
# The chain has another model to ask, behind the one that is asked now.
OTHERS: Final[ContextVar[bool]] = ContextVar("cottonpalm_others", default=False)


class RowAccount(RowUsage):
    """One row under way. It counts, bounds and remembers every request of the row. Thread-safe.

    Attributes:
        truncated: True: an answer was cut or filtered, and the run accepts that.
        partial: the text of an answer that was refused because it was cut or filtered.
        spent: the last fault on which a request used up its tries, in this try of the row.
        aside: True: all open requests of the row sleep or wait out a pause, so the row holds no place.
        place: what it holds of the run while it is not aside...
        on_aside: ...and who is told of it with each change of `aside`, from any thread.
        on_short: called when the first of its requests begins to wait for money, and when none waits any more.
        on_wire: requests sent and not yet answered; calls of models whose requests are not seen likewise.
        calling: its chain is being called, where nothing finer is seen of what it does.
        adopts: it stands for requests whose row was lost, which may be anybody's.
        closed: True: the row has ended, or its run is left: requests that still come from it are refused.
        ended: True: the row has ended, and with it what it held open; a row whose run is left may still read an answer.
        refused: one was.
        too_dear: what was said of one that what is left of the budget does not cover; None: none was.
        spare: True: another chain is left that may answer the row.
        back: its way back to the first chain; None: it has left no provider for another chain.
        stay: the row's stay at one of several endpoints; None: there is only one.
        recording: its requests are answered from it, or recorded and held back; None: they are sent.
    """

    __slots__ = (
        "_ends",
        "_failures",
        "_idle",
        "_open",
        "_permit",
        "_short",
        "_stepped",
        "adopts",
        "aside",
        "back",
        "calling",
        "closed",
        "ended",
        "index",
        "on_aside",
        "on_short",
        "on_wire",
        "parent",
        "partial",
        "place",
        "priority",
        "recording",
        "refused",
        "run",
        "spare",
        "spent",
        "stay",
        "too_dear",
        "truncated",
    )

    def __init__(
        self, run: RunAccount, index: int, priority: float = 0, parent: RowAccount | None = None
    ) -> None:
        super().__init__()
        self.run = run
        self.index = index
        self.priority = priority
        self.parent = parent
        self.truncated = False
        self.partial: str | None = None
        self.spare = run.has_fallbacks
        self.back: WayBack | None = None
        self.spent: Fault | None = None
        self.aside = False
        self.place: Any = None
        self.on_aside: Callable[[Any, bool], None] | None = None
        self.on_short: Callable[[bool], None] | None = None
        self.on_wire = 0
        self.calling = False
        self.closed = self.ended = self.adopts = self.refused = False
        self.stay: Stay | None = None
        self.too_dear: TooDear | None = None
        self.recording: Recording | None = None
        self._permit: Permit | None = None
        # These are made when first needed: there are many rows, and most of them need none of these.
        self._failures: dict[tuple[str, str, bytes], Any] | None = None
        self._ends: LooseEnds | None = None
        self._open = self._idle = self._short = 0
        self._stepped = False

    def __repr__(self) -> str:
        state = "closed" if self.closed else "aside" if self.aside else "open"
        return f"<RowAccount {self.index} {state}, {self.attempts} sent, {self._open} requests, {self._idle} idle>"

    # -- the row as a whole

    def called(self) -> None:
        """Its chain is called now.

        Raises:
            RowClosed: the row is over.
        """
        with self._lock:
            self.check_open()
            self.calling = True

    def fresh(self) -> None:
        """A new try of the whole row begins: forget the failures that the last try remembered."""
        with self._lock:
            self._failures = self.spent = None

    def close(self) -> None:
        """End the row: refuse later requests, make waiting threads leave, give everything back."""
        self.closed = self.ended = True
        if self._permit is not None:
            self.hand_over()
        if self._ends is not None:
            self._ends.end()

    def close_untouched(self) -> bool:
        """Close it if nothing of it is under way and nothing was paid for: ending it now loses nothing.

        Nor where batches alone have answered it, and its next request waits, as for money that only a batch gives back:
        such answers are kept, and asked of nobody again. Nothing of it can go out any more when this has returned True,
        whatever its threads are at.
        """
        seen = self.run.flow.grain in ("model", "request")
        with self._lock:
            kept = self._open and self.replays and self.replays == self.attempts
            if self.on_wire or (self._paid() and not kept) or (self.calling and not seen):
                return False
            self.closed = True
        self.close()
        return True

    def ask_no_more(self) -> None:
        """Refuse its further requests; those that are out may still be answered."""
        with self._lock:
            self.closed = True

    def check_open(self) -> None:
        """Raise RowClosed if the row has ended, so that a task that outlives the row sends nothing more."""
        if self.closed:
            self.refused = True
            raise dressed(RowClosed, "the row this request belongs to is over; it was not sent")

    @property
    def has_its_answers(self) -> bool:
        """Whether something was paid for and no request is under way: what it still does costs nothing."""
        with self._lock:
            return self._paid() and not (self._open or self.on_wire)

    @property
    def divertible(self) -> bool:
        """Whether the row may go to another chain if the provider is down: one is left, and no other endpoint is.

        From the last one it may go back to the first, where a provider that it left is back.
        """
        if self.replaceable:
            return self.stay is None or self.stay.only_hope
        return self.back is not None and self.back.is_open()

    def passes(self, limiter: Limiter, *, down: bool) -> None:
        """It leaves this provider, which fails it, for another chain."""
        if self.spare:
            self.back = self.back or WayBack()
            self.back.left(limiter, None if self.stay is None else self.run.team, down=down)
        elif self.back is not None and not self.replaceable:
            self.back.ends()

    @property
    def replaceable(self) -> bool:
        """Whether another chain is left, or another model inside this one, where `with_fallbacks()` names some."""
        return self.spare or OTHERS.get()

    def stop_run(self, fault: Fault) -> None:
        """No row can survive this, so the run stops; but not for a request that is perhaps none of its own."""
        if not self.adopts:
            self.run.alerts.stop(fault)

    # -- its own permit, where nothing finer is seen to take one

    def entered(self) -> bool:
        """Take the row's own permit without waiting. True: it was free, or the row's requests take the permits."""
        if (limiter := self.own_limiter()) is None:
            return True
        if (permit := limiter.try_acquire(self.priority)) is None:
            return False
        self._permit = permit
        if self.closed:
            self.hand_over()
        return True

    def own_limiter(self) -> Limiter | None:
        """Where the row takes a permit of its own; None: its requests or model calls take the permits."""
        if self.closed:
            self.check_open()
        if self.parent is not None:
            self._outer_hand_over()
        run, stay = self.run, self.stay
        if run.flow.grain not in ("unknown", "row"):
            return None
        return run.flow.limiter(run.flow.rows_key if stay is None else stay.endpoint.rows_key)

    def take(self, permit: Permit) -> None:
        """The row has waited for its own permit, and got it."""
        with self._lock:
            self._permit = permit
        if self.closed:
            self.hand_over()

    def leave(self, verdict: Verdict, pause_s: float = 0.0) -> None:
        """The row is done with its chain: give its own permit back, if it still holds one."""
        if self.hand_over(verdict, pause_s) and self.run.flow.grain == "unknown":
            self.run.flow.refine("row")

    def hand_over(self, verdict: Verdict = Verdict.IGNORED, pause_s: float = 0.0) -> bool:
        """Give the row's own permit back; return whether it had one."""
        if self._permit is None:
            return False
        with self._lock:
            permit, self._permit = self._permit, None
        if permit is not None:
            permit.limiter.release(permit, verdict, pause_s)
        return permit is not None

    def _outer_hand_over(self) -> None:
        outer = self.parent
        while outer is not None:
            outer.hand_over()
            outer = outer.parent

    # -- requests under it

    def begin(self) -> None:
        """A request begins: refuse it if the row has ended; else give back the permits of the row and its calls."""
        if self.closed:
            self.check_open()
        if self._permit is not None:
            self.hand_over()
        if (model := MODEL.get()) is not None:
            model.hand_over()
        if self.parent is not None:
            self._outer_hand_over()
        if self.run.flow.grain != "request":
            self.run.flow.refine("request")
        with self._lock:
            self._open += 1
            back = self.aside and self._back()
        if back:
            self._tell_aside(back, False)

    def end(self) -> None:
        """A request has ended."""
        with self._lock:
            self._open -= 1

    def sent(self) -> None:
        """One more request goes out.

        Raises:
            RowClosed: the row is over.
        """
        self.asked()
        self.counted()

    def asked(self) -> None:
        """Something goes out that is counted when it is answered.

        Raises:
            RowClosed: the row is over.
        """
        with self._lock:
            self.check_open()
            self.on_wire += 1

    def counted(self) -> None:
        """What went out was a request."""
        with self._lock:
            self.attempts += 1
        self.run.allowance.request()

    def answered(self, verdict: Verdict) -> None:
        """One request is no longer on the wire."""
        with self._lock:
            self.on_wire -= 1
            if verdict is Verdict.SUCCESS:
                self.got = True
                self.answers += 1

    def withdraw(self) -> bool:
        """Take the row back before anything of it is paid for, so that it can be asked in a batch instead.

        False: it has answers, or other requests under way, or no batch could hold its request.
        """
        recording = self.recording
        with self._lock:
            alone = self._open == 1 and not (self.on_wire or self.answers or self.replays)
        return alone and recording is not None and recording.withdraw()

    @property
    def claim(self) -> float:
        """Its priority in line for money: what was paid for its answers is lost where it gets no more."""
        return self.priority + self.answers

    # -- what it remembers of its requests

    @property
    def knows(self) -> bool:
        """Whether one of its requests may be answered otherwise than by sending it as it is."""
        return bool(self._failures) or self.recording is not None or self.run.flex is not None

    def remembered(self, call: Call) -> Any:
        """Return how an equal request finally failed before, in this try of the row; or None."""
        return self._failures.get(call.identity) if self._failures else None

    def remember(self, call: Call, failure: Any, fault: Fault) -> None:
        """This request has used up its tries: an equal one gets the same failure without being sent."""
        with self._lock:
            self._failures = self._failures or {}
            self._failures[call.identity] = failure
            self.spent = fault

    # -- its requests wait

    @contextmanager
    def idling(self) -> Iterator[None]:
        """Count one open request as sleeping during the block; the row gives up its place while all sleep."""
        with self._lock:
            self._idle += 1
            away = self._idle >= self._open and not self._stepped and self.on_aside is not None
            if away:
                self.aside = self._stepped = True
        self._tell_aside(away, True)
        try:
            yield
        finally:
            with self._lock:
                self._idle -= 1
                back = self._back()
            self._tell_aside(back, False)

    def _back(self) -> bool:
        """Whether the row takes its place back just now. Call with the lock."""
        back, self.aside = self.aside and self._idle < self._open, self.aside and self._idle >= self._open
        return back

    def _tell_aside(self, changed: bool, aside: bool) -> None:
        if changed and self.on_aside is not None:
            self.on_aside(self.place, aside)
            self.run.flow.on_change()

    @contextmanager
    def short_of_money(self) -> Iterator[None]:
        """Count one request as waiting for money during the block; the row's own time does not run meanwhile."""
        with self.run.flow.waiting_for_money():
            self._count_short(+1)
            try:
                yield
            finally:
                self._count_short(-1)

    def _count_short(self, change: int) -> None:
        with self._lock:
            before, self._short = self._short, self._short + change
            changed = not before or not self._short
        if changed and self.on_short is not None:
            self.on_short(before == 0)

    @contextmanager
    def parking(self, also: Callable[[Place], None] | None = None) -> Iterator[Callable[[Waiter], None]]:
        """Yield a function to call with a `Waiter`, so that closing the row wakes its thread. `also` gets it too."""
        waiters: list[Waiter] = []

        def park(waiter: Waiter) -> None:
            waiters.append(waiter)
            self._loose_ends().park(waiter)
            if also is not None:
                also(waiter)
            if self.closed:
                waiter.abandon()

        try:
            yield park
        except RowClosed:
            self.check_open()
            raise
        finally:
            if self._ends is not None:
                self._ends.unpark(waiters)

    def rest(self, seconds: float) -> None:
        """Block this thread for so many seconds; if the row is closed meanwhile, raise RowClosed."""
        ends = self._loose_ends()
        event = ends.asleep()
        try:
            if not self.closed:
                event.wait(seconds)
        finally:
            ends.awake(event)
        self.check_open()

    # -- what is open, and ends with it

    def hold(self, thing: Any) -> None:
        """Note an open object with `drop()`; closing the row calls it."""
        self._loose_ends().hold(thing)
        if self.ended:
            thing.drop()

    def let_go(self, thing: Any) -> None:
        """Note that the object is no longer open."""
        if self._ends is not None:
            self._ends.let_go(thing)

    def drain(self) -> None:
        """Read this row's open sync streams to their ends, so that their permits are given back."""
        if self._ends is not None:
            self._ends.drain()

    def _loose_ends(self) -> LooseEnds:
        with self._lock:
            if self._ends is None:
                self._ends = LooseEnds()
            return self._ends
