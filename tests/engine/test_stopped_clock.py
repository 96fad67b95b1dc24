"""Runs under a clock that a test has stopped, as freezegun does: in each module that holds it."""

from __future__ import annotations

import sys
import time

import pytest
from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor
from tests.support.loopback import Loopback
from tests.support.replies import too_many


def _stop(monkeypatch: pytest.MonkeyPatch) -> None:
    real, now = time.monotonic, time.monotonic()
    ours = [module for name, module in sys.modules.items() if name.startswith("cottonpalm")]
    for module in (time, *ours):
        for name, value in list(vars(module).items()):
            if value is real:
                monkeypatch.setattr(module, name, lambda: now)


@pytest.mark.timeout(30)
def test_a_run_ends_where_a_test_has_stopped_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    with Loopback(script=[too_many(0.1), None]) as server:
        model = ChatOpenAI(model="gpt-4o-mini", base_url=server.openai_url, api_key="k")
        processor = BatchProcessor(model)
        with monkeypatch.context() as patch:
            _stop(patch)
            answers = processor.batch([f"row {number}" for number in range(30)])
        assert [answer.content for answer in answers] == [f"answer to: row {n}" for n in range(30)]
        assert len(server.arrivals) == 31
