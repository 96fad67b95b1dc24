"""The twin of a bucket that nobody shows: how fast it refills, learnt from what was admitted between rejections."""

from __future__ import annotations

import math
from typing import Final

from cottonpalm.request.limiter.rules.causes import APART, BUDGET, ENOUGH, HOLD, TRIAL, unlikely
from cottonpalm.request.limiter.rules.recovery import LONGEST_S
from cottonpalm.request.limiter.rules.trial import Trial

UNDER: Final = 0.98  # of the learnt rate: what is left over fills the provider's bucket again
CATCH_UP: Final = 2.0  # times the learnt rate, when what was saved up is spent; one rejection takes no more
FIRST_TEST: Final = 0.1  # of a rate that was told but once; more where few requests told it


class Bucket:
    """Refills at `rate` up to `depth`.

    At a rejection it is empty: so what was admitted between two of them, over the time between them, is its rate,
    whatever our own pace was meanwhile.

    A learnt rate is kept a little below what it is; after so many admitted a little more is tried, then more and more:
    the fewer told it, the sooner and the more. Where a multiple of it fits, it was not what stood in the way, and is
    let go.

    Attributes:
        rate: a second; 0 while it is off.
        learning: it is suspected, and its rate not known yet.
        blamed: time alone helped after a rejection, so there is a rate.
        extra: share of the rate that is sent above it, on trial.
        rejections: from which the rate was found.
    """

    __slots__ = (
        "_at",
        "_bound",
        "_calm",
        "_chance",
        "_cost",
        "_depth_known",
        "_first",
        "_first_s",
        "_held",
        "_hold",
        "_lost",
        "_most",
        "_next_s",
        "_opened",
        "_opened_s",
        "_proven",
        "_shut_s",
        "_silences",
        "_since",
        "_stage",
        "_stage_s",
        "_sure",
        "_took_s",
        "_trial",
        "_went",
        "_window",
        "blamed",
        "depth",
        "extra",
        "learning",
        "level",
        "mark",
        "mark_s",
        "rate",
        "rejections",
        "silent_s",
    )  # fmt: skip

    def __init__(self) -> None:
        self.rate = self.extra = 0.0
        self.rejections = 0
        self.learning = self.blamed = self._depth_known = False
        self.depth, self.level = 1.0, 0.0
        self._at = self._next_s = self._took_s = 0.0
        self.mark_s = self.mark = 0.0  # when it was empty, and all that was admitted up to then
        self._first = self._first_s = 0.0
        self.silent_s, self._silences = 0.0, 0  # since the mark, in which nobody was let go
        # Seconds for each that a bucket must have had back by the last refusal; what the window before had let through,
        # over its length; what was admitted before the last one that opened, and when that was.
        self._shut_s = self._window = self._opened = self._opened_s = 0.0
        self._since, self._stage, self._stage_s = 0, 0, 0.0
        self._trial, self._proven = Trial(), 0.0
        # The share that it rejected before this rate, and how many were rejected and admitted since, while that speaks
        # for a rate that is too high.
        self._chance, self._calm = 0.0, (0, 0)
        # Whether it held the next one back; how many were sent in this stage, and how many of them it had held back.
        self._bound, self._went, self._held = False, 0, 0
        self._lost = 0  # in this stage, rejected as if by chance
        self._sure = False  # two samples agreed
        self._most = 0.0  # the highest rate that was believed since it was off
        self._hold, self._cost = HOLD, 1.0

    def begin(self, now: float) -> None:
        """The first request goes."""
        self._at = self.mark_s = self._opened_s = now

    @property
    def trial(self) -> bool:
        """More than is known to fit is being tried."""
        return self.learning or self.extra > 0

    @property
    def binds(self) -> bool:
        """It held most of the latest ones back: whether more may be in flight cannot be tried meanwhile."""
        return self.rate > 0 and 2 * self._held > self._stage

    def wait_s(self, now: float, cost: float) -> float:
        """Seconds until so much may go; not above 0 for now."""
        if not self.rate:
            return 0.0
        self._fill(now)
        if cost > 1:
            cost = min(cost, max(1.0, self.depth))
        wait_s = (cost - self.level) / (self.rate * (UNDER + self.extra))
        late_s = self._next_s - now
        wait_s = late_s if late_s > wait_s else wait_s
        if wait_s > 0:
            self._bound = True
        return wait_s

    def take(self, now: float, cost: float) -> None:
        """So much goes."""
        if self.rate:
            if now != self._at:
                self._fill(now)  # a probe goes without asking
            self._took_s = now
            self._went += 1
            self.level -= cost
            if self._bound:
                self._bound = False
                self._held += 1
            self._next_s = now + cost / (CATCH_UP * self.rate * (1 + self.extra))

    def room(self) -> float:
        """So much may go without asking, whatever time does: an eighth of what is saved up, where it held nobody."""
        return 0.0 if self.extra or self._held or self._bound else self.level / ENOUGH

    def took(self, at_s: float, many: int) -> None:
        """So many went without asking, the last of them then."""
        self.take(at_s, 1.0)
        self._went += many - 1
        self.level -= many - 1

    @property
    def _pace(self) -> float:
        """What is let go: a little less than the rate, or a trial's more."""
        return self.rate * (UNDER + self.extra)

    def counted(self, at_s: float, patience_s: float) -> bool:
        """One more was admitted that was sent then, and nothing follows from it; False: see `admitted`."""
        if not self._since:
            return False
        if at_s >= self._stage_s:
            stage = self._stage + 1
            if stage >= ENOUGH and stage >= self.rate * patience_s:
                return False
            self._stage = stage
        self._since += 1
        return True

    def admitted(self, at_s: float, mine: float, total: float, patience_s: float, chance: float) -> None:
        """One more was admitted; after enough of them a little more is tried, or twice as much more.

        Who was sent before the trial began tells nothing of it. Of those that were thought to be rejected by chance, as
        many as that at once are none.

        Args:
            at_s: when it was sent.
            mine: all that was admitted up to it.
            total: all that was sent and not rejected.
            patience_s: who was not rejected for so long was admitted.
            chance: the share of all requests that it rejects.
        """
        if not self._since:
            self._chance, self._calm = chance, (0, 0)
        self._since += 1
        if at_s < self._stage_s:
            return
        self._stage += 1
        if self.rate and self._stage >= max(ENOUGH, self.rate * patience_s):
            admitted, lost = self._stage, self._lost
            # One that was lost took what was saved up until that was known, so it slowed us down by another one.
            fast = self._went + lost >= (1 - APART / 2) * self._pace * (self._took_s - self._stage_s)
            bound = fast and 2 * self._held >= self._went
            self._begin_stage(self._at)
            if bound and (many := self._too_many(lost, admitted, chance)):
                self._too_fast(many)
                return
            if bound and self.extra:
                self._trial.borne(at_s, mine)
            self._try_more(bound, lost / (lost + admitted), total)

    def _too_many(self, lost: int, admitted: int, chance: float) -> float:
        """The share that was rejected, where chance does not explain it; 0 else.

        While no more is tried, one stage tells little, so they are added up for as long as they speak for it; and
        chance is what it was before: else what a rate that is too high costs would pass for it.
        """
        if not self.extra:
            lost, admitted, chance = lost + self._calm[0], admitted + self._calm[1], self._chance
        surely = unlikely(lost, admitted, chance)
        if not self.extra:
            self._calm = (lost, admitted) if surely else (0, 0)
        return lost / (lost + admitted) if surely > TRIAL else 0.0

    def _try_more(self, bound: bool, share: float, total: float) -> None:
        """A stage is over; it was `bound` where nothing but this rate held requests back, and this share was rejected.

        By chance, it seems. Only what was admitted is proven: else a rate that is too high would pass for chance.
        """
        trial = self._trial
        if not bound:  # this trial proves nothing; the one before it did
            self.rate *= max(1.0, self._proven) if self.extra else 1.0
            self.extra = 0.0
        elif self.extra:
            self._proven = (UNDER + self.extra) * (1 - share)
            if trial.least > CATCH_UP * self.rate:
                self.off()
            self.extra *= 2
        elif self._since >= self._hold * self._cost:
            more = 2 * BUDGET if self._sure else max(FIRST_TEST, 1 / self._hold)
            self.extra, self._proven = 1 - UNDER + more, 0.0
            trial.clear()
        if self.extra:
            trial.begins(self._took_s, total, self.depth)

    def _too_fast(self, share: float) -> None:
        """So many were rejected that the rest is the rate."""
        tried = self.extra > 0
        rate = self._pace * (1 - share)
        alike = abs(rate / self.rate - 1) < APART
        if tried or not alike:
            self._sure = alike
            self._hold = HOLD
        if not tried:
            self.depth = max(self.depth, 1 + self._trial.stored(rate))
        self.extra, self._since = 0.0, 0
        self.rejections += 1
        self._believe(rate)

    def _believe(self, rate: float) -> None:
        """That is the rate now; but where an eighth of what it was is rejected as well, no pace was the reason."""
        self._most = max(self._most, rate)
        if rate * CATCH_UP**3 < self._most:
            self.off()
            self.mark_s = math.inf  # what was admitted at so low a pace tells no rate either
        else:
            self.rate = rate

    def empty(self, now: float, at_s: float, total: float, named_s: float, patience_s: float) -> None:
        """A rejection for it: it was empty when that request came, sent at `at_s` as the last of `total`.

        What was admitted since the last one is no more than what it refilled. Where more was tried meanwhile, it is at
        least what that let through beyond what may have been stored up; what is known and fits both is kept.
        """
        self.rejections += 1
        sample, admitted = self.sample(at_s, total, patience_s), total - self.mark
        if self.rate:
            self._fill(now)
        rate = self._rate_by(sample, admitted, at_s, total)
        rate = max(rate, self.rate / CATCH_UP, 1 / LONGEST_S if rate else 0.0)
        alike = self.rate > 0 and abs(rate / self.rate - 1) < APART
        self._sure = alike and self.extra > 0  # a trial that failed tells what one that was no trial cannot
        told = HOLD if self.rate else max(1, min(HOLD, int(admitted)))
        self._hold = min(int(1 / BUDGET), 2 * self._hold) if self._sure else told
        if rate:
            self.learning = False
            self._believe(0.5 * (self.rate + rate) if alike and not self.extra else rate)
            if not self._depth_known and self._first:
                self.depth, self._depth_known = max(1.0, self._first - rate * self._first_s), True
        if self.level > 1:
            self.depth = max(1.0, self.depth - self.level)
        self._cost = 1 + max(0.0, self.rate * named_s - self.depth) if self._sure else 1.0
        if admitted >= ENOUGH or self.extra or not self._first:
            self.set_mark(at_s, total)
        self.level, self._at, self._next_s = 0.0, now, now
        self.extra, self._since = 0.0, 0
        self._begin_stage(now)

    def _begin_stage(self, now: float) -> None:
        self._stage, self._stage_s, self._went, self._held, self._lost = 0, now, 0, 0, 0

    def _rate_by(self, sample: float, admitted: float, at_s: float, total: float) -> float:
        """The rate that a sample of so many tells, beside what is known."""
        if self.rate and self.extra:
            least, most = self._trial.bounds(at_s, total)
            return max(sample, least, min(self.rate, most))
        if admitted >= (ENOUGH if self.rate else ENOUGH / 2):  # fewer may as well have met an outage
            return sample
        if 0 < sample < self.rate:  # few were admitted, so the old rate weighs more
            return (ENOUGH + admitted) / (ENOUGH / self.rate + admitted / sample)
        return self.rate

    def drained(self, now: float, at_s: float, total: float) -> None:
        """A rejection that may be chance: nothing is saved up, at any rate."""
        if self.rate:
            self._fill(now)
            self.level = min(self.level, 0.0)
            self._lost += 1
            if self.extra:
                self._trial.rejected(at_s, total)

    def sample(self, at_s: float, total: float, patience_s: float) -> float:
        """The rate by what was admitted since the mark; 0 for none.

        What came back in each silence ran over where it was more than the depth. Where that is not known, the rate lies
        between what was admitted over all of the time and over what was no silence.

        A bucket that refused one had less than one, so since the mark less than one came back beyond what it admitted:
        that bounds its rate. Where more passed it is a window, which lets through as much as the one before.
        """
        passed, admitted = at_s - self.mark_s, total - self.mark
        if passed < patience_s or admitted < 1:
            return 0.0
        active_s = max(patience_s, passed - self.silent_s)
        if self._depth_known:
            rate = max(admitted / passed, (admitted - max(1, self._silences) * self.depth) / active_s)
        else:
            rate = math.sqrt(admitted / passed * admitted / active_s)
        return max(rate, self._window) if admitted * self._shut_s > passed else rate

    def learn(self, at_s: float, total: float, silent_s: float = 0.0) -> None:
        """Whatever was known of it, less may fit now; nobody was let go for so long since then."""
        self.learning = True
        self.set_mark(at_s, total)
        if silent_s:
            self.silent(silent_s)

    def silent(self, seconds: float) -> None:
        """Another silence is over: nobody was let go for so long."""
        self.silent_s += seconds
        self._silences += 1

    def set_mark(self, at_s: float, total: float) -> None:
        """It was empty then."""
        if not self._first:
            self._first, self._first_s = total, at_s
        self.mark_s, self.mark, self._shut_s = at_s, total, 0.0
        self.silent_s, self._silences = 0.0, 0

    def opens(self, at_s: float, refused_s: float, total: float) -> None:
        """One was admitted that was sent then, after the last of those that were refused, and after all these."""
        self._shut_s = max(0.0, refused_s - self.mark_s) / (1 + max(0.0, total - self.mark))
        self._window = (self.mark - self._opened) / max(1e-9, at_s - self._opened_s)
        self._opened, self._opened_s = self.mark, at_s

    def off(self) -> None:
        """It is not what stands in the way."""
        self.rate = self.extra = self._most = 0.0
        self.rejections = 0
        self.learning = self.blamed = False

    def _fill(self, now: float) -> None:
        level = self.level + self.rate * (UNDER + self.extra) * (now - self._at)
        self._at = now
        self.level = level if level < self.depth else self.depth
