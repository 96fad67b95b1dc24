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
from cottonpalm.engine.job import Job, SampleOf
from cottonpalm.engine.opened import Opened, go_on, let_go, open_run
from cottonpalm.engine.shared import memory_of
from cottonpalm.errors import ConfigError
from cottonpalm.protocols import FAILED, RETRYABLE, SharesLimits
from cottonpalm.providers.batches.stages import KeepsBatches
from cottonpalm.settings import travelling

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from langchain_core.runnables import Runnable

    from cottonpalm.config import AdaptiveConcurrency
    from cottonpalm.engine.executors.workers.links import Begin, WorkerPool
    from cottonpalm.protocols import Gate, RunStore
    from cottonpalm.providers.batches.stages import Book
    from cottonpalm.request.limiter.limiters import Limits as Learning
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

    def start_at(self, concurrency: AdaptiveConcurrency, learnt_in: Learning) -> None:
        """Replace the learnt limits: the next run begins with these settings, and learns in `learnt_in`."""
        self.settings = replace(self.settings, concurrency=concurrency, limits=learnt_in)
        self.accounts.forget_limits(self.settings)

    def open_run(self) -> Opened | None:
        """Open the run in the store, and take its lease; see `opened.open_run`."""
        return open_run(self.settings, self.facts)

    @at_rest()
    def engine(
        self,
        rows: Any,
        *,
        ids: Sequence[Any] | Callable[[Any], Any] | None = None,
        priorities: Sequence[float] | Callable[[Any], float] | None = None,
        configs: Sequence[Any] | Callable[[Any], Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        max_concurrency: int | None = None,
        opened: Opened | None = None,
        total: int | None = None,
        skip_stored: bool = False,
        retry_failed: bool = False,
        streaming: bool = False,
        many: bool = True,
        awaited: bool = False,
        sampled: bool = False,
        sample_of: SampleOf | None = None,
    ) -> Engine:
        """Make an engine for these rows. It belongs to the loop on which its `main` runs.

        Rows that are `sampled` for a plan run live: somebody waits for them. `sample_of`: see `Job`.
        """
        settings, facts = self.settings, self.facts
        if sampled:
            settings = replace(settings, mode="live", detach=False, deadline_s=None)
        priorities = priorities if priorities is not None else settings.priority
        run_store = None if opened is None else opened.run
        cache = memory_of(settings.cache)
        on_disk = cache is not None and cache.disk is not None
        sized = len(rows) if hasattr(rows, "__len__") else None
        left = _rows_left(rows, run_store) if total is None else total
        total = sized if total is None else total
        book = _book_of(run_store)
        if streaming and many:
            _check_stream(settings.mode, book)
        reader = Reader(
            total=total,
            ids=ids,
            priorities=priorities,
            configs=configs,
            kwargs=kwargs,
            store=run_store,
            keyed=settings.cache is not None,
            question=None if settings.cache is None and run_store is None else facts.question,
            read=None if run_store is None else begin_by(run_store, facts.names_read),
            refresh=True,
            skip=skip_stored,
            redo=frozenset({RETRYABLE, FAILED} if retry_failed else {RETRYABLE}),
            sized=sized,
            waiting=() if book is None else book.rows(),
        )
        if many and run_store is not None and not (skip_stored and retry_failed):
            _tell(rows, reader, run_store)
        account = self.accounts.made(max_concurrency, run_store, many=many)
        account.flow.rows = left

        def caller(chain: Runnable[Any, Any]) -> Caller:
            how = traits.how_to_call(chain, awaited=awaited)
            return Caller(chain, how, account, self.judge, kwargs=kwargs or {}, many=many)

        equal = [caller(chain) for chain in (self.chain, *settings.replicas)]
        cap = min((n for n in (settings.cap, max_concurrency) if n is not None), default=None)
        batched = many and not streaming and (settings.mode != "live" or book is not None)
        job = Job(
            settings=settings,
            terms=self._terms(settings, rows) if batched else None,
            callers=[
                one_of(equal, account, self.judge, self.judge.out_of_money),
                *map(caller, settings.fallbacks),
            ],
            streaming=streaming,
            many=many,
            none_is_no_answer=traits.none_is_no_answer(self.chain),
            workers=self._workers(run_store, kwargs) if many and not streaming else None,
            cap=cap,
            types=facts.types if run_store is not None or on_disk else {},
            cache=cache,
            digest=facts.digest if cache is not None else b"",
            lasting=facts.lasting_digest if on_disk else None,
            name=settings.run if run_store is not None else None,
            total=total,
            sample_of=sample_of,
            ordered=priorities is not None,
            chunks_total=_chunks_in(rows, settings.chunk_size),
            gates=[made() for made in self.gates],
            go_on=go_on(settings, run_store),
        )
        shared = self.accounts.share(account.flow.limiters, run_store)
        return Engine(
            job,
            account,
            rows,
            reader,
            self.judge,
            store=run_store,
            release=shared if opened is None else _both(shared, opened.release),
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
        self, run_store: RunStore | None, kwargs: Mapping[str, Any] | None
    ) -> Callable[[], tuple[WorkerPool, Begin]] | None:
        """Return what makes the workers of a run; None: this process runs the rows itself."""
        settings = self.settings
        if settings.executor == "local":
            return None
        from cottonpalm.engine.executors.workers.links import Begin  # noqa: PLC0415 - few runs have workers
        from cottonpalm.engine.executors.workers.pools import pool_of  # noqa: PLC0415
        from cottonpalm.engine.executors.workers.travel import packed  # noqa: PLC0415

        chain = packed((self.chain, travelling(settings)))
        given = packed(dict(kwargs or {}), "an argument of the call")
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
            return self.engine(failed_rows(opened.run, self.facts.types), opened=opened, total=total)
        except BaseException:
            let_go(opened)
            raise


def _tell(rows: Any, reader: Reader, run: RunStore) -> None:
    """Say what is asked though the run holds it, before it costs anything."""
    if run.last_slot() >= 0:
        with contextlib.suppress(Exception):  # what is wrong with a row or an id is raised when it is read
            if said := asked_again.told(asked_again.first_rows(rows), reader, run):
                log.warning(said)


def _rows_left(rows: Any, run_store: RunStore | None) -> int:
    """About how many rows the run has not read before; 0 where nobody knows."""
    read = 0 if run_store is None else run_store.last_slot() + 1
    return max(0, length_hint(rows) - read)


def _chunks_in(rows: Any, size: int | None) -> int | None:
    return None if size is None or not hasattr(rows, "__len__") else -(-len(rows) // size)


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
