"""How a command ends: why its run stopped and what to do, the exit code, the page, the last lines."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from cottonpalm import clock
from cottonpalm.cli.base_url import diagnosis
from cottonpalm.cli.chains.models import check_model
from cottonpalm.cli.commands.going_on import going_on
from cottonpalm.cli.files import output_file
from cottonpalm.cli.problems import Problem
from cottonpalm.cli.screen import summary, wording
from cottonpalm.cli.writers.output import RunSlots
from cottonpalm.errors import StoreError
from cottonpalm.observers.words.formatting import count
from cottonpalm.observers.words.prompts import on_prompts
from cottonpalm.protocols import OK
from cottonpalm.shell import Code, command_on
from cottonpalm.stores import shown as store_shown
from cottonpalm.types import pico
from cottonpalm.urls import shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from cottonpalm.cli.commands.facts import Facts
    from cottonpalm.cli.commands.where import Where
    from cottonpalm.cli.options.spec import RunSpec
    from cottonpalm.cli.readers.rows import InputRows
    from cottonpalm.cli.readers.stored_rows import StoredInput
    from cottonpalm.cli.screen.screen import Screen
    from cottonpalm.cli.store.held_store import HeldStore
    from cottonpalm.errors import RunStopped
    from cottonpalm.run import Run
    from cottonpalm.types import Unreached

_AS_ASKED: Final = ("detached", "cancelled")  # reasons to stop that were asked for
_UNREACHED: Final[Mapping[Unreached, str]] = {
    "proxy": "requests go by a proxy: mend HTTPS_PROXY and HTTP_PROXY, or name the server in NO_PROXY",
    "refused": "nobody listens there: start the server, or name the one that runs with --base-url",
}


class Work(NamedTuple):
    """What one command works with."""

    job: RunSpec
    where: Where
    screen: Screen
    rows: InputRows | StoredInput
    store: HeldStore


def as_far_as_stored(stopped: RunStopped | None) -> AbstractContextManager[None]:
    """Where a run ended because its store takes no more, nothing else of its end fails for that: it is said already."""
    return suppress(StoreError) if stopped is not None and stopped.reason == "store" else nullcontext()


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a command.

    Attributes:
        stopped: why the run ended before its rows did; None: it did not.
        signal: the code of a signal that ended it; None: none came.
        broken: why the output could not be written any more.
        unread: why the input could not be read any more.
    """

    work: Work
    run: Run
    tally: summary.Tally
    facts: Facts
    stopped: RunStopped | None
    signal: Code | None
    broken: Problem | None
    unread: Problem | None

    def told(self) -> Code:
        """Say it all; what the shell is told."""
        work, run = self.work, self.run
        try:
            mine = RunSlots(run).marked(work.store.kept.last_slot())
            counts = summary.counts_of(work.store.kept, mine)
        except StoreError:
            if self.stopped is None or self.stopped.reason != "store":
                raise
            return self._told_without_store()
        code = self._code(counts.failed)
        self._note(code, counts)
        self._say_why()
        if not self.tally.answers and (advice := self._advice()) is not None:
            work.screen.error(advice)
        detached = self.stopped is not None and self.stopped.reason in _AS_ASKED
        over = not detached and code in (Code.OK, Code.SOME_FAILED)
        resume = None if over else going_on(work.where, work.job, self.stopped)
        page, broken = self._page()
        work.screen.summary(replace(self._summary(counts, resume), report=page))
        if work.screen.verbose:
            work.screen.report(run.report.text())
        # a script that waits for the page is told; the run itself ended as it did, and keeps that
        return Code.STOPPED if broken and code in (Code.OK, Code.SOME_FAILED) else code

    def _told_without_store(self) -> Code:
        """The store is away, which is why the run stopped: nobody can count its rows, but where they are is known."""
        self._say_why()
        command = going_on(self.work.where, self.work.job, self.stopped)
        self.work.screen.say(f"to go on, once the store is there: {command}")
        return self._code(0)

    def _note(self, code: Code, counts: summary.Counts) -> None:
        """Note how it ended."""
        left_out = self._left_out(counts)
        with as_far_as_stored(self.stopped):
            self.facts.note(self.run, code=code, left_out=left_out, **self._beside(counts))

    def _advice(self) -> str | None:
        """What to look at, where no row was answered as no request gets where it should; None: they do."""
        failure = self.tally.first_failed or str(self.stopped or "")
        provider, _ = check_model(self.work.job.model or "local")
        if (wrong_address := diagnosis(self.work.job.base_url, failure, provider)) is not None:
            return wrong_address
        return _UNREACHED.get(self.run.stats.unreached)

    def _left_out(self, counts: summary.Counts) -> int:
        """Say, once, that the store holds answers that the file does not: their rows left the input, or changed.

        Returns:
            How many of them the user was told of.
        """
        work = self.work
        told: int = self.facts.noted.get("left_out", 0)
        partly = work.job.limit is not None or not work.rows.ended or self.broken is not None
        if partly or output_file.is_stream(work.job.output):
            return told
        left_out = work.store.kept.counts().get(OK, 0) - counts.ok
        if left_out > told:
            source = "standard input" if work.job.input == "-" else shown(work.job.input)
            export = command_on("export", work.where.run, work.where.store)
            belong, was, them = (
                ("belongs to a row", "it was", "it")
                if left_out == 1
                else ("belong to rows", "they were", "them")
            )
            work.screen.say(
                f"note: {count(left_out, 'answer')} of run {work.where.run} {belong} that {source} does not "
                f"hold as {was} asked; the store keeps {them} ({export} --all -o FILE)"
            )
        return left_out

    def _beside(self, counts: summary.Counts) -> dict[str, int]:
        """How many stored rows are none of the input, and how many of those failed; {}: not known.

        So nobody takes them for rows of the input.
        """
        if not self.work.rows.ended:
            return {}
        stored = self.work.store.kept.counts()
        failed, rows = sum(stored.values()) - stored.get(OK, 0), sum(stored.values())
        return {"beside": rows - counts.ok - counts.failed, "beside_failed": failed - counts.failed}

    def _page(self) -> tuple[str | None, bool]:
        """Write the report, where one is asked for; its name, and whether it could not be written."""
        page, where = self.work.where.page, self.work.where
        if page is None:
            return None, False
        from cottonpalm.cli.commands.report import story_of, write_page
        from cottonpalm.observers.page.run_page import page_of

        story = story_of(self.work.store, where.run, where.store, ours=True)
        try:
            write_page(page, page_of(story, written=clock.wall()))
        except Problem as problem:
            again = command_on("report", where.run, where.store)
            self.work.screen.error(f"{problem}; the results are safe, and {again} -o FILE makes it of them")
            return None, True
        return shown(page), False

    def _say_why(self) -> None:
        if self.broken is not None:
            self.work.screen.error(
                f"{self.broken}; the results are safe in {store_shown(self.work.where.store)}"
            )
        elif self.unread is not None:
            self.work.screen.error(f"{self.unread}; the rows read before are done")
        elif self.stopped is not None and self.stopped.reason in _AS_ASKED:
            self.work.screen.say(wording.why(self.stopped).partition(": ")[2])
        elif self.stopped is not None and self.signal is None and self.work.where.shard is None:
            # the run of all files says it, with the file's name
            self.work.screen.error(wording.why(self.stopped))
        elif self.stopped is None and not self.tally.rows:
            self.work.screen.say(f"nothing to do: run {self.work.where.run} has done all its rows already")

    def _code(self, failed: int) -> Code:
        if self.signal is not None:
            return self.signal
        if self.broken is not None:
            return Code.STOPPED
        if self.unread is not None:
            return Code.USAGE
        if self.stopped is not None and self.stopped.reason in _AS_ASKED:
            return Code.OK
        if self.stopped is not None:
            return Code.INTERRUPTED if self.stopped.reason == "interrupted" else Code.STOPPED
        return Code.SOME_FAILED if failed else Code.OK

    def _summary(self, counts: summary.Counts, resume: str | None) -> summary.Summary:
        run, where, stats, report = self.run, self.work.where, self.run.stats, self.run.report
        known, info = self.work.rows.total(), self.work.store.info(where.run)
        left = max(0, known[0] - counts.ok - counts.failed) if known is not None and known[1] else None
        return summary.Summary(
            name=where.run,
            counts=counts,
            left=left,
            tally=self.tally,
            seconds=report.wall_s,
            used=summary.used_by(run, self.tally),
            cost_pico=summary.cost_of(stats),
            cost_whole=stats.cost_known,
            cost_total_pico=info.cost_pico if info else None,
            saved_pico=pico(stats.cache.saved_usd) if stats.cache.saved_known else None,
            uncertain_pico=info.uncertain_pico if info else 0,
            results=self._results(),
            retry=command_on("retry", where.run, where.store) if counts.failed else None,
            resume=resume,
            prompt=on_prompts(report),
            trouble=stats.trouble,
            streamed=where.stream,
            advice=() if self.work.screen.verbose else summary.advice_in(report),
        )

    def _results(self) -> str:
        if self.broken is not None:
            return f"in {store_shown(self.work.where.store)} alone"
        if self.work.job.output == "-":
            return f"standard output, and in {store_shown(self.work.where.store)}"
        return shown(self.work.job.output)
