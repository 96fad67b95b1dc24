"""`BatchProcessor`: the Runnable that users hold. It stands wherever the chain stood."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from cottonpalm import settings as checked
from cottonpalm.assembly import Assembly, Stored, let_go
from cottonpalm.collected import Collected, row_of
from cottonpalm.config import Budget, Cache
from cottonpalm.faults import ConfigError
from cottonpalm.row_configs import Configs, for_rows, most_at_once, one_each, same_for_all
from cottonpalm.run import AsyncRun, BaseRun, Run
from cottonpalm.single import SingleCalls
from cottonpalm.sync import bridge

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable, RunnableConfig

    from cottonpalm.assembly import Opened
    from cottonpalm.config import AdaptiveConcurrency, RetryPolicy
    from cottonpalm.engine import Engine
    from cottonpalm.model import Outcome
    from cottonpalm.protocols import Observer, Store
    from cottonpalm.source import Rows

AnyRun = TypeVar("AnyRun", bound=BaseRun)


class Asked(NamedTuple):
    """The rows of a `batch`, and what their answers depend on besides."""

    rows: Any
    configs: list[RunnableConfig] | Callable[[Any], RunnableConfig] | None
    ids: Sequence[Any] | None
    kwargs: dict[str, Any]


class BatchProcessor(SingleCalls):
    """Runs a chain over many rows: as fast as the provider allows, within its budget, losing nothing.

    Args:
        chain: any Runnable. It is never copied and never changed.
        concurrency: "auto" finds how many model requests may be in flight; a number is the most; or
            `AdaptiveConcurrency(initial, minimum, maximum)`.
        retry: retries after the first try, or a `RetryPolicy`. The SDK's own retries do not happen.
        fallbacks: chains tried in order when a row's fault says that another model could do it.
        validate: gets each output; raising ValueError asks again.
        timeout: seconds for one model request after it got its permit; for a stream, between two chunks.
        item_timeout: seconds for a row in all, or None.
        budget: a ceiling in US dollars. Requests that could take the sum above it are not sent.
        prices: `{model: (dollars in, dollars out per million tokens)}`, or a function (model, usage) -> dollars.
        cache: equal rows are answered once; equal rows in flight share one call.
        store: a path or `sqlite:///...`: results are durable there before you see them. Needs `run`.
        run: the name of this run in the store. The same name again does only what is not done.
        priority: a function of the row; higher starts first. `batch(rows, priorities=[...])` goes before it.
        max_failures: stop after this many failed rows, or above this share of them (below 1, from 100 rows on).
        accept_truncated: an answer cut by its length limit counts as an answer.
        classify: your own word on an exception: a kind ("throttle", "transient", "reask", "degrade", "fail_row",
            "stop_run"), or None to leave it to us.
        output_type: Pydantic class or classes of the outputs, where the chain does not show them.
        store_inputs: False keeps only hashes of the rows; `retry` then needs the rows again.
        fingerprint: your own version string of the chain, in place of the one worked out from its parts.
        request_hook: False leaves the HTTP clients alone; permits then count rows or model calls.
        progress: show a progress line on stderr.
        observers: see the events of each run.

    Raises:
        ConfigError: a setting that cannot work (it is a ValueError).
    """

    def __init__(
        self,
        chain: Runnable[Any, Any],
        *,
        concurrency: Literal["auto"] | int | AdaptiveConcurrency = "auto",
        retry: int | RetryPolicy = 3,
        fallbacks: Sequence[Runnable[Any, Any]] = (),
        validate: Callable[[Any], object] | None = None,
        timeout: float = 600,
        item_timeout: float | None = None,
        budget: Budget | None = None,
        prices: checked.Prices | None = None,
        cache: Cache | None = None,
        store: str | Path | Store | None = None,
        run: str | None = None,
        priority: Callable[[Any], float] | None = None,
        max_failures: float | None = None,
        accept_truncated: bool = False,
        classify: checked.Classify | None = None,
        output_type: type | Sequence[type] | None = None,
        store_inputs: bool = True,
        fingerprint: str | None = None,
        request_hook: bool = True,
        progress: bool = False,
        observers: Sequence[Observer] = (),
    ) -> None:
        super().__init__(checked.runnable(chain, "chain"))
        limits, cap = checked.concurrency_of(concurrency)
        self._settings = checked.Settings(
            concurrency=limits,
            cap=cap,
            retry=checked.retry_of(retry),
            fallbacks=checked.fallbacks_of(fallbacks),
            validate=checked.function(validate, "validate"),
            timeout_s=checked.positive(timeout, "timeout") or 600,
            item_timeout_s=checked.positive(item_timeout, "item_timeout"),
            budget=checked.made_as(budget, Budget, "budget"),
            prices=prices,
            cache=checked.made_as(cache, Cache, "cache"),
            store=store,
            run=checked.name_of(run, "run"),
            priority=checked.function(priority, "priority"),
            max_failures=checked.failures_of(max_failures),
            accept_truncated=accept_truncated,
            classify=checked.function(classify, "classify"),
            output_type=output_type,
            store_inputs=store_inputs,
            fingerprint=checked.name_of(fingerprint, "fingerprint"),
            request_hook=request_hook,
            progress=progress,
            observers=checked.observers_of(observers),
        )
        self._assembly = Assembly(self.chain, self._settings)
        self._last: Callable[[], BaseRun | None] = lambda: None
        self._asked: Asked | None = None  # of the latest batch, while nothing else came after it

    # -- many rows, the interface of a Runnable

    def batch(
        self,
        inputs: Sequence[Any],
        config: Configs = None,
        *,
        return_exceptions: bool = False,
        priorities: Sequence[float] | None = None,
        ids: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> list[Any]:
        """Every row's output, in order.

        All rows are run before anything is raised. The first Ctrl-C finishes what is in flight, the second leaves.

        Args:
            inputs: the rows.
            config: one for all rows, or a list with one for each; `max_concurrency` is a cap on rows at once.
            return_exceptions: put a failed row's exception in its place and raise nothing.
            priorities: one number for each row; higher starts first.
            ids: one for each row: what a row is known by in the store.
            kwargs: for the chain's `ainvoke`, as in `chain.batch`.

        Raises:
            RunStopped: a fault that no row survives, the budget, `max_failures`, or the store ended the run.
            Exception: the lowest failed row's own, with a note that says how many failed.
        """
        if not inputs:
            return []
        collected = Collected(inputs)
        bridge().wait(
            self._collect(collected, config, priorities=priorities, ids=ids, kwargs=kwargs),
            stop=collected.stop,
        )
        return collected.answers(return_exceptions=return_exceptions)

    async def abatch(
        self,
        inputs: Sequence[Any],
        config: Configs = None,
        *,
        return_exceptions: bool = False,
        priorities: Sequence[float] | None = None,
        ids: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> list[Any]:
        """`batch` on the running loop."""
        if not inputs:
            return []
        collected = Collected(inputs)
        await self._collect(collected, config, priorities=priorities, ids=ids, kwargs=kwargs)
        return collected.answers(return_exceptions=return_exceptions)

    async def _collect(
        self, collected: Collected, config: Configs, *, priorities: Any, ids: Any, kwargs: dict[str, Any]
    ) -> None:
        many = one_each(config, len(collected.inputs))
        most = most_at_once(config)
        engine = await self._aengine(
            collected.inputs,
            ids=ids,
            priorities=priorities,
            configs=many,
            kwargs=kwargs,
            max_concurrency=most,
        )
        run = AsyncRun(engine)
        self._remember(run, keep=True, asked=Asked(collected.inputs, many, ids, kwargs))
        run.keep(collected.outcomes)
        collected.kept = True
        collected.begun(run)
        async with run:
            await collected.fill(run)

    def batch_as_completed(
        self,
        inputs: Sequence[Any],
        config: Configs = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> Iterator[tuple[int, Any]]:
        """(index, output) as rows complete; what failed is raised at the end, or yielded with return_exceptions."""
        if not inputs:
            return
        many = one_each(config, len(inputs))
        engine = self._engine(inputs, configs=many, kwargs=kwargs, max_concurrency=most_at_once(config))
        collected = Collected(inputs)
        with self._remember(Run(engine)) as run:
            collected.run = run
            while (outcome := collected.next_of(run)) is not None:
                if return_exceptions or outcome.status == "ok":
                    yield outcome.index, collected.answer(outcome)
        yield from collected.rest(return_exceptions=return_exceptions)

    async def abatch_as_completed(
        self,
        inputs: Sequence[Any],
        config: Configs = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> AsyncIterator[tuple[int, Any]]:
        """`batch_as_completed` on the running loop."""
        if not inputs:
            return
        many = one_each(config, len(inputs))
        engine = await self._aengine(
            inputs, configs=many, kwargs=kwargs, max_concurrency=most_at_once(config)
        )
        collected = Collected(inputs)
        async with self._remember(AsyncRun(engine)) as run:
            collected.run = run
            while (outcome := await collected.anext_of(run)) is not None:
                if return_exceptions or outcome.status == "ok":
                    yield outcome.index, collected.answer(outcome)
        for pair in collected.rest(return_exceptions=return_exceptions):
            yield pair

    # -- many rows, the full interface

    def start(
        self,
        rows: Rows,
        ids: Sequence[Any] | Callable[[Any], Any] | None = None,
        priorities: Sequence[float] | Callable[[Any], float] | None = None,
        *,
        config: RunnableConfig | None = None,
        stored: Stored = "yield",
    ) -> Run:
        """A run over any iterable of rows, read lazily; iterate it inside `with` for outcomes as they complete.

        Args:
            rows: a list, an iterator or an async iterator.
            ids: one for each row, or a function of the row.
            priorities: one for each row, or a function of the row; higher starts first.
            config: for every row.
            stored: what the store holds already is "yield"ed as outcomes, or "skip"ped (only counted); "retry" skips
                too, but does again what failed for good.

        Raises:
            RunStopped: at the end of the iteration, if the run stopped early.
        """
        engine = self._engine(
            rows, ids=ids, priorities=priorities, configs=same_for_all(config), stored=stored
        )
        return self._remember(Run(engine))

    def astart(
        self,
        rows: Rows,
        ids: Sequence[Any] | Callable[[Any], Any] | None = None,
        priorities: Sequence[float] | Callable[[Any], float] | None = None,
        *,
        config: RunnableConfig | None = None,
        stored: Stored = "yield",
    ) -> AsyncRun:
        """`start` on the running loop: iterate inside `async with`. Opening the store may block for a moment."""
        engine = self._engine(
            rows, ids=ids, priorities=priorities, configs=same_for_all(config), stored=stored
        )
        return self._remember(AsyncRun(engine))

    async def stream_batch(
        self, inputs: Rows, config: RunnableConfig | None = None, *, max_concurrency: int | None = None
    ) -> AsyncIterator[tuple[int, Any]]:
        """(index, chunk) of many rows, interleaved as they come. What failed is raised at the end.

        A slow reader slows the calls; leaving early closes every connection.
        """
        engine = await self._aengine(
            inputs, configs=same_for_all(config), max_concurrency=max_concurrency, streaming=True
        )
        collected = Collected(inputs if isinstance(inputs, Sequence) else ())
        async with self._remember(AsyncRun(engine)) as run:
            collected.run = run
            while (got := await collected.anext_of(run)) is not None:
                for piece in collected.pieces(got):
                    yield row_of(got), piece
        collected.raise_failures()

    def start_failed(self) -> Run:
        """A run over the rows of the store that failed, those that failed for good included, from their kept inputs.

        An outcome's `index` is the row's number in the store.

        Raises:
            ConfigError: there is no store.
        """
        return self._remember(Run(self._watched(self._assembly.engine_for_failed())))

    def retry(
        self,
        rows: Rows | None = None,
        config: Configs = None,
        *,
        ids: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> list[Outcome]:
        """Do the failed rows again, those that failed for good included; returns their outcomes, in row order.

        Straight after `batch` there is nothing to say: each row is asked as it was, with its config and keywords.

        Args:
            rows: the run's rows, where the store does not keep them (`store_inputs=False`).
            config: as it was given with these rows.
            ids: as they were given with these rows.
            kwargs: as they were given with these rows.

        Raises:
            ConfigError: there is no run to take failed rows from, or not all that their answers depend on.
            RunStopped: as for `start`.
        """
        if rows is None and (config is not None or ids is not None or kwargs):
            raise ConfigError("a config, ids or keywords for retry() need the rows they were given with")
        if self._settings.store is None:
            return self._retry_last()
        last = asked = self._asked
        if rows is not None:
            asked = Asked(rows, for_rows(config, rows), ids, kwargs)
        with self._remember(self._failed_run(asked, given=rows is not None), asked=last) as run:
            outcomes = list(run)
        return sorted(outcomes, key=lambda outcome: outcome.index)

    def _failed_run(self, asked: Asked | None, *, given: bool) -> Run:
        """From the rows, where they are given or are not all that their answers depend on; else from the store."""
        if asked is None or not (given or asked.configs or asked.kwargs):
            return Run(self._watched(self._assembly.engine_for_failed()))
        rows, configs, ids, kwargs = asked
        return Run(self._engine(rows, ids=ids, configs=configs, kwargs=kwargs, stored="retry"))

    def _retry_last(self) -> list[Outcome]:
        last, asked = self.last_run, self._asked
        if last is None or asked is None:
            raise ConfigError(
                "retry() found no batch to go on with: call batch first, or give store= and run="
            )
        known = last.outcomes()
        failed = [outcome for outcome in known if outcome.status != "ok"]
        configs = asked.configs
        engine = self._engine(
            [outcome.input for outcome in failed],
            configs=[configs[outcome.index] for outcome in failed] if isinstance(configs, list) else configs,
            kwargs=asked.kwargs,
            max_concurrency=most_at_once(configs if isinstance(configs, list) else None),
        )
        with Run(engine) as run:
            for outcome in run:
                outcome.index = failed[outcome.index].index
                outcome.id = known[outcome.index].id
                known[outcome.index] = outcome
        return [known[outcome.index] for outcome in failed]

    @property
    def last_run(self) -> BaseRun | None:
        """The latest run of many rows; None before the first, and once a run made by `start` was let go."""
        return self._last()

    # -- engines

    def _engine(self, rows: Any, **more: Any) -> Engine:
        return self._made(self._assembly.open_run(), rows, more)

    async def _aengine(self, rows: Any, **more: Any) -> Engine:
        """The same, with the store opened on a thread where that touches the disk."""
        on_disk = isinstance(self._settings.store, str | Path)
        opened = await _on_a_thread(self._assembly.open_run) if on_disk else self._assembly.open_run()
        return self._made(opened, rows, more)

    def _made(self, opened: Opened | None, rows: Any, more: dict[str, Any]) -> Engine:
        """An engine; where the call cannot be right, the run it opened is free for the next one."""
        try:
            return self._watched(self._assembly.engine(rows, opened=opened, **more))
        except BaseException:
            let_go(opened)
            raise

    def _watched(self, engine: Engine) -> Engine:
        if self._settings.progress:
            from cottonpalm.observers.progress import Progress  # noqa: PLC0415 - rich is slow to import

            progress = Progress()
            progress.watch(engine.stats)
            engine.add_observer(progress)
        return engine

    def _remember(self, run: AnyRun, *, keep: bool = False, asked: Asked | None = None) -> AnyRun:
        """`last_run`: kept for batch, whose outcomes it holds; let go with its reader for the others."""
        self._last = (lambda: run) if keep else weakref.ref(run)
        self._asked = asked
        return run


async def _on_a_thread(opening: Callable[[], Opened | None]) -> Opened | None:
    """Open on a thread. Whoever is cancelled meanwhile leaves nothing open behind."""
    task = asyncio.ensure_future(asyncio.to_thread(opening))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_opened_in_vain)
        raise


def _opened_in_vain(task: asyncio.Task[Opened | None]) -> None:
    if not task.cancelled() and task.exception() is None:
        let_go(task.result())
