"""Runs over folders of Parquet files: which files there are, and how a worker does one of them.

Each file is a row of one run, the whole's, and a run of its own in the same store, with a file of its own in the output
folder. A worker reads it, asks, stores and writes; the process that began the run sees only how each file ended.
"""

from __future__ import annotations

import asyncio
import glob
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from socket import gethostname
from typing import TYPE_CHECKING, Any, Final

from cottonpalm import clock
from cottonpalm.cli.commands.parts import run_of
from cottonpalm.cli.commands.run import carry_out
from cottonpalm.cli.commands.where import Where
from cottonpalm.cli.problems import NoRows, Problem
from cottonpalm.cli.screen.screen import Screen
from cottonpalm.cli.screen.wording import ended_by_budget, why
from cottonpalm.cli.store.held_store import existing_store
from cottonpalm.engine.shared import LENT
from cottonpalm.errors import CottonpalmError, RunBusy
from cottonpalm.observers.words.formatting import told
from cottonpalm.shell import Code, command_on
from cottonpalm.stores.sql.lease import EXPIRES_S, machine
from cottonpalm.types import Kind
from cottonpalm.urls import shown

if TYPE_CHECKING:
    from cottonpalm.cli.options.spec import RunSpec
    from cottonpalm.errors import RunStopped
    from cottonpalm.run import Run
    from cottonpalm.types import ErrorRecord

SUFFIXES: Final = (".parquet", ".pq")
MAGIC: Final = frozenset("*?[")
WAIT_S: Final = EXPIRES_S + 5  # for the lease of a worker whose machine vanished
LOOK_S: Final = 1.0


class ShardUnfinished(CottonpalmError):
    """A file whose rows are not all done, or not all well; the same command does the rest."""


class ShardStopped(ShardUnfinished):
    """A file whose run stopped before its end: its key was refused, say, or too many of its rows failed."""


class ShardUnpaid(ShardStopped):
    """A file with rows that what is left of the budget does not cover."""


class ShardFailed(CottonpalmError):
    """A file some rows of which failed for good: `cottonpalm retry` does them again."""


def is_sharded(path: str) -> bool:
    """Whether an input is a folder of Parquet files, or a pattern for their names; an address never is."""
    if "://" in path:
        return False
    if (folder := Path(path)).is_dir():  # one that is named as a file, and holds none of these, is a mistake
        return not folder.suffix or any(name.suffix.lower() in SUFFIXES for name in folder.iterdir())
    return path.lower().endswith(SUFFIXES) and bool(MAGIC & set(path)) and not Path(path).exists()


def shards_of(path: str) -> list[str]:
    """Return the Parquet files of a folder or a pattern, by name.

    Raises:
        Problem: there is none, or two have the same name.
    """
    pattern = f"{glob.escape(path)}/*" if Path(path).is_dir() else path
    found = sorted(name for name in glob.glob(pattern) if name.lower().endswith(SUFFIXES))  # noqa: PTH207 - a pattern may begin anywhere
    if not found:
        raise Problem(
            f"{shown(path)}: no .parquet file is there; name one file, a folder of .parquet files, or "
            "'FOLDER/*.parquet'"
        )
    names = [Path(name).name for name in found]
    if len(set(names)) < len(names):
        doubled = next(name for name in names if names.count(name) > 1)
        raise Problem(f"{shown(path)}: two files are named {doubled}; each needs a name of its own")
    return found


def unread_folders(path: str, output: str) -> list[str]:
    """Return the folders in an input folder that hold Parquet files too, but for the output: nothing reads those."""
    if not (folder := Path(path)).is_dir():
        return []
    inner = (part for part in folder.iterdir() if part.is_dir() and not part.name.startswith((".", "_")))
    return sorted(
        part.name
        for part in inner
        if part.suffix.lower() not in SUFFIXES
        and part.resolve() != Path(output).resolve()
        and any(file.suffix.lower() in SUFFIXES for file in part.rglob("*"))
    )


