"""Every fault a provider can have, at once, over real HTTP: each row once, the right answer, one request per try."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

from cottonpalm import AdaptiveConcurrency, BatchProcessor, Budget, Cache, RetryPolicy, RunStopped
from cottonpalm.engine.shared import ledger_of
from cottonpalm.request.money.rules.prices import PriceBook
from cottonpalm.stores import open_store
from cottonpalm.types import PICO, Kind, Outcome, Usage
from tests.engine.trouble import REJECTED, TRIES, Trouble, script_of, troubles
from tests.support.loopback import Loopback

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.waits

ROWS = 800
MODEL = "gpt-4o-mini"
TIMEOUT_S = 2.0  # for the rows that hang; all other answers come at once
PROMPT = ChatPromptTemplate.from_template("{x}")
SPEED = AdaptiveConcurrency(maximum=40)  # so that no answer waits for long on a busy machine
POLICY = RetryPolicy(retries=TRIES - 1, rejections=4, base_s=0.001, cap_s=0.02)


def openai(server: Loopback, **more: Any) -> Any:
    model = ChatOpenAI(base_url=server.openai_url, api_key="sk-test-0123456789", model=MODEL, **more)
    return PROMPT | model | StrOutputParser()


def anthropic(server: Loopback) -> Any:
    model = ChatAnthropic(
        base_url=server.url, api_key="sk-ant-0123456789", model_name="claude-haiku-4-5", max_tokens=100
    )
    return PROMPT | model | StrOutputParser()


def check_row(outcome: Outcome, text: str, met: Trouble) -> None:
    """What must have become of a row that met this trouble."""
    if met.kind is None:
        assert (outcome.status, outcome.output) == ("ok", f"answer to: {text}"), (met, outcome)
    else:
        assert outcome.error is not None, (met, outcome)
        assert outcome.error.kind is met.kind, (met, outcome)
        assert (outcome.output or None) == met.partial, (met, outcome)
    if met.sends is not None and not outcome.cached:
        # The last few that always fail look like an outage, in which no try counts: one is asked a second later.
        more = 2 if met.kind is Kind.TRANSIENT else 0
        assert met.sends <= outcome.attempts <= met.sends + more, (met, outcome)


@pytest.mark.parametrize(("vendor", "rows"), [(openai, ROWS), (anthropic, 200)])
def test_each_row_ends_once_with_its_own_answer_or_the_right_kind_of_failure(vendor: Any, rows: int) -> None:
    texts = [f"row {n}" for n in range(rows)]
    met = troubles(texts, seed=rows)
    with Loopback(script=script_of(met)) as server:
        processor = BatchProcessor(vendor(server), concurrency=SPEED, retry=POLICY, timeout=TIMEOUT_S)
        with processor.start([{"x": text} for text in texts]) as run:
            outcomes = list(run)
    assert sorted(outcome.index for outcome in outcomes) == list(range(rows))
    for outcome in outcomes:
        text = texts[outcome.index]
        check_row(outcome, text, met[text])
        assert server.counts[text] == outcome.attempts, (met[text], outcome)
    assert run.stats.ok == sum(trouble.kind is None for trouble in met.values())


def used(outcomes: list[Outcome]) -> Usage:
    return sum((outcome.usage for outcome in outcomes if outcome.usage), Usage())


def asked_by_text(outcomes: list[Outcome]) -> Counter[str]:
    asked: Counter[str] = Counter()
    for outcome in outcomes:
        asked[outcome.input["x"]] += outcome.attempts
    return asked


def fixed(outcome: Outcome) -> tuple[Any, ...]:
    """What tells an outcome apart, over processes. Equal rows may change places, so their indexes do not."""
    return (
        outcome.input["x"],
        outcome.latency_s,
        outcome.output,
        outcome.error,
        outcome.attempts,
        outcome.usage,
    )


class Case:
    """The same rows, store and cache over two runs, the first of which runs out of money."""

    def __init__(self, server: Loopback, path: Path, rows: int, met: dict[str, Trouble]) -> None:
        self.server, self.path, self.met = server, path, met
        rng = Random(7)
        once = [
            text for text in met if met[text] is REJECTED
        ]  # twins would wait in line and be rejected alone
        twice = [text for text in met if met[text] is not REJECTED]
        self.rows = [{"x": text} for text in once + rng.choices(twice, k=rows - len(once))]
        self.priorities = [0 if met[row["x"]] is REJECTED else rng.randrange(3) for row in self.rows]
        self.cache = Cache(max_entries=rows)

    def run(self, dollars: float) -> tuple[list[Outcome], RunStopped | None, Budget]:
        budget = Budget(total=dollars)
        chain = openai(self.server, max_tokens=40)
        processor = BatchProcessor(
            chain,
            concurrency=SPEED,
            retry=POLICY,
            timeout=TIMEOUT_S,
            budget=budget,
            cache=self.cache,
            store=self.path,
            run="faults",
        )
        outcomes: list[Outcome] = []
        with processor.start(self.rows, priorities=self.priorities) as run:
            try:
                outcomes.extend(run)
            except RunStopped as stopped:
                return outcomes, stopped, budget
        return outcomes, None, budget


def test_with_cache_budget_priorities_and_store_nothing_is_overspent_and_a_resume_repays_nothing(
    tmp_path: Path,
) -> None:
    rows = 500
    met = troubles([f"row {n}" for n in range(rows * 7 // 10)], seed=3)
    rates = PriceBook().rates(MODEL, None)
    assert rates is not None
    with Loopback(script=script_of(met), latency=0.002) as server:
        case = Case(server, tmp_path / "runs.db", rows, met)
        first, stopped, budget = case.run(0.002)
        assert stopped is not None
        assert stopped.reason == "budget"
        ledger = ledger_of(budget)
        assert ledger is not None
        assert (ledger.reserved, ledger.overshoot) == (0, 0)
        billed = Usage(server.billed.input_tokens, server.billed.output_tokens)
        assert used(first) == billed, "every token that the provider charged for is in some outcome"
        told = [outcome.cost_pico or 0 for outcome in first if outcome.cost_source == "reported"]
        assert sum(told) <= rates.cost(billed)
        assert rates.cost(billed) <= ledger.spent <= round(0.002 * PICO)
        for outcome in first:
            if outcome.cost_source == "reported" and outcome.usage is not None:
                assert outcome.cost_pico == rates.cost(outcome.usage)
        asked = asked_by_text(first)
        assert server.counts == {text: count for text, count in asked.items() if count}
        ended = [outcome for outcome in first if outcome.status != "skipped"]
        assert 0 < len(ended) < rows

        second, stopped, budget = case.run(1.0)
        assert stopped is None
        assert sorted(outcome.index for outcome in second) == list(range(rows))
        for outcome in second:
            text = case.rows[outcome.index]["x"]
            assert outcome.input == case.rows[outcome.index]
            kind = None if outcome.error is None else outcome.error.kind
            assert kind is met[text].kind, (met[text], outcome)
            if met[text].kind is None:
                assert outcome.output == f"answer to: {text}"
        kept = {fixed(outcome) for outcome in ended if outcome.error is None or not outcome.error.retryable}
        assert kept <= {fixed(outcome) for outcome in second}, "what was done came back as it was"
        new = [outcome for outcome in second if fixed(outcome) not in kept]
        assert server.counts == {
            text: count for text, count in (asked + asked_by_text(new)).items() if count
        }, "what was done was not asked again"
        billed = Usage(server.billed.input_tokens, server.billed.output_tokens)
        assert used(first) + used(new) == billed
    answered = Counter(
        outcome.input["x"] for outcome in second if outcome.status == "ok" and not outcome.cached
    )
    assert set(answered.values()) == {1}, "of equal rows, one was asked"
    store = open_store(tmp_path / "runs.db")
    [info] = store.runs()
    store.close()
    assert info.ok + info.failed == rows
    assert info.cost_pico == sum(outcome.cost_pico or 0 for outcome in ended + new)
