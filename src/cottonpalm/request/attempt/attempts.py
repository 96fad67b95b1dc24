"""Handles one model request from the first try to the last: decides what to wait for, in which order, when to stop.

`attempts` is a generator without I/O and without HTTP types. It yields a step (`steps.py`); a driver (async or sync,
`drivers.py`) does the step, waits, and sends the result back, or throws in the exception that ended the wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cottonpalm import clock
from cottonpalm.providers import BrokenAnswer, SignatureExpired, dressed
from cottonpalm.providers.call import SIGNATURE_LIFE_S
from cottonpalm.providers.classify import STOPS
from cottonpalm.request.attempt.copies import copier, settle_original
from cottonpalm.request.attempt.judging import cut, judge_reply
from cottonpalm.request.attempt.known import known
from cottonpalm.request.attempt.settlement import Settlement
from cottonpalm.request.attempt.steps import FOREVER_S, Done, KeptFailure, Reply, Send, Sleep
from cottonpalm.request.attempt.tries import Next, Tries
from cottonpalm.request.attempt.waits import among_all, ready
from cottonpalm.request.backoff import backoff_s
from cottonpalm.request.flex import GIVEN_UP, TRIES
from cottonpalm.types import Fault, Kind

if TYPE_CHECKING:
    from collections.abc import Generator

    from cottonpalm.providers.call import Call
    from cottonpalm.request.attempt.judging import Judged
    from cottonpalm.request.attempt.steps import Result, Step
    from cottonpalm.request.endpoints.endpoints import Stay
    from cottonpalm.request.flex import Flex
    from cottonpalm.request.limiter.limiter import Limiter
    from cottonpalm.request.row_account import RowAccount


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
        tries = Tries(limiter.accepted, limiter.granted)
        while True:
            done = yield from _try(row, call, tries, stay)
            if isinstance(done, Done):
                return done
            if done > 0:
                yield from _sleep(row, tries, limiter, done)
    finally:
        if not (isinstance(done, Done) and done.ending):
            row.end()


def _sleep(row: RowAccount, tries: Tries, limiter: Limiter, seconds: float) -> Generator[Step, Result, None]:
    """Sleep; where it is long only since the run's retries are used up, until the provider answers again."""
    if not tries.slowed:
        yield Sleep(seconds)
        return
    until_s = clock.now() + seconds
    while nap_s := tries.nap_s(until_s - clock.now(), row.run, limiter):
        yield Sleep(nap_s)


def _otherwise(row: RowAccount, call: Call) -> Generator[Step, Result, Done | None]:
    """Answer it from what is known, or at a cheaper tier of service; None: it is to be sent as it is."""
    if (old := (yield from known(row, call))) is not None:
        return old
    return None if row.run.flex is None else (yield from _at_flex(row, call, row.run.flex))


def _at_flex(row: RowAccount, call: Call, flex: Flex) -> Generator[Step, Result, Done | None]:
    """Ask at the flex tier; None: it has no room or is not served, and the request is to be sent as it is."""
    cheaper = flex.of(call)
    if cheaper is None:
        return None
    limiter = row.run.flow.limiter(cheaper.key)
    tries = Tries(limiter.accepted, limiter.granted)
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


def _try(
    row: RowAccount, call: Call, tries: Tries, stay: Stay | None
) -> Generator[Step, Result, Done | float]:
    """Make one try: money, permit, send, judge. Return the result, or the seconds to sleep before the next try."""
    row.check_open()
    if stay is not None:
        stay.check()
    money, permit, asking = yield from ready(row, call, tries, stay)
    ending, kept = Settlement(row, call, permit, money, stay, again=tries.failed, asking=asking), False
    try:
        yield from among_all(row, ending)
        _check_still_valid(row, call)
        ending.begin()
        reply = yield Send(row.run.timeout_s, money.body, copier(row, call, money))
        assert isinstance(reply, Reply)
        if reply.copy is not None:
            settle_original(ending, reply)
            ending = reply.copy
        if kept := reply.open_stream:
            ending.streaming = True
            return Done(reply.raw, ending)
        judged = judge_reply(row.run, call, reply)
        if judged.answer is not None and money.cut_by_us(judged.answer):
            tries.whole = True  # we drop this answer, which is paid for, and ask again without our maximum
            row.run.pricing.count_cut()
            ending.over(None, status=reply.status, answer=judged.answer, headers=reply.headers)
            return 0.0
        if call.asked_as is not None and _is_refused(row, call, tries, reply, judged):
            ending.over(judged.fault, status=reply.status, billed=False, headers=reply.headers)
            return 0.0
        then = _settle(row, tries, ending, reply, judged)
        if stay is not None and judged.fault is not None:
            stay.check()
    finally:
        if not kept:
            ending.abandon()
    return _finish(row, call, reply, judged) if then.sleep_s is None else then.sleep_s


