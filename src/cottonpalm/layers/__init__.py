"""Layers: what concerns a row's answer as a whole. Their order is data, with its reasons beside it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cottonpalm.protocols import Inner, Layer


def stack(layers: Sequence[Layer], send: Inner) -> Inner:
    """Fold layers round `send`; the first one listed sees the call first."""
    for layer in reversed(layers):
        send = partial(layer, inner=send)
    return send
