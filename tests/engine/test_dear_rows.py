"""A row that what is left of the budget does not cover is left, and the others are asked."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor, Budget, BudgetShare, ChunkFinished, RunStopped
from cottonpalm.engine.unpaid import IN_VAIN
from cottonpalm.stores import open_store
from tests.support.loopback import Loopback

if TYPE_CHECKING:
    from pathlib import Path

    from cottonpalm.events import Event

LARGE = "word " * 20_000  # may cost ten cents
DOLLARS = 0.04


def model(server: Loopback) -> ChatOpenAI:
    return ChatOpenAI(base_url=server.openai_url, api_key="sk-test", model="gpt-4o-mini", max_tokens=50)


def processor(server: Loopback, dollars: float = DOLLARS, chain: Any = None, **more: Any) -> BatchProcessor:
    budget = Budget(total=dollars)
    return BatchProcessor(chain or model(server), budget=budget, prices={"*": (1, 2)}, concurrency=4, **more)


def rows(count: int, *large: int) -> list[str]:
    return [f"row {number} " + (LARGE if number in large else "") for number in range(count)]


@pytest.mark.parametrize("large", [(0,), (5, 6), (29,), (0, *range(3, 30, 3))], ids=str)
def test_the_others_are_answered_and_a_higher_budget_does_the_rest(
    tmp_path: Path, large: tuple[int, ...]
) -> None:
    more = {"store": tmp_path / "r.db", "run": "r"}
    with Loopback() as server:
        for _ in range(2):
            with pytest.raises(RunStopped) as stopped:
                processor(server, **more).batch(rows(30, *large))
            assert server.requests == 30 - len(large)
            assert stopped.value.reason == "budget"
            assert f"{len(large)} row" in str(stopped.value)
            assert "which can cost $0.100" in str(stopped.value)
            assert [each.index for each in stopped.value.outcomes if each.status == "skipped"] == list(large)
        answers = processor(server, dollars=2.0, **more).batch(rows(30, *large))
        assert [answer.content.split()[3] for answer in answers] == [str(number) for number in range(30)]
        assert server.requests == 30


def test_the_first_such_row_is_named_while_the_run_goes_on_and_the_budget_is_not_said_to_be_spent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shares: list[Event] = []

    class Observer:
        def see(self, event: Event) -> None:
            if isinstance(event, BudgetShare):
                shares.append(event)
            elif type(event).__name__ == "RowFinished" and len(shares) == 0:
                said.append("is left" in caplog.text)

    said: list[bool] = []
    with Loopback(latency=0.01) as server, pytest.raises(RunStopped):
        processor(server, observers=[Observer()]).batch(rows(30, 2, 3))
    assert caplog.text.count("is left: the budget does not allow for another request") == 1
    assert "row 3 (index 2)" in caplog.text
    assert said.count(True) > 20, "it was said before the others were answered"


def test_a_request_without_a_bound_stops_the_run_and_nothing_is_said_to_be_spent() -> None:
    events: list[Event] = []

    class Observer:
        def see(self, event: Event) -> None:
            events.append(event)

    with Loopback() as server:
        unknown = model(server).model_copy(update={"model_name": "nobody-knows-me"})
        lines = BatchProcessor(unknown, budget=Budget(total=1.0), observers=[Observer()])
        with pytest.raises(RunStopped, match="nobody-knows-me") as stopped:
            lines.batch(rows(30))
        assert server.requests == 0
    assert stopped.value.reason == "budget"
    assert events
    assert not [event for event in events if isinstance(event, BudgetShare)]


def test_a_budget_that_is_spent_is_not_asked_for_each_of_the_other_rows() -> None:
    asked: list[str] = []
    by_then: list[int] = []  # so many were asked when an answer came

    def prompt(row: str) -> str:
        asked.append(row)
        return row

    def answered(answer: Any) -> Any:
        by_then.append(len(asked))
        return answer

    with Loopback() as server:
        lines = processor(server, 0.002, RunnableLambda(prompt) | model(server) | RunnableLambda(answered))
        with pytest.raises(RunStopped, match="the budget does not allow for another request") as stopped:
            lines.batch(rows(3_000))
        assert stopped.value.reason == "budget"
        assert server.requests == len(by_then)
    assert 5 < len(by_then) < 200
    assert len(asked) <= by_then[-1] + IN_VAIN + 4


@pytest.mark.parametrize("pause", [0.0, 0.01])
def test_chunks_go_on_past_a_row_that_is_left(pause: float) -> None:
    finished: list[int] = []

    class Observer:
        def see(self, event: Event) -> None:
            if isinstance(event, ChunkFinished):
                finished.append(event.index)

    with Loopback() as server, pytest.raises(RunStopped) as stopped:
        processor(server, chunk_size=5, chunk_pause=pause, observers=[Observer()]).batch(rows(30, 7, 29))
    assert sum(each.status == "ok" for each in stopped.value.outcomes) == 28
    assert finished == [0, 2, 3, 4], "the chunks of rows that are left are not finished"


def test_what_a_chain_makes_of_the_refusal_is_no_answer(tmp_path: Path) -> None:
    with Loopback() as server:
        chain = model(server).with_fallbacks([RunnableLambda(lambda _: "made up")])
        lines = processor(server, chain=chain, store=tmp_path / "r.db", run="r")
        with pytest.raises(RunStopped) as stopped:
            lines.batch(rows(10, 4))
    assert [each.index for each in stopped.value.outcomes if each.status == "skipped"] == [4]
    with closing(open_store(tmp_path / "r.db")) as store, closing(store.open_run("r", None)) as run:
        assert sum(run.counts().values()) == 9


def test_rows_as_they_complete_and_single_rows_say_so_too() -> None:
    with Loopback() as server:
        lines = processor(server)
        got = dict(lines.batch_as_completed(rows(10, 4), return_exceptions=True))
        assert [index for index, answer in got.items() if isinstance(answer, RunStopped)] == [4]
        assert len(got) == 10
        with pytest.raises(RunStopped, match="which can cost"):
            lines.invoke(LARGE)
        assert lines.invoke("row").content == "answer to: row"
