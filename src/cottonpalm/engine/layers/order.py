"""The row layers of a run in their order, with its reasons beside it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from cottonpalm.engine.layers.fallback import Fallback
from cottonpalm.engine.layers.reask import Reask
from cottonpalm.engine.layers.retry import RowRetry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from cottonpalm.config import RetryPolicy
    from cottonpalm.engine.classifier import Classifier
    from cottonpalm.protocols import Inner, Layer
    from cottonpalm.request.run_account import RunAccount
    from cottonpalm.types import Item


def layered(
    callers: Sequence[Inner],
    retry: RetryPolicy,
    judge: Classifier,
    account: RunAccount,
    sleep: Callable[[float], Awaitable[None]],
    *,
    validate: Callable[[Any], object] | None = None,
    none_is_no_answer: bool = False,
) -> Inner:
    """The call of a row with its layers round it; each is there only if it has something to do.

    Args:
        callers: the chain, or several equal ones as one, and its fallbacks.
        retry: how often an answer that does not hold is asked again, and a fault that no request has spent tries on.
        judge: exception -> Fault.
        account: holds the run's allowance of retries, and their jitter.
        sleep: waits without holding a place.
        validate: the user's own check of an answer.
        none_is_no_answer: the chain's parser says None where it found nothing.
    """
    layers: list[Layer] = []
    several = len(callers) > 1
    always = several  # whether a layer has something to do before or after a good first call
    if several:  # outermost: another model gets questions and tries of its own
        layers.append(Fallback(callers, judge, judge.out_of_money))
    if retry.reask_tries > 1 or validate or none_is_no_answer:  # an answer that does not hold
        reask = Reask(retry.reask_tries, validate, judge, none_is_no_answer=none_is_no_answer)
        layers.append(reask)
        always = always or reask.checks
    if retry.transient_tries > 1:  # innermost: only faults that no request has spent its tries on
        layers.append(RowRetry(retry, account.allowance.take, judge, sleep, account.rng))
    fold = stack if always else stack_on_failure
    return fold(layers, _dispatch if several else callers[0])


async def _dispatch(item: Item) -> Any:
    return await item.caller(item)


def stack(layers: Sequence[Layer], send: Inner) -> Inner:
    """Fold layers round `send`; the first one listed sees the call first."""
    for layer in reversed(layers):
        send = partial(layer, inner=send)
    return send


def stack_on_failure(layers: Sequence[Layer], send: Inner) -> Inner:
    """`stack` for layers that only act on what is raised: they are put round a row whose first call has failed.

    They then see the same calls as ever, the failed one first; a row that succeeds at once never pays for them.
    """
    if not layers:
        return send

    async def first(item: Item) -> Any:
        try:
            return await send(item)
        except Exception as exc:  # noqa: BLE001 - raised again as the layers' first call
            failure = exc
        return await stack(layers, _Begun(failure, send))(item)

    return first


class _Begun:
    """Calls of which the first has been made, and failed."""

    def __init__(self, failure: Exception, send: Inner) -> None:
        self._failure: Exception | None = failure
        self._send = send

    async def __call__(self, item: Item) -> Any:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        return await self._send(item)
