"""Builds an engine from a processor's settings, and keeps what its runs share or learn."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from operator import length_hint
from typing import TYPE_CHECKING, Any

from cottonpalm.chain import traits
from cottonpalm.chain.walk import at_rest
from cottonpalm.engine.accounts import Accounts
from cottonpalm.engine.chain_call.caller import Caller
from cottonpalm.engine.chain_call.replicas import one_of
from cottonpalm.engine.chain_facts import ChainFacts
from cottonpalm.engine.classifier import Classifier
from cottonpalm.engine.engine import Engine
from cottonpalm.engine.executors.batch.terms import BatchTerms
from cottonpalm.engine.input import asked_again
from cottonpalm.engine.input.failed_rows import failed_rows
from cottonpalm.engine.input.known_by import begin_by
from cottonpalm.engine.input.reader import Reader
from cottonpalm.engine.job import Job
from cottonpalm.engine.opened import Opened, go_on, let_go, open_run
from cottonpalm.engine.run_asked import RunAsked
from cottonpalm.engine.shared import memory_of
from cottonpalm.errors import ConfigError
from cottonpalm.protocols import FAILED, RETRYABLE
from cottonpalm.providers.batches.stages import KeepsBatches
from cottonpalm.settings import travelling
from cottonpalm.store_extras import SharesLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from langchain_core.runnables import Runnable

    from cottonpalm.config import AdaptiveConcurrency
    from cottonpalm.engine.chain_call.replicas import Replicas
    from cottonpalm.engine.executors.workers.links import Begin, WorkerPool
    from cottonpalm.protocols import Gate, RunStore
    from cottonpalm.providers.batches.stages import AskedRow, Book
    from cottonpalm.request.limiter.limiters import Limits as Learning
    from cottonpalm.request.run_account import RunAccount
    from cottonpalm.settings import Settings

log = logging.getLogger("cottonpalm")


class Builder:
    """One chain with its settings; it makes the engines of all runs."""

    def __init__(self, chain: Runnable[Any, Any], settings: Settings) -> None:
        self.chain, self.settings = chain, settings
        self.judge = Classifier(settings.classify)
        self.facts = ChainFacts(chain, settings)
        self.accounts = Accounts(self.facts, settings)
        self.gates: list[Callable[[], Gate]] = []  # of each run, innermost
        self.spare: int | None = None  # rows that each worker holds ready; None: those of the next moment
        self.tells_edited = True  # before a run, how many rows it asks and pays again

    def start_at(self, concurrency: AdaptiveConcurrency, learnt_in: Learning) -> None:
        """Replace the learnt limits: the next run begins with these settings, and learns in `learnt_in`."""
        self.settings = replace(self.settings, concurrency=concurrency, limits=learnt_in)
        self.accounts.forget_limits(self.settings)

    def open_run(self) -> Opened | None:
        """Open the run in the store, and take its lease; see `opened.open_run`."""
        return open_run(self.settings, self.facts)

    @at_rest()
    def engine(self, asked: RunAsked, opened: Opened | None = None) -> Engine:
        """Make an engine for these rows. It belongs to the loop on which its `main` runs."""
        settings = self.settings
        if asked.sampled:
            settings = replace(settings, mode="live", detach=False, deadline_s=None)
        run_store = None if opened is None else opened.run
        book = _book_of(run_store)
        if asked.streaming and asked.many:
            _check_stream(settings.mode, book)
        reader = self._reader(asked, run_store, () if book is None else book.rows())
        told = self.tells_edited and not (asked.skip_stored and asked.retry_failed)
        if asked.many and run_store is not None and told:
            _tell(asked.rows, reader, run_store)
        account = self.accounts.made(asked.most, run_store, many=asked.many)
        account.flow.rows = _rows_left(asked, run_store)
        reader.warn = account.alerts.warn
        batched = asked.many and not asked.streaming and (settings.mode != "live" or book is not None)
        terms = self._terms(settings, asked.rows) if batched else None
        job = self._job(asked, settings, run_store, self._callers(asked, account), terms)
        shared = self.accounts.share(account.flow.limiters, run_store)
        return Engine(
            job,
            account,
            asked.rows,
            reader,
            self.judge,
            store=run_store,
            release=shared if opened is None else _both(shared, opened.release),
        )

    def _reader(self, asked: RunAsked, run_store: RunStore | None, waiting: Iterable[AskedRow]) -> Reader:
        cache, facts = self.settings.cache, self.facts
        return Reader(
            total=_total(asked),
            ids=asked.ids,
            priorities=self._priorities(asked),
            configs=asked.configs,
            kwargs=asked.kwargs,
            store=run_store,
            keyed=cache is not None,
            question=None if cache is None and run_store is None else facts.question,
            read=None if run_store is None else begin_by(run_store, facts.names_read),
            refresh=True,
            skip=asked.skip_stored,
            redo=frozenset({RETRYABLE, FAILED} if asked.retry_failed else {RETRYABLE}),
            sized=asked.sized,
            waiting=waiting,
        )

    def _priorities(self, asked: RunAsked) -> Sequence[float] | Callable[[Any], float] | None:
        return asked.priorities if asked.priorities is not None else self.settings.priority

    def _callers(self, asked: RunAsked, account: RunAccount) -> list[Caller | Replicas]:
        """Return how the chain (or several equal ones) is called, and its fallbacks."""

        def caller(chain: Runnable[Any, Any]) -> Caller:
            how = traits.how_to_call(chain, awaited=asked.awaited)
            return Caller(chain, how, account, self.judge, kwargs=asked.kwargs, many=asked.many)

        equal = [caller(chain) for chain in (self.chain, *self.settings.replicas)]
        first = one_of(equal, account, self.judge, self.judge.out_of_money)
        return [first, *map(caller, self.settings.fallbacks)]

    def _job(
        self,
        asked: RunAsked,
        settings: Settings,
        run_store: RunStore | None,
        callers: list[Caller | Replicas],
        terms: BatchTerms | None,
    ) -> Job:
        facts, cache = self.facts, memory_of(settings.cache)
        on_disk = cache is not None and cache.disk is not None
        return Job(
            settings=settings,
            terms=terms,
            callers=callers,
            streaming=asked.streaming,
            many=asked.many,
            none_is_no_answer=traits.none_is_no_answer(self.chain),
            workers=self._workers(run_store, asked.kwargs) if asked.many and not asked.streaming else None,
            cap=min((most for most in (settings.cap, asked.most) if most is not None), default=None),
            types=facts.types if run_store is not None or on_disk else {},
            cache=cache,
            digest=facts.digest if cache is not None else b"",
            lasting=facts.lasting_digest if on_disk else None,
            name=settings.run if run_store is not None else None,
            total=_total(asked),
            sample_of=asked.sample_of,
            ordered=self._priorities(asked) is not None,
            chunks_total=_chunks_in(asked.sized, settings.chunk_size),
            gates=[made() for made in self.gates],
            go_on=go_on(settings, run_store, cached=on_disk),
        )

    def _terms(self, settings: Settings, rows: Any) -> BatchTerms:
        """Return how these rows go through batches."""
        chains, types = self.facts.chains, self.facts.types
        return BatchTerms(
            lane=settings.lane,
            name=settings.run or "",
            linear=all(map(traits.one_at_a_time, chains)),
            keeps_state=any(map(traits.keeps_state, chains)),
            sends=settings.mode != "live",
            detach=settings.detach,
            deadline_s=settings.deadline_s,
            cheapest=settings.mode == "auto",
            lazy=not isinstance(rows, Sequence),
            rehearsed=min(map(traits.rehearsed, chains)),
            tools=types if any(map(traits.may_run_tools, chains)) else None,
        )

    def _workers(
        self, run_store: RunStore | None, kwargs: Mapping[str, Any]
    ) -> Callable[[], tuple[WorkerPool, Begin]] | None:
        """Return what makes the workers of a run; None: this process runs the rows itself."""
        settings = self.settings
        if settings.executor == "local":
            return None
        from cottonpalm.engine.executors.workers.links import Begin  # noqa: PLC0415 - few runs have workers
        from cottonpalm.engine.executors.workers.pools import pool_of  # noqa: PLC0415
        from cottonpalm.engine.executors.workers.travel import packed  # noqa: PLC0415

        chain = packed((self.chain, travelling(settings)))
        given = packed(dict(kwargs), "an argument of the call")
        place = run_store.place() if isinstance(run_store, SharesLimits) else None

        def made() -> tuple[WorkerPool, Begin]:
            pool = pool_of(settings)
            where = pool.place(None if place is None else (place[0].url, place[1]))
            paid = settings.budget is not None
            return pool, Begin(chain, where, paid=paid, kwargs=given, spare=self.spare)

        return made

    def engine_for_failed(self) -> Engine:
        """Make an engine for the stored rows that failed; each keeps its place."""
        opened = self.open_run()
        if opened is None:
            raise ConfigError("there is no store to take failed rows from: give store= and run=")
        try:
            counts = opened.run.counts()
            total = counts.get(RETRYABLE, 0) + counts.get(FAILED, 0)
            rows = failed_rows(opened.run, self.facts.types)
            return self.engine(RunAsked(rows=rows, total=total), opened)
        except BaseException:
            let_go(opened)
            raise


def _tell(rows: Any, reader: Reader, run: RunStore) -> None:
    """Say what is asked though the run holds it, before it costs anything."""
    if run.last_slot() >= 0:
        with contextlib.suppress(Exception):  # what is wrong with a row or an id is raised when it is read
            if said := asked_again.told(asked_again.first_rows(rows), reader, run):
                log.warning(said)


def _total(asked: RunAsked) -> int | None:
    return asked.sized if asked.total is None else asked.total


def _rows_left(asked: RunAsked, run_store: RunStore | None) -> int:
    """About how many rows the run has not read before; 0 where nobody knows."""
    if asked.total is not None:
        return asked.total
    read = 0 if run_store is None else run_store.last_slot() + 1
    return max(0, _hint(asked.rows) - read)


def _hint(rows: Any) -> int:
    """How many rows there are, as they say; 0 where they say nothing of use: it is no more than a hint."""
    try:
        return length_hint(rows)
    except Exception as exc:  # noqa: BLE001 - code of theirs, which a loop over them would not call
        log.debug("the rows do not say how many they are: %r", exc)
        return 0


def _chunks_in(rows: int | None, size: int | None) -> int | None:
    return None if size is None or rows is None else -(-rows // size)


def _both(first: Callable[[], None], then: Callable[[], None]) -> Callable[[], None]:
    def release() -> None:
        try:
            first()
        finally:
            then()

    return release


def _check_stream(mode: str, book: Book | None) -> None:
    """Refuse to stream rows that are answered, or may be, by a batch.

    Raises:
        ConfigError: the rows would be answered live, at the full price.
    """
    if mode != "live":
        raise ConfigError(
            f"a stream shows answers as they come, mode={mode!r} brings them whole: use batch or start for these rows,"
            ' or mode="live"'
        )
    from cottonpalm.engine.executors.batch.returned import out_words  # noqa: PLC0415 - few runs have batches

    if book is not None and (out := [batch for batch in book.batches() if batch.out]):
        raise ConfigError(
            f"{out_words(out)}, and a stream would pay once more for these rows: call batch or start first, or give the"
            " stream a run of its own"
        )


def _book_of(run: RunStore | None) -> Book | None:
    """The run's batches, if it has any: their answers are paid for, and used by whichever call comes next."""
    book = run.book() if isinstance(run, KeepsBatches) else None
    return book if book is not None and book.batches() else None
