"""Handles one model request from the first try to the last: decides what to wait for, in which order, when to stop.

`attempts` is a generator without I/O and without HTTP types. It yields a step (`steps.py`); a driver (async or sync,
`drivers.py`) does the step, waits, and sends the result back, or throws in the exception that ended the wait.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import orjson

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
from cottonpalm.providers.batches.lines import Result as Known
from cottonpalm.providers.call import SIGNATURE_LIFE_S, Call
from cottonpalm.providers.classify import STOPS, is_bare_refusal, judge, judge_status, never_sent
from cottonpalm.providers.openai import FLEX
from cottonpalm.request.backoff import backoff_s
from cottonpalm.request.failover import check_up
from cottonpalm.request.flex import TRIES
from cottonpalm.request.limiter.limiter import Permit
from cottonpalm.request.limiter.limiters import TOTAL
from cottonpalm.request.recording import Wanted
from cottonpalm.request.reservation import Reservation, may_be_repeated
from cottonpalm.request.settlement import Settlement
from cottonpalm.request.steps import (
    AskMoney,
    AskPermit,
    Copier,
    Done,
    Hold,
    Kept,
    Reply,
    Result,
    Send,
    Sleep,
    Step,
)
from cottonpalm.request.tries import Next, Tries
from cottonpalm.runtime.wait_queue import RowClosed
from cottonpalm.types import Fault, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, MutableMapping

    from cottonpalm.request.endpoints import Stay
    from cottonpalm.request.flex import Flex
    from cottonpalm.request.money.ledger import Ledger
    from cottonpalm.request.prompt_cache.asking import Asking
    from cottonpalm.request.recording import Recording
    from cottonpalm.request.row_account import RowAccount
    from cottonpalm.request.run_account import RunAccount

# Of one request. With two, one run of 1,000 rows in 125 met three hangs in a row, and waited for its timeout.
COPIES: Final = 3
FOREVER_S: Final = 1e9  # a sleep this long ends only when the row is closed
_REPLAYED: Final = {"content-type": "application/json", "x-should-retry": "false"}
# Who gave up was on the way; the model may have answered.
MAYBE_BILLED: Final = frozenset({408, 499, 502, 504, 520, 522, 524})


@dataclass(slots=True)
class Judged:
    """The result of judging one try."""

    fault: Fault | None
    answer: Answer | None = None
    billed: bool = True


def attempts(row: RowAccount, call: Call) -> Generator[Step, Result, Done]:
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
        yield Sleep(FOREVER_S)
        row.check_open()
    row.begin()
    done: Done | float = 0.0
    try:
        if row.knows and (old := (yield from _otherwise(row, call))) is not None:
            return old
        limiter, stay = row.run.flow.limiter(call.key), row.stay
        if stay is not None:
            stay.begins(limiter, call)
        tries = Tries(accepted=limiter.accepted)
        while True:
            done = yield from _try(row, call, tries, stay)
            if isinstance(done, Done):
                return done
            if done > 0:
                yield Sleep(done)
    finally:
        if not (isinstance(done, Done) and done.ending):
            row.end()


def _otherwise(row: RowAccount, call: Call) -> Generator[Step, Result, Done | None]:
    """Answer it from what is known, or at a cheaper tier of service; None: it is to be sent as it is."""
    if (old := (yield from _known(row, call))) is not None:
        return old
    return None if row.run.flex is None else (yield from _at_flex(row, call, row.run.flex))


def _at_flex(row: RowAccount, call: Call, flex: Flex) -> Generator[Step, Result, Done | None]:
    """Ask at the flex tier; None: it has no room or is not served, and the request is to be sent as it is."""
    cheaper = flex.of(call)
    if cheaper is None:
        return None
    tries = Tries(accepted=row.run.flow.limiter(cheaper.key).accepted)
    while tries.refused < TRIES and flex.serves(call):
        before = tries.refused
        done = yield from _try(row, cheaper, tries, None)
        if isinstance(done, Done):
            return done
        if done > 0 and flex.serves(call):
            yield Sleep(done)
        elif tries.refused > before and tries.refused < TRIES:
            yield Sleep(backoff_s(before, row.run.retry.base_s, row.run.retry.cap_s, row.run.rng))
    flex.gave_up(call)
    if row.withdraw():
        yield Sleep(FOREVER_S)
        row.check_open()
    return None


def _known(row: RowAccount, call: Call) -> Generator[Step, Result, Done | None]:
    """How this very request ended for good before, or was answered in a batch; None: it is to be sent."""
    if (kept := row.remembered(call)) is not None:
        return _again(kept)
    return None if row.recording is None else (yield from _recorded(row, call, row.recording))


def _recorded(row: RowAccount, call: Call, recording: Recording) -> Generator[Step, Result, Done | None]:
    """Answer from a batch, or hold the request back until the round is over; None: it is to be sent after all."""
    found = recording.look_up(call)
    if found is None:
        return None
    if isinstance(found, Known):
        return _replayed(row, call, found)
    if isinstance(found, Wanted):
        money = Reservation(row, replace(call, batched=True), whole=True)
        if row.run.ledger is not None:
            yield from _reserve(row, call, money, row.run.ledger)
        recording.ask(found, money)
    try:
        yield Sleep(FOREVER_S)
    finally:
        recording.close()  # who no longer waits would ask something else now, in an answer's absence
    row.check_open()
    raise dressed(RowClosed, "a recorded request waited longer than for ever")


def _replayed(row: RowAccount, call: Call, result: Known) -> Done:
    """The answer of a batch, as if it had come over the wire. It was paid for when it was collected."""
    content = orjson.dumps(result.body)
    kept = Kept(None, result.status, dict(_REPLAYED), content)
    row.replayed()
    if not result.good:
        fault = judge_status(call.family, result.status, {}, content)
    else:
        answer = read_bytes(call.family, content)
        Reservation(row, replace(call, batched=True)).show(answer)
        broke = broken(call, {}, answer)
        if broke is None:
            if (error := cut(row, call, answer)) is not None:
                raise error
            return Done(kept=kept)
        fault = broke
    if fault.kind is Kind.STOP_RUN:
        row.stop_run(fault)
    row.remember(call, kept, fault)
    return Done(kept=kept)


def _try(
    row: RowAccount, call: Call, tries: Tries, stay: Stay | None
) -> Generator[Step, Result, Done | float]:
    """Make one try: money, permit, send, judge. Return the result, or the seconds to sleep before the next try."""
    row.check_open()
    if stay is not None:
        stay.check()
    money, permit, asking = yield from _ready(row, call, tries, stay)
    ending, kept = Settlement(row, call, permit, money, stay, again=tries.failed, asking=asking), False
    try:
        yield from _among_all(row, ending)
        _check_still_valid(row, call)
        ending.begin()
        reply = yield Send(row.run.timeout_s, money.body, _copier(row, call, money))
        assert isinstance(reply, Reply)
        if reply.copy is not None:
            _settle_original(ending, reply)
            ending = reply.copy
        if kept := reply.open_stream:
            ending.streaming = True
            return Done(reply.raw, ending)
        judged = _judge(row.run, call, reply)
        if judged.answer is not None and money.cut_by_us(judged.answer):
            tries.whole = True  # we drop this answer, which is paid for, and ask again without our maximum
            row.run.pricing.count_cut()
            ending.over(None, status=reply.status, answer=judged.answer, headers=reply.headers)
            return 0.0
        if call.asked_as is not None and _is_refused(row, call, tries, reply, judged.fault):
            ending.over(judged.fault, status=reply.status, billed=False, headers=reply.headers)
            return 0.0
        then = _settle(row, tries, ending, reply, judged)
        if stay is not None and judged.fault is not None:
            stay.check()
    finally:
        if not kept:
            ending.abandon()
    return _finish(row, call, reply, judged) if then.sleep_s is None else then.sleep_s


def _is_refused(row: RowAccount, call: Call, tries: Tries, reply: Reply, fault: Fault | None) -> bool:
    """Whether the flex tier has not served it; else, if it was answered there, take note of that."""
    flex = row.run.flex
    assert flex is not None
    if fault is None:
        flex.answered(call)
        row.flexed += 1
        return False
    if not flex.refused(call, reply.status, reply.content or b""):
        return False
    tries.refused += 1
    tries.failed = True
    return True


def _ready(
    row: RowAccount, call: Call, tries: Tries, stay: Stay | None
) -> Generator[Step, Result, tuple[Reservation, Permit, Asking | None]]:
    """Wait for all that a try needs, in this order: its turn in the prompt cache, money, a permit."""
    run = row.run
    if (asking := run.prompts.asking(call, run.pricing.listed)) is not None:
        yield from _in_turn(row, asking, stay)
    try:
        money = Reservation(row, call, whole=tries.whole)
        if run.ledger is not None:
            yield from _reserve(row, call, money, run.ledger)
        if asking is not None:
            money.instead = asking.body
        elif call.asked_as is not None:
            money.instead = call.body
        return money, (yield from _permitted(row, call, tries, money)), asking
    except BaseException:
        if asking is not None:
            asking.over(None, None, answered=False)
        raise


def _in_turn(row: RowAccount, asking: Asking, stay: Stay | None) -> Generator[Step, Result, None]:
    """Wait until the prefix that the prompt shares is in the provider's cache, if another request is writing it now.

    Nothing is held meanwhile.
    """
    while (wait := asking.go(row.run.allowance.requests)) is not None:
        in_time = yield Hold(*wait)
        row.check_open()
        if stay is not None:
            stay.check()
        if not in_time:
            asking.go_alone()
            break


def _copier(row: RowAccount, call: Call, money: Reservation, copies: int = COPIES) -> Copier | None:
    if not copies or call.streams or call.signed or call.tier == FLEX or not row.run.hedges.wanted:
        return None
    return lambda went: _copy(row, call, money, copies - 1, went)


def _copy(
    row: RowAccount, call: Call, money: Reservation, copies: int, went: Callable[[], None]
) -> Generator[Step, Result, Reply | None]:
    """One more try of a request that is late, beside the first: settled, and a good answer marked as `copy`.

    It is sent where its money need not be waited for, and a second answer is as good as the first; else None. `went` is
    called when it goes.
    """
    run, ending, counts = row.run, None, False
    row.begin()
    try:
        if not may_be_repeated(call) or (second := money.again()) is None:
            return None
        try:
            permit = yield AskPermit(call.key)
        except BaseException:  # mostly a cancel in line: the original was answered
            second.give_back()
            raise
        assert isinstance(permit, Permit)
        ending = Settlement(row, call, permit, second)
        yield from _among_all(row, ending)
        row.check_open()
        ending.begin()
        counts = True
        went()
        reply = yield Send(run.timeout_s, second.body, _copier(row, call, second, copies))
        assert isinstance(reply, Reply)
        if reply.copy is not None:
            _settle_original(ending, reply)
        elif (fault := _settle_as(ending, reply)) is not None:
            counts = fault.kind is not Kind.THROTTLE  # a rejection costs nothing
        else:
            reply.copy = ending
        return reply
    finally:
        if ending is not None:
            ending.abandon()
        row.end()
        if not counts:
            run.hedges.give_back()
        elif run.measure is not None:
            run.measure.hedged()


def _settle_original(ending: Settlement, reply: Reply) -> None:
    """Its copy was answered: it was cut off, or came to something that does not count."""
    ending.answered_by_copy()
    if reply.instead_of is None:
        ending.abandon()
    else:
        _settle_as(ending, reply.instead_of)


def _settle_as(ending: Settlement, reply: Reply) -> Fault | None:
    """Settle a try that no other follows; its fault."""
    judged = _judge(ending.row.run, ending.call, reply)
    fault = judged.fault
    pause_s = (fault.retry_after_s or 0.0) if fault is not None and fault.kind is Kind.THROTTLE else 0.0
    ending.over(
        fault,
        status=reply.status or None,
        answer=judged.answer,
        billed=judged.billed,
        pause_s=pause_s,
        headers=reply.headers,
    )
    return fault


def _permitted(
    row: RowAccount, call: Call, tries: Tries, money: Reservation
) -> Generator[Step, Result, Permit]:
    """Wait for a permit. If the provider is down and another chain may answer the row, raise instead of waiting."""
    try:
        if row.divertible:
            check_up(row.run.flow.limiter(call.key))
        permit = yield AskPermit(call.key, tries.behind)
        assert isinstance(permit, Permit)
    except ProviderDown as error:
        money.give_back()
        row.remember(call, Kept(error), Fault(Kind.TRANSIENT, "ProviderDown", str(error), cause=error))
        raise
    except BaseException:  # also if the task is cancelled while it waits
        money.give_back()
        raise
    return permit


def _among_all(row: RowAccount, ending: Settlement) -> Generator[Step, Result, None]:
    """A permit among the requests of all models, where they share a bound; last, as it must never be waited with."""
    if row.run.flow.limiters.total is not None:
        permit = yield AskPermit(TOTAL)
        assert isinstance(permit, Permit)
        ending.among_all = permit


def _reserve(
    row: RowAccount, call: Call, money: Reservation, ledger: Ledger
) -> Generator[Step, Result, None]:
    """Wait until the budget has what the request may cost."""
    bound = money.work_out()
    if bound is None and row.run.refuses_unbounded:
        raise _stop(row, f"a budget is set, but {money.why_unbounded()}")
    if not bound:  # a request that costs nothing needs no money
        return
    if ledger.take(bound, row.run.spending):
        amount = money.reserved = bound
        if not row.run.max_output_tokens:  # as in most runs: there is no maximum to add to the request
            return
    else:
        granted = yield AskMoney(money.ask())
        assert isinstance(granted, int)
        if not (amount := granted):
            raise _stop(row, row.run.pricing.why_no_money(call.model, money.least))
    money.granted(amount)


def _stop(row: RowAccount, message: str) -> BudgetReached:
    error = dressed(BudgetReached, message)
    row.stop_run(Fault(Kind.STOP_RUN, "BudgetReached", message, cause=error))
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
        said = (call.family, reply.status, reply.headers, content)
        fault = judge_status(*said)
        if is_bare_refusal(*said):
            fault = run.refusals.judged(call.key, fault, accepted=run.flow.limiter(call.key).accepted > 0)
        if run.classify is not None and reply.as_error is not None:
            fault = run.judged(fault, reply.as_error())
        return Judged(fault, billed=reply.status in MAYBE_BILLED)
    answer = read_bytes(call.family, content, reply.json)
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
        alone=fault is not None and fault.kind is Kind.THROTTLE and tries.own,
    )
    tries.failed = fault is not None
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
        row.stop_run(fault)
    error = reply.error
    if error is None and reply.status < 400:
        error = dressed(BrokenAnswer, fault.message)
    if error is not None:
        row.remember(call, Kept(error), fault)
        raise error
    reply.headers["x-should-retry"] = "false"  # the SDKs obey this header: the tries are used up
    if fault.kind is Kind.STOP_RUN:
        reply.headers[STOPS] = "true"
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
