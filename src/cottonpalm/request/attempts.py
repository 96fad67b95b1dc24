"""Handles one model request from the first try to the last: decides what to wait for, in which order, when to stop.

`attempts` is a generator without I/O and without HTTP types. It yields a step; a driver (async or sync, `drivers.py`)
does the step, waits, and sends the result back.

    ("money", Ask)          -> int         reserve money near a limit; the amount, or 0: the money is spent
    ("permit", (key, behind)) -> Permit    wait for a permit: `behind` all present waiters, or by priority
    ("send", Sending)       -> Reply       send the request, with this timeout
    ("sleep", seconds)      -> None        back off; the request holds neither permit nor money meanwhile
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

from cottonpalm import clock
from cottonpalm.providers import (
    BrokenAnswer,
    BudgetReached,
    CutAnswer,
    FilteredAnswer,
    ProviderDown,
    SignatureExpired,
    dressed,
)
from cottonpalm.providers.answer import Answer, read_bytes
from cottonpalm.providers.call import SIGNATURE_LIFE_S, Call
from cottonpalm.providers.classify import judge, judge_status, never_sent
from cottonpalm.request.failover import check_up
from cottonpalm.request.reservation import Reservation
from cottonpalm.request.settlement import Settlement
from cottonpalm.request.tries import Next, Tries
from cottonpalm.types import Fault, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, MutableMapping

    from cottonpalm.request.endpoints import Stay
    from cottonpalm.request.limiter.limiter import Permit
    from cottonpalm.request.row_account import RowAccount
    from cottonpalm.request.run_account import RunAccount

Step: TypeAlias = tuple[Literal["money", "permit", "send", "sleep"], Any]
FOREVER_S: Final = 1e9  # a sleep this long ends only when the row is closed
MAYBE_BILLED = frozenset({408, 499, 502, 504})  # a proxy gave up, but the model may have answered


class Sending(NamedTuple):
    """One send: the seconds it may take, and the body to send in place of the request's own (None: its own)."""

    timeout_s: float
    body: bytes | None = None


@dataclass(slots=True)
class Reply:
    """What came back from one send.

    Attributes:
        status: the HTTP status; 0 if no answer came.
        content: the whole body; None while a stream is open.
        raw: the driver's own response.
        error: the exception that was raised instead of an answer.
        as_error: makes the HTTP library's exception for this status, to be given to the user's own `classify`.
    """

    status: int = 0
    headers: MutableMapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    raw: Any = None
    error: Exception | None = None
    as_error: Callable[[], Exception] | None = None

    @property
    def open_stream(self) -> bool:
        """Whether this is a good answer whose body has not arrived completely."""
        return self.error is None and self.content is None


@dataclass(slots=True)
class Kept:
    """A final failure that we give again without sending: an exception, or the parts of an error answer."""

    error: Exception | None = None
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""


@dataclass(slots=True)
class Done:
    """How a request ended: with a response, a stream whose try is settled at its end, or a failure known before."""

    raw: Any = None
    ending: Settlement | None = None
    kept: Kept | None = None


@dataclass(slots=True)
class Judged:
    """The result of judging one try."""

    fault: Fault | None
    answer: Answer | None = None
    billed: bool = True


def attempts(row: RowAccount, call: Call) -> Generator[Step, Any, Done]:
    """Send one request again and again until it is answered or its tries are used up.

    Raises:
        RowClosed: the row has ended.
        Moved: the row goes on at another endpoint.
        BudgetReached: no money is left for the request, or its cost has no bound.
        CutAnswer, FilteredAnswer: the answer was cut or filtered, and the run does not accept such answers.
        Exception: the last try's own error, if no answer came.
    """
    if row.run.look is not None:
        row.check_open()
        row.run.look(call)
        yield "sleep", FOREVER_S
        row.check_open()
    row.begin()
    done: Done | float = 0.0
    try:
        if (known := row.remembered(call)) is not None:
            return _again(known)
        limiter, stay = row.run.flow.limiter(call.key), row.stay
        if stay is not None:
            stay.endpoint.asks(limiter, call.label)
        tries = Tries(accepted=limiter.accepted)
        while True:
            done = yield from _try(row, call, tries, stay)
            if isinstance(done, Done):
                return done
            if done > 0:
                yield "sleep", done
    finally:
        if not (isinstance(done, Done) and done.ending):
            row.end()


