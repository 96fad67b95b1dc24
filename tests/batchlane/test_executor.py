"""What the batch executor does with chains that are not alike, rows that come back without answers, and other gates."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableLambda, RunnableParallel

from cottonpalm import Budget, Cache, RetryPolicy, RunStopped
from cottonpalm.providers.batches.made_up import TEXT
from cottonpalm.types import PICO
from tests.batchlane.chains import PROMPT, two_steps
from tests.batchlane.kit import PICO_PRICES, PRICES, anthropic, batched, lane, live, openai, rows, simple
from tests.support import shapes
from tests.support.batch_apis import rules
from tests.support.batch_provider import Faults

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cottonpalm.types import Usage
    from tests.support.batch_provider import BatchProvider


def lanes(server: BatchProvider) -> Counter[str]:
    return Counter(bill.lane for bill in server.bills)


@pytest.mark.core
def test_a_row_that_asks_something_else_than_before_runs_live_and_the_others_are_stopped_after_three(
    server: BatchProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The second question holds a number that is another one in each run, but for answers that are made up."""
    numbers = itertools.count()

    def ask_again(said: str) -> dict[str, str]:
        return {"text": said if said == TEXT else f"{said} {next(numbers)}"}

    chain = simple(server) | RunnableLambda(ask_again) | simple(server)
    answers = batched(chain, server, tmp_path, lane=lane(server, patient_s=0.3)).batch(rows(8))
    for number, answer in enumerate(answers):
        assert answer.startswith(f"answer to: About: answer to: About: row {number} ")
    assert "asks something else than it did before" in caplog.text
    first = [bill for bill in server.bills if bill.text.startswith("About: row")]
    assert {bill.lane for bill in first} == {"batch"}
    assert len(first) == 8


