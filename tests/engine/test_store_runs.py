"""A run in a store, called again: what is done is never asked, and never lost, whatever became of the input."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import threading
import warnings
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from cottonpalm import (
    BatchProcessor,
    ChainChanged,
    ConfigError,
    RetryPolicy,
    RunBusy,
    RunStopped,
    StoredError,
    StoreError,
)
from cottonpalm.engine.input.feeds import MANY
from cottonpalm.engine.output.delivery import GROUP_ROWS
from cottonpalm.events import RowFinished
from cottonpalm.protocols import StoredRow
from cottonpalm.stores import open_store
from cottonpalm.stores.codec.records import unpack
from cottonpalm.stores.sql.run_store import SqlRunStore
from cottonpalm.stores.sql.store import SqlStore
from cottonpalm.types import Kind
from tests.engine.helpers import Probe, aread, read
from tests.engine.killed import rows as texts
from tests.support.loopback import ROOT, Loopback
from tests.support.programs import Program
from tests.support.replies import Reply, uniform

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from cottonpalm.events import Event
    from cottonpalm.types import Outcome

ONE_TRY = RetryPolicy(retries=0, base_s=0.001)


class Runs:
    """One store and one run in it; each call is a new processor, as in a new process."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def processor(self, chain: Any, **more: Any) -> BatchProcessor:
        more = {"store": self.path, "run": "night", "fingerprint": "1", "retry": ONE_TRY} | more
        return BatchProcessor(chain, **more)

    def do(
        self,
        chain: Any,
        rows: Any,
        *,
        ids: Any = None,
        skip_stored: bool = False,
        retry_failed: bool = False,
        **more: Any,
    ) -> list[Outcome]:
        with self.processor(chain, **more).start(
            rows, ids=ids, skip_stored=skip_stored, retry_failed=retry_failed
        ) as run:
            outcomes, error = read(run)
        assert error is None
        return sorted(outcomes, key=lambda outcome: outcome.index)

    def kept(self) -> dict[int, tuple[str, Any]]:
        """Status and output of each slot, as another program finds them."""
        store = open_store(self.path)
        try:
            run = store.open_run("night", None)
            slots = [slot.slot for slot in run.scan(-1, 100_000)]
            found = {slot: unpack(record, slot, {}) for slot, record in run.read(slots).items()}
            run.close()
        finally:
            store.close()
        return {slot: (outcome.status, outcome.output) for slot, outcome in sorted(found.items())}


def test_a_processor_whose_process_goes_to_another_folder_keeps_its_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    monkeypatch.chdir(tmp_path)
    asked: list[str] = []
    processor = BatchProcessor(
        RunnableLambda(lambda row: asked.append(row) or row), store="s.db", run="night"
    )
    monkeypatch.chdir(there)
    assert processor.batch(["a"]) == ["a"]
    monkeypatch.chdir("/")
    assert processor.batch(["a", "b"]) == ["a", "b"]
    assert asked == ["a", "b"]
    assert (tmp_path / "s.db").exists()
    assert not list(there.iterdir())


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "runs.db")


def probe(faults: dict[Any, list[BaseException]] | None = None) -> Probe:
    return Probe(delay_s=0, faults=faults)


# -- the same call again


def test_the_same_call_again_asks_nothing_and_returns_the_same(runs: Runs) -> None:
    first, second = probe(), probe()
    before, after = runs.do(first, range(700)), runs.do(second, range(700))
    assert not second.calls
    assert [(o.index, o.output, o.latency_s, o.attempts) for o in before] == [
        (o.index, o.output, o.latency_s, o.attempts) for o in after
    ]
    assert runs.processor(second).batch(list(range(700))) == [("answer", n) for n in range(700)]
    assert not second.calls


def test_only_what_is_not_done_is_done(runs: Runs) -> None:
    first, second = probe(), probe()
    runs.do(first, range(100))
    assert [o.output for o in runs.do(second, range(150))] == [("answer", n) for n in range(150)]
    assert sorted(second.calls) == list(range(100, 150))


def test_what_failed_for_a_while_is_done_again_and_what_failed_for_good_is_not(runs: Runs) -> None:
    faults: dict[Any, list[BaseException]] = {3: [ConnectionError("later")], 5: [KeyError("never")]}
    before = runs.do(probe(faults), range(10))
    assert [o.index for o in before if o.status == "failed"] == [3, 5]
    second = probe()
    after = runs.do(second, range(10))
    assert list(second.calls) == [3]
    assert [o.index for o in after if o.status == "failed"] == [5]
    assert after[5].error is not None
    assert after[5].error.type == "KeyError"
    assert runs.kept()[3] == ("ok", ("answer", 3))


