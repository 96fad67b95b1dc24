"""Calls a chain for one row, on the loop or on a thread; holds one permit for the whole row if we see no requests."""

from __future__ import annotations

import contextvars
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from langchain_core.runnables.config import ensure_config, merge_configs

from cottonpalm import clock
from cottonpalm.chain.correcting import corrected
from cottonpalm.chain.traits import anybody, has_listeners, has_old_models, speaks
from cottonpalm.chain.walk import at_rest
from cottonpalm.engine.chain_call.going_on import GoingOn, going_on
from cottonpalm.engine.chain_call.step_times import StepTimes, in_sample
from cottonpalm.request.queueing import enter
from cottonpalm.request.transport import callback
from cottonpalm.types import Fault, Item, Kind, Verdict

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Awaitable,
        Callable,
        Iterator,
        Mapping,
        Sequence,
    )

    from langchain_core.runnables import Runnable, RunnableConfig

    from cottonpalm.engine.chain_call.unheard.chain import Unheard
    from cottonpalm.engine.output.outbox import Pieces
    from cottonpalm.request.row_account import RowAccount
    from cottonpalm.request.run_account import RunAccount
    from cottonpalm.runtime.threads import Crew

_END: Final = object()  # marks the end of a stream
_COPIED: Final = (dict, list)
_UNTOLD: Final = (
    "a model of this chain takes text and gives text (it is no chat model), and no request of it is seen: it cannot be "
    "held to a budget, as nothing says what it costs"
)


class Caller:
    """Calls one chain.

    Args:
        chain: any Runnable; never copied, never changed.
        how: "async" calls `ainvoke`; "threads" calls `invoke` on threads of our own.
        run: what the requests of the run share; its grain says whether the row needs a permit of its own.
        judge: exception -> Fault, for the verdict on the row's own permit.
        kwargs: keyword arguments that the user passed for all rows.
        many: it is a run of rows, whose listeners are told which row a call is for.
    """

    def __init__(
        self,
        chain: Runnable[Any, Any],
        how: Literal["async", "threads"],
        run: RunAccount,
        judge: Callable[[BaseException], Fault],
        *,
        kwargs: Mapping[str, Any],
        many: bool,
    ) -> None:
        self.chain = chain
        self.pieces: Pieces | None = None  # where chunks go, in a streaming run
        self.crew: Crew | None = None
        self._how, self._run, self._judge = how, run, judge
        self._kwargs, self._many = dict(kwargs), many
        # what gives a whole answer to a row whose last one was not refused
        self._called: Runnable[Any, Any] | GoingOn = (going_on(chain) if many else None) or chain
        self._heard = False  # somebody listens to every call
        self._sampled = False  # the steps of some rows are measured
        self._old = False  # a model takes text and gives text, and nobody says that it was called
        # Whether it is called on threads -> what gives permits to models that the hook does not see.
        self._gates: dict[bool, Any] = {}
        self._lean: Unheard | None = None
        self._answer: Callable[[Sequence[Any]], Any]  # of a row's chunks, in a streaming run

    def prepare(self, crew: Crew, pieces: Pieces | None) -> None:
        """Set the threads to use if threads are needed, and where to show chunks. Call it on the run's loop."""
        threads = self._how == "threads"
        self.crew, self.pieces = crew if threads else None, pieces
        if pieces is not None:
            from cottonpalm.chain import streamed  # noqa: PLC0415 - its imports cost time

            self._answer = partial(streamed.answer_of, whole=streamed.whole_so_far(self.chain))
        with at_rest():
            old, listened = has_old_models(self.chain), has_listeners(self.chain) or anybody()
            # On a loop, if one handler is inline, LangChain tells only inline handlers that an old-style model starts.
            self._gates = {True: callback.handler(threads=True), False: None if old else callback.handler()}
            self._lean = None if listened else self._leanly(crew)
        self._heard = self._many and listened
        self._sampled, self._old = self._many and not old, old

    def _leanly(self, crew: Crew) -> Unheard | None:
        """How to call the chain's steps where nobody hears it; None: by its own `ainvoke` or `invoke`."""
        run = self._run
        if not run.flow.hooked or run.flow.remembers or self._kwargs:
            return None
        from cottonpalm.engine.chain_call.unheard.chain import unheard  # noqa: PLC0415 - its imports cost time
        from cottonpalm.engine.chain_call.unheard.functions import Place  # noqa: PLC0415

        def gate(*, threads: bool) -> Any:
            return None if run.flow.grain == "row" else self._gates[threads]

        return unheard(self.chain, Place(crew, gate), threads=self._how == "threads")

    def __call__(self, item: Item) -> Awaitable[Any]:
        """Return the chain's output for this row, or raise the chain's exception."""
        item.calls += 1
        item.called_s = clock.now()
        if self._run.flow.grain in ("unknown", "row"):
            return self._permitted(item)
        item.account.entered()  # takes no permit here, but gives back the permits that outer rows hold
        return self._output(item)  # so there is one coroutine less to resume at each request

    async def _permitted(self, item: Item) -> Any:
        """Return the output; hold the row's own permit meanwhile."""
        account = item.account
        if not account.entered():
            await enter(account)
        verdict, pause_s = Verdict.IGNORED, 0.0
        try:
            output = await self._output(item)
            verdict = Verdict.SUCCESS
            if self._old and self._run.ledger is not None and not account.attempts:
                callback.unbounded(account, _UNTOLD)
        except Exception as exc:
            fault = self._judge(exc)
            if fault.kind is Kind.THROTTLE and account.spent is None:
                verdict, pause_s = Verdict.DROPPED, fault.retry_after_s or 0.0
            raise
        finally:
            account.calling = False
            account.leave(verdict, pause_s)
        return output

    def _output(self, item: Item) -> Awaitable[Any]:
        if self.pieces is not None:
            return self._streamed(item, self.pieces)
        chain = self._called if item.refused is None else self._asked(item)
        config, lean = item.config, self._lean
        if lean is not None and chain is self.chain and (config is None or not config.get("callbacks")):
            item.account.calling = not lean.has_code  # which says itself when it is called
            told = self._step_times_to(item) if in_sample(item.index) else None
            row = own(item.row)
            return lean.ask(row) if told is config is None else lean.under(row, config, told)
        if self.crew is not None:
            on_thread = partial(self._on_thread, chain, item.row, self._config(item), item.account)
            return self.crew.run(on_thread)
        item.account.calling = True
        if self._heard or config is not None or self._run.flow.grain != "row" or in_sample(item.index):
            config = self._config(item)
        return chain.ainvoke(own(item.row), config, **self._kwargs)

    def _asked(self, item: Item) -> Runnable[Any, Any]:
        """The chain, which tells its model what was wrong where the row's last answer was refused."""
        if item.refused is None or self._kwargs:  # which are meant for the chain's own first step
            return self.chain
        return corrected(self.chain, item.refused)

    def _on_thread(
        self,
        chain: Runnable[Any, Any] | GoingOn,
        row: Any,
        config: RunnableConfig | None,
        account: RowAccount,
    ) -> Any:
        account.called()
        return chain.invoke(own(row), config, **self._kwargs)

    def _config(self, item: Item) -> RunnableConfig | None:
        """Return the row's config. It includes the permit callback until we know whether the hook sees all models."""
        config: RunnableConfig | None = item.config
        if self._heard or (self._many and speaks(config)):
            config = ensure_config() if config is None else config.copy()
            config["metadata"] = {**config.get("metadata", {}), **_row_names(item)}
        if (told := self._step_times_to(item)) is not None:
            config = merge_configs(ensure_config(config), {"callbacks": [StepTimes(told)]})
        gate = self._gates[self.crew is not None]
        if gate is None or self._run.flow.grain == "row" or not self._run.flow.wants_handler:
            return config
        return merge_configs(ensure_config(config), {"callbacks": [gate]})

    def _step_times_to(self, item: Item) -> Callable[[Mapping[str, tuple[int, float]]], None] | None:
        """Whom to tell how long the steps of this call took; None: it is not in the sample, or is only recorded."""
        measure = self._run.measure
        if not self._sampled or measure is None or not in_sample(item.index):
            return None
        return None if item.account.recording is not None else measure.stepped

    async def _streamed(self, item: Item, pieces: Pieces) -> Any:
        """Show each chunk as it comes. Return the answer that they make."""
        await pieces.begin(item)
        item.account.called()
        seen: list[Any] = []
        async with aclosing(self._chunks(item)) as chunks:
            async for chunk in chunks:
                await pieces.show(item, chunk)
                seen.append(chunk)
        return self._answer(seen)

    def _chunks(self, item: Item) -> AsyncGenerator[Any]:
        chain, config = self._asked(item), self._config(item)
        if self.crew is not None:
            return _pulled(self.crew, lambda: chain.stream(own(item.row), config, **self._kwargs))
        return _passed_on(chain.astream(own(item.row), config, **self._kwargs))


