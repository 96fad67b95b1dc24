"""What the store in Postgres promises besides: its server, its leases, and addresses that show no password."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from langchain_core.runnables import RunnableLambda

from cottonpalm import BatchProcessor, clock
from cottonpalm.cli.commands.export import Export, show_export
from cottonpalm.errors import ConfigError, RunBusy, StoreError
from cottonpalm.providers.batches.stages import Stage
from cottonpalm.request.limiter.limiter import IN_FLIGHT, Limiter
from cottonpalm.request.limiter.portions import Leased
from cottonpalm.request.limiter.rules.concurrency import Concurrency
from cottonpalm.stores import database_of, open_store, shown
from cottonpalm.stores.postgres.connection import spoken
from cottonpalm.stores.postgres.database import PostgresDatabase
from cottonpalm.stores.postgres.migrations import STEPS
from cottonpalm.stores.sql.answers import Answers
from cottonpalm.stores.sql.database import CannotWrite, Turnwise
from cottonpalm.stores.sql.shares import Shares
from cottonpalm.types import Turn
from tests.contract.rows import row, write
from tests.contract.test_answers import asked
from tests.contract.test_batches import BATCH, MEMBERS, answer
from tests.support.postgres import ByTcp, Cutting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cottonpalm.stores.sql.store import SqlStore
    from tests.conftest import Eventually
    from tests.support.postgres import Server

pytestmark = pytest.mark.waits

PASSWORD = "p%40ss-w0rd"
_SLEEPS = "FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"
_OTHERS = "FROM pg_stat_activity WHERE application_name = 'cottonpalm'"


@pytest.fixture
def store(postgres_url: str) -> Iterator[SqlStore]:
    opened: Any = open_store(postgres_url)
    yield opened
    opened.close()


def test_a_holder_whose_lease_was_taken_over_writes_nothing_more(
    store: SqlStore, postgres_server: Server
) -> None:
    run = store.open_run("r", None)
    write(run, [row(0)])
    postgres_server.run("UPDATE cottonpalm.lease SET token = 'of another machine'")
    with pytest.raises(StoreError, match="taken over by another machine"):
        write(run, [row(1)])
    assert [slot.slot for slot in run.scan(-1, 9)] == [0]


BUSY = """
import sys
from cottonpalm.stores import open_store
store = open_store(sys.argv[1])
run = store.open_run("night", None)
print("opened", flush=True)
store._writer.call(lambda db: db.execute("SELECT pg_sleep(1.5)"))
"""


def test_the_run_of_a_process_that_was_killed_amid_a_statement_is_opened_once_its_connection_ends(
    postgres_url: str, eventually: Eventually
) -> None:
    """Who started the same command again at once was told to wait for the dead process."""
    process = subprocess.Popen([sys.executable, "-c", BUSY, postgres_url], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with psycopg.connect(postgres_url, autocommit=True) as looks, process.stdout as said:
        assert said.readline() == b"opened\n"
        eventually(lambda: looks.execute(f"SELECT 1 {_SLEEPS}").fetchall())
        process.kill()
        process.wait()
        with closing(open_store(postgres_url)) as store:
            assert looks.execute(f"SELECT 1 {_SLEEPS}").fetchall(), "its connection ended before"
            store.open_run("night", None).close()
        assert not looks.execute(f"SELECT 1 {_SLEEPS}").fetchall()


def test_a_server_that_does_not_answer_is_told_of_and_waited_for(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("cottonpalm.stores.postgres.connection.SILENT_S", 0.15)
    db = PostgresDatabase(postgres_url, "the one of these tests").connect()
    assert db.execute("SELECT 1").fetchall() == [(1,)]
    assert not caplog.messages
    assert db.execute("SELECT 2 FROM pg_sleep(0.5)").fetchall() == [(2,)]
    db.close()
    told, over = caplog.messages
    assert told.startswith("the store the one of these tests has not answered for 0 s: look at the server")
    assert over.startswith("the store the one of these tests is waited for no more")


def test_a_silent_holder_is_dead_after_a_minute_by_the_servers_clock(
    store: SqlStore, postgres_url: str, postgres_server: Server
) -> None:
    run = store.open_run("r", None)
    other = open_store(postgres_url)
    postgres_server.run("UPDATE cottonpalm.lease SET beat = beat - 50, backend = NULL")
    with pytest.raises(RunBusy, match="is being worked on by another call in this process"):
        other.open_run("r", None)
    postgres_server.run("UPDATE cottonpalm.lease SET beat = beat - 11")
    assert [info.holder for info in other.runs()] == [None]
    other.open_run("r", None)
    with pytest.raises(StoreError, match="taken over"):
        write(run, [row(0)])
    other.close()


def test_a_living_holder_keeps_its_run_while_its_idle_connection_is_cut(
    store: SqlStore, postgres_url: str, postgres_server: Server
) -> None:
    """Its requests take long, so it writes nothing; who came in that moment took the run over, and asked again."""
    run = store.open_run("r", None)
    with closing(open_store(postgres_url)) as other:
        _cut(postgres_server)
        with pytest.raises(RunBusy, match="is being worked on"):
            other.open_run("r", None)
    write(run, [row(0)])


def test_a_holder_that_died_on_another_machine_is_gone_after_a_few_seconds(
    store: SqlStore, postgres_url: str, postgres_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cottonpalm.stores.postgres.lease.BACK_S", 0.5)
    run = store.open_run("r", None)
    postgres_server.run("UPDATE cottonpalm.lease SET token = 'x', host = 'another', backend = 1")
    with closing(open_store(postgres_url)) as other:
        began = time.monotonic()
        other.open_run("r", None)
        assert time.monotonic() - began >= 0.5
    run.close()


def test_what_a_machine_that_vanished_amid_a_transaction_had_locked_is_free_again(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server keeps the connection of such a machine for hours: all others waited as long for shares and cache."""
    monkeypatch.setattr("cottonpalm.stores.postgres.connection.STALLED_S", 0.3)
    database = database_of(postgres_url)
    impatient: Any = database_of(f"{postgres_url}&options=-cstatement_timeout%3D5s")
    vanished, other = database.connect(), impatient.connect()
    database.begin(vanished, Turnwise.SHARES)
    impatient.begin(other, Turnwise.SHARES)
    other.execute("ROLLBACK")
    for db in (vanished, other):
        db.close()


