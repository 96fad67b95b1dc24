"""The row layers of a run in their order, with the reason for each place."""

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
    """Return the call of a row with its layers round it. A layer is left out if it would have nothing to do.

    Args:
        callers: the chain, or several equal ones as one, and its fallbacks.
        retry: how often to ask again after an invalid answer, and after a fault that used up no request's tries.
        judge: exception -> Fault.
        account: holds the run's retry allowance, and the random numbers for jitter.
        sleep: waits, and gives up the row's place meanwhile.
        validate: the user's own check of an answer.
        none_is_no_answer: the chain's parser returns None when it found no answer.
    """
    layers: list[Layer] = []
    several = len(callers) > 1
    always = several  # True: a layer must also act when the first call succeeds
    if several:  # outermost: the other model gets its own re-asks and tries
        layers.append(Fallback(callers, judge, judge.out_of_money))
    if retry.reasks or validate or none_is_no_answer:  # asks again after an invalid answer
        reask = Reask(retry.reasks, validate, judge, none_is_no_answer=none_is_no_answer)
        layers.append(reask)
        always = always or reask.checks
    if retry.retries:  # innermost: handles only faults that used up no request's tries
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
    """Stack layers that act only on exceptions: a row gets them only when its first call has failed.

    The layers see the same calls as with `stack`, first the failed one. A row whose first call succeeds never runs
    their code.
    """
    if not layers:
        return send

    return FirstTry(layers, send)


class FirstTry:
    """Calls a chain with layers that act only on exceptions. Whoever is in a hurry calls `send`, then `after`."""

    def __init__(self, layers: Sequence[Layer], send: Inner) -> None:
        self._layers, self.send = layers, send

    async def __call__(self, item: Item) -> Any:
        """Return the answer of the first call, or what the layers make of its failure."""
        try:
            return await self.send(item)
        except Exception as exc:  # noqa: BLE001 - raised again as the layers' first call
            failure = exc
        return await self.after(item, failure)

    def after(self, item: Item, failure: Exception) -> Awaitable[Any]:
        """What the layers make of it that `send` has raised this."""
        return stack(self._layers, _Begun(failure, self.send))(item)


class _Begun:
    """Replays the first call, which has already been made and has failed; later calls are real."""

    def __init__(self, failure: Exception, send: Inner) -> None:
        self._failure: Exception | None = failure
        self._send = send

    async def __call__(self, item: Item) -> Any:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        return await self._send(item)
