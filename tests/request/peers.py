"""Several processes in one: each with a limiter of its own, sharing through one store's file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cottonpalm.request.limiter.limiter import Limiter
from cottonpalm.request.limiter.portions import Leased
from cottonpalm.request.limiter.rules.concurrency import Concurrency
from cottonpalm.stores.sql.shares import Shares
from cottonpalm.stores.sqlite.database import SqliteDatabase, let_go
from cottonpalm.types import Verdict

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

    from cottonpalm.request.limiter.limiter import Permit
    from tests.request.stage import Stage

KEY = b"host/model and whose"


class Peer:
    """A process with one run. Its shares are renewed when the test says so."""

    def __init__(
        self,
        stage: Stage,
        path: Path,
        *,
        most: int | None = None,
        per_minute: float | None = None,
        limit: Concurrency | None = None,
        run: int = 1,
        key: bytes = KEY,
        joins: bool = True,
    ) -> None:
        self.stage = stage
        ceilings = [] if per_minute is None else [("requests", per_minute)]
        self.limiter = Limiter("host/model#account", limit or Concurrency(50, 1, 50), ceilings)  # type: ignore[arg-type]
        self.leased = Leased(self.limiter, key, most, [run])
        if joins:
            SqliteDatabase(path).prepare()
        self.shares = Shares(SqliteDatabase(path))
        self.shares._db.execute("PRAGMA busy_timeout = 0")
        self.line: list[asyncio.Task[Permit]] = []
        self.held: list[Permit] = []
        if joins:
            self.shares.join(self.leased)

    def come(self, count: int = 1) -> None:
        """So many requests get in line."""
        for _ in range(count):
            self.line.append(self.stage.start(self.limiter.aacquire()))

    def see(self) -> int:
        """How many were let go since the last look."""
        granted = [task.result() for task in self.line if task.done()]
        self.line = [task for task in self.line if not task.done()]
        self.held += granted
        return len(granted)

    def give_back(self, verdict: Verdict = Verdict.SUCCESS) -> None:
        """The oldest request is answered."""
        self.stage.call(self.limiter.release, self.held.pop(0), verdict)

    def go_idle(self) -> None:
        """Nobody waits any more, and all is answered."""
        for task in self.line:
            task.cancel()
        self.stage.settle()
        self.line = []
        while self.held:
            self.give_back(Verdict.IGNORED)

    def renew(self) -> None:
        """What its thread does once a second."""
        self.shares.renew()
        self.stage.settle()

    def leave(self) -> None:
        """Its run ends well."""
        self.shares.leave(self.leased)
        self.shares.close()

    def die(self) -> None:
        """kill -9: nothing is given back, but the kernel takes its lock."""
        self.shares._lease.unlock()
        let_go(self.shares._db)
        for task in self.line:
            task.cancel()
        self.line, self.held = [], []
        self.stage.settle()
