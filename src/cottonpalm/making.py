"""Makes the runs of a processor, remembers the latest one, and does failed rows again."""

from __future__ import annotations

import weakref
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from cottonpalm.engine.input.frames import rows_in
from cottonpalm.engine.input.row_configs import for_rows, most_at_once, one_each, same_for_all
from cottonpalm.engine.run_asked import RunAsked
from cottonpalm.errors import ConfigError
from cottonpalm.run import AsyncRun, BaseRun, Run
from cottonpalm.stores import is_in_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from langchain_core.runnables import RunnableConfig

    from cottonpalm.engine.build import Builder
    from cottonpalm.engine.engine import Engine
    from cottonpalm.engine.input.reader import Rows
    from cottonpalm.engine.input.row_configs import Configs
    from cottonpalm.engine.opened import Opened
    from cottonpalm.types import Outcome

AnyRun = TypeVar("AnyRun", bound=BaseRun)


def of_list(
    rows: Sequence[Any],
    config: Configs,
    kwargs: Mapping[str, Any],
    *,
    ids: Sequence[Any] | None,
    priorities: Sequence[float] | None,
    retry_failed: bool = False,
) -> RunAsked:
    """What is asked of the run of a list, with a config for each row or one for all."""
    return RunAsked(
        rows=rows,
        ids=ids,
        priorities=priorities,
        configs=one_each(config, len(rows)),
        kwargs=kwargs,
        most=most_at_once(config),
        retry_failed=retry_failed,
    )


def of_any(
    rows: Any,
    config: RunnableConfig | None,
    *,
    ids: Sequence[Any] | Callable[[Any], Any] | None,
    priorities: Sequence[float] | Callable[[Any], float] | None,
    skip_stored: bool,
    retry_failed: bool,
    streaming: bool,
) -> RunAsked:
    """What is asked of the run of whatever gives rows, with one config for all."""
    return RunAsked(
        rows=rows_in(rows),
        ids=ids,
        priorities=priorities,
        configs=same_for_all(config),
        most=most_at_once(config),
        skip_stored=skip_stored,
        retry_failed=retry_failed,
        streaming=streaming,
    )


async def _has_left(before: Callable[[], BaseRun | None]) -> None:
    """Wait for the run before this one, if it is being left. Not within a row: that run may wait for the row."""
    if isinstance(run := before(), AsyncRun):
        from cottonpalm.request.row_account import ROW  # noqa: PLC0415 - an import of the processor is quick

        if ROW.get() is None:
            await run._left()  # noqa: SLF001 - no user asks a run for it


