"""The row layers of a run in their order, with its reasons beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cottonpalm.layers import stack, stack_on_failure
from cottonpalm.layers.fallback import Fallback
from cottonpalm.layers.reask import Reask
from cottonpalm.layers.retry import RowRetry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cottonpalm.job import Job
    from cottonpalm.judge import Judge
    from cottonpalm.model import Item
    from cottonpalm.protocols import Inner, Layer
    from cottonpalm.request.account import RunAccount


def layered(job: Job, judge: Judge, account: RunAccount, sleep: Callable[[float], Awaitable[None]]) -> Inner:
    """The call of a row with its layers round it; each is there only if it has something to do.

    Args:
        job: the run's callers and rules.
        judge: exception -> Fault.
        account: holds the run's allowance of retries, and their jitter.
        sleep: waits without holding a place.
    """
    layers: list[Layer] = []
    several = len(job.callers) > 1
    always = several  # whether a layer has something to do before or after a good first call
    if several:  # outermost: another model gets questions and tries of its own
        layers.append(Fallback(job.callers, judge, judge.out_of_money))
    if job.retry.reask_tries > 1 or job.validate or job.none_is_no_answer:  # an answer that does not hold
        reask = Reask(job.retry.reask_tries, job.validate, judge, none_is_no_answer=job.none_is_no_answer)
        layers.append(reask)
        always = always or reask.checks
    if job.retry.transient_tries > 1:  # innermost: only faults that no request has spent its tries on
        layers.append(RowRetry(job.retry, account.allowance.take, judge, sleep, account.rng))
    fold = stack if always else stack_on_failure
    return fold(layers, _dispatch if several else job.callers[0])


async def _dispatch(item: Item) -> Any:
    return await item.caller(item)
