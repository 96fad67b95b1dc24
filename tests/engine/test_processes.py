"""Two processes with one store on one account: together they keep a limit and use all of it, and one may be killed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor, Limits
from cottonpalm.stores import database_of
from tests.engine.portions import Processes
from tests.support import replies
from tests.support.loopback import Loopback

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Eventually

pytestmark = pytest.mark.waits

MOST = 6


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    with Processes() as processes:
        yield processes


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where they share their limits."""
    if request.param == "sqlite":
        return str(tmp_path / "s.db")
    return str(request.getfixturevalue("postgres_url"))


def shares(place: str, unit: str) -> list[float]:
    """What each process may use."""
    database = database_of(place)
    assert database is not None
    if not database.exists():
        return []
    db = database.connect()
    try:
        found = db.execute("SELECT amount FROM share WHERE unit = ? AND want > 0", (unit,))
        return sorted(amount for (amount,) in found)
    finally:
        database.let_go(db)


def test_two_processes_keep_a_number_in_flight_together_and_a_killed_ones_share_comes_back(
    place: str, processes: Processes, eventually: Eventually
) -> None:
    with Loopback(latency=0.02) as server:
        first, second = (processes.start(place, server.openai_url, name, 100_000, MOST) for name in "ab")
        server.wait(requests=1)
        eventually(lambda: len(shares(place, "in flight")) == 2)
        kept: list[str] = []  # those in flight are the last of them: the oldest is released first

        def keep(request: replies.Request) -> replies.Reply:
            kept.append(request.text[0])
            return replies.held()

        server.script(keep)
        held = server._provider._held
        eventually(lambda: len(held) == MOST and (set(kept[-MOST:]) == {"a", "b"} or server.release(1)))
        assert server.peak == MOST
        processes.kill(first)
        killed = kept[-MOST:].count("a")
        eventually(lambda: server._provider.abandoned == killed)
        eventually(lambda: server.in_flight == MOST)
        assert set(kept[-killed:]) == {"b"}
        processes.kill(second)


def test_two_processes_send_no_more_per_minute_than_one_may_and_no_less(
    place: str, processes: Processes, eventually: Eventually
) -> None:
    with Loopback(latency=0.02) as server:
        children = [processes.start(place, server.openai_url, name, 1_000, "auto", 120) for name in "ab"]
        server.wait(requests=24)
        eventually(lambda: len(shares(place, "requests")) == 2)
        times = [arrival.at_s for arrival in server.arrivals]
        for child in children:
            processes.kill(child)
    took_s = (
        times[23] - times[3]
    )  # a ceiling is used evenly: twenty requests at two a second, by both together
    assert 7 < took_s < 20, times


def test_a_resumed_run_starts_with_seven_tenths_of_what_it_had_learnt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "cottonpalm")
    path = tmp_path / "s.db"
    with Loopback(replies.capped(20), latency=0.02) as server:
        model = ChatOpenAI(base_url=server.openai_url, api_key="sk-test-0123456789", model="gpt-4o-mini")

        def processor() -> BatchProcessor:
            return BatchProcessor(model, store=path, run="r", limits=Limits())

        processor().batch([f"row {number}" for number in range(300)])
        with closing(sqlite3.connect(path)) as db:
            [(learnt,)] = db.execute("SELECT in_flight FROM learnt").fetchall()
        server.script(lambda _: replies.held())
        with processor().start(f"row {number}" for number in range(900)) as run:
            first = int(0.7 * learnt)
            server.wait(in_flight=first)  # by now, one more may be under trial
            assert f" starts with {first} in flight: {learnt:.0f} fitted" in caplog.text
            run.abort()
