"""A run that gets nowhere ends, instead of waiting all night."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cottonpalm import clock

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from cottonpalm.request.account import RunAccount

_LOOKS: Final = 20  # looks in the time of one stall


class StallWatch:
    """Tells when requests have been waiting or in flight for so long, and none was accepted.

    Waits that a provider announced do not count, nor does time in which nothing is asked: the reader is slow, the
    rows compute, the run is paused. A single request may always take its whole timeout.

    Args:
        seconds: the user's `stall_timeout`.
        account: whose requests are watched.
        loop: of the run; holds one timer.
        told: called once, with the seconds of silence.
    """

    def __init__(
        self,
        seconds: float,
        account: RunAccount,
        loop: asyncio.AbstractEventLoop,
        told: Callable[[float], None],
    ) -> None:
        self._seconds = max(seconds, account.timeouts.allowed_s)
        self._account, self._loop, self._told = account, loop, told
        self._quiet_from = clock.now()  # nothing was outstanding before
        self._timer = loop.call_later(self._seconds / _LOOKS, self._look)

    def close(self) -> None:
        """No timer stays behind."""
        self._timer.cancel()

    def _look(self) -> None:
        now = clock.now()
        if self._account.grain != "request" or not self._account.outstanding():
            self._quiet_from = now
        accepted, announced_s = self._account.last_sign()
        silence_s = now - max(self._quiet_from, accepted) - announced_s
        if silence_s >= self._seconds:
            self._told(silence_s)
            return
        self._timer = self._loop.call_later(self._seconds / _LOOKS, self._look)
