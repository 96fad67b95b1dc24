"""Lets another chain answer a row when the first chain cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cottonpalm.types import Fault, Item, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cottonpalm.protocols import Inner

ANOTHER_MAY_DO_IT: Final = frozenset({Kind.DEGRADE, Kind.THROTTLE, Kind.TRANSIENT, Kind.REASK, Kind.STOP_RUN})


class Fallback:
    """Tries the callers in order until one answers; raises the first one's exception when none does.

    A row that leaves the last one, whose provider is down, begins anew with the first: one before may be back.

    Args:
        callers: how to call each chain, the run's own first.
        judge: exception -> Fault.
        hopeless: True for an exception after which no model may be asked (the budget is reached).
    """

    def __init__(
        self,
        callers: Sequence[Any],
        judge: Callable[[BaseException], Fault],
        hopeless: Callable[[BaseException], bool],
    ) -> None:
        self._callers, self._judge, self._hopeless = callers, judge, hopeless

    async def __call__(self, item: Item, inner: Inner) -> Any:
        """Return the first good answer."""
        first: Exception | None = None
        while first is None or ((back := item.account.back) is not None and back.is_taken()):
            for caller in self._callers:
                item.caller, item.account.spare = caller, caller is not self._callers[-1]
                try:
                    return await inner(item)
                except Exception as exc:  # noqa: BLE001 - classified at once
                    first = first or exc
                    if item.shown or self._hopeless(exc) or self._judge(exc).kind not in ANOTHER_MAY_DO_IT:
                        raise first from first.__cause__
                    item.account.fresh()
        raise first
