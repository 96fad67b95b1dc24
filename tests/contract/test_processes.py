"""What stores promise that several processes use: SQLite in one file, Postgres on one server."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from cottonpalm.errors import RunBusy, StoreError
from cottonpalm.store_extras import FindsRows, Orders
from cottonpalm.stores import open_store
from cottonpalm.stores.sql.lease import is_leaving
from tests.contract.rows import row, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from cottonpalm.stores.sql.store import SqlStore
    from tests.conftest import Eventually


HOLDER = """
import sys, threading
from cottonpalm.store_extras import FindsRows, Orders
from cottonpalm.stores import open_store
from tests.contract.rows import row, write
run = open_store(sys.argv[1]).open_run("r", None)
write(run, [row(0), row(1)])
print("holding", flush=True)
threading.Event().wait()
"""


@pytest.fixture
def store(path: str) -> Iterator[SqlStore]:
    opened: Any = open_store(path)
    yield opened
    opened.close()


def holder(path: str, first: str = "") -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", first + HOLDER, path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"holding\n"
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_the_lease_of_a_killed_process_is_taken_over_at_once_and_its_rows_are_there(
    path: str, store: SqlStore, eventually: Eventually
) -> None:
    process = holder(path)
    with pytest.raises(RunBusy, match=f"process {process.pid} on .*since"):
        store.open_run("r", None)
    assert (store.runs()[0].holder or "").split()[1] == str(process.pid)
    end(process)
    eventually(lambda: store.runs()[0].holder is None)  # a server needs some milliseconds to hear of it
    run = store.open_run("r", None)
    assert run.counts() == {1: 2}


def test_a_live_process_keeps_other_runs_free(path: str, store: SqlStore) -> None:
    process = holder(path)
    run = store.open_run("other", None)
    write(run, [row(0)])
    end(process)
    assert run.counts() == {1: 1}


def test_a_forked_child_cannot_use_the_store_and_does_not_keep_the_lease(path: str, store: SqlStore) -> None:
    run = store.open_run("r", None)
    ready, tell = os.pipe()
    go, start = os.pipe()
    if (child := os.fork()) == 0:
        refused = 0
        for work in (run.counts, lambda: write(run, [row(0)]), store.runs, lambda: store.open_run("x", None)):
            try:
                work()
            except StoreError as exc:
                refused += "fork" in str(exc)
        run.close()
        store.close()
        os.write(tell, bytes([refused]))
        os.read(go, 1)
        os._exit(0)
    assert os.read(ready, 1) == bytes([4])
    write(run, [row(0)])  # the child's close took nothing away
    with pytest.raises(RunBusy):
        open_store(path).open_run("r", None)
    run.close()
    process = holder(path)  # free, although the child lives
    end(process)
    os.write(start, b"x")
    os.waitpid(child, 0)
    for fd in (ready, tell, go, start):
        os.close(fd)


def test_a_child_may_open_the_store_anew(path: str, store: SqlStore) -> None:
    run = store.open_run("r", None)
    if (child := os.fork()) == 0:
        code = 1
        try:
            mine = open_store(path)
            try:
                mine.open_run("r", None)
            except RunBusy:
                write(mine.open_run("childs own", None), [row(0)])
                mine.close()
                code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert {info.name: info.ok for info in store.runs()} == {"r": 0, "childs own": 1}
    run.close()


def test_a_lost_run_is_waited_for_while_its_own_store_is_still_busy(path: str, store: SqlStore) -> None:
    run = store.open_run("r", None)
    go, looked, opened = threading.Event(), threading.Semaphore(0), list[object]()

    def busy(error: BaseException | None) -> None:
        assert go.wait(30)

    run.write([row(0)], busy)  # the writer's thread is at this...
    del run
    gc.collect()  # ...and gives the lease back behind it

    def see(frame: FrameType, event: str, value: object) -> None:
        if event == "return" and value is True and frame.f_code is is_leaving.__code__:
            looked.release()

    def open_again() -> None:
        sys.setprofile(see)  # of this thread, and it ends with it
        other = open_store(path)
        try:
            opened.append(other.open_run("r", None).counts())
        except RunBusy as busy:
            opened.append(busy)
        other.close()

    thread = threading.Thread(target=open_again)
    thread.start()
    assert all(looked.acquire(timeout=30) for _ in range(3))  # of a run that is held, two looks are the most
    go.set()
    thread.join(30)
    assert opened == [{1: 1}]


def test_a_group_that_cannot_be_stored_does_not_spoil_those_that_wait_with_it(store: SqlStore) -> None:
    run = store.open_run("r", None)
    errors: dict[int, BaseException | None] = {}
    store._writer.call(
        lambda db: [  # while this runs, three groups queue up
            run.write([row(0)], lambda error: errors.update({0: error})),
            run.write([row(1)._replace(status=None)], lambda error: errors.update({1: error})),  # type: ignore[arg-type]
            run.write([row(2)], lambda error: errors.update({2: error})),
        ]
    )
    run.set_meta(after=True)
    assert (errors[0], errors[2]) == (None, None)
    assert isinstance(errors[1], StoreError)
    assert [slot.slot for slot in run.scan(-1, 9)] == [0, 2]


def test_a_callback_that_raises_harms_nobody(store: SqlStore, caplog: pytest.LogCaptureFixture) -> None:
    run = store.open_run("r", None)
    run.write([row(0)], lambda error: 1 / 0)  # type: ignore[arg-type,return-value]
    write(run, [row(1)])
    assert run.counts() == {1: 2}
    assert "callback of the store failed" in caplog.text


def test_closing_the_store_writes_what_is_queued(path: str) -> None:
    store = open_store(path)
    run = store.open_run("r", None)
    done: list[BaseException | None] = []
    for slot in range(50):
        run.write([row(slot)], done.append)
    store.close()
    assert done == [None] * 50
    again = open_store(path)
    assert again.runs()[0].ok == 50
    again.close()


def test_rows_queued_by_a_process_that_ends_without_close_are_written(path: str) -> None:
    script = (
        HOLDER.partition("write(run")[0]
        + "for slot in range(300): run.write([row(slot)], lambda error: None)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script, path], check=True)
    store = open_store(path)
    assert (store.runs()[0].ok, store.runs()[0].holder) == (300, None)
    store.close()


REPORTER = """
import os, sys, threading
from cottonpalm.store_extras import FindsRows, Orders
from cottonpalm.stores import open_store
from tests.contract.rows import row
run = open_store(sys.argv[1]).open_run("r", None)
room = threading.Semaphore(3)
def done(slot):
    def report(error):
        os.write(1, b"%d\\n" % slot)
        room.release()
    return report
