"""One call of a chat model whose requests are not seen: it holds a permit of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cottonpalm.runtime.wait_queue import RowClosed
from cottonpalm.types import Usage, Verdict

if TYPE_CHECKING:
    from cottonpalm.request.limiter.limiter import Permit
    from cottonpalm.request.row_account import RowAccount


class ModelCall:
    """One call of a chat model that holds a permit, which the callback took."""

    def __init__(self, row: RowAccount, name: str, permit: Permit, input_tokens: int | None = None) -> None:
        self.row, self.name, self.input_tokens = row, name, input_tokens
        self._permit: Permit | None = permit
        self._counts = False  # among what the row has under way

    def begin(self) -> None:
        """The model is called now.

        Raises:
            RowClosed: the row is over; the permit went back.
        """
        try:
            self.row.asked()
            self._counts = True
        except RowClosed:
            self.release(Verdict.IGNORED)
            raise

    def release(self, verdict: Verdict, pause_s: float = 0.0, usage: Usage | None = None) -> bool:
        """Give the permit back, with the tokens used where that is known; return whether the call still held it."""
        permit, self._permit = self._permit, None
        self.row.let_go(self)
        if permit is not None:
            permit.limiter.release(permit, verdict, pause_s, usage=usage)
            if self._counts:
                self.row.answered(verdict)
        return permit is not None

    def hand_over(self) -> None:
        """Give the permit back, since the hook sees this call's requests: these take the permits from now on."""
        if self.release(Verdict.IGNORED, usage=Usage()):
            self.row.run.flow.hooked_below(self.name)

    def drop(self) -> None:
        """Give the permit back, since the row has ended: a cancelled call fires neither its end nor an error."""
        self.release(Verdict.IGNORED)