@pytest.mark.parametrize(
    "again",
    [
        pytest.param(["new", *list(range(100))], id="one in front"),
        pytest.param([f"new {n}" for n in range(300)] + list(range(100)), id="many in front"),
        pytest.param([*list(range(50)), "new", *list(range(50, 100))], id="one in the middle"),
        pytest.param(list(reversed(range(100))), id="backwards"),
        pytest.param(Random(1).sample(range(100), 100), id="shuffled"),
        pytest.param(list(range(10, 60)), id="removed at both ends"),
        pytest.param([n for n in range(100) if n % 3], id="removed all over"),
    ],
)
def test_rows_that_were_moved_removed_or_joined_by_new_ones_are_not_repaid(
    runs: Runs, again: list[Any]
) -> None:
    runs.do(probe(), range(100))
    second = probe()
    outcomes = runs.do(second, again)
    assert [o.output for o in outcomes] == [("answer", row) for row in again]
    assert set(second.calls) == {row for row in again if isinstance(row, str)}
    third = probe()
    runs.do(third, again)
    assert not third.calls
    runs.do(third, range(100))
    assert not third.calls, "the old order is still there"


def test_slots_tell_where_the_rows_are_in_the_store(runs: Runs) -> None:
    runs.do(probe(), range(10))
    with runs.processor(probe()).start(["new", *range(10)]) as run:
        read(run)
        assert [run.slot(index) for index in range(11)] == [10, *range(10)]
        assert run.rows_read == 11
    assert runs.kept()[10] == ("ok", ("answer", "new"))


def test_each_of_equal_rows_has_a_place_of_its_own(runs: Runs) -> None:
    first, second = probe(), probe()
    runs.do(first, ["x", "y", "x", "x"])
    assert first.calls == {"x": 3, "y": 1}
    assert [o.output[1] for o in runs.do(second, ["x", "x", "y", "x", "x", "y"])] == list("xxyxxy")
    assert second.calls == {"x": 1, "y": 1}


def test_ids_carry_rows_wherever_they_go_and_a_changed_row_is_asked_again(runs: Runs) -> None:
    first, second = probe(), probe()
    runs.do(first, ["a", "b", "c"], ids=["1", "2", "3"])
    outcomes = runs.do(second, ["c", "B", "a"], ids=["3", "2", "1"])
    assert [(o.id, o.output[1]) for o in outcomes] == [("3", "c"), ("2", "B"), ("1", "a")]
    assert second.calls == {"B": 1}
    assert runs.kept()[1] == ("ok", ("answer", "B")), "it took its old place"


def test_an_answer_to_the_old_question_is_kept_until_the_new_one_is_there(runs: Runs) -> None:
    runs.do(probe(), ["old"], ids=["1"])
    [outcome] = runs.do(probe({"new": [ConnectionError()]}), ["new"], ids=["1"])
    assert outcome.status == "failed"
    third = probe()
    assert runs.do(third, ["new"], ids=["1"])[0].output == ("answer", "new")
    assert third.calls == {"new": 1}


def test_equal_rows_of_different_configurations_are_different_rows(runs: Runs) -> None:
    chain = RunnableLambda(lambda x, config: (x, config["configurable"]["tone"]))
    configs: Any = [{"configurable": {"tone": tone}} for tone in ("dry", "warm")]
    assert runs.processor(chain).batch(["x", "x"], configs) == [("x", "dry"), ("x", "warm")]
    assert runs.processor(chain).batch(["x", "x"], configs[::-1]) == [("x", "warm"), ("x", "dry")]


# -- how stored rows are handed out


def test_stored_rows_are_yielded_skipped_or_done_again_as_asked(runs: Runs) -> None:
    faults: dict[Any, list[BaseException]] = {1: [KeyError("one")]}
    runs.do(probe(faults), range(4))
    chain = probe()
    with runs.processor(chain).start(range(5), skip_stored=True) as run:
        outcomes, error = read(run)
        stats = run.stats
    assert error is None
    assert [o.index for o in outcomes] == [4]
    assert (stats.stored, stats.ok, stats.failed, stats.total) == (4, 1, 0, 5)
    assert [o.index for o in runs.do(chain, range(5))] == list(range(5))
    assert chain.calls == {4: 1}
    again = runs.do(chain, range(5), skip_stored=True, retry_failed=True)
    assert chain.calls == {4: 1, 1: 1}
    assert [(o.index, o.output) for o in again] == [(1, ("answer", 1))]