def _try(row: RowAccount, call: Call, tries: Tries, stay: Stay | None) -> Generator[Step, Any, Done | float]:
    """Make one try: money, permit, send, judge. Return the result, or the seconds to sleep before the next try."""
    row.check_open()
    if stay is not None:
        stay.check()
    money = yield from _reserve(row, call, whole=tries.whole)
    permit = yield from _permitted(row, call, tries, money)
    ending, kept = Settlement(row, call, permit, money, stay), False
    try:
        _check_still_valid(row, call)
        ending.begin()
        reply: Reply = yield "send", Sending(row.run.timeouts.of(call), money.body)
        if kept := reply.open_stream:
            ending.streaming = True
            return Done(reply.raw, ending)
        judged = _judge(row.run, call, reply)
        if judged.answer is not None and money.cut_by_us(judged.answer):
            tries.whole = True  # we drop this answer, which is paid for, and ask again without our maximum
            row.run.pricing.count_cut()
            ending.over(None, status=reply.status, answer=judged.answer, headers=reply.headers)
            return 0.0
        then = _settle(row, tries, ending, reply, judged)
        if stay is not None and judged.fault is not None:
            stay.check()
    finally:
        if not kept:
            ending.abandon()
    return _finish(row, call, reply, judged) if then.sleep_s is None else then.sleep_s


def _permitted(row: RowAccount, call: Call, tries: Tries, money: Reservation) -> Generator[Step, Any, Permit]:
    """Wait for a permit. If the provider is down and another chain may answer the row, raise instead of waiting."""
    try:
        if row.divertible:
            check_up(row.run.flow.limiter(call.key))
        permit: Permit = yield "permit", (call.key, tries.behind)
    except ProviderDown as error:
        money.give_back()
        row.remember(call, Kept(error), Fault(Kind.TRANSIENT, "ProviderDown", str(error), cause=error))
        raise
    except BaseException:  # also if the task is cancelled while it waits
        money.give_back()
        raise
    return permit


def _reserve(row: RowAccount, call: Call, *, whole: bool) -> Generator[Step, Any, Reservation]:
    money, ledger = Reservation(row, call, whole=whole), row.run.ledger
    if ledger is None:
        return money
    bound = money.work_out()
    if bound is None and not row.run.refuses_unbounded:
        return money
    if bound is None:
        raise _stop(row.run, f"a budget is set, but {money.why_unbounded()}")
    if not bound:  # a request that costs nothing needs no money
        return money
    if ledger.take(bound, row.run.spending):
        amount = money.reserved = bound
        if not row.run.max_output_tokens:  # as in most runs: there is no maximum to add to the request
            return money
    elif not (amount := (yield "money", money.ask())):
        raise _stop(row.run, row.run.pricing.why_no_money(call.model, money.least))
    money.granted(amount)
    return money


def _stop(run: RunAccount, message: str) -> BudgetReached:
    error = dressed(BudgetReached, message)
    run.alerts.stop(Fault(Kind.STOP_RUN, "BudgetReached", message, cause=error))
    return error


def _check_still_valid(row: RowAccount, call: Call) -> None:
    row.check_open()
    if call.signed and clock.now() - call.born > SIGNATURE_LIFE_S:
        raise dressed(
            SignatureExpired, f"the request to {call.label} was signed too long ago; it was not sent"
        )


