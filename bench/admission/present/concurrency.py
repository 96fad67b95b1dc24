"""How many requests may be in flight: a limit that grows fast until it meets resistance, then holds just under it."""

from __future__ import annotations

import math
from typing import Final

USED: Final = 0.8  # a limit that was not filled this far is untested: no reason to raise it
CUT: Final = 0.75  # a rejection leaves at least this much of what was in flight
GROWTH: Final = 2  # more for each accepted call at the start: three times as many each round
HOLD_CALLS: Final = 200  # accepted at a limit before it is tested again: tests cost half a per cent
MOST_STEP: Final = 1 / 8  # of the limit; where a larger step would be next, nobody knows how many fit
STEEP: Final = 1.3  # a round that doubles and does less than this much more has met a knee
SLOW: Final = 1.25  # times as long for the same work as when few were in flight: they stand in line
ALIKE: Final = 0.99  # a lower limit is kept if throughput is no less than this
GAIN: Final = 0.4  # a higher limit is kept if throughput rises by this share of the step
CAUTIOUS_TESTS: Final = 10  # of one more each, where the number that fits scatters; then it has moved
STEP: Final = 1.2  # up or down, when looking for the knee
KNEE_ROUND: Final = 4  # times the limit: answers differ, and two rounds are to be compared
ENOUGH: Final = 20  # calls of a round from which its throughput means something


