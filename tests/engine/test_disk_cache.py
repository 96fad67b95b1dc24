"""The cache's tier on disk: for later processes and for those that run at the same time, and never at a row's cost."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import sqlite3
import subprocess
import threading
from contextlib import closing
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from pydantic import BaseModel

from cottonpalm import BatchProcessor, Cache, RetryPolicy, StoreError
from cottonpalm.engine.shared import memory_of
from cottonpalm.events import CacheHit
from cottonpalm.testing import ScriptedChain
from cottonpalm.types import pico
from tests.engine.helpers import Watch
from tests.engine.sharing import chain_of
from tests.support.loopback import ROOT, Loopback, LoopbackProcess
from tests.support.programs import Program
from tests.support.replies import Reply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ONE_TRY = RetryPolicy(retries=0, base_s=0.001)
core = pytest.mark.core


def rows(count: int) -> list[dict[str, str]]:
    return [{"x": f"row {n}"} for n in range(count)]


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "answers.db"
    gc.collect()  # a file is closed with its `Cache`: no thread of it meets the next test


def asking(server: Any, path: Path, **more: Any) -> BatchProcessor:
    """A processor as in a process of its own: with a memory of its own."""
    return BatchProcessor(chain_of(server.openai_url), cache=Cache(path=path), retry=ONE_TRY, **more)


def written(processor: BatchProcessor) -> BatchProcessor:
    """The same, once the answers it was given so far are in the file."""
    memory = memory_of(processor._settings.cache)
    assert memory is not None
    assert memory.disk is not None
    memory.disk.present([])
    return processor


# -- later


@core
def test_a_later_process_finds_the_answers_and_what_they_saved(path: Path) -> None:
    watch = Watch()
    with Loopback() as server:
        first = asking(server, path)
        answers = first.batch(rows(5))
        written(first)
        paid = sum(outcome.cost_pico or 0 for outcome in first.last_run.outcomes())
        later = asking(server, path, observers=[watch])
        assert later.batch(rows(5)) == answers

    assert set(server.counts.values()) == {1}
    assert (later.last_run.stats.cache.hits, pico(later.last_run.stats.cache.saved_usd)) == (5, paid)
    assert {hit.source for hit in watch.of(CacheHit)} == {"disk"}


@core
def test_a_relative_path_is_of_the_folder_where_the_cache_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was of the folder where the process was when the cache was first used."""
    there = tmp_path / "there"
    there.mkdir()
    monkeypatch.chdir(tmp_path)
    cache = Cache(path="answers.db")
    monkeypatch.chdir(there)
    assert BatchProcessor(RunnableLambda(str), cache=cache).batch([1]) == ["1"]
    assert (tmp_path / "answers.db").exists()
    assert not list(there.iterdir())
    assert Cache(path="memory:").path == "memory:"


def test_the_file_is_its_owners_alone_and_may_be_the_runs_own_store(path: Path) -> None:
    with Loopback() as server:
        for run in ("one", "two"):
            assert len(asking(server, path, store=path, run=run).batch(rows(3))) == 3
    assert set(server.counts.values()) == {1}
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}


class Label(BaseModel):
    label: str


def _labelled(row: dict[str, str]) -> Label:
    return Label(label=row["x"])


def _message(row: dict[str, str]) -> AIMessage:
    return AIMessage(content=row["x"])


def _unheard_of(row: dict[str, str]) -> object:
    return complex(1, len(row))


@core
@pytest.mark.parametrize(
    ("function", "comes_back"), [(_labelled, True), (_message, True), (_unheard_of, False)]
)
def test_answers_come_back_as_what_they_were_or_are_not_kept(
    path: Path, function: Any, comes_back: bool
) -> None:
    def processor() -> BatchProcessor:
        return BatchProcessor(RunnableLambda(function), cache=Cache(path=path))

    first = processor().batch(rows(2) + rows(1))
    second = processor()
    assert second.batch(rows(3))[:2] == first[:2]
    assert second.last_run.stats.cache.hits == (2 if comes_back else 0)


@core
def test_failures_are_not_kept_and_their_claims_are_given_back(path: Path) -> None:
    with Loopback(script=[Reply(status=400)] * 3) as server:
        assert all(
            isinstance(a, Exception) for a in asking(server, path).batch(rows(3), return_exceptions=True)
        )
        assert asking(server, path).batch(rows(3)) == [f"answer to: row {n}" for n in range(3)]
    assert set(server.counts.values()) == {2}


