"""One run from its first row to the last line of its summary, and the exit code that tells the shell how it went."""

from __future__ import annotations

import gc
import os
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cottonpalm.chain.questions import question_of
from cottonpalm.chain.traits import output_types
from cottonpalm.cli.chains.build import fields_of
from cottonpalm.cli.commands.ending import Ending, as_far_as_stored
from cottonpalm.cli.commands.facts import Facts
from cottonpalm.cli.files import output_file
from cottonpalm.cli.options.keywords import keywords_of, lane_of
from cottonpalm.cli.plugins import observers_of
from cottonpalm.cli.problems import Problem
from cottonpalm.cli.readers.open_rows import reading_of
from cottonpalm.cli.readers.rows import RowFields
from cottonpalm.cli.screen.summary import Tally
from cottonpalm.cli.signals import Signals
from cottonpalm.cli.streamed import outcomes_of
from cottonpalm.cli.writers.open_output import CsvForm, is_table, make_output
from cottonpalm.cli.writers.output import AllSlots, RunSlots
from cottonpalm.cli.writers.tables import Fields
from cottonpalm.config import Budget
from cottonpalm.engine.shared import LENT
from cottonpalm.errors import RunStopped, StoreError
from cottonpalm.observers.terminal.coming import ComingRows
from cottonpalm.processor import BatchProcessor
from cottonpalm.protocols import FAILED
from cottonpalm.settings import PLENTY
from cottonpalm.shell import Code
from cottonpalm.stores.codec.records import unpack

if TYPE_CHECKING:
    from cottonpalm.cli.chains.build import Built
    from cottonpalm.cli.commands.ending import Work
    from cottonpalm.cli.writers.output import Output
    from cottonpalm.observers.event_lines import EventLines
    from cottonpalm.observers.terminal.progress import Progress
    from cottonpalm.run import Run
    from cottonpalm.types import Outcome


