"""How many requests may be in flight: found fast, held just under a wall, tested now and again. No clock, no I/O."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from cottonpalm.request.limiter.rules.answer_times import FEW
from cottonpalm.request.limiter.rules.causes import APART, BUDGET, HOLD, TRIAL, unlikely
from cottonpalm.request.limiter.rules.knee import WIDE, Knee

if TYPE_CHECKING:
    from cottonpalm.request.limiter.rules.sent import Sent

# So many times the first number are let go at once, as a slow provider looks like a drowned one. Until as many are
# answered, so many times as many again, or one in so many of all that will ask: the shorter a run, the more a careful
# start costs of it; and too many cost about the part of the run that they are. Then so many more for each answer.
SOON: Final = 4.0
LONG_S: Final = 60.0  # an answer hardly takes, unless so many share the server that it is full


class Fitting(NamedTuple):
    """What was found of the number: see `Concurrency`; and whether it was looked for where the server is full."""

    limit: float
    wall: float | None
    starting: bool
    known: float
    full: bool


class Concurrency:
    """A limit on requests in flight. No clock: moments are passed in.

    At the start it grows by two for each that is admitted, then by `SOON` for each answer, as long as answers take
    no longer (`knee.py`), or to twice as many, as far as the quotas that are shown leave room. The k-th in flight that
    is rejected is a wall: k - 1 fit, less one for each other of the same burst that is rejected later.

    After so many admitted one more is tested, then 2, 4, 8 more for as long as they are admitted.

    Attributes:
        first: what the limit began with.
        limit: a fraction counts from the next whole number on.
        minimum: it never falls below.
        maximum: it never rises above.
        wall: a number that was rejected; None for none.
        known: so many were admitted since something changed.
        rejections: from which the wall was found.
        starting: nobody knows how many fit.
        blind: so many may go before it is known how long an answer takes; 0 once it is.
        busy: our own CPU has no time left, so more in flight would do no more, whatever the provider takes.
    """

    __slots__ = (
        "_after", "_at_limit", "_base", "_few", "_held", "_hold", "_lost", "_step", "blind", "busy", "first", "knee",
        "known", "limit", "maximum", "minimum", "rejections", "starting", "wall",
    )  # fmt: skip

    def __init__(self, limit: float, minimum: float = 1, maximum: float = 500) -> None:
        self.limit = self.first = float(limit)
        self.blind = SOON * SOON * self.first
        self.minimum, self.maximum = minimum, maximum
        self.wall: float | None = None
        self.known = 0.0
        self.rejections = 0
        self._lost = self._at_limit = 0  # rejected as if by chance and admitted, of those that filled it
        self.starting, self.busy = limit < maximum, False  # all that is allowed needs no looking for
        self.knee, self._few = Knee(), FEW  # requests up to this one tell what an answer takes among few
        self._step, self._hold, self._held = 0, HOLD, HOLD
        self._after = 0.0  # sent before the test began, which tell nothing of it
        self._base = math.inf  # so many fitted when it began

    @property
    def proven(self) -> int:
        """Without those that are being tested."""
        return int(self.limit) - self._step

    @property
    def beginning(self) -> bool:
        """It grows with each that is admitted."""
        return self.starting and self.limit < SOON * self.first

    @property
    def testing(self) -> bool:
        """More are let go than are known to fit."""
        return self._step > 0 and self.wall is not None

    def expects(self, requests: int) -> None:
        """At least so many will ask, as far as is known, of whom no answer tells anything yet."""
        if self.limit >= self.known:  # else it is being thinned out
            self.blind = max(SOON * SOON * self.first, requests / SOON)

    def admitted(
        self, ordinal: int, crowd: float, *, may_test: bool, total: float = math.inf, newest: float = 0.0
    ) -> None:
        """A request was admitted.

        Args:
            ordinal: in flight when it was sent, itself included.
            crowd: of them, that were not rejected.
            may_test: it is what holds requests back, as far as is known.
            total: of all that were sent, up to this one...
            newest: ...and up to the newest: who was sent before a test began tells nothing of it.
        """
        if crowd > self.known:  # noqa: PLR1730 - for every request: quicker than max()
            self.known = crowd
        if self.wall is None:
            if self.beginning and not self.busy and 2 * ordinal >= self.limit:
                self.set(self.limit + 2)
            return
        if ordinal >= int(self.limit):
            self._at_limit += 1
        if not self._step or total > self._after:
            self._hold -= 1
        if self._hold <= 0 and ordinal >= int(self.limit) and (may_test or self._step):
            self._test(newest)

    def _test(self, newest: float) -> None:
        """One more than fits, or twice as many as the last test had."""
        if self._step > max(1.0, APART * self.limit):  # so many more fit that nobody knows how many do
            self.restart(self.limit)
            return
        if not self._step:
            self._base = int(self.limit)
        self._step, self._hold, self._after = max(1, 2 * self._step), 0, newest
        self.set(self.limit + self._step)

    def grows(self, in_flight: int) -> bool:
        """Whether an answer with so many in flight raises it, if it took no longer than others."""
        return self.starting and 2 * in_flight >= self.limit

    def answered(
        self,
        now: float,
        sent: Sent,
        in_flight: int,
        *,
        gated: bool = False,
        left: bool = False,
        room: float = 0.0,
    ) -> None:
        """An answer came.

        Args:
            now: when.
            sent: the request.
            in_flight: with it.
            gated: a quota or a ceiling held the next one back.
            left: nobody went for a while since it was sent, so only those that take long are left.
            room: requests for which the quotas that are shown leave enough; 0 for none.
        """
        knee, self.blind = self.knee, 0.0
        if self.busy or not (self.starting or knee.found or self.wall):  # a number that was given is kept
            return
        took_s = now - sent.at_s
        first = not knee.usual_s and self._is_first(sent)
        doubtful = took_s > LONG_S and self.starting and not knee.usual_s  # nobody knows it among few
        knee.took(now, took_s, sent.ordinal, in_flight, first=first)
        if knee.found:
            self._search(now, sent, in_flight, gated)
            return
        if doubtful and self.known > 2 * SOON * self.first:
            self._thin_out(now, in_flight)
            return
        late = knee.late(took_s, counts=not left)
        if not late and self.grows(in_flight):
            if room:  # who shows quotas rejects what is too much, so nothing is flooded
                self.set(self.limit + max(SOON, min(self.limit, in_flight + room - self.limit)))
            elif knee.usual_s or took_s <= SOON * knee.least_s:
                self.set(self.limit + SOON)
        if knee.full and (self.starting or WIDE * knee.fits < self.limit):
            self._settle(now, min(knee.fits, self.limit), self.limit)

    def _is_first(self, sent: Sent) -> bool:
        """Whether it is one of the first, of which nobody knows yet what they take.

        Those may have failed, or been answered while we were busy: of few in flight the next ones are the first then,
        else nobody would ever know.
        """
        number = sent.number - sent.refusals
        if number - sent.ordinal >= self._few and sent.ordinal <= SOON * self.first:
            self._few = number - 1 + FEW
        return number <= self._few

    def _thin_out(self, now: float, in_flight: int) -> None:
        """So many may fill the server, and an answer takes long only for that: see what it takes among fewer.

        A full server does no less meanwhile; each that took its place would keep it full.
        """
        knee, crowd = self.knee, self.known
        fits = crowd / SOON
        if knee.usual_s:
            self._settle(now, fits, crowd)
            knee.compare(crowd)
        else:
            self.set(max(fits, in_flight - 1))

    def _search(self, now: float, sent: Sent, in_flight: int, gated: bool) -> None:
        """Where the knee is, by how much is done at two numbers in turn."""
        idle = 2 * in_flight < self.limit
        limit = self.knee.answered(now, sent, in_flight, self.limit, gated=gated or idle)
        if limit is not None and not self.knee.found:
            self.restart(limit)
        elif limit is not None:
            self.wall = None
            self.set(limit)

    def _settle(self, now: float, fits: float, crowd: float = 0.0) -> None:
        self.starting, self.wall = False, None
        self.knee.settle(now, fits, crowd)
        self.set(fits)

    def rejected(self, ordinal: int, off: float, cost: float) -> None:
        """The `ordinal`-th in flight was one too many; what the provider counts may be `off` by so many.

        It costs so many requests: itself, and those that could have been sent in a wait that it names.
        """
        alike = self.wall is not None and abs(ordinal - self.wall) <= 1 + off + self._step
        self._held = min(int(1 / BUDGET), HOLD * ordinal, 2 * self._held) if alike else min(HOLD, ordinal)
        self.starting = False
        self.rejections += 1
        # Whoever went by force, above the limit, does not raise it.
        self.set(min(ordinal - 1, int(self.limit)))
        self.wall = self.limit + 1
        self.known = min(self.known, self.limit)
        self.knee.leave()
        more = max(0, self._hold) if ordinal > self._base else 0  # another one that the same test cost
        self._hold = int(max(more + self._held, self._held * cost)) if alike else self._held
        self._step = 0

    def lost(self, ordinal: int, chance: float) -> None:
        """One was rejected as if by chance, of which so many are: more of those at the limit are none."""
        if self.wall is None or self._step or ordinal < int(self.limit):
            return
        self._lost += 1
        surely = unlikely(self._lost, max(1, self._at_limit), chance)
        if surely > TRIAL:
            self.fewer()
        elif not surely:
            self._lost = self._at_limit = 0

    def fewer(self) -> None:
        """Another one of the same burst was rejected: it was none of those that fit."""
        self.rejections += 1
        self.set(self.limit - 1)
        self.wall, self.known = self.limit + 1, min(self.known, self.limit)

    def drowned(self, now: float, fits: float) -> None:
        """The server is full: so many fit at most; as many as at first, where no answer was quick enough to tell."""
        self._settle(now, min(fits, self.limit if self.knee.usual_s else self.first))

    @property
    def fitting(self) -> Fitting:
        """What is found by now, for `restore`."""
        return Fitting(self.limit, self.wall, self.starting, self.known, self.knee.found)

    def restore(self, was: Fitting) -> None:
        """What was found later was wrong."""
        self.limit, self.wall, self.starting, self.known, full = was
        if full and not self.knee.found:  # else nothing would ever be looked for again
            self.knee.found = True
            self.knee.begin(0.0)

    def restart(self, limit: float) -> None:
        """So many fit now, and nobody knows how many more: grow fast again from here."""
        self.starting, self.wall, self._step, self.rejections = True, None, 0, 0
        self.set(limit)

    def moved(self, limit: float, *, firm: bool) -> None:
        """Other processes took a part of what fits, or gave one: so many fit here now.

        Args:
            limit: requests in flight.
            firm: somebody met resistance: no more fit, and growing fast is over.
        """
        self.set(limit)
        if firm:
            self.starting, self.wall = False, self.limit + 1
        self._step, self._hold = 0, self._held

    def own_work(self, binds: bool) -> None:
        """Whether our own CPU is what binds, until it is said otherwise: nothing is learnt from throughput then."""
        if binds and not self.busy:
            self.knee.begin(0.0)
        self.busy = binds

    def set(self, limit: float) -> None:
        """Within the bounds."""
        self._lost = self._at_limit = 0
        self.limit = max(self.minimum, min(self.maximum, limit))