async def _passed_on(chunks: AsyncIterator[Any]) -> AsyncGenerator[Any]:
    try:
        async for chunk in chunks:
            yield chunk
    finally:  # close it now, so that a stream that is not read to its end tells its callbacks of the end
        if (close := getattr(chunks, "aclose", None)) is not None:
            await close()


async def _pulled(crew: Crew, stream: Callable[[], Iterator[Any]]) -> AsyncGenerator[Any]:
    """Yield the chunks of a sync stream as they come. Threads of the crew run it, always in the same context."""
    context, pull = contextvars.copy_context(), None
    chunks = await crew.run(lambda: context.run(stream))

    def close(*_: Any) -> None:
        context.run(getattr(chunks, "close", bool))

    try:
        while True:
            pull = crew.run(lambda: context.run(next, chunks, _END), late=close)
            if (chunk := await pull) is _END:
                break
            yield chunk
    finally:
        # If a thread is still working on the stream, that thread closes it when it is done.
        if pull is None or not pull.cancelled():
            await crew.run(close)


def _row_names(item: Item) -> dict[str, Any]:
    """Which row a run tree is of, and which of its tries, for those who read it: LangSmith, one's own callbacks."""
    names = {"cottonpalm_row": item.index, "cottonpalm_attempt": item.calls}
    return names if item.id is None else {**names, "cottonpalm_id": str(item.id)}


def own(row: Any) -> Any:
    """Return what the chain gets as its input: a copy of the row, if the row is a plain dict or list.

    If the chain then edits its input, this changes neither what the store keeps nor what the next try asks.
    """
    return row.copy() if type(row) in _COPIED else row
