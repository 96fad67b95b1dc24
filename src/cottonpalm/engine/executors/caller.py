"""How a chain is called for one row: on the loop or on a thread, under a coarse permit where nothing finer is seen.

Several equal chains stand behind one caller: each row is answered where a permit is free, and goes to another chain
when that one fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from langchain_core.messages import AIMessageChunk
from langchain_core.runnables.config import ensure_config, merge_configs

from cottonpalm.chain.correcting import corrected
from cottonpalm.chain.traits import has_old_models
from cottonpalm.request.endpoints import Moved, Stay, Team
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

    from cottonpalm.engine.output.outbox import Pieces
    from cottonpalm.request.row_account import RowAccount
    from cottonpalm.request.run_account import RunAccount
    from cottonpalm.runtime.threads import Crew
    from cottonpalm.types import Fault, Item

_END: Final = object()  # a stream has no more chunks


class Caller:
    """Calls one chain.

    Args:
        chain: any Runnable; never copied, never changed.
        how: "async" calls `ainvoke`; "threads" calls `invoke` on threads of our own.
        run: what the requests of the run share; its grain says whether a coarse permit is needed.
        judge: exception -> Fault, for the verdict on a coarse permit.
        kwargs: what the user passed along with the rows.
    """

    def __init__(
        self,
        chain: Runnable[Any, Any],
        how: Literal["async", "threads"],
        run: RunAccount,
        judge: Callable[[BaseException], Fault],
        *,
        kwargs: Mapping[str, Any],
    ) -> None:
        self.chain = chain
        self.pieces: Pieces | None = None  # where chunks go, in a streaming run
        self.crew: Crew | None = None
        self._how, self._run, self._judge = how, run, judge
        self._kwargs = dict(kwargs)
        self._handler: Any = None

    def prepare(self, crew: Crew, pieces: Pieces | None) -> None:
        """On the loop of the run: the threads to use where threads are needed, and where chunks are to be shown."""
        threads = self._how == "threads"
        self.crew, self.pieces = crew if threads else None, pieces
        # On a loop, LangChain tells an old-style model's start to inline handlers alone, once there is one among them.
        hides = not threads and has_old_models(self.chain)
        self._handler = None if hides else callback.handler(threads=threads)

    def __call__(self, item: Item) -> Awaitable[Any]:
        """The chain's output for this row, or its own exception."""
        item.calls += 1
        if self._run.flow.grain in ("unknown", "row"):
            return self._permitted(item)
        item.account.entered()  # takes nothing then, but lets go of what outer rows hold
        return self._output(item)  # one coroutine less to resume at each of its requests

    async def _permitted(self, item: Item) -> Any:
        """The output, under the row's own permit."""
        account = item.account
        if not account.entered():
            await account.enter()
        verdict, pause_s = Verdict.IGNORED, 0.0
        try:
            output = await self._output(item)
            verdict = Verdict.SUCCESS
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
        chain, config = self._asked(item), self._config(item)
        if self.crew is not None:
            return self.crew.run(partial(self._on_thread, chain, item.row, config, item.account))
        item.account.calling = True
        return chain.ainvoke(own(item.row), config, **self._kwargs)

    def _asked(self, item: Item) -> Runnable[Any, Any]:
        """The chain, which tells its model what was wrong where the row's last answer was refused."""
        if item.refused is None or self._kwargs:  # which are meant for the chain's own first step
            return self.chain
        return corrected(self.chain, item.refused)

    def _on_thread(
        self, chain: Runnable[Any, Any], row: Any, config: RunnableConfig | None, account: RowAccount
    ) -> Any:
        account.called()
        return chain.invoke(own(row), config, **self._kwargs)

    def _config(self, item: Item) -> RunnableConfig | None:
        """The row's own config, with the permit callback while it is not known what the chain's calls are."""
        if self._handler is None or self._run.flow.grain == "row" or not self._run.flow.wants_handler:
            config: RunnableConfig | None = item.config
            return config
        return merge_configs(ensure_config(item.config), {"callbacks": [self._handler]})

    async def _streamed(self, item: Item, pieces: Pieces) -> Any:
        """Show each chunk as it comes; the output is their sum, or the last one where they do not add up."""
        await pieces.begin(item)
        item.account.called()
        seen: list[Any] = []
        async with aclosing(self._chunks(item)) as chunks:
            async for chunk in chunks:
                await pieces.show(item, chunk)
                seen.append(chunk)
        return _added(seen)

    def _chunks(self, item: Item) -> AsyncGenerator[Any]:
        chain, config = self._asked(item), self._config(item)
        if self.crew is not None:
            return _pulled(self.crew, lambda: chain.stream(own(item.row), config, **self._kwargs))
        return _passed_on(chain.astream(own(item.row), config, **self._kwargs))


