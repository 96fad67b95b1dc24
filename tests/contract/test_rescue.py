"""What a store does not take is kept in a file, and taken in by the next process that opens the run."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from cottonpalm import clock
from cottonpalm.errors import StoreError
from cottonpalm.protocols import Spent
from cottonpalm.stores import open_store
from cottonpalm.stores.sql.rescue import RescueFile
from tests.contract.rows import row, write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cottonpalm.protocols import StoredRow

pytestmark = pytest.mark.core
_FULL = "BEGIN RAISE 'No space left on device' USING ERRCODE = '53100'; END"
_REFUSE = {
    "sqlite": (
        "CREATE TRIGGER refuse BEFORE INSERT ON record BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END",
    ),
    "postgres": (
        f"CREATE FUNCTION cottonpalm.full() RETURNS trigger LANGUAGE plpgsql AS $${_FULL}$$",
        "CREATE TRIGGER refuse BEFORE INSERT ON cottonpalm.record EXECUTE FUNCTION cottonpalm.full()",
    ),
}
_ACCEPT = {
    "sqlite": ("DROP TRIGGER refuse",),
    "postgres": ("DROP TRIGGER refuse ON cottonpalm.record", "DROP FUNCTION cottonpalm.full"),
}


def at(place: str, *statements: str) -> None:
    """What an administrator does to the database."""
    if place.startswith("postgresql"):
        with psycopg.connect(place, autocommit=True) as server:
            for statement in statements:
                server.execute(statement)  # type: ignore[call-overload,unused-ignore]
        return
    with closing(sqlite3.connect(place, isolation_level=None)) as file:
        for statement in statements:
            file.execute(statement)


def kind(place: str) -> str:
    return place.partition("://")[0].replace("postgresql", "postgres") if "://" in place else "sqlite"


def refused(
    place: str,
    *groups: tuple[Sequence[StoredRow], Spent | None],
    before: Any = None,
    after: Spent | None = None,
) -> Path:
    """Have a store refuse these groups of run "r"; return the file that keeps them."""
    kept = set[str]()
    with closing(open_store(place)) as store:
        run = store.open_run("r", {"chain": 1})
        if before is not None:
            write(run, *before)
        at(place, *_REFUSE[kind(place)])
        for rows, spent in groups:
            with pytest.raises(StoreError, match="full") as caught:
                write(run, rows, spent)
            kept.add(caught.value.kept_in)
        if after is not None:
            write(run, [], after)
        run.close()
    at(place, *_ACCEPT[kind(place)])
    [only] = kept
    return Path(only)


def stored(place: str, **more: Any) -> tuple[dict[int, bytes], Spent, dict[int, int]]:
    with closing(open_store(place)) as store, closing(store.open_run("r", {"chain": 1}, **more)) as run:
        slots = [slot.slot for slot in run.scan(-1, 100)]
        return run.read(slots), run.spent(), run.counts()


def test_what_a_store_does_not_take_is_kept_for_its_owner_alone_and_taken_in_by_the_next_process(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    spent = Spent("a", 9, 1, 20)
    file = refused(
        path, ([row(1, cost=5), row(2, status=3)], spent), before=([row(0, cost=4)], Spent("a", 4, 0, 20))
    )
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for _ in range(2):
        records, paid, counts = stored(path)
        assert records == {slot: row(slot).record for slot in range(3)}
        assert paid[:4] == ("a", 9, 1, 20), "the lease is what may have been spent besides"
        assert counts == {1: 2, 3: 1}
    assert not file.exists()
    [told] = caplog.messages
    assert str(file) in told


def test_a_file_that_is_taken_in_twice_changes_nothing_the_second_time(path: str) -> None:
    """As where a process dies when all is stored and the file still there."""
    file = refused(path, ([row(0, cost=5), row(1, status=2, cost=3)], Spent("a", 8, 0, 20, ((60.0, 8),))))
    text = file.read_bytes()
    once = stored(path)
    file.write_bytes(text)
    assert stored(path) == once
    with closing(open_store(path)) as store:
        assert [info.cost_pico for info in store.runs()] == [8]


def test_when_the_money_was_spent_is_known_though_the_sums_came_through_later(path: str) -> None:
    """As where a disk has room for the last sums alone: an hour's budget counted only what was stored with rows."""
    at_s, sums = clock.wall() // 5 * 5, Spent("a", 8, 0, 8)
    file = refused(path, ([row(0, cost=8)], sums._replace(steps=((at_s, 8),))), after=sums)
    text = file.read_bytes()
    assert stored(path)[1] == sums._replace(steps=((at_s, 8),))
    file.write_bytes(text)
    assert stored(path)[1] == sums._replace(steps=((at_s, 8),))


