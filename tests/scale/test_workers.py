"""What workers promise, whoever carries them: the answers, counts and money of one process, and its limits."""

from __future__ import annotations

import importlib
import os
import pickle
import re
import socket
import subprocess
import sys
import threading
from contextlib import closing, suppress
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI

from cottonpalm import AdaptiveConcurrency, BatchProcessor, Budget, Cache, ConfigError, RateLimit, RunStopped
from cottonpalm.engine.executors.workers.links import Begin, Order, WorkerRow
from cottonpalm.engine.executors.workers.travel import packed
from cottonpalm.live.now_view import parts_of
from cottonpalm.live.reading import Reading
from cottonpalm.stores import open_store
from tests.scale.chains import asking, blocked, computing, rows
from tests.support.loopback import ROOT, LoopbackProcess

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Eventually

pytestmark = pytest.mark.waits


def told(processor: Any) -> dict[str, Any]:
    """What a run says of itself that must not depend on who did it."""
    report, stats = processor.last_run.report, processor.last_run.stats
    return {
        "counts": (report.counts.ok, report.counts.failed, report.counts.requests, report.counts.retries),
        "usage": report.usage,
        "cost": report.cost_usd,
        "cached": (
            report.counts.cached,
            report.counts.cache_misses,
        ),  # how many of them waited is a matter of time
        "reported": stats.reported_usd,
        "uncertain": stats.uncertain_usd,
        "models": [name.partition("/")[2] for name in sorted(report.by_model)],
        "errors": report.errors,
    }


@pytest.mark.timeout(400)  # a cluster may take its time to begin
def test_the_same_job_gives_equal_outputs_ledger_and_report_as_on_one_process(
    spread: Callable[..., Any], tmp_path: Path, place: str
) -> None:
    asked = [*rows(80), *rows(20)]  # equal rows are asked once by all workers together
    told_by, peaks = [], []
    for made, store in ((BatchProcessor, tmp_path / "here.db"), (spread, place)):
        with LoopbackProcess(latency=0.03) as server:
            processor = made(
                asking(server.openai_url),
                store=store,
                run="r",
                budget=Budget(total=1.0),
                cache=Cache(),
                concurrency=6,
            )
            answers = processor.batch(asked)
            peaks.append(server.stats().peak)
        assert answers == [f"answer to: {row['x']}" for row in asked]
        told_by.append(told(processor))
    assert told_by[0] == told_by[1]
    assert told_by[1]["counts"][2] == 80
    assert peaks[1] <= 6


@pytest.mark.timeout(400)
def test_a_row_that_the_budget_does_not_cover_is_left_by_its_worker(
    spread: Callable[..., Any], tmp_path: Path, place: str
) -> None:
    asked = rows(60)
    for large in (3, 30, 31):
        asked[large]["x"] += "word " * 20_000  # may cost three tenths of a cent
    with LoopbackProcess() as server:
        for dollars in (0.002, 0.002, 1.0):
            processor = spread(
                asking(server.openai_url), store=place, run="r", budget=Budget(total=dollars), concurrency=4
            )
            answers = processor.batch(asked, return_exceptions=True)
            left = [number for number, answer in enumerate(answers) if isinstance(answer, RunStopped)]
            if dollars == 1.0:
                assert (left, server.stats().requests) == ([], 60)
            else:
                assert (left, server.stats().requests) == ([3, 30, 31], 57)
                assert processor.last_run.stopped.reason == "budget"
                assert "3 rows are left" in str(processor.last_run.stopped)
                assert "which can cost $0.0" in str(processor.last_run.stopped)


def test_a_maximum_is_that_of_all_workers_together(processes: Callable[..., Any]) -> None:
    """Each worker had it for itself: with eight of them, eight times as many were in flight as one had allowed."""
    with LoopbackProcess(latency=0.05) as server:
        processor = processes(asking(server.openai_url), concurrency=AdaptiveConcurrency(maximum=6))
        assert all(processor.batch(rows(150)))
        assert 3 < server.stats().peak <= 6


