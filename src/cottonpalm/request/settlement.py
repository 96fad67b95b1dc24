"""How one try of a request ends: its permit, its money and its counts are settled exactly once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from cottonpalm import clock
from cottonpalm.events import Paused, RequestFinished, Unreachable
from cottonpalm.providers.quotas import read_quotas
from cottonpalm.types import Fault, Kind, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cottonpalm.providers.answer import Answer
    from cottonpalm.providers.call import Call
    from cottonpalm.request.endpoints import Stay
    from cottonpalm.request.limiter.limiter import Permit
    from cottonpalm.request.reservation import Reservation
    from cottonpalm.request.row_account import RowAccount
    from cottonpalm.types import Quota, Usage

OVERLOADED: Final = frozenset({503, 529})  # of the provider as a whole


class Settlement:
    """What a try holds while it is under way. `over` or `abandon`, whichever comes first, settles it, once."""

    __slots__ = (
        "_again",
        "_began",
        "_money",
        "_once",
        "_permit",
        "call",
        "number",
        "row",
        "sent",
        "stay",
        "streaming",
    )

    def __init__(
        self,
        row: RowAccount,
        call: Call,
        permit: Permit,
        money: Reservation,
        stay: Stay | None = None,
        *,
        again: bool = False,
    ) -> None:
        """`again`: the same request was sent before, and failed."""
        self.row, self.call, self.stay, self._again = row, call, stay, again
        self._permit, self._money = permit, money
        self._began = clock.now()
        self.number = 0  # of the requests sent to one of several endpoints, in their order
        self.sent = False  # it went out: nothing before that costs anything
        self._once = threading.Lock()  # taken by whoever settles, and never given back
        self.streaming = False  # the request stays open until its stream is over

    def begin(self) -> None:
        """It goes out now.

        Raises:
            Moved: the row goes on at another endpoint; nothing is sent.
            RowClosed: the row is over; nothing is sent.
        """
        if self.stay is not None:
            self.stay.check()
        self.row.sent()
        self.sent = True
        if self.stay is not None:
            self.number = self.stay.sent()

    @property
    def probe(self) -> bool:
        """It was sent when no pause was on."""
        return self._began >= self._permit.limiter.paused_until

    def over(
        self,
        fault: Fault | None,
        *,
        status: int | None,
        answer: Answer | None = None,
        billed: bool = True,
        pause_s: float = 0.0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """The try came to an end.

        Args:
            fault: None for an answer, also one that was cut: the provider took it.
            status: of the answer; None where none came.
            answer: what was read of it; None where none came, or an error.
            billed: whether it may have cost something although no usage was reported.
            pause_s: how long everybody on this key waits.
            headers: of the answer, good or bad: they may show what is left of the account's quotas.
        """
        if not self._once.acquire(blocking=False):
            return
        quotas: tuple[Quota, ...] = ()
        try:
            cost_pico = self._money.settle(answer, billed=billed)
            quotas = read_quotas(headers) if headers is not None else ()
        finally:  # whatever fails, the permit goes back
            self._release(verdict_of(fault, status), pause_s, quotas, answer.usage if answer else None)
            if self.stay is not None:
                self.stay.over(self.number, ok=fault is None, paused=pause_s > 0)
        self._count(fault, status, answer, pause_s, cost_pico)

    def _count(
        self, fault: Fault | None, status: int | None, answer: Answer | None, pause_s: float, cost: int | None
    ) -> None:
        """Tell those who count and measure."""
        run, call = self.row.run, self.call
        taken_s = clock.now() - self._began
        self._heard(fault, status)
        if fault is None:
            if not self.streaming:
                run.hedges.answered(call.key, taken_s)
        else:
            self._note(fault, pause_s)
        usage = answer.usage if answer else None
        if run.measure is not None:
            run.measure.request(call.label, taken_s, usage, cost, ok=fault is None)
            if self._again:
                run.measure.retried()
        if run.alerts.emit is not None:
            kind = fault.kind if fault else None
            run.alerts.emit(RequestFinished(self.row.index, call.label, status, kind, taken_s, usage))

    def _heard(self, fault: Fault | None, status: int | None) -> None:
        """Whether somebody answered."""
        run = self.row.run
        if status is not None or fault is None:
            run.reach.answered()
        elif (reason := run.reach.failed(self.call.url, fault.cause)) is not None:
            run.alerts.tell(Unreachable(reason))

    def _note(self, fault: Fault, pause_s: float) -> None:
        run = self.row.run
        run.last_fault = fault
        if pause_s > 0 and fault.kind is Kind.THROTTLE and fault.retry_after_s is not None:
            run.flow.announced(pause_s)
        elif fault.kind is Kind.THROTTLE:
            return  # a guess of our own: nothing to tell
        if pause_s > 0:
            run.alerts.tell(Paused(self.call.label, pause_s))

    def abandon(self) -> None:
        """The try was cancelled: nobody knows what the provider made of it, so its bound stays booked."""
        if not self._once.acquire(blocking=False):
            return
        try:
            if self.sent:
                self._money.settle(None, billed=True)
            else:
                self._money.give_back()
        finally:
            self._release(Verdict.IGNORED)
            if self.stay is not None and self.sent:
                self.stay.over(self.number, ok=False)

    def _release(
        self,
        verdict: Verdict,
        pause_s: float = 0.0,
        quotas: tuple[Quota, ...] = (),
        usage: Usage | None = None,
    ) -> None:
        limiter = self._permit.limiter
        before = limiter.limit
        try:
            limiter.release(self._permit, verdict, pause_s, quotas=quotas, usage=usage)
        finally:
            if self.sent:
                self.row.answered(verdict)
            if self.streaming:
                self.row.end()
        if limiter.limit != before:
            self.row.run.flow.on_change()


def verdict_of(fault: Fault | None, status: int | None) -> Verdict:
    """What a try tells the limiter."""
    if fault is None:
        return Verdict.SUCCESS
    if fault.kind is not Kind.THROTTLE:
        return Verdict.IGNORED
    return Verdict.OVERLOADED if status in OVERLOADED else Verdict.DROPPED