@core
def test_what_is_too_old_for_its_writer_or_its_reader_is_asked_for_again(path: Path) -> None:
    chain = RunnableLambda(_message)

    def hits(ttl: float | None) -> int:
        processor = BatchProcessor(chain, cache=Cache(ttl=ttl, path=path))
        processor.batch(rows(1))
        return processor.last_run.stats.cache.hits

    assert [hits(None), hits(3600), hits(1e-6), hits(None), hits(3600)] == [0, 1, 0, 0, 1]


# -- whose answers


def _one(row: dict[str, str]) -> str:
    return row["x"] + " one"


def _two(row: dict[str, str]) -> str:
    return row["x"] + " two"


WORD = " three"


def _three(row: dict[str, str]) -> str:
    return row["x"] + WORD


@core
def test_chains_never_share_an_answer_also_where_a_function_uses_another_word(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(function: Any) -> Any:
        return BatchProcessor(RunnableLambda(function), cache=Cache(path=path)).batch(rows(1))

    assert [answer(_one), answer(_two), answer(_one), answer(_three)] == [
        ["row 0 one"],
        ["row 0 two"],
        ["row 0 one"],
        ["row 0 three"],
    ]
    monkeypatch.setitem(globals(), "WORD", " four")
    assert answer(_three) == ["row 0 four"]


@core
def test_a_chain_that_cannot_be_told_from_another_is_kept_only_under_its_authors_word(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def hits(word: str, version: str | None) -> tuple[int, list[Any]]:
        chain = ScriptedChain(then=lambda _: word)
        processor = BatchProcessor(chain, cache=Cache(path=path), fingerprint=version)
        answers = processor.batch([1])
        return processor.last_run.stats.cache.hits, answers

    assert [hits("one", None), hits("two", None)] == [(0, ["one"]), (0, ["two"])]
    assert "ScriptedChain" in caplog.text
    assert 'fingerprint="..."' in caplog.text
    assert [hits("one", "1"), hits("one", "1"), hits("two", "2")] == [
        (0, ["one"]),
        (1, ["one"]),
        (0, ["two"]),
    ]


# -- trouble


@core
@pytest.mark.parametrize("kind", ["foreign", "no database", "a folder"])
def test_a_file_that_is_not_ours_is_refused_before_any_call(path: Path, kind: str) -> None:
    if kind == "foreign":
        with closing(sqlite3.connect(path)) as db:
            db.execute("CREATE TABLE theirs (a)")
    elif kind == "a folder":
        path.mkdir()
    else:
        path.write_bytes(b"not a database at all" * 100)
    before = path.read_bytes() if path.is_file() else None
    chain = ScriptedChain(then=str)

    with pytest.raises(StoreError, match=r"answers\.db"):
        BatchProcessor(chain, cache=Cache(path=path)).batch([1])

    assert not chain.rows
    assert before is None or path.read_bytes() == before


@core
def test_spoilt_records_are_asked_for_again(path: Path) -> None:
    with Loopback() as server:
        first = asking(server, path)
        first.batch(rows(4))
        written(first)
        with closing(sqlite3.connect(path)) as db:
            db.execute("UPDATE answer SET body = X'7B226F' WHERE rowid % 2")
            db.commit()
        for _ in range(2):
            later = asking(server, path)
            assert later.batch(rows(4)) == [f"answer to: row {n}" for n in range(4)]
            written(later)
    assert sorted(server.counts.values()) == [1, 1, 2, 2]


@core
def test_a_file_that_breaks_in_the_middle_of_a_run_costs_no_row(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Loopback(latency=0.01) as server:
        processor = asking(server, path, concurrency=8)
        processor.batch(rows(3))
        with closing(sqlite3.connect(path)) as db:
            db.execute("DROP TABLE claim")
        with caplog.at_level(logging.WARNING, "cottonpalm"):
            answers = processor.batch(rows(60) + rows(60))

    assert answers == [f"answer to: row {n % 60}" for n in range(120)]
    assert set(server.counts.values()) == {1}
    assert [record.message for record in caplog.records if "cache on disk is off" in record.message]


@core
def test_what_a_dead_process_left_is_swept_away(path: Path) -> None:
    before = set(threading.enumerate())
    memory = memory_of(Cache(path=path))
    assert memory is not None
    with closing(sqlite3.connect(path)) as db:
        db.execute("INSERT INTO lease VALUES (?, 't', 'h', 'another machine', 1, 0, 0)", (1 << 61,))
        db.execute("INSERT INTO claim VALUES (X'00', ?)", (1 << 61,))
        db.commit()
        other = memory_of(Cache(path=path))
        assert other is not None
        assert db.execute("SELECT count(*) FROM claim").fetchone() == (0,)
        assert db.execute("SELECT count(*) FROM lease").fetchone() == (2,)
        del memory, other
        for thread in set(threading.enumerate()) - before:
            thread.join(60)  # a cache that is collected tells its thread to end
        assert db.execute("SELECT count(*) FROM lease").fetchone() == (0,)


def test_two_lambdas_of_one_line_do_not_answer_for_each_other(path: Path) -> None:
    short, long = RunnableLambda(lambda x: f"short {x}"), RunnableLambda(lambda x: f"long {x}")
    assert written(BatchProcessor(short, cache=Cache(path=path))).batch([1]) == ["short 1"]
    assert written(BatchProcessor(long, cache=Cache(path=path))).batch([1]) == ["long 1"]


# -- at the same time


@core
def test_two_memories_on_one_file_ask_each_question_once(path: Path) -> None:
    with Loopback(latency=0.05) as server:
        one, two = asking(server, path), asking(server, path)

        async def main() -> list[Any]:
            return await asyncio.gather(one.abatch(rows(40)), two.abatch(rows(40)))

        assert asyncio.run(main()) == [[f"answer to: row {n}" for n in range(40)]] * 2
    assert set(server.counts.values()) == {1}


@core
def test_a_question_that_fails_elsewhere_is_asked_here(path: Path) -> None:
    with Loopback(script=[Reply(status=400, delay_s=0.3)]) as server:
        one, two = asking(server, path), asking(server, path)

        async def main() -> tuple[Any, Any]:
            first = asyncio.ensure_future(one.abatch(rows(1), return_exceptions=True))
            await asyncio.to_thread(server.wait, requests=1)
            return await two.abatch(rows(1)), await first

        good, [failed] = asyncio.run(main())
    assert good == ["answer to: row 0"]
    assert isinstance(failed, Exception)
    assert server.counts == {"row 0": 2}


class Sharer:
    """A process that runs rows over the cache at `path`; see `sharing.py`."""

    def __init__(self, server: LoopbackProcess, path: Path, seed: int, count: int) -> None:
        words = ["tests.engine.sharing", server.openai_url, path, seed, count]
        self.process = Program(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    def said(self) -> dict[str, Any]:
        out, _ = self.process.communicate(timeout=120)
        assert self.process.returncode == 0
        return json.loads(out)


def test_two_processes_with_duplicates_and_failures_pay_each_question_once(path: Path) -> None:
    with LoopbackProcess(latency=0.02) as server:
        rng = Random(3)
        server.script([{"status": 400} if rng.random() < 0.05 else None for _ in range(400)])
        sharers = [Sharer(server, path, seed, 500) for seed in (1, 2)]
        said = [sharer.said() for sharer in sharers]
        stats = server.stats()

    refused = said[0]["failed"] + said[1]["failed"]
    asked = {text for one in said for text in one["answered"]}
    assert said[0]["hits"] + said[1]["hits"] > 300
    assert sum(stats.counts.values()) == len(asked) + refused
    assert said[0]["wrong"] == said[1]["wrong"] == 0


def test_a_killed_process_leaves_no_question_behind(path: Path) -> None:
    with LoopbackProcess() as server:
        server.script([{"ending": "held"}] * 10)
        doomed = Sharer(server, path, 1, 200)
        server.wait(in_flight=10)
        other = Sharer(server, path, 1, 200)
        os.kill(doomed.process.pid, signal.SIGKILL)
        doomed.process.communicate(timeout=30)
        said = other.said()

    assert said["failed"] == said["wrong"] == 0
    assert said["hits"] + said["misses"] == 200