def test_no_more_than_the_cap_is_shown_before_the_workers_have_their_shares(
    processes: Callable[..., Any], eventually: Eventually
) -> None:
    """Each worker said the whole cap then, and the run showed their sum."""
    shown: set[float] = set()

    def looked() -> bool:
        shown.add(run.stats.limit)
        return bool(run.stats.ok)

    with (
        LoopbackProcess(latency=0.5) as server,
        processes(asking(server.openai_url), concurrency=8).start(rows(40)) as run,
    ):
        eventually(looked)
        assert len(list(run)) == 40
    assert 0 < max(shown) <= 8


def test_what_lies_ready_at_workers_is_not_in_flight_on_the_page(
    processes: Callable[..., Any], tmp_path: Path, eventually: Eventually
) -> None:
    """Under a cap, as many rows again lie ready there: "16 in flight" stood beside a cap of 8."""
    with (
        LoopbackProcess(latency=60) as server,
        closing(open_store(tmp_path / "s.db")) as store,
        processes(asking(server.openai_url), store=store, run="r", concurrency=8).start(rows(40)) as run,
    ):
        eventually(lambda: run.stats.requests == 8 and run.stats.in_flight == 16)
        reading = Reading(store)
        eventually(lambda: (reading.run("r", watch=True).said or {}).get("requests") == 8)
        assert "8</b> in flight" in parts_of(reading.run("r"), "s.db")["progress"]
        run.abort()


def test_requests_per_minute_are_kept_at_the_server_to_the_last_request(
    processes: Callable[..., Any],
) -> None:
    with LoopbackProcess(latency=0.01) as server:
        processor = processes(asking(server.openai_url), rate_limit=RateLimit(requests_per_minute=40))
        with processor.start(rows(60)) as run:
            answered = [next(run) for _ in range(36)]
            run.stop()
        assert len(answered) == 36
        assert server.stats().requests <= 40


def _with(_: Any, row: Any) -> Any:
    return row


def test_a_key_set_in_code_a_client_of_ones_own_and_a_lock_are_named_before_any_call() -> None:
    for chain, why in (
        (
            ChatOpenAI(model="m", api_key="sk-of-nobody-123456"),
            "openai_api_key is set in code, and no key travels",
        ),
        (ChatOpenAI(model="m", api_key="none", http_client=httpx.Client()), "http_client cannot travel"),
        (RunnableLambda(partial(_with, threading.Lock())), "cannot travel to another process"),
    ):
        with pytest.raises(ConfigError, match=why) as caught:
            BatchProcessor(chain, executor="processes", workers=1).batch(["x"])
        assert "sk-of-nobody" not in str(caught.value)


