"""What learns and keeps the providers' limits, and who shares it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from cottonpalm.request.turnstiles import Turnstiles

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from cottonpalm.config import AdaptiveConcurrency, RateLimit


class Limits:
    """The limits that some processors learn together, and keep: one for each host, model and account.

    Processors share what they learn with all others of the process that have the same `concurrency` and `rate_limit`,
    as long as one of them lives. Give some a `Limits` of their own to set them apart from the rest, or to keep what
    was learnt.
    """

    def __init__(self) -> None:
        self._made: MutableMapping[tuple[AdaptiveConcurrency, RateLimit | None], Turnstiles] = {}
        self._lock = threading.Lock()

    def turnstiles(self, settings: AdaptiveConcurrency, rate_limit: RateLimit | None = None) -> Turnstiles:
        """The turnstiles of all who move within these bounds and under this ceiling."""
        with self._lock:
            if (found := self._made.get((settings, rate_limit))) is None:
                found = self._made[settings, rate_limit] = Turnstiles(settings, rate_limit)
            return found

    def clear(self) -> None:
        """Forget what was learnt. Processors that exist keep what they hold."""
        with self._lock:
            self._made.clear()

    def __repr__(self) -> str:
        return f"<Limits {[turnstile for made in self._made.values() for turnstile in made]}>"


class _Shared(Limits):
    """Forgets what no processor uses any more."""

    def __init__(self) -> None:
        super().__init__()
        self._made = WeakValueDictionary()


SHARED = _Shared()
