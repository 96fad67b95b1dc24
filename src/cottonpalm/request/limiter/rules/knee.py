"""Whether more in flight does more: throughput, in rounds of as many answers as are in flight. No clock, no I/O."""

from __future__ import annotations

import math
from typing import Final

ROUND: Final = 16  # answers of a round at least
FLAT: Final = 0.35  # log throughput per log of requests in flight, below which a server is full
STEP: Final = 0.8  # the trial below the knee
MOST_QUIET: Final = 16  # rounds between two trials at most


class Knee:
    """A server that does not reject but shares its speed: more in flight only take longer.

    While the number in flight grows, throughput is compared with that of half as many. Where twice it did hardly more,
    it is full: then the limit goes by trials round it, ever more rarely.

    Attributes:
        found: the server is full at the limit, or was.
        flat: times in a row that more did hardly more.
    """

    __slots__ = (
        "_base", "_began_s", "_best_s", "_count", "_gated", "_longest", "_quiet", "_round", "_step", "_sum", "_trial",
        "before", "flat", "found",
    )  # fmt: skip

    def __init__(self) -> None:
        self.before: tuple[float, float] | None = (
            None  # in flight and throughput of the last round that did more
        )
        self.flat = 0
        self.found = False
        self._best_s = math.inf
        self._begin_trials()
        self.begin(0.0)

    @property
    def proven(self) -> float:
        """So many in flight did more than fewer."""
        return self.before[0] if self.before is not None else math.inf

    def settle(self) -> None:
        """The server is full: trials from now on."""
        self.found = True
        self._begin_trials()

    def begin(self, now: float) -> None:
        """A round begins."""
        self._began_s, self._count, self._sum, self._gated = now, 0, 0, False

    def answered(
        self, now: float, in_flight: int, limit: float, took_s: float, *, gated: bool
    ) -> float | None:
        """A new limit, or None.

        Args:
            now: when it was answered.
            in_flight: with it.
            limit: on them.
            took_s: a usual answer.
            gated: something else held requests back.
        """
        if self.found and in_flight > limit + 1:  # it drains
            self.begin(now)
            return None
        self._count += 1
        self._sum += in_flight
        self._best_s = min(self._best_s, took_s)
        self._gated = self._gated or gated
        enough = min(2 * limit, self._round) if self.found else min(self._sum / self._count, ROUND)
        if self._count < max(ROUND, enough) or now - self._began_s < min(took_s, self._best_s):
            return None
        pace, mean, held = self._count / max(1e-9, now - self._began_s), self._sum / self._count, self._gated
        self.begin(now)
        if held:
            return None
        return self._around(pace, limit) if self.found else self._climb(pace, mean)

    def _begin_trials(self) -> None:
        self._trial = self._base = 0.0
        self._step, self._round = 0.5, 4 * ROUND
        self._quiet = self._longest = 1

    def _climb(self, pace: float, mean: float) -> float | None:
        if self.before is None:
            self.before = (mean, pace)
        elif mean >= 2.0 * self.before[0]:
            if math.log(pace / self.before[1]) > FLAT * math.log(mean / self.before[0]):
                self.before, self.flat = (mean, pace), 0
                return None
            self.flat += 1
            if self.flat >= 2:
                self.settle()
                return max(1.0, self.before[0])
        return None

    def _around(self, pace: float, limit: float) -> float | None:
        if self._trial:
            before, self._trial = self._trial, 0.0
            step = limit / before
            if pace >= self._base * (1 - 0.3 * (1 - step) if step < 1 else 1 + 0.4 * (step - 1)):
                self._base, self._quiet, self._longest = pace, 1, 1
                return None
            self._step, self._round = STEP, 16 * ROUND
            self._quiet = self._longest = min(MOST_QUIET, 2 * self._longest)
            return before
        if pace < STEP * self._base:  # it is not what it was
            self._begin_trials()
        self._base = pace if not self._base else 0.5 * (self._base + pace)
        self._quiet -= 1
        if self._quiet > 0:
            return None
        self._trial = limit
        return max(1.0, limit * self._step) if self._longest.bit_length() % 2 else limit / self._step