def test_an_outcome_is_durable_before_anybody_sees_it(runs: Runs) -> None:
    runs.do(probe(), [])  # makes the file
    # Other readers see only what is committed. Each thread has its own: on a shared one, a query under way in one
    # thread holds its snapshot for both.
    mine, observer = (sqlite3.connect(runs.path, check_same_thread=False) for _ in range(2))
    shown: list[bool] = []

    def all_stored(db: sqlite3.Connection, so_far: int) -> bool:
        [(stored,)] = db.execute("SELECT count(*) FROM item").fetchall()
        return bool(stored >= so_far)

    class Looks:
        def see(self, event: Event) -> None:
            if isinstance(event, RowFinished):
                shown.append(all_stored(observer, len(shown) + 1))

    with runs.processor(probe(), observers=[Looks()]).start(range(600)) as run:
        assert all(all_stored(mine, number) for number, _ in enumerate(run, 1))
    mine.close()
    observer.close()
    assert shown == [True] * 600


@pytest.mark.parametrize("rows", [GROUP_ROWS - 1, GROUP_ROWS, GROUP_ROWS + 1, 2 * GROUP_ROWS + 1])
@pytest.mark.parametrize("in_flight", [1, 64, GROUP_ROWS])
def test_rows_that_take_no_time_fill_the_stores_groups_and_none_is_left_over(
    runs: Runs, rows: int, in_flight: int
) -> None:
    chain = probe()
    outcomes = runs.do(chain, range(rows), concurrency=in_flight)
    assert [outcome.output for outcome in outcomes] == [("answer", row) for row in range(rows)]
    assert runs.kept() == {row: ("ok", ("answer", row)) for row in range(rows)}
    assert chain.calls == dict.fromkeys(range(rows), 1)


class Timeless(asyncio.SelectorEventLoop):
    """A loop whose time stands still, so no timer ever fires."""

    def time(self) -> float:
        return 0.0


@pytest.mark.timeout(30)
@pytest.mark.parametrize("in_flight", [2, 64])
def test_rows_that_take_no_time_wait_for_no_timer_beside_one_that_takes_long(
    runs: Runs, in_flight: int
) -> None:
    rows = 4 * GROUP_ROWS

    async def all_but_the_slow_one() -> list[int]:
        others_are_there = asyncio.Event()

        async def answer(row: int) -> int:
            if row == 0:
                await others_are_there.wait()
            return row

        seen: list[int] = []
        processor = runs.processor(RunnableLambda(answer), concurrency=in_flight)
        async with processor.astart(range(rows)) as run:
            async for outcome in run:
                seen.append(outcome.output)
                if len(seen) == 3 * GROUP_ROWS:
                    others_are_there.set()
        return seen

    with asyncio.Runner(loop_factory=Timeless) as runner:
        assert sorted(runner.run(all_but_the_slow_one())) == list(range(rows))


def test_leaving_a_run_again_and_again_still_stores_what_is_done(runs: Runs) -> None:
    let_go = threading.Event()

    class Slow(Probe):
        tidied = 0

        async def ainvoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
            try:
                return await super().ainvoke(input, config)
            finally:
                await asyncio.sleep(0.05)
                self.tidied += input >= 5

    def rows() -> Iterator[int]:
        yield from range(20)
        let_go.wait(20)  # so that the run has to wait for its source when it is left

    async def main() -> None:
        chain = Slow(delay_s=lambda row: 0.0 if row < 5 else 60.0)
        run = runs.processor(chain, concurrency=10).astart(rows())
        async with run:
            reading = asyncio.create_task(aread(run))
            while run.stats.ok < 5:
                await asyncio.sleep(0.001)
            for _ in range(20):
                run.abort()
                await asyncio.sleep(0.001)
        await reading
        assert (chain.tidied, chain.in_flight) == (10, 0), "it did not wait for the rows that tidy up"

    asyncio.run(main())
    let_go.set()
    assert sorted(runs.kept()) == list(range(5))


# -- retry


