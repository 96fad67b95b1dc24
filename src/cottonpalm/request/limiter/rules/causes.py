"""What a rejection was for: the table, and how sure one can be that it was for anything. No clock, no I/O."""

from __future__ import annotations

import math
from bisect import insort
from enum import Enum
from typing import Final

ENOUGH: Final = 8  # of anything, from which it says something
APART: Final = 0.25  # a rate or a number that differs by more is another one
HOLD: Final = 16  # admitted before the first test of more; twice as many after each that failed, up to...
BUDGET: Final = 0.005  # ...as many as make tests cost this share of them
PATIENCE: Final = 4.0  # deviations of the time of a rejection, after which one was admitted
USUAL: Final = 1 / 100  # weight of one more answer in what is usual
SURE: Final = 2.0  # log-likelihood ratio from which one of two is believed
SURPRISE: Final = 5.0  # ...from which rejections are no chance...
TRIAL: Final = 3.8  # ...and in a trial of more than is known to fit
DOUBT: Final = 0.66  # of it is taken back by each request that was admitted and asked as much
CHANCE: Final = (0.01, 0.15)  # of all requests are rejected by chance, at least and at most
FIRST: Final = 1000  # requests, of which those of trials count for chance too: else too few were left
# Of all that is sent, rejected by chance and named a wait: one of so few is a surprise by itself, and where there are
# more a wait that is named says nothing.
TOLD: Final = math.exp(-SURPRISE - DOUBT) / 2


class Cause(Enum):
    """What stood in the way."""

    OVERLOAD = "overload"
    CHANCE = "chance"
    BOTH = "rate or in flight"
    RATE = "rate"
    NUMBER = "in flight"
    CHANGED = "something changed"


def explain(*, overload: bool, empty: bool, surprising: bool, fast: bool, above: bool) -> Cause:
    """What a rejection was for: the first line that fits.

    Args:
        overload: of all its users, as the provider says: no word about our own limits.
        empty: a quota that it shows is used up.
        surprising: together with those before it, it is more than chance explains.
        fast: the pace was higher than any that is known to fit.
        above: more were in flight than are known to fit.
    """
    table = (
        (overload, Cause.OVERLOAD),
        (empty, Cause.RATE),
        (not surprising, Cause.CHANCE),
        (fast and above, Cause.BOTH),
        (fast, Cause.RATE),
        (above, Cause.NUMBER),
    )
    return next((cause for fits, cause in table if fits), Cause.CHANGED)


def unlikely(rejected: int, admitted: int, chance: float) -> float:
    """How much better their own share explains so many rejections than chance does: a log-likelihood ratio.

    Args:
        rejected: of those that were sent.
        admitted: the others; some.
        chance: the share that chance rejects.
    """
    share = rejected / (rejected + admitted)
    if share <= chance:
        return 0.0
    return rejected * math.log(share / chance) + admitted * math.log((1 - share) / (1 - chance))


class Refusals:
    """How long a rejection takes, timed as TCP times its acknowledgements: the mean and four deviations.

    Attributes:
        patience_s: a request that was not rejected for so long was admitted.
        seen: rejections so far.
    """

    __slots__ = ("_dev_s", "_least_s", "mean_s", "patience_s", "seen")

    def __init__(self, first_s: float) -> None:
        self.mean_s, self._dev_s, self.seen = first_s, first_s, 0
        self._least_s = first_s / 10  # one that takes no time at all would be found too late
        self.patience_s = 2 * first_s

    def took(self, seconds: float) -> None:
        """One more came back."""
        self.seen += 1
        seconds = max(self._least_s, seconds)
        weight = max(1 / ENOUGH, 1 / self.seen)
        self._dev_s += weight * (abs(seconds - self.mean_s) - self._dev_s)
        self.mean_s += weight * (seconds - self.mean_s)
        self.patience_s = self.mean_s + max(self._least_s, PATIENCE * self._dev_s)


