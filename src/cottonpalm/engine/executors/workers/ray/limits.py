"""Limits shared over a Ray cluster: the tables of `stores.sql.shares`, in one named actor that all drivers use.

The actor keeps them in a file on its node, so it may die and begin again without forgetting who holds what. A call
brings all statements up to the next one whose rows are needed: about five a second for each worker, whatever its rate.
"""

from __future__ import annotations

import asyncio
import os
import shutil
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
from cottonpalm.stores.sql.database import BUSY_S, Home, Patience, Turnwise
from cottonpalm.stores.sqlite.database import connect, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cottonpalm.stores.sql.lease import Holder

LIMITS: Final = "ray:limits"  # the address of these tables
NAME: Final = "cottonpalm limits"
NAMESPACE: Final = "cottonpalm"
BEGIN: Final = "BEGIN IMMEDIATE"
TURN_S: Final = 3.0  # a transaction that takes longer is undone: its worker is gone
ANSWER_S: Final = 10.0
FILE: Final = "limits.db"
IDLE_S: Final = 600.0  # nobody shares limits any more: the actor ends; workers may take long to begin


class LimitsActor:
    """Runs transactions, one after the other, on a file in a folder of its own."""

    def __init__(self, folder: str) -> None:
        """Begin the folder, or go on with what an actor that died has left there."""
        self._folder = Path(folder)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        prepare(self._folder / FILE, busy_s=BUSY_S)
        self._db = connect(self._folder / FILE, busy_s=BUSY_S)
        self._turn = asyncio.Lock()
        self._whose = ""
        self._late: asyncio.TimerHandle | None = None
        self._called = clock.now()
        self._tidying: asyncio.Task[None] | None = None

    async def run(self, whose: str, statements: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """Run statements, BEGIN and COMMIT among them; return the rows of the last one.

        Raises:
            RuntimeError: the transaction took too long, and was undone.
        """
        if self._tidying is None:
            self._tidying = asyncio.create_task(self._end_when_idle())
        rows: list[Any] = []
        for sql, values in statements:
            if sql == BEGIN:
                await self._begin(whose)
            elif sql in ("COMMIT", "ROLLBACK"):
                if not self._end(whose, sql) and sql == "COMMIT":
                    raise RuntimeError("the transaction took too long")
            else:
                rows = self._one(whose, sql, values)
        return rows

    async def _begin(self, whose: str) -> None:
        """Wait for the turn, and begin a transaction."""
        await self._turn.acquire()
        try:
            self._db.execute(BEGIN)
        except sqlite3.Error:
            self._turn.release()
            raise
        self._whose, self._called = whose, clock.now()
        self._late = asyncio.get_running_loop().call_later(TURN_S, self._end, whose, "ROLLBACK")

    def _one(self, whose: str, sql: str, values: Sequence[Any]) -> list[Any]:
        if whose != self._whose and not sql.startswith("SELECT"):
            raise RuntimeError("the transaction took too long")
        try:
            return self._db.execute(sql, tuple(values)).fetchall()
        except sqlite3.Error:
            self._end(whose, "ROLLBACK")
            raise

    async def pid(self) -> int:
        """Return the process, for tests."""
        return os.getpid()

    def _end(self, whose: str, how: str) -> bool:
        if whose != self._whose:
            return False
        if self._late is not None:
            self._late.cancel()
        self._whose = ""
        try:
            self._db.execute(how)
        finally:
            if self._db.in_transaction:  # it could not be kept, as on a full disk
                self._db.execute("ROLLBACK")
            self._turn.release()
        return True

    async def _end_when_idle(self) -> None:
        while clock.now() - self._called < IDLE_S:  # noqa: ASYNC110 - nothing happens that could tell
            await asyncio.sleep(IDLE_S / 4)
        self._db.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        ray.actor.exit_actor()  # type: ignore[no-untyped-call]


def limits_actor() -> Any:
    """Return the cluster's actor; begin it on this node if there is none.

    It must not move: its file is here.
    """
    with suppress(ValueError):
        return ray.get_actor(NAME, namespace=NAMESPACE)
    # The actor makes it: whoever asks for one at the same moment, and gets the other's, leaves nothing behind.
    folder = f"{tempfile.gettempdir()}/cottonpalm-{uuid4().hex}"
    made = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0)(LimitsActor)
    return made.options(
        name=NAME,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        max_concurrency=10_000,
        resources=on_this_node(),
    ).remote(folder)


def _check_is_on() -> None:
    """Check that this process is in a cluster: else Ray's next call would begin one, just to renew what is over.

    Raises:
        RuntimeError: Ray was shut down.
    """
    if not ray.is_initialized():
        raise RuntimeError("Ray was shut down in this process")


def on_this_node() -> dict[str, float]:
    """Return what an actor asks for that must stay on this node."""
    here = ray.get_runtime_context().get_node_id()
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    ip = next(str(found["NodeManagerAddress"]) for found in nodes if found["NodeID"] == here)
    return {f"node:{ip}": 0.001}


class _Result:
    """See `sql.connection.Cursor`."""

    rowcount = -1

    def __init__(self, rows: list[Any]) -> None:
        self._rows = rows

    def fetchone(self) -> Any:
        return self._rows.pop(0) if self._rows else None

    def fetchall(self) -> list[Any]:
        return self._rows

    def __iter__(self) -> Any:
        return iter(self._rows)


class _ActorConnection:
    """See `sql.connection.Connection`: what needs no answer goes with the next statement that does."""

    in_transaction = True  # it may be: the actor knows, and where none was begun, its end does nothing

    def __init__(self) -> None:
        _check_is_on()
        self._actor = limits_actor()  # the one that there is, mostly
        self._whose = uuid4().hex
        self._waiting: list[tuple[str, Sequence[Any]]] = []

    def execute(self, sql: str, values: Sequence[Any] = ()) -> _Result:
        self._waiting.append((sql, list(values)))
        if not sql.startswith(("SELECT", "COMMIT", "ROLLBACK")):
            return _Result([])
        statements, self._waiting = self._waiting, []
        _check_is_on()
        return _Result(ray.get(self._actor.run.remote(self._whose, statements), timeout=ANSWER_S))

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

    beat = keep = hold = leave = enter

    def unlock(self) -> None:
        pass

    leaving = unlock


class ActorDatabase:
    """The actor's tables. See `sql.database.Database`; they hold shares, and no runs."""

    errors: tuple[type[Exception], ...] = (RayError, TimeoutError, ValueError, sqlite3.Error, RuntimeError)
    url = LIMITS
    like = ""

    def __init__(self) -> None:
        self.home, self.patience = Home("of the Ray cluster"), Patience()

    def prepare(self, busy_s: float = BUSY_S) -> None:
        """See `sql.database.Database`: the driver has begun the actor."""

    def connect(self, busy_s: float = BUSY_S, *, durable: bool = True) -> _ActorConnection:  # noqa: ARG002
        """See `sql.database.Database`."""
        return _ActorConnection()

    def begin(self, db: _ActorConnection, turnwise: Turnwise = Turnwise.NONE) -> None:  # noqa: ARG002
        """See `sql.database.Database`."""
        db.execute(BEGIN)

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

    def died(self, db: Any, number: int) -> bool:  # noqa: ARG002
        """See `sql.database.Database`: nobody knows before its shares expire."""
        return False

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
