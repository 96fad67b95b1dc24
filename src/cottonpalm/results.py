"""Turns the outcomes of a run into what LangChain's methods return and raise."""

from __future__ import annotations

from asyncio import CancelledError
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.engine.output.outbox import Piece
from cottonpalm.errors import RowFailed, RunStopped
from cottonpalm.runtime.bridge import bridge
from cottonpalm.types import Outcome, numbered

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

    from cottonpalm.run import AsyncRun, BaseRun, Run

NOTE: Final = "cottonpalm: "  # the note on a raised exception begins with this


class Collected:
    """The outcomes of a list of rows, in input order; rows that were never tried are "skipped"."""

    def __init__(
        self, inputs: Sequence[Any], seen: Callable[[Outcome, BaseRun], object] | None = None
    ) -> None:
        """Collect the outcomes of these rows; `seen` gets each one as it comes, and the run."""
        self.inputs, self._seen = inputs, seen
        self.outcomes = [Outcome(index, "skipped", input=row) for index, row in enumerate(inputs)]
        self.run: BaseRun | None = None
        self.kept = False  # True: `last_run` has the outcomes
        self._interrupted = False
        self._error: BaseException | None = None
        self._lowest: Outcome | None = None  # the failed row with the lowest index
        self._failed = 0  # how many rows failed
        self._ended = 0  # how many rows ended; counted, since the rows may come from an iterator
        self._shown: set[int] = set()  # unfinished rows whose pieces were handed out

    def stop(self) -> None:
        """Start no more rows, after a Ctrl-C."""
        self._interrupted = True
        if self.run is not None:
            self.run.stop()

    def begun(self, run: BaseRun) -> None:
        """The run exists now; if a Ctrl-C came while its store was being opened, stop the run now."""
        self.run = run
        if self._interrupted:
            run.stop()

    def wait(self, reading: Coroutine[Any, Any, None]) -> None:
        """Wait for what reads the run. A Ctrl-C, or an interrupted cell, stops it and is raised with a note."""
        with self.telling():
            try:
                here = bridge()
            except RuntimeError:
                reading.close()  # it was never begun
                raise
            here.wait(reading, stop=self.stop)

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Note on what interrupts this how far the run came, and how it goes on."""
        try:
            yield
        except (KeyboardInterrupt, CancelledError) as interrupt:
            if self.run is not None:
                come = f"interrupted after {self._ended:,} of {len(self.inputs):,} rows"
                _note(interrupt, f"{NOTE}{come}. {self.run._engine.job.go_on}")  # noqa: SLF001 - no user asks a run for it
            raise

    # -- reading a run

    async def fill(self, run: AsyncRun) -> None:
        """Read the run to its end; do not raise yet how it ended."""
        while await self.anext_of(run) is not None:
            pass

    async def anext_of(self, run: AsyncRun) -> Any:
        """The next outcome (or chunk), or None at the end."""
        try:
            return self._take(await anext(run, None))
        except RunStopped as stopped:
            return self._stopped(stopped)

    def next_of(self, run: Run) -> Any:
        """The next outcome (or chunk), or None at the end."""
        try:
            return self._take(next(run, None))
        except RunStopped as stopped:
            return self._stopped(stopped)

    def _take(self, got: Any) -> Any:
        if isinstance(got, Outcome):
            if got.index < len(self.outcomes):
                self.outcomes[got.index] = got
            self._ended += 1
            if got.status == "failed":
                self._failed += 1
                if self._lowest is None or got.index < self._lowest.index:
                    self._lowest = got
            if self._seen is not None and self.run is not None:
                self._seen(got, self.run)
        return got

    def _stopped(self, stopped: RunStopped) -> None:
        self._error = stopped
        if self.run is not None:
            for outcome in self.run.unstored:
                self._take(outcome)
        stopped.outcomes = self.outcomes

    # -- what to return and raise

    def pieces(self, got: Outcome | Piece) -> Iterator[Any]:
        """Yield what a stream shows: a chunk, or the whole answer of a known row, which has no chunks."""
        if isinstance(got, Piece):
            self._shown.add(got.row)
            yield got.chunk
            return
        had_chunks = got.index in self._shown
        self._shown.discard(got.index)
        if got.status == "ok" and not had_chunks and got.output is not None:
            yield got.output

    def shows(self, outcome: Outcome, *, return_exceptions: bool) -> bool:
        """Whether a row is yielded as it ends. `rest` yields those that were not tried, once the run's end is known."""
        return outcome.status == "ok" or (return_exceptions and outcome.status != "skipped")

    def answer(self, outcome: Outcome) -> Any:
        """Return the row's output, or its exception in place of the output."""
        if outcome.status == "ok":
            return outcome.output
        if outcome.status == "skipped":
            return self._error or RunStopped(
                "the row was not tried", reason="interrupted", outcomes=self.outcomes
            )
        return exception_of(outcome)

    def answers(self, *, return_exceptions: bool) -> list[Any]:
        """Return all outputs in order; raise what `batch` raises."""
        if not return_exceptions:
            self.raise_failures()
        return [self.answer(outcome) for outcome in self.outcomes]

    def overlook_stop(self) -> bool:
        """If every row was tried although the run was stopped, forget the stop; return whether that is so."""
        whole = all(outcome.status != "skipped" for outcome in self.outcomes)
        if whole:
            self._error = None
        return whole

    def answers_or_none(self) -> list[Any]:
        """Return all outputs in order, None for a failed row; raise only RunStopped."""
        if self._error is not None:
            raise self._error
        return [outcome.output if outcome.status == "ok" else None for outcome in self.outcomes]

    def rest(self, *, return_exceptions: bool) -> Iterator[tuple[int, Any]]:
        """After the last completed row, yield the rows that were never tried, or raise the failed rows' exception."""
        if not return_exceptions:
            self.raise_failures()
            return
        for outcome in self.outcomes:
            if outcome.status == "skipped":
                yield outcome.index, self.answer(outcome)

    def only(self) -> Any:
        """Return the only row's output, or raise its own exception."""
        outcome = self.outcomes[0]
        if outcome.status == "ok":
            return outcome.output
        raise self.answer(outcome)

    def raise_failures(self) -> None:
        """Raise RunStopped if the run stopped, else the lowest failed row's exception with a note on all failures."""
        if self._error is not None:
            raise self._error
        if self._lowest is not None:
            exc = exception_of(self._lowest)
            _note(exc, self._told(self._lowest.index))
            raise exc

    def _told(self, lowest: int) -> str:
        rest = self._failed - 1
        others = f" and {rest:,} other{'s'[: rest != 1]}" if rest else ""
        note = f"{NOTE}{numbered(lowest)}{others} of {self._ended} rows failed"
        if self.kept:
            note += (
                "; the answers of the others are in processor.last_run.outcomes(), and processor.retry() does the "
                "failed ones again"
            )
        return note


def _note(exc: BaseException, note: str) -> None:
    """Add the note. Replace an earlier note, since a chain may raise the same exception object again and again."""
    notes: list[str] = getattr(exc, "__notes__", [])
    notes[:] = [known for known in notes if not known.startswith(NOTE)]
    exc.add_note(note)


def row_of(got: Outcome | Piece) -> int:
    """The index of the row that an outcome or a chunk belongs to."""
    return got.row if isinstance(got, Piece) else got.index


def exception_of(outcome: Outcome) -> Exception:
    """Return the row's own exception; or one from its record, if that is gone or must not be raised (cancel, exit)."""
    if isinstance(outcome.exception, Exception):
        return outcome.exception
    assert outcome.error is not None
    failed = RowFailed(outcome.error)
    failed.__cause__ = outcome.exception
    return failed
