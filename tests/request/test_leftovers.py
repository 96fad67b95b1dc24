"""What a row leaves behind: a long run must not live on its garbage collector."""

from __future__ import annotations

import gc
from typing import Literal

import pytest

from cottonpalm import BatchProcessor
from cottonpalm.request.row_account import RowAccount
from tests.fast.cases import PROMPT, openai
from tests.support.loopback import Loopback


@pytest.mark.parametrize("transport", ["fast", "stock"])
def test_nothing_of_a_row_that_is_over_waits_for_the_garbage_collector(
    transport: Literal["fast", "stock"],
) -> None:
    rows = [{"text": f"row {number}"} for number in range(12)]
    with Loopback() as server:
        processor = BatchProcessor(PROMPT | openai(server.openai_url), concurrency=2, transport=transport)
        processor.batch(rows[:4])
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            processor.batch(rows)
            gc.collect()
            left = [thing for thing in gc.garbage if isinstance(thing, RowAccount)]
        finally:
            gc.set_debug(0)
            gc.enable()
            gc.garbage.clear()
    assert left == []
