"""Runs with techniques drawn at random, over HTTP with faults, left and taken up again: what must hold of each.

`drawn(seed)` names the techniques, `check(techniques, folder)` runs them and asserts. Used by `test_combined` for a few
seeds and by `bench/combined.py` for many.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, fields
from random import Random
from typing import TYPE_CHECKING, Any, Final

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableBranch, RunnableLambda, RunnableParallel
from langchain_openai import ChatOpenAI

from cottonpalm import (
    AdaptiveConcurrency,
    BatchProcessor,
    Budget,
    Cache,
    Outcome,
    RetryPolicy,
    RowFinished,
    RunStopped,
)
from cottonpalm.engine.layers.fallback import ANOTHER_MAY_DO_IT
from cottonpalm.engine.shared import ledger_of
from cottonpalm.types import PICO
from tests.engine.trouble import REJECTED, SURVIVED, TRIES, Trouble, troubles
from tests.support.ledgers import settle
from tests.support.loopback import Loopback
from tests.support.replies import ok

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from langchain_core.runnables import Runnable

    from cottonpalm.request.money.ledger import Ledger
    from cottonpalm.run import BaseRun
    from tests.support.replies import Reply, Request

NAME: Final = re.compile(r"row \d+")
POLICY: Final = RetryPolicy(retries=TRIES - 1, rejections=4, base_s=0.001, cap_s=0.02)
ENOUGH: Final = 1.0  # dollars
MODEL: Final = "gpt-4o-mini"


@dataclass(frozen=True)
class Techniques:
    """What is on in a case. `lives`: after how many outcomes each life but the last is left."""

    seed: int
    form: str
    rows: int
    distinct: int
    reading: str
    transport: str
    concurrency: int | str | AdaptiveConcurrency
    chunk_size: int | None
    priority: bool
    cache: str
    budget: bool
    store: bool
    fallback: bool
    hedge: bool
    lives: tuple[int, ...]
    ending: str  # how a life is left: "left", "stop", "money"

    def __str__(self) -> str:
        return ", ".join(f"{one.name}={getattr(self, one.name)!r}" for one in fields(self))


def drawn(seed: int) -> Techniques:
    """The techniques of this seed."""
    rng = Random(seed)
    rows = rng.randint(1, 90)
    store = rng.random() < 0.7
    return Techniques(
        seed=seed,
        form=rng.choice(sorted(FORMS)),
        rows=rows,
        distinct=rng.randint(max(1, rows // 2), rows),
        reading=rng.choice(["batch", "abatch", "start", "astart", "completed", "stream"]),
        transport=rng.choice(["fast", "stock"]),
        concurrency=rng.choice(["auto", 1, 3, 17, AdaptiveConcurrency(maximum=8)]),
        chunk_size=rng.choice([None, None, 1, 7, 50]),
        priority=rng.random() < 0.5,
        cache=rng.choice(["none", "memory", "disk"]),
        budget=rng.random() < 0.6,
        store=store,
        fallback=rng.random() < 0.5,
        hedge=rng.random() < 0.5,
        lives=tuple(rng.randint(0, rows) for _ in range(rng.choice([0, 1, 1, 2]) if store else 0)),
        ending=rng.choice(["left", "stop", "money"]),
    )


def one_step(prompt: str, model: Any) -> Any:
    return ChatPromptTemplate.from_template(prompt) | model | StrOutputParser()


def two_steps(model: Any) -> Any:
    return one_step("{x}", model) | RunnableLambda(lambda said: {"x": said}) | one_step("again: {x}", model)


def branch(model: Any) -> Any:
    return RunnableBranch(
        (lambda row: int(row["x"].rpartition(" ")[2]) % 2 == 0, one_step("even {x}", model)),
        one_step("odd {x}", model),
    )


def even(row: str) -> str:
    return f"{'odd' if int(row.rpartition(' ')[2]) % 2 else 'even'} {row}"


# A form: how the chain is made of a model, and what it gives for a row if the model says `said(text)` to `text`.
FORMS: Final[
    dict[str, tuple[Callable[[Any], Runnable[Any, Any]], Callable[[str, Callable[[str], str]], Any]]]
] = {
    "text": (lambda model: one_step("{x}", model), lambda row, said: said(row)),
    "two steps": (two_steps, lambda row, said: said(f"again: {said(row)}")),
    "parallel": (
        lambda model: RunnableParallel(a=one_step("a {x}", model), b=one_step("b {x}", model)),
        lambda row, said: {"a": said(f"a {row}"), "b": said(f"b {row}")},
    ),
    "branch": (branch, lambda row, said: said(even(row))),
}


def first(text: str) -> str:
    return f"answer to: {text}"


def second(text: str) -> str:
    return f"the other says: {text}"


class Case:
    """One drawn case: the servers' scripts, what must come of each row, and what was seen so far."""

    def __init__(self, techniques: Techniques, folder: Path) -> None:
        self.techniques, self.folder = techniques, folder
        rng = Random(techniques.seed + 1)
        names = [f"row {n}" for n in range(techniques.distinct)]
        self.met = self._met(names, techniques.seed)
        more = [name for name in names if self.met[name] is not REJECTED]
        repeated = techniques.rows - len(names)
        self.rows = [
            {"x": name} for name in names + (rng.choices(more, k=repeated) if more else names[:repeated])
        ]
        rng.shuffle(self.rows)
        self.done: dict[int, Any] = {}  # the values of rows whose outcomes were shown
        self.answered: Counter[str] = (
            Counter()
        )  # shown and not from the store: equal rows take each other's place
        self.spent = 0  # by earlier lives of the run, in pico-dollars; the budget is for all of them
        self.cut = False  # this life ends before all rows are done
        self.cache = None if techniques.cache == "none" else self._cache()

    def _met(self, names: list[str], seed: int) -> dict[str, Trouble]:
        """Who meets what. Where a row asks twice, its troubles are those that pass."""
        rng, met = Random(seed), troubles(names, seed, hanging=0)
        twice = self.techniques.form in {"two steps", "parallel"}
        for name, trouble in met.items():
            if trouble is REJECTED or (twice and trouble.kind is not None):
                met[name] = rng.choice(SURVIVED)
        return met

    def _cache(self) -> Cache:
        if self.techniques.cache == "memory":
            return Cache(max_entries=1_000)
        return Cache(max_entries=1_000, path=self.folder / "answers.db")

    def script(self, request: Request) -> Reply | None:
        found = NAME.search(request.text)
        assert found is not None, request.text
        replies = self.met[found[0]].replies
        return replies[request.nth - 1] if request.nth <= len(replies) else None

    def wanted(self, row: str) -> Any:
        """The row's value, or None where it has to fail."""
        gives = FORMS[self.techniques.form][1]
        kind = self.met[row].kind
        if kind is None:
            return gives(row, first)
        return gives(row, second) if self.techniques.fallback and kind in ANOTHER_MAY_DO_IT else None

    def finished(self) -> set[str]:
        """The rows that the store has an answer for, and for each that is equal."""
        there = Counter(row["x"] for row in self.rows)
        return {row for row in there if self.wanted(row) is not None and self.answered[row] >= there[row]}

    def processor(self, server: Loopback, other: Loopback, budget: Budget | None) -> BatchProcessor:
        t = self.techniques
        make = FORMS[t.form][0]
        options: dict[str, Any] = {"store": self.folder / "runs.db", "run": "night"} if t.store else {}
        return BatchProcessor(
            make(self._model(server)),
            fallbacks=[make(self._model(other))] if t.fallback else [],
            transport=t.transport,
            concurrency=t.concurrency,
            chunk_size=t.chunk_size,
            priority=(lambda row: len(row["x"])) if t.priority else None,
            cache=self.cache,
            budget=budget,
            hedge=t.hedge,
            retry=POLICY,
            max_failures=1.0,
            timeout=20,
            **options,
        )

    def _model(self, server: Loopback) -> Any:
        return ChatOpenAI(
            base_url=server.openai_url, api_key="sk-test-0123456789", model=MODEL, max_tokens=60
        )

    def check_value(self, row: str, value: Any) -> None:
        """What `batch` and its brothers give for a row; one that a stop left out is no news."""
        wanted = self.wanted(row)
        if not (self.cut and isinstance(value, RunStopped)):
            assert isinstance(value, Exception) if wanted is None else value == wanted, (
                row,
                self.met[row].name,
                value,
            )

    def check_outcome(self, outcome: Outcome) -> None:
        if self.cut and outcome.status == "skipped":
            return
        row = self.rows[outcome.index]["x"]
        wanted = self.wanted(row)
        assert outcome.status in {"ok", "failed"}, outcome
        assert (outcome.output if outcome.status == "ok" else None) == wanted, (
            row,
            self.met[row].name,
            outcome,
        )
        assert outcome.index not in self.done or self.done[outcome.index] == wanted
        self.answered[row] += not outcome.stored
        self.done[outcome.index] = wanted

    def check_money(self, charged: int, ledger: Ledger, uncertain: int) -> None:
        """Nothing stays reserved, nothing is above the ceiling; what was charged is booked, and no more is known of.

        Args:
            charged: what the servers charged in this life for answers with a usage, in pico-dollars.
            uncertain: what the run booked for requests whose cost it could not know.
        """
        settle(ledger)
        assert (ledger.reserved, ledger.overshoot) == (0, 0)
        assert ledger.spent - self.spent >= charged
        if not self.cut and not self.techniques.hedge:
            booked = ledger.spent - self.spent - uncertain
            assert booked == charged, "what was reported is what was charged"
        if self.techniques.store:
            self.spent = ledger.spent


