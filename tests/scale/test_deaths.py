"""Workers that die, and drivers: nothing stored is lost, doubled or repaid, and no ceiling breaks."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from cottonpalm import BatchProcessor, Budget, RunStopped
from cottonpalm.engine.executors.workers.links import WorkerLost
from cottonpalm.stores import open_store
from cottonpalm.types import pico
from tests.scale.chains import asking, deadly, held_until_told, rows
from tests.support.loopback import ROOT, LoopbackProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cottonpalm.types import Outcome
    from tests.conftest import Eventually


@pytest.fixture
def server() -> Iterator[LoopbackProcess]:
    with LoopbackProcess(latency=0.1) as started:
        yield started


def workers_of(run: Any) -> list[Any]:
    """The links to a run's workers."""
    return [mate.link for mate in run._engine._workers.mates]


def charged_pico(served: Any) -> int:
    """What the server charges for all that it was asked, seen or not, at the price of `chains.MODEL`."""
    tokens = {name: served.billed[name] + served.billed_unseen[name] for name in served.billed}
    return tokens["input_tokens"] * 150_000 + tokens["output_tokens"] * 600_000


def test_rows_of_killed_workers_go_to_others_and_what_they_may_have_spent_counts(
    processes: Callable[..., Any], server: LoopbackProcess, tmp_path: Path
) -> None:
    budget = Budget(total=1.0)
    processor = processes(
        asking(server.openai_url), budget=budget, store=tmp_path / "s.db", run="r", concurrency=8
    )
    seen: list[Outcome] = []
    with processor.start(rows(100)) as run:
        for outcome in run:
            seen.append(outcome)
            if len(seen) in (25, 60):
                workers_of(run)[0].process.kill()
        stats = run.stats
    assert sorted(outcome.index for outcome in seen) == list(range(100))
    assert {outcome.output for outcome in seen} == {f"answer to: row {n}" for n in range(100)}
    served = server.stats()
    assert served.peak <= 8
    assert (
        served.requests <= 100 + 2 * 8 + 2 * 8
    )  # what two workers had under way, and what they had not told yet
    store = open_store(tmp_path / "s.db")
    [info] = store.runs()
    assert (info.ok, info.failed) == (100, 0)
    charged = charged_pico(served)
    assert pico(stats.reported_usd) <= charged <= pico(stats.reported_usd) + pico(stats.uncertain_usd)
    store.close()


def test_while_no_worker_lives_no_request_may_be_in_flight(
    processes: Callable[..., Any], server: LoopbackProcess, eventually: Eventually
) -> None:
    with processes(asking(server.openai_url), workers=1, concurrency=8).start(rows(40)) as run:
        next(run)
        assert run.stats.limit > 0
        workers_of(run)[0].process.kill()
        eventually(lambda: run.stats.limit == 0)
        assert len(list(run)) == 39


def test_a_row_that_kills_each_worker_fails_alone_and_all_others_are_answered(
    processes: Callable[..., Any], tmp_path: Path
) -> None:
    processor = processes(deadly(), store=tmp_path / "s.db", run="r")
    answers = processor.batch(rows(40), return_exceptions=True)
    assert [answer for answer in answers if isinstance(answer, str)] == [
        f"row {n}" for n in range(40) if n != 7
    ]
    assert "each worker that had this row died" in str(answers[7])


def test_a_chain_that_kills_every_worker_stops_the_run(processes: Callable[..., Any]) -> None:
    with pytest.raises(RunStopped, match="its workers die before they answer a row"):
        processes(deadly(at=None), workers=1).batch(rows(10))


def test_a_budget_that_ends_with_workers_stops_the_run_with_nothing_overspent(
    processes: Callable[..., Any], server: LoopbackProcess, tmp_path: Path
) -> None:
    total = 0.001  # dollars: some thirty times the most that one request may cost
    budget = Budget(total=total)
    processor = processes(asking(server.openai_url), budget=budget, store=tmp_path / "s.db", run="r")
    with pytest.raises(RunStopped) as stopped:
        processor.batch(rows(400))
    assert stopped.value.reason == "budget"
    stats = processor.last_run.stats
    assert pico(stats.reported_usd) + pico(stats.uncertain_usd) <= total * 1e12
    assert pico(stats.reported_usd) > 0.9 * total * 1e12
    assert pico(stats.uncertain_usd) == 0
    assert stats.ok == server.stats().requests


