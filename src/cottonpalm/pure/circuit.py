"""When a provider counts as dead, and how long to leave it alone before one call asks again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

OPENS_AT: Final = 20  # different requests failed in a row: below that it may be the rows' own fault
_FIRST_WAIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 30.0


@dataclass(slots=True)
class Circuit:
    """A circuit breaker in the usual sense (Nygard, Release It!): closed, open, and half open for one probe.

    It opens after `OPENS_AT` different requests failed for transient reasons while none was accepted, and closes
    with the first one that is. While it is open everybody waits, for 1, 2, 4, ... 30 seconds between probes.

    Attributes:
        failed: different requests that failed since the last one accepted.
        probes: probes that failed since it opened.
    """

    failed: int = 0
    probes: int = 0
    _accepted: int = 0

    @property
    def open(self) -> bool:
        """The provider counts as dead."""
        return self.failed >= OPENS_AT

    def after(self, accepted: int, *, first: bool, probe: bool) -> bool:
        """Take note of one transient failure; whether the circuit is open now.

        Args:
            accepted: requests the provider has accepted so far.
            first: this request had not failed before.
            probe: it was sent after the latest wait was over.
        """
        if accepted > self._accepted:
            self._accepted, self.failed, self.probes = accepted, 0, 0
        was_open = self.open
        self.failed += first or was_open
        if self.open and (probe or not was_open):
            self.probes += 1
        return self.open

    @property
    def wait_s(self) -> float:
        """Seconds until the next probe."""
        return min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(max(0, self.probes - 1), 10))
