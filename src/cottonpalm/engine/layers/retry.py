"""Calls the chain again after a fault, unless a request under it has already used up its tries on that fault."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cottonpalm import clock
from cottonpalm.request.backoff import backoff_s, hinted_s
from cottonpalm.types import Fault, Item, Kind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

    from cottonpalm.config import RetryPolicy
    from cottonpalm.protocols import Inner


class RowRetry:
    """Tries a row again after a transient fault of its own code, or of a model whose requests we cannot see.

    Args:
        policy: how often and how long to wait.
        allowed: takes one retry from the run's allowance; False if none is left.
        judge: exception -> Fault.
        sleep: waits, and gives up the row's place meanwhile.
        rng: random numbers for the jitter.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        allowed: Callable[[], bool],
        judge: Callable[[BaseException], Fault],
        sleep: Callable[[float], Awaitable[None]],
        rng: Random,
    ) -> None:
        self._policy, self._allowed, self._judge, self._sleep, self._rng = policy, allowed, judge, sleep, rng

    async def __call__(self, item: Item, inner: Inner) -> Any:
        """Return the row's answer; call the chain as often as needed and as the policy allows."""
        attempt = 0
        while True:
            try:
                return await inner(item)
            except Exception as exc:
                attempt += 1
                fault = self._judge(exc)
                if not item.account.attempts:  # none of its requests is seen
                    item.account.tried(item.called_s, clock.now() - item.called_s, fault.kind.value)
                if not self._again(item, fault, attempt):
                    raise
            await self._sleep(self._wait_s(fault, attempt))
            item.account.fresh()

    def _again(self, item: Item, fault: Fault, attempt: int) -> bool:
        if item.shown or item.account.spent is not None:
            return False
        if fault.kind is Kind.THROTTLE:  # not caused by the row: uses neither its tries nor the allowance
            policy = self._policy
            return attempt <= policy.retries if policy.count_all else attempt < policy.rejections
        return fault.kind is Kind.TRANSIENT and attempt <= self._policy.retries and self._allowed()

    def _wait_s(self, fault: Fault, attempt: int) -> float:
        hint_s = fault.retry_after_s
        if hint_s is None and fault.kind is Kind.THROTTLE:
            hint_s = self._policy.throttle_wait_s
        if hint_s is not None:
            return hinted_s(hint_s, self._rng)
        return backoff_s(attempt - 1, self._policy.base_s, self._policy.cap_s, self._rng)
