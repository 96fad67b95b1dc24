"""Each of the ten with other techniques switched on by keyword, over HTTP, with faults on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.output_parsers import StrOutputParser

from cottonpalm import Budget, Cache, RetryPolicy
from cottonpalm.engine.shared import ledger_of
from tests.presets.kinds import PRESETS, Preset, openai, rows_of
from tests.support.loopback import Loopback
from tests.support.replies import Reply, Request, context_too_long, fails, ok, resets, too_many

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUICK = RetryPolicy(retries=2, base_s=0.001, cap_s=0.01)
FIRST = [None, fails(500), too_many(retry_after_ms=1), resets()]  # what the first request for a text meets
DISTINCT, TIMES = 8, 3
ROWS = rows_of(DISTINCT) * TIMES
ANSWERS = [f"answer to: Say it: {row['x']}" for row in ROWS]


def number(text: str) -> int:
    return int(text.rpartition(" ")[2])


def trouble(request: Request) -> Reply | None:
    return FIRST[number(request.text) % len(FIRST)] if request.nth == 1 else None


@pytest.fixture
def server() -> Iterator[Loopback]:
    with Loopback(trouble) as running:
        yield running


def chain_of(server: Loopback) -> Any:
    return openai(server, max_tokens=50) | StrOutputParser()


def counts(server: Loopback) -> list[int]:
    return [server.counts.get(f"Say it: row {n}", 0) for n in range(DISTINCT)]


TROUBLED = [int(FIRST[n % len(FIRST)] is not None) for n in range(DISTINCT)]


@pytest.mark.parametrize("preset", PRESETS, ids=repr)
def test_with_a_cache_and_a_store_each_question_is_answered_once(
    preset: Preset, server: Loopback, tmp_path: Path
) -> None:
    def make() -> Any:
        kept = {"store": tmp_path / "runs.db", "run": "together"}
        size = 100  # as that of the class that has one of its own
        return preset.make(chain_of(server), tmp_path, cache=Cache(max_entries=size), retry=QUICK, **kept)

    assert preset.run(make(), ROWS) == ANSWERS
    asked = counts(server)
    assert asked == [1 + troubled for troubled in TROUBLED]
    if preset.name.startswith("Resumable"):  # its store is its own, and gone
        assert not list(tmp_path.iterdir())
        return
    assert preset.run(make(), ROWS) == ANSWERS
    assert counts(server) == asked, "what is stored was not asked again"


@pytest.mark.parametrize("preset", PRESETS, ids=repr)
def test_with_a_budget_and_priorities_each_row_is_paid_once_and_nothing_is_overspent(
    preset: Preset, server: Loopback, tmp_path: Path
) -> None:
    budget = Budget(total=1.0)
    processor = preset.make(
        chain_of(server), tmp_path, budget=budget, retry=QUICK, priority=lambda row: number(row["x"])
    )
    assert preset.run(processor, ROWS) == ANSWERS
    times = 1 if preset.name.startswith("Cached") else TIMES
    assert counts(server) == [times + troubled for troubled in TROUBLED]
    ledger = ledger_of(budget)
    assert ledger is not None
    assert (ledger.reserved, ledger.overshoot) == (0, 0)
    if preset.name.startswith("CostAware"):
        charged = server.billed.input_tokens * 0.15e-6 + server.billed.output_tokens * 0.60e-6
        assert processor.cost_tracker["total_cost"] == pytest.approx(charged)
        assert charged <= ledger.spent / 1e12, "what may have cost something is booked besides"
        assert processor.cost_tracker["request_count"] == server.requests


@pytest.mark.parametrize("preset", PRESETS, ids=repr)
def test_with_a_fallback_and_a_validator_the_other_model_answers_what_the_first_cannot(
    preset: Preset, server: Loopback, tmp_path: Path
) -> None:
    told: list[str] = []

    def script(request: Request) -> Reply | None:
        if "was not accepted" in request.text:  # asked again, and told what was wrong
            told.append(request.text)
            return ok("answer to: Say it: row 4")
        if number(request.text) == 5:
            return context_too_long()
        if number(request.text) == 4 and request.nth == 1:
            return ok("nonsense")
        return trouble(request)

    def check(answer: str) -> None:
        if answer == "nonsense":
            raise ValueError("not an answer")

    server.script(script)
    with Loopback() as other:
        processor = preset.make(
            chain_of(server),
            tmp_path,
            fallbacks=[chain_of(other)],
            validate=check,
            retry=QUICK,
            cache=Cache(max_entries=100),
        )
        assert preset.run(processor, ROWS) == ANSWERS
        assert other.counts == {"Say it: row 5": 1}
    asked = counts(server)
    assert (asked[4], asked[5]) == (1, 1)
    assert len(told) == 1
    assert "not an answer" in told[0]
