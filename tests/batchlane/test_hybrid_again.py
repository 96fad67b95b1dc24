"""HybridBatchProcessor without a store of yours: the same call again, in another process, pays for nothing twice."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from langchain_core.runnables import RunnableLambda

from cottonpalm import HybridBatchProcessor, StoreError
from cottonpalm.presets import by_langasync
from tests.batchlane.kit import lane, rows, simple
from tests.support.batch_provider import Faults

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.batch_provider import BatchProvider

NEVER = 1e6  # seconds


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "cottonpalm"


class Row:
    """It has no repr of its own: Python's shows where it is in memory."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __format__(self, _spec: str) -> str:
        return self.text


def of_objects(server: Any) -> Any:
    return RunnableLambda(lambda row: {"text": row.text}) | simple(server)


def called(server: Any, what: str) -> list[Any]:
    """One call; what is asked is the chain and the rows by name, as another process asks it."""
    chains = {"objects": of_objects, "values": simple, "plain": simple}
    objects = [Row(f"row {number}") for number in range(5)]
    asked: list[Any] = {"objects": objects, "values": [{"text": one} for one in objects]}.get(what, rows(5))
    processor = HybridBatchProcessor(chains[what](server), lane=lane(server))
    return processor.batch(asked, use_batch_api=True)


def killed_while_a_batch_is_out(server: BatchProvider, what: str) -> None:
    """Let another process make this call, and kill it once it looks at its batch."""
    program = (
        "import sys, orjson\n"
        "from types import SimpleNamespace\n"
        "from tests.batchlane.test_hybrid_again import called\n"
        "called(SimpleNamespace(**orjson.loads(sys.argv[1])), sys.argv[2])"
    )
    told = orjson.dumps({"openai_url": server.openai_url, "hosts": server.hosts}).decode()
    looked = threading.Event()
    server.faults = Faults(turnaround_s=NEVER)
    process = subprocess.Popen([sys.executable, "-c", program, told, what])
    server.watch(4 if server.weather.creates else 3, looked.set)  # a file, a batch, a look at it
    assert looked.wait(60)
    while not server.jobs:
        assert process.poll() is None
    process.kill()
    process.wait()
    server.faults = Faults()
    for job in server.jobs.values():
        job.faults = Faults()


def test_a_cache_folder_that_does_not_work_is_named_with_the_way_out_before_anything_is_sent(
    server: BatchProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was a bare FileExistsError or PermissionError, or spoke of a model's file."""
    (tmp_path / "cottonpalm").write_text("a file, and no folder")
    with pytest.raises(StoreError, match=r"cottonpalm'\)\. Nothing was sent: give store= and run="):
        called(server, "plain")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setattr("pathlib.Path.home", _no_home)
    with pytest.raises(StoreError, match="give store= and run="):
        called(server, "plain")
    assert not server.jobs


@pytest.mark.parametrize("what", ["plain", "objects"])
def test_a_failed_row_is_done_again_by_retry_as_its_error_says(server: BatchProvider, what: str) -> None:
    """It said that the store is closed, and the same call gave the stored failure for ever."""
    chains = {"objects": of_objects, "plain": simple}
    asked = rows(3) if what == "plain" else [Row(f"row {number}") for number in range(3)]
    processor = HybridBatchProcessor(chains[what](server), lane=lane(server))
    processor.langasync_available = False
    server.faults = Faults(refused=frozenset({1}))
    with pytest.raises(Exception, match="The request is not valid") as failed:
        processor.batch(asked, use_batch_api=True)
    assert "processor.retry() does the failed ones again" in failed.value.__notes__[0]
    server.faults = Faults()
    assert [outcome.status for outcome in processor.retry()] == ["ok"]
    assert processor.batch(asked, use_batch_api=True) == WANTED[:3]
    assert processor.retry() == []
    assert len(server.bills) == 3


def test_a_row_that_langasync_left_and_that_fails_is_named_by_its_place_in_all_rows(
    server: BatchProvider,
) -> None:
    processor = HybridBatchProcessor(simple(server), lane=lane(server))
    assert processor.langasync_available
    server.faults = Faults(refused=frozenset({1, 2}))  # of langasync's three, then of the two that it left
    with pytest.raises(Exception, match="The request is not valid") as failed:
        processor.batch(rows(3), use_batch_api=True)
    [asked] = [job for job in server.jobs.values() if len(job.rows) == 2]
    [place] = [place for place in (1, 2) if f"row {place}" in str(asked.rows[1])]
    notes = failed.value.__notes__
    assert "of 2 rows failed" in notes[0]
    assert f"Of all rows it is row {place + 1} (index {place})" in notes[1]


def _no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


WANTED = [f"answer to: About: row {number}" for number in range(5)]


@pytest.mark.parametrize("what", ["objects", "values"])
def test_rows_whose_words_differ_from_process_to_process_are_found_again(
    server: BatchProvider, what: str
) -> None:
    killed_while_a_batch_is_out(server, what)
    assert called(server, what) == WANTED
    assert (len(server.jobs), server.paid_twice()) == (1, {})


@pytest.mark.skipif(not by_langasync.INSTALLED, reason="langasync is not installed")
def test_what_our_adapters_took_after_langasync_was_refused_stays_with_them(
    server: BatchProvider, cache: Path
) -> None:
    server.weather.creates = [429]
    killed_while_a_batch_is_out(server, "plain")
    assert called(server, "plain") == WANTED
    assert (len(server.jobs), len(server.bills), server.paid_twice()) == (1, 5, {})
    assert not list(cache.glob("hybrid-*"))