class Overload:
    """Whether a provider that says that it is overloaded by all its users is: else what it has for us is full.

    What is for everybody comes and goes by itself. What comes back each time that as much is asked again is a limit of
    our own.

    Attributes:
        since: requests that were admitted between the last two times that it was said.
    """

    __slots__ = ("_soon", "_then", "since")

    def __init__(self) -> None:
        self._then: int | None = None  # admitted, when it was said last
        self._soon = 0.0
        self.since = 0

    def is_ours(self, admitted: int, limit: float, *, fits: float = math.inf) -> bool:
        """Whether it means us, said again after so many were admitted of whom so many may be in flight.

        Args:
            admitted: requests so far.
            limit: of them may be in flight.
            fits: as many are known to, where one more was rejected.
        """
        first, self.since, self._then = self._then is None, admitted - (self._then or 0), admitted
        if first or (self._soon < ENOUGH and self.since > HOLD * limit):
            self._soon = 0.0
        else:
            self._soon += 1.0 if 2 * self.since >= min(2 * ENOUGH, fits) else 1 / ENOUGH
        return self._soon >= ENOUGH


class Doubt:
    """Whether rejections can be chance: a log-likelihood ratio over those that were rejected and those sent between.

    Only requests count that asked as much of the provider: as many in flight. Whoever was sent between two that were
    rejected was admitted, or its rejection will be counted when it comes.

    Attributes:
        sent: requests so far.
        suspect: as many have to be in flight to ask as much; below any number: everybody does.
    """

    __slots__ = ("_alone", "_kept", "_odd", "_recent", "_untold", "sent", "suspect")

    def __init__(self) -> None:
        # Rejections of late: which that asked as much, and its weight.
        self._recent: list[tuple[int, float]] = []
        self._alone = 0  # rejections that led to no cause
        self._untold = 0.0  # rejections that nobody explained, and no trial was to meet
        self._odd = 0  # that named a wait, though no more was asked than had been admitted
        self._kept = 0  # requests that kept to what is known to fit
        self.sent = 0
        self.suspect = -math.inf

    def went(self, sent: int, *, trial: bool) -> None:
        """So many were sent in all, the latest of them to try more than is known to fit, or to keep to it."""
        if not trial:
            self._kept += sent - self.sent
        self.sent = sent

    @property
    def share(self) -> float:
        """Of all requests, rejected by chance: what is rejected however little is asked.

        A limit that was found is kept to, so it soon rejects few. What goes on being rejected is chance. Requests of
        trials count on neither side, but among the first ones.
        """
        least, most = CHANCE
        of = max(self._kept, min(self.sent, FIRST))
        return min(most, max(least, (0.5 + self._untold) / (50 + of)))

    @property
    def waits_tell(self) -> bool:
        """Whether a wait that is named says that a limit was met: too few are named for nothing."""
        return self._odd <= TOLD * (50 + self.sent)

    def odd(self) -> bool:
        """It names a wait, though no more was asked than had been admitted; whether waits tell nothing from now on."""
        told = self.waits_tell
        self._odd += 1
        return told and not self.waits_tell

    def surprising(self, asked: int, *, told: bool, silent: bool, trial: bool) -> bool:
        """Whether chance does not explain the newest rejections any more.

        Args:
            asked: it was the so-manieth that asked as much.
            told: it names a wait, or shows a quota: chance hardly does.
            silent: others did, and this one did not: it is hardly for a limit.
            trial: more than is known to fit was being tried, so that it was to be expected.
        """
        share = TOLD if told else CHANCE[1] if silent else self.share
        weight, bar = -math.log(2 * share), TRIAL if trial else SURPRISE
        if not told:  # the more there were by chance, the sooner some of them fall together
            bar += math.log1p(self._alone / ENOUGH)
            self._untold += not trial
        recent = self._recent
        insort(recent, (asked, weight))
        del recent[:-HOLD]
        newest, ratio = recent[-1][0], 0.0
        for rejected, (which, weight) in enumerate(reversed(recent), start=1):
            ratio += weight
            if ratio - DOUBT * max(0, newest - which + 1 - rejected) > bar:
                return True
        self._alone += not told
        return False

    def settled(self) -> None:
        """A cause was found: from here on anew. It may be the wrong one, so they still count as chance."""
        self._alone = max(0, self._alone + 1 - len(self._recent))
        self._recent.clear()
