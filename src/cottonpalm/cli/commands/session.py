"""One run from its first row to the last line of its summary, and the exit code that tells the shell how it went."""

from __future__ import annotations

import gc
import os
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from cottonpalm import clock
from cottonpalm.chain.questions import question_of
from cottonpalm.chain.traits import output_types
from cottonpalm.cli.base_url import diagnosis
from cottonpalm.cli.chains.build import fields_of
from cottonpalm.cli.chains.models import check_model
from cottonpalm.cli.commands.going_on import going_on
from cottonpalm.cli.commands.status import TROUBLE
from cottonpalm.cli.files import output_file
from cottonpalm.cli.options.keywords import keywords_of, lane_of
from cottonpalm.cli.plugins import observers_of
from cottonpalm.cli.problems import Code, Problem, shown
from cottonpalm.cli.readers.open_rows import reading_of
from cottonpalm.cli.readers.rows import RowFields
from cottonpalm.cli.screen import summary, wording
from cottonpalm.cli.signals import Signals
from cottonpalm.cli.streamed import outcomes_of
from cottonpalm.cli.writers.open_output import CsvForm, is_table, make_output
from cottonpalm.cli.writers.output import AllSlots, RunSlots
from cottonpalm.cli.writers.tables import Fields
from cottonpalm.config import Budget
from cottonpalm.engine.shared import LENT
from cottonpalm.errors import RunStopped, StoreError
from cottonpalm.events import Binding, Unreachable
from cottonpalm.observers.terminal.coming import ComingRows
from cottonpalm.observers.words.formatting import count
from cottonpalm.observers.words.prompts import on_prompts
from cottonpalm.processor import BatchProcessor
from cottonpalm.protocols import OK
from cottonpalm.settings import PLENTY
from cottonpalm.stores import shown as store_shown
from cottonpalm.stores.codec.records import unpack
from cottonpalm.types import pico

if TYPE_CHECKING:
    from cottonpalm.cli.chains.build import Built
    from cottonpalm.cli.commands.where import Where
    from cottonpalm.cli.options.spec import RunSpec
    from cottonpalm.cli.readers.rows import InputRows
    from cottonpalm.cli.readers.stored_rows import StoredInput
    from cottonpalm.cli.screen.screen import Screen
    from cottonpalm.cli.store.held_store import HeldStore
    from cottonpalm.cli.writers.output import Output
    from cottonpalm.events import Event
    from cottonpalm.observers.event_lines import EventLines
    from cottonpalm.observers.terminal.progress import Progress
    from cottonpalm.run import Run
    from cottonpalm.types import Outcome

FACTS_EVERY_S: Final = 5.0
FACTS: Final = "facts"  # what `status` shows beside the counts
_AS_ASKED: Final = ("detached", "cancelled")  # reasons to stop that were asked for


