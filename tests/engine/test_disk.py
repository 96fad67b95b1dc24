"""Disks that are full, read-only or locked, and files that are no store: one clear line, no hang, nothing lost."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from cottonpalm import BatchProcessor, RunStopped, StoreError
from cottonpalm.stores.memory import MemoryStore
from cottonpalm.stores.sqlite.database import explained
from cottonpalm.stores.sqlite.store import SqliteStore
from cottonpalm.testing import virtual_run
from tests.engine.helpers import Probe, aread, read
from tests.support.loopback import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cottonpalm.protocols import Spent

BIG = "x" * 2_000


def processor(chain: Any, store: Any) -> BatchProcessor:
    return BatchProcessor(chain, store=store, run="night", fingerprint="1", concurrency=8)


def small(store: SqliteStore, pages: int) -> None:
    """Let the file grow no further than this: SQLite then reports a full disk, as the operating system would."""
    store._writer.call(lambda db: db.execute(f"PRAGMA max_page_count = {pages}").fetchall())


def check_one_line(error: BaseException | None, reason: str, *says: str) -> None:
    assert isinstance(error, RunStopped), repr(error)
    assert error.reason == reason
    assert "\n" not in str(error)
    for word in says:
        assert word in str(error)


def test_a_disk_that_fills_up_stops_the_run_with_the_answers_in_hand_and_the_rest_is_done_later(
    tmp_path: Path,
) -> None:
    path, chain = tmp_path / "runs.db", Probe(delay_s=0)
    rows = [f"{n} {BIG}" for n in range(3_000)]
    with closing(SqliteStore(path)) as store:
        small(store, 300)
        with processor(chain, store).start(rows) as run:
            outcomes, error = read(run)
        check_one_line(error, "store", "full", str(path))
        assert run.unstored, "answers that came are not lost"
        seen = {outcome.index for outcome in outcomes if outcome.status == "ok"}
        unstored = {outcome.index for outcome in run.unstored}
        asked = {rows.index(row) for row in chain.calls}
        assert not seen & unstored, "only what is durable is shown"
        assert seen | unstored == asked, "each row that was asked is shown or handed back"
        assert sum(chain.calls.values()) == len(asked) < len(rows)
        given_up = [
            outcome for outcome in outcomes if outcome.index not in seen
        ]  # the stop came before their call
        assert {outcome.status for outcome in given_up} <= {"skipped"}
        assert not {outcome.index for outcome in given_up} & asked
    with processor(chain, path).start(rows, skip_stored=True) as run:
        outcomes, error = read(run)
    assert error is None
    assert {outcome.index for outcome in outcomes} == set(range(3_000)) - asked
    assert chain.calls == dict.fromkeys(rows, 1), "what came is not paid again, stored or not"
    answers = processor(chain, path).batch(rows)
    assert answers == [("answer", row) for row in rows]


def test_batch_on_a_full_disk_raises_with_every_answer_that_came(tmp_path: Path) -> None:
    chain = Probe(delay_s=0)
    rows = [f"{n} {BIG}" for n in range(1_000)]
    with closing(SqliteStore(tmp_path / "runs.db")) as store:
        small(store, 100)
        with pytest.raises(RunStopped) as caught:
            processor(chain, store).batch(rows)
    check_one_line(caught.value, "store", "full")
    answered = [outcome for outcome in caught.value.outcomes if outcome.status == "ok"]
    assert len(answered) == sum(chain.calls.values())
    assert all(outcome.output == ("answer", rows[outcome.index]) for outcome in answered)
    chain = Probe(delay_s=0)
    with closing(SqliteStore(tmp_path / "other.db")) as store:
        small(store, 100)
        answers = processor(chain, store).batch(rows, return_exceptions=True)
    assert sum(answer == ("answer", row) for answer, row in zip(answers, rows, strict=True)) == len(
        chain.calls
    )
    assert {type(answer) for answer in answers} == {tuple, RunStopped}


def test_a_store_that_another_program_locks_in_mid_run_stops_the_run_and_is_usable_afterwards(
    tmp_path: Path,
) -> None:
    path, chain = tmp_path / "runs.db", Probe(delay_s=0.001)
    with closing(SqliteStore(path, busy_s=0.05)) as store, closing(sqlite3.connect(path)) as other:
        other.isolation_level = None
        with processor(chain, store).start(range(100_000)) as run:
            next(run)
            other.execute("BEGIN IMMEDIATE")
            outcomes, error = read(run)
        check_one_line(error, "store", "locked", "try again")
        assert run.unstored
        assert chain.in_flight == 0
        other.execute("ROLLBACK")
        done = {outcome.index for outcome in outcomes}
        asked = dict(chain.calls)
        with processor(chain, store).start(range(1_000), skip_stored=True) as run:
            outcomes, error = read(run)
        assert error is None
        assert all(chain.calls[row] == asked[row] for row in done if row < 1_000)


@pytest.mark.parametrize("use", ["batch", "start", "astart", "retry"])
@pytest.mark.parametrize("what", ["text", "foreign", "folder", "no folder", "locked"])
def test_a_place_that_is_no_store_is_refused_before_any_call_in_one_line(
    tmp_path: Path, what: str, use: str
) -> None:
    path, chain = tmp_path / "runs.db", Probe(delay_s=0)
    held = sqlite3.connect(path if what in ("foreign", "locked") else ":memory:", isolation_level=None)
    if what == "text":
        path.write_text("dear diary, " * 100)
    elif what == "foreign":
        held.execute("CREATE TABLE person (name TEXT)")
    elif what == "folder":
        path.mkdir()
    elif what == "no folder":
        path = tmp_path / "missing" / "runs.db"
    else:
        SqliteStore(path).close()
        held.execute("BEGIN EXCLUSIVE")
    before = path.read_bytes() if path.is_file() else b""
    store: Any = SqliteLater(path)

    with pytest.raises(StoreError) as caught:
        begin(processor(chain, store), use)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)
    assert not chain.calls
    held.close()
    if what in ("text", "foreign"):
        assert path.read_bytes() == before, "it was touched"


@pytest.mark.parametrize(
    ("name", "what"),
    [("s" * 250, "name"), ("s" * 300, "name"), ("/".join(["d" * 99] * 5 + ["s.db"]), "whole path")],
    ids=["long for the files beside it", "long for the file system", "deep"],
)
def test_a_name_that_is_too_long_is_refused_as_such_before_any_call(
    tmp_path: Path, name: str, what: str
) -> None:
    path, chain = tmp_path / name, Probe(delay_s=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    with pytest.raises(StoreError, match=rf"its {what} is too long: choose one of at most \d+ bytes$"):
        begin(processor(chain, path), "batch")
    assert not chain.calls


def begin(of: BatchProcessor, use: str) -> None:
    """Begin a run by the method named so; the one of `astart` opens its store when it is entered."""

    async def entered() -> None:
        async with of.astart([1, 2]) as run:
            await aread(run)

    if use == "astart":
        asyncio.run(entered())
    else:
        getattr(of, use)(*([] if use == "retry" else [[1, 2]]))


class SqliteLater:
    """The store at a path, opened when it is used; impatient, so that a lock does not cost half a minute."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def open_run(self, *args: Any, **more: Any) -> Any:
        return SqliteStore(self._path, busy_s=0.05).open_run(*args, **more)


