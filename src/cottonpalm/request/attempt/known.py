"""Requests that are answered without being sent: how one ended before, or what a batch has brought."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cottonpalm.errors import CottonpalmError, words_of
from cottonpalm.providers import dressed
from cottonpalm.providers.answer import read_bytes, written
from cottonpalm.providers.batches.lines import Result as Known
from cottonpalm.providers.classify import judge_status
from cottonpalm.providers.raised import BrokenAnswer, asks_on
from cottonpalm.request.attempt.judging import broken, cut
from cottonpalm.request.attempt.reservation import Reservation
from cottonpalm.request.attempt.steps import FOREVER_S, Done, KeptFailure, Sleep
from cottonpalm.request.attempt.waits import reserve
from cottonpalm.request.recording import Wanted
from cottonpalm.runtime.signal_handlers import raised_anew
from cottonpalm.runtime.wait_queue import RowClosed
from cottonpalm.types import Kind

if TYPE_CHECKING:
    from collections.abc import Generator

    from cottonpalm.providers.call import Call
    from cottonpalm.request.attempt.steps import Result, Step
    from cottonpalm.request.recording import Recording
    from cottonpalm.request.row_account import RowAccount

_REPLAYED: Final = {"content-type": "application/json", "x-should-retry": "false"}


def known(row: RowAccount, call: Call) -> Generator[Step, Result, Done | None]:
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
            yield from reserve(row, call, money, row.run.ledger)
        recording.ask(found, money)
    try:
        yield Sleep(FOREVER_S)
    finally:
        recording.close()  # who no longer waits would ask something else now, in an answer's absence
    row.check_open()
    raise dressed(RowClosed, "a recorded request waited longer than for ever")


def _replayed(row: RowAccount, call: Call, result: Known) -> Done:
    """The answer of a batch, as if it had come over the wire. It was paid for when it was collected."""
    content = written(result.body)
    kept = KeptFailure(None, result.status, dict(_REPLAYED), content)
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
        kept = KeptFailure(dressed(BrokenAnswer, fault.message, kind=fault.kind))
    if fault.kind is Kind.STOP_RUN:
        row.stop_run(fault)
    row.remember(call, kept, fault)
    return _again(kept)


def _again(kept: KeptFailure) -> Done:
    if kept.error is not None:
        error = raised_anew(kept.error)
        if asks_on() and not isinstance(error, CottonpalmError):
            raise dressed(BrokenAnswer, words_of(error)) from error
        raise error
    return Done(kept=kept)