def test_a_line_that_a_crash_cut_short_is_left_out_and_the_others_are_taken_in(path: str) -> None:
    file = refused(path, ([row(0), row(1)], None))
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:2]) + lines[2][:30])
    assert stored(path)[0] == {0: row(0).record}


def test_a_run_that_was_begun_afresh_or_removed_takes_in_nothing_of_the_one_before(path: str) -> None:
    file = refused(path, ([row(0)], None))
    assert stored(path, fresh=True)[0] == {}
    assert not file.exists()
    again = refused(path, ([row(0)], None))
    with closing(open_store(path)) as store:
        store.remove("r")
    assert not again.exists()
    assert stored(path)[0] == {}


def test_answers_that_another_process_has_stored_meanwhile_stay(path: str) -> None:
    """A machine that does not see the file asks the rows again, perhaps in another order."""
    file = refused(path, ([row(0), row(1), row(2)], None))
    hidden = file.rename(file.with_name("hidden"))
    with closing(open_store(path)) as store, closing(store.open_run("r", {"chain": 1})) as run:
        write(
            run, [row(0, record=b'{"o":"asked again"}'), row(1, question="another", record=b'{"o":"else"}')]
        )
    hidden.rename(file)
    assert stored(path)[0] == {
        0: b'{"o":"asked again"}',
        1: b'{"o":"else"}',
        2: row(2).record,
        3: row(1).record,
    }


@pytest.mark.parametrize("how", ["writable", "link"])
def test_a_file_that_another_user_could_have_written_is_not_taken_in(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = str(tmp_path / "store.db")
    file = refused(path, ([row(0)], None))
    if how == "writable":
        file.chmod(0o666)
    else:
        file.symlink_to(file.rename(tmp_path / "elsewhere"))
    assert stored(path)[0] == {}
    assert "is not taken in" in caplog.text
    assert file.exists(), "it may be what was paid for"


def test_the_next_place_is_taken_where_the_first_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = str(tmp_path / "store.db")
    beside = refused(path, ([row(0)], None))
    stored(path)
    beside.mkdir()  # whatever stands there
    file = refused(path, ([row(1)], None))
    assert file.parent == tmp_path / "state" / "cottonpalm"
    assert set(stored(path)[0]) == {0, 1}
    assert not file.exists()
    assert os.listdir(file.parent) == []  # noqa: PTH208 - names


def test_a_group_that_fits_no_place_as_a_whole_is_kept_in_parts_and_as_far_as_there_is_room(
    tmp_path: Path,
) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    file = RescueFile(folders, 1, "run", 0.0)
    rows = [row(slot)._replace(record=b'{"x": "%s"}' % (b"x" * 1_000)) for slot in range(12)]
    was, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, was[1]))
    try:
        file.put(rows, None)
        with pytest.raises(OSError, match="File too large"):
            file.put([one._replace(slot=one.slot + 12) for one in rows], None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, was)
        signal.signal(signal.SIGXFSZ, handler)
    kept = {one.slot for one in file.read().rows}
    assert set(range(12)) < kept < set(range(24))