@pytest.mark.parametrize("store_inputs", [True, False])
def test_retry_takes_the_failed_rows_alone_and_each_stays_in_its_place(
    runs: Runs, store_inputs: bool
) -> None:
    faults: dict[Any, list[BaseException]] = {3: [ConnectionError()], 5: [KeyError()]}
    runs.do(probe(faults), range(10), store_inputs=store_inputs)
    chain = probe()
    processor = runs.processor(chain, store_inputs=store_inputs)
    if store_inputs:
        outcomes = processor.retry()
    else:
        with pytest.raises(ConfigError, match="give the rows"):
            processor.retry()
        outcomes = processor.retry(range(10))
    assert [(o.index, o.output) for o in outcomes] == [(3, ("answer", 3)), (5, ("answer", 5))]
    assert sorted(chain.calls) == [3, 5]
    assert runs.kept() == {n: ("ok", ("answer", n)) for n in range(10)}
    assert processor.retry(range(10)) == []


def test_retry_without_a_store_does_the_failed_rows_of_the_last_batch_again() -> None:
    chain = probe({1: [KeyError()], 3: [KeyError(), KeyError()]})
    processor = BatchProcessor(chain)
    processor.batch([0, 1, 2, 3], return_exceptions=True)
    assert [(o.index, o.status) for o in processor.retry()] == [(1, "ok"), (3, "failed")]
    run = processor.last_run
    assert run is not None
    assert [o.status for o in run.outcomes()] == ["ok", "ok", "ok", "failed"]
    assert [(o.index, o.status) for o in processor.retry()] == [(3, "ok")]


@pytest.mark.parametrize("after_a_batch", [True, False])
def test_retry_with_a_store_is_the_last_run_with_its_outcomes(runs: Runs, after_a_batch: bool) -> None:
    faults: dict[Any, list[BaseException]] = {3: [KeyError()], 5: [KeyError()]}
    processor = runs.processor(probe(faults))
    processor.batch(list(range(10)), return_exceptions=True)
    if not after_a_batch:
        processor = runs.processor(probe())
    outcomes = processor.retry()
    run = processor.last_run
    assert run is not None
    assert [(o.index, o.status) for o in run.outcomes()] == [(3, "ok"), (5, "ok")]
    assert run.outcomes() == outcomes
    assert run.report.counts.ok == run.stats.ok == 2


def test_a_store_in_memory_lasts_as_long_as_its_processor() -> None:
    chain = probe({2: [KeyError()]})
    processor = BatchProcessor(chain, store="memory:", run="night")
    processor.batch([1, 2, 3], return_exceptions=True)
    assert [outcome.status for outcome in processor.retry()] == ["ok"]
    processor.batch([1, 2, 3, 4])
    assert chain.calls == {1: 1, 2: 2, 3: 1, 4: 1}
    other = BatchProcessor(chain, store="memory:", run="night")
    assert other.plan([1, 2]).asked == 2


def test_a_second_call_beside_one_with_the_same_store_in_memory_is_refused_as_of_this_process() -> None:
    async def main() -> list[Any]:
        calls = (processor.abatch([f"{name} {n}" for n in range(3)]) for name in "ab")
        return await asyncio.gather(*calls, return_exceptions=True)

    with Loopback(latency=0.05) as server:
        model = ChatOpenAI(base_url=server.openai_url, api_key="k", model="gpt-4o-mini")  # type: ignore[arg-type]
        processor = BatchProcessor(model, store="memory:", run="night")
        answers, busy = asyncio.run(main())
        assert len(answers) == 3
        assert isinstance(busy, RunBusy)
        assert "being worked on by another call in this process" in str(busy)
        assert len(processor.batch(["a 0", "b 0"])) == 2


def test_a_run_in_memory_that_stopped_does_the_rest_in_the_same_call_again_as_it_says() -> None:
    with Loopback(script=[None, Reply(status=401)]) as server:
        model = ChatOpenAI(base_url=server.openai_url, api_key="k", model="gpt-4o-mini")  # type: ignore[arg-type]
        processor = BatchProcessor(model, store="memory:", run="night", concurrency=1)
        with pytest.raises(
            RunStopped, match=r"[^.]\. What is done is kept in memory alone, run 'night': the same call"
        ):
            processor.batch(["a", "b", "c"])
        processor.batch(["a", "b", "c"])
        assert server.counts == {"a": 1, "b": 2, "c": 1}


