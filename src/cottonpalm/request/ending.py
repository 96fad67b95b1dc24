"""How one try of a request ends: its permit, its money and its counts are settled exactly once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from cottonpalm import clock
from cottonpalm.model import Fault, Kind, Paused, RequestFinished, Usage, Verdict

if TYPE_CHECKING:
    from cottonpalm.model import CostSource
    from cottonpalm.request.account import RowAccount
    from cottonpalm.request.shapes import Call
    from cottonpalm.request.turnstile import Permit


class Money:
    """What one try may cost; `reserved` is what the ledger holds for it."""

    __slots__ = ("_call", "_row", "rates", "reserved")

    def __init__(self, row: RowAccount, call: Call) -> None:
        self._row, self._call = row, call
        self.reserved = 0
        self.rates = row.run.rates(call)

    @property
    def bound(self) -> int | None:
        """The most it can cost, None where that cannot be known. Worked out only for a budget or an estimate."""
        rates, call, run = self.rates, self._call, self._row.run
        if rates is None:
            return None
        if rates.bound(1_000_000, 1_000_000) == 0:
            return 0  # a local model: no maximum is needed
        tokens_in, tokens_out = call.input_bound(), call.max_output_tokens or run.max_output_tokens
        return None if tokens_in is None or tokens_out is None else rates.bound(tokens_in, tokens_out)

    def why_unbounded(self) -> str:
        """What to set, for whoever asked for a ceiling that cannot be kept."""
        model = self._call.model
        if self.rates is None:
            return f"no price is known for {model!r}: pass prices={{{model!r}: (in, out)}}, dollars per 1M tokens"
        if self._call.input_bound() is None:
            return (
                f"what a request to {model!r} reads cannot be bounded: it refers to files, a kept conversation or "
                "tools that the provider runs; run it without a budget"
            )
        return (
            f"requests to {model!r} name no maximum of output tokens: set max_tokens on the model, "
            "or Budget(max_output_tokens=...)"
        )

    def settle(self, usage: Usage | None, model: str | None, *, billed: bool) -> None:
        """Book what was used; the whole bound if it was billed and nobody said how much."""
        run, rates = self._row.run, self.rates or self._row.run.rates(self._call, model)
        cost: int | None = 0 if rates is not None else None
        source: CostSource = "reported"
        if usage is not None and rates is not None:
            cost = rates.cost(usage)
        elif usage is None and billed:
            cost, source = self.bound, "estimated"
        if run.ledger is not None:
            run.ledger.settle(self.reserved, cost or 0)
            self.reserved = 0
        if usage is not None or cost:
            self._row.book(usage, cost, source, model)

    def give_back(self) -> None:
        """Nothing was sent."""
        if self._row.run.ledger is not None and self.reserved:
            self._row.run.ledger.settle(self.reserved, 0)
            self.reserved = 0


class Ending:
    """What a try holds while it is under way. `over` or `abandon`, whichever comes first, settles it, once."""

    __slots__ = ("_began", "_money", "_once", "_permit", "call", "row", "sent", "streaming")

    def __init__(self, row: RowAccount, call: Call, permit: Permit, money: Money) -> None:
        self.row, self.call = row, call
        self._permit, self._money = permit, money
        self._began = clock.now()
        self.sent = False  # it went out: nothing before that costs anything
        self._once = threading.Lock()  # taken by whoever settles, and never given back
        self.streaming = False  # the request stays open until its stream is over

    @property
    def probe(self) -> bool:
        """It was sent when no pause was on."""
        return self._began >= self._permit.turnstile.paused_until

    def over(
        self,
        fault: Fault | None,
        *,
        status: int | None,
        usage: Usage | None = None,
        model: str | None = None,
        billed: bool = True,
        pause_s: float = 0.0,
    ) -> None:
        """The try came to an end.

        Args:
            fault: None for an answer, also one that was cut: the provider took it.
            status: of the answer; None where none came.
            usage: as reported.
            model: that answered.
            billed: whether it may have cost something although no usage was reported.
            pause_s: how long everybody on this key waits.
        """
        if not self._once.acquire(blocking=False):
            return
        self._money.settle(usage, model, billed=billed)
        throttled = fault is not None and fault.kind is Kind.THROTTLE
        verdict = Verdict.SUCCESS if fault is None else Verdict.DROPPED if throttled else Verdict.IGNORED
        self._release(verdict, pause_s)
        run, call = self.row.run, self.call
        taken_s = clock.now() - self._began
        if fault is None:
            if not self.streaming:
                run.timeouts.answered(call.key, taken_s)
        else:
            self._note(fault, pause_s)
        if run.emit is not None:
            kind = fault.kind if fault else None
            run.emit(RequestFinished(self.row.index, call.label, status, kind, taken_s, usage))

    def _note(self, fault: Fault, pause_s: float) -> None:
        run = self.row.run
        run.last_fault = fault
        if pause_s > 0 and fault.kind is Kind.THROTTLE and fault.retry_after_s is not None:
            run.announced(pause_s)
        elif fault.kind is Kind.THROTTLE:
            return  # a guess of our own: nothing to tell
        if pause_s > 0:
            run.tell(Paused(self.call.label, pause_s))

    def abandon(self) -> None:
        """The try was cancelled: nobody knows what the provider made of it, so its bound stays booked."""
        if not self._once.acquire(blocking=False):
            return
        if self.sent:
            self._money.settle(None, None, billed=True)
        else:
            self._money.give_back()
        self._release(Verdict.IGNORED, 0.0)

    def _release(self, verdict: Verdict, pause_s: float) -> None:
        turnstile = self._permit.turnstile
        before = turnstile.limit
        turnstile.release(self._permit, verdict, pause_s)
        if self.sent:
            self.row.answered()
        if self.streaming:
            self.row.end()
        if turnstile.limit != before:
            self.row.run.on_change()