for slot in range(10**9):
    room.acquire()
    run.write([row(slot)], done(slot))
"""


@pytest.mark.parametrize("reported", [1, 150])
def test_every_row_reported_done_survives_kill_nine(path: str, reported: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", REPORTER, path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    seen = [int(process.stdout.readline()) for _ in range(reported)]
    process.kill()
    seen += [int(line) for line in process.stdout.read().split(b"\n")[:-1]]
    process.wait()
    process.stdout.close()
    store = open_store(path)
    assert set(store.open_run("r", None).read(seen)) == set(seen)
    store.close()


def test_a_run_hears_what_others_ask_of_it_and_shows_them_what_it_says(path: str, store: SqlStore) -> None:
    run: Any = store.open_run("r", None)
    other: Any = open_store(path)
    other.order("r", held=True, most=7)
    other.order("r", stop=True, watched=5.5)
    assert run.orders() == other.ordered("r") == Orders(True, 7, True, 5.5)
    run.show(b"first")
    run.show(b"second")
    write(run, [])
    assert other.shown("r") == b"second"
    run.close()
    store.open_run("r", None)
    assert (other.ordered("r"), other.shown("r")) == (Orders(), None)
    other.close()


def test_rows_are_found_by_status_from_both_sides_and_by_their_text(store: SqlStore) -> None:
    run = store.open_run("r", None)
    write(
        run,
        [row(slot, status=2 if slot % 7 == 0 else 1, record=b'{"o":"a%d_%%B"}' % slot) for slot in range(50)],
    )
    found = store.look("r")
    assert isinstance(found, FindsRows)
    assert found.page(2, 1000, (2, 3), 3, back=False) == [7, 14, 21]
    assert found.page(-1, 44, (2,), 2, back=True) == [42, 35]
    assert found.holding([1, 2, 12, 13], "A2_%b") == [2]
    assert found.holding([1, 2], "_%c") == []


def test_a_run_that_another_program_deleted_says_so_and_takes_no_more(path: str, store: SqlStore) -> None:
    """Its answers were taken for stored as before, and its end was an unexpected TypeError."""
    run: Any = store.open_run("r", None)
    write(run, [row(0)])
    other: Any = open_store(path)
    other._writer.call(lambda db: db.execute("DELETE FROM run").close())
    other.close()
    for use in (lambda: write(run, [row(1)]), lambda: run.set_meta(a=1), run.meta, run.counts):
        with pytest.raises(StoreError, match="was removed from the store by another program"):
            use()
    assert [slot.slot for slot in run.scan(-1, 9)] == [0]