def test_retry_without_any_run_says_so() -> None:
    with pytest.raises(ConfigError, match="call batch first"):
        BatchProcessor(probe()).retry()


# -- a chain that changed


def chain_of(server: Loopback, prompt: str = "{x}", **more: Any) -> Any:
    settings = {"model": "gpt-4o-mini"} | more
    model = ChatOpenAI(base_url=server.openai_url, api_key="sk-test-0123456789", **settings)
    return ChatPromptTemplate.from_template(prompt) | model | StrOutputParser()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"prompt": "Please: {x}"}, "Please"),
        ({"model": "gpt-4o"}, "gpt-4o"),
        ({"temperature": 0.5}, "temperature"),
    ],
)
def test_another_prompt_model_or_parameter_is_refused_before_any_call(
    runs: Runs, change: dict[str, Any], says: str
) -> None:
    with Loopback() as server:
        runs.do(chain_of(server), texts(3), fingerprint=None)
        with pytest.raises(ChainChanged, match=says) as caught:
            runs.do(chain_of(server, **change), texts(3), fingerprint=None)
        assert "\n" not in str(caught.value)
        assert "sk-test" not in str(caught.value)
        assert server.requests == 3
        runs.do(chain_of(server), texts(3), fingerprint=None)
        assert server.requests == 3


def test_another_key_address_or_retry_setting_is_the_same_chain(runs: Runs) -> None:
    with Loopback() as server, Loopback() as other:
        runs.do(chain_of(server), texts(3), fingerprint=None)
        runs.do(chain_of(other, max_retries=7, timeout=9), texts(4), fingerprint=None)
        assert other.counts == {"row 3": 1}


def test_another_function_only_warns(runs: Runs, caplog: pytest.LogCaptureFixture) -> None:
    runs.do(RunnableLambda(lambda x: x + 1), [1], fingerprint=None)
    assert not caplog.records
    assert [o.output for o in runs.do(RunnableLambda(lambda x: x * 7), [1, 2], fingerprint=None)] == [2, 14]
    assert "goes on, but" in caplog.text


def test_the_users_own_version_string_decides_alone(runs: Runs) -> None:
    with Loopback() as server:
        runs.do(chain_of(server), texts(2), fingerprint="v1")
        runs.do(chain_of(server, model="gpt-4o"), texts(2), fingerprint="v1")
        assert server.requests == 2
        with pytest.raises(ChainChanged, match="v2"):
            runs.do(chain_of(server), texts(2), fingerprint="v2")


# -- outputs


class Label(BaseModel):
    label: str
    score: float


def test_pydantic_outputs_and_messages_come_back_equal(runs: Runs) -> None:
    reply = Reply(text='{"label": "good", "score": 0.5}')
    with Loopback(script=lambda _request: reply) as server:
        model = ChatOpenAI(base_url=server.openai_url, api_key="sk-test-0123456789", model="gpt-4o-mini")
        prompt = ChatPromptTemplate.from_template("{x}")
        for name, chain in (
            ("label", prompt | model.with_structured_output(Label)),
            ("message", prompt | model),
        ):
            answers = [runs.processor(chain, run=name, fingerprint=None).batch(texts(3)) for _ in range(2)]
            assert answers[0] == answers[1]
            assert type(answers[0][0]) is type(answers[1][0]) in (Label, AIMessage)
        assert server.requests == 6


def test_what_a_parser_says_of_an_answer_comes_back_and_is_not_asked_again(runs: Runs) -> None:
    reply = Reply(text='{"label": "good", "score": "much"}')
    with Loopback(script=lambda _request: reply) as server:
        model = ChatOpenAI(base_url=server.openai_url, api_key="sk-test-0123456789", model="gpt-4o-mini")
        chain = model.with_structured_output(Label, method="json_mode", include_raw=True)
        [first], [again] = (runs.processor(chain, fingerprint=None).batch(["a"]) for _ in range(2))
        assert server.requests == 1
    assert (again["raw"], again["parsed"]) == (first["raw"], None)
    error = again["parsing_error"]
    assert isinstance(error, StoredError)
    assert (error.type, str(error)) == (type(first["parsing_error"]).__name__, str(first["parsing_error"]))


class Opaque:
    """Neither JSON nor equal to its copy."""


