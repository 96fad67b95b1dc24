"""What the file-based store promises besides: its file, other processes, and whatever may be wrong with a disk."""

from __future__ import annotations

import errno
import hashlib
import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from socket import gethostname
from typing import TYPE_CHECKING, Any

import pytest

from cottonpalm import clock
from cottonpalm.errors import ConfigError, RunBusy, StoreError
from cottonpalm.protocols import Spent
from cottonpalm.stores import MemoryStore, open_store
from cottonpalm.stores.sql.lease import BEAT_S, machine
from cottonpalm.stores.sql.run_store import SqlRunStore
from cottonpalm.stores.sqlite.migrations import APPLICATION_ID, STEPS
from cottonpalm.stores.sqlite.store import SqliteStore
from tests.contract.rows import row, write
from tests.contract.test_processes import end, holder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.core


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(path, busy_s=0.2)
    yield opened
    opened.close()


def edit(path: Path, *statements: str) -> None:
    """What another program does to the file."""
    db = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        db.execute(statement)
    db.close()


def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that knows no record locks."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.lockf", refuse)


UNLOCKED = """
import errno, fcntl
def refuse(*_): raise OSError(errno.ENOLCK, "no locks")
fcntl.lockf = refuse
"""


def test_without_locks_a_holder_that_lives_is_believed_and_a_killed_one_is_not(
    path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_locks(monkeypatch)
    process = holder(str(path), UNLOCKED)
    with pytest.raises(RunBusy, match=f"process {process.pid} on .*since"):
        store.open_run("r", None)
    with pytest.raises(RunBusy):
        store.remove("r")
    assert (store.runs()[0].holder or "").split()[1] == str(process.pid)
    end(process)
    assert store.runs()[0].holder is None
    assert store.open_run("r", None).counts() == {1: 2}


def test_without_locks_a_silent_holder_is_gone_and_one_of_another_container_must_show_life(
    path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_locks(monkeypatch)
    store.open_run("r", None).close()
    mine = f"'{machine()}', {os.getpid()}, 0"
    edit(path, f"INSERT INTO lease VALUES (1, 't', '{gethostname()}', {mine}, {clock.wall() - 61})")
    store.open_run("r", None).close()
    unknown = f"'{machine()}', 4194304, 0"  # no process of this system has this number
    edit(path, f"INSERT INTO lease VALUES (1, 't', 'another', {unknown}, {clock.wall()})")
    with pytest.raises(RunBusy, match="process 4194304 on another"):
        store.open_run("r", None)
    edit(path, f"UPDATE lease SET host = '{gethostname()}'")
    store.open_run("r", None).close()


def test_a_store_that_cannot_be_written_any_more_still_lets_go_of_leases_threads_and_files(
    path: Path,
) -> None:
    store = SqliteStore(path, busy_s=0.1)
    runs = [store.open_run(name, None) for name in ("one", "two")]
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked by another program"):
        store.close()
    other.execute("ROLLBACK")
    other.close()
    assert not store._writer._thread.is_alive()
    with pytest.raises(StoreError, match="closed"):
        runs[0].counts()
    again = SqliteStore(path)
    for name in ("one", "two"):
        again.open_run(name, None).close()
    again.close()


def test_a_store_whose_file_was_deleted_meanwhile_opens_no_run_in_it(path: Path, store: SqliteStore) -> None:
    path.unlink()
    SqliteStore(path).close()
    with pytest.raises(StoreError, match="moved, deleted or replaced while it was in use: put it back"):
        store.open_run("r", None)


@pytest.mark.parametrize("replaced", [False, True])
def test_what_would_go_into_a_deleted_file_is_not_called_durable(
    path: Path, store: SqliteStore, *, replaced: bool
) -> None:
    run = store.open_run("r", None)
    write(run, [row(0)])
    path.unlink()
    if replaced:
        SqliteStore(path).close()
    with pytest.raises(StoreError, match="moved, deleted or replaced while it was in use: put it back"):
        write(run, [row(1)])


def test_a_run_goes_on_where_its_process_goes_to_another_folder(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    with closing(SqliteStore(path.relative_to(path.parent))) as store:
        run = store.open_run("r", None)
        monkeypatch.chdir("/")
        write(run, [row(0)])


def test_another_machines_holder_is_believed_while_it_shows_life(path: Path, store: SqliteStore) -> None:
    store.open_run("r", None).close()
    edit(path, f"INSERT INTO lease VALUES (1, 't', 'far', 'another kernel', 7, 0, {clock.wall()})")
    with pytest.raises(RunBusy, match="process 7 on far"):
        store.open_run("r", None)
    edit(path, f"UPDATE lease SET beat = {clock.wall() - 61}")
    store.open_run("r", None).close()


def test_a_holder_that_was_taken_over_while_it_slept_can_write_no_more(
    path: Path, store: SqliteStore
) -> None:
    run = store.open_run("r", None)
    write(run, [row(0)])
    edit(path, "UPDATE lease SET token = 'another'")
    try:
        clock.replace(now_=lambda: time.monotonic() + 1_000)
        with pytest.raises(StoreError, match="taken over"):
            write(run, [row(1)])
    finally:
        clock.replace()
    assert run.counts() == {1: 1}


def test_all_files_are_private_from_the_start(path: Path) -> None:
    before = os.umask(0)
    try:
        store = open_store(path)
        run = store.open_run("r", None)
        write(run, [row(0)])
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        store.close()
    finally:
        os.umask(before)
    assert set(modes) == {"store.db", "store.db-wal", "store.db-shm", "store.db-lock"}
    assert set(modes.values()) == {0o600}


def test_a_name_that_sqlite_would_take_for_an_address_is_a_files_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(open_store("file:a.db?mode=memory")) as store:
        write(store.open_run("r", None), [row(0)])
    assert {file.name for file in tmp_path.iterdir()} == {
        "file:a.db?mode=memory",
        "file:a.db?mode=memory-lock",
    }
    with closing(open_store("file:a.db?mode=memory")) as store:
        assert [info.name for info in store.runs()] == ["r"]


def test_a_database_of_another_program_is_refused_and_untouched(path: Path) -> None:
    edit(path, "CREATE TABLE theirs (x)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        open_store(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_and_untouched(path: Path) -> None:
    path.write_bytes(b"\x80\x04 a pickle, perhaps" * 100)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="cannot be read"):
        open_store(path)
    assert path.read_bytes() == before


def test_a_store_of_a_newer_version_is_refused(path: Path) -> None:
    open_store(path).close()
    edit(path, "PRAGMA user_version = 99")
    with pytest.raises(StoreError, match=r"newer cottonpalm \(schema 99"):
        open_store(path)


SCHEMAS = [
    "b6c54ccc",
    "b4b6d4d5",
    "7570a5ec",
    "c035e6a3",
    "1a3b7cb4",
    "48dd1346",
    "738d9c3d",
    "eaa72a53",
    "a9a93fa4",
    "65aada95",
    "4fdf3d06",
]


def made_by(path: Path, version: int) -> None:
    """A store as the version with so many steps made it, with two runs in it."""
    db = sqlite3.connect(path, isolation_level=None)
    for step in STEPS[:version]:
        step(db)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {version}")
    for run, name in ((1, "r"), (2, "other")):
        db.execute("INSERT INTO run (id, name, created, meta) VALUES (?, ?, 1.0, '{\"x\":1}')", (run, name))
    for slot, status, cost in ((0, 1, 5), (1, 2, 0), (2, 3, 7)):
        key = row(slot).key
        db.execute(
            "INSERT INTO item (id, key, content, status, cost_pico) VALUES (?, ?, NULL, ?, ?)",
            ((1 << 40) + slot, key, status, cost),
        )
        db.execute("INSERT INTO record (id, body) VALUES (?, ?)", ((1 << 40) + slot, row(slot).record))
    if version > 1:
        db.execute("INSERT INTO spending VALUES (1, 'a', 12, 3, 40)")
    if version > 5:  # from there on each write counts
        db.execute("UPDATE run SET ok = 1, retryable = 1, failed = 1, cost_pico = 12 WHERE id = 1")
    db.close()


@pytest.mark.parametrize("version", range(1, len(STEPS)))
def test_a_store_of_every_older_version_goes_on(path: Path, version: int) -> None:
    made_by(path, version)
    for _ in range(2):  # also once it was brought up to date
        store = SqliteStore(path)
        run = store.open_run("r", None)
        assert isinstance(run, SqlRunStore)
        first, second = store.runs()
        assert (first.name, first.ok, first.failed, first.retryable, first.cost_pico) == ("r", 1, 2, 1, 12)
        assert (second.name, second.ok, second.failed, second.meta) == ("other", 0, 0, {"x": 1})
        assert run.counts() == {1: 1, 2: 1, 3: 1}
        assert [slot.slot for slot in run.find(row(2).key)] == [2]
        assert run.read([0, 2]) == {0: row(0).record, 2: row(2).record}
        assert run.spent()[1:4] == ((12, 3, 40) if version > 1 else (12, 0, 12))
        assert (run.last_seq(), run.newer(-1, -1, 9)) == (0, [(0, 0), (1, 0), (2, 0)])
        store.close()
    store = SqliteStore(path)
    run = store.open_run("r", None)
    assert isinstance(run, SqlRunStore)
    write(run, [row(1), row(3, status=3)])
    assert run.counts() == {1: 2, 3: 2}
    assert run.newer(0, -1, 9) == [(1, 1), (3, 2)]
    store.close()


def test_no_step_of_the_schema_that_was_shipped_is_ever_edited() -> None:
    db, made = sqlite3.connect(":memory:", isolation_level=None), []
    for step in STEPS:
        step(db)
        tables = db.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall()
        made.append(hashlib.sha256(repr(tables).encode()).hexdigest()[:8])
    db.close()
    assert made == SCHEMAS  # a new step adds one; what differs before cannot read the files of its users


def test_when_money_was_spent_is_kept_for_two_hours(store: SqliteStore) -> None:
    run, hours = store.open_run("r", None), 2 * 3_600.0
    for steps, kept in (
        (((1_000.0, 5), (1_005.0, 6)), [(1_000.0, 5), (1_005.0, 6)]),
        (((1_000.0 + hours, 7),), [(1_000.0, 5), (1_005.0, 6), (1_000.0 + hours, 7)]),
        ((), [(1_000.0, 5), (1_005.0, 6), (1_000.0 + hours, 7)]),
        (
            ((1_005.0 + hours, 8), (1_000.0 + hours, 1)),
            [(1_005.0, 6), (1_000.0 + hours, 8), (1_005.0 + hours, 8)],
        ),
    ):
        over = threading.Event()
        run.write([], lambda _, over=over: over.set(), Spent("a", 9, 0, 9, steps))  # type: ignore[misc]
        assert over.wait(30)
        assert list(run.spent().steps) == kept


def test_what_is_durable_survives_a_power_cut_too(store: SqliteStore) -> None:
    """Every commit waits for the disk: 2 is FULL."""
    for ask in (
        lambda sql: store._writer.call(lambda db: db.execute(sql).fetchone()),
        lambda sql: store._reader.rows(sql)[0],
    ):
        assert (ask("PRAGMA synchronous"), ask("PRAGMA journal_mode")) == ((2,), ("wal",))


def test_a_missing_folder_a_folder_and_a_place_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no folder .*nowhere"):
        open_store(tmp_path / "nowhere" / "store.db")
    with pytest.raises(StoreError, match="is a folder"):
        open_store(tmp_path)
    with pytest.raises(StoreError, match=r"/proc/self/store.db"):
        open_store("/proc/self/store.db")


def test_a_locked_file_is_an_error_of_that_group_and_the_next_one_may_succeed(
    path: Path, store: SqliteStore
) -> None:
    run = store.open_run("r", None)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked by another program"):
        write(run, [row(0)])
    other.execute("ROLLBACK")
    other.close()
    write(run, [row(0)])
    assert run.counts() == {1: 1}


def test_a_full_disk_is_an_error_that_says_so_and_keeps_what_is_stored(store: SqliteStore) -> None:
    run = store.open_run("r", None)
    write(run, [row(0)])
    store._writer.call(lambda db: db.execute("PRAGMA max_page_count = 20").fetchall())
    with pytest.raises(StoreError, match="disk is full"):
        write(run, [row(slot, record=b"x" * 4_000) for slot in range(1, 200)])
    assert run.counts() == {1: 1}


SHORT_FILE = """
import resource, signal, sys
from pathlib import Path
from cottonpalm.stores import open_store
from tests.contract.rows import row, write
from tests.contract.test_processes import end, holder
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
run = open_store(Path(sys.argv[1])).open_run("r", None)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
try:
    write(run, [row(slot, record=b"x" * 4_000) for slot in range(200)])
except Exception as exc:
    print(type(exc).__name__, exc)
"""


def test_a_write_that_the_system_refuses_says_that_the_disk_may_be_full_and_what_to_do(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SHORT_FILE, str(path)], stdout=subprocess.PIPE, check=True)
    [line] = done.stdout.decode().splitlines()
    assert line.startswith("StoreError")
    for word in (str(path), "full", "ree some space", "again"):
        assert word in line


NO_MORE_FILES = """
import resource, sys
from pathlib import Path
from cottonpalm.stores import open_store
from tests.contract.rows import row, write
run = open_store(Path(sys.argv[1])).open_run("r", None)
write(run, [row(slot, record=b"x" * 4_000) for slot in range(200)])
resource.setrlimit(resource.RLIMIT_NOFILE, (0, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
write(run, [row(slot, record=b"y" * 4_000) for slot in range(200)])
print(run.counts())
"""


def test_answers_are_stored_where_connections_have_taken_every_file_that_may_be_open(path: Path) -> None:
    command = [sys.executable, "-c", NO_MORE_FILES, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "{1: 200}\n"), done.stderr


def test_addresses(tmp_path: Path) -> None:
    assert isinstance(open_store("memory:"), MemoryStore)
    store = open_store(f"sqlite:///{tmp_path}/a.db")
    assert open_store(store) is store
    store.close()
    with pytest.raises(ConfigError, match="mysql"):
        open_store("mysql://user:pw@host/db")
    with pytest.raises(ConfigError, match="not int"):
        open_store(5)  # type: ignore[arg-type]


def test_a_store_made_by_several_at_once_is_each_ones_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        for number in range(20):
            for store in threads.map(open_store, [tmp_path / f"{number}.db"] * 4):
                store.close()


READS: list[Callable[[Any], Any]] = [
    lambda run: run.scan(-1, 9), lambda run: run.find(b"0" * 16), lambda run: run.read([0]), lambda run: run.counts(),
    lambda run: run.last_slot(), lambda run: run.last_seq(), lambda run: run.newer(0, -1, 9),
    lambda run: run.same_rows(0, [b"0" * 16], [b"0" * 16], {1}),
]  # fmt: skip


@pytest.mark.parametrize("read", READS)
def test_a_closed_run_is_not_read_any_more(read: Callable[[Any], Any], tmp_path: Path) -> None:
    """Another process may hold it by now, and write what an answer of ours would leave out."""
    store = open_store(tmp_path / "s.db")
    run = store.open_run("night", None)
    read(run)
    run.close()
    with pytest.raises(StoreError, match="run 'night' is closed"):
        read(run)
    store.close()


def test_a_holder_shows_every_quarter_of_a_minute_that_it_lives(path: Path) -> None:
    began = clock.now()

    def at(later_s: float) -> None:
        clock.replace(now_=lambda: began + later_s, wall_=lambda: 1e9 + later_s)

    def beat_after(later_s: float) -> float:
        at(later_s)
        write(run, [row(int(later_s))])  # the thread looks at the clock before each write
        with closing(sqlite3.connect(path)) as db:
            [(beat,)] = db.execute("SELECT beat FROM lease").fetchall()
        return float(beat) - 1e9

    at(0)
    try:
        store = SqliteStore(path)
        run = store.open_run("r", None)
        seconds = (BEAT_S - 1, BEAT_S, BEAT_S + 9, 2 * BEAT_S)
        assert [beat_after(later) for later in seconds] == [0.0, BEAT_S, BEAT_S, 2 * BEAT_S]
        run.close()
        store.close()
    finally:
        clock.replace()


def test_a_store_that_is_closed_has_no_thread_and_says_so_to_who_writes(path: Path) -> None:
    before = set(threading.enumerate())
    store = SqliteStore(path)
    run = store.open_run("r", None)
    write(run, [row(0)])
    store.close()
    assert set(threading.enumerate()) <= before
    with pytest.raises(StoreError, match="is closed"):
        write(run, [row(1)])


def test_no_cursor_leaves_the_writers_thread(store: SqliteStore) -> None:
    """Whoever drops it on another thread resets a statement that the writer may be running: an answer was lost so."""
    with pytest.raises(AssertionError, match="cursor"):
        store._writer.call(lambda db: db.executemany("DELETE FROM batch_tool WHERE run = ?", [(1,)]))