def charge(server: Loopback) -> int:
    """What a server has charged so far, in pico-dollars."""
    from cottonpalm.request.money.rules.prices import PriceBook
    from cottonpalm.types import Usage

    rates, billed = PriceBook().rates(MODEL), server.billed
    assert rates is not None
    return rates.cost(Usage(billed.input_tokens, billed.output_tokens))


def check(techniques: Techniques, folder: Path) -> None:
    """Run the case: each life but the last is left early, the last one ends by itself.

    Raises:
        AssertionError: a row has not its own answer, is shown twice, is asked though it was done; money is not exact.
    """
    case = Case(techniques, folder)
    by_the_other = lambda request: ok(second(request.text))  # noqa: E731
    with Loopback(case.script, latency=0.001) as server, Loopback(by_the_other) as other:
        for after in techniques.lives:
            life(case, server, other, after)
        life(case, server, other, None)
        asked = asked_of(server, other)
    assert sorted(case.done) == list(range(len(case.rows)))
    if techniques.cache != "none" and not techniques.lives:
        answered_once(case, asked)


def asked_of(server: Loopback, other: Loopback) -> Counter[str]:
    return Counter(server.counts) + Counter(other.counts)


def answered_once(case: Case, asked: Counter[str]) -> None:
    """Of equal rows, one was asked: so often as its troubles need."""
    if case.techniques.hedge:
        return  # a copy more is no fault
    for text, times in asked.items():
        found = NAME.search(text)
        assert found is not None
        trouble = case.met[found[0]]
        if trouble.kind is None and trouble.sends is not None:
            assert times - trouble.sends in (0, restarts(case.techniques, text, trouble)), (
                text,
                times,
                trouble.name,
            )


