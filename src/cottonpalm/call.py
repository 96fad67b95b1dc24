"""How a chain is called for one row: on the loop or on a thread, under a coarse permit where nothing finer is seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from langchain_core.runnables.config import ensure_config, merge_configs

from cottonpalm.model import Fault, Item, Kind, Verdict
from cottonpalm.request import callback

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from langchain_core.runnables import Runnable, RunnableConfig

    from cottonpalm.pieces import Pieces
    from cottonpalm.request.account import RunAccount
    from cottonpalm.threads import Crew


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
        self._handler = callback.handler(threads=threads)

    def __call__(self, item: Item) -> Awaitable[Any]:
        """The chain's output for this row, or its own exception."""
        item.calls += 1
        if self._run.grain in ("unknown", "row"):
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
            account.leave(verdict, pause_s)
        return output

    def _output(self, item: Item) -> Awaitable[Any]:
        if self.pieces is not None:
            return self._streamed(item, self.pieces)
        config = self._config(item)
        if self.crew is not None:
            return self.crew.run(lambda: self.chain.invoke(own(item.row), config, **self._kwargs))
        return self.chain.ainvoke(own(item.row), config, **self._kwargs)

    def _config(self, item: Item) -> RunnableConfig | None:
        """The row's own config, with the permit callback while it is not known what the chain's calls are."""
        if self._run.grain == "row" or not self._run.wants_handler:
            config: RunnableConfig | None = item.config
            return config
        return merge_configs(ensure_config(item.config), {"callbacks": [self._handler]})

    async def _streamed(self, item: Item, pieces: Pieces) -> Any:
        """Show each chunk as it comes; the output is their sum, or the last one where they do not add up."""
        await pieces.begin(item)
        whole: Any = None
        async for chunk in self._chunks(item):
            await pieces.show(item, chunk)
            whole = _added(whole, chunk)
        return whole

    async def _chunks(self, item: Item) -> AsyncIterator[Any]:
        config = self._config(item)
        if self.crew is None:
            async for chunk in self.chain.astream(own(item.row), config, **self._kwargs):
                yield chunk
            return
        for chunk in await self.crew.run(
            lambda: list(self.chain.stream(own(item.row), config, **self._kwargs))
        ):
            yield chunk


def own(row: Any) -> Any:
    """What the chain gets of a row: a copy, where it is a plain dict or list.

    A chain that edits its input then changes neither what is stored nor what the next try is asked.
    """
    return row.copy() if type(row) in (dict, list) else row


def _added(whole: Any, chunk: Any) -> Any:
    if whole is None:
        return chunk
    try:
        return whole + chunk
    except TypeError:
        return chunk
