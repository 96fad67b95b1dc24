"""Builds an engine from a processor's settings, and keeps what its runs share or learn."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from langchain_core.globals import get_llm_cache

from cottonpalm import clock
from cottonpalm.chain import cache_key, fingerprint, traits
from cottonpalm.chain.questions import names_read, question_by
from cottonpalm.chain.walk import at_rest
from cottonpalm.engine.classifier import Classifier
from cottonpalm.engine.engine import Engine
from cottonpalm.engine.executors.caller import Caller, one_of
from cottonpalm.engine.input import asked_again
from cottonpalm.engine.input.keys import content_key
from cottonpalm.engine.input.known_by import begin_by, part_of
from cottonpalm.engine.input.reader import Again, Reader, row_keys
from cottonpalm.engine.job import Job
from cottonpalm.engine.shared import _lock, ledger_of, memory_of
from cottonpalm.errors import ConfigError
from cottonpalm.protocols import FAILED, RETRYABLE, SharesLimits
from cottonpalm.providers.batches.stages import KeepsBatches
from cottonpalm.request.limiter import sharing
from cottonpalm.request.limiter.limiters import Limiters
from cottonpalm.request.money.rules.prices import PriceBook
from cottonpalm.request.money.spending import Spending
from cottonpalm.request.run_account import RunAccount
from cottonpalm.request.transport import google_client, hook
from cottonpalm.request.transport.fast import door
from cottonpalm.settings import Settings, capped, travelling
from cottonpalm.stores import open_store, shown
from cottonpalm.stores.codec.records import has_input, unpack
from cottonpalm.types import numbered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from langchain_core.runnables import Runnable

    from cottonpalm.config import AdaptiveConcurrency
    from cottonpalm.engine.executors.links import Begin, Pool
    from cottonpalm.protocols import Gate, RunStore
    from cottonpalm.request.limiter.limiters import Limits as Learning
    from cottonpalm.request.money.ledger import Ledger
    from cottonpalm.settings import Settings
    from cottonpalm.stores.sql.database import Database
    from cottonpalm.types import Outcome

log = logging.getLogger("cottonpalm")
LOOK_S: Final = 1.0  # seconds for which single calls trust the last check that requests reach the hook
PAGE: Final = 1_000  # stored rows that are read in one go


class Opened(NamedTuple):
    """A run of a store, and the function that releases the store when the run ends."""

    run: RunStore
    release: Callable[[], None]


def let_go(opened: Opened | None) -> None:
    """Close a run that was opened for an engine, if making the engine failed."""
    if opened is not None:
        try:
            opened.run.close()
        finally:
            opened.release()


class Builder:
    """One chain with its settings; it makes the engines of all runs."""

    def __init__(self, chain: Runnable[Any, Any], settings: Settings) -> None:
        self.chain, self.settings = chain, settings
        self.judge = Classifier(settings.classify)
        self.prices = PriceBook(settings.prices)
        self._limiters: dict[tuple[int | None, int], Limiters] = {}  # by cap, and the clock they go by
        self._looked: tuple[float, bool] | None = None
        self.refuses_unbounded = True  # under a budget: False sends them, and counts them later
        self.gates: list[Callable[[], Gate]] = []  # of each run, innermost
        self.purse: tuple[Ledger, Spending] | None = None  # of a worker: money that another process grants
        self.place: tuple[Database, int] | None = None  # of a worker: where its limits are shared
        self.spare: int | None = None  # rows that each worker holds ready; None: those of the next moment

    @property
    def chains(self) -> list[Runnable[Any, Any]]:
        """The chain and its fallbacks."""
        return [self.chain, *self.settings.fallbacks]

    @cached_property
    def description(self) -> dict[str, Any]:
        """Describe what the answers depend on, part by part, without secrets; or use the user's version string."""
        if self.settings.fingerprint is not None:
            return {"fingerprint": self.settings.fingerprint}
        parts = dict(self._described[0])
        for number, described in enumerate(self._described[1:], 1):
            parts.update({f"fallback {number}: {path}": part for path, part in described.items()})
        return parts

    @cached_property
    def _described(self) -> list[dict[str, Any]]:
        """The chain and its fallbacks, part by part."""
        return [fingerprint.describe(chain) for chain in self.chains]

    @cached_property
    def types(self) -> Mapping[str, type]:
        """The Pydantic classes from which stored outputs are rebuilt."""
        found: dict[str, type] = {}
        for chain in self.chains:
            found.update(traits.output_types(chain, self.settings.output_type))
        return found

    @cached_property
    def question(self) -> Callable[[Any], Any] | None:
        """Return what takes the question out of a row, for the cache; None: the whole row is the question."""
        return question_by(self.names_read)

    @cached_property
    def names_read(self) -> frozenset[str] | None:
        """The names of a row that the chain or a fallback reads; None: they may read the whole row."""
        return names_read(self.chains)

    @cached_property
    def digest(self) -> bytes:
        """A 16-byte digest of everything besides the row that shapes an answer, for the cache in memory."""
        return cache_key.digest(self.chains, *self._besides, described=self._described)

    @property
    def _besides(self) -> tuple[Any, ...]:
        """Return the settings that shape an answer; a maximum that we send counts if the run accepts cut answers."""
        settings, budget = self.settings, self.settings.budget
        cut = settings.accept_truncated or traits.answer_is_a_message(self.chain)
        most = budget.max_output_tokens if budget is not None and cut else None
        return settings.validate, settings.accept_truncated, most

    @cached_property
    def lasting_digest(self) -> bytes | None:
        """A digest that is the same in every process; None, with a warning, if no such digest can be made."""
        settings = self.settings
        try:
            return cache_key.lasting_digest(
                self.chains, settings.fingerprint, *self._besides, described=self._described
            )
        except cache_key.Untold as untold:
            log.warning(
                "answers are not kept in the cache on disk: %s may answer differently in another process, and "
                'nothing tells; give fingerprint="...", your own version string of the chain',
                untold,
            )
            return None

    @cached_property
    def _models_remember(self) -> bool:
        return any(traits.remembers(chain) for chain in (*self.chains, *self.settings.replicas))

    # -- engines

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
    ) -> Engine:
        """Make an engine for these rows. It belongs to the loop on which its `main` runs.

        Rows that are `sampled` for a plan run live: somebody waits for them.
        """
        settings = self.settings
        if sampled:
            settings = replace(settings, mode="live", detach=False, deadline_s=None)
        priorities = priorities if priorities is not None else settings.priority
        run_store = None if opened is None else opened.run
        cache = memory_of(settings.cache)
        on_disk = cache is not None and cache.disk is not None
        sized = len(rows) if hasattr(rows, "__len__") else None
        total = sized if total is None else total
        reader = Reader(
            total=total,
            ids=ids,
            priorities=priorities,
            configs=configs,
            kwargs=kwargs,
            store=run_store,
            keyed=settings.cache is not None,
            question=None if settings.cache is None and run_store is None else self.question,
            read=None if run_store is None else begin_by(run_store, self.names_read),
            refresh=True,
            skip=skip_stored,
            redo=frozenset({RETRYABLE, FAILED} if retry_failed else {RETRYABLE}),
            sized=sized,
        )
        if many and run_store is not None and not (skip_stored and retry_failed):
            _tell(rows, reader, run_store)
        account = self._account(max_concurrency, run_store, many=many)
        how: Any = {"kwargs": kwargs or {}, "many": many, "awaited": awaited}
        equal = self._callers([self.chain, *settings.replicas], account, **how)
        fallbacks = self._callers(settings.fallbacks, account, **how)
        cap = min((n for n in (settings.cap, max_concurrency) if n is not None), default=None)
        batched = many and not streaming and (settings.mode != "live" or _has_batches(run_store))
        job = Job(
            settings=settings,
            lane=settings.lane if batched else None,
            rehearsed=min(map(traits.rehearsed, self.chains)) if batched else 0,
            tools=batched and any(traits.may_run_tools(chain) for chain in self.chains),
            keeps_state=batched and any(map(traits.keeps_state, self.chains)),
            linear=batched and all(traits.one_at_a_time(chain) for chain in self.chains),
            callers=[one_of(equal, account, self.judge, self.judge.out_of_money), *fallbacks],
            streaming=streaming,
            many=many,
            none_is_no_answer=traits.none_is_no_answer(self.chain),
            workers=self._workers(run_store, kwargs) if many and not streaming else None,
            cap=cap,
            types=self.types if run_store is not None or on_disk else {},
            cache=cache,
            digest=self.digest if cache is not None else b"",
            lasting=self.lasting_digest if on_disk else None,
            name=settings.run if run_store is not None else None,
            total=total,
            ordered=priorities is not None,
            chunks_total=_chunks_in(rows, settings.chunk_size),
            gates=[made() for made in self.gates],
            go_on=self._go_on(run_store),
        )
        release = _nothing if opened is None else opened.release
        place = run_store.place() if isinstance(run_store, SharesLimits) else self.place
        if place is not None:
            must = self.place is not None
            release = _both(
                sharing.begin(account.flow.limiters, *place, most=settings.cap, must=must), release
            )
        return Engine(
            job,
            account,
            rows,
            reader,
            self.judge,
            store=run_store,
            release=release,
        )

    def _workers(
        self, run_store: RunStore | None, kwargs: Mapping[str, Any] | None
    ) -> Callable[[], tuple[Pool, Begin]] | None:
        """Return what makes the workers of a run; None: this process runs the rows itself."""
        settings = self.settings
        if settings.executor == "local":
            return None
        from cottonpalm.engine.executors.links import Begin  # noqa: PLC0415 - few runs have workers
        from cottonpalm.engine.executors.pools import pool_of  # noqa: PLC0415
        from cottonpalm.engine.executors.travel import packed  # noqa: PLC0415

        chain = packed((self.chain, travelling(settings)))
        place = run_store.place() if isinstance(run_store, SharesLimits) else None

        def made() -> tuple[Pool, Begin]:
            pool = pool_of(settings)
            where = pool.place(None if place is None else (place[0].url, place[1]))
            paid = settings.budget is not None
            return pool, Begin(chain, where, paid=paid, kwargs=dict(kwargs or {}), spare=self.spare)

        return made

    def _callers(
        self,
        chains: Sequence[Runnable[Any, Any]],
        account: RunAccount,
        *,
        kwargs: Mapping[str, Any],
        many: bool,
        awaited: bool,
    ) -> list[Caller]:
        return [
            Caller(
                chain,
                traits.how_to_call(chain, awaited=awaited),
                account,
                self.judge,
                kwargs=kwargs,
                many=many,
            )
            for chain in chains
        ]

    def engine_for_failed(self) -> Engine:
        """Make an engine for the stored rows that failed; each keeps its place."""
        opened = self.open_run()
        if opened is None:
            raise ConfigError("there is no store to take failed rows from: give store= and run=")
        try:
            counts = opened.run.counts()
            total = counts.get(RETRYABLE, 0) + counts.get(FAILED, 0)
            return self.engine(self._failed_rows(opened.run), opened=opened, total=total)
        except BaseException:
            let_go(opened)
            raise

    def _failed_rows(self, run: RunStore) -> Iterator[Again]:
        after, last, part = -1, run.last_slot(), part_of(run)
        while page := [found for found in run.scan(after, PAGE) if found.slot <= last]:
            after = page[-1].slot
            failed = {found.slot: found for found in page if found.status in (RETRYABLE, FAILED)}
            for slot, record in run.read(list(failed)).items():
                kept = unpack(record, slot, self.types)
                if _never_read(failed[slot].content, kept):
                    continue  # a row that could not be read holds no question; the user must give it again
                if not has_input(record):
                    raise ConfigError(
                        f"the store keeps no inputs of run {run.name!r} (store_inputs=False): give the rows to retry"
                    )
                if row_keys(part, kept.input)[1] != failed[slot].content:
                    raise ConfigError(
                        f"{numbered(slot)} of run {run.name!r} was asked with a config or keywords that the store "
                        "does not keep: give retry the rows, with the same config and keywords"
                    )
                yield Again(failed[slot], kept.input, kept.id)

    def _account(self, max_concurrency: int | None, run_store: RunStore | None, *, many: bool) -> RunAccount:
        settings, budget = self.settings, self.settings.budget
        hooked = self._hooked(many=many)
        if not (hooked or self.refuses_unbounded):
            budget = None
        if budget is not None and not hooked:
            raise ConfigError(
                "a budget needs the request hook, to see each model request before it is sent; it is switched off "
                f"(request_hook=False or {hook.OPT_OUT}=1) or another library has put the clients' old `send` back"
            )
        ledger = ledger_of(budget) if self.purse is None else self.purse[0]
        timed = budget is not None and budget.per_hour is not None
        spending = (
            Spending(run_store, timed=timed, out=_set_aside(run_store))
            if self.purse is None
            else self.purse[1]
        )
        if ledger is not None:
            ledger.attach(spending)
        return RunAccount(
            limiters=self._limiters_for(max_concurrency),
            ledger=ledger,
            spending=spending,
            prices=self.prices,
            retry=settings.retry,
            timeout_s=settings.timeout_s,
            hedge=settings.hedge,
            prompt_cache=settings.prompt_cache,
            accept_truncated=settings.accept_truncated or traits.answer_is_a_message(self.chain),
            max_output_tokens=None if budget is None else budget.max_output_tokens,
            tighten=budget is None or budget.tighten,
            refuses_unbounded=self.refuses_unbounded,
            has_fallbacks=bool(settings.fallbacks),
            classify=settings.classify,
            hooked=hooked,
            remembers=get_llm_cache() is not None or self._models_remember,
            fast=settings.transport == "fast",
        )

    def planning_account(self) -> RunAccount:
        """Make the account for rows whose requests are only looked at: without money, with limits of its own."""
        settings = self.settings
        return RunAccount(
            limiters=Limiters(settings.concurrency),
            ledger=None,
            prices=self.prices,
            retry=settings.retry,
            timeout_s=settings.timeout_s,
            prompt_cache=settings.prompt_cache,
            max_output_tokens=None if settings.budget is None else settings.budget.max_output_tokens,
            hooked=self._hooked(many=True),
        )

    def _hooked(self, *, many: bool) -> bool:
        """Whether requests reach the hook. It is checked for each run, and at most every LOOK_S for single calls."""
        if not self.settings.request_hook:
            return False
        if many or self._looked is None or clock.now() - self._looked[0] > LOOK_S:
            hook.install()
            google_client.install()
            door.install()
            self._looked = (clock.now(), hook.reaches())
        return self._looked[1]

    def _limiters_for(self, most: int | None) -> Limiters:
        """Return the limits, shared with other runs and processors; with a cap, limits that nobody else shares."""
        cap = most if most is not None else self.settings.cap
        with _lock:
            if (found := self._limiters.get((cap, clock.era()))) is None:
                limits, rate = self.settings.concurrency, self.settings.rate_limit
                found = (
                    self.settings.limits.limiters(limits, rate)
                    if cap is None
                    else Limiters(
                        limits if most is None else capped(limits, most),
                        rate,
                        self.settings.cap,
                        circle=self.settings.limits,
                    )
                )
                self._limiters[cap, clock.era()] = found
            return found

    def keep_sharing(self) -> Callable[[], None]:
        """Of a worker: share its limits between its runs too; call what is returned at its end."""
        if self.place is None:
            return _nothing
        return sharing.begin(self._limiters_for(None), *self.place, most=self.settings.cap, must=True)

    def start_at(self, concurrency: AdaptiveConcurrency, learnt_in: Learning) -> None:
        """Replace the learnt limits: the next run begins with these settings, and learns in `learnt_in`."""
        with _lock:
            self.settings = replace(self.settings, concurrency=concurrency, limits=learnt_in)
            self._limiters.clear()

    # -- the store

    def open_run(self) -> Opened | None:
        """Open the run in the store and take its lease; return None if results are kept in memory.

        Raises:
            ConfigError: a store without a run name, or a run name without a store.
            StoreError: see `Store.open_run`; or the file of the cache cannot be used.
        """
        settings = self.settings
        memory_of(settings.cache)  # opened here: we may be on a thread, and hold no lease of the run yet
        if settings.store is None:
            if settings.run is not None:
                raise ConfigError(
                    f"run={settings.run!r} needs store=..., the file where its results are kept"
                )
            return None
        if settings.run is None:
            raise ConfigError(
                f"store={_shown(settings.store)} needs run=..., the name of this run in the store"
            )
        store = open_store(settings.store)
        release: Callable[[], None] = _nothing if store is settings.store else store.close
        try:
            return Opened(store.open_run(settings.run, self.description), release)
        except BaseException:
            release()
            raise

    def _go_on(self, run_store: RunStore | None) -> str:
        if run_store is None:
            return (
                "The outcomes so far were handed out (after batch: processor.last_run.outcomes()); with store= and "
                "run= they would be kept."
            )
        return (
            f"What is done is kept in {_shown(self.settings.store)}, run {run_store.name!r}: "
            "the same call again does the rest."
        )