def restarts(techniques: Techniques, text: str, trouble: Trouble) -> int:
    """How often a row's first step is asked again because the stream of its second broke off when it was open."""
    breaks = trouble.name in {"cut body", "malformed body"}
    first_step = techniques.form == "two steps" and not text.startswith("again")
    return int(techniques.reading == "stream" and first_step and breaks)


def life(case: Case, server: Loopback, other: Loopback, after: int | None) -> None:
    """One process's part: read `after` outcomes and leave (None: all of them)."""
    for one in (server, other):
        one.rest()  # what an earlier life gave up is charged before this one begins
    t, before, finished = case.techniques, charge(server) + charge(other), case.finished()
    case.cut = after is not None
    budget = Budget(total=ENOUGH) if t.budget else None
    if after is not None and t.ending == "money":
        budget = Budget(total=after * 2e-5)
    asked = asked_of(server, other)
    processor = case.processor(server, other, budget)
    if after is not None and t.ending == "money":
        with suppress(RunStopped):
            read(case, processor, None)
    else:
        read(case, processor, after)
    if budget is not None and (ledger := ledger_of(budget)) is not None:
        charged = charge(server) + charge(other) - before
        run = processor.last_run  # None where nobody holds it any more
        uncertain = (
            ledger.spent - case.spent - charged if run is None else round(run.stats.uncertain_usd * PICO)
        )
        case.check_money(charged, ledger, uncertain)
    if t.store:
        again = {text for text, times in asked_of(server, other).items() if times > asked[text]}
        assert not {name[0] for text in again if (name := NAME.search(text))} & finished, (
            "stored is not asked again"
        )


