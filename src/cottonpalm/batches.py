"""Many rows through the interface of a Runnable: `batch`, `batch_as_completed` and their async forms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cottonpalm.engine.input.row_configs import Configs, most_at_once, one_each
from cottonpalm.making import Asked, RunMaking
from cottonpalm.results import Collected
from cottonpalm.run import AsyncRun, Run
from cottonpalm.runtime.bridge import bridge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from cottonpalm.engine.build import Stored


class BatchCalls(RunMaking):
    """Calls for a list of rows, with LangChain's signatures."""

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
        self,
        collected: Collected,
        config: Configs,
        *,
        priorities: Any = None,
        ids: Any = None,
        kwargs: dict[str, Any],
        stored: Stored = "yield",
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
            stored=stored,
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
