"""Puts an engine together from a processor's settings. What is learnt or shared over runs lives here."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from langchain_core.globals import get_llm_cache

from cottonpalm import clock
from cottonpalm.chain import cache_key, fingerprint, traits
from cottonpalm.chain.questions import question_of
from cottonpalm.engine.classifier import Classifier
from cottonpalm.engine.engine import Engine
from cottonpalm.engine.executors.caller import Caller, one_of
from cottonpalm.engine.input.keys import content_key
from cottonpalm.engine.input.reader import Again, Reader
from cottonpalm.engine.job import Job
from cottonpalm.engine.shared import _lock, ledger_of, memory_of
from cottonpalm.errors import ConfigError
from cottonpalm.protocols import FAILED, RETRYABLE, SharesLimits
from cottonpalm.request.limiter import sharing
from cottonpalm.request.limiter.limiters import Limiters
from cottonpalm.request.money.rules.prices import PriceBook
from cottonpalm.request.money.spending import Spending
from cottonpalm.request.run_account import RunAccount
from cottonpalm.request.transport import hook
from cottonpalm.settings import Settings, capped
from cottonpalm.stores import open_store
from cottonpalm.stores.codec.records import has_input, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from langchain_core.runnables import Runnable

    from cottonpalm.config import AdaptiveConcurrency
    from cottonpalm.protocols import Gate, RunStore
    from cottonpalm.request.limiter.limiters import Limits as Learning
    from cottonpalm.settings import Settings
    from cottonpalm.types import Outcome

log = logging.getLogger("cottonpalm")
LOOK_S: Final = 1.0  # how long a look at the hook holds for single calls
PAGE: Final = 1_000  # stored rows looked at in one go
Stored = Literal["yield", "skip", "retry", "again"]


class Opened(NamedTuple):
    """A run of a store, and how to let go of the store when it ends."""

    run: RunStore
    release: Callable[[], None]


def let_go(opened: Opened | None) -> None:
    """Give a run back that was opened for an engine which then could not be made."""
    if opened is not None:
        try:
            opened.run.close()
        finally:
            opened.release()


class Builder:
    """One chain with its settings, ready to make engines."""

    def __init__(self, chain: Runnable[Any, Any], settings: Settings) -> None:
        self.chain, self.settings = chain, settings
        self.judge = Classifier(settings.classify)
        self.prices = PriceBook(settings.prices)
        self._limiters: dict[tuple[int | None, int], Limiters] = {}  # by cap, and the clock they go by
        self._looked: tuple[float, bool] | None = None
        self.refuses_unbounded = True  # under a budget; not sent, otherwise it is counted afterwards
        self.gates: list[Callable[[], Gate]] = []  # of each run, innermost

    @property
    def chains(self) -> list[Runnable[Any, Any]]:
        """The chain and its fallbacks."""
        return [self.chain, *self.settings.fallbacks]

    @cached_property
    def description(self) -> dict[str, Any]:
        """What the answers depend on, part by part, without secrets; or the user's own version string."""
        if self.settings.fingerprint is not None:
            return {"fingerprint": self.settings.fingerprint}
        parts = fingerprint.describe(self.chain)
        for number, chain in enumerate(self.settings.fallbacks, 1):
            parts.update(
                {f"fallback {number}: {path}": part for path, part in fingerprint.describe(chain).items()}
            )
        return parts

    @cached_property
    def types(self) -> Mapping[str, type]:
        """The Pydantic classes that stored outputs are rebuilt with."""
        found: dict[str, type] = {}
        for chain in self.chains:
            found.update(traits.output_types(chain, self.settings.output_type))
        return found

    @cached_property
    def question(self) -> Callable[[Any], Any] | None:
        """What of a row its question is, for the cache; None: all of it."""
        return question_of(self.chains)

    @cached_property
    def digest(self) -> bytes:
        """All that shapes an answer besides the row, in 16 bytes, for a cache in this process's memory."""
        return cache_key.digest(self.chains, *self._besides)

    @property
    def _besides(self) -> tuple[Any, ...]:
        """What else shapes an answer. A maximum that is sent along does where the answer that it cuts is a good one."""
        settings, budget = self.settings, self.settings.budget
        cut = settings.accept_truncated or traits.answer_is_a_message(self.chain)
        most = budget.max_output_tokens if budget is not None and cut else None
        return settings.validate, settings.accept_truncated, most

    @cached_property
    def lasting_digest(self) -> bytes | None:
        """The same for every process, as far as that can be told; None, with a warning, where it cannot."""
        settings = self.settings
        try:
            return cache_key.lasting_digest(self.chains, settings.fingerprint, *self._besides)
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
        stored: Stored = "yield",
        streaming: bool = False,
        many: bool = True,
        awaited: bool = False,
    ) -> Engine:
        """An engine over these rows, to be driven on the loop where its `main` runs."""
        settings = self.settings
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
            question=None if settings.cache is None else self.question,
            skip=stored in ("skip", "retry"),
            redo=frozenset({RETRYABLE, FAILED} if stored in ("retry", "again") else {RETRYABLE}),
            sized=sized,
        )
        account = self._account(max_concurrency, run_store, many=many)
        equal = self._callers([self.chain, *settings.replicas], account, kwargs, awaited=awaited)
        fallbacks = self._callers(settings.fallbacks, account, kwargs, awaited=awaited)
        cap = min((n for n in (settings.cap, max_concurrency) if n is not None), default=None)
        job = Job(
            settings=settings,
            callers=[one_of(equal, account, self.judge, self.judge.out_of_money), *fallbacks],
            streaming=streaming,
            many=many,
            none_is_no_answer=traits.none_is_no_answer(self.chain),
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
        if isinstance(run_store, SharesLimits):
            place = run_store.place()
            release = _both(sharing.begin(account.flow.limiters, *place, most=settings.cap), release)
        return Engine(
            job,
            account,
            rows,
            reader,
            self.judge,
            store=run_store,
            release=release,
        )

    def _callers(
        self,
        chains: Sequence[Runnable[Any, Any]],
        account: RunAccount,
        kwargs: Mapping[str, Any] | None,
        *,
        awaited: bool,
    ) -> list[Caller]:
        return [
            Caller(
                chain,
                traits.how_to_call(chain, awaited=awaited),
                account,
                self.judge,
                kwargs=kwargs or {},
            )
            for chain in chains
        ]

    def engine_for_failed(self) -> Engine:
        """An engine over the stored rows that failed, each in its own place."""
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
        after, last = -1, run.last_slot()
        while page := [found for found in run.scan(after, PAGE) if found.slot <= last]:
            after = page[-1].slot
            failed = {found.slot: found for found in page if found.status in (RETRYABLE, FAILED)}
            for slot, record in run.read(list(failed)).items():
                kept = unpack(record, slot, self.types)
                if _never_read(failed[slot].content, kept):
                    continue  # there is no row to ask; whoever gives the rows again gives it mended
                if not has_input(record):
                    raise ConfigError(
                        f"the store keeps no inputs of run {run.name!r} (store_inputs=False): give the rows to retry"
                    )
                if content_key(kept.input) != failed[slot].content:
                    raise ConfigError(
                        f"row {slot} of run {run.name!r} was asked with a config or keywords that the store does not "
                        "keep: give retry the rows, with the same config and keywords"
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
        ledger = ledger_of(budget)
        spending = Spending(run_store, timed=budget is not None and budget.per_hour is not None)
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
            accept_truncated=settings.accept_truncated or traits.answer_is_a_message(self.chain),
            max_output_tokens=None if budget is None else budget.max_output_tokens,
            tighten=budget is None or budget.tighten,
            refuses_unbounded=self.refuses_unbounded,
            has_fallbacks=bool(settings.fallbacks),
            classify=settings.classify,
            hooked=hooked,
            remembers=get_llm_cache() is not None or self._models_remember,
        )

    def planning_account(self) -> RunAccount:
        """For rows whose requests are looked at and not sent: no money, and no limits that others share."""
        settings = self.settings
        return RunAccount(
            limiters=Limiters(settings.concurrency),
            ledger=None,
            prices=self.prices,
            retry=settings.retry,
            timeout_s=settings.timeout_s,
            max_output_tokens=None if settings.budget is None else settings.budget.max_output_tokens,
            hooked=self._hooked(many=True),
        )

    def _hooked(self, *, many: bool) -> bool:
        """Whether requests reach the hook: looked at for each run, and now and then between single calls."""
        if not self.settings.request_hook:
            return False
        if many or self._looked is None or clock.now() - self._looked[0] > LOOK_S:
            hook.install()
            self._looked = (clock.now(), hook.reaches())
        return self._looked[1]

    def _limiters_for(self, most: int | None) -> Limiters:
        """Limits learnt by earlier runs, also of others; a cap is private, and so is what is learnt under it."""
        cap = most if most is not None else self.settings.cap
        with _lock:
            if (found := self._limiters.get((cap, clock.era()))) is None:
                limits, rate = self.settings.concurrency, self.settings.rate_limit
                found = (
                    self.settings.limits.limiters(limits, rate)
                    if cap is None
                    else Limiters(limits if most is None else capped(limits, most), rate)
                )
                self._limiters[cap, clock.era()] = found
            return found

    def start_at(self, concurrency: AdaptiveConcurrency, learnt_in: Learning) -> None:
        """Forget the limits that were found: the next run begins with these, and learns there."""
        with _lock:
            self.settings = replace(self.settings, concurrency=concurrency, limits=learnt_in)
            self._limiters.clear()

    # -- the store

    def open_run(self) -> Opened | None:
        """The run in the store, under a lease; None where results are kept in memory.

        Raises:
            ConfigError: a store without a run name, or a run name without a store.
            StoreError: see `Store.open_run`; or the cache's file cannot be used.
        """
        settings = self.settings
        memory_of(settings.cache)  # here, since this may be on a thread, and before the run is taken
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


def _chunks_in(rows: Any, size: int | None) -> int | None:
    return None if size is None or not hasattr(rows, "__len__") else -(-len(rows) // size)


def _never_read(content: bytes, kept: Outcome) -> bool:
    """Whether a stored failure is that of a row which the source could not read (see `Reader.item`)."""
    return kept.error is not None and content == content_key(["cottonpalm: unreadable", kept.error.message])


def _shown(store: object) -> str:
    return repr(str(store)) if isinstance(store, str | Path) else repr(store)


def _both(first: Callable[[], None], then: Callable[[], None]) -> Callable[[], None]:
    def release() -> None:
        try:
            first()
        finally:
            then()

    return release


def _nothing() -> None:
    """The store is the caller's own: it stays open."""


async def on_a_thread(opening: Callable[[], Opened | None]) -> Opened | None:
    """Open on a thread. Whoever is cancelled meanwhile, or whose loop is closed, leaves nothing open behind."""
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
