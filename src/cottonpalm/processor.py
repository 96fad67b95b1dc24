"""`BatchProcessor`: the Runnable that users hold. It can be used wherever the chain was used.

Its methods come in this order: calls for one row, for a list of rows, for any rows; plans; retries of failed rows. How
they become runs is in `making`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import langchain_core.runnables.base  # noqa: F401 - before the stack is deep: there Python 3.11 loads it 15 % slower

from cottonpalm import settings as checked
from cottonpalm.chain.face import ChainFace, Out, chain_name
from cottonpalm.engine.input.frames import collected as one_table
from cottonpalm.engine.input.frames import list_in, rows_in
from cottonpalm.engine.input.row_configs import Configs, most_at_once, same_for_all
from cottonpalm.engine.run_asked import RunAsked, SampleOf
from cottonpalm.errors import ConfigError
from cottonpalm.keywords import names_nearest
from cottonpalm.making import RunMaker, of_any, of_list
from cottonpalm.request.transports import DEFAULT_TRANSPORT, Transport
from cottonpalm.results import Collected, row_of
from cottonpalm.run import AsyncRun, BaseRun, Run
from cottonpalm.runtime.bridge import bridge
from cottonpalm.stores import shown as shown_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from typing import Unpack

    from langchain_core.runnables import Runnable, RunnableConfig

    from cottonpalm.config import AdaptiveConcurrency, BatchLane, Budget, Cache, RateLimit, RetryPolicy
    from cottonpalm.engine.input.reader import Rows
    from cottonpalm.engine.output.stream_events import StreamEvent
    from cottonpalm.planning.plan import Plan
    from cottonpalm.protocols import Observer, Store
    from cottonpalm.request.limiter.limiters import Limits
    from cottonpalm.starting import Either, Ids, Ranks, Streamed, Whole
    from cottonpalm.types import Item, Outcome

AnyRun = TypeVar("AnyRun", bound=BaseRun)
Table = TypeVar("Table")


class BatchProcessor(ChainFace[Out]):
    """Runs a chain over many rows: as fast as the provider allows, within its budget, losing nothing.

    Args:
        chain: any Runnable. It is never copied and never changed.
        concurrency: "auto" finds how many model requests may be in flight; a number is the most; or
            `AdaptiveConcurrency(initial, minimum, maximum)`.
        rate_limit: `RateLimit(requests_per_minute, tokens_per_minute)`: never more than that is sent per host, model
            and account, whatever the provider allows.
        limits: a `Limits` to learn the providers' limits in, apart from other processors; by default all of the
            process with the same `concurrency` ("auto" or an equal `AdaptiveConcurrency`) share them, and with any
            `concurrency` a wait that a provider names.
        replicas: equal chains with another base URL, key, region or deployment. Each row is answered by whichever has
            room, and goes to another one where that fails; each has a limit of its own.
        priority: a function of the row; higher starts first. `batch(rows, priorities=[...])` goes before it.
        chunk_size: count rows by chunks of so many, in input order, for progress and `ChunkFinished` events.
        chunk_pause: seconds between the last row of a chunk and the first of the next; 0: chunks overlap freely.
        transport: "fast" sends the requests of chat models that are known by a lean HTTP client, and makes their
            results with LangChain's own code; whatever is not known goes by the model's SDK. "stock": all do.
        request_hook: False leaves the HTTP clients alone; permits then count rows or model calls.
        retry: retries after the first try, or a `RetryPolicy`. The SDK's own retries do not happen.
        fallbacks: chains tried in order when a row's fault says that another model could do it.
        validate: gets each output; raising ValueError asks again.
        classify: your own word on an exception: a kind ("throttle", "transient", "reask", "degrade", "fail_row",
            "stop_run"), or None to leave it to us.
        accept_truncated: an answer that was cut by its length limit, or filtered, counts as an answer.
        timeout: seconds for one model request after it got its permit; for a stream, between two chunks.
        hedge: a request that is far later than any before it is sent once more, and the first answer counts; at most
            two in a hundred requests are such copies. False: none is.
        item_timeout: seconds for a row in all, or None.
        stall_timeout: seconds without one accepted request, beyond the waits a provider announced, after which the
            run stops (or `timeout`, if that is longer).
        max_failures: stop after this many failed rows, or above this share of them (below 1, from 100 rows on). A run
            whose first 20 rows all fail for one reason stops as well; 1.0 says go on all the same.
        budget: a ceiling in US dollars in all, or a `Budget`. Requests that could take the sum above it are not sent.
        prices: `{model: (dollars in, dollars out per million tokens)}`, or a function (model, usage) -> dollars.
        prompt_cache: "auto" lets one request of a shared prompt go first where the provider then bills the others less,
            and changes no request. "on" also asks for the cache where a request must (Anthropic, OpenAI from GPT-5.6
            on). "off" does neither.
        cache: equal rows are answered once; equal rows in flight share one call.
        store: a path or `sqlite:///...`: results are durable there before you see them. Needs `run`.
        run: the name of this run in the store. The same name again does only what is not done.
        store_inputs: False keeps only hashes of the rows; `retry` then needs the rows again.
        fingerprint: your own version string of the chain, in place of the one worked out from its parts.
        output_type: Pydantic class or classes of the outputs, where the chain does not show them.
        mode: "live" asks now. "batch" sends the requests through the provider's Batch API, at half the price and
            answered within a day; what no batch can hold runs live. "auto" takes the cheapest. The last two need
            `store` and `run`.
        deadline: with `mode="auto"`, seconds from the call in which all rows are to be done. Rows go through batches as
            long as they could still be done live; what would be late is pulled back, and finished live.
        detach: submit everything and leave: the run stops with reason "detached", and the same call again goes on.
        lane: a `BatchLane`: bounds of your own for batches, and which provider is at which address.
        executor: "local" runs rows in this process, "processes" in several on this machine, "ray" on a Ray cluster.
            Workers share limits, budget, cache and store; the chain travels to them, its keys never do.
        workers: how many; one for each core of the machine or the cluster if None.
        ray_address: the cluster's address; without one, `ray.init` finds or starts it.
        progress: show a progress line on stderr.
        observers: see the events of each run.

    Raises:
        ConfigError: a setting that cannot work (it is a ValueError).
    """

    @names_nearest
    def __init__(
        self,
        chain: Runnable[Any, Out],
        *,
        # how fast
        concurrency: Literal["auto"] | int | AdaptiveConcurrency = "auto",
        rate_limit: RateLimit | None = None,
        limits: Limits | None = None,
        replicas: Sequence[Runnable[Any, Any]] = (),
        priority: Callable[[Any], float] | None = None,
        chunk_size: int | None = None,
        chunk_pause: float = 0,
        transport: Transport = DEFAULT_TRANSPORT,
        request_hook: bool = True,
        # what happens when something fails
        retry: int | RetryPolicy = 3,
        fallbacks: Sequence[Runnable[Any, Any]] = (),
        validate: Callable[[Any], object] | None = None,
        classify: checked.Classify | None = None,
        accept_truncated: bool = False,
        timeout: float = 600,
        hedge: bool = True,
        item_timeout: float | None = None,
        stall_timeout: float = 900,
        max_failures: float | None = None,
        # money
        budget: float | Budget | None = None,
        prices: checked.Prices | None = None,
        prompt_cache: checked.PromptCache = "auto",
        cache: Cache | None = None,
        # what is kept
        store: str | Path | Store | None = None,
        run: str | None = None,
        store_inputs: bool = True,
        fingerprint: str | None = None,
        output_type: type | Sequence[type] | None = None,
        # when and where rows run
        mode: checked.Mode = "live",
        deadline: float | None = None,
        detach: bool = False,
        lane: BatchLane | None = None,
        executor: checked.Executing = "local",
        workers: int | None = None,
        ray_address: str | None = None,
        # what is seen
        progress: bool = False,
        observers: Sequence[Observer] = (),
    ) -> None:
        settings = checked.Settings.of(chain, locals())
        super().__init__(chain)
        self._settings = settings
        from cottonpalm.engine.build import Builder  # noqa: PLC0415 - an import of the class alone is quick

        self._builder = Builder(chain, settings)
        self._runs = RunMaker(self._builder)

    def __repr__(self) -> str:
        """The chain, and where its answers are kept."""
        settings = self._settings
        words = [f"<{type(self).__name__} of {chain_name(self.chain)}"]
        if settings.run is not None and settings.store is not None:
            words.append(f"run {settings.run!r} in {_where(settings.store)}")
        if settings.budget is not None:
            words.append(repr(settings.budget))
        return f"{', '.join(words)}>"

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuse to be copied or pickled.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            f"a {type(self).__name__} cannot be copied or pickled: it holds limits, money and a store of this process. "
            "Make another one from the chain, with the same settings; a Budget, Cache or Limits given to both is shared"
        )

    # -- one row, under the same limits, budget and cache as a batch; it never reads or writes a run of the store

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Out:
        """Return the chain's output for one input, or raise the chain's own exception."""
        return bridge().wait(self._answer(input, config, kwargs, awaited=False))

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Out:
        """`invoke` on the running loop."""
        return await self._answer(input, config, kwargs, awaited=True)

    async def _answer(
        self, row: Any, config: RunnableConfig | None, kwargs: dict[str, Any], *, awaited: bool
    ) -> Out:
        async with AsyncRun(self._runs.single(row, config, kwargs, awaited=awaited)) as run:
            collected = Collected([row])
            collected.run = run
            await collected.fill(run)
        answer: Out = collected.only()
        return answer

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Out]:
        """Yield the chain's chunks for one input."""
        collected = Collected([input])
        with Run(self._runs.single(input, config, kwargs, streaming=True)) as run:
            collected.run = run
            while (got := collected.next_of(run)) is not None:
                yield from collected.pieces(got)
        collected.only()

    async def astream(
        self,
        input: Any,
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Out]:
        """`stream` on the running loop."""
        collected = Collected([input])
        async with AsyncRun(self._runs.single(input, config, kwargs, streaming=True, awaited=True)) as run:
            collected.run = run
            while (got := await collected.anext_of(run)) is not None:
                for piece in collected.pieces(got):
                    yield piece
        collected.only()

    # -- a list of rows, with LangChain's signatures

    @overload
    def batch(
        self,
        inputs: Sequence[Any],
        config: Configs = None,
        *,
        return_exceptions: Literal[False] = False,
        priorities: Sequence[float] | None = None,
        ids: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> list[Out]: ...

    @overload
    def batch(
        self,
        inputs: Sequence[Any],
        config: Configs = None,
        *,
        return_exceptions: bool = False,
        priorities: Sequence[float] | None = None,
        ids: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> list[Any]: ...

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
        """Return every row's output, in order.

        All rows run before anything is raised. At the first Ctrl-C, the rows in flight are finished; the second ends
        the run now.

        Args:
            inputs: the rows: a list, a table (pandas, polars, Arrow, datasets), or an iterator, which is read whole.
            config: one for all rows, or a list with one for each; `max_concurrency` is a cap on rows at once.
            return_exceptions: put a failed row's exception in its place and raise nothing.
            priorities: one number for each row; higher starts first.
            ids: one for each row: what a row is known by in the store.
            kwargs: for the chain's `ainvoke`, as in `chain.batch`.

        Raises:
            RunStopped: a fault that no row survives, the budget, `max_failures`, or the store ended the run.
            Exception: the lowest failed row's own, with a note that says how many failed.
        """
        collected = Collected(list_in(inputs))
        collected.wait(self._collect(collected, config, priorities=priorities, ids=ids, kwargs=kwargs))
        return collected.answers(return_exceptions=return_exceptions)

    @overload
    async def abatch(
        self,
        inputs: Sequence[Any],
        config: Configs = None,
        *,
        return_exceptions: Literal[False] = False,
        priorities: Sequence[float] | None = None,
        ids: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> list[Out]: ...

    @overload
    async def abatch(
        self,
        inputs: Sequence[Any],
        config: Configs = None,
        *,
        return_exceptions: bool = False,
        priorities: Sequence[float] | None = None,
        ids: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> list[Any]: ...

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
        collected = Collected(list_in(inputs))
        await self._collect(collected, config, priorities=priorities, ids=ids, kwargs=kwargs)
        return collected.answers(return_exceptions=return_exceptions)

    async def _collect(
        self,
        collected: Collected,
        config: Configs,
        *,
        priorities: Any = None,
        ids: Any = None,
        kwargs: dict[str, Any],
        retry_failed: bool = False,
    ) -> None:
        asked = of_list(
            collected.inputs, config, kwargs, ids=ids, priorities=priorities, retry_failed=retry_failed
        )
        run = AsyncRun(await self._runs.aengine(asked))
        self._runs.remember(run, keep=True, asked=asked)
        run.keep(collected.outcomes)
        collected.kept = True
        collected.begun(run)
        async with run:
            with collected.telling():
                await collected.fill(run)

    def batch_as_completed(
        self,
        inputs: Sequence[Any],
        config: Configs = None,
        *,
        return_exceptions: bool = False,
        priorities: Sequence[float] | None = None,
        ids: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> Iterator[tuple[int, Any]]:
        """Yield (index, output) as rows complete; raise failures at the end, or yield them with return_exceptions.

        The arguments are those of `batch`.
        """
        inputs = list_in(inputs)
        asked = of_list(inputs, config, kwargs, ids=ids, priorities=priorities)
        collected = Collected(inputs)
        run = self._runs.run(asked)
        try:
            with collected.telling(), run:
                collected.run = run
                while (outcome := collected.next_of(run)) is not None:
                    if collected.shows(outcome, return_exceptions=return_exceptions):
                        yield outcome.index, collected.answer(outcome)
        finally:
            self._runs.over(run, collected.outcomes)
        yield from collected.rest(return_exceptions=return_exceptions)

    async def abatch_as_completed(
        self,
        inputs: Sequence[Any],
        config: Configs = None,
        *,
        return_exceptions: bool = False,
        priorities: Sequence[float] | None = None,
        ids: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[tuple[int, Any]]:
        """`batch_as_completed` on the running loop."""
        inputs = list_in(inputs)
        asked = of_list(inputs, config, kwargs, ids=ids, priorities=priorities)
        collected = Collected(inputs)
        run = self._runs.remember(AsyncRun(await self._runs.aengine(asked)))
        try:
            with collected.telling():
                async with run:
                    collected.run = run
                    while (outcome := await collected.anext_of(run)) is not None:
                        if collected.shows(outcome, return_exceptions=return_exceptions):
                            yield outcome.index, collected.answer(outcome)
        finally:
            self._runs.over(run, collected.outcomes)
        for pair in collected.rest(return_exceptions=return_exceptions):
            yield pair

    # -- any iterable of rows, lazily

    @overload
    def start(self, rows: Rows, ids: Ids = ..., priorities: Ranks = ..., **how: Unpack[Whole]) -> Run: ...
    @overload
    def start(
        self, rows: Rows, ids: Ids = ..., priorities: Ranks = ..., **how: Unpack[Streamed]
    ) -> Run[StreamEvent]: ...
    @overload
    def start(
        self, rows: Rows, ids: Ids = ..., priorities: Ranks = ..., **how: Unpack[Either]
    ) -> Run[Any]: ...
    def start(
        self,
        rows: Rows,
        ids: Sequence[Any] | Callable[[Any], Any] | None = None,
        priorities: Sequence[float] | Callable[[Any], float] | None = None,
        *,
        config: RunnableConfig | None = None,
        skip_stored: bool = False,
        retry_failed: bool = False,
        stream: bool = False,
    ) -> Run[Any]:
        """Make a run over any iterable of rows, read lazily; iterate it inside `with` to get outcomes as they complete.

        The run is opened in the store now; no row is read and no model called before the `with`.

        Args:
            rows: a list, a table (pandas, polars, Arrow, datasets), an iterator or an async iterator.
            ids: one for each row, or a function of the row.
            priorities: one for each row, or a function of the row; higher starts first.
            config: for every row.
            skip_stored: rows that the store holds are only counted; else they come as outcomes.
            retry_failed: rows that failed for good are done again, too.
            stream: the iteration gives events instead, as they happen: `RowStarted`, `RowChunk`, `RowRestarted` (the
                row's chunks so far are void), `RowFinished` with the outcome.

        Raises:
            RunStopped: at the end of the iteration, if the run stopped early.
        """
        asked = of_any(
            rows,
            config,
            ids=ids,
            priorities=priorities,
            skip_stored=skip_stored,
            retry_failed=retry_failed,
            streaming=stream,
        )
        return self._streaming(self._runs.run(asked), stream)

    @overload
    def astart(
        self, rows: Rows, ids: Ids = ..., priorities: Ranks = ..., **how: Unpack[Whole]
    ) -> AsyncRun: ...
    @overload
    def astart(
        self, rows: Rows, ids: Ids = ..., priorities: Ranks = ..., **how: Unpack[Streamed]
    ) -> AsyncRun[StreamEvent]: ...
    @overload
    def astart(
        self, rows: Rows, ids: Ids = ..., priorities: Ranks = ..., **how: Unpack[Either]
    ) -> AsyncRun[Any]: ...
    def astart(
        self,
        rows: Rows,
        ids: Sequence[Any] | Callable[[Any], Any] | None = None,
        priorities: Sequence[float] | Callable[[Any], float] | None = None,
        *,
        config: RunnableConfig | None = None,
        skip_stored: bool = False,
        retry_failed: bool = False,
        stream: bool = False,
    ) -> AsyncRun[Any]:
        """`start` on the running loop: iterate inside `async with`, which opens the store, on a thread."""
        asked = of_any(
            rows,
            config,
            ids=ids,
            priorities=priorities,
            skip_stored=skip_stored,
            retry_failed=retry_failed,
            streaming=stream,
        )
        return self._streaming(self._runs.arun(asked), stream)

    @staticmethod
    def _streaming(run: AnyRun, stream: bool) -> AnyRun:
        if stream:
            from cottonpalm.engine.output.stream_events import StreamEvents  # noqa: PLC0415 - only for such a run

            run.stream = StreamEvents()
        return run

    async def stream_batch(
        self, inputs: Rows, config: RunnableConfig | None = None, *, max_concurrency: int | None = None
    ) -> AsyncIterator[tuple[int, Any]]:
        """Yield (index, chunk) of many rows, interleaved as they come. Failures are raised at the end.

        If a row breaks off or its answer is refused, and it is asked again, `(index, RESTARTED)` says that its pieces
        so far are void; the next pieces are the new answer from its beginning. A row that the cache or the store knows
        comes as one piece. A slow reader slows the calls; leaving early closes every connection.
        """
        inputs = rows_in(inputs)
        asked = RunAsked(
            rows=inputs,
            configs=same_for_all(config),
            most=most_at_once(config, max_concurrency),
            streaming=True,
        )
        collected = Collected(inputs if isinstance(inputs, Sequence) else ())
        run = self._runs.remember(AsyncRun(await self._runs.aengine(asked)))
        try:
            async with run:
                collected.run = run
                while (got := await collected.anext_of(run)) is not None:
                    for piece in collected.pieces(got):
                        yield row_of(got), piece
        finally:
            self._runs.over(run, collected.outcomes if isinstance(inputs, Sequence) else None)
        collected.raise_failures()

    # -- a table

    def map_table(
        self,
        table: Table,
        output: str | None = "answer",
        *,
        ids: Any = None,
        config: RunnableConfig | None = None,
    ) -> Table:
        """Return the table with a column of answers, and one that says why a row has none; the kind stays the same.

        The rows go to the chain as dicts, without the columns that are written here: so a table that has its answers
        already asks the same again, and a store has them.

        Args:
            table: a pandas or polars frame, an Arrow table, a dataset, or a list of dicts; it is not changed.
            output: the column of the answers; failed rows have None there, and their error in `<output>_error`. None:
                the answers are objects, and each of their fields becomes a column, beside `error`; where the table has
                a column of such a name, it is kept, and ours is called `cottonpalm_<name>`.
            ids: one for each row (a column will do), or a function of the row.
            config: for every row.

        Raises:
            ConfigError: it is no table, or the chain reads the column that is to hold the answers.
            RunStopped: the run stopped early.
        """
        table = one_table(table)
        collected = self._columns_in(table, output)
        collected.wait(self._collect(collected, config, ids=ids, kwargs={}))
        return self._with_answers(table, output, collected)

    async def amap_table(
        self,
        table: Table,
        output: str | None = "answer",
        *,
        ids: Any = None,
        config: RunnableConfig | None = None,
    ) -> Table:
        """`map_table` on the running loop."""
        table = one_table(table)
        collected = self._columns_in(table, output)
        await self._collect(collected, config, ids=ids, kwargs={})
        return self._with_answers(table, output, collected)

    def _columns_in(self, table: Any, output: str | None) -> Collected:
        from cottonpalm.tables import check_not_read, written  # noqa: PLC0415 - only for a table

        check_not_read(self._builder.facts.names_read, written(table, output))
        return Collected(list_in(rows_in(table, without=written(table, output))))

    @staticmethod
    def _with_answers(table: Table, output: str | None, collected: Collected) -> Table:
        from cottonpalm.tables import with_answers  # noqa: PLC0415 - only for a table

        collected.answers_or_none()  # raises why the run stopped
        found: Table = with_answers(table, output, collected.outcomes)
        return found

    # -- looking ahead

    def plan(
        self,
        rows: Rows,
        *,
        ids: Sequence[Any] | Callable[[Any], Any] | None = None,
        config: RunnableConfig | None = None,
        sample: int = 0,
    ) -> Plan:
        """Find what `start(rows)` would ask, cost and take in time. No model is called, except for a sample.

        The rows are read once, in bounded memory. For some rows the chain runs up to its first requests, which are not
        sent; the steps before them do run. If the run's store holds at least 20 answers, the plan estimates the other
        rows from these.

        Args:
            rows: any iterable; an iterator is used up.
            ids: as for `start`.
            config: for every row.
            sample: so many rows, drawn at random, are really run, live; a store, if there is one, keeps their answers.

        Raises:
            ConfigError: `sample` is negative.
            RunStopped: the sample's run was stopped.
            StoreError: as for `start`.
        """
        return bridge().wait(self.aplan(rows, ids=ids, config=config, sample=sample))

    async def aplan(
        self,
        rows: Rows,
        *,
        ids: Sequence[Any] | Callable[[Any], Any] | None = None,
        config: RunnableConfig | None = None,
        sample: int = 0,
    ) -> Plan:
        """`plan` on the running loop."""
        configs = same_for_all(config)
        from cottonpalm.planning.planner import survey_of  # noqa: PLC0415 - few plan

        survey = await survey_of(self._builder, rows_in(rows), ids=ids, configs=configs, sample=sample)
        drawn, found = survey.drawn(sample), survey.found
        of = SampleOf(found.rows, survey.stored) if len(drawn) < found.asked else None
        outcomes, limit = await self._sampled(drawn, configs, of, most_at_once(config))
        return survey.plan(outcomes, limit or self._settings.cap)

    async def _sampled(
        self, drawn: list[Item], configs: Any, of: SampleOf | None, most: int | None
    ) -> tuple[list[Outcome], float | None]:
        """Run the drawn rows; return their outcomes, and the limit at the end. `of`: `RunAsked.sample_of`."""
        if not drawn:
            return [], None
        ids = [item.id for item in drawn] if any(item.id is not None for item in drawn) else None
        asked = RunAsked(
            rows=[item.row for item in drawn],
            ids=ids,
            configs=configs,
            most=most,
            sampled=True,
            sample_of=of,
        )
        async with self._runs.remember(AsyncRun(await self._runs.aengine(asked))) as run:
            outcomes = [outcome async for outcome in run]
            return [outcome for outcome in outcomes if outcome.status != "skipped"], run.stats.limit

    # -- the failed rows again

    def start_failed(self) -> Run:
        """Make a run over the failed rows of the store, including those that failed for good, from their stored inputs.

        An outcome's `index` is the row's number in the store.

        Raises:
            ConfigError: there is no store.
        """
        return self._runs.run_failed()

    def retry(
        self,
        rows: Rows | None = None,
        config: Configs = None,
        *,
        ids: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> list[Outcome]:
        """Do the failed rows again, including those that failed for good; return their outcomes, in row order.

        Right after `batch`, no argument is needed: each row is asked as before, with its config and keywords.

        Args:
            rows: the run's rows, if the store does not keep them (`store_inputs=False`).
            config: as it was given with these rows.
            ids: as they were given with these rows.
            kwargs: as they were given with these rows.

        Raises:
            ConfigError: there is no run to take failed rows from, or not all that their answers depend on.
            RunStopped: as for `start`.
        """
        if rows is None and (config is not None or ids is not None or kwargs):
            raise ConfigError("a config, ids or keywords for retry() need the rows they were given with")
        return self._runs.retry(rows, config, ids, kwargs)

    @property
    def last_run(self) -> BaseRun | None:
        """The latest run of many rows; None before the first, and after the caller dropped a run made by `start`.

        After `batch`, its `as_completed` forms and `stream_batch`, it has their outcomes.
        """
        return self._runs.last


def _where(store: object) -> str:
    return shown_store(store) if isinstance(store, str | Path) else repr(store)
