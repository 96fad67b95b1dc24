"""The same rows through live and through batches: equal outputs, usage and metadata, at half the price."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from uuid import uuid4

import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from pydantic import BaseModel

from cottonpalm import Budget
from cottonpalm.types import PICO
from tests.batchlane.chains import CHAINS
from tests.batchlane.kit import PICO_PRICES, anthropic, batched, gemini, live, mistral, openai, rows
from tests.batchlane.seen import seen
from tests.support.batch_apis.core import HALF, written

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cottonpalm import BatchProcessor
    from tests.support.batch_provider import BatchProvider

ROWS = 40


def run_of(processor: BatchProcessor, count: int) -> Any:
    """The run, its outcomes by index."""
    processor.batch(rows(count), return_exceptions=True)
    run = processor.last_run
    assert run is not None
    return run, sorted(run.outcomes(), key=lambda outcome: outcome.index)


def check_equal(server: BatchProvider, folder: Path, name: str, count: int) -> Equal:
    """So many rows of a chain, live and through batches: the same outcomes, and half the price to the token."""
    chain, total = CHAINS[name](server), 1000.0
    _, asked_live = run_of(live(chain, hedge=False), count)  # a copy of a late one would be paid too
    bills = sorted((bill.model, bill.text) for bill in server.bills)
    server.bills.clear()
    run, in_batches = run_of(batched(chain, server, folder, budget=Budget(total)), count)
    for one, other in zip(asked_live, in_batches, strict=True):
        assert seen(other.output) == seen(one.output)
        for field in ("status", "usage", "attempts", "truncated", "error"):
            assert getattr(other, field) == getattr(one, field), field
        if "three-models" not in name:  # which of them answers last is chance
            assert other.model == one.model
        assert (other.lane, other.cost_pico) == ("batch", (one.cost_pico or 0) // 2)
    assert sorted((bill.model, bill.text) for bill in server.bills) == bills
    assert {bill.lane for bill in server.bills} == {"batch"}
    charged = server.charged(PICO_PRICES)
    assert sum(outcome.cost_pico for outcome in in_batches) == charged
    for dollars in (run.stats.cost_usd, run.stats.reported_usd, run.report.cost_usd):
        assert round(dollars * PICO) == charged
    assert round((total - run.stats.budget_left_usd) * PICO) == charged
    before = sum(outcome.cost_pico or 0 for outcome in asked_live)
    tokens = sum(bill.input_tokens + bill.output_tokens for bill in server.bills)
    return Equal(len(server.jobs), len(server.bills), tokens, charged / before)


class Equal(NamedTuple):
    """What was equal: batches, answers and tokens that were paid for, and the price over that of live."""

    batches: int
    answers: int
    tokens: int
    price: float


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_gives_the_same_through_batches_as_live(
    server: BatchProvider, tmp_path: Path, name: str
) -> None:
    check_equal(server, tmp_path, name, ROWS)


@pytest.mark.parametrize("made", [openai, anthropic, gemini, mistral])
def test_an_answer_that_was_cut_within_an_emoji_is_kept_with_those_beside_it(
    server: BatchProvider, tmp_path: Path, made: Callable[[BatchProvider], Any]
) -> None:
    chain = ChatPromptTemplate.from_template("About: {text}") | made(server) | StrOutputParser()
    given = [{"text": "a whole one"}, {"text": f"{HALF}"}]
    asked_live = live(chain).batch(given)
    assert "\ud83d" in asked_live[1]
    server.bills.clear()
    assert batched(chain, server, tmp_path).batch(given) == asked_live
    assert {bill.lane for bill in server.bills} == {"batch"}
    assert batched(chain, server, tmp_path).batch(given) == asked_live
    assert len(server.bills) == 2, "the second time all of it came from the store"


class Picky(StrOutputParser):
    """Takes no answer about row 2."""

    def parse(self, text: str) -> str:
        if "row 2" in text:
            quoted = AIMessage(text, id=f"lc_run--{uuid4()}-0")  # as ChatOpenAI's own parser does
            raise OutputParserException(f"not this: {quoted}")
        return text


@pytest.mark.parametrize("made", [openai, anthropic, gemini, mistral])
def test_a_row_whose_answers_never_parse_is_asked_as_often_as_live(
    server: BatchProvider, tmp_path: Path, made: Callable[[BatchProvider], Any]
) -> None:
    """Its last round began with the second question: it was taken for one that changes, and ran live once more."""
    chain = ChatPromptTemplate.from_template("About: {text}") | made(server) | Picky()
    _, asked_live = run_of(live(chain, hedge=False), 6)
    bills = sorted((bill.model, bill.text) for bill in server.bills)
    server.bills.clear()
    _, in_batches = run_of(batched(chain, server, tmp_path), 6)
    assert sorted((bill.model, bill.text) for bill in server.bills) == bills  # ids of messages are in none
    assert {outcome.lane for outcome in in_batches} == {"batch"}
    assert asked_live[2].attempts == 2
    for one, other in zip(asked_live, in_batches, strict=True):
        assert (other.status, other.attempts) == (one.status, one.attempts)
        assert other.cost_pico == (one.cost_pico or 0) // 2


LARGE = 9_400_111_899_223_100_001_234_567  # of 25 digits


class Parcel(BaseModel):
    """A parcel, whose number the request names, and the answer too."""

    number: Literal[9_400_111_899_223_100_001_234_567]


@pytest.mark.parametrize("made", [openai, anthropic])
def test_integers_of_any_length_go_out_and_come_back_with_all_their_digits(
    server: BatchProvider, tmp_path: Path, made: Callable[..., Any]
) -> None:
    model = made(server).bind_tools([Parcel], tool_choice="any")
    chain = ChatPromptTemplate.from_template("About: {text}") | model | _asked_again | model
    given = rows(3)
    asked_live = [seen(answer) for answer in live(chain).batch(given)]
    asked = [written(request.body) for request in server.seen]
    processor = batched(chain, server, tmp_path, budget=Budget(1, max_output_tokens=500))
    assert [seen(answer) for answer in processor.batch(given)] == asked_live
    assert [answer[1]["tool_calls"][0]["args"]["number"] for answer in asked_live] == [LARGE] * 3
    in_lines = [written(row.body) for job in server.jobs.values() for row in job.rows]
    digits = str(LARGE).encode()
    assert sorted(body.count(digits) for body in in_lines) == sorted(body.count(digits) for body in asked)
    assert {outcome.lane for outcome in processor.last_run.outcomes()} == {"batch"}


def _asked_again(answer: Any) -> list[Any]:
    call = answer.tool_calls[0]
    return [
        HumanMessage(f"and {call['args']['number']}?"),
        answer,
        ToolMessage("sent", tool_call_id=call["id"]),
    ]


def test_a_maximum_that_we_add_leaves_the_digits_of_a_request(server: BatchProvider) -> None:
    model = openai(server).bind_tools([Parcel], tool_choice="any")
    live(model, budget=Budget(1, max_output_tokens=50)).batch(["one", "two", "three"])
    bodies = [written(request.body) for request in server.seen]
    assert [(str(LARGE).encode() in body, b":50" in body) for body in bodies] == [(True, True)] * 3


def test_a_budget_with_room_for_all_makes_no_more_batches_than_none(
    server: BatchProvider, tmp_path: Path
) -> None:
    """Money is leased from the store a little at a time: rows that wait for that are no reason to submit early."""
    processor = batched(CHAINS["openai-parser"](server), server, tmp_path, budget=Budget(1e6))
    over = threading.Event()
    writer = threading.Thread(target=_writes_at_times, args=(tmp_path / "s.db", over))
    writer.start()
    try:
        _, answered = run_of(processor, 150)
    finally:
        over.set()
        writer.join()
    assert (len(answered), len(server.jobs)) == (150, 1)


def _writes_at_times(store: Path, over: threading.Event) -> None:
    """Another program in the same file: whoever leases money has to wait for it."""
    while not store.exists() and not over.wait(0.01):
        pass
    with contextlib.closing(sqlite3.connect(store, timeout=10, isolation_level=None)) as other:
        while not over.wait(0.01):
            with contextlib.suppress(sqlite3.OperationalError):
                other.execute("BEGIN IMMEDIATE")
                over.wait(0.2)
                other.execute("ROLLBACK")
