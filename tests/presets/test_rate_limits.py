"""An ordinary rate limit loses no row of `SmartRetryBatch`, as it loses none of the document's listing."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from cottonpalm import RetryPolicy, SmartRetryBatch, clock
from cottonpalm.errors import ConfigError
from cottonpalm.request.limiter.limiters import Limits
from cottonpalm.testing import ScriptedChain, virtual_run
from tests.engine.test_bad_providers import Provider, chain_on
from tests.presets.test_attributes import sdk_error

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.core
ROWS = [{"x": n} for n in range(20)]


def answered(chain: Any, rows: Any = ROWS, **more: Any) -> tuple[int, float]:
    """How many rows got an answer, and after how many virtual seconds the last one came."""

    async def main() -> tuple[int, float]:
        processor = SmartRetryBatch(chain, limits=Limits(), **more).processor
        answers = await processor.abatch(rows, return_exceptions=True)
        return sum(not isinstance(one, Exception) for one in answers), asyncio.get_running_loop().time()

    return virtual_run(main(), 1)


def bare(until_s: float) -> Callable[[float], Any]:
    return lambda age: 429 if age < until_s else None


@pytest.mark.parametrize("limited_s", [10.0, 45.0, 58.0])
def test_a_rate_limit_that_names_no_wait_loses_no_row(limited_s: float) -> None:
    count, seconds = answered(chain_on(Provider(bare(limited_s))))
    assert count == len(ROWS)
    assert 60 <= seconds <= 120, "a row that was rejected waited its minute, and all of them at the same time"


def test_nor_does_one_that_only_the_chain_itself_sees() -> None:
    def limited(row: Any) -> Any:
        if clock.now() < 45.0:
            import openai

            return sdk_error(openai, "RateLimitError", 429)
        return row

    count, seconds = answered(ScriptedChain(then=limited))
    assert count == len(ROWS)
    assert 60 <= seconds <= 120


def test_a_wait_that_the_provider_names_is_kept_instead() -> None:
    named = (429, {"retry-after": "5"})
    count, seconds = answered(chain_on(Provider(lambda age: named if age < 4 else None)))
    assert count == len(ROWS)
    assert 5 <= seconds <= 20


def test_a_wait_of_ones_own_goes_before_the_minute() -> None:
    quick = RetryPolicy(throttle_wait_s=10.0)
    count, seconds = answered(chain_on(Provider(bare(8.0))), retry=quick)
    assert count == len(ROWS)
    assert 10 <= seconds <= 25


def test_a_row_that_is_always_rejected_has_its_attempts_and_no_more() -> None:
    provider = Provider(bare(1e9))
    count, seconds = answered(chain_on(provider), ROWS[:2], max_retries=3)
    assert count == 0
    assert set(Counter(request.content for request in provider.requests).values()) == {3}
    assert seconds >= 120


@pytest.mark.parametrize("wait", [-1, "a minute", True])
def test_what_is_no_wait_is_refused(wait: Any) -> None:
    with pytest.raises(ConfigError, match="throttle_wait_s"):
        RetryPolicy(throttle_wait_s=wait)