class Concurrency:
    """A limit on requests in flight. No clock: moments are passed in.

    Only a limit that was at least 80 % used grows:

    - **start**: two more per accepted call, so it triples each round trip (TCP's slow start doubles), until a call is
      rejected, or two rounds in a row do hardly more than one with half as many in flight: more takes longer and does
      not do more. A round of it lasts until the limit has doubled.
    - **hold**: a call was rejected as the k-th in flight: k - 1 fit. After so many accepted calls one more is tested,
      and then 2, 3, 5, 8, ... for as long as none of them is rejected. Where an eighth more fits, the limit has moved,
      and it starts again from there. Where answers take a quarter longer for their work than in the start, they stand
      in line: that is a knee too, with a line that has an end.
    - **knee**: throughput stopped growing. The limit goes to what by Little's law was in flight just there, then is
      compared with one a fifth higher or lower over four round trips each, ever more rarely.

    Attributes:
        limit: requests in flight; a fraction counts from the next whole number on.
        minimum: it never falls below.
        maximum: it never rises above.
        phase: "start", "hold" or "knee".
        patience_s: a call in flight for so long was accepted, though not answered yet.
        hold_calls: accepted between two tests; each failed test is a rejection.
        peak: the most in flight since the round began, kept by whoever lets requests go.
        gated: time, not the limit, held somebody back in this round; its throughput says nothing of the limit.
        scatters: now more fit and now fewer, so it is followed: by one more each quarter of a round, and by one fewer
            than fitted at a rejection.
        busy: our own CPU has no time left, so more in flight would do no more, whatever the provider takes.
    """

    __slots__ = (
        "_base",
        "_calls",
        "_flat",
        "_hold",
        "_left",
        "_longest",
        "_paces",
        "_quiet",
        "_round",
        "_round_s",
        "_step",
        "_swiftest",
        "_tested_s",
        "_tests",
        "_took_s",
        "_trial",
        "_wait_s",
        "_work",
        "busy",
        "gated",
        "hold_calls",
        "limit",
        "maximum",
        "minimum",
        "patience_s",
        "peak",
        "phase",
        "scatters",
    )

    def __init__(self, limit: float, minimum: float = 1, maximum: float = 500) -> None:
        self.limit = float(limit)
        self.minimum = minimum
        self.maximum = maximum
        self.phase = "start"
        self.patience_s = 0.3
        self.hold_calls = self._hold = HOLD_CALLS
        self._step = 0  # so many more than are known to fit are tested
        self._tests = 0  # passed since the last rejection
        self._tested_s: float | None = None  # since when all of them are in flight
        self._paces: dict[int, float] = {}  # by limit: work per second of the best round of the start
        self._wait_s = 0.0  # mean time of an answer in the steepest part of the start
        self._flat = 0
        self._trial = 0.0  # the limit before the one on trial; 0: none is
        self._base = 0.0  # work per second before the trial
        self._quiet = self._longest = 4  # rounds until the next trial
        self._calls = int(limit)
        self._left = self._round = self._round_calls()
        self._round_s: float | None = None
        self._work = self._took_s = 0.0
        self._swiftest = math.inf  # seconds per work of the swiftest round of the start
        self.peak = 0
        self.gated = self.busy = self.scatters = False

    def accepted(self, now: float, work: float = 1.0, took_s: float = 0.0) -> None:
        """A call that was sent at this limit came back with an answer.

        Args:
            now: seconds on any clock.
            work: what it did, in any unit of work: output tokens, or calls.
            took_s: how long that took; 0 where the work is not known.
        """
        if self._round_s is None:
            self._round_s = now
        self._work += work
        self._took_s += took_s
        if self.phase == "start" and not self._flat and not self.busy and self.peak >= USED * self._calls:
            self._set(self.limit + GROWTH)
        elif self.phase == "hold":
            self._hold -= 1
            self._test(now)
        self._left -= 1
        if self._left <= 0:
            self._end_round(now)

    def rejected(self, ordinal: int, in_flight: int) -> None:
        """The `ordinal`-th in flight was one too many: one fewer fits, but no cut goes deeper than to three quarters.

        Args:
            ordinal: in flight when it was sent, itself included.
            in_flight: when its rejection is known, itself included.
        """
        if self.phase == "knee":
            self._swiftest = math.inf  # it is a limit, however slow the answers are
        deepest = CUT * min(self.limit, max(self.peak, in_flight))
        self.phase = "hold"
        self._hold = self._between_tests() if self.scatters else self.hold_calls
        self._step = self._tests = 0
        self._set(min(self.limit, max(ordinal - (2 if self.scatters else 1), deepest)))
        self.begin_round()

    def failed(self) -> None:
        """A call ended that may never have counted for the provider: no test is judged by what is in flight now."""
        if self._step:
            self._set(self.limit - self._step)
            self._step, self._hold = 0, ENOUGH

    def rest(self, calls: float) -> None:
        """Test nothing before so many more calls were accepted."""
        self._hold = max(self._hold, int(calls))

    def restart(self, limit: float) -> None:
        """So many fit now, and nobody knows how many more: grow fast again from here."""
        self.phase = "start"
        self._paces, self._wait_s = {}, 0.0
        self._flat = 0
        self._set(limit)
        self.begin_round()

    def moved(self, limit: float, *, firm: bool) -> None:
        """Other processes took a part of what fits, or gave one: so many fit here now.

        Args:
            limit: requests in flight.
            firm: somebody met resistance: no more fit, and growing fast is over.
        """
        self._set(limit)
        if firm and self.phase == "start":
            self.phase = "hold"
        self._hold, self._step = self.hold_calls, 0
        self._base = self._trial = 0.0
        self.begin_round()

    def begin_round(self) -> None:
        """Forget what was measured since the last round."""
        self._calls = max(1, int(self.limit))
        self._left = self._round = self._round_calls()
        self._round_s, self._work, self._took_s = None, 0.0, 0.0
        self.peak, self.gated = 0, self.busy

    def own_work(self, binds: bool) -> None:
        """Whether our own CPU is what binds, until it is said otherwise: nothing is learnt from throughput then."""
        self.busy = binds
        self.gated = self.gated or binds

    def _round_calls(self) -> int:
        if self.phase == "knee":
            return KNEE_ROUND * self._calls
        return max(1, self._calls // GROWTH) if self.phase == "start" else self._calls

    def _set(self, limit: float) -> None:
        self.limit = max(self.minimum, min(self.maximum, limit))

    def _end_round(self, now: float) -> None:
        calls, used = self._calls, self.peak >= USED * self._calls
        passed = now - (now if self._round_s is None else self._round_s)
        pace = self._work / passed if passed > 0 else 0.0
        if self.phase == "start":
            if used:
                self._climb(calls, pace, self._round / passed if passed > 0 else 0.0)
        elif self.phase == "hold":
            if used and not self.busy and self._took_s > SLOW * self._swiftest * self._work:
                self._settle(self.limit * self._swiftest * self._work / self._took_s)
        elif used and pace > 0 and not self.gated:
            self._try(pace)
        self.begin_round()
        self._round_s = now

    def _climb(self, calls: int, pace: float, rate: float) -> None:
        """One round of the start: has it met a knee?"""
        if self._took_s and self._round >= ENOUGH:
            self._swiftest = min(self._swiftest, self._took_s / self._work)
        if self._round < ENOUGH or pace <= 0 or self.gated:
            self._flat = 0
            return
        best = max((before for level, before in self._paces.items() if level <= calls / 2), default=0.0)
        self._paces[calls] = max(pace, self._paces.get(calls, 0.0))
        if pace >= STEEP * best:
            self._flat = 0
            if calls < self.maximum:
                self._wait_s = calls / rate
            return
        self._flat += 1
        if self._flat >= 2:
            self._settle(min(self.limit / STEEP, rate * self._wait_s))

    def _settle(self, knee: float) -> None:
        """More in flight than that only waits longer."""
        self.phase = "knee"
        self._set(max(self.limit / 4, knee))
        self._base = self._trial = 0.0
        self._quiet = self._longest = 1

    def _test(self, now: float) -> None:
        """One call of the hold: test one more, then 2, 3, 5, 8, ... for as long as none of them is rejected."""
        if not self._step:
            if self._hold <= 0 and self.peak >= USED * self._calls and self.limit < self.maximum:
                self._test_with(1)
        elif self.peak < int(self.limit):
            pass  # they are not all in flight yet
        elif self._tested_s is None:
            self._tested_s, self._hold = now, self._between_tests()
        elif now - self._tested_s >= self.patience_s and self._hold <= 0:
            self._tests += 1
            cautious = self.scatters and self._tests < CAUTIOUS_TESTS
            self._test_with(1 if cautious else (3 * self._step + 1) // 2)

    def _between_tests(self) -> int:
        """Calls to be accepted before more is tested; where the number scatters, a quarter of a round."""
        return max(ENOUGH, int(self.limit / 4)) if self.scatters else ENOUGH

    def _test_with(self, more: int) -> None:
        if more > max(1, MOST_STEP * self.limit):
            self.restart(self.limit)
        else:
            self._step, self._tested_s = more, None
            self._set(self.limit + more)

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