def test_a_chain_that_asks_something_else_each_time_is_found_out_before_anything_is_sent(
    server: BatchProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    numbers = itertools.count()
    chain = RunnableLambda(lambda row: {"text": f"{row['text']} {next(numbers)}"}) | simple(server)
    assert len(batched(chain, server, tmp_path).batch(rows(6))) == 6
    assert "rows run live" in caplog.text
    assert (lanes(server), server.jobs) == ({"live": 6}, {})


def test_a_row_that_fails_before_it_has_read_an_answer_that_was_paid_says_its_cost(
    server: BatchProvider, tmp_path: Path
) -> None:
    """Both branches ask in the first round; in the second, one fails before the other comes to its question."""
    over = threading.Event()

    async def fails(said: str) -> str:
        raise ValueError(said)

    async def is_late(row: dict[str, str]) -> dict[str, str]:
        while server.jobs and not over.is_set():
            await asyncio.sleep(0.001)
        return {"text": f"late {row['text']}"}

    chain = RunnableParallel(
        fails=simple(server) | RunnableLambda(fails), late=RunnableLambda(is_late) | simple(server)
    )
    processor = batched(chain, server, tmp_path, max_failures=1.0)
    processor.batch(rows(3), return_exceptions=True)
    over.set()
    assert processor.last_run is not None
    outcomes = processor.last_run.outcomes()
    assert [(outcome.status, outcome.lane, outcome.attempts) for outcome in outcomes] == [
        ("failed", "batch", 2)
    ] * 3
    assert sum(outcome.cost_pico for outcome in outcomes) == server.charged(PICO_PRICES)
    assert len(server.bills) == 6


def test_an_hours_money_is_shared_out_evenly_among_live_requests_and_not_among_those_of_batches(
    server: BatchProvider, tmp_path: Path
) -> None:
    """A first batch that cost more than a minute's worth made each of the next ones hold a single request."""
    budget = Budget(per_hour=0.1, on_exceed="wait")
    chain = two_steps(openai(server, max_tokens=40))
    with batched(chain, server, tmp_path, budget=budget).start(rows(60)) as run:

        def script(number: int, _: int) -> Faults:
            if number > 1:
                run.stop()
            return Faults()

        server.script = script
        assert {outcome.status for outcome in run} == {"ok"}
    assert [len(job.rows) for job in server.jobs.values()] == [60, 60]
    assert 0.1 / 60 < run.stats.reported_usd < 0.1


@pytest.mark.parametrize("usage", [None, {"prompt_tokens": 0, "completion_tokens": 0}])
def test_answers_of_a_batch_that_do_not_say_what_they_used_are_booked_at_their_bounds(
    server: BatchProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, usage: Any
) -> None:
    monkeypatch.setattr(shapes, "chat_usage", lambda _: usage)
    processor = batched(simple(server, max_tokens=100), server, tmp_path, budget=Budget(total=1))
    processor.batch(rows(3))
    assert processor.last_run is not None
    stats = processor.last_run.stats
    assert stats.reported_usd == 0
    assert (
        stats.uncertain_usd > 3 * 100 * 8.0 / 2 / 10**6
    )  # half the price of all that they might have written
    for outcome in processor.last_run.outcomes():
        assert outcome.cost_source == "estimated"
        assert 0 < outcome.cost_usd < stats.uncertain_usd


def test_a_long_line_among_short_ones_that_does_not_say_what_it_used_is_booked_at_no_less_than_its_bound(
    server: BatchProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = shapes.chat_usage
    monkeypatch.setattr(
        shapes, "chat_usage", lambda answer: None if answer.input_tokens > 1_000 else said(answer)
    )
    long = {"text": "row 9" + " and more" * 2_000}
    processor = batched(simple(server, max_tokens=100), server, tmp_path, budget=Budget(total=1))
    processor.batch([*rows(9), long], return_exceptions=True)
    assert processor.last_run is not None
    stats, charged = processor.last_run.stats, server.charged(PICO_PRICES) / PICO
    assert 0 < stats.reported_usd < charged <= stats.reported_usd + stats.uncertain_usd


def test_prices_that_fail_for_an_answer_of_a_batch_cost_no_answer(
    server: BatchProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def price(_model: str, usage: Usage) -> float:
        if usage.output_tokens in (0, 1_000_000):  # the model is looked up so
            return (usage.input_tokens * 2 + usage.output_tokens * 8) / 10**6
        raise KeyError("no such row")

    answers = batched(simple(server), server, tmp_path, prices=price).batch(rows(3))
    assert answers == [f"answer to: About: row {number}" for number in range(3)]
    assert "the function given as prices= failed for 'gpt-test' (KeyError: 'no such row')" in caplog.text


def test_a_deployment_whose_name_has_no_price_costs_in_a_batch_what_the_model_that_answered_does(
    server: BatchProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = shapes.chat_head
    monkeypatch.setattr(shapes, "chat_head", lambda *said: {**head(*said), "model": "gpt-other-2026-01-01"})
    prices = {"gpt-other": PRICES["gpt-other"]}
    processor = batched(simple(server), server, tmp_path, prices=prices)
    processor.batch(rows(3))
    assert processor.last_run is not None
    costs = [outcome.cost_usd for outcome in processor.last_run.outcomes()]
    bills = [bill.input_tokens * 4.0 + bill.output_tokens * 16.0 for bill in server.bills]
    assert sum(costs) == pytest.approx(sum(bills) / 2 / 10**6)
    assert processor.last_run.stats.reported_usd == pytest.approx(sum(costs))


@pytest.mark.parametrize("model", [openai, anthropic, partial(openai, use_responses_api=True)])
def test_chance_between_two_calls_is_found_out_with_made_up_answers_before_anything_is_sent(
    server: BatchProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture, model: Any
) -> None:
    numbers, said = itertools.count(), list[Any]()

    def ask_again(answer: str) -> dict[str, str]:
        return {"text": f"{answer} {next(numbers)}"}

    ask = PROMPT | model(server) | StrOutputParser()
    chain = ask | RunnableLambda(ask_again) | ask | RunnableLambda(said.append)
    batched(chain, server, tmp_path).batch(rows(3))
    assert "rows run live" in caplog.text
    assert (lanes(server), server.jobs) == ({"live": 6}, {})
    assert len(said) == 3
    assert not any(TEXT in answer for answer in said)  # no made-up answer comes to the chain's end


def test_a_request_that_two_batches_brought_back_unanswered_is_asked_live(
    server: BatchProvider, tmp_path: Path
) -> None:
    server.faults = Faults(broken=frozenset({0}))
    wanted = [f"answer to: About: row {number}" for number in range(5)]
    assert batched(simple(server), server, tmp_path).batch(rows(5)) == wanted
    assert lanes(server) == {"batch": 4, "live": 1}
    assert [len(job.rows) for job in server.jobs.values()] == [5, 1]


def test_a_line_that_no_batch_can_hold_runs_live(
    server: BatchProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Anthropic takes no line above 32 MB."""
    chain = PROMPT | anthropic(server) | StrOutputParser()
    given = [*rows(3), {"text": "long" * 8_000_000}]
    assert len(batched(chain, server, tmp_path, accept_truncated=True).batch(given)) == 4
    assert lanes(server) == {"batch": 3, "live": 1}
    assert "row 4 (index 3) runs live" in caplog.text


def test_an_answer_that_was_cut_is_marked_as_in_a_live_run(server: BatchProvider, tmp_path: Path) -> None:
    chain, given = simple(server, max_tokens=4), [{"text": "one two three four five six"}]
    for processor in (
        batched(chain, server, tmp_path, accept_truncated=True),
        live(chain, accept_truncated=True),
    ):
        with processor.start(given) as run:
            [outcome] = run
        assert outcome.truncated


@pytest.mark.parametrize("made", [openai, anthropic])
def test_an_answer_of_a_batch_that_has_no_known_shape_fails_its_row_as_it_would_live(
    server: BatchProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Callable[..., Any]
) -> None:
    """It was the SDK's own IndexError, which counts as the chain's fault."""

    def without_choices(*asked: Any) -> rules.Outcome:
        outcome = whole(*asked)
        if "row 1" not in str(asked[2]):
            return outcome
        return outcome._replace(body={**outcome.body, "choices": [], "content": None})

    whole = rules.asked
    monkeypatch.setattr(rules, "asked", without_choices)
    chain = PROMPT | made(server) | StrOutputParser()
    policy = RetryPolicy(retries=0)
    failed = {}
    for name, processor in (
        ("live", live(chain, retry=policy)),
        ("batch", batched(chain, server, tmp_path, retry=policy)),
    ):
        processor.batch(rows(2), return_exceptions=True)
        assert processor.last_run is not None
        [bad] = [outcome for outcome in processor.last_run.outcomes() if outcome.error is not None]
        assert (bad.index, bad.attempts, bad.cost_pico is None) == (1, 1, False)
        failed[name] = bad.error
    assert failed["batch"] == failed["live"]
    assert "BrokenAnswer" in failed["batch"].type
    assert Counter(bill.lane for bill in server.bills) == {"live": 2, "batch": 2}


def test_what_a_chain_makes_of_a_refusal_for_money_in_a_later_round_is_no_answer(
    server: BatchProvider, tmp_path: Path
) -> None:
    """The first request of the row is paid, and the budget has nothing left for the second, which is longer."""
    ask = PROMPT | openai(server, max_tokens=1500) | StrOutputParser()

    async def calm(row: dict[str, str]) -> str:
        said = await ask.ainvoke(row)
        try:
            return said + await ask.ainvoke({"text": f"{said} {' ' * 2000}"})
        except Exception:
            return "made up"

    def unused(_: dict[str, str]) -> str:
        raise AssertionError

    def batch(budget: float) -> list[Any]:
        return batched(RunnableLambda(unused, afunc=calm), server, tmp_path, budget=budget).batch(rows(1))

    with pytest.raises(RunStopped) as stopped:
        batch(0.0062)
    assert stopped.value.reason == "budget"
    assert len(server.bills) == 1
    [answer] = batch(1.0)
    assert answer.count("answer to: About: row 0") == 2
    assert len(server.bills) == 2


def test_a_chain_with_a_step_that_only_runs_on_threads_goes_through_batches(
    server: BatchProvider, tmp_path: Path
) -> None:
    model = openai(server)

    def ask(row: dict[str, str]) -> str:
        return str((PROMPT | model | StrOutputParser()).invoke(row))

    chain = RunnableLambda(ask)
    wanted = live(chain).batch(rows(6))
    server.bills.clear()
    assert batched(chain, server, tmp_path).batch(rows(6)) == wanted
    assert lanes(server) == {"batch": 6}


def test_equal_rows_are_asked_once_where_there_is_a_cache(server: BatchProvider, tmp_path: Path) -> None:
    given = [*rows(4), *rows(4)]
    answers = batched(simple(server), server, tmp_path, cache=Cache()).batch(given)
    assert answers[:4] == answers[4:]
    assert (lanes(server), server.paid_twice()) == ({"batch": 4}, {})


def test_equal_rows_whose_question_is_refused_take_a_few_rounds_not_one_for_each(
    server: BatchProvider, tmp_path: Path
) -> None:
    server.faults = Faults(all_refused=True)
    given = [{"text": "same"}] * 40
    answers = batched(simple(server), server, tmp_path, cache=Cache()).batch(given, return_exceptions=True)
    assert all(isinstance(answer, Exception) for answer in answers)
    assert [len(job.rows) for job in server.jobs.values()] == [1, 10, 29]


def test_a_question_that_failed_and_is_answered_after_all_is_asked_no_more(
    server: BatchProvider, tmp_path: Path
) -> None:
    server.script = lambda number, _: Faults(all_refused=number == 0)
    given = [{"text": "same"}] * 40
    answers = batched(simple(server), server, tmp_path, cache=Cache()).batch(given, return_exceptions=True)
    assert [isinstance(answer, Exception) for answer in answers].count(True) == 1
    assert [len(job.rows) for job in server.jobs.values()] == [1, 10]


def test_rows_with_a_priority_are_in_the_first_batch(server: BatchProvider, tmp_path: Path) -> None:
    processor = batched(
        simple(server),
        server,
        tmp_path,
        lane=lane(server, rows=4),
        concurrency=1,  # of rows that are recorded at once, any may come first
        priority=lambda row: int(row["text"].split()[1]),
    )
    processor.batch(rows(8))
    packed = [
        {row.body["messages"][-1]["content"] for row in job.rows}
        for job in server.jobs.values()  # made at the same time, in any order
    ]
    assert {f"About: row {number}" for number in range(4, 8)} in packed


def test_a_live_run_over_batches_that_are_out_waits_for_them_and_asks_only_what_is_left(
    server: BatchProvider, tmp_path: Path
) -> None:
    chain = two_steps(openai(server))
    server.faults = Faults(looks=10**6)
    with pytest.raises(Exception, match="are out"):
        batched(chain, server, tmp_path, detach=True).batch(rows(5))
    for job in server.jobs.values():
        job.faults = Faults()
    assert len(batched(chain, server, tmp_path, mode="live").batch(rows(5))) == 5
    assert (lanes(server), len(server.jobs), server.paid_twice()) == ({"batch": 5, "live": 5}, 1, {})


@pytest.mark.parametrize("steps", ["one", "two"])
def test_chat_anthropic_with_bad_lines_goes_through_the_executor(
    server: BatchProvider, tmp_path: Path, steps: str
) -> None:
    model = anthropic(server)
    chain = PROMPT | model if steps == "one" else two_steps(model)
    wanted = [answer.content for answer in live(chain).batch(rows(6))]
    server.bills.clear()
    server.faults = Faults(missing=frozenset({1}), broken=frozenset({3}), shuffle=5)
    found = [answer.content for answer in batched(chain, server, tmp_path).batch(rows(6))]
    assert (found, server.paid_twice()) == (wanted, {})


def gemini(server: BatchProvider) -> Any:
    from langchain_google_genai import ChatGoogleGenerativeAI

    model: Any = ChatGoogleGenerativeAI
    return PROMPT | model(
        model="gemini-test", google_api_key="AIza-test", base_url=server.gemini_url, max_retries=1
    )


@pytest.mark.parametrize("how", ["ainvoke", "invoke"])
def test_gemini_goes_through_the_executor(server: BatchProvider, tmp_path: Path, how: str) -> None:
    """Its SDK would send by aiohttp, which is installed here, what is asked by `ainvoke`."""
    chain = gemini(server) | StrOutputParser()
    asked = chain if how == "ainvoke" else RunnableLambda(chain.invoke)
    wanted = live(asked, prices={"gemini-test": (1.0, 2.0)}).batch(rows(5))
    assert lanes(server) == {"live": 5}
    server.bills.clear()
    processor = batched(asked, server, tmp_path, prices={"gemini-test": (1.0, 2.0)})
    assert processor.batch(rows(5)) == wanted == [f"answer to: About: row {number}" for number in range(5)]
    assert lanes(server) == {"batch": 5}


def test_outside_a_row_and_with_a_session_of_its_own_googles_client_sends_as_it_would(
    server: BatchProvider, tmp_path: Path
) -> None:
    chain = gemini(server)
    batched(chain, server, tmp_path, prices={"gemini-test": (1.0, 2.0)}).batch(rows(1))  # it is patched now
    client = chain.steps[-1].client._api_client
    assert client._use_aiohttp()
    client._http_options.aiohttp_client = object()
    said = RunnableLambda(lambda _: client._use_aiohttp())
    assert live(said).batch([1]) == [True]
    client._http_options.aiohttp_client = None
    assert live(said).batch([1]) == [False]


class ByAiohttp(BaseChatModel):
    """Sends by a client that we do not see."""

    url: str

    @property
    def _llm_type(self) -> str:
        return "by-aiohttp"

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    async def _agenerate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
        body = {"model": "m", "messages": [{"role": "user", "content": messages[-1].content}]}
        async with (
            aiohttp.ClientSession(headers={"authorization": "Bearer sk-test"}) as session,
            session.post(f"{self.url}/chat/completions", json=body) as reply,
        ):
            said = (await reply.json())["choices"][0]["message"]["content"]
        return ChatResult(generations=[ChatGeneration(message=AIMessage(said))])


def test_a_model_whose_client_we_do_not_see_runs_live_and_that_is_told(
    server: BatchProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chain = PROMPT | ByAiohttp(url=server.openai_url)
    assert len(batched(chain, server, tmp_path).batch(rows(3))) == 3
    assert "through a client of its own" in caplog.text
    assert lanes(server) == {"live": 3}


def test_a_branch_that_is_late_to_its_answer_has_not_diverged(
    server: BatchProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In its second round the slow branch comes to its known answer only after the quick one has asked anew."""
    runs = itertools.count()
    asked = asyncio.Event()

    async def slow(row: dict[str, str]) -> dict[str, str]:
        if next(runs) >= 2:  # not while it is recorded and compared
            await asked.wait()
            await asyncio.sleep(0.1)
        return {"text": f"slow {row['text']}"}

    def on(said: str) -> dict[str, str]:
        asyncio.get_running_loop().call_soon(asked.set)
        return {"text": said}

    quick = simple(server) | RunnableLambda(on, afunc=_awaited(on)) | simple(server)
    chain = RunnableParallel(quick=quick, slow=RunnableLambda(slow) | simple(server))
    batched(chain, server, tmp_path, lane=lane(server, quiet_s=0.02, patient_s=1.5)).batch(rows(1))
    assert "asks something else" not in caplog.text
    assert lanes(server) == {"batch": 3}


def _awaited(function: Any) -> Any:
    async def called(value: Any) -> Any:
        return function(value)

    return called


def test_auto_takes_batches_but_where_the_price_list_knows_the_model_and_no_lower_price_of_a_batch(
    server: BatchProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for model, lane_taken in (("gpt-4o-mini", "batch"), ("gpt-4.5-preview", "live")):
        server.bills.clear()
        chain = PROMPT | openai(server, model) | StrOutputParser()
        assert len(batched(chain, server, tmp_path, mode="auto", prices=None, run=model).batch(rows(3))) == 3
        assert lanes(server) == {lane_taken: 3}
    assert "no lower price of a batch is known for gpt-4.5-preview" in caplog.text
