"""What the end of a row means for its run, and what else makes a run stop before its last row."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from cottonpalm.engine.unpaid import Unpaid
from cottonpalm.errors import CannotStore, RunStopped, StoreError
from cottonpalm.protocols import OK
from cottonpalm.providers.raised import BudgetReached, TooDear
from cottonpalm.runtime.signal_handlers import raised_by_handler
from cottonpalm.stats import FirstRows, Tally, goes_on
from cottonpalm.stores.codec.records import pack
from cottonpalm.types import ErrorRecord, Fault, Item, Kind, Outcome, numbered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cottonpalm.engine.classifier import Classifier
    from cottonpalm.engine.input.reader import Reader
    from cottonpalm.engine.job import Job
    from cottonpalm.engine.own_loop import OwnLoop
    from cottonpalm.protocols import RunStore

log = logging.getLogger("cottonpalm")
FIRST: Final = 10  # if one of so many first answers cannot be stored, the run stops; later its row fails


class Stopping:
    """Counts how the rows of a run end, and stops it. The first reason counts; all but `out_of_money` is on its loop.

    Attributes:
        stopped: why no more rows start; None: they do.
        why: the same in a few words; "": they do.
        tally: how the rows ended.
        unstored: answers that arrived, but that the store could not make durable.
        on_stop: called when the run stops.
        on_row: called with every row that was asked; None: nobody looks.
        on_left: called with what there is to say of the first row that the budget does not cover.
        takes_paid: called when no money is left, with why and its cause: whether answers that are paid for are taken
            first. Then it stops the run once they are.
        under_way: when each row began that is not over.
        unpaid: the rows that the budget does not cover; None: there are none yet.
    """

    under_way: Callable[[], Iterable[float]]

    def __init__(
        self, job: Job, reader: Reader, judge: Classifier, store: RunStore | None, loop: OwnLoop
    ) -> None:
        self.stopped: RunStopped | None = None
        self.tally = Tally(job.settings.max_failures)
        self.unstored: list[Outcome] = []
        self.on_stop: Callable[[], None] = lambda: None
        self.on_row: Callable[[Item, Outcome], None] | None = None
        self.on_left: Callable[[str], None] = lambda _: None
        self.takes_paid: Callable[[str, BaseException | None], bool] = lambda _why, _cause: False
        self._job, self._reader, self._judge, self._store, self._loop = job, reader, judge, store, loop
        self._store_error: BaseException | None = None  # the first
        self._kept_in: dict[str, None] = {}  # files that hold what is unstored
        self.unpaid: Unpaid | None = None
        self._first = None if goes_on(job.settings.max_failures) else FirstRows()
        self.why = ""

    def stop(self, reason: str, why: str, cause: BaseException | None = None) -> None:
        """Start no more rows; those in flight go on."""
        if self.stopped is not None or self._loop.finished:
            return
        self.why = why
        self.stopped = RunStopped(self._told(), reason=reason, cause=cause)
        self.on_stop()

    def over(self) -> None:
        """No row is under way any more."""
        if self.stopped is not None:
            self.stopped.args = (self._told(),)

    @property
    def reason(self) -> str:
        """Why the run ended, if it did not end well."""
        return "error" if self.stopped is None else self.stopped.reason

    def _told(self) -> str:
        """Why the run stopped, and after how many rows: those in flight at that moment count once they are done."""
        done = self.tally.ok + self.tally.failed + self._reader.stored
        rows = "row" if done == 1 else "rows"
        why = self.why.rstrip(".")  # a provider's own words end with one
        return f"the run stopped after {done} {rows}: {why}. {self._job.go_on}"

    # -- a row is over

    def finished(self, item: Item, outcome: Outcome) -> None:
        """Count a row, and stop the run if it says that others would be asked in vain."""
        if item.stored is not None:  # such a row was counted when it was read
            return
        self.tally.add(outcome)
        if outcome.exception is not None and isinstance(outcome.exception, TooDear):
            self._left(item, outcome.exception)
        elif self.unpaid is not None and outcome.status == "ok":
            self.unpaid.answered()
        if self._first is not None and item.broken is None:
            self._first.add(outcome, began_s=item.began_s)
            if self._first.mixed:
                self._first = None
        if self.on_row is not None:
            self.on_row(item, outcome)
        if outcome.error is not None and self.stopped is None:
            self._judge_run(outcome, outcome.error)

    def _judge_run(self, outcome: Outcome, error: ErrorRecord) -> None:
        """Whether the run stops with this failed row."""
        if error.kind is Kind.STOP_RUN:
            self.stop("fatal", f"no row can be answered: {error.message}", outcome.exception)
        elif why := self.tally.too_many():
            self.stop("max_failures", why)
        elif self._fails_as_a_whole():
            self.stop("fatal", f"{self._first}", outcome.exception)

    def _fails_as_a_whole(self) -> bool:
        """Whether no row was ever answered, and all fail for one reason: paying for the others would be in vain."""
        if self._first is None or not self._first.all_alike(self.under_way()):
            return False
        if self._store is None or not self._store.counts().get(OK):
            return True
        self._first = None  # an earlier call had answers
        return False

    def failed(self, item: Item, exc: BaseException) -> Outcome:
        """Return the outcome of a row that raised. A fault that all rows share stops the run; the row can be redone."""
        if isinstance(exc, KeyboardInterrupt):
            self.stop("interrupted", "it was interrupted", exc)
            return Outcome(item.index, "skipped")
        if isinstance(exc, MemoryError):
            self.stop("fatal", "memory ran out", exc)
            return Outcome(item.index, "skipped")
        if self._judge.out_of_money(exc):
            self._without_money(str(exc), exc)
            return Outcome(item.index, "skipped")
        partial_text = None if item.account is None else item.account.partial
        return Outcome(item.index, "failed", partial_text, error=self._judge.record(exc), exception=exc)

    def lost(self, item: Item) -> None:
        """Note a row whose task was cancelled, but not by us: it must be done again, so the run is not complete."""
        why = (
            f"the task of {numbered(item.index)} was cancelled, by the row's own code or with its event loop"
        )
        self.stop("interrupted", why)

    def packed(self, outcome: Outcome) -> bytes:
        """Return what the store keeps of a row.

        Raises:
            CannotStore: its answer cannot be stored.
        """
        try:
            return pack(outcome, keep_input=self._job.settings.store_inputs, types=self._job.types)
        except CannotStore as exc:
            if (meant_for_all := raised_by_handler(exc)) is not None:
                raise meant_for_all from None
            # Probably no answer can be stored, so stop before the user pays for more of them.
            if self.tally.ok + self.tally.failed < FIRST:
                self.stop("store", f"{numbered(outcome.index)}: {exc}", exc)
            raise

    def _left(self, item: Item, error: TooDear) -> None:
        """What is left of the budget does not cover this row; the run goes on as long as it covers others."""
        if self.unpaid is None:
            self.unpaid = Unpaid()
            if self._job.many:
                self.on_left(f"{numbered(item.index)} is left: {error}")
        if self.unpaid.add(error) or not self._job.many:
            self._without_money(str(self.unpaid.cheapest), self.unpaid.cheapest)

    def all_asked(self) -> None:
        """No row is left to be asked; those that were too dear keep the run from being complete."""
        if self.stopped is None and self.unpaid is not None:
            self._without_money(self.unpaid.told(), self.unpaid.cheapest)

    # -- something that all rows need is gone

    def out_of_money(self, fault: Fault) -> None:
        """Start no more rows if the budget is reached or cannot be kept. From any thread.

        A provider's refusal is not handled here but with the row, since a fallback may still answer the row.
        """
        if not isinstance(fault.cause, BudgetReached):
            return
        self._loop.call(partial(self._without_money, fault.message, fault.cause))

    def _without_money(self, why: str, cause: BaseException | None) -> None:
        if self.stopped is None and not self.takes_paid(why, cause):
            self.stop("budget", why, cause)

    def store_failed(self, error: BaseException, lost: list[Outcome]) -> None:
        """These rows could not be made durable; a run that stops meanwhile for something else says so in the log."""
        self.unstored.extend(lost)
        if isinstance(error, StoreError) and error.kept_in:
            self._kept_in[error.kept_in] = None
        self._store_error = self._store_error or error
        said = f"{self._store_error}; {len(self.unstored)} finished rows could not be stored"
        if self._kept_in:
            said += f": they are kept in {' and '.join(self._kept_in)}, which the run takes in as it goes on"
        self.stop("store", said, error)
        if self.stopped is not None and self.stopped.__cause__ is self._store_error:
            self.why = said  # of all groups so far
        else:
            log.warning("%s", said)
