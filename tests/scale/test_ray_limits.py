"""The actor that keeps a cluster's limits: it is there again for whoever needs it."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest

from cottonpalm.stores.sql import share_rows
from cottonpalm.stores.sql.database import Turnwise, in_transaction
from tests.support.loopback import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from cottonpalm.engine.executors.workers.ray.limits import ActorDatabase


def secret(database: ActorDatabase, db: Any) -> bytes:
    """What the actor keeps; its process may take long to begin, as for workers, which ask again."""
    import ray

    from cottonpalm.engine.executors.workers.ray.limits import limits_actor

    ray.get(limits_actor().pid.remote(), timeout=120)
    return in_transaction(database, db, lambda: share_rows.secret_of(db), Turnwise.SHARES)


def until_its_name_is_free() -> None:
    """For a moment it still leads to the one that was killed."""
    import ray

    from cottonpalm.engine.executors.workers.ray.limits import NAME, NAMESPACE

    with suppress(ValueError):
        while ray.get_actor(NAME, namespace=NAMESPACE):
            time.sleep(0.05)


def after_ray_is_shut_down() -> None:
    """Print what is said then, and whether Ray began again; in a process of its own."""
    import ray

    from cottonpalm.engine.executors.workers.ray.limits import ActorDatabase, limits_actor

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    limits_actor()
    database = ActorDatabase()
    db = database.connect()
    print(db.execute("SELECT 7").fetchone()[0])
    ray.shutdown()
    for call in (lambda: db.execute("SELECT 7"), database.connect):
        try:
            call()
        except database.errors as exc:
            print(exc)
    print(ray.is_initialized())


@pytest.mark.timeout(400)  # a cluster may take its time to begin
def test_who_still_renews_its_shares_after_ray_was_shut_down_begins_no_cluster() -> None:
    words = "from tests.scale.test_ray_limits import after_ray_is_shut_down; after_ray_is_shut_down()"
    done = subprocess.run(
        [sys.executable, "-c", words], cwd=ROOT, capture_output=True, text=True, check=True, timeout=300
    )
    said = "Ray was shut down in this process"
    assert done.stdout.splitlines() == ["7", said, said, "False"]


@pytest.mark.parametrize("fails", ["to begin", "to end"])
def test_a_transaction_that_fails_keeps_nothing_and_nobody_else_from_their_turn(
    tmp_path: Path, fails: str
) -> None:
    from cottonpalm.engine.executors.workers.ray.limits import BEGIN, FILE, LimitsActor

    path = tmp_path / FILE

    async def main() -> list[Any]:
        actor = LimitsActor(str(tmp_path))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("CREATE TABLE a (x UNIQUE)")
            other.execute("CREATE TABLE b (x REFERENCES a (x) DEFERRABLE INITIALLY DEFERRED)")
            actor._db.execute("PRAGMA foreign_keys = ON")
            actor._db.execute("PRAGMA busy_timeout = 20")
            if fails == "to begin":
                other.execute(BEGIN)
            with pytest.raises(sqlite3.Error, match=r"locked|FOREIGN KEY"):
                await actor.run("one", [(BEGIN, []), ("INSERT INTO b VALUES (1)", []), ("COMMIT", [])])
            if fails == "to begin":
                other.execute("ROLLBACK")
            kept = [(BEGIN, []), ("INSERT INTO a VALUES (2)", []), ("COMMIT", [])]
            await asyncio.wait_for(actor.run("two", kept), timeout=20)
            return other.execute("SELECT x FROM a UNION ALL SELECT x FROM b").fetchall()

    assert asyncio.run(main()) == [(2,)]


def test_an_actor_whom_nobody_asks_any_more_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cottonpalm.engine.executors.workers.ray import limits

    monkeypatch.setattr(limits, "IDLE_S", 0.2)
    ended: list[bool] = []
    monkeypatch.setattr("ray.actor.exit_actor", lambda: ended.append(True))
    folder = tmp_path / "of the actor"

    async def main() -> None:
        actor = limits.LimitsActor(str(folder))
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert await actor.run("one", [("SELECT 7", [])]) == [(7,)]
        assert actor._tidying is not None
        await asyncio.wait_for(actor._tidying, timeout=20)

    asyncio.run(main())
    assert ended == [True]
    assert not list(tmp_path.iterdir())


@pytest.mark.timeout(400)  # a cluster may take its time to begin
@pytest.mark.usefixtures("cluster")
def test_a_worker_that_begins_after_the_actor_has_ended_finds_one() -> None:
    import ray

    from cottonpalm.engine.executors.workers.ray.limits import ActorDatabase, limits_actor

    database = ActorDatabase()
    first = secret(database, database.connect())
    assert secret(database, database.connect()) == first
    ray.kill(limits_actor())
    until_its_name_is_free()
    assert secret(database, database.connect()) != first
