"""What a try waits for before it is sent: its turn in the prompt cache, money, a permit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cottonpalm.providers import BudgetReached, ProviderDown, TooDear, dressed
from cottonpalm.request.attempt.reservation import Reservation
from cottonpalm.request.attempt.steps import AskMoney, AskPermit, Hold, KeptFailure
from cottonpalm.request.endpoints.failover import check_up
from cottonpalm.request.limiter.limiter import Permit
from cottonpalm.request.limiter.limiters import TOTAL
from cottonpalm.types import Fault, Kind

if TYPE_CHECKING:
    from collections.abc import Generator

    from cottonpalm.providers.call import Call
    from cottonpalm.request.attempt.settlement import Settlement
    from cottonpalm.request.attempt.steps import Result, Step
    from cottonpalm.request.attempt.tries import Tries
    from cottonpalm.request.endpoints.endpoints import Stay
    from cottonpalm.request.money.ledger import Ledger
    from cottonpalm.request.prompt_cache.asking import Asking
    from cottonpalm.request.row_account import RowAccount


def ready(
    row: RowAccount, call: Call, tries: Tries, stay: Stay | None
) -> Generator[Step, Result, tuple[Reservation, Permit, Asking | None]]:
    """Wait for all that a try needs, in this order: its turn in the prompt cache, money, a permit."""
    run = row.run
    if (asking := run.prompts.asking(call, run.pricing.listed)) is not None:
        yield from _in_turn(row, asking, stay)
    try:
        money = Reservation(row, call, whole=tries.whole)
        if run.ledger is not None:
            yield from reserve(row, call, money, run.ledger)
        elif call.label not in run.pricing.foreseen:
            run.pricing.foresee(call)
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


def _permitted(
    row: RowAccount, call: Call, tries: Tries, money: Reservation
) -> Generator[Step, Result, Permit]:
    """Wait for a permit. If the provider is down and another chain may answer the row, raise instead of waiting."""
    try:
        if row.divertible:
            check_up(row.run.flow.limiter(call.key))
        permit = yield AskPermit(call.key, tries.behind, tries.failed)
        assert isinstance(permit, Permit)
    except ProviderDown as error:
        money.give_back()
        row.passes(row.run.flow.limiter(call.key), down=True)
        row.remember(call, KeptFailure(error), Fault(Kind.TRANSIENT, "ProviderDown", str(error), cause=error))
        raise
    except BaseException:  # also if the task is cancelled while it waits
        money.give_back()
        raise
    return permit


def reserve(row: RowAccount, call: Call, money: Reservation, ledger: Ledger) -> Generator[Step, Result, None]:
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
            raise _no_money(row, call, money)
    money.granted(amount)


def _no_money(row: RowAccount, call: Call, money: Reservation) -> BudgetReached:
    """What is left does not cover the request. That is no word on others, unless nothing can be spent any more."""
    why = row.run.pricing.why_no_money(repr(call.model), money.least, streams=call.streams)
    if row.run.spending.failure is not None:
        return _stop(row, why)
    row.refused, row.too_dear = True, TooDear(why)
    row.too_dear.least = money.least()
    return dressed(TooDear, why)


def _stop(row: RowAccount, message: str) -> BudgetReached:
    error = dressed(BudgetReached, message)
    row.stop_run(Fault(Kind.STOP_RUN, "BudgetReached", message, cause=error))
    row.refused = True  # what the chain makes of that is no answer
    return error


def among_all(row: RowAccount, ending: Settlement, *, above: bool = False) -> Generator[Step, Result, None]:
    """A permit among the requests of all models, where they share a bound; last, as it must never be waited with."""
    if row.run.flow.limiters.total is not None:
        permit = yield AskPermit(TOTAL, above=above)
        assert isinstance(permit, Permit)
        ending.among_all = permit