@pytest.mark.parametrize("mode", ["r", "rb", "w"])
def test_an_open_file_is_named_and_not_copied(mode: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("one\ntwo\n")
    with (tmp_path / "notes.txt").open(mode) as notes:
        chain = RunnableLambda(lambda row: (notes, row)[1])
        with pytest.raises(ConfigError, match=r"'notes' \(_io\.\w+\)"):
            BatchProcessor(chain, executor="processes", workers=1).batch(["x"])


def test_a_function_that_writes_to_standard_output_travels(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (tmp_path / "out.txt").open("w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert packed(lambda row: print(row, file=out))


@pytest.mark.timeout(200)
def test_a_module_that_is_not_where_the_workers_run_is_named(
    processes: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = ModuleType("only_in_the_driver")
    exec("def shout(row): return row.upper()", here.__dict__)
    monkeypatch.setitem(sys.modules, here.__name__, here)
    with pytest.raises(
        ConfigError, match=r"not there where the workers run \(No module named 'only_in_the_driver'"
    ):
        processes(RunnableLambda(here.shout)).batch(["x"])


def until(holds: Callable[[], object]) -> None:
    """A worker needs a while to begin, on a busy machine a long one."""
    pause = threading.Event()
    for _ in range(12_000):
        if holds():
            return
        pause.wait(0.02)
    raise AssertionError("it did not come about in four minutes")


@pytest.mark.timeout(600)
def test_workers_that_come_are_used_and_those_that_go_finish_what_they_have(
    processes: Callable[..., Any],
) -> None:
    with LoopbackProcess(latency=0.05) as server:
        processor = processes(asking(server.openai_url), workers=1, concurrency=6)
        seen: list[int] = []
        with processor.start(rows(10**6)) as run:

            def go_on() -> None:
                with suppress(RunStopped):
                    seen.extend(outcome.index for outcome in run if outcome.status == "ok")

            reader = threading.Thread(target=go_on)
            reader.start()
            until(lambda: run.stats.ok > 0)
            run.workers = 3
            mates = run._engine._workers.mates
            until(lambda: sum(mate.answered for mate in mates) == 3)
            run.workers = 1
            until(lambda: len(mates) == 1)
            done = run.stats.ok
            until(lambda: run.stats.ok > done)
            run.stop()
            reader.join(30)
        served = server.stats()
    assert len(seen) == len(set(seen)) == served.requests == len(served.counts)
    assert served.peak <= 6
    with pytest.raises(ConfigError, match="workers=0: say how many"):
        run.workers = 0


def test_nothing_of_ray_or_psycopg_is_imported_without_them_and_what_is_missing_is_named() -> None:
    script = """
import pkgutil, sys
sys.modules["ray"] = sys.modules["psycopg"] = None
import cottonpalm, cottonpalm.ray_data
from langchain_core.runnables import RunnableLambda
print(cottonpalm.BatchProcessor(RunnableLambda(str), executor="local").batch([1]))
for refused in (
    lambda: cottonpalm.BatchProcessor(RunnableLambda(str), executor="ray").batch([1]),
    lambda: cottonpalm.ray_data.asking(RunnableLambda(str), name="job"),
    lambda: cottonpalm.open_store("postgresql://h/d"),
):
    try: refused()
    except cottonpalm.ConfigError as exc: print(exc)
"""
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True, text=True)
    first, *others = done.stdout.splitlines()
    assert first == "['1']"
    assert [re.findall(r"cottonpalm\[(\w+)\]", line) for line in others] == [["ray"], ["ray"], ["postgres"]]


def test_settings_that_do_not_go_together_are_refused() -> None:
    chain = RunnableLambda(str)
    with pytest.raises(
        ConfigError, match=re.escape('workers=... needs executor="processes" or executor="ray"')
    ):
        BatchProcessor(chain, workers=2)
    with pytest.raises(ConfigError, match="workers=0: say how many"):
        BatchProcessor(chain, executor="ray", workers=0)
    with pytest.raises(ConfigError, match="executor='dask': say"):
        BatchProcessor(chain, executor="dask")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=re.escape('ray_address=... needs executor="ray"')):
        BatchProcessor(chain, executor="processes", ray_address="auto")


def test_a_frozen_program_is_not_started_again_as_its_own_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(ConfigError, match='executor="processes" starts workers by a Python interpreter'):
        BatchProcessor(RunnableLambda(str), executor="processes")
    assert BatchProcessor(RunnableLambda(str)).batch([1]) == ["1"]


@pytest.mark.timeout(200)
def test_what_a_module_of_the_chain_raises_where_the_workers_run_is_told_once_and_without_a_traceback(
    spread: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "needs_a_setting.py").write_text(
        "from pathlib import Path\n"
        "if Path(__file__).with_name('elsewhere').exists(): raise KeyError('SETTING')\n"
        "def shout(row): return row.upper()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    shout = importlib.import_module("needs_a_setting").shout
    (tmp_path / "elsewhere").touch()
    with pytest.raises(
        ConfigError, match=r"a worker cannot begin: KeyError: 'SETTING' \(at .*needs_a_setting.py:2"
    ):
        spread(RunnableLambda(shout)).batch(["x"])
    assert "Traceback" not in capfd.readouterr().err


def _out_of_memory(_: object) -> None:
    raise MemoryError


def test_why_the_run_of_a_worker_stopped_is_told_in_its_own_words_alone(
    processes: Callable[..., Any],
) -> None:
    with pytest.raises(RunStopped, match=r"^the run stopped after 0 rows: memory ran out\. ") as stopped:
        processes(RunnableLambda(_out_of_memory), workers=1).batch(["x"])
    assert str(stopped.value).count("the run stopped") == 1


@pytest.mark.timeout(200)
def test_a_row_and_an_argument_that_cannot_travel_are_named(spread: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=r"row 2 \(index 1\) or its config cannot travel"):
        spread(RunnableLambda(str), workers=1).batch(["x", threading.Lock()])
    with pytest.raises(ConfigError, match=r"an argument of the call cannot travel to another process.* lock"):
        spread(RunnableLambda(str), workers=1).batch(["x"], lock=threading.Lock())


def test_a_failed_row_is_one_failed_row_and_its_exception_comes_back(processes: Callable[..., Any]) -> None:
    processor = processes(computing(), retry=0)
    answers = processor.batch(list(range(60)), return_exceptions=True)
    assert [answer for answer in answers if isinstance(answer, int)] == [
        n * 2 for n in range(60) if n % 10 != 3
    ]
    assert str(answers[33]) == "33 is refused"
    assert {type(answers[n]) for n in range(3, 60, 10)} == {ValueError}


@pytest.mark.parametrize("said", [b"", b"\0"], ids=["nothing", "half a word"])
def test_a_worker_whose_run_is_gone_before_it_began_ends_without_a_word(said: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        warned = [sys.executable, "-W", "always::ResourceWarning"]  # as in Python's development mode
        command = [*warned, "-m", "cottonpalm.engine.worker_process", str(theirs.fileno())]
        worker = subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE)
        theirs.close()
        ours.sendall(said)
    _, printed = worker.communicate(timeout=60)
    assert (worker.returncode, printed) == (0, b"")


def test_a_worker_ends_where_it_first_sees_as_it_speaks_that_its_run_is_gone(
    tmp_path: Path, eventually: Eventually
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-m", "cottonpalm.engine.worker_process", str(theirs.fileno())]
        worker = subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE)
        theirs.close()
        begin = Begin(packed((blocked(str(tmp_path)), {})), None, paid=False, kwargs=packed({}))
        for message in (begin, Order([WorkerRow(0, {"x": "row"}, None, 0.0, None)])):
            data = pickle.dumps(message)
            ours.sendall(len(data).to_bytes(8) + data)
        try:
            eventually((tmp_path / "begun").exists)
            ours.shutdown(socket.SHUT_RD)  # it hears no end, and can say nothing more
            _, printed = worker.communicate(timeout=30)
        finally:
            worker.kill()
    assert (worker.returncode, printed) == (0, b"")


BY_ITS_OWN_PATH = """
import sys
sys.path += {path!r}  # as shiv and zipapps do
from langchain_core.runnables import RunnableLambda
from cottonpalm import BatchProcessor
print(BatchProcessor(RunnableLambda(str), executor="processes", workers=1).batch([1, 2]))
"""


def test_workers_find_modules_where_the_program_found_them_though_only_its_own_path_names_them(
    tmp_path: Path,
) -> None:
    python = getattr(sys, "_base_executable", sys.executable)  # that of the environment finds them by itself
    code = BY_ITS_OWN_PATH.format(path=[*sys.path, str(ROOT / "src")])
    words = [python, "-I", "-S", "-c", code]  # -S: the system may have other versions of our packages
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.stdout, done.stderr) == ("['1', '2']\n", "")


ON_A_FULL_DISK = """
import os, resource
from langchain_core.runnables import RunnableLambda
from cottonpalm import BatchProcessor, StoreError
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    BatchProcessor(RunnableLambda(str), executor="processes", workers=1).batch([1])
except StoreError as exc:
    print("limits.db" in str(exc), os.listdir(os.environ["TMPDIR"]))
"""


def test_a_run_whose_workers_have_no_room_for_their_file_leaves_none_behind(tmp_path: Path) -> None:
    words = [sys.executable, "-c", ON_A_FULL_DISK]
    place = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(words, capture_output=True, text=True, env=place, check=False)
    assert (done.stdout, done.stderr) == ("True []\n", "")
