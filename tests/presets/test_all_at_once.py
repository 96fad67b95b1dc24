"""Every technique at once, over HTTP, with every fault: each row once, its own answer, its own cost, no overshoot."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any, Final

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

from cottonpalm import (
    AdaptiveBatchProcessor,
    AdaptiveConcurrency,
    Budget,
    Cache,
    Kind,
    Outcome,
    RetryPolicy,
    RunStopped,
    StreamingBatchProcessor,
    Usage,
)
from cottonpalm.engine.layers.fallback import ANOTHER_MAY_DO_IT
from cottonpalm.engine.shared import ledger_of
from cottonpalm.request.money.rules.prices import PriceBook
from cottonpalm.types import PICO
from tests.engine.trouble import NONE, REJECTED, TRIES, Trouble, script_of, troubles
from tests.presets.kinds import joined
from tests.support.loopback import Loopback
from tests.support.replies import Request, fails, ok, too_many

if TYPE_CHECKING:
    from pathlib import Path

ROWS: Final = 1_000
DISTINCT: Final = 650
MODEL: Final = "gpt-4o-mini"
POLICY = RetryPolicy(retries=TRIES - 1, rejections=4, base_s=0.001, cap_s=0.02)
# For the rows that hang. All other answers come at once, on a machine that is not busy for so long: one that is given
# up on is charged by the provider, and in no outcome.
TIMEOUT_S: Final = 6.0
FIRST_BUDGET: Final = 0.002  # dollars: for about half of the rows


def chain_of(server: Loopback, **more: Any) -> Any:
    model = ChatOpenAI(
        base_url=server.openai_url, api_key="sk-test-0123456789", model=MODEL, max_tokens=40, **more
    )
    return ChatPromptTemplate.from_template("{x}") | model | StrOutputParser()


def by_the_other(request: Request) -> Any:
    return ok(f"the other says: {request.text}")


class Case:
    """The same rows, store and cache over several calls, and what must become of each row."""

    def __init__(self, server: Loopback, other: Loopback, folder: Path, met: dict[str, Trouble]) -> None:
        self.server, self.other, self.folder, self.met = server, other, folder, met
        rng = Random(11)
        once = [
            text for text in met if met[text] is REJECTED
        ]  # twins would wait in line, and be rejected alone
        twice = [text for text in met if met[text] is not REJECTED]
        self.rows = [{"x": text} for text in once + rng.choices(twice, k=ROWS - len(once))]
        self.cache = Cache(max_entries=ROWS)

    def priority(self, row: dict[str, str]) -> int:
        """Of the three, the lowest for those who only end while others are accepted."""
        return 0 if self.met[row["x"]] is REJECTED else len(row["x"]) % 3

    def call(self, dollars: float) -> tuple[list[Outcome], list[Any] | None, Budget]:
        """One call of the class: the outcomes, the answers where the money sufficed, the purse."""
        budget = Budget(total=dollars)
        processor = AdaptiveBatchProcessor(
            chain_of(self.server),
            initial_concurrency=10,
            concurrency=AdaptiveConcurrency(maximum=40),
            retry=POLICY,
            timeout=TIMEOUT_S,
            fallbacks=[chain_of(self.other)],
            budget=budget,
            cache=self.cache,
            priority=self.priority,
            store=self.folder / "runs.db",
            run="all at once",
        )
        try:
            answers = processor.batch(self.rows)
        except RunStopped as stopped:
            if stopped.reason != "budget":
                raise
            return list(stopped.outcomes), None, budget
        last = processor.processor.last_run
        assert last is not None
        return last.outcomes(), answers, budget

    def answer(self, text: str) -> str | None:
        kind = self.met[text].kind
        if kind is None:
            return f"answer to: {text}"
        return f"the other says: {text}" if kind in ANOTHER_MAY_DO_IT else None

    def asked(self) -> Counter[str]:
        return Counter(self.server.counts) + Counter(self.other.counts)

    def billed(self) -> Usage:
        both = (self.server.billed, self.other.billed)
        return Usage(sum(one.input_tokens for one in both), sum(one.output_tokens for one in both))


def attempts_by_text(outcomes: list[Outcome]) -> Counter[str]:
    asked: Counter[str] = Counter()
    for outcome in outcomes:
        asked[outcome.input["x"]] += outcome.attempts
    return +asked


def used(outcomes: list[Outcome]) -> Usage:
    return sum((outcome.usage for outcome in outcomes if outcome.usage), Usage())


def told(outcomes: list[Outcome]) -> int:
    return sum(outcome.cost_pico or 0 for outcome in outcomes if outcome.cost_source == "reported")


def check_money(outcomes: list[Outcome], billed: Usage, budget: Budget, dollars: float) -> None:
    """What the provider charged is in the outcomes, to the token, and never above the ceiling."""
    rates, ledger = PriceBook().rates(MODEL), ledger_of(budget)
    assert rates is not None
    assert ledger is not None
    assert (ledger.reserved, ledger.overshoot) == (0, 0)
    assert used(outcomes) == billed
    assert told(outcomes) <= rates.cost(billed) <= ledger.spent <= round(dollars * PICO)
    for outcome in outcomes:
        if outcome.cost_source == "reported" and outcome.usage is not None:
            assert outcome.cost_pico == rates.cost(outcome.usage)


def less(whole: Usage, part: Usage) -> Usage:
    return Usage(whole.input_tokens - part.input_tokens, whole.output_tokens - part.output_tokens)


def few_rejected(met: dict[str, Trouble]) -> dict[str, Trouble]:
    """All but two of those that are rejected for ever are healthy.

    Once no others are left, a provider that rejects them may be at its limit: each is asked after an ever longer wait.
    """
    rejected = [text for text in met if met[text] is REJECTED]
    return met | dict.fromkeys(rejected[2:], NONE)


def test_everything_at_once_and_again_after_a_stop(tmp_path: Path) -> None:
    met = few_rejected(troubles([f"row {n}" for n in range(DISTINCT)], seed=5))
    with Loopback(script_of(met), latency=0.002) as server, Loopback(by_the_other) as other:
        case = Case(server, other, tmp_path, met)

        first, answers, budget = case.call(FIRST_BUDGET)
        assert answers is None
        assert case.asked() == attempts_by_text(first)
        check_money(first, case.billed(), budget, FIRST_BUDGET)
        done = [outcome for outcome in first if outcome.status != "skipped"]
        assert 0 < len(done) < ROWS
        before = case.billed()

        second, answers, budget = case.call(1.0)
        new = [outcome for outcome in second if not outcome.stored]
        assert case.asked() == attempts_by_text(first) + attempts_by_text(new), "nothing done was asked again"
        check_money(new, less(case.billed(), before), budget, 1.0)
    assert answers == [case.answer(row["x"]) for row in case.rows]
    assert [outcome.index for outcome in second] == list(range(ROWS))
    assert all(outcome.input == row for outcome, row in zip(second, case.rows, strict=True))
    kinds = {outcome.error.kind for outcome in second if outcome.error is not None}
    assert kinds == {Kind.FAIL_ROW}, "what another model could do, it did"
    asked = Counter(outcome.input["x"] for outcome in second if outcome.status == "ok" and not outcome.cached)
    assert set(asked.values()) == {1}, "of equal rows, one was asked"
    kept = sum(outcome.error is None or not outcome.error.retryable for outcome in done)
    assert ROWS - len(new) == kept


STREAMED: Final = 300


def before_the_first_piece(request: Request) -> Any:
    """Faults that a stream meets before anything was shown; rows of every seventh number are for the other model."""
    number = int(request.text.rpartition(" ")[2])
    if number % 7 == 0:
        return fails(400, code="context_length_exceeded")
    replies = {1: [fails(500)], 2: [too_many(retry_after_ms=2)], 3: [fails(503), fails(500)]}.get(
        number % 7, []
    )
    return replies[request.nth - 1] if request.nth <= len(replies) else None


def test_everything_at_once_as_a_stream(tmp_path: Path) -> None:
    rng = Random(13)
    rows = [{"x": f"row {n}"} for n in rng.choices(range(200), k=STREAMED)]
    texts = {row["x"] for row in rows}

    def make(budget: Budget) -> StreamingBatchProcessor:
        return StreamingBatchProcessor(
            chain_of(server, stream_usage=True),
            concurrency=AdaptiveConcurrency(maximum=40),
            retry=POLICY,
            fallbacks=[chain_of(other, stream_usage=True)],
            budget=budget,
            cache=Cache(max_entries=STREAMED),
            priority=lambda row: len(row["x"]),
            store=tmp_path / "runs.db",
            run="stream",
        )

    async def read(budget: Budget) -> list[str | None]:
        return await joined(make(budget).stream_batch(rows, max_concurrency=None), STREAMED)

    def wanted(text: str) -> str:
        mine = int(text.rpartition(" ")[2]) % 7 == 0
        return f"the other says: {text}" if mine else f"answer to: {text}"

    with Loopback(before_the_first_piece) as server, Loopback(by_the_other) as other:
        budget = Budget(total=1.0)
        assert asyncio.run(read(budget)) == [wanted(row["x"]) for row in rows]
        extra = {0: 1, 1: 1, 2: 1, 3: 2}  # requests that failed, for the number modulo 7
        asked = Counter(server.counts) + Counter(other.counts)
        assert asked == {text: 1 + extra.get(int(text.rpartition(" ")[2]) % 7, 0) for text in texts}
        ledger, rates = ledger_of(budget), PriceBook().rates(MODEL)
        assert ledger is not None
        assert rates is not None
        assert (ledger.reserved, ledger.overshoot) == (0, 0)
        both = (server.billed, other.billed)
        charged = Usage(sum(one.input_tokens for one in both), sum(one.output_tokens for one in both))
        assert ledger.spent == rates.cost(charged)

        assert asyncio.run(read(Budget(total=0.0))) == [wanted(row["x"]) for row in rows]
        assert Counter(server.counts) + Counter(other.counts) == asked, "what is stored was not asked again"