def test_an_answer_that_cannot_be_stored_is_one_failed_row_that_keeps_its_text(runs: Runs) -> None:
    chain = RunnableLambda(lambda x: Opaque() if x == 60 else x)
    outcomes = runs.do(chain, range(100))
    assert [o.index for o in outcomes if o.status == "failed"] == [60]
    error = outcomes[60].error
    assert error is not None
    assert (error.kind, error.type, error.retryable) == (Kind.FAIL_ROW, "CannotStore", False)
    assert "Opaque" in outcomes[60].output
    assert len(runs.kept()) == 100


def test_where_the_first_answers_cannot_be_stored_the_run_stops_before_all_are_paid(runs: Runs) -> None:
    called = []

    async def opaque(x: int) -> Opaque:
        called.append(x)
        return Opaque()

    with runs.processor(RunnableLambda(opaque), concurrency=4).start(range(1_000)) as run:
        outcomes, error = read(run)
    assert isinstance(error, RunStopped)
    assert "Opaque" in str(error)
    assert "\n" not in str(error)
    assert len(called) < 20
    assert all("Opaque" in outcome.output for outcome in outcomes), "what was paid is shown"


def test_without_a_store_any_answer_goes() -> None:
    answers = BatchProcessor(RunnableLambda(lambda _: Opaque())).batch([1, 2])
    assert [type(answer) for answer in answers] == [Opaque, Opaque]


# -- other processes


def program(*args: object, **more: Any) -> subprocess.Popen[str]:
    return Program(["tests.engine.killed", *args], cwd=ROOT, stdout=subprocess.PIPE, text=True, **more)


