"""Layers: what concerns a row's answer as a whole. Their order is data, with its reasons beside it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cottonpalm.model import Item
    from cottonpalm.protocols import Inner, Layer


def stack(layers: Sequence[Layer], send: Inner) -> Inner:
    """Fold layers round `send`; the first one listed sees the call first."""
    for layer in reversed(layers):
        send = partial(layer, inner=send)
    return send


def stack_on_failure(layers: Sequence[Layer], send: Inner) -> Inner:
    """`stack` for layers that only act on what is raised: they are put round a row whose first call has failed.

    They then see the same calls as ever, the failed one first; a row that succeeds at once never pays for them.
    """
    if not layers:
        return send

    async def first(item: Item) -> Any:
        try:
            return await send(item)
        except Exception as exc:  # noqa: BLE001 - raised again as the layers' first call
            failure = exc
        return await stack(layers, _Begun(failure, send))(item)

    return first


class _Begun:
    """Calls of which the first has been made, and failed."""

    def __init__(self, failure: Exception, send: Inner) -> None:
        self._failure: Exception | None = failure
        self._send = send

    async def __call__(self, item: Item) -> Any:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        return await self._send(item)
