"""Workers as processes of this machine. They end with the run, and with its process, however that ends."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cottonpalm.engine.executors.workers.links import WorkerLost, cannot_travel
from cottonpalm.engine.executors.workers.pipe import Pipe
from cottonpalm.errors import ConfigError
from cottonpalm.programs import command

if TYPE_CHECKING:
    from cottonpalm.engine.executors.workers.links import Begin, Heard, Order

PROGRAM: Final = "cottonpalm.engine.worker_process"


class ProcessLink:
    """The way to one worker process. See `links.Link`."""

    def __init__(self, process: subprocess.Popen[bytes], pipe: Pipe) -> None:
        self.process, self._pipe = process, pipe

    async def begin(self, begin: Begin) -> None:
        """Tell it what to do."""
        await self._pipe.send(begin)

    async def tell(self, order: Order) -> None:
        """See `links.Link`."""
        try:
            await self._pipe.send(order)
        except OSError as exc:
            raise WorkerLost(f"worker process {self.process.pid} is gone ({exc})") from exc
        except Exception as exc:
            raise cannot_travel(order, exc) from exc

    async def hear(self) -> Heard:
        """See `links.Link`."""
        try:
            heard = await self._pipe.receive()
        except (EOFError, OSError) as exc:
            raise WorkerLost(f"worker process {self.process.pid} is gone") from exc
        if isinstance(heard, str):
            raise ConfigError(heard)
        return heard  # type: ignore[no-any-return]

    def kill(self) -> None:
        """See `links.Link`."""
        self.process.kill()  # before it sees the pipe's end, from which it would take the run for gone
        self._pipe.close()
        self.process.wait()


class ProcessPool:
    """So many worker processes. See `links.WorkerPool`."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._folder: str | None = None
        self._links: list[ProcessLink] = []

    def look(self) -> None:
        """See `links.WorkerPool`: it changes only when somebody says so."""

    def place(self, given: tuple[str, int] | None) -> tuple[str, int] | None:
        """See `links.WorkerPool`: the store, or a file of their own, which lasts as long as the run."""
        if given is not None:
            return given
        from cottonpalm.stores import database_of  # noqa: PLC0415 - only where the run has no store

        self._folder = tempfile.mkdtemp(prefix="cottonpalm-")
        url = str(Path(self._folder) / "limits.db")
        try:
            if (database := database_of(url)) is not None:
                database.prepare()
        except BaseException:
            self.close()  # there is no run yet that would
            raise
        return url, 1

    async def open(self, begin: Begin) -> ProcessLink:
        """See `links.WorkerPool`."""
        ours, theirs = socket.socketpair()
        folder = [] if self._folder is None else [self._folder]
        try:
            words = command(PROGRAM, str(theirs.fileno()), *folder)
            process = subprocess.Popen(words, pass_fds=[theirs.fileno()], start_new_session=True)  # noqa: ASYNC220, S603 - our own program
        finally:
            theirs.close()
        link = ProcessLink(process, await Pipe.over(ours))
        self._links.append(link)
        try:
            await link.begin(begin)
        except OSError as exc:
            raise WorkerLost(f"worker process {process.pid} did not begin ({exc})") from exc
        return link

    def close(self) -> None:
        """See `links.WorkerPool`."""
        for link in self._links:
            with suppress(OSError):
                link.kill()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