def read(case: Case, processor: BatchProcessor, after: int | None) -> None:
    """Read the outcomes by the drawn way of reading."""
    how = (
        case.techniques.reading
        if after is None
        else {"abatch": "astart", "astart": "astart"}.get(case.techniques.reading, "start")
    )
    {"batch": _batch, "abatch": _abatch, "completed": _completed, "stream": _stream}.get(how, _run)(
        case, processor, after, how
    )


def _batch(case: Case, processor: BatchProcessor, *_: Any) -> None:
    _in_order(case, processor, processor.batch(case.rows, return_exceptions=True))


def _abatch(case: Case, processor: BatchProcessor, *_: Any) -> None:
    _in_order(case, processor, asyncio.run(processor.abatch(case.rows, return_exceptions=True)))


def _in_order(case: Case, processor: BatchProcessor, values: list[Any]) -> None:
    assert len(values) == len(case.rows)
    for value, row in zip(values, case.rows, strict=True):
        case.check_value(row["x"], value)
    run = processor.last_run
    assert run is not None
    outcomes = run.outcomes()
    assert [outcome.index for outcome in outcomes] == list(range(len(case.rows)))
    for outcome in outcomes:
        case.check_outcome(outcome)


def _completed(case: Case, processor: BatchProcessor, *_: Any) -> None:
    seen = Counter()
    for index, value in processor.batch_as_completed(case.rows, return_exceptions=True):
        row = case.rows[index]["x"]
        case.check_value(row, value)
        seen[index] += 1
        if not isinstance(value, RunStopped):
            case.done[index] = case.wanted(row)
    assert set(seen.values()) <= {1}


def _stream(case: Case, processor: BatchProcessor, *_: Any) -> None:
    """The outcomes of a run whose pieces are read as events."""

    async def main() -> None:
        async with processor.astart(case.rows, stream=True) as run:
            async for event in run:
                if isinstance(event, RowFinished):
                    case.check_outcome(event.outcome)

    asyncio.run(main())


def _run(case: Case, processor: BatchProcessor, after: int | None, how: str) -> None:
    with suppress(*([RunStopped] if case.techniques.ending == "stop" and case.cut else [])):
        if how == "astart":
            asyncio.run(_read_on_a_loop(case, processor, after))
        else:
            _read_at_once(case, processor, after)


def _read_at_once(case: Case, processor: BatchProcessor, after: int | None) -> None:
    with processor.start(case.rows) as run:
        for count, outcome in enumerate(run if after != 0 else (), 1):
            if _enough(case, run, outcome, count, after):
                return


async def _read_on_a_loop(case: Case, processor: BatchProcessor, after: int | None) -> None:
    async with processor.astart(case.rows) as run:
        count = 0
        while after != 0 and (outcome := await anext(run, None)) is not None:
            count += 1
            if _enough(case, run, outcome, count, after):
                return


def _enough(case: Case, run: BaseRun, outcome: Outcome, count: int, after: int | None) -> bool:
    """Look at an outcome; at the last one of this life stop the run, or say that it is left."""
    case.check_outcome(outcome)
    if after is None or count < after:
        return False
    if case.techniques.ending == "stop":
        run.stop()
        return False
    return True
