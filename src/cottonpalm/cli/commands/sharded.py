"""`cottonpalm run FOLDER -o FOLDER`: each Parquet file is done by a worker; the rows do not pass through here."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
from langchain_core.runnables import RunnableLambda

from cottonpalm import clock
from cottonpalm.chain import fingerprint
from cottonpalm.cli.chains.build import build
from cottonpalm.cli.commands.parts import parts_of, rows_of_input, run_of
from cottonpalm.cli.commands.run import released
from cottonpalm.cli.commands.shards import (
    SUFFIXES,
    ShardTask,
    is_sharded,
    is_stopped,
    is_unpaid,
    shards_of,
    unread_folders,
    why_not_done,
    word_on,
)
from cottonpalm.cli.options.keywords import budget_of
from cottonpalm.cli.problems import NoRows, Problem, extra, os_problem
from cottonpalm.cli.readers.open_rows import rows_of
from cottonpalm.cli.screen import summary, wording
from cottonpalm.cli.signals import Signals
from cottonpalm.cli.store.held_store import HeldStore
from cottonpalm.cli.writers.open_output import check_name
from cottonpalm.config import AdaptiveConcurrency
from cottonpalm.errors import ChainChanged, RunStopped, StoreError
from cottonpalm.observers.words.formatting import count, duration, money
from cottonpalm.processor import BatchProcessor
from cottonpalm.protocols import FAILED, OK, RETRYABLE
from cottonpalm.shell import FACTS, Code, command_on
from cottonpalm.stores import open_store
from cottonpalm.stores.codec.records import unpack
from cottonpalm.types import pico
from cottonpalm.urls import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cottonpalm.cli.commands.where import Where
    from cottonpalm.cli.options.spec import RunSpec
    from cottonpalm.cli.readers.rows import InputRows
    from cottonpalm.cli.screen.screen import Screen
    from cottonpalm.observers.terminal.progress import Progress
    from cottonpalm.protocols import RunInfo
    from cottonpalm.run import Run
    from cottonpalm.types import ErrorRecord, Outcome

ANY_TIME_S: Final = 1e9
FIRST: Final = 5  # files whose failure is shown
IN_VAIN: Final = 4  # after so many files, one after the other, whose runs stopped, no other is begun
# files of a worker: one ends, another goes on
AT_ONCE: Final = AdaptiveConcurrency(initial=2, minimum=2, maximum=2)
__all__ = ["is_sharded", "run_sharded"]


def run_sharded(job: RunSpec, where: Where, screen: Screen) -> Code:
    """Do all files of a folder that are not done, and say how it went.

    Raises:
        Problem, ConfigError, StoreError: nothing was called yet; the message says what to mend.
    """
    shards = shards_of(job.input)
    _check(job, where)
    job = replace(job, input=str(Path(job.input).absolute()), output=str(Path(job.output).absolute()))
    store_url = where.store if "://" in where.store else str(Path(where.store).absolute())
    described = _described(job, shards, quiet=screen.quiet)
    _make_folder(job.output)
    with ExitStack() as stack:
        store = HeldStore(open_store(store_url), store_url, fresh=where.fresh, again=where.again)
        stack.callback(store.release)
        info = store.info(where.run)
        if info is not None and not where.named:
            check_name(info, job.input, job.output, replace=where.fresh or where.overwrite)
        whole = Whole(job, replace(where, store=store_url), store, screen, list(_rows(shards)))
        try:
            return released(store, whole.run(described), screen)
        except ChainChanged as changed:
            raise Problem(wording.here(str(changed))) from changed


def _check(job: RunSpec, where: Where) -> None:
    """Refuse what cannot be done file by file."""
    if job.executor == "local":
        raise Problem(
            f"{shown(job.input)} is more than one file: say --executor processes or --executor ray, whose workers"
            " do one file after the other"
        )
    if job.output == "-" or Path(job.output).suffix.lower() in SUFFIXES or Path(job.output).is_file():
        raise Problem(f"-o {shown(job.output)}: name a folder, which gets a file for each of the input's")
    if Path(job.output).absolute() == Path(job.input).absolute():
        raise Problem(f"-o {shown(job.output)} is the input's folder; name another one")
    refused = {
        "--limit": job.limit is not None,
        "--mode": job.mode != "live",
        "--stream": where.stream,
        "--report": where.page is not None,
        "--events": where.events is not None,
        "--dashboard": where.live is not None,
    }
    for flag, given in refused.items():
        if given:
            raise Problem(
                f"{flag} is for the rows of one file: leave it out, or name one file of {shown(job.input)}"
            )
    extra("pyarrow", "parquet", "a folder of Parquet files")


def _described(job: RunSpec, shards: Sequence[str], *, quiet: bool) -> str:
    """Build the chain for the first file with rows, so that mistakes are said before any call; return what it is."""
    first, rows = _first_with_rows(job, shards)
    with closing(rows):
        built = build(first, rows, quiet=quiet)
        parts = [fingerprint.describe(chain) for chain in (built.chain, *built.fallbacks)]
    return hashlib.sha256(orjson.dumps(parts, default=str, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


def _first_with_rows(job: RunSpec, shards: Sequence[str]) -> tuple[RunSpec, InputRows]:
    for shard in shards:
        first = replace(job, input=shard)
        with suppress(NoRows):
            return first, rows_of(first)
    raise NoRows(f"no file of {shown(job.input)} holds a row: nothing to do")


def _make_folder(path: str) -> None:
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise os_problem("make the folder", path, error) from error


def _rows(shards: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What a file is known by: one that has changed is looked at again."""
    for shard in shards:
        status = Path(shard).stat()
        yield {"input": str(Path(shard).absolute()), "bytes": status.st_size, "changed": status.st_mtime_ns}