@dataclass(frozen=True)
class ShardTask:
    """Does one file after the other, as a chain whose rows are files. It travels to the workers.

    Attributes:
        job: the whole's; input and output are folders.
        store: where the runs are.
        run: the whole's name.
        again: also what failed for good.
        overwrite: files in the output folder that are not ours may be replaced.
        machine: where the command runs: a store in a file is there, and nowhere else.
    """

    job: RunSpec
    store: str
    run: str
    again: bool = False
    overwrite: bool = False
    machine: str = field(default_factory=machine)

    async def __call__(self, shard: dict[str, Any]) -> dict[str, Any]:
        """Do the file `shard["input"]`; return how its rows ended.

        Raises:
            ShardUnfinished: it was interrupted, or has rows that can be tried again.
            ShardStopped: its run stopped by itself.
            ShardUnpaid: so it did, by the budget.
            ShardFailed: it has rows that failed for good.
            Problem: it cannot be read or written.
        """
        if self.machine != machine() and not self.store.startswith(("postgres://", "postgresql://")):
            raise Problem(
                f"a worker runs on another machine ({gethostname()}) than the store {self.store}, which is a file: say"
                " --store postgresql://… for a cluster of several machines"
            )
        stopping = _Stop()
        lent = LENT.get()
        if lent is not None:
            lent.stops.add(stopping)
        try:
            code = await asyncio.to_thread(self._carried_out, shard["input"], stopping)
        except NoRows:  # a part that whoever divided the rows left empty
            return {"ok": 0, "failed": 0}
        finally:
            if lent is not None:
                lent.stops.discard(stopping)
        return self._ended(shard["input"], code, stopping.stopped)

    def _carried_out(self, shard: str, stopping: _Stop) -> Code:
        name, file = run_of(self.run, shard), Path(shard).name
        job = replace(self.job, input=shard, output=str(Path(self.job.output) / file), executor="local")
        job = replace(job, workers=None, ray_address=None)
        where = Where(
            self.store, name, again=self.again, overwrite=self.overwrite, argv=("--run",), shard=stopping.over
        )
        given_up = clock.now() + WAIT_S
        while True:
            try:
                return carry_out(job, where, Screen(quiet=True))
            except RunBusy:
                if stopping.said.is_set() or clock.now() > given_up:
                    raise
                stopping.said.wait(LOOK_S)

    def _ended(self, shard: str, code: Code, stopped: RunStopped | None) -> dict[str, Any]:
        name = run_of(self.run, shard)
        with existing_store(self.store) as store:
            info = store.known(name)
        if code is Code.OK:
            return {"ok": info.ok, "failed": info.failed}
        said, more = f"{info.ok:,} rows ok, {info.failed:,} failed", command_on("status", name, self.store)
        if code is Code.SOME_FAILED and not info.retryable:
            raise ShardFailed(f"{said}: {more}")
        if stopped is None or stopped.reason == "interrupted":
            raise ShardUnfinished(f"{said}: {more}")
        kind = ShardUnpaid if ended_by_budget(stopped) else ShardStopped
        raise kind(f"{said}; {why(stopped).removeprefix('the run ')}: {more}")


def why_not_done(error: ErrorRecord) -> str:
    """Say why a file is not done; that it has rows which are not is said in words of its own."""
    counted = error.type in {
        each.__name__ for each in (ShardUnfinished, ShardStopped, ShardUnpaid, ShardFailed)
    }
    return error.message if counted else told(error)


def is_unpaid(error: ErrorRecord) -> bool:
    """Whether this is what a file ended with, some rows of which the budget did not cover."""
    return error.type == ShardUnpaid.__name__


def is_stopped(error: ErrorRecord) -> bool:
    """Whether this is what a file ended with whose run stopped by itself, by the budget or otherwise."""
    return error.type in {ShardStopped.__name__, ShardUnpaid.__name__}


def word_on(exc: BaseException) -> Kind | None:
    """Say of a file that did not end well whether the same command does it again."""
    if isinstance(exc, ShardFailed):
        return Kind.FAIL_ROW
    return Kind.TRANSIENT if isinstance(exc, ShardUnfinished | RunBusy) else None


class _Stop:
    """Passes on that nothing more is to begin, also to a run that is not there yet."""

    def __init__(self) -> None:
        self.said = threading.Event()
        self._run: Run | None = None

    def over(self, run: Run) -> None:
        """This is the run."""
        self._run = run
        if self.said.is_set():
            run.stop()

    def __call__(self) -> None:
        self.said.set()
        if self._run is not None:
            self._run.stop()

    @property
    def stopped(self) -> RunStopped | None:
        """Why the run stopped early; None where it did not."""
        return None if self._run is None else self._run.stopped
