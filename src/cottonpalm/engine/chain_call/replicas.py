"""Stands for several equal chains: sends each row to one with a free permit, and to another when that one fails."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.request.endpoints.endpoints import Moved, Stay, Team
from cottonpalm.request.endpoints.routing import Failed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cottonpalm.engine.chain_call.caller import Caller
    from cottonpalm.engine.output.outbox import Pieces
    from cottonpalm.request.run_account import RunAccount
    from cottonpalm.runtime.threads import Crew
    from cottonpalm.types import Fault, Item

LOOK_S: Final = 0.5  # seconds between two looks at the endpoints' queues, while a row waits in one
_OURS_TO_RAISE: Final = (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit, MemoryError)


class Replicas:
    """A caller of equal chains, to be used in place of a `Caller`.

    Args:
        callers: how to call each chain, the processor's own first.
        run: what the requests of the run share.
        judge: exception -> Fault.
        hopeless: True for an exception after which no endpoint may be asked, as when the budget is reached.
    """

    def __init__(
        self,
        callers: Sequence[Caller],
        run: RunAccount,
        judge: Callable[[BaseException], Fault],
        hopeless: Callable[[BaseException], bool],
    ) -> None:
        self._callers, self._judge, self._hopeless = callers, judge, hopeless
        by_prompt = run.prompts.mode != "off"
        self._team = run.team = Team(run.flow, run.alerts, len(callers), self._stir, by_prompt=by_prompt)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._stirred = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def crew(self) -> Crew | None:
        """The crew that the chains need; None if none of them needs threads."""
        return next((caller.crew for caller in self._callers if caller.crew is not None), None)

    def prepare(self, crew: Crew, pieces: Pieces | None) -> None:
        """Prepare all chains, on the run's loop; see `Caller.prepare`."""
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        for caller in self._callers:
            caller.prepare(crew, pieces)

    async def __call__(self, item: Item) -> Any:
        """Return the row's answer from the first chain that gives one; else raise what the last chain raised."""
        account, failed = item.account, Failed()
        stay: Stay | None = None
        while True:
            stay = account.stay = self._team.arrive(item, failed, stay)
            sent, calls = account.attempts, item.calls
            try:
                answer = await self._callers[stay.endpoint.number](item)
                if item.shown or not stay.broken:
                    return answer
                left = True  # the chain has made something up in an answer's place
            except _OURS_TO_RAISE:
                raise
            except BaseException as exc:
                left = stay.left
                if not left and not self._goes_elsewhere(stay, item, exc):
                    raise
            finally:
                self._team.depart(stay)
                account.stay = None  # a fallback's requests go to none of these endpoints
            if left and account.attempts == sent:  # it only waited there: that was no try of it
                item.calls = calls
            account.fresh()

    def _goes_elsewhere(self, stay: Stay, item: Item, exc: BaseException) -> bool:
        """Whether the row goes to another endpoint after a fault that did not show at its requests."""
        if isinstance(exc, Moved) or not isinstance(exc, Exception):
            return False
        if item.account.spent is not None or self._hopeless(exc):
            return False
        return stay.raised(self._judge(exc))

    # -- rows that wait in a queue

    def _stir(self) -> None:
        """Look soon, from any thread, whether waiting rows should move to another endpoint; new rows choose first."""
        if self._stirred or self._loop is None:
            return
        self._stirred = True
        if threading.get_ident() == self._thread:
            self._loop.call_soon(self._look)
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed, so the run is over
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
    """Return the only caller, or one caller that stands for several."""
    return callers[0] if len(callers) == 1 else Replicas(callers, run, judge, hopeless)