# -- disks of the operating system's own, in a program of its own

PROGRAM = """
import resource, subprocess
from langchain_core.runnables import RunnableLambda
from cottonpalm import BatchProcessor, CottonpalmError

async def answer(row):
    return row + " " + "x" * 2_000

def do(path, rows):
    processor = BatchProcessor(RunnableLambda(answer), store=path, run="night", fingerprint="1")
    got = unstored = 0
    try:
        with processor.start([f"row {n}" for n in range(rows)], skip_stored=True) as run:
            try:
                for outcome in run:
                    got += outcome.status == "ok"  # what a stop kept from starting is told as skipped
            finally:
                unstored = len(run.unstored)
    except CottonpalmError as exc:
        print("stopped", got, type(exc).__name__, getattr(exc, "reason", "-"), unstored, str(exc))
    else:
        print("done", got)
"""


def say(body: str, *prefix: str) -> list[str]:
    """What the program prints, line by line; `prefix` may give it a disk of its own."""
    command = [*prefix, sys.executable, "-c", PROGRAM + body]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stdout.splitlines()


def own_mounts() -> list[str]:
    """A way to mount without privileges, or as root; or none."""
    for way in (["unshare", "-m"], ["unshare", "-rm"]):
        mount = [
            *way,
            "sh",
            "-c",
            "mkdir -p /tmp/.probe && mount -t tmpfs none /tmp/.probe && umount /tmp/.probe",
        ]
        try:
            if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
                return way
        except OSError:
            break
    return []


def test_a_file_that_may_not_grow_any_more_stops_the_run_and_a_larger_limit_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    first, second = say(f"""
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, resource.RLIM_INFINITY))
do({str(path)!r}, 2_000)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
do({str(path)!r}, 2_000)
""")
    word, shown, kind, reason, unstored, *message = first.split(" ")
    assert (word, kind, reason) == ("stopped", "RunStopped", "store"), first
    assert int(shown) > 0 < int(unstored)
    assert str(path) in " ".join(message)
    assert "`ulimit -f`" in " ".join(message)
    assert second == f"done {2_000 - int(shown) - int(unstored)}"


def test_a_store_that_gets_no_memory_does_not_blame_the_disk(tmp_path: Path) -> None:
    assert str(explained(MemoryError(), tmp_path / "runs.db")) == (
        f"the store {tmp_path / 'runs.db'} got no memory: see `ulimit -v`, or the container's limit,"
        " then run the same command again"
    )


