"""The one way back after a rejection: nobody, then one, then ever more. No clock, no I/O."""

from __future__ import annotations

import math
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cottonpalm.request.limiter.rules.sent import Sent

BACKOFF: Final = 0.33  # a silence is made longer by a third of itself for each probe that is rejected
LONGEST_S: Final = 13.0  # that nobody asks, unless a wait is named; as long sleeps who is itself the reason


class State(Enum):
    """Who may go."""

    OPEN = "open"
    HELD = "held"  # nobody, for a time
    PROBE = "probe"  # one
    RAMP = "ramp"  # so many without news


class Recovery:
    """OPEN, HELD (a named wait, or a third of the silence so far), PROBE (one request), RAMP, OPEN again.

    The ramp counts requests without news, those that may still be rejected: one more for each that is admitted. They
    go evenly spaced, so that a rejection stops what was not sent yet.

    Attributes:
        window: requests without news in the ramp.
        refused: probes that were rejected in this silence.
        silent_s: when it began.
        named_s: the longest wait that was named in this silence.
        needed_s: the silence after which a probe was admitted, the last time that it took one.
        dead: the provider did not answer at all: a probe that fails as late as others did tells the same.
    """

    __slots__ = (
        "_over_s",
        "_refused_s",
        "_then",
        "dead",
        "named_s",
        "needed_s",
        "probe",
        "refused",
        "silent_s",
        "state",
        "until_s",
        "window",
    )

    def __init__(self, first: float, *, known: bool = False) -> None:
        self.state = State.OPEN if known else State.RAMP  # a number that is known is used at once
        self.window = first
        self.probe: Sent | None = None
        self.refused, self.dead = 0, False
        self.silent_s = self.until_s = self.named_s = self._refused_s = 0.0
        self._over_s = math.inf  # when the probe was sent that was admitted
        self._then = 0.0
        self.needed_s = 0.0

    def leaves(self, now: float, at_s: float, trip_s: float) -> bool:
        """Whether of those sent then only the slow ones are left: a silence lasted half of an answer's time since."""
        return at_s < self.silent_s and 2 * (min(now, self._over_s) - self.silent_s) > trip_s

    def begin(self, now: float) -> None:
        """A silence begins."""
        self.silent_s, self.refused, self.named_s, self._over_s = now, 0, 0.0, math.inf
        self._refused_s = now

    @property
    def again_s(self) -> float:
        """When to ask whether more time helps: twice as long after the silence began as the last probe was sent."""
        last_s = self._refused_s if self._over_s == math.inf else self._over_s
        return self.silent_s + 2 * (last_s - self.silent_s)

    def refuse(self, probe_s: float) -> None:
        """The probe that was sent then was rejected."""
        self.refused += 1
        self._refused_s = probe_s

    def hold(self, now: float, named_s: float, least_s: float, *, then: float = 0.0) -> None:
        """Nobody goes for the time named, or a third of the silence so far; then one, or so many without news."""
        self.state, self.probe, self._then = State.HELD, None, then
        self.named_s = max(self.named_s, named_s)
        own_s = max(BACKOFF * (now - self.silent_s), BACKOFF * self.needed_s, least_s)
        own_s = min(own_s, LONGEST_S)
        self.until_s = max(self.until_s, now + max(named_s, own_s))

    def over(self) -> None:
        """The time is over."""
        self.state = State.PROBE
        if self._then:
            self.ramp(self._then)

    def revive(self, probe_s: float, window: float) -> float:
        """The probe that was sent then was admitted: up. Returns how long nobody had been rejected."""
        silence_s, self._over_s = max(0.0, probe_s - self.silent_s), probe_s
        self.needed_s = silence_s if self.refused else BACKOFF * self.needed_s
        self.probe, self.state, self.window = None, State.RAMP, window
        return max(0.0, probe_s - self._refused_s)

    def ramp(self, window: float) -> None:
        """Faster, but not all at once."""
        self.state, self.window = State.RAMP, window