async def _passed_on(chunks: AsyncIterator[Any]) -> AsyncGenerator[Any]:
    try:
        async for chunk in chunks:
            yield chunk
    finally:  # at once, so that a stream that is left tells its callbacks of its end
        if (close := getattr(chunks, "aclose", None)) is not None:
            await close()


async def _pulled(crew: Crew, stream: Callable[[], Iterator[Any]]) -> AsyncGenerator[Any]:
    """Each chunk of a sync stream as it is made, on the threads of the crew, all in one context."""
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
        # One that is left while at work is closed when its thread is done with it; its answer may just have come.
        if pull is None or not pull.cancelled():
            await crew.run(close)


def own(row: Any) -> Any:
    """What the chain gets of a row: a copy, where it is a plain dict or list.

    A chain that edits its input then changes neither what is stored nor what the next try is asked.
    """
    return row.copy() if type(row) in (dict, list) else row


def _added(chunks: list[Any]) -> Any:
    """Their sum, or the last where they do not add up. Never one by one: each step would copy, and parse, the whole."""
    if chunks and all(isinstance(chunk, AIMessageChunk) for chunk in chunks):
        return chunks[0] + chunks[1:]
    sums = chunks
    try:
        while len(sums) > 1:
            pairs = [first + second for first, second in zip(sums[::2], sums[1::2], strict=False)]
            sums = pairs + sums[2 * len(pairs) :]
    except TypeError:
        return chunks[-1]
    return sums[0] if sums else None


LOOK_S: Final = 0.5  # between looks at the lines, while any row waits in one
_OURS_TO_RAISE: Final = (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit, MemoryError)


class Replicas:
    """A caller of equal chains, to be used in place of a `Caller`.

    Args:
        callers: how to call each chain, the processor's own first.
        run: what the requests of the run share.
        judge: exception -> Fault.
        hopeless: True for an exception after which no endpoint may be asked (the budget is reached).
    """

    def __init__(
        self,
        callers: Sequence[Caller],
        run: RunAccount,
        judge: Callable[[BaseException], Fault],
        hopeless: Callable[[BaseException], bool],
    ) -> None:
        self._callers, self._judge, self._hopeless = callers, judge, hopeless
        self._team = run.team = Team(run.flow, run.alerts, len(callers), self._stir)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._stirred = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def crew(self) -> Crew | None:
        """The threads that any of the chains needs."""
        return next((caller.crew for caller in self._callers if caller.crew is not None), None)

    def prepare(self, crew: Crew, pieces: Pieces | None) -> None:
        """On the loop of the run: see `Caller.prepare`."""
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        for caller in self._callers:
            caller.prepare(crew, pieces)

    async def __call__(self, item: Item) -> Any:
        """The row's answer from whichever chain gives one, or the exception of the last that was asked."""
        account, failed_at = item.account, set[int]()
        stay: Stay | None = None
        while True:
            stay = account.stay = self._team.arrive(item, failed_at, stay)
            try:
                return await self._callers[stay.endpoint.number](item)
            except _OURS_TO_RAISE:
                raise
            except BaseException as exc:
                if not (stay.left or self._goes_elsewhere(stay, item, exc)):
                    raise
            finally:
                self._team.depart(stay)
                account.stay = None  # a fallback's requests are at none of these endpoints
            account.fresh()

    def _goes_elsewhere(self, stay: Stay, item: Item, exc: BaseException) -> bool:
        """Whether a fault that its requests did not show is this endpoint's alone."""
        if isinstance(exc, Moved) or not isinstance(exc, Exception):
            return False
        if item.account.spent is not None or self._hopeless(exc):
            return False
        return stay.raised(self._judge(exc))

    # -- rows in line

    def _stir(self) -> None:
        """Rows may be better off elsewhere: look soon, when new rows had their chance. From any thread."""
        if self._stirred or self._loop is None:
            return
        self._stirred = True
        if threading.get_ident() == self._thread:
            self._loop.call_soon(self._look)
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: the run is over
            self._loop.call_soon_threadsafe(self._look)

    def _look(self) -> None:
        self._stirred = False
        self._team.spread()
        if self._team.in_line and self._timer is None and self._loop is not None:
            self._timer = self._loop.call_later(LOOK_S, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        self._look()


def one_of(
    callers: Sequence[Caller],
    run: RunAccount,
    judge: Callable[[BaseException], Fault],
    hopeless: Callable[[BaseException], bool],
) -> Caller | Replicas:
    """The one caller there is, or several as one."""
    return callers[0] if len(callers) == 1 else Replicas(callers, run, judge, hopeless)
