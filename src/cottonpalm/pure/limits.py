"""How many requests may be in flight: a limit that doubles until it meets resistance, then holds just under it."""

from __future__ import annotations

from typing import Final

USED: Final = 0.8  # a limit that was not filled this far is untested: no reason to raise it
CUT: Final = 0.75  # a rejection leaves at least this much of what was in flight
HOLD_CALLS: Final = 200  # accepted at a limit before it is tested again: so tests cost half a per cent
STEEP: Final = 1.3  # a round that doubles and does less than this much more has met a knee
ALIKE: Final = 0.99  # a lower limit is kept if throughput is no less than this
GAIN: Final = 0.4  # a higher limit is kept if throughput rises by this share of the step
STEP: Final = 1.2  # up or down, when looking for the knee
KNEE_ROUND: Final = 4  # times the limit: answers differ, and two rounds are to be compared
ENOUGH: Final = 20  # calls of a round from which its throughput means something


class Concurrency:
    """A limit on requests in flight. No clock: moments are passed in.

    A round is as many accepted calls as the limit was when it began, about one round trip. Only a limit that was at
    least 80 % used grows:

    - **start**: one more per accepted call, so it doubles each round (TCP slow start), until a call is rejected, or
      two rounds in a row do hardly more than the best before them: more in flight takes longer and does not do more.
    - **hold**: a call was rejected as the k-th in flight: k - 1 fit. After some hundred accepted calls one more is
      tested; where that goes well for a round, the limit has moved, and doubles again.
    - **knee**: throughput stopped growing. The limit goes to what by Little's law was in flight just there, then is
      compared with one a fifth higher or lower, ever more rarely.

    Attributes:
        limit: requests in flight; a fraction counts from the next whole number on.
        minimum: it never falls below.
        maximum: it never rises above.
        phase: "start", "hold" or "knee".
        peak: the most in flight since the round began, kept by whoever lets requests go.
        gated: time, not the limit, held somebody back in this round; its throughput says nothing of the limit.
    """

    __slots__ = (
        "_base",
        "_best",
        "_calls",
        "_flat",
        "_hold",
        "_left",
        "_longest",
        "_quiet",
        "_round_s",
        "_testing",
        "_trial",
        "_wait_s",
        "_work",
        "gated",
        "limit",
        "maximum",
        "minimum",
        "peak",
        "phase",
    )

    def __init__(self, limit: float, minimum: float = 1, maximum: float = 500) -> None:
        self.limit = float(limit)
        self.minimum = minimum
        self.maximum = maximum
        self.phase = "start"
        self._hold = HOLD_CALLS
        self._testing = False  # one more than is known to fit
        self._best = 0.0  # work per second, of the best round
        self._wait_s = 0.0  # mean time of an answer in the steepest part of the start
        self._flat = 0
        self._trial = 0.0  # the limit before the one on trial; 0: none is
        self._base = 0.0  # work per second before the trial
        self._quiet = self._longest = 4  # rounds until the next trial
        self._left = self._calls = int(limit)
        self._round_s: float | None = None
        self._work = 0.0
        self.peak = 0
        self.gated = False

    def accepted(self, now: float, work: float = 1.0) -> None:
        """A call that was sent at this limit came back with an answer.

        Args:
            now: seconds on any clock.
            work: what it did, in any unit of work: output tokens, or calls.
        """
        if self._round_s is None:
            self._round_s = now
        self._work += work
        if self.phase == "start" and not self._flat and self.peak >= USED * self._calls:
            self._set(self.limit + 1)
        elif self.phase == "hold":
            self._hold -= 1
        self._left -= 1
        if self._left <= 0:
            self._end_round(now)

    def rejected(self, ordinal: int, in_flight: int) -> None:
        """The `ordinal`-th in flight was one too many: one fewer fits, but no cut goes deeper than to three quarters.

        Args:
            ordinal: in flight when it was sent, itself included.
            in_flight: when its rejection is known, itself included.
        """
        deepest = CUT * min(self.limit, max(self.peak, in_flight))
        self.phase = "hold"
        self._hold, self._testing = HOLD_CALLS, False
        self._set(min(self.limit, max(ordinal - 1, deepest)))
        self.begin_round()

    def restart(self, limit: float) -> None:
        """So many fit now, and nobody knows how many more: double again from here."""
        self.phase = "start"
        self._best = self._wait_s = 0.0
        self._flat = 0
        self._set(limit)
        self.begin_round()

    def begin_round(self) -> None:
        """Forget what was measured since the last round."""
        self._calls = max(1, int(self.limit))
        self._left = self._calls * (KNEE_ROUND if self.phase == "knee" else 1)
        self._round_s, self._work = None, 0.0
        self.peak, self.gated = 0, False

    def _set(self, limit: float) -> None:
        self.limit = max(self.minimum, min(self.maximum, limit))

    def _end_round(self, now: float) -> None:
        calls, used = self._calls, self.peak >= USED * self._calls
        passed = now - (now if self._round_s is None else self._round_s)
        pace = self._work / passed if passed > 0 else 0.0
        if self.phase == "start":
            self._climb(calls, pace, calls / passed if passed > 0 else 0.0)
        elif self.phase == "hold":
            self._test(used)
        elif used and pace > 0 and not self.gated:
            self._try(pace)
        self.begin_round()
        self._round_s = now

    def _climb(self, calls: int, pace: float, rate: float) -> None:
        """One round of the start: has it met a knee?"""
        if calls < ENOUGH or pace <= 0 or self.gated or calls >= self.maximum:
            self._flat = 0
            return
        if pace >= STEEP * self._best:
            self._wait_s, self._flat = calls / rate, 0
        else:
            self._flat += 1
        if self._flat >= 2:
            self.phase = "knee"
            self._set(max(self.limit / 4, min(self.limit / STEP, rate * self._wait_s)))
            self._base = self._trial = 0.0
            self._quiet = self._longest = 1
        self._best = max(self._best, pace)

    def _test(self, used: bool) -> None:
        """One round of the hold: test one more; where that fits for a round, the limit has moved."""
        if self._hold > 0 or not used:
            return
        if self._testing:
            self.restart(self.limit)
        else:
            self._testing = True
            self._set(self.limit + 1)

    def _try(self, pace: float) -> None:
        """One round near the knee: keep the limit on trial, or go back; then wait for the next trial."""
        if self._trial:
            self._judge(pace)
            return
        self._base = pace if not self._base else 0.5 * (self._base + pace)
        self._quiet -= 1
        if self._quiet <= 0:
            down = self._longest % 2 == 1
            self._trial = self.limit
            self._set(self.limit / STEP if down else self.limit * STEP)

    def _judge(self, pace: float) -> None:
        before, self._trial = self._trial, 0.0
        step = self.limit / before
        wanted = self._base * (1 + GAIN * (step - 1) if step > 1 else ALIKE)
        if pace >= wanted:  # higher and worth it, or lower at hardly any cost
            self._longest = 1 if step < 1 else 2
            self._base = pace
        else:
            self._set(before)
            self._longest = min(17, 2 * self._longest + (1 if step > 1 else 0))
        self._quiet = self._longest