def _tell(rows: Any, reader: Reader, run: RunStore) -> None:
    """Say what is asked though the run holds it, before it costs anything."""
    if run.last_slot() >= 0:
        with contextlib.suppress(Exception):  # what is wrong with a row or an id is raised when it is read
            if said := asked_again.told(asked_again.first_rows(rows), reader, run):
                log.warning(said)


def _chunks_in(rows: Any, size: int | None) -> int | None:
    return None if size is None or not hasattr(rows, "__len__") else -(-len(rows) // size)


def _never_read(content: bytes, kept: Outcome) -> bool:
    """Whether this stored failure belongs to a row that the source could not read (see `Reader.item`)."""
    return kept.error is not None and content == content_key(["cottonpalm: unreadable", kept.error.message])


def _both(first: Callable[[], None], then: Callable[[], None]) -> Callable[[], None]:
    def release() -> None:
        try:
            first()
        finally:
            then()

    return release


def _has_batches(run: RunStore | None) -> bool:
    """Whether answers of the run are, or were, out: they are paid for, and used by whichever call comes next."""
    return isinstance(run, KeepsBatches) and bool(run.book().batches())


def _set_aside(run: RunStore | None) -> int:
    """Pico-dollars of batches that are out since an earlier process."""
    if not isinstance(run, KeepsBatches):
        return 0
    return sum(batch.reserved for batch in run.book().batches() if not batch.over)


def _nothing() -> None:
    """Leave the store open, since it belongs to the caller."""


async def on_a_thread(opening: Callable[[], Opened | None]) -> Opened | None:
    """Open the run on a thread. If the caller is cancelled or its loop is closed meanwhile, the run is closed again."""
    loop = asyncio.get_running_loop()

    def open_for_the_loop() -> Opened | None:
        opened = opening()
        if loop.is_closed():
            let_go(opened)
        return opened

    task = asyncio.ensure_future(asyncio.to_thread(open_for_the_loop))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_opened_in_vain)
        raise


def _opened_in_vain(task: asyncio.Task[Opened | None]) -> None:
    if not task.cancelled() and task.exception() is None:
        let_go(task.result())


def _shown(store: object) -> str:
    return repr(shown(store)) if isinstance(store, str | Path) else repr(store)