def test_a_transaction_in_which_this_process_stood_still_for_long_is_done_again(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cottonpalm.stores.postgres.connection.STALLED_S", 0.2)
    stands: Any = iter([1.0, 0.0])

    def work(db: Any) -> Any:
        time.sleep(next(stands))
        return db.execute("SELECT 7").fetchall()

    with closing(open_store(postgres_url)) as store:
        assert store._writer.call(work) == [(7,)]  # type: ignore[attr-defined]


def test_a_server_that_hung_for_long_before_its_connection_was_cut_is_tried_again(
    store: SqlStore, postgres_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The half minute for which a server may be away was over before anybody knew that it was."""
    late = [0.0]
    ticking = SimpleNamespace(now=lambda: time.monotonic() + late[0], wall=time.time)
    monkeypatch.setattr("cottonpalm.stores.sql.database.clock", ticking)
    run = store.open_run("r", None)
    tries: list[int] = []

    def work(db: Any) -> int:
        tries.append(1)
        if len(tries) == 1:
            late[0] = 31.0
            _cut(postgres_server)
        return len(db.execute("SELECT 1").fetchall())

    assert store._writer.call(work) == 1
    assert len(tries) == 2
    write(run, [row(0)])


@pytest.mark.skipif(not hasattr(socket, "TCP_KEEPIDLE"), reason="this system has no such option")
@pytest.mark.usefixtures("postgres_url")
def test_a_server_that_vanished_before_it_answered_is_noticed_within_half_a_minute(
    postgres_server: Server,
) -> None:
    with ByTcp(postgres_server) as reached:
        db: Any = database_of(reached.url).connect()
        with socket.socket(fileno=os.dup(db._db.fileno())) as line:
            idle, pause, most = (
                line.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            )
            assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        db.close()
    assert idle + pause * most <= 30


@pytest.mark.usefixtures("postgres_url")
def test_limits_are_shared_although_the_first_connection_for_them_failed(
    postgres_server: Server, tmp_path: Path
) -> None:
    """A run used the whole of a limit to its end, as others did, after one connection that was cut as it began."""
    with Cutting(postgres_server, tmp_path) as between:
        open_store(between.url).close()
        between.refuses = 2
        Shares(database_of(between.url)).close()
        assert not between.refuses


def test_connections_that_break_are_made_anew_and_no_row_counts_twice(
    store: SqlStore, postgres_server: Server
) -> None:
    run = store.open_run("r", None)
    write(run, [row(0, cost=5)])
    postgres_server.run(f"SELECT pg_terminate_backend(pid) {_OTHERS}")
    write(run, [row(1, cost=7), row(2, status=3)])
    assert run.counts() == {1: 2, 3: 1}
    assert [info.cost_pico for info in store.runs()] == [12]


@pytest.mark.parametrize("first", ["rows", "facts"])
@pytest.mark.usefixtures("postgres_url")
def test_answers_that_wait_for_a_server_that_is_away_are_told_of_once_and_so_is_their_end(
    postgres_server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    first: str,
) -> None:
    with Cutting(postgres_server, tmp_path) as between:
        store: Any = open_store(between.url)
        run = store.open_run("r", None)
        for away_s in (60.0, 0.0):
            monkeypatch.setattr("cottonpalm.stores.sql.writer.AWAY_S", away_s)
            between.refuses = 6
            _cut(postgres_server)
            if first == "facts":
                run.set_meta(note=1)  # rows wait behind it
            write(run, [row(0)])
        store.close()
    told, over = caplog.messages
    assert "cannot be reached: answers wait for it in memory" in told
    assert "is there again, after" in over


def _cut(server: Server) -> None:
    server.run(f"SELECT pg_terminate_backend(pid, 5000) {_OTHERS}")


def test_a_holder_whose_connection_broke_holds_its_run_once_it_has_written_again(
    store: SqlStore, postgres_url: str, postgres_server: Server
) -> None:
    run = store.open_run("r", None)
    other = open_store(postgres_url)
    _cut(postgres_server)
    write(run, [row(0)])
    with pytest.raises(RunBusy, match="is being worked on by another call in this process"):
        other.open_run("r", None)
    write(run, [row(1)])
    other.close()


@pytest.mark.usefixtures("postgres_url")
def test_what_is_not_rows_waits_for_a_server_that_is_away_for_a_moment(
    postgres_server: Server, tmp_path: Path
) -> None:
    with Cutting(postgres_server, tmp_path) as between:
        store: Any = open_store(between.url)
        run = store.open_run("r", None)
        between.refuses = 3
        _cut(postgres_server)
        run.set_meta(note=1)
        assert not between.refuses
        assert run.meta()["note"] == 1
        store.close()


@pytest.mark.usefixtures("postgres_url")
def test_a_server_that_was_waited_for_in_vain_is_not_waited_for_again_until_it_is_there(
    postgres_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each read and each write of a run that ended so waited for half a minute of its own, one after the other."""
    with Cutting(postgres_server, tmp_path) as between:
        store: Any = open_store(between.url)
        run = store.open_run("r", None)
        ticking = SimpleNamespace(now=count(0.0, 2.0).__next__, wall=time.time)  # two seconds a look
        monkeypatch.setattr("cottonpalm.stores.sql.database.clock", ticking)
        tries = []
        for ask in (lambda: write(run, [row(0)]), run.meta, lambda: run.set_meta(note=1)):
            between.refuses = 1000
            _cut(postgres_server)
            with pytest.raises(StoreError):
                ask()
            tries.append(1000 - between.refuses)
        between.refuses = 0
        write(run, [row(0)])
        between.refuses = 2
        _cut(postgres_server)
        run.set_meta(note=1)  # it is waited for again
        assert (between.refuses, run.meta()["note"]) == (0, 1)
        store.close()
    assert tries[0] > 1
    assert tries[1:] == [1, 1]


@pytest.mark.usefixtures("postgres_url")
def test_what_a_run_reads_waits_for_a_server_that_is_away_and_who_only_looks_is_told_at_once(
    postgres_server: Server, tmp_path: Path
) -> None:
    with Cutting(postgres_server, tmp_path) as between:
        store: Any = open_store(between.url)
        run = store.open_run("r", None)
        write(run, [row(0)])
        between.refuses = 3
        _cut(postgres_server)
        assert [slot.slot for slot in run.scan(-1, 9)] == [0]
        assert not between.refuses
        store.close()
        looks: Any = open_store(between.url)
        between.refuses = 9
        _cut(postgres_server)
        with pytest.raises(StoreError, match="check the server"):
            looks.runs()
        assert between.refuses == 8
        looks.close()


def test_a_cache_goes_on_after_its_connection_broke_and_its_questions_stay_its_own(
    postgres_url: str, postgres_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    mine, other = Answers(database_of(postgres_url)), Answers(database_of(postgres_url))
    assert asked(mine, b"first") is Turn.MINE
    mine.put(b"kept", b"answer", clock.wall())
    mine.settle()
    _cut(postgres_server)
    assert asked(mine, b"second") is Turn.MINE
    assert asked(other, b"kept") == b"answer"
    assert (asked(other, b"first"), asked(other, b"second")) == (Turn.ELSEWHERE, Turn.ELSEWHERE)
    _cut(postgres_server)
    assert asked(other, b"second") is Turn.ELSEWHERE, "also before its holder has noticed"
    postgres_server.run("UPDATE cottonpalm.lease SET pid = (1 << 22) + 1")  # beyond all numbers of processes
    _cut(postgres_server)
    assert asked(other, b"second") is Turn.MINE, "what a dead process asked is free at once"
    postgres_server.run(
        "DELETE FROM cottonpalm.lease"
    )  # as one does who looks while the connection is broken
    _cut(postgres_server)
    assert asked(mine, b"third") is Turn.MINE
    assert asked(other, b"third") is Turn.ELSEWHERE
    assert caplog.messages == []
    mine.close()
    other.close()


def test_two_holders_never_use_more_than_there_is_while_their_connections_break(
    postgres_url: str, postgres_server: Server
) -> None:
    database = database_of(postgres_url)
    database.prepare()
    limiters = [Limiter("host/model#account", Concurrency(50, 1, 50)) for _ in range(2)]
    members = [Leased(limiter, b"whose", 10, [1]) for limiter in limiters]
    shares = [Shares(database) for _ in range(2)]

    def renewed() -> int:
        for each in (*shares, *shares):
            each.renew()
        return sum(limiter.shares[IN_FLIGHT] for limiter in limiters)

    for each, member in zip(shares, members, strict=True):
        each.join(member)
    assert renewed() == 10
    for _ in range(3):
        _cut(postgres_server)
        assert renewed() == 10
    for each, member in zip(shares, members, strict=True):
        each.leave(member)
        each.close()


@pytest.mark.usefixtures("postgres_url")
def test_a_group_that_was_committed_when_the_connection_broke_is_not_written_again(
    postgres_server: Server, tmp_path: Path
) -> None:
    with Cutting(postgres_server, tmp_path) as between:
        store: Any = open_store(between.url)
        run = store.open_run("r", None)
        between.armed = True
        write(run, [row(0, cost=5)])
        assert not between.armed
        assert [info.cost_pico for info in store.runs()] == [5]
        store.close()


@pytest.mark.usefixtures("postgres_url")
def test_what_is_not_rows_is_done_once_more_where_the_connection_broke_and_comes_to_the_same(
    postgres_server: Server, tmp_path: Path
) -> None:
    with Cutting(postgres_server, tmp_path) as between:
        store: Any = open_store(between.url)
        run = store.open_run("r", None)
        book, opened = run.book(), list[Any]()
        jobs: list[Callable[[], object]] = [
            lambda: run.set_meta(note=1),
            lambda: book.plan(BATCH, MEMBERS),
            lambda: book.put(replace(BATCH, stage=Stage.SUBMITTED)),
            lambda: book.keep(BATCH.tag, [(2, answer("two"))]),
            lambda: book.close(replace(BATCH, stage=Stage.COLLECTED)),
            lambda: opened.append(store.open_run("s", None)),
            run.close,
        ]
        for job in jobs:
            between.armed = True
            job()
            assert not between.armed, "it was cut as it was committed"
        [kept] = store.batches("r")
        runs = {info.name: (info.meta, info.holder is None) for info in store.runs()}
        store.close()
    assert runs == {"r": ({"note": 1}, True), "s": ({}, False)}
    assert kept.stage is Stage.COLLECTED
    assert postgres_server.run("SELECT row, fate FROM cottonpalm.batch_line ORDER BY id") == [
        (0, 1),
        (0, 1),
        (1, 3),
    ]


def test_a_group_that_was_cut_is_not_taken_for_stored_because_another_holder_has_written_since(
    postgres_server: Server, postgres_url: str, tmp_path: Path
) -> None:
    """Its answers were told as durable, and the store held others."""
    with (
        Cutting(postgres_server, tmp_path) as between,
        psycopg.connect(postgres_server.url) as slow,
        closing(open_store(between.url)) as store,
        ThreadPoolExecutor(1) as pool,
    ):
        run = store.open_run("r", None)
        slow.execute("LOCK TABLE cottonpalm.record IN EXCLUSIVE MODE")
        writing = pool.submit(write, run, [row(0)])
        while not postgres_server.run("SELECT 1 FROM pg_locks WHERE NOT granted"):
            pass
        between.refuses = 1_000_000
        _cut(postgres_server)
        slow.rollback()
        with closing(open_store(postgres_url)) as other:
            write(other.open_run("r", None), [row(1)])
        between.refuses = 0
        with pytest.raises(StoreError, match="taken over by another machine"):
            writing.result()
    assert postgres_server.run("SELECT count(*) FROM cottonpalm.item") == [(1,)]


@pytest.fixture
def only_reads(postgres_server: Server, eventually: Eventually) -> Iterator[Callable[[bool], None]]:
    """Make the server one that only reads, as a standby does, or one that writes again."""

    def make(it: bool) -> None:
        how = "SET default_transaction_read_only = on" if it else "RESET default_transaction_read_only"
        postgres_server.run(f"ALTER SYSTEM {how}")
        postgres_server.run("SELECT pg_reload_conf()")
        said = [("on" if it else "off",)]
        eventually(lambda: postgres_server.run("SHOW default_transaction_read_only") == said)

    yield make
    make(False)


def test_a_server_that_was_written_and_only_reads_for_a_moment_is_waited_for(
    store: SqlStore, only_reads: Callable[[bool], None]
) -> None:
    """A primary that is replaced only reads before it ends; a run that wrote then ended with it."""
    run = store.open_run("r", None)
    write(run, [row(0)])
    only_reads(True)
    with ThreadPoolExecutor(2) as threads:
        rows = threads.submit(write, run, [row(1)])
        note = threads.submit(run.set_meta, note=1)
        time.sleep(1)
        assert not rows.done()
        assert not note.done()
        only_reads(False)
        rows.result(timeout=20)
        note.result(timeout=20)
    assert [slot.slot for slot in run.scan(-1, 9)] == [0, 1]
    assert run.meta()["note"] == 1


def test_a_server_that_only_reads_from_the_beginning_is_told_of_at_once(
    store: SqlStore, postgres_url: str, only_reads: Callable[[bool], None]
) -> None:
    only_reads(True)
    began = time.monotonic()
    with closing(open_store(postgres_url)) as other, pytest.raises(CannotWrite, match="target_session_attrs"):
        other.open_run("r", None)
    assert time.monotonic() - began < 5


def test_a_full_disk_is_told_at_once_and_not_waited_for_as_a_server_that_is_away(
    store: SqlStore, postgres_server: Server
) -> None:
    """It was tried again for half a minute without a word, while rows were paid that could not be stored."""
    run = store.open_run("r", None)
    postgres_server.run(
        "CREATE SEQUENCE cottonpalm.tries; CREATE FUNCTION cottonpalm.full() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN PERFORM nextval('cottonpalm.tries'); RAISE 'No space left on device' USING ERRCODE = '53100'; END$$;"
        " CREATE TRIGGER full_disk BEFORE INSERT ON cottonpalm.record EXECUTE FUNCTION cottonpalm.full()"
    )
    with pytest.raises(StoreError, match="its disk is full: free some space"):
        write(run, [row(0)])
    assert postgres_server.run("SELECT last_value FROM cottonpalm.tries") == [(1,)]
    postgres_server.run("DROP TRIGGER full_disk ON cottonpalm.record")
    write(run, [row(0)])
    assert run.counts() == {1: 1}


def test_no_step_of_the_schema_that_was_shipped_is_ever_edited(
    store: SqlStore, postgres_server: Server
) -> None:
    [(version,)] = postgres_server.run("SELECT number FROM cottonpalm.version")
    assert version == len(STEPS) == 5
    columns = (
        "SELECT md5(string_agg(concat(table_name, column_name, data_type, is_nullable), ',' ORDER BY table_name,"
        " ordinal_position)) FROM information_schema.columns WHERE table_schema = 'cottonpalm'"
    )
    first = postgres_server.run(
        f"{columns} AND table_name NOT IN ('batch_row', 'batch_tool', 'known_limit') AND column_name <> 'used'"
    )
    assert first == [("f5378bef5c3616f5e5584c6ee4b64db8",)]
    assert postgres_server.run(columns) == [("e499ecc345df9214d1dfa4dbdbdb1018",)]


def test_a_newer_schema_and_another_programs_schema_are_refused(
    postgres_url: str, postgres_server: Server
) -> None:
    postgres_server.run("CREATE SCHEMA cottonpalm")
    postgres_server.run("CREATE TABLE cottonpalm.palms (height integer)")
    with pytest.raises(StoreError, match="belongs to another program: give cottonpalm a database of its own"):
        open_store(postgres_url)
    postgres_server.run("DROP SCHEMA cottonpalm CASCADE")
    open_store(postgres_url).close()
    postgres_server.run("UPDATE cottonpalm.version SET number = 99")
    with pytest.raises(StoreError, match=r"newer cottonpalm \(schema 99, this one knows"):
        open_store(postgres_url)


@pytest.mark.parametrize(("setting", "waits"), [("off", "on"), ("local", "local")])
def test_what_is_reported_done_is_on_the_servers_disk_also_where_it_is_set_up_not_to_wait(
    postgres_url: str, setting: str, waits: str
) -> None:
    database: Any = database_of(f"{postgres_url}&options=-csynchronous_commit%3D{setting}")
    for durable, expected in ((True, waits), (False, setting)):
        db = database.connect(durable=durable)
        database.begin(db)
        assert db.execute("SHOW synchronous_commit").fetchall() == [(expected,)]
        db.execute("ROLLBACK")
        db.close()


@pytest.fixture
def reader(store: SqlStore, postgres_server: Server) -> Iterator[str]:
    """The address for a role that may read the store, and nothing else."""
    BatchProcessor(RunnableLambda(str.upper), store=store, run="r").batch(["a", "b"])
    postgres_server.run("CREATE ROLE reader LOGIN")
    postgres_server.run("GRANT USAGE ON SCHEMA cottonpalm TO reader")
    postgres_server.run("GRANT SELECT ON ALL TABLES IN SCHEMA cottonpalm TO reader")
    yield postgres_server.url.replace("postgres@", "reader@")
    postgres_server.run("DROP OWNED BY reader")
    postgres_server.run("DROP ROLE reader")


def test_who_may_only_read_a_store_is_told_so_when_it_writes(reader: str, postgres_server: Server) -> None:
    store = open_store(reader)
    with pytest.raises(CannotWrite, match="to use the schema cottonpalm, and to read and write its tables"):
        store.open_run("r", None)
    store.close()
    postgres_server.run("UPDATE cottonpalm.version SET number = number - 1")
    with pytest.raises(StoreError, match="made by another user and by an older cottonpalm"):
        open_store(reader)


def test_a_run_is_exported_by_who_may_only_read_its_store(reader: str, tmp_path: Path) -> None:
    said: list[str] = []
    screen: Any = SimpleNamespace(say=said.append)
    output = tmp_path / "out.jsonl"
    show_export(reader, Export("r", str(output)), screen)
    assert said == [f"{output}: 2 rows of run r"]
    assert len(output.read_bytes().splitlines()) == 2


def test_a_store_that_is_only_looked_for_is_not_made(postgres_url: str, postgres_server: Server) -> None:
    database = database_of(postgres_url)
    assert database is not None
    assert not database.exists()
    assert postgres_server.run("SELECT 1 FROM pg_namespace WHERE nspname = 'cottonpalm'") == []
    open_store(postgres_url).close()
    assert database.exists()


@pytest.mark.parametrize(
    ("address", "says"),
    [
        (f"postgresql://me:{PASSWORD}@127.0.0.1:9/db", "cannot be reached: is the server running"),
        (f"postgresql://me:{PASSWORD}@no-such-host.invalid/db", "no address: check the host's name"),
        (f"postgresql://me:{PASSWORD}@127.0.0.1:9/db?nonsense=1", "is no address of a database"),
    ],
)
def test_errors_say_what_to_do_and_never_show_the_password(address: str, says: str) -> None:
    with pytest.raises((StoreError, ConfigError), match=says) as caught:
        open_store(address)
    for text in (str(caught.value), repr(caught.value), shown(address)):
        assert "w0rd" not in text
    assert shown(address).startswith("postgresql://me@")


@pytest.mark.parametrize(
    "said",
    [
        "FATAL:  sorry, too many clients already",
        "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
        "FATAL:  remaining connection slots are reserved for non-replication superuser connections",
    ],
)
def test_a_server_that_has_no_connection_left_is_said_to_take_no_more(said: str) -> None:
    explained = PostgresDatabase("postgresql://h/d", "the one of these tests").explained(
        psycopg.OperationalError(said)
    )
    assert "takes no more connections" in str(explained)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("postgresql://me:p/w@h/d?password=x&host=/tmp&sslpassword=y", "postgresql://me@h/d?host=/tmp&"),
        ("--store=postgres://me:secret@h:5/d", "--store=postgres://me@h:5/d"),
        ("postgresql://h/d", "postgresql://h/d"),
        ("sqlite:///a/b.db", "a/b.db"),
    ],
)
def test_an_address_is_shown_without_its_passwords_and_still_names_the_place(
    given: str, expected: str
) -> None:
    assert shown(given) == expected


@pytest.fixture
def encoded(postgres_server: Server) -> Iterator[Callable[[str], str]]:
    """Makes a database of another encoding; returns its address."""

    def make(encoding: str) -> str:
        postgres_server.run(f"CREATE DATABASE other TEMPLATE template0 LOCALE 'C' ENCODING '{encoding}'")
        return postgres_server.url.replace("/postgres?", "/other?")

    yield make
    postgres_server.run("DROP DATABASE other WITH (FORCE)")


def test_a_server_that_was_set_up_without_a_locale_keeps_a_run_and_finds_it_again(
    encoded: Callable[[str], str],
) -> None:
    """Such a database says SQL_ASCII; the names of its tables came as bytes, as those of another program."""
    url = encoded("SQL_ASCII")
    with closing(open_store(url)) as made:
        write(made.open_run("夜", {"prompt": "你好"}), [row(0)])
    with closing(open_store(url)) as again:
        assert [run.name for run in again.runs()] == ["夜"]
        assert [slot.slot for slot in again.open_run("夜", {"prompt": "你好"}).scan(-1, 9)] == [0]


def test_a_database_that_cannot_hold_a_text_is_named_with_what_to_do(encoded: Callable[[str], str]) -> None:
    with closing(open_store(encoded("LATIN1"))) as store:
        store.open_run("été", None)
        with pytest.raises(StoreError, match=r"cannot hold this text .* made with ENCODING 'UTF8'"):
            store.open_run("夜", None)


def test_tables_that_another_program_removed_are_no_database_to_be_made(
    postgres_url: str, postgres_server: Server
) -> None:
    store: Any = open_store(postgres_url)
    run = store.open_run("r", None)
    postgres_server.run("DROP TABLE cottonpalm.record")
    with pytest.raises(StoreError, match=r"has lost tables .* another program removed them"):
        write(run, [row(0)])
    postgres_server.run("DROP SCHEMA cottonpalm CASCADE")
    with pytest.raises(StoreError, match="to begin anew"):
        store.close()


def test_a_database_that_is_not_there_is_named(postgres_url: str) -> None:
    with pytest.raises(StoreError, match=r'database "nowhere" does not exist.*create the database'):
        open_store(postgres_url.replace("/postgres?", "/nowhere?"))


def test_without_psycopg_one_line_says_what_to_install() -> None:
    script = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from cottonpalm.stores import open_store\n"
        "try: open_store('postgresql://h/d')\n"
        "except Exception as exc: print(type(exc).__name__, exc)"
    )
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True, text=True)
    assert done.stdout.startswith("ConfigError")
    assert 'pip install "cottonpalm[postgres]"' in done.stdout


def test_nothing_of_postgres_is_imported_for_other_stores() -> None:
    script = (
        "import sys; from cottonpalm.stores import open_store; import cottonpalm.stores.sql.answers, tempfile\n"
        "open_store(tempfile.mkdtemp() + '/s.db').close()\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('psycopg', 'ray')])"
    )
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True, text=True)
    assert done.stdout == "[]\n"


def test_tables_are_named_with_their_schema_and_values_stand_as_the_driver_wants_them() -> None:
    assert spoken("SELECT id & 7 FROM batch_line LEFT JOIN batch_answer USING (id) WHERE run = ?") == (
        "SELECT id & 7 FROM cottonpalm.batch_line LEFT JOIN cottonpalm.batch_answer USING (id) WHERE run = %s"
    )
    assert spoken("UPDATE run SET ok = ok + ?") == "UPDATE cottonpalm.run SET ok = ok + %s"