class Whole:
    """One command over several files."""

    def __init__(
        self, job: RunSpec, where: Where, store: HeldStore, screen: Screen, rows: list[dict[str, Any]]
    ) -> None:
        self._job, self._where, self._store, self._screen, self._rows = job, where, store, screen, rows
        self._failed: list[str] = []
        self._stopped = False  # there are files whose runs stopped
        self._in_vain = 0  # files whose runs stopped, since one ended otherwise

    def run(self, described: str) -> Code:
        """Do the files that are not done."""
        begun, stopped = clock.now(), None
        progress = self._screen.observer(
            lambda: (len(self._rows), True), live=True, budget_usd=self._job.budget_usd
        )
        processor = self._processor(described, progress)
        with (
            Signals(self._screen.say if progress is None else progress.say) as signals,
            processor.start(self._rows, ids=lambda row: Path(row["input"]).name, skip_stored=True) as run,
        ):
            signals.over(run)
            self._store.kept.set_meta(**self._job.as_json())
            self._note()
            if self._where.fresh:
                self._forget()
            if progress is not None:
                progress.watch(lambda: run.stats)
            try:
                self._take(run)
            except RunStopped as exc:
                stopped = exc
            finally:
                if progress is not None:
                    progress.close()
            files = self._files()
            code = self._code(stopped, signals.code, files)
            with suppress(StoreError):  # a store that takes no more is told by the files that it refuses
                self._note(code, files)
            self._say_end(run, code, stopped, clock.now() - begun, files)
        return code

    def _processor(self, described: str, progress: Progress | None) -> BatchProcessor:
        job, where = self._job, self._where
        task = ShardTask(job, where.store, where.run, where.again, where.overwrite or where.fresh)
        made = BatchProcessor(
            RunnableLambda(task.__call__),
            concurrency=AT_ONCE,
            retry=0,
            classify=word_on,
            max_failures=1.0,
            budget=budget_of(job),
            stall_timeout=ANY_TIME_S,  # each file's own run watches its requests
            store=self._store,
            run=where.run,
            fingerprint=described,
            executor=job.executor,  # type: ignore[arg-type]  # the processor checks it
            workers=job.workers,
            ray_address=job.ray_address,
            observers=[] if progress is None else [progress],
        )
        builder = made._builder  # noqa: SLF001 - what no user may set
        builder.spare = 0  # a file that waits at one worker would be begun by no other
        builder.tells_edited = False  # of a file that has changed, only what is new in it is asked
        return made

    def _take(self, run: Run) -> None:
        for outcome in run:
            if outcome.status == "ok":
                self._in_vain = 0
            if outcome.error is not None:
                name = Path(self._rows[outcome.index]["input"]).name
                self._failed.append(f"{name}: {why_not_done(outcome.error)}")
                self._see_why(run, outcome.error)

    def _see_why(self, run: Run, error: ErrorRecord) -> None:
        """Begin no other file where one after the other stops: a key that is refused, say, is so for all."""
        stopped, unpaid = is_stopped(error), is_unpaid(error)
        self._stopped = self._stopped or stopped
        self._in_vain = self._in_vain + 1 if stopped else 0
        if self._in_vain >= IN_VAIN:
            why = "the budget is spent" if unpaid else f"{IN_VAIN} files stopped, one after the other"
            run._engine.stop("budget" if unpaid else "fatal", why)  # noqa: SLF001 - no user says why he stops it

    def _forget(self) -> None:
        """Forget what the files hold, once: a worker that takes over from a dead one must not."""
        for part in self._parts():
            self._store.remove(part.name)

    def _parts(self) -> list[RunInfo]:
        names = {run_of(self._where.run, row["input"]) for row in self._rows}
        return [info for info in self._store.runs() if info.name in names]

    def _files(self) -> dict[str, int]:
        """How each file of the folder ended, by its run's name, as it is now; not those that have changed or left."""
        kept, now = self._store.kept, {row["input"]: row for row in self._rows}
        slots = [slot.slot for slot in summary.slots_of(kept)]
        ended = (unpack(record, slot, {}) for slot, record in kept.read(slots).items())
        return {
            run_of(self._where.run, outcome.input["input"]): _status(outcome)
            for outcome in ended
            if outcome.input == now.get(outcome.input["input"])
        }

    def _note(self, code: Code | None = None, files: Mapping[str, int] | None = None) -> None:
        """Note for `status` how many files there are, and what the store holds besides."""
        ended = self._files() if files is None else files
        beside = sum(self._store.kept.counts().values()) - len(ended)
        facts = {"total": len(self._rows), "exact": True, "beside": beside, "code": code}
        self._store.kept.set_meta(**{FACTS: facts})

    def _code(self, stopped: RunStopped | None, signal: Code | None, files: Mapping[str, int]) -> Code:
        if signal is not None:
            return signal
        if stopped is not None:
            return Code.INTERRUPTED if stopped.reason == "interrupted" else Code.STOPPED
        if self._stopped:
            return Code.STOPPED
        return Code.OK if all(status == OK for status in files.values()) else Code.SOME_FAILED

    def _say_end(
        self, run: Run, code: Code, stopped: RunStopped | None, seconds: float, files: Mapping[str, int]
    ) -> None:
        say, parts = self._screen.say, self._parts()
        for line in self._failed[:FIRST]:
            self._screen.error(line)
        if stopped is not None and stopped.reason != "interrupted":
            self._screen.error(wording.why(stopped))
        rows = [rows_of_input(part, done=files.get(part.name) in {OK, FAILED}) for part in parts]
        ok, failed = sum(counts.ok for counts in rows), sum(counts.failed for counts in rows)
        cost, uncertain = sum(part.cost_pico for part in parts), run.stats.uncertain_usd
        say(
            f"{self._where.run}: {count(ok + failed, 'row')}: {ok:,} ok, {failed:,} failed;"
            f" {count(len(self._rows), 'file')}: {_ended(list(files.values()), len(self._rows))}"
        )
        say(f"  time     {duration(seconds)}")
        if cost:
            say(f"  cost     {money(cost)}")
        if uncertain:
            say(f"  uncertain {money(pico(uncertain))}: requests whose cost nobody reported")
        say(f"  results  {shown(self._job.output)}")
        self._say_beside()
        if code is Code.SOME_FAILED:
            self._screen.command(command_on("retry", self._where.run, self._where.store))
        elif code is not Code.OK:
            self._screen.command(summary.resume_command(list(self._where.argv)))

    def _say_beside(self) -> None:
        """Say what the output folder holds of files that have left the input, and which folders were not read.

        Whoever reads the output folder reads the first too, and misses the others.
        """
        info, store = self._store.info(self._where.run), self._store
        ours = {run_of(self._where.run, row["input"]) for row in self._rows}
        left = (
            [] if info is None else [part for part in parts_of(info, store.runs()) if part.name not in ours]
        )
        names = [
            Path(part.name).name for part in left if (Path(self._job.output) / Path(part.name).name).exists()
        ]
        if names:
            self._screen.say(
                f"note: {shown(self._job.output)} also holds {_first_of(names)}, of what"
                f" {shown(self._job.input)} does not hold any more"
            )
        if unread := unread_folders(self._job.input, self._job.output):
            self._screen.say(
                f"note: files in folders within {shown(self._job.input)} are not read: {_first_of(unread)}"
            )


def _first_of(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1:,} more"


def _ended(statuses: Sequence[int], files: int) -> str:
    """How many files are done, have failures that the same command leaves alone, or are left for it."""
    done, failed = statuses.count(OK), statuses.count(FAILED)
    left = files - done - failed
    said = f"{done:,} done" + (f", {failed:,} with failures" if failed else "")
    return said + (f", {left:,} left" if left else "")


def _status(outcome: Outcome) -> int:
    if outcome.error is None:
        return OK
    return RETRYABLE if outcome.error.retryable else FAILED