def test_a_second_process_on_the_same_run_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    holder = program(path, "http://127.0.0.1:9/v1", stdin=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline().startswith("holding")
        processor = BatchProcessor(probe(), store=path, run="killed", fingerprint="1")
        for use in (lambda: processor.batch([1]), lambda: processor.start([1]), processor.retry):
            with pytest.raises(RunBusy, match=str(holder.pid)):
                use()
        other = BatchProcessor(probe(), store=path, run="another", fingerprint="1")
        assert other.batch([1]) == [("answer", 1)]
    finally:
        holder.communicate("", timeout=20)
    with pytest.raises(ChainChanged):
        processor.batch([1])


def test_two_runs_of_one_process_on_one_name_are_refused_too(runs: Runs) -> None:
    go_on = threading.Event()

    def rows() -> Iterator[int]:
        yield 1
        go_on.wait(20)

    with runs.processor(probe()).start(rows()) as run:
        next(run)
        with pytest.raises(RunBusy):
            runs.processor(probe()).batch([1])
        go_on.set()
        assert list(run) == []
    assert [o.output for o in runs.do(probe(), [1])] == [("answer", 1)]


def stored_texts(path: Path) -> set[str]:
    """The rows that another program finds done."""
    store = open_store(path)
    try:
        run = store.open_run("killed", None)
        slots = [slot.slot for slot in run.scan(-1, 100_000)]
        found = [unpack(record, slot, {}).input["x"] for slot, record in run.read(slots).items()]
        run.close()
    finally:
        store.close()
    return set(found)


def test_a_killed_process_showed_nothing_that_is_not_stored_and_nothing_stored_is_asked_again(
    tmp_path: Path,
) -> None:
    count, kills, rng, path = 240, 5, Random(11), tmp_path / "runs.db"
    everything = {f"row {n}" for n in range(count)}
    forks = program(stdin=subprocess.PIPE)
    assert forks.stdin is not None
    assert forks.stdout is not None
    with Loopback(latency=uniform(0.005, 0.06, seed=5)) as server:
        done_at: list[tuple[int, set[str]]] = []
        for number in range(kills + 1):
            forks.stdin.write(f"{path} {server.openai_url} {count}\n")
            forks.stdin.flush()
            child = int(forks.stdout.readline().split()[1])
            if number < kills:
                server.wait(requests=server.requests + rng.randint(5, 50), in_flight=1)
                os.kill(child, signal.SIGKILL)
            lines = list(iter(forks.stdout.readline, "gone\n"))
            seen = {f"row {line.split()[0]}" for line in lines if line.endswith("ok\n")}
            stored = stored_texts(path)
            assert seen <= stored, "an outcome was shown before it was stored"
            assert ("done\n" in lines) == (number == kills) == (stored == everything)
            done_at.append((server.requests, stored))
        for before, stored in done_at:
            later = {arrival.text for arrival in server.arrivals if arrival.seq >= before}
            assert not later & stored, "a stored row was asked again"
    forks.communicate(timeout=20)


def test_a_store_that_fails_when_it_is_closed_keeps_no_thread_and_no_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def close(self: SqlRunStore, real: Any = SqlRunStore.close) -> None:
        real(self)
        raise StoreError("the disk is gone")

    monkeypatch.setattr(SqlRunStore, "close", close)
    before = set(threading.enumerate())
    processor = BatchProcessor(Probe(), store=tmp_path / "s.db", run="night")
    with processor.start(range(5)) as run:
        outcomes, error = read(run)
    assert len(outcomes) == 5
    assert isinstance(error, StoreError)
    assert [
        thread.name for thread in set(threading.enumerate()) - before if "cottonpalm-writer" in thread.name
    ] == []


def test_a_store_that_is_slow_to_close_does_not_hold_up_the_callers_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closing, go = threading.Event(), threading.Event()

    def close(self: SqlRunStore, real: Any = SqlRunStore.close) -> None:
        closing.set()
        assert go.wait(5), "the loop stood still while the store was closed"
        real(self)

    monkeypatch.setattr(SqlRunStore, "close", close)

    async def main(cancel: bool) -> None:
        processor = BatchProcessor(Probe(), store=tmp_path / "s.db", run="night")
        task = asyncio.ensure_future(processor.abatch(range(5)))
        while not closing.is_set():
            await asyncio.sleep(0)
        if cancel:
            task.cancel()
            await asyncio.sleep(0)
        go.set()
        if cancel:
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            assert len(await task) == 5

    for cancel in (False, True):
        asyncio.run(main(cancel))
        closing.clear()
        go.clear()
    go.set()
    store = open_store(tmp_path / "s.db")
    assert (store.runs()[0].ok, store.runs()[0].holder) == (5, None)
    store.close()


def make_many(path: Path, run: str, rows: int) -> None:
    """Add so many other rows to a run that one of its own is no longer found in no time."""
    store = open_store(path)
    opened = store.open_run(run, None)
    others = [
        StoredRow(slot, key := slot.to_bytes(16, "little"), key, 1, b"{}", 0)
        for slot in range(rows, rows + MANY)
    ]
    written = threading.Event()
    opened.write(others, lambda _: written.set())
    assert written.wait(60)
    opened.close()
    store.close()


@pytest.fixture(scope="module")
def many_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with many rows, 4,800 of them real."""
    path = tmp_path_factory.mktemp("many") / "s.db"
    BatchProcessor(Probe(0), store=path, run="night", fingerprint="1").batch(range(4_800))
    make_many(path, "night", 4_800)
    return path


@pytest.mark.parametrize("kind", ["list", "list with priorities", "async iterator", "slow async iterator"])
def test_rows_that_have_to_be_looked_up_among_many_do_not_hold_up_the_callers_loop(
    kind: str, many_rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first look-up reads all keys of the run."""
    threads: set[int] = set()

    def find(self: SqlRunStore, key: bytes, real: Any = SqlRunStore.find) -> Any:
        threads.add(threading.get_ident())
        return real(self, key)

    monkeypatch.setattr(SqlRunStore, "find", find)
    chain, rows = Probe(0), [*range(4_500, 4_800), *range(4_500)]

    async def later() -> AsyncIterator[int]:
        for row in rows:
            if kind.startswith("slow") and row % 100 == 0:
                await asyncio.sleep(0.001)
            yield row

    async def main() -> tuple[list[Any], int]:
        processor = BatchProcessor(chain, store=many_rows, run="night", fingerprint="1")
        source: Any = rows if kind.startswith("list") else later()
        priorities = [row % 3 for row in rows] if "priorities" in kind else None
        async with processor.astart(source, priorities=priorities) as run:
            outcomes, error = await aread(run)
        assert error is None
        outcomes.sort(key=lambda outcome: outcome.index)
        return [outcome.output for outcome in outcomes], threading.get_ident()

    answers, loops = asyncio.run(main())
    assert answers == [("answer", row) for row in rows]
    assert not chain.calls
    assert threads
    assert loops not in threads


def test_an_async_iterator_that_fails_or_is_left_among_many_stored_rows_loses_none_that_it_gave(
    tmp_path: Path,
) -> None:
    chain = Probe(0)
    runs = Runs(tmp_path / "s.db")
    runs.do(chain, range(100))
    make_many(tmp_path / "s.db", "night", 100)
    closed = []

    async def later(fails: bool) -> AsyncIterator[int]:
        try:
            for row in reversed(range(103)):
                yield row
            if fails:
                raise OSError("the line broke")
            await asyncio.Event().wait()
        finally:
            closed.append(fails)

    async def main() -> None:
        async with runs.processor(chain).astart(later(True)) as run:
            outcomes, error = await aread(run)
        assert isinstance(error, OSError)
        assert sorted(outcome.index for outcome in outcomes) == list(range(103))
        async with runs.processor(chain).astart(later(False)) as run:
            assert sorted([(await anext(run)).index for _ in range(103)]) == list(range(103))

    asyncio.run(main())
    assert closed == [True, False]
    assert set(chain.calls.values()) == {1}


@pytest.mark.parametrize("entered", [True, False])
def test_a_run_started_on_a_loop_opens_its_store_beside_it(
    entered: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a slow disk that takes seconds; what is asked of a run before it began is answered all the same."""
    opened: list[int] = []

    def open_run(self: SqlStore, *args: Any, real: Any = SqlStore.open_run) -> Any:
        opened.append(threading.get_ident())
        return real(self, *args)

    monkeypatch.setattr(SqlStore, "open_run", open_run)
    chain = Probe(0)

    async def main() -> int:
        run = Runs(tmp_path / "s.db").processor(chain).astart(range(5))
        if not entered:
            assert run.stats.total == 5
            assert run.store is not None
        async with run:
            outcomes, error = await aread(run)
        assert (len(outcomes), error) == (5, None)
        return threading.get_ident()

    loops = asyncio.run(main())
    assert len(opened) == 1
    assert (opened[0] == loops) is not entered


@pytest.mark.parametrize("by", ["the loop", "a thread"])
def test_a_run_that_is_looked_at_while_it_is_opened_is_opened_once(tmp_path: Path, by: str) -> None:
    """Each look opened it anew, and the run was refused as one that somebody works on: itself."""

    async def main(name: str) -> tuple[int, int]:
        looked = asyncio.Event()  # however late a thread looks, no row is done by then
        chain = RunnableLambda(lambda row: row, afunc=lambda _: looked.wait())
        run = BatchProcessor(chain, store=tmp_path / "s.db", run=name).astart(range(5))
        begins = asyncio.ensure_future(run.__aenter__())
        await asyncio.sleep(0)  # from now on a thread opens it
        seen = run.stats if by == "the loop" else await asyncio.to_thread(lambda: run.stats)
        assert (seen.total, seen.ok) == (5, 0)
        looked.set()
        async with await begins:
            outcomes, error = await aread(run)
            assert error is None
        return len(outcomes), run.stats.ok

    assert [asyncio.run(main(f"{n}")) for n in range(5)] == [(5, 5)] * 5


def test_a_run_that_is_never_entered_holds_no_lease(tmp_path: Path) -> None:
    chain, runs = Probe(0), Runs(tmp_path / "s.db")

    async def main() -> None:
        left = runs.processor(chain).astart(range(5))
        async with runs.processor(chain).astart(range(5)) as run:
            assert len((await aread(run))[0]) == 5
        await left.aclose()

    asyncio.run(main())


def test_a_run_that_is_never_entered_says_when_it_is_closed_that_its_store_cannot_be_opened(
    tmp_path: Path,
) -> None:
    (tmp_path / "s.db").write_text("this is no database, however long one reads in it " * 20)
    left = Runs(tmp_path / "s.db").processor(Probe(0)).astart(range(5))
    with pytest.raises(StoreError, match=r"s\.db"):
        asyncio.run(left.aclose())


@pytest.mark.parametrize("used", [True, False])
def test_a_run_that_is_lost_without_being_begun_says_that_nothing_was_asked(
    tmp_path: Path, used: bool
) -> None:
    async def main() -> None:
        for left in (Runs(tmp_path / "s.db").processor(Probe(0)), BatchProcessor(Probe(0))):
            run = left.astart(range(5))
            if used:
                await anext(run)
                await run.aclose()
            del run

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        asyncio.run(main())
    said = [str(warning.message) for warning in told if warning.category is RuntimeWarning]
    assert len([line for line in said if "was never begun" in line]) == (0 if used else 2)