def _is_refused(row: RowAccount, call: Call, tries: Tries, reply: Reply, judged: Judged) -> bool:
    """Whether the flex tier has refused it; else, if it was answered, take note of the tier at which it was."""
    flex = row.run.flex
    assert flex is not None
    if judged.fault is None:
        _note_tier(row, call, flex, None if judged.answer is None else judged.answer.tier)
        return False
    if not flex.refused(call, reply.status, reply.content or b""):
        return False
    tries.refused += 1
    tries.failed = True
    return True


def _note_tier(row: RowAccount, call: Call, flex: Flex, tier: str | None) -> None:
    if flex.served(call, tier):
        row.flexed += 1
        return
    row.run.alerts.warn(
        f"tier of {call.label}",
        f"{call.label} was asked at the flex tier and answered at the tier {tier!r}, at its price: where that happens"
        f" {GIVEN_UP} times one after the other, rows go into batches for a while",
    )


def _check_still_valid(row: RowAccount, call: Call) -> None:
    row.check_open()
    if call.signed and clock.now() - call.born > SIGNATURE_LIFE_S:
        raise dressed(
            SignatureExpired, f"the request to {call.label} was signed too long ago; it was not sent"
        )


def _settle(row: RowAccount, tries: Tries, ending: Settlement, reply: Reply, judged: Judged) -> Next:
    """Give the permit back with its verdict, and return what follows."""
    fault, answer, then = judged.fault, judged.answer, Next(None)
    if fault is not None:
        then = _next(row, tries, ending, fault, unsent=judged.unsent)
    elif tries.rejections:
        row.run.flow.limiter(ending.call.key).accepted_after(tries.rejections)
    alone_s = ending.over(
        fault,
        status=reply.status or None,
        answer=answer,
        billed=judged.billed,
        pause_s=then.pause_s,
        headers=reply.headers,
        alone=fault is not None and fault.kind is Kind.THROTTLE and tries.own,
    )
    tries.failed = fault is not None
    return then if then.sleep_s is None else then._replace(sleep_s=max(then.sleep_s, alone_s))


def _next(row: RowAccount, tries: Tries, ending: Settlement, fault: Fault, *, unsent: bool) -> Next:
    """Decide what follows a failure: another try here, or none if the row can go to another endpoint or chain."""
    run, stay = row.run, ending.stay
    limiter = run.flow.limiter(ending.call.key)
    dead = limiter.circuit.is_open(limiter.good)
    if stay is not None and stay.failing(fault, ending.number, dead=dead, unsent=unsent):
        return tries.elsewhere(limiter, probe=ending.probe)
    goes_back = dead and row.back is not None and row.back.is_open(asking=ending.probe)
    spare = row.divertible if row.replaceable else goes_back
    alone = stay is not None and stay.hopeless
    waits = unsent and (stay is None or alone) and not row.replaceable  # nobody else could answer it
    then = tries.after(fault, run, limiter, probe=ending.probe, spare=spare, alone=alone, waits=waits)
    down = limiter.circuit.is_open(limiter.good)
    if then.sleep_s is None and fault.kind is Kind.TRANSIENT and (row.spare or spare):
        row.passes(limiter, down=down)
    if down and (spare or ending.probe):
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
        error = dressed(BrokenAnswer, fault.message, kind=fault.kind)
    if error is not None:
        row.remember(call, KeptFailure(error), fault)
        raise error
    reply.headers["x-should-retry"] = "false"  # the SDKs obey this header: the tries are used up
    if fault.kind is Kind.STOP_RUN:
        reply.headers[STOPS] = "true"
    row.remember(call, KeptFailure(None, reply.status, dict(reply.headers), reply.content or b""), fault)
    return Done(reply.raw)
