"""The resumable class: what is in its file, when it is there, and what it is not."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from pydantic import BaseModel

from cottonpalm import ConfigError, ResumableBatchProcessor, RunBusy, StoreError
from cottonpalm.events import RunEnded
from cottonpalm.stores import open_store
from tests.presets.kinds import Counted, EchoModel, rows_of

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.core
FAILED = pytest.raises(ValueError, match="cannot be answered")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_after_a_failure_only_what_is_not_done_is_asked_and_then_the_file_is_gone(here: Path) -> None:
    counted = Counted(bad="row 3")
    processor = ResumableBatchProcessor(counted.chain)
    with FAILED:
        processor.batch(rows_of(12))
    assert (here / "batch_checkpoint.pkl").exists()
    with FAILED:
        processor.batch(rows_of(12))
    assert counted.calls == Counter({f"row {n}": 1 for n in range(12)}) + Counter({"row 3": 1})

    mended = Counted(bad="")
    answers = ResumableBatchProcessor(mended.chain).batch(rows_of(12))
    assert answers == [f"answer to row {n}" for n in range(12)]
    assert mended.calls == {"row 3": 1}
    assert not list(here.iterdir())


def test_what_is_done_can_be_looked_at_by_row(here: Path) -> None:
    processor = ResumableBatchProcessor(Counted(bad="row 1").chain, checkpoint_file="mine.pkl")
    assert processor.load_checkpoint() is None
    with FAILED:
        processor.batch(rows_of(3))
    assert processor.load_checkpoint() == {
        "results": ["answer to row 0", None, "answer to row 2"],
        "processed_count": 2,
    }


def test_a_process_that_is_killed_leaves_what_was_done(here: Path) -> None:
    program = (
        "import os, time\n"
        "from langchain_core.runnables import RunnableLambda\n"
        "from cottonpalm import ResumableBatchProcessor\n"
        "from cottonpalm.stores import open_store\n"
        "def answer(row):\n"
        "    if row == 5:\n"
        "        store = open_store('batch_checkpoint.pkl')\n"
        "        while store.runs()[0].ok < 5: time.sleep(0.01)\n"
        "        os._exit(9)\n"
        "    return row * 10\n"
        "ResumableBatchProcessor(RunnableLambda(answer)).batch(list(range(8)), max_concurrency=1)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=here, check=False)
    assert done.returncode == 9
    asked: list[int] = []
    chain = RunnableLambda(lambda row: asked.append(row) or row * 10)
    assert ResumableBatchProcessor(chain).batch(list(range(8))) == [row * 10 for row in range(8)]
    assert sorted(asked) == [5, 6, 7]
    assert not list(here.iterdir())


def test_rows_may_be_added_and_moved_between_two_calls(here: Path) -> None:
    with FAILED:
        ResumableBatchProcessor(Counted(bad="row 3").chain).batch(rows_of(5))
    mended = Counted(bad="")
    rows = [{"x": "new"}, *reversed(rows_of(5))]
    answers = ResumableBatchProcessor(mended.chain).batch(rows)
    assert answers == [f"answer to {row['x']}" for row in rows]
    assert mended.calls == {"new": 1, "row 3": 1}


def test_results_saved_by_hand_are_not_asked_again(here: Path) -> None:
    counted = Counted(bad="")
    processor = ResumableBatchProcessor(counted.chain)
    processor.save_checkpoint(["zero", None], 2)
    assert processor.load_checkpoint() == {"results": ["zero", None], "processed_count": 2}
    answers = processor.batch(rows_of(4))
    assert answers == ["zero", None, "answer to row 2", "answer to row 3"]
    assert counted.calls == {"row 2": 1, "row 3": 1}
    assert not list(here.iterdir())


def test_what_was_loaded_can_be_saved_again_holes_and_all(here: Path) -> None:
    processor = ResumableBatchProcessor(Counted(bad="row 1").chain)
    with FAILED:
        processor.batch(rows_of(3))
    loaded = processor.load_checkpoint()
    assert loaded is not None
    processor.save_checkpoint(loaded["results"], loaded["processed_count"])
    assert processor.load_checkpoint() == loaded
    mended = Counted(bad="")
    ResumableBatchProcessor(mended.chain).batch(rows_of(3))
    assert mended.calls == {"row 1": 1}


class Label(BaseModel):
    name: str


def label(row: dict[str, str]) -> Label:
    return Label(name=row["x"])


def test_saved_results_may_be_what_the_chain_answers_with(here: Path) -> None:
    processor = ResumableBatchProcessor(RunnableLambda(label))
    processor.save_checkpoint([Label(name="by hand")], 1)
    assert processor.batch(rows_of(2)) == [Label(name="by hand"), Label(name="row 1")]


class Bomb:
    def __reduce__(self) -> Any:
        return os.mkdir, ("it-was-opened",)


def test_a_real_pickle_in_its_place_is_refused_unopened(here: Path) -> None:
    path = here / "batch_checkpoint.pkl"
    path.write_bytes(pickle.dumps({"results": [Bomb()], "processed_count": 1}))
    before = path.read_bytes()
    counted = Counted()
    processor = ResumableBatchProcessor(counted.chain)
    for call in (
        lambda: processor.batch(rows_of(2)),
        processor.load_checkpoint,
        lambda: processor.save_checkpoint([], 0),
    ):
        with pytest.raises(StoreError, match=r"batch_checkpoint\.pkl is not a checkpoint .*Move it away"):
            call()
    assert [found.name for found in here.iterdir()] == ["batch_checkpoint.pkl"]
    assert path.read_bytes() == before
    assert not counted.calls


def test_what_is_written_is_no_pickle_and_private(here: Path) -> None:
    with FAILED:
        ResumableBatchProcessor(Counted().chain).batch(rows_of(5))
    path = here / "batch_checkpoint.pkl"
    assert path.read_bytes().startswith(b"SQLite format 3")
    assert path.stat().st_mode & 0o777 == 0o600
    store = open_store(path)
    assert [(run.name, run.ok, run.failed) for run in store.runs()] == [("batch", 4, 1)]
    store.close()


def test_a_chain_with_another_prompt_warns_and_goes_on(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    def chain(words: str, fails: bool) -> Any:
        def check(message: Any) -> str:
            if fails and "row 1" in message.text:
                raise ValueError("this row cannot be answered")
            return str(message.text)

        return ChatPromptTemplate.from_template(words + " {x}") | EchoModel() | check

    with FAILED:
        ResumableBatchProcessor(chain("Say", True)).batch(rows_of(3))
    with caplog.at_level(logging.WARNING, "cottonpalm"):
        answers = ResumableBatchProcessor(chain("Sing", False)).batch(rows_of(3))
    assert answers == ["echo of Say row 0", "echo of Sing row 1", "echo of Say row 2"]
    assert "goes on with another chain than it began with" in caplog.text
    assert "delete it to ask anew" in caplog.text


def test_another_batch_on_the_same_file_is_refused_and_the_first_one_goes_on(here: Path) -> None:
    began, go = threading.Event(), threading.Event()

    def answer(row: int) -> int:
        began.set()
        assert go.wait(30)
        return row

    answers: list[Any] = []
    first = ResumableBatchProcessor(RunnableLambda(answer))
    thread = threading.Thread(target=lambda: answers.extend(first.batch([1, 2])))
    thread.start()
    assert began.wait(30)
    with pytest.raises(RunBusy, match="is being worked on by another call in this process"):
        ResumableBatchProcessor(RunnableLambda(answer)).batch([3])
    go.set()
    thread.join(30)
    assert answers == [1, 2]


def test_a_row_that_calls_the_object_which_runs_it_fails_instead_of_waiting_for_ever(here: Path) -> None:
    processor: ResumableBatchProcessor

    def nested(row: str) -> Any:
        return processor.batch([row])

    processor = ResumableBatchProcessor(RunnableLambda(nested))
    with pytest.raises(RunBusy, match="called the object that runs it"):
        processor.batch(["row"])


def test_another_file_may_be_named_later(here: Path) -> None:
    processor = ResumableBatchProcessor(Counted().chain)
    processor.checkpoint_file = "other.pkl"
    with FAILED:
        processor.batch(rows_of(5))
    assert processor.checkpoint_file == "other.pkl"
    assert (here / "other.pkl").exists()
    assert not (here / "batch_checkpoint.pkl").exists()


def test_a_relative_file_is_of_the_folder_where_it_was_named(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was of the folder where the process was at the first batch."""
    there = here / "there"
    there.mkdir()
    processor = ResumableBatchProcessor(Counted().chain)
    for name in ("batch_checkpoint.pkl", "other.pkl"):
        monkeypatch.chdir(there)
        with FAILED:
            processor.batch(rows_of(5))
        assert (here / name).exists()
        monkeypatch.chdir(here)
        processor.checkpoint_file = "other.pkl"
    assert not list(there.iterdir())


