"""`plan`: what would be asked, without asking; and a sample that is paid once."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor, Budget, Cache, ConfigError, RunStopped, StoreError
from cottonpalm.planning.estimate import Range
from tests.support.loopback import Loopback
from tests.support.replies import Reply, Request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


@pytest.fixture
def server() -> Iterator[Loopback]:
    with Loopback() as running:
        yield running


def model(server: Loopback, name: str = "gpt-5-mini", **more: Any) -> ChatOpenAI:
    return ChatOpenAI(base_url=server.openai_url, api_key="sk-x-0123456789", model=name, **more)


def chain_of(server: Loopback, **more: Any) -> Any:
    return ChatPromptTemplate.from_template("say {x}") | model(server, **more) | StrOutputParser()


def rows(count: int) -> list[dict[str, str]]:
    return [{"x": f"row {n}"} for n in range(count)]


# -- without a call


def test_a_plan_counts_bounds_and_prices_what_would_be_asked_and_asks_nothing(server: Loopback) -> None:
    plan = BatchProcessor(chain_of(server, max_tokens=50)).plan(rows(300) + rows(20))

    assert server.requests == 0
    assert (plan.rows, plan.asked, plan.duplicates, plan.requests) == (320, 320, 20, 1.0)
    assert (plan.basis, plan.models) == ("bound", ("gpt-5-mini",))
    assert plan.output_tokens == Range(0.0, 16_000, 16_000)
    assert plan.input_tokens.low < 320 * 4 < plan.input_tokens.high
    assert plan.cost_usd.low < 320 * 4 * 0.25e-6 < 16_000 * 2e-6 < plan.cost_usd.high
    # gpt-5-mini may be served at 0.45:3.6 where no tier is named, and at 0.25:2 where flex is
    assert plan.flex_usd.high == pytest.approx(plan.cost_usd.high / 1.8)
    assert plan.duration_s is None


def test_a_plan_prices_every_lane_that_the_requests_could_take() -> None:
    there: Any = ChatOpenAI
    chain = ChatPromptTemplate.from_template("say {x}") | there(
        model="gpt-5-mini", api_key="sk-x", max_tokens=50
    )
    plan = BatchProcessor(chain).plan(rows(30))
    # flex may be served at the standard price, a batch costs half of that
    assert plan.batch_usd.high == pytest.approx(plan.flex_usd.high / 2)
    elsewhere = there(model="gpt-5-mini", api_key="sk-x", max_tokens=50, default_headers={"x-own": "1"})
    assert (
        BatchProcessor(ChatPromptTemplate.from_template("say {x}") | elsewhere).plan(rows(3)).batch_usd
        is None
    )


def test_the_bound_holds_what_the_run_then_costs(server: Loopback) -> None:
    processor = BatchProcessor(chain_of(server, max_tokens=50))
    plan = processor.plan(rows(150))
    processor.batch(rows(150))
    assert plan.cost_usd.low <= processor.last_run.stats.cost_usd <= plan.cost_usd.high


@pytest.mark.parametrize("text", ["row 1", "答案" * 500, "1234" * 2_000])
def test_a_budget_of_the_bound_lets_the_row_through_and_a_smaller_one_does_not(
    server: Loopback, text: str
) -> None:
    server.script(lambda _: Reply(text="ok"))
    chain = chain_of(server, max_tokens=50)
    bound = BatchProcessor(chain).plan([{"x": text}]).cost_usd.high
    with pytest.raises(RunStopped, match="can cost"):
        BatchProcessor(chain, budget=Budget(total=bound * 0.999)).batch([{"x": text}])
    assert server.requests == 0
    BatchProcessor(chain, budget=Budget(total=bound)).batch([{"x": text}])
    assert server.requests == 1


def test_what_no_budget_can_bound_has_no_bound_in_the_plan_and_the_plan_says_why(server: Loopback) -> None:
    file = {"type": "file", "file": {"file_id": "file-1"}}
    plan = BatchProcessor(model(server, "a-model", max_tokens=9), prices={"*": (1.0, 2.0)}).plan(
        [[HumanMessage([file, {"type": "text", "text": "what is in it?"}])]]
    )
    assert plan.cost_usd is None
    assert any("'a-model' reads cannot be bounded" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("form", "requests"),
    [
        (lambda chain: chain.with_fallbacks([chain]), 1),
        (lambda chain: chain.with_retry(stop_after_attempt=3), 1),
        (lambda chain: RunnableParallel(a=chain, b=chain, c=chain), 3),
        (lambda chain: chain | RunnableLambda(lambda text: {"x": text}) | chain, 1),
        (lambda chain: RunnableLambda(chain.invoke), 1),
    ],
    ids=["fallback", "retry", "parallel", "dependent", "sync"],
)
def test_the_first_requests_of_any_chain_are_seen_and_not_sent(
    server: Loopback, form: Any, requests: int
) -> None:
    plan = BatchProcessor(form(chain_of(server, max_tokens=50))).plan(rows(3))
    assert (plan.requests, server.requests) == (requests, 0)
    assert any("only the first requests" in note for note in plan.notes)


class Counted(FakeListChatModel):
    calls: int = 0

    def _call(self, *args: Any, **kwargs: Any) -> str:
        self.calls += 1
        return super()._call(*args, **kwargs)


def test_a_model_whose_requests_cannot_be_held_back_is_not_called(server: Loopback) -> None:
    unseen = Counted(responses=["x"])
    plan = BatchProcessor(unseen).plan(["a", "b"])
    hookless = BatchProcessor(model(server), request_hook=False).plan(["a", "b"])
    assert (unseen.calls, server.requests) == (0, 0)
    assert (plan.cost_usd, plan.requests) == (None, None)
    assert "only a sample tells" in plan.notes[0]
    assert "only a sample tells" in hookless.notes[0]


def test_what_is_not_known_is_said(server: Loopback) -> None:
    unknown = BatchProcessor(model(server, "nobody-knows")).plan(["a"])
    broken = BatchProcessor(chain_of(server)).plan([{"y": 1}])
    assert unknown.cost_usd is None
    assert "no price is known for nobody-knows" in " ".join(unknown.notes)
    assert "name no maximum of output tokens" in " ".join(unknown.notes)
    assert "fail before they ask: KeyError" in " ".join(broken.notes)
    free = BatchProcessor(model(server, "local:any")).plan(["a"])
    assert free.cost_usd == Range(0.0, 0.0, 0.0)


def test_an_empty_input_and_async_rows_are_planned_too(server: Loopback) -> None:
    async def given() -> AsyncIterator[dict[str, str]]:
        for row in rows(3):
            yield row

    processor = BatchProcessor(chain_of(server, max_tokens=5))
    assert processor.plan([]).asked == 0
    assert processor.plan(given()).asked == 3


# -- what is there already


def test_what_the_store_and_the_cache_hold_is_not_asked(server: Loopback, tmp_path: Path) -> None:
    store, cache = tmp_path / "a.db", Cache()
    chain = chain_of(server, max_tokens=50)
    BatchProcessor(chain, store=store, run="one").batch(rows(30))
    BatchProcessor(chain, cache=cache).batch(rows(40)[30:])
    sent = server.requests

    plan = BatchProcessor(chain, store=store, run="one", cache=cache).plan(rows(100) + rows(100)[90:])

    assert server.requests == sent
    assert (plan.rows, plan.stored, plan.cached, plan.asked) == (110, 30, 10, 60)
    assert (plan.basis, plan.sampled) == ("history", 30)
    on_disk = Cache(path=store)
    BatchProcessor(chain, cache=on_disk).batch(rows(5))
    assert BatchProcessor(chain, cache=Cache(path=store)).plan(rows(7)).cached == 5


def test_a_plan_makes_no_file_and_begins_no_run(server: Loopback, tmp_path: Path) -> None:
    store = tmp_path / "a.db"
    chain = chain_of(server, max_tokens=50)
    BatchProcessor(chain, store=store, run="one", cache=Cache(path=store)).plan(rows(3))
    assert not store.exists()
    BatchProcessor(chain, store=store, run="one").batch(rows(1))
    other = BatchProcessor(chain, store=store, run="two")
    assert other.plan(rows(3)).stored == 0
    assert other.batch(rows(1)) == ["answer to: say row 0"]


@pytest.mark.parametrize("sample", [-1, 1.5, True])
def test_a_sample_that_cannot_be_is_refused(server: Loopback, sample: Any) -> None:
    with pytest.raises(ConfigError, match="sample="):
        BatchProcessor(chain_of(server)).plan(rows(3), sample=sample)
    assert server.requests == 0


def test_a_store_that_cannot_be_used_is_refused(server: Loopback, tmp_path: Path) -> None:
    foreign = tmp_path / "a.db"
    foreign.write_text("not a database, not at all")
    with pytest.raises(StoreError, match=r"a\.db"):
        BatchProcessor(chain_of(server), store=foreign, run="one").plan(rows(3))
    with pytest.raises(ConfigError, match="run="):
        BatchProcessor(chain_of(server), store=tmp_path / "b.db")


# -- a sample


def test_a_sample_is_kept_and_paid_once_and_its_range_holds_the_cost(
    server: Loopback, tmp_path: Path
) -> None:
    rng = Random(5)
    lengths = [int(20 * rng.lognormvariate(0, 0.8)) + 1 for _ in range(200)]

    def answer(request: Request) -> Reply:
        return Reply(text=" ".join(["word"] * lengths[int(request.text.rpartition(" ")[2])]))

    server.script(answer)
    processor = BatchProcessor(chain_of(server), store=tmp_path / "a.db", run="one", concurrency=20)
    plan = processor.plan(rows(200), sample=50)
    outcomes = processor.batch(rows(200))

    assert (plan.basis, plan.sampled, server.requests) == ("sample", 50, 200)
    assert set(server.counts.values()) == {1}
    assert len(outcomes) == 200
    spent = sum(outcome.cost_usd for outcome in processor.last_run.outcomes())
    assert plan.cost_usd.low <= spent <= plan.cost_usd.high
    assert 0 < plan.spent_usd < plan.cost_usd.low
    assert plan.duration_s is not None


def test_a_sample_of_all_rows_leaves_no_doubt(server: Loopback) -> None:
    plan = BatchProcessor(chain_of(server)).plan(rows(5), sample=9)
    assert (plan.sampled, plan.asked) == (5, 5)
    assert plan.cost_usd == pytest.approx(Range(*[plan.spent_usd] * 3))
