"""One row: `invoke`, `stream` and their async forms, under the limits, budget and cache of the batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cottonpalm.chain.face import ChainFace
from cottonpalm.engine.input.row_configs import one_each
from cottonpalm.results import Collected
from cottonpalm.run import AsyncRun, Run
from cottonpalm.runtime.bridge import bridge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from langchain_core.runnables import RunnableConfig

    from cottonpalm.engine.build import Builder
    from cottonpalm.engine.engine import Engine


class SingleCalls(ChainFace):
    """Calls for one input. They never read or write a run of the store."""

    _builder: Builder

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """The chain's output for one input, or its own exception."""
        return bridge().wait(self._answer(input, config, kwargs, awaited=False))

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """`invoke` on the running loop."""
        return await self._answer(input, config, kwargs, awaited=True)

    async def _answer(
        self, row: Any, config: RunnableConfig | None, kwargs: dict[str, Any], *, awaited: bool
    ) -> Any:
        async with AsyncRun(self._single(row, config, kwargs, awaited=awaited)) as run:
            collected = Collected([row])
            collected.run = run
            await collected.fill(run)
        return collected.only()

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """The chain's chunks for one input."""
        collected = Collected([input])
        with Run(self._single(input, config, kwargs, streaming=True)) as run:
            collected.run = run
            while (got := collected.next_of(run)) is not None:
                yield from collected.pieces(got)
        collected.only()

    async def astream(
        self,
        input: Any,
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        """`stream` on the running loop."""
        collected = Collected([input])
        async with AsyncRun(self._single(input, config, kwargs, streaming=True, awaited=True)) as run:
            collected.run = run
            while (got := await collected.anext_of(run)) is not None:
                for piece in collected.pieces(got):
                    yield piece
        collected.only()

    def _single(
        self,
        row: Any,
        config: RunnableConfig | None,
        kwargs: dict[str, Any],
        *,
        streaming: bool = False,
        awaited: bool = False,
    ) -> Engine:
        """An engine for one row. One that is awaited takes the chain's async form, as the bare call would."""
        return self._builder.engine(
            [row],
            configs=one_each(config, 1),
            kwargs=kwargs,
            streaming=streaming,
            many=False,
            awaited=awaited,
        )
