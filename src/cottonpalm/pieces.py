"""Where the pieces of streamed answers go, and how a row that is asked again says that it starts over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cottonpalm.outbox import Piece

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.model import Item
    from cottonpalm.outbox import Outbox


class Restarted(str):
    """The type of RESTARTED. It is text, so that whoever only prints or joins pieces sees that there was a break."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "RESTARTED"

    def __reduce__(self) -> str:
        return "RESTARTED"  # also a copy is the one object


RESTARTED: Final = Restarted("\n[restarted]\n")


class Pieces:
    """Hands out the pieces of all rows of a run.

    Args:
        outbox: where the reader finds them; a slow reader slows their rows.
        restarted: told of each row that starts over.
        restarts: whether the reader can be told that a row starts over; else what was shown is final, and a row that
            fails after its first piece is not asked again.
    """

    def __init__(self, outbox: Outbox, restarted: Callable[[int], None], *, restarts: bool) -> None:
        self._outbox, self._restarted, self._restarts = outbox, restarted, restarts

    async def begin(self, item: Item) -> None:
        """The row's answer begins: what the reader has of an earlier one is void, and it is told so."""
        if not item.begun:
            return
        item.begun = False
        self._restarted(item.index)
        await self._outbox.put_piece(Piece(item.index, RESTARTED))

    async def show(self, item: Item, chunk: Any) -> None:
        """One more piece."""
        if self._restarts:
            item.begun = True
        else:
            item.shown = True
        await self._outbox.put_piece(Piece(item.index, chunk))
        if not self._restarts:  # one row: its events and its end come after the piece that came before them
            await self._outbox.taken_at_once()