def _judge(run: RunAccount, call: Call, reply: Reply) -> Judged:
    """Judge what a reply means. The user's own function, if there is one, decides first."""
    if reply.error is not None:
        return Judged(run.fault_of(reply.error), billed=not never_sent(reply.error))
    content = reply.content or b""
    if reply.status >= 400:
        fault = judge_status(call.family, reply.status, reply.headers, content)
        if run.classify is not None and reply.as_error is not None:
            fault = run.judged(fault, reply.as_error())
        return Judged(fault, billed=reply.status in MAYBE_BILLED)
    answer = read_bytes(call.family, content)
    return Judged(broken(call, reply.headers, answer), answer)


def broken(call: Call, headers: MutableMapping[str, str], answer: Answer) -> Fault | None:
    """Return the fault of an answer that is not usable: an error under a good status, or a body that broke off."""
    if answer.error is not None:
        return judge(call.family, answer.error, headers)
    if not answer.complete:
        return Fault(
            Kind.TRANSIENT, "BrokenAnswer", f"the answer of {call.label} broke off or has no known shape"
        )
    return None


def _settle(row: RowAccount, tries: Tries, ending: Settlement, reply: Reply, judged: Judged) -> Next:
    """Give the permit back with its verdict, and return what follows."""
    fault, answer, then = judged.fault, judged.answer, Next(None)
    if fault is not None:
        then = _next(row, tries, ending, fault)
    ending.over(
        fault,
        status=reply.status or None,
        answer=answer,
        billed=judged.billed,
        pause_s=then.pause_s,
        headers=reply.headers,
    )
    if then.sleep_s is not None and row.run.measure is not None:
        row.run.measure.retried()
    return then


def _next(row: RowAccount, tries: Tries, ending: Settlement, fault: Fault) -> Next:
    """Decide what follows a failure: another try here, or none if the row can go to another endpoint or chain."""
    run, stay = row.run, ending.stay
    limiter = run.flow.limiter(ending.call.key)
    if stay is not None and stay.failing(fault, ending.number, dead=limiter.circuit.is_open(limiter.good)):
        return tries.elsewhere(limiter, probe=ending.probe)
    spare = row.divertible
    then = tries.after(fault, run, limiter, probe=ending.probe, spare=spare)
    if spare and limiter.circuit.is_open(limiter.good):
        run.failover.send_away(limiter.key)
    if stay is not None and then.sleep_s is None:
        stay.failed(fault)
    return then


def _finish(row: RowAccount, call: Call, reply: Reply, judged: Judged) -> Done:
    """End the request after its last try: hand out the answer, or remember the failure and hand it out."""
    if judged.fault is None:
        if judged.answer is not None and (error := cut(row, call, judged.answer)) is not None:
            raise error
        return Done(reply.raw)
    return _fail(row, call, reply, judged.fault)


def _fail(row: RowAccount, call: Call, reply: Reply, fault: Fault) -> Done:
    if fault.kind is Kind.STOP_RUN:
        row.run.alerts.stop(fault)
    error = reply.error
    if error is None and reply.status < 400:
        error = dressed(BrokenAnswer, fault.message)
    if error is not None:
        row.remember(call, Kept(error), fault)
        raise error
    reply.headers["x-should-retry"] = "false"  # the SDKs obey this header: the tries are used up
    row.remember(call, Kept(None, reply.status, dict(reply.headers), reply.content or b""), fault)
    return Done(reply.raw)


def _again(kept: Kept) -> Done:
    if kept.error is not None:
        raise kept.error.with_traceback(None)
    return Done(kept=kept)


def cut(row: RowAccount, call: Call, answer: Answer) -> Exception | None:
    """Return the exception for an answer that was cut or filtered; None if it is whole, or the run accepts it."""
    if answer.stop is None:
        return None
    if row.run.accept_truncated:
        row.truncated = True
        return None
    row.partial = answer.text
    if answer.stop == "cut":
        message = f"the answer of {call.label} was cut at its length limit"
        return dressed(CutAnswer, message, partial=answer.text)
    return dressed(
        FilteredAnswer, f"{call.label} refused to answer, or its answer was filtered", partial=answer.text
    )
