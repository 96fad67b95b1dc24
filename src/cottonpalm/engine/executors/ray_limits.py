"""Limits shared over a Ray cluster: the tables of `stores.sql.shares`, in one named actor that all drivers use.

The actor keeps them in a file on its node, so it may die and begin again without forgetting who holds what. Its calls
are the statements of a transaction: about ten each second for each worker, whatever the worker's rate.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import ray
from ray.exceptions import RayError

from cottonpalm import clock
from cottonpalm.errors import StoreError
from cottonpalm.stores.sql.database import BUSY_S, Home, Turnwise
from cottonpalm.stores.sqlite.database import connect, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cottonpalm.stores.sql.lease import Holder

LIMITS: Final = "ray:limits"  # the address of these tables
NAME: Final = "cottonpalm limits"
NAMESPACE: Final = "cottonpalm"
TURN_S: Final = 3.0  # a transaction that takes longer is undone: its worker is gone
ANSWER_S: Final = 10.0
IDLE_S: Final = 60.0  # nobody shares limits any more: the actor ends


class LimitsActor:
    """Runs transactions, one after the other."""

    def __init__(self, path: str) -> None:
        prepare(Path(path), busy_s=BUSY_S)
        self._db = connect(Path(path), busy_s=BUSY_S)
        self._turn = asyncio.Lock()
        self._whose = ""
        self._late: asyncio.TimerHandle | None = None
        self._called = clock.now()
        self._tidying: asyncio.Task[None] | None = None

    async def begin(self, whose: str) -> None:
        """Wait for the turn, and begin a transaction."""
        if self._tidying is None:
            self._tidying = asyncio.create_task(self._end_when_idle())
        await self._turn.acquire()
        self._db.execute("BEGIN IMMEDIATE")
        self._whose, self._called = whose, clock.now()
        self._late = asyncio.get_running_loop().call_later(TURN_S, self._end, whose, "ROLLBACK")

    async def execute(self, whose: str, sql: str, values: Sequence[Any]) -> tuple[list[Any], int]:
        """Run a statement; return its rows, and how many it wrote.

        Raises:
            RuntimeError: the transaction took too long, and was undone.
        """
        if sql in ("COMMIT", "ROLLBACK"):
            if not self._end(whose, sql) and sql == "COMMIT":
                raise RuntimeError("the transaction took too long")
            return [], 0
        if whose != self._whose and not sql.startswith(("SELECT", "DELETE FROM lease")):
            raise RuntimeError("the transaction took too long")
        done = self._db.execute(sql, tuple(values))
        return done.fetchall(), done.rowcount

    async def pid(self) -> int:
        """Return the process, for tests."""
        return os.getpid()

    def _end(self, whose: str, how: str) -> bool:
        if whose != self._whose:
            return False
        if self._late is not None:
            self._late.cancel()
        self._whose = ""
        self._db.execute(how)
        self._turn.release()
        return True

    async def _end_when_idle(self) -> None:
        while clock.now() - self._called < IDLE_S:  # noqa: ASYNC110 - nothing happens that could tell
            await asyncio.sleep(IDLE_S / 4)
        ray.actor.exit_actor()  # type: ignore[no-untyped-call]


def limits_actor() -> Any:
    """Return the cluster's actor; begin it on this node if there is none.

    It must not move: its file is here.
    """
    path = str(Path(tempfile.mkdtemp(prefix="cottonpalm-")) / "limits.db")
    made = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0)(LimitsActor)
    return made.options(
        name=NAME,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        max_concurrency=10_000,
        resources=on_this_node(),
    ).remote(path)


def on_this_node() -> dict[str, float]:
    """Return what an actor asks for that must stay on this node."""
    here = ray.get_runtime_context().get_node_id()
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    ip = next(str(found["NodeManagerAddress"]) for found in nodes if found["NodeID"] == here)
    return {f"node:{ip}": 0.001}


class _Result:
    """See `sql.connection.Cursor`."""

    def __init__(self, rows: list[Any], rowcount: int) -> None:
        self._rows, self.rowcount = rows, rowcount

    def fetchone(self) -> Any:
        return self._rows.pop(0) if self._rows else None

    def fetchall(self) -> list[Any]:
        return self._rows

    def __iter__(self) -> Any:
        return iter(self._rows)


class _ActorConnection:
    """See `sql.connection.Connection`: each statement is a call."""

    def __init__(self) -> None:
        self._actor = ray.get_actor(NAME, namespace=NAMESPACE)
        self._whose = uuid4().hex

    def begin(self) -> None:
        ray.get(self._actor.begin.remote(self._whose), timeout=ANSWER_S)

    def execute(self, sql: str, values: Sequence[Any] = ()) -> _Result:
        return _Result(*ray.get(self._actor.execute.remote(self._whose, sql, list(values)), timeout=ANSWER_S))

    def executemany(self, sql: str, rows: Sequence[Any]) -> None:
        for row in rows:
            self.execute(sql, row)

    def close(self) -> None:
        """Nothing is open."""


class _ActorLease:
    """See `sql.lease.Lease`. Shares expire five seconds after the last renewal; nothing else is needed."""

    def __init__(self, number: int, name: str) -> None:
        self.run, self.name, self.lost = number, name, False

    def lock(self) -> bool:
        return True

    def enter(self, db: Any) -> None:
        pass

    beat = hold = leave = enter

    def unlock(self) -> None:
        pass

    leaving = unlock


class ActorDatabase:
    """The actor's tables. See `sql.database.Database`; they hold shares, and no runs."""

    errors: tuple[type[Exception], ...] = (RayError, TimeoutError, ValueError, sqlite3.Error, RuntimeError)
    url = LIMITS
    like = ""

    def __init__(self) -> None:
        self.home = Home("of the Ray cluster")

    def prepare(self, busy_s: float = BUSY_S) -> None:
        """See `sql.database.Database`: the driver has begun the actor."""

    def connect(self, busy_s: float = BUSY_S, *, durable: bool = True) -> _ActorConnection:  # noqa: ARG002
        """See `sql.database.Database`."""
        return _ActorConnection()

    def begin(self, db: _ActorConnection, turnwise: Turnwise = Turnwise.NONE) -> None:  # noqa: ARG002
        """See `sql.database.Database`."""
        db.begin()

    def let_go(self, db: _ActorConnection) -> None:
        """See `sql.database.Database`."""

    def explained(self, exc: BaseException) -> StoreError:
        """See `sql.database.Database`."""
        return StoreError(
            f"the actor {NAME!r} of the Ray cluster does not answer ({type(exc).__name__}: {exc})"
        )

    def now(self, db: Any) -> float:  # noqa: ARG002 - see below
        """See `sql.database.Database`: the cluster's machines are taken to have their clocks set."""
        return clock.wall()

    def is_cut(self, exc: BaseException) -> bool:  # noqa: ARG002
        """See `sql.database.Database`."""
        return False

    def lease(self, number: int, name: str) -> _ActorLease:
        """See `sql.database.Database`."""
        return _ActorLease(number, name)

    def living(self, rows: Callable[..., list[Any]]) -> dict[int, Holder]:  # noqa: ARG002
        """See `sql.database.Database`: there are no runs."""
        return {}

    def lives(self, db: Any, number: int) -> bool:  # noqa: ARG002
        """See `sql.database.Database`: as long as its shares are renewed."""
        return True

    def joined(self, column: str) -> str:
        """See `sql.database.Database`: there are no rows."""
        raise NotImplementedError(column)

    def insert(self, db: Any, items: Sequence[tuple[Any, ...]], records: Sequence[tuple[Any, ...]]) -> None:
        """See `sql.database.Database`: there are no rows."""
        raise NotImplementedError

    def statuses(self, db: Any, ids: Sequence[int]) -> list[int]:
        """See `sql.database.Database`: there are no rows."""
        raise NotImplementedError

    def exists(self) -> bool:
        """See `sql.database.Database`."""
        with suppress(ValueError):
            ray.get_actor(NAME, namespace=NAMESPACE)
            return True
        return False

    def check(self) -> None:
        """See `sql.database.Database`."""
