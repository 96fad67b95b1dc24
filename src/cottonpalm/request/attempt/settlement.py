"""Settles the end of one try of a request: its permit, its money and its counts, exactly once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from cottonpalm import clock
from cottonpalm.events import Paused, RequestFinished, Unreachable
from cottonpalm.providers.langchain import run_here
from cottonpalm.providers.openai import FLEX
from cottonpalm.providers.quotas import read_quotas
from cottonpalm.request.attempt.reservation import estimated
from cottonpalm.types import Fault, Kind, Usage, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cottonpalm.providers.answer import Answer
    from cottonpalm.providers.call import Call
    from cottonpalm.request.attempt.reservation import Reservation
    from cottonpalm.request.endpoints.endpoints import Stay
    from cottonpalm.request.limiter.limiter import Permit
    from cottonpalm.request.prompt_cache.asking import Asking
    from cottonpalm.request.row_account import RowAccount
    from cottonpalm.types import Quota

# From who stands in front of the server: its connection there broke, or no answer came. That tells what it would if
# the connection were ours.
NO_ANSWER_BEHIND: Final = frozenset({408, 502, 504, 520, 521, 522, 523, 524})


class Settlement:
    """What a try holds while it is under way. The first call of `over` or `abandon` settles it; others do nothing."""

    __slots__ = (
        "_again",
        "_asking",
        "_began",
        "_money",
        "_once",
        "_permit",
        "among_all",
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
        asking: Asking | None = None,
    ) -> None:
        """`again`: the same request was sent before, and failed; `asking`: its part in the prompt cache."""
        self.row, self.call, self.stay, self._again = row, call, stay, again
        self._permit, self._money, self._asking = permit, money, asking
        self.among_all: Permit | None = None  # where the requests of all models share a bound
        self._began = clock.now()
        self.number = 0  # the request's number among those sent to this endpoint
        self.sent = False  # True: it was sent; before that, nothing costs anything
        self._once = threading.Lock()  # whoever settles the try takes it, and never gives it back
        self.streaming = False  # True: the request stays open until its stream has ended

    def begin(self) -> None:
        """Note that the request is sent now.

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

    def speaks(self) -> None:
        """The first token of a streamed answer is there."""
        if self._asking is not None:
            self._asking.begins(self._permit.limiter)
        if (measure := self.row.run.measure) is not None:
            measure.waited("first", clock.now() - self._began)

    @property
    def probe(self) -> bool:
        """Whether it was sent while no pause was on."""
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
        alone: bool = False,
    ) -> float:
        """Settle the try, which has ended.

        Args:
            fault: None for an answer, even a cut one, since the provider accepted the request.
            status: the status of the answer; None if no answer came.
            answer: what was read of the answer; None if no answer came, or an error.
            billed: True: it may have cost something although no usage was reported.
            pause_s: seconds that all requests on this key must wait.
            headers: the headers of any answer: they may show what is left of the account's quotas.
            alone: True: only this request is rejected again and again, so that says nothing of the limits.

        Returns:
            Seconds of `pause_s` that this request alone has to wait: it was named a wait by chance. Else 0.
        """
        if not self._once.acquire(blocking=False):
            return 0.0
        quotas: tuple[Quota, ...] = ()
        try:
            cost_pico = self._money.settle(answer, billed=billed)
            quotas = read_quotas(headers) if headers is not None else ()
        finally:  # whatever fails, the permit goes back
            verdict = Verdict.ALONE if alone else verdict_of(fault, status)
            alone_s = self._release(verdict, pause_s, quotas, _used(self.call, answer, billed=billed))
            pause_s -= alone_s
            if self._asking is not None:
                used = answer.usage if answer else None
                self._asking.over(self._permit.limiter, used, answered=fault is None)
            if self.stay is not None:
                self.stay.over(self.number, ok=fault is None, paused=pause_s > 0)
        self._count(fault, status, answer, pause_s, cost_pico)
        return alone_s

    def _count(
        self, fault: Fault | None, status: int | None, answer: Answer | None, pause_s: float, cost: int | None
    ) -> None:
        """Tell those who count and measure."""
        run, call = self.row.run, self.call
        taken_s = clock.now() - self._began
        self._heard(fault, status)
        self.row.tried(self._began, taken_s, _met(fault, status))
        if fault is None:
            if not self.streaming:
                run.hedges.answered(call.key, taken_s)
        else:
            self._note(fault, pause_s)
        usage = answer.usage if answer else None
        if usage is not None and (usage.cache_read_tokens or usage.cache_write_tokens):
            run.prompts.used(call, usage, self._money.saved(usage, cost))
        if run.measure is not None:
            flex = answer is not None and answer.tier == FLEX
            run.measure.request(call.label, taken_s, usage, cost, ok=fault is None, flex=flex)
            if self._again:
                run.measure.retried()
        if run.alerts.emit is not None:
            kind = fault.kind if fault else None
            label, index = call.label, self.row.index
            run.alerts.emit(RequestFinished(index, label, status, kind, taken_s, usage, run_here()))

    def _heard(self, fault: Fault | None, status: int | None) -> None:
        """Whether a server answered."""
        run = self.row.run
        if status is not None or fault is None:
            run.reach.answered()
        elif (reason := run.reach.failed(self.call, fault.cause)) is not None:
            run.alerts.tell(Unreachable(reason))

    def _note(self, fault: Fault, pause_s: float) -> None:
        run = self.row.run
        run.last_fault = fault
        if pause_s > 0 and fault.kind is Kind.THROTTLE and fault.retry_after_s is not None:
            run.flow.announced(self._permit.limiter.key, pause_s)
        elif fault.kind is Kind.THROTTLE:
            return  # the provider named no wait: this pause is our own guess, which we do not report
        if pause_s > 0:
            run.alerts.tell(Paused(self.call.label, pause_s))

    def answered_by_copy(self) -> None:
        """A copy of this request was answered: whatever becomes of this one, its prompt is in the cache."""
        if self._asking is not None:
            self._asking.over(self._permit.limiter, None, answered=True)

    def abandon(self) -> None:
        """Settle a cancelled try: we do not know what the provider did with it, so its bound is booked."""
        if not self._once.acquire(blocking=False):
            return
        try:
            if self.sent:
                self._money.settle(None, billed=True)
            else:
                self._money.give_back()
        finally:
            self._release(Verdict.IGNORED)
            if self._asking is not None:
                self._asking.over(self._permit.limiter, None, answered=False)
            if self.stay is not None and self.sent:
                self.stay.over(self.number, ok=False)

    def _release(
        self,
        verdict: Verdict,
        pause_s: float = 0.0,
        quotas: tuple[Quota, ...] = (),
        usage: Usage | None = None,
    ) -> float:
        limiter = self._permit.limiter
        before = limiter.limit
        try:
            alone_s = limiter.release(self._permit, verdict, pause_s, quotas=quotas, usage=usage)
        finally:
            if self.among_all is not None:
                self.among_all.limiter.release(self.among_all, Verdict.IGNORED)
            if self.sent:
                self.row.answered(verdict)
            if self.streaming:
                self.row.end()
        if limiter.limit != before:
            self.row.run.flow.on_change()
        return alone_s


def _used(call: Call, answer: Answer | None, *, billed: bool) -> Usage | None:
    """The tokens of a try, as reported or by its size; None where nobody can tell what became of it."""
    if answer is None:
        return None if billed else Usage()
    if answer.usage is not None and answer.usage.counted:
        return answer.usage
    return estimated(call, answer) if answer.complete else None


def _met(fault: Fault | None, status: int | None) -> str:
    if fault is None:
        return ""
    return fault.kind.value if status is None else f"{status} {fault.kind.value}"


def verdict_of(fault: Fault | None, status: int | None) -> Verdict:
    """Return the verdict with which a try's permit goes back to the limiter."""
    if fault is None:
        return Verdict.SUCCESS
    if fault.kind is not Kind.THROTTLE:
        lost = status is None or status in NO_ANSWER_BEHIND
        return Verdict.LOST if fault.kind is Kind.TRANSIENT and lost else Verdict.IGNORED
    return Verdict.OVERLOADED if fault.overload else Verdict.DROPPED
