"""Several equal chains as one: each row is answered where a permit is free, and goes elsewhere when that one fails."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.request.replicas import Moved, Stay, Team

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cottonpalm.call import Caller
    from cottonpalm.model import Fault, Item
    from cottonpalm.pieces import Pieces
    from cottonpalm.request.account import RunAccount
    from cottonpalm.threads import Crew

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
        self._team = run.team = Team(run, len(callers), self._stir)
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