class Session:
    """Holds together what one command works with."""

    def __init__(
        self, job: RunSpec, where: Where, screen: Screen, rows: InputRows | StoredInput, store: HeldStore
    ) -> None:
        self._job, self._where, self._screen = job, where, screen
        self._rows, self._store = rows, store
        self._tally = summary.Tally()
        self._broken: Problem | None = None  # the output cannot be written any more
        self._unread: Problem | None = None  # the input cannot be read any more
        self._facts_due_s = 0.0
        self._left_out = 0  # answers of the run that are of no row of the input
        self._fields: list[str] | None = None  # of answers that are objects
        self._named: Fields | None = None  # of them, those that the user named for a table

    @property
    def name(self) -> str:
        """The run's."""
        return self._where.run

    def forget(self) -> None:
        """The run begins anew, and replaces the output that it wrote before."""
        self._where = replace(self._where, fresh=True)

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
        processor = self._processor(built, progress)
        self._tally = summary.Tally(question_of([built.chain, *built.fallbacks]))
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
                self._where.shard(run.stop)
            if progress is not None:
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
            made._builder.accounts.purse = lent.purse  # noqa: SLF001 - no user has one
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
                self,
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
        self._fields = fields_of(self._job, built)
        if self._fields and self._job.columns is not None and is_table(self._job.output):
            self._named = Fields(self._fields)
        output = make_output(
            self._job.output,
            self._rows,
            lambda record, index: unpack(record, index, types),
            self._store.kept,
            fields=self._fields,
            overwrite=overwrite,
            csv=CsvForm(self._job.guard_formulas, self._job.bom, reading_of(self._job).delimiter),
        )
        with closing(output):
            stopped = self._read(run, output, ComingRows() if progress is None else progress.coming)
            if progress is not None:
                progress.close()
            self._finish(run, output)
            return self._told(run, stopped, signals.code)

    def see(self, event: Event) -> None:
        """Note at once, as an observer, that the run reaches no server, so that `status` can show it.

        Before the first row is done, perhaps for hours, note also how many rows there are.
        """
        if isinstance(event, Unreachable):
            self._store.kept.set_meta(**{TROUBLE: event.reason})
        elif isinstance(event, Binding) and not self._tally.rows:
            self._store.kept.set_meta(
                **{FACTS: {**self._store.kept.meta().get(FACTS, {}), **self._rows_known()}}
            )

    def _is_out(self) -> bool:
        return any(batch.out for batch in self._store.batches(self._where.run))

    def _rows_known(self) -> dict[str, Any]:
        if self._where.cancel and "total" in self._store.kept.meta().get(FACTS, {}):
            return {}  # it reads the first rows alone, and would only guess anew
        total, exact = self._rows.total() or (None, False)
        return {"total": total, "exact": exact, "columns": self._rows.columns}

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
        if self._broken is None:
            try:
                output.write(outcome, slot)
            except Problem as problem:
                self._broken = problem  # what is in flight is finished and stored all the same
                run.stop("interrupted")
        if clock.now() >= self._facts_due_s:
            self._note(run)

    def _note(self, run: Run, code: Code | None = None) -> None:
        stats = run.stats
        seconds = max(clock.now() - stats.started, 1e-9)
        done = stats.ok + stats.failed
        facts = {**self._rows_known(), "code": code}
        facts["fields"], facts["priced"] = self._fields, stats.cost_known
        facts["left_out"] = self._left_out
        if done:
            facts["rate"] = round(done / seconds, 3)
            run.keep_report()
        facts = {**self._store.kept.meta().get(FACTS, {}), **facts}
        self._store.kept.set_meta(**{FACTS: facts, TROUBLE: stats.trouble})
        self._facts_due_s = clock.now() + FACTS_EVERY_S

    # -- the end ------------------------------------------------------------------------------------------------------

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

    def _told(self, run: Run, stopped: RunStopped | None, signal: Code | None) -> Code:
        stats = run.stats
        mine = RunSlots(run).marked(self._store.kept.last_slot())
        counts = summary.counts_of(self._store.kept, mine)
        code = self._code(stopped, signal, counts.failed)
        self._say_left_out(counts)
        self._note(run, code)
        self._say_why(stopped, signal)
        if not self._tally.answers and (said := self._wrong_address(stopped)) is not None:
            self._screen.error(said)
        elif not self._tally.answers and stats.unreached == "proxy":
            self._screen.error(
                "requests go by a proxy: mend HTTPS_PROXY and HTTP_PROXY, or name the server in NO_PROXY"
            )
        elif not self._tally.answers and stats.unreached == "refused":
            self._screen.error(
                "nobody listens there: start the server, or name the one that runs with --base-url"
            )
        detached = stopped is not None and stopped.reason in _AS_ASKED
        over = not detached and code in (Code.OK, Code.SOME_FAILED)
        resume = None if over else going_on(self._where, self._job, stopped)
        summed = self._summary(run, counts, resume, clock.now() - stats.started)
        self._screen.summary(replace(summed, report=self._page()))
        if self._screen.verbose:
            self._screen.report(run.report.text())
        return code

    def _wrong_address(self, stopped: RunStopped | None) -> str | None:
        failure = self._tally.first_failed or str(stopped or "")
        provider, _ = check_model(self._job.model or "local")
        return diagnosis(self._job.base_url, failure, provider)

    def _say_left_out(self, counts: summary.Counts) -> None:
        """Say, once, that the store holds answers that the file does not: their rows left the input, or changed."""
        told = self._left_out = self._store.kept.meta().get(FACTS, {}).get("left_out", 0)
        if self._job.limit is not None or not self._rows.ended or output_file.is_stream(self._job.output):
            return
        self._left_out = self._store.kept.counts().get(OK, 0) - counts.ok
        if self._left_out > told and self._broken is None:
            source = "standard input" if self._job.input == "-" else shown(self._job.input)
            export = summary.command_on("export", self._where.run, self._where.store)
            one = self._left_out == 1
            belong, was, them = (
                ("belongs to a row", "it was", "it") if one else ("belong to rows", "they were", "them")
            )
            self._screen.say(
                f"note: {count(self._left_out, 'answer')} of run {self._where.run} {belong} that {source} does not "
                f"hold as {was} asked; the store keeps {them} ({export} --all -o FILE)"
            )

    def _page(self) -> str | None:
        """Write the report, where one is asked for; its name."""
        page, where = self._where.page, self._where
        if page is None:
            return None
        from cottonpalm.cli.commands.report import write_page
        from cottonpalm.cli.stories import story_of
        from cottonpalm.observers.page.run_page import page_of

        story = story_of(self._store, where.run, where.store, ours=True)
        try:
            write_page(page, page_of(story, written=clock.wall()))
        except Problem as problem:
            self._screen.error(f"{problem}; the results are safe")
            return None
        return shown(page)

    def _events(self) -> EventLines | None:
        if self._where.events is None:
            return None
        from cottonpalm.cli.commands.report import open_events
        from cottonpalm.observers.event_lines import EventLines

        return EventLines(open_events(self._where.events))

    def _say_why(self, stopped: RunStopped | None, signal: Code | None) -> None:
        if self._broken is not None:
            self._screen.error(f"{self._broken}; the results are safe in {store_shown(self._where.store)}")
        elif self._unread is not None:
            self._screen.error(f"{self._unread}; the rows read before are done")
        elif stopped is not None and stopped.reason in _AS_ASKED:
            self._screen.say(wording.why(stopped).partition(": ")[2])
        elif stopped is not None and signal is None:
            self._screen.error(wording.why(stopped))
        elif stopped is None and not self._tally.rows:
            self._screen.say(f"nothing to do: run {self._where.run} has done all its rows already")

    def _code(self, stopped: RunStopped | None, signal: Code | None, failed: int) -> Code:
        if signal is not None:
            return signal
        if self._broken is not None:
            return Code.STOPPED
        if self._unread is not None:
            return Code.USAGE
        if stopped is not None and stopped.reason in _AS_ASKED:
            return Code.OK
        if stopped is not None:
            return Code.INTERRUPTED if stopped.reason == "interrupted" else Code.STOPPED
        return Code.SOME_FAILED if failed else Code.OK

    def _summary(
        self, run: Run, counts: summary.Counts, resume: str | None, seconds: float
    ) -> summary.Summary:
        where, stats, known = self._where, run.stats, self._rows.total()
        info = self._store.info(where.run)
        left = max(0, known[0] - counts.ok - counts.failed) if known is not None and known[1] else None
        return summary.Summary(
            name=where.run,
            counts=counts,
            left=left,
            tally=self._tally,
            seconds=seconds,
            used=summary.used_by(run, self._tally),
            cost_pico=summary.cost_of(stats),
            cost_whole=stats.cost_known,
            cost_total_pico=info.cost_pico if info else None,
            saved_pico=pico(stats.cache.saved_usd) if stats.cache.saved_known else None,
            uncertain_pico=info.uncertain_pico if info else 0,
            results=self._results(),
            retry=summary.command_on("retry", where.run, where.store) if counts.failed else None,
            resume=resume,
            prompt=on_prompts(run.report),
            trouble=stats.trouble,
            streamed=where.stream,
            advice=() if self._screen.verbose else summary.advice_in(run.report),
        )

    def _results(self) -> str:
        if self._broken is not None:
            return f"in {store_shown(self._where.store)} alone"
        if self._job.output == "-":
            return f"standard output, and in {store_shown(self._where.store)}"
        return shown(self._job.output)