class RunMaker:
    """The runs of one processor."""

    def __init__(self, builder: Builder) -> None:
        self._builder, self._settings = builder, builder.settings
        self._last: Callable[[], BaseRun | None] = _no_run
        self._asked: RunAsked | None = None  # the latest batch's, if no other run came after it

    # -- runs

    @property
    def last(self) -> BaseRun | None:
        """See `BatchProcessor.last_run`."""
        return self._last()

    def run(self, asked: RunAsked) -> Run:
        """Make a run; it is opened in the store now."""
        return self.remember(Run(self.engine(asked)))

    def arun(self, asked: RunAsked) -> AsyncRun:
        """Make a run on the caller's loop; it is opened when it begins, if that touches the disk."""
        if not self._on_disk:
            return self.remember(AsyncRun(self.engine(asked)))
        before = self.last
        first = None if before is None else partial(_has_left, weakref.ref(before))
        return self.remember(AsyncRun(partial(self.engine, asked), first=first))

    def remember(self, run: AnyRun, *, keep: bool = False, asked: RunAsked | None = None) -> AnyRun:
        """Set `last_run`. A batch's run is kept with its outcomes; any other run lives only as long as its reader."""
        self._last = (lambda: run) if keep else weakref.ref(run)
        self._asked = asked
        return run

    def over(self, run: BaseRun, outcomes: list[Outcome] | None) -> None:
        """A run that only a generator of ours has read is over: its user, who never held it, finds it as `last_run`.

        Its outcomes are None where nobody collected them, as the rows came from an iterator.
        """
        if outcomes is not None:
            run.keep(outcomes)
        if self._last() is run:
            self._last = lambda: run

    # -- engines

    def single(
        self,
        row: Any,
        config: RunnableConfig | None,
        kwargs: dict[str, Any],
        *,
        streaming: bool = False,
        awaited: bool = False,
    ) -> Engine:
        """Make an engine for one row. An awaited row uses the chain's async form, as the bare chain would."""
        configs = one_each(config, 1)
        return self._builder.engine(
            RunAsked(
                rows=[row], configs=configs, kwargs=kwargs, streaming=streaming, many=False, awaited=awaited
            )
        )

    def engine(self, asked: RunAsked) -> Engine:
        """Make an engine for these rows, in the store's run if there is one."""
        return self._made(self._builder.open_run(), asked)

    async def aengine(self, asked: RunAsked) -> Engine:
        """Do the same, but open the store on a thread if that touches the disk."""
        from cottonpalm.engine.opened import let_go, on_a_thread  # noqa: PLC0415 - an import of the processor is quick

        await _has_left(self._last)
        opening = self._builder.open_run
        return self._made(await on_a_thread(opening, let_go) if self._on_disk else opening(), asked)

    @property
    def _on_disk(self) -> bool:
        """Whether opening a run touches the disk."""
        store, cache = self._settings.store, self._settings.cache
        in_memory = store is None or is_in_memory(store)
        return not in_memory or (cache is not None and cache.path is not None)

    def _made(self, opened: Opened | None, asked: RunAsked) -> Engine:
        """Make an engine. If the call has an error, close the opened run, so that the next call can have it."""
        try:
            return self._watched(self._builder.engine(asked, opened))
        except BaseException:
            from cottonpalm.engine.opened import let_go  # noqa: PLC0415 - an import of the processor is quick

            let_go(opened)
            raise

    def _watched(self, engine: Engine) -> Engine:
        if self._settings.progress:
            from cottonpalm.observers.notebook import NotebookProgress, in_notebook  # noqa: PLC0415 - rich is slow
            from cottonpalm.observers.terminal.progress import Progress  # noqa: PLC0415 - likewise

            progress = NotebookProgress() if in_notebook() else Progress()
            budget = self._settings.budget
            progress.watch(engine.stats, None if budget is None else lambda: budget.total)
            engine.add_observer(progress)
        return engine

    # -- the failed rows again

    def run_failed(self) -> Run:
        """Make a run over the failed rows of the store."""
        return self.remember(Run(self._watched(self._builder.engine_for_failed())))

    def retry(
        self, rows: Rows | None, config: Configs, ids: Sequence[Any] | None, kwargs: dict[str, Any]
    ) -> list[Outcome]:
        """See `BatchProcessor.retry`."""
        if self._settings.store is None:
            return self._retry_last()
        last = asked = self._asked
        if rows is not None:
            rows = rows_in(rows)
            configs, most = for_rows(config, rows), most_at_once(config)
            asked = RunAsked(rows=rows, ids=ids, configs=configs, kwargs=kwargs, most=most)
        outcomes: list[Outcome] = []
        run = self.remember(self._failed_run(asked, given=rows is not None), asked=last)
        try:
            with run:
                outcomes.extend(run)
        finally:
            outcomes.sort(key=lambda outcome: outcome.index)
            self.over(run, outcomes)
        return list(outcomes)

    def _failed_run(self, asked: RunAsked | None, *, given: bool) -> Run:
        """Make the run from the rows, if they are given or their answers depend on more; else from the store."""
        if asked is None or not (given or asked.configs or asked.kwargs):
            return Run(self._watched(self._builder.engine_for_failed()))
        return Run(self.engine(replace(asked, priorities=None, skip_stored=True, retry_failed=True)))

    def _retry_last(self) -> list[Outcome]:
        last, asked = self.last, self._asked
        if last is None or asked is None:
            raise ConfigError(
                "retry() found no batch to go on with: call batch first, or give store= and run="
            )
        known = last.outcomes()
        failed = [outcome for outcome in known if outcome.status != "ok"]
        configs = asked.configs
        again = RunAsked(
            rows=[outcome.input for outcome in failed],
            configs=[configs[outcome.index] for outcome in failed] if isinstance(configs, list) else configs,
            kwargs=asked.kwargs,
            most=asked.most,
        )
        with Run(self.engine(again)) as run:
            for outcome in run:
                outcome.index = failed[outcome.index].index
                outcome.id = known[outcome.index].id
                known[outcome.index] = outcome
        return [known[outcome.index] for outcome in failed]


def _no_run() -> None:
    return None