class Ended:
    """Stands where a worker's actor stood that Ray ended."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def hear(self) -> None:
        import ray.exceptions

        raise getattr(ray.exceptions, self._name)("the node was running low on memory")


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("how", ["OutOfMemoryError", "NodeDiedError"])
def test_a_worker_that_ray_ends_for_want_of_memory_or_with_its_node_is_lost_as_one_that_died(
    how: str,
) -> None:
    import ray

    from cottonpalm.engine.executors.workers.ray.pool import RayLink

    ended = RayLink(ray.remote(num_cpus=0)(Ended).remote(how))
    try:
        with pytest.raises(WorkerLost, match="actor is gone"):
            asyncio.run(ended.hear())
    finally:
        ended.kill()


def test_a_worker_that_hangs_is_lost_after_the_stall_timeout_and_its_rows_go_to_others(
    processes: Callable[..., Any], server: LoopbackProcess
) -> None:
    processor = processes(asking(server.openai_url), concurrency=8, stall_timeout=3)
    seen: list[Outcome] = []
    with processor.start(rows(60)) as run:
        for outcome in run:
            seen.append(outcome)
            if len(seen) == 10:
                workers_of(run)[0].process.send_signal(signal.SIGSTOP)
    assert {outcome.output for outcome in seen} == {f"answer to: row {n}" for n in range(60)}
    assert len(seen) == 60


DRIVER = """
import sys
from cottonpalm import BatchProcessor, Budget
from tests.scale.chains import asking, held_until_told, rows
url, store, executor, count = sys.argv[1:]
processor = BatchProcessor(asking(url), executor=executor, workers=2, store=store, run="r", budget=Budget(total=1.0))
with processor.start(rows(int(count))) as run:
    for outcome in run:
        print(outcome.index, flush=True)
"""


def test_after_the_driver_was_killed_the_same_call_does_the_rest_and_repays_nothing_stored(
    server: LoopbackProcess, tmp_path: Path
) -> None:
    words = [sys.executable, "-c", DRIVER, server.openai_url, str(tmp_path / "s.db"), "processes", "120"]
    first = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    told = [int(first.stdout.readline()) for _ in range(25)]
    first.kill()
    told += [int(line) for line in first.stdout.read().split()]
    first.wait()
    first.stdout.close()
    before = {text: count for text, count in server.stats().counts.items() if count}
    second = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    assert sorted(map(int, second.stdout.split())) == list(range(120))
    again = server.stats().counts
    assert [n for n in told if again[f"row {n}"] != before[f"row {n}"]] == []
    store = open_store(tmp_path / "s.db")
    assert [(info.ok, info.failed) for info in store.runs()] == [(120, 0)]
    store.close()


WITHOUT_A_STORE = """
import sys
from cottonpalm import BatchProcessor
from tests.scale.chains import asking, rows
processor = BatchProcessor(asking(sys.argv[1]), executor="processes", workers=2)
with processor.start(rows(400)) as run:
    for outcome in run:
        print(outcome.index, flush=True)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_without_a_store_that_is_killed_leaves_no_folder(
    server: LoopbackProcess, tmp_path: Path, eventually: Eventually, how: signal.Signals
) -> None:
    words = [sys.executable, "-c", WITHOUT_A_STORE, server.openai_url]
    place = {**os.environ, "TMPDIR": str(tmp_path)}
    run = subprocess.Popen(words, cwd=ROOT, env=place, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    for _ in range(10):
        run.stdout.readline()
    assert [path.name[:11] for path in tmp_path.iterdir()] == ["cottonpalm-"]
    run.send_signal(how)
    run.wait()
    run.stdout.close()
    eventually(lambda: list(tmp_path.iterdir()) == [])


def test_what_the_workers_have_answered_when_the_run_is_left_is_not_asked_again(
    processes: Callable[..., Any], server: LoopbackProcess, tmp_path: Path, eventually: Eventually
) -> None:
    chain = asking(server.openai_url) | held_until_told(str(tmp_path))
    kept = {"store": tmp_path / "s.db", "run": "r", "concurrency": 4, "fingerprint": "1"}
    with processes(chain, workers=1, **kept).start(rows(4)):
        eventually(lambda: len(list(tmp_path.glob("answer *"))) == 4)
        threading.Timer(0.05, (tmp_path / "go on").touch).start()  # while the run is being left
    assert BatchProcessor(chain, **kept).batch(rows(4)) == [f"answer to: row {n}" for n in range(4)]
    assert server.stats().requests == 4