class Session:
    """The run of one command."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._job, self._where, self._screen, self._rows, self._store = work
        self._tally: Tally
        self._facts: Facts
        self._broken: Problem | None = None  # the output cannot be written any more
        self._unread: Problem | None = None  # the input cannot be read any more
        self._refused = False  # the store takes no notes of the output, which its end brings up to date
        self._named: Fields | None = None  # of answers that are objects, what the user named for a table

    @property
    def name(self) -> str:
        """The run's."""
        return self._where.run

    def forget(self) -> None:
        """The run begins anew, and replaces the output that it wrote before."""
        self._where = replace(self._where, fresh=True)
        self._work = self._work._replace(where=self._where)

    def run(self, built: Built) -> Code:
        """All of it."""
        if self._where.stream and self._store.batches(self.name):
            raise Problem(
                f"run {self.name} has batches out; leave out --stream, and their answers are fetched"
            )
        to_terminal = self._job.output == "-" and os.isatty(1)
        progress = self._screen.observer(
            self._rows.total, live=not to_terminal, budget_usd=self._job.budget_usd
        )
        self._tally = Tally(question_of([built.chain, *built.fallbacks]))
        self._facts = Facts(self._store, self._rows, self._tally, sample=self._where.cancel)
        processor = self._processor(built, progress)
        gc.freeze()  # LangChain's many objects need not be looked at in any collection
        gc.enable()
        fields = RowFields(self._job.id_field, self._job.priority_field)
        say = self._screen.say if progress is None else progress.say
        with (
            Signals(say) as signals,
            processor.start(
                self._rows,
                ids=fields.ids,
                priorities=fields.priorities,
                skip_stored=not output_file.is_stream(self._job.output),
                stream=self._where.stream,
            ) as run,
        ):
            signals.over(run)
            if self._where.shard is not None:
                self._where.shard(run)
            if progress is not None:
                if not self._where.again:  # else these are asked again
                    progress.failed_before = self._store.kept.counts().get(FAILED, 0)
                progress.watch(lambda: run.stats)
            try:
                return self._follow(run, built, progress, signals)
            except StoreError as error:
                self._screen.error(str(error))
                return Code.STOPPED
            finally:
                run.close()
                if progress is not None:
                    progress.close()

    def _processor(self, built: Built, progress: Progress | None) -> BatchProcessor:
        keywords = keywords_of(self._job, built, self._where.store)
        lent = None if self._where.shard is None else LENT.get()
        if lent is not None and lent.purse is not None:  # how much there is, is the business of the whole run
            keywords["budget"] = Budget(total=PLENTY, max_output_tokens=self._job.max_output_tokens)
        made = self._made(built, keywords, progress)
        if lent is not None:
            accounts = made._builder.accounts  # noqa: SLF001 - no user has a worker's
            accounts.purse, accounts.in_worker = lent.purse, True
        return made

    def _made(self, built: Built, keywords: dict[str, Any], progress: Progress | None) -> BatchProcessor:
        return BatchProcessor(
            built.chain,
            **keywords,
            store=self._store,
            run=self._where.run,
            mode=self._job.mode,  # type: ignore[arg-type]  # the processor checks it
            detach=self._job.detach,
            executor=self._job.executor,  # type: ignore[arg-type]  # the processor checks it
            workers=self._job.workers,
            ray_address=self._job.ray_address,
            deadline=self._job.deadline_s,
            lane=replace(lane_of(self._job), cancel=self._where.cancel),
            observers=[
                self._facts,
                *(seen for seen in (progress, self._events()) if seen is not None),
                *observers_of(self._where.observers),
            ],
        )

    def _follow(self, run: Run, built: Built, progress: Progress | None, signals: Signals) -> Code:
        types = output_types(built.chain, None)
        overwrite = self._where.overwrite or self._where.fresh  # a fresh run's own output was checked before
        if self._job.mode != "live" or not self._is_out():
            # Else `collect` would go on with this command, and not with the one that sent the batches.
            self._store.kept.set_meta(**self._job.as_json())
        self._facts.fields = fields = fields_of(self._job, built)
        if fields and self._job.columns is not None and is_table(self._job.output):
            self._named = Fields(fields)
        output = make_output(
            self._job.output,
            self._rows,
            lambda record, index: unpack(record, index, types),
            self._store.kept,
            fields=fields,
            overwrite=overwrite,
            csv=CsvForm(self._job.guard_formulas, self._job.bom, reading_of(self._job).delimiter),
        )
        with closing(output):
            stopped = self._read(run, output, ComingRows() if progress is None else progress.coming)
            if progress is not None:
                progress.close()
            with as_far_as_stored(stopped):
                self._finish(run, output)
            return Ending(
                self._work,
                run,
                self._tally,
                self._facts,
                stopped=stopped,
                signal=signals.code,
                broken=self._broken,
                unread=self._unread,
            ).told()

    def _events(self) -> EventLines | None:
        if self._where.events is None:
            return None
        from cottonpalm.cli.commands.report import open_events
        from cottonpalm.observers.event_lines import EventLines

        return EventLines(open_events(self._where.events, self._screen.say))

    def _is_out(self) -> bool:
        return any(batch.out for batch in self._store.batches(self._where.run))

    # -- the rows -----------------------------------------------------------------------------------------------------

    def _read(self, run: Run, output: Output, coming: ComingRows) -> RunStopped | None:
        try:
            for outcome in outcomes_of(run, coming):
                if outcome.status != "skipped":
                    self._take(run, output, outcome)
        except RunStopped as stopped:
            return stopped
        except Problem as problem:  # the input could not be read on
            self._unread = problem
        return None

    def _take(self, run: Run, output: Output, outcome: Outcome) -> None:
        slot = run.slot(outcome.index)
        if not outcome.stored:
            self._tally.add(outcome)
            if self._named is not None and outcome.status == "ok":
                self._named.see(outcome.output)
        if self._broken is None and not self._refused:
            try:
                output.write(outcome, slot)
            except Problem as problem:
                self._broken = problem  # what is in flight is finished and stored all the same
                run.stop("interrupted")
            except StoreError:
                # What is in flight is paid for; a store that is full refuses rows too, and they tell.
                self._refused = True
        self._facts.note_if_due(run)

    def _finish(self, run: Run, output: Output) -> None:
        if self._broken is not None:
            return
        try:
            slots = RunSlots(run)
            whole = slots if self._job.limit is None else AllSlots(slots, self._store.kept)
            output.finish(whole, complete=self._rows.ended)
            for note in (*output.notes, *(() if self._named is None else self._named.notes())):
                self._screen.say(f"note: {note}")
        except Problem as problem:
            self._broken = problem