def test_a_file_system_that_is_full_stops_the_run_and_space_lets_it_go_on(tmp_path: Path) -> None:
    if not (way := own_mounts()):
        pytest.skip("this machine lets nobody mount a file system of his own")
    disk = tmp_path / "disk"
    disk.mkdir()
    path = disk / "runs.db"
    mounted = f'mount -t tmpfs -o size=3m none {disk} && exec "$@"'
    first, second = say(
        f"""
do({str(path)!r}, 2_000)
subprocess.run(["mount", "-o", "remount,size=100m", {str(disk)!r}], check=True)
do({str(path)!r}, 2_000)
""",
        *way,
        "sh",
        "-c",
        mounted,
        "sh",
    )
    word, shown, kind, reason, unstored, *message = first.split(" ")
    assert (word, kind, reason) == ("stopped", "RunStopped", "store"), first
    assert "disk is full" in " ".join(message)
    assert int(shown) > 0 < int(unstored)
    assert second == f"done {2_000 - int(shown) - int(unstored)}"


def test_a_read_only_place_is_refused_before_any_call_with_what_to_check(tmp_path: Path) -> None:
    way = own_mounts() if os.geteuid() == 0 else []
    disk = tmp_path / "disk"
    disk.mkdir()
    (disk / "old.db").touch()
    if way:
        prefix = [
            *way,
            "sh",
            "-c",
            f'mount --bind -o ro {disk} {disk} && mount -o remount,bind,ro {disk}; exec "$@"',
            "sh",
        ]
    elif os.geteuid() == 0:
        pytest.skip("permissions do not bind this user, and he may not mount")
    else:
        disk.chmod(0o500)
        prefix = []
    try:
        for name in ("new.db", "old.db"):
            [line] = say(f"do({str(disk / name)!r}, 10)", *prefix)
            assert line.startswith("stopped 0 CannotWrite"), line
            assert "check the permissions" in line
            assert str(disk) in line
    finally:
        disk.chmod(0o700)


class SlowStore(MemoryStore):
    """A store of its own kind, whose n-th group is stored after so many seconds."""

    def __init__(self, takes_s: Callable[[int], float]) -> None:
        super().__init__()
        self._takes_s = takes_s

    def open_run(self, *given: Any, **more: Any) -> Any:
        run, groups = super().open_run(*given, **more), count(1)
        write = run.write

        def later(
            rows: Any, done: Callable[[BaseException | None], None], spent: Spent | None = None
        ) -> None:
            if takes_s := self._takes_s(next(groups)):
                asyncio.get_running_loop().call_later(takes_s, write, rows, done, spent)
            else:
                write(rows, done, spent)

        run.write = later  # type: ignore[method-assign]
        return run


def test_no_row_starts_while_the_store_is_away_and_all_go_on_once_it_is_there() -> None:
    chain, rows, counts = Probe(delay_s=0.3), [str(n) for n in range(600)], list[int]()

    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        for after_s in (3.0, 59.0):
            loop.call_later(after_s, lambda: counts.append(len(chain.calls)))
        return await processor(chain, SlowStore(lambda group: 60.0 * (group == 2))).abatch(rows)

    assert virtual_run(main()) == [("answer", row) for row in rows]
    assert counts[0] == counts[1] < 50, "what was under way, and no more"
    assert set(chain.calls.values()) == {1}


def test_a_disk_that_always_takes_a_second_holds_no_row_back() -> None:
    chain, rows = Probe(delay_s=0.3), [str(n) for n in range(600)]

    async def main() -> float:
        await processor(chain, SlowStore(lambda _: 1.0)).abatch(rows)
        return asyncio.get_running_loop().time()

    assert virtual_run(main()) < 600 / 8 * 0.3 + 2, "as long as eight at once take, and the last group"


def test_few_large_rows_wait_for_a_slow_disk() -> None:
    chain, rows = Probe(delay_s=0.3), [f"{n} ".ljust(1 << 20) for n in range(120)]
    waiting = list[int]()

    async def main() -> None:
        async with processor(chain, SlowStore(lambda _: 5.0)).astart(rows) as run:
            done = 0
            async for _ in run:
                waiting.append(len(chain.calls) - done)
                done += 1

    virtual_run(main())
    assert len(waiting) == 120
    assert max(waiting) <= 50, "of a mebibyte: 16 wait, and what is written and under way"


def test_it_is_told_that_the_store_is_what_rows_wait_for() -> None:
    chain, told = Probe(delay_s=0.3), list[str]()

    async def main() -> None:
        async with processor(chain, SlowStore(lambda group: 60.0 * (group == 2))).astart(
            [str(n) for n in range(600)]
        ) as run:
            asyncio.get_running_loop().call_later(30, lambda: told.append(run.stats.binding.what))
            assert len([outcome async for outcome in run]) == 600

    virtual_run(main())
    assert told == ["store"]