def test_no_rows_leave_a_checkpoint_alone(here: Path) -> None:
    with FAILED:
        ResumableBatchProcessor(Counted().chain).batch(rows_of(5))
    assert ResumableBatchProcessor(Counted().chain).batch([]) == []
    assert (here / "batch_checkpoint.pkl").exists()


def test_it_says_how_far_it_is(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "cottonpalm"):
        ResumableBatchProcessor(Counted(bad="").chain).batch(rows_of(25), 4, 10)
    said = [record.getMessage() for record in caplog.records if "checkpoint:" in record.getMessage()]
    assert said == ["checkpoint: 10 of 25 rows are done", "checkpoint: 20 of 25 rows are done"]
    with pytest.raises(ConfigError, match="checkpoint_interval=0"):
        ResumableBatchProcessor(Counted().chain).batch(rows_of(2), 4, 0)


def test_a_checkpoint_that_another_batch_has_taken_by_the_end_is_left_to_it(here: Path) -> None:
    """The lease is free for a moment, between the end of the run and the end of its file."""
    taken: list[Any] = []

    class Taker:
        def see(self, event: Any) -> None:
            if isinstance(event, RunEnded):
                taken.append(open_store(here / "batch_checkpoint.pkl"))
                taken.append(taken[0].open_run("batch", None))

    answers = ResumableBatchProcessor(Counted().chain, observers=[Taker()]).batch(rows_of(3))
    assert answers == [f"answer to row {n}" for n in range(3)]
    store, run = taken
    assert run.counts() == {1: 3}
    store.close()
    assert open_store(here / "batch_checkpoint.pkl").runs()[0].ok == 3
    assert ResumableBatchProcessor(Counted().chain).batch(rows_of(3)) == answers
    assert not list(here.iterdir())
