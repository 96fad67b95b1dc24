"""What a run says it cost: all of it, or that much at least."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor
from tests.support.loopback import Loopback
from tests.support.replies import fails, resets

ROWS = [f"row {n}" for n in range(12)]


def stats_of(script: Any, **options: Any) -> Any:
    with Loopback(script) as server:
        options = {"model": "gpt-4o-mini", "base_url": server.openai_url, "api_key": "sk-1", **options}
        processor = BatchProcessor(ChatOpenAI(**options), retry=0, max_failures=1.0)
        processor.batch(ROWS, return_exceptions=True)
        assert processor.last_run is not None
        return processor.last_run.stats


@pytest.mark.parametrize("status", [400, 422])
def test_rows_that_were_refused_cost_nothing_and_the_sum_is_whole(status: int) -> None:
    stats = stats_of(lambda request: fails(status) if request.text in ROWS[:5] else None, max_tokens=9)
    assert (stats.ok, stats.failed) == (7, 5)
    assert stats.cost_usd > 0
    assert stats.cost_known


def test_where_all_were_refused_the_run_cost_nothing() -> None:
    stats = stats_of(lambda _: fails(400), max_tokens=9)
    assert (stats.ok, stats.cost_usd, stats.cost_known, stats.uncertain_usd) == (0, 0.0, True, 0.0)


def test_a_connection_that_broke_may_have_cost_something_up_to_its_bound() -> None:
    stats = stats_of(lambda request: resets() if request.text == ROWS[3] else None, max_tokens=9)
    assert (stats.ok, stats.failed) == (11, 1)
    assert stats.cost_known
    assert stats.uncertain_usd > 0


def test_where_no_price_is_known_nobody_knows_what_broken_connections_have_cost() -> None:
    stats = stats_of(lambda _: resets(), model="nobody-knows")
    assert (stats.ok, stats.uncertain_usd) == (0, 0.0)
    assert not stats.cost_known
