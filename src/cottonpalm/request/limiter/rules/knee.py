"""Whether more in flight does more: throughput at two numbers, compared by likelihood. No clock, no I/O."""

from __future__ import annotations

import math
from bisect import insort
from typing import TYPE_CHECKING, Final, NamedTuple

from cottonpalm.request.limiter.rules.answer_times import FEW, LEAST_S, AnswerTimes, variance_of
from cottonpalm.request.limiter.rules.causes import ENOUGH, HOLD, SURE

if TYPE_CHECKING:
    from cottonpalm.request.limiter.rules.sent import Sent

MORE: Final = 0.5  # of as much more: what more in flight have to do, over that they do no more
WIDE: Final = 1.5  # one number in flight over the other, while nobody knows where the knee is; then its root
ROOT_2: Final = math.sqrt(2)
MANY: Final = 64  # answers that are worked in together
NONE: Final = (0, 0.0, 0.0)


class Seen(NamedTuple):
    """A round: in flight, a second, answers."""

    crowd: float
    pace: float
    answers: float


class Round:
    """Answers that came while the number in flight stayed the same."""

    __slots__ = ("answers", "began_s", "crowd", "gated", "logs")

    began_s: float

    def __init__(self) -> None:
        self.answers, self.crowd, self.gated = 0, 0, False
        self.logs = 0.0

    @property
    def mean(self) -> float:
        """In flight."""
        return self.crowd / self.answers if self.answers else 0.0


class Knee:
    """A server that does not reject but shares its speed: more in flight only take longer.

    Two hypotheses about more in flight: they do half as much more, or no more. (Few servers have a sharp knee: where
    ever more do ever less more, as in a batch on a GPU, half of what could be done were left undone by a test against
    as much more.) Each answer is evidence, weighed by how much answers' times differ. While the limit grows, the first
    that is believed to do no more ends that. A full server loses nothing by fewer in flight, so they are halved from
    there for as long as no less is done: what looked usual may have been measured on a full server. Then two numbers
    are compared in turn, a higher and a lower one, and both move to where the better one was.

    Attributes:
        found: the server is full at the limit, or was.
        times: what answers take with this number, while it is halved; None else.
        level: the number that did best.
        usual_s: an answer takes where few are in flight; 0 while that is not known.
        least_s: the quickest took until then.
    """

    def __init__(self) -> None:
        self.found = False
        self.usual_s = 0.0  # an answer took at first, when few were in flight
        self.least_s = math.inf
        self._first: list[float] = []
        self._skew = 1.0  # their mean over their median, as where their logarithms spread evenly
        self._lates = 0  # answers that took longer, less those that did not
        self._answers = 0
        self._count, self._most, self._until_s = 0, 0, 0.0  # answers in the time that one takes among few
        self._crowd = self._log = 0.0  # of late: in flight, and what an answer took
        self._mean_s = 0.0  # of the answers' times...
        self._varies = 1.0  # ...and their squared deviation, over it
        self._round = Round()
        self._suspect = 0.0  # in flight when it looked full, until that is checked
        # Of answers that were asked before it looked full, by the number in flight then, in octaves: how many,
        # and the logarithms of their times and of the number in flight meanwhile.
        self._logs: dict[int, tuple[int, float, float]] = {}
        self._settled_s = math.inf  # when it looked full, until that is checked
        self._open_s = 0.0  # answers before were of another number in flight
        self._noted: list[tuple[float, float, int, int]] = []
        self.times: AnswerTimes | None = None
        self._among = math.inf  # so many were in flight when an answer took `usual_s`: the mean of...
        self._amongs = 0.0  # ...these, added up
        self._widest = WIDE
        self._begin_search(1.0)

    def _begin_search(self, limit: float) -> None:
        self.level = limit
        self._ratio, self._up, self._there = self._widest, True, False
        self._here: Seen | None = None
        self._sum, self._pairs, self._quiet, self._rest = 0.0, 0, 0, 1

    def late(self, seconds: float, *, counts: bool = True) -> bool:
        """Whether an answer took clearly longer than the first ones did, when few were in flight.

        Args:
            seconds: that it took.
            counts: as a sign of a full server; not where those that take long are answered alone.
        """
        if not self.usual_s:
            return False
        late = seconds > ROOT_2 * self.usual_s  # half way to that twice as many take twice as long
        if late:
            self._lates += counts
        elif self._lates:
            self._lates -= 1
        return late

    @property
    def fits(self) -> float:
        """So many in flight do as much as any number did: the most that was done in the time of an answer among few.

        Little's law: as many are in flight as are answered in the mean time of an answer.
        """
        self._work_in()
        by_now = self._crowd / math.exp(self._log) * self.usual_s if self._crowd else 0.0
        return max(1.0, self._most, self._count, by_now)

    @property
    def full(self) -> bool:
        """More in flight only took longer."""
        return self._lates >= ENOUGH

    def settle(self, now: float, limit: float, crowd: float) -> None:
        """The server is full with so many: look round there. Where a crowd only took longer, that is checked.

        Without a crowd requests came to nothing, as in an outage: the number is a guess, and what fits may be far off.
        """
        self._work_in()
        self._widest = WIDE if crowd else WIDE * WIDE
        self.found = True
        self._suspect, self._settled_s = crowd, now if crowd else math.inf
        self._begin_search(limit)
        self.begin(0.0)
        self.times = AnswerTimes()

    def compare(self, crowd: float) -> None:
        """What is known of an answer's time was seen among so many: compare fewer with them."""
        self._varies = variance_of(self._first)
        self._here = Seen(crowd, crowd / self.usual_s, ENOUGH)

    def leave(self) -> None:
        """Something else is in the way, or it was not full: nothing is looked for here any more."""
        self.found, self.times = False, None

    def begin(self, now: float) -> None:
        """A round begins, once those have left that were in flight with another number."""
        self._work_in()
        self._round, self._open_s = Round(), now + self._mean_s

    def took(self, now: float, seconds: float, ordinal: int, in_flight: int, *, first: bool) -> None:
        """An answer took so long, with so many in flight when it was sent, and now; it may be one of the first."""
        if first and not self.usual_s:
            self._work_in()
            insort(self._first, seconds)
            self._amongs += in_flight
            if len(self._first) == ENOUGH:  # of twice as many: the median
                self.usual_s, self._until_s, self._among = self._first[-1], 0.0, self._amongs / ENOUGH
                self._skew = math.exp(variance_of(self._first) / 2)
        if not self.usual_s and seconds < self.least_s:
            self.least_s = seconds
        self._noted.append((now, seconds, ordinal, in_flight))
        if self.found or len(self._noted) >= MANY:
            self._work_in()

    def _work_in(self) -> None:
        """What was noted of answers: in one go as long as nobody asks, since each is no reason for anything."""
        noted, self._noted = self._noted, []
        for now, seconds, ordinal, in_flight in noted:
            log, crowd = math.log(seconds if seconds > LEAST_S else LEAST_S), (ordinal + in_flight) / 2
            weight = 1 / ENOUGH if self._crowd else 1.0
            self._crowd += weight * (crowd - self._crowd)
            self._log += weight * (log - self._log)
            self._answers += 1
            if now - seconds < self._settled_s:
                octave = ordinal.bit_length()
                answers, logs, crowds = self._logs.get(octave, NONE)
                self._logs[octave] = answers + 1, logs + log, crowds + math.log(crowd)
            self._count += 1
            if now >= self._until_s:
                self._most, self._count = max(self._most, self._count), 0
                self._until_s = now + self.usual_s * self._skew if self.usual_s else math.inf
            weight = 1 / HOLD if self._answers > HOLD else 1 / self._answers
            self._mean_s += weight * (seconds - self._mean_s)
            off = seconds / self._mean_s - 1 if self._mean_s else 0.0
            self._varies += weight * ((off * off if -2 < off < 2 else 4.0) - self._varies)

    def _refuted(self, log: float, among: float, here: float) -> float:
        """In flight when it seemed full, where answers surely take no less time among so many fewer; 0 else."""
        crowd, self._suspect = self._suspect, 0.0
        octave = int(crowd).bit_length()
        answers, logs, crowds = map(
            sum, zip(*(self._logs.get(o, NONE) for o in (octave, octave - 1)), strict=True)
        )
        self._settled_s = math.inf
        if not answers:
            return 0.0
        apart, gain = max(0.0, crowds / answers - math.log(here)), logs / answers - log
        if apart * (apart / 2 - gain) < SURE * self._noise(answers, among):
            return 0.0
        self.leave()
        self.usual_s = max(self.usual_s, math.exp(log))
        self._lates = self._count = self._most = 0
        return crowd

    def _noise(self, some: float, others: float) -> float:
        """Squared deviation of the difference between what so many answers tell, and so many others."""
        return max(0.01, self._varies) * (1 / some + 1 / others)

    def answered(self, now: float, sent: Sent, in_flight: int, limit: float, *, gated: bool) -> float | None:
        """A new limit, or None. Where it was not full after all, nothing is `found` any more.

        Args:
            now: when it was answered.
            sent: what was answered.
            in_flight: now, with it.
            limit: on them.
            gated: something else held requests back.
        """
        drains = in_flight > limit + 1
        if self.times is not None:
            return self._halved(now, self.times, sent, limit, again=drains or gated)
        if drains and now >= self._open_s:
            self.begin(now)
        if drains or now < self._open_s:
            return None
        this = self._round
        if not this.answers:
            this.began_s = now
        this.answers += 1
        this.crowd += sent.ordinal
        this.logs += math.log(max(LEAST_S, now - sent.at_s))
        this.gated = this.gated or gated
        if this.answers <= ENOUGH or now - this.began_s < self._mean_s:
            return None
        self.begin(now)
        if this.gated:
            return None
        if self._suspect and (crowd := self._refuted(this.logs / this.answers, this.answers, this.mean)):
            return crowd
        pace = (this.answers - 1) / max(LEAST_S, now - this.began_s)
        return self._around(Seen(this.mean, pace, this.answers - 1))

    def _halved(
        self, now: float, times: AnswerTimes, sent: Sent, limit: float, *, again: bool
    ) -> float | None:
        """Half as many again, as long as no less is done."""
        if again:
            self.times = AnswerTimes()
            return None
        times.drained = True
        if not times.answered(now, sent):
            return None
        best = self._here
        if best is None:
            if not times.half:
                return None
            self._varies = variance_of(times.known)
            took_s, answers = times.known[-1], float(len(times.known))
        else:
            took_s, answers = times.likely(now, math.log(best.crowd / best.pace), self._varies)
        if self._suspect and answers >= ENOUGH and (crowd := self._refuted(math.log(took_s), answers, limit)):
            return crowd
        return self._compared(now, Seen(limit, limit / took_s, answers), took_s)

    def _compared(self, now: float, here: Seen, took_s: float) -> float | None:
        """What follows what was done with half as many; None while that is not sure."""
        best = self._here
        if best is not None:
            less = self._ratio_of(here, best)
            if 2 * here.answers < ENOUGH or (here.answers < FEW and 2 * abs(less) < SURE):
                return None
            if less > 0:  # as many as are answered in that time
                self.usual_s = self._pooled(took_s)
                return self._look_round(now, took_s, min(best.crowd, here.crowd * best.pace / here.pace))
        usual_s, among, limit = self.usual_s or took_s, self._among, here.crowd
        if limit > among and self._ratio_of(Seen(among, among / usual_s, ENOUGH), here) > 0:
            self.usual_s = self._pooled(took_s)
            return self._look_round(now, took_s, limit)
        self.usual_s, self._among = min(usual_s, took_s), min(among, limit)
        if took_s < usual_s:  # what was done in the longer time says nothing
            self._most, self._count, self._until_s = 0, 0, now + took_s * self._skew
        if limit <= 1:
            return self._look_round(now, took_s, limit)
        # It did as much.
        self._here = here if best is None else here._replace(pace=max(here.pace, best.pace))
        self._mean_s, self.times = took_s, AnswerTimes()
        self.level = max(1.0, limit / 2)
        return self.level

    def _pooled(self, took_s: float) -> float:
        """What an answer takes where it was not full after all: the least of all that was seen would be too little."""
        return math.sqrt((self.usual_s or took_s) * took_s)

    def _look_round(self, now: float, took_s: float, limit: float) -> float:
        self._mean_s, self.times = took_s, None
        self._begin_search(limit)
        self.begin(now)
        return limit

    def _other(self) -> float:
        """The number to compare with; more is one more at least, and less is never less than one."""
        if self._up:
            return max(self.level + 1, self.level * self._ratio)
        return max(1.0, self.level / self._ratio)

    def _ratio_of(self, less: Seen, more: Seen) -> float:
        """Log-likelihood ratio: that more in flight did half as much more, over that they did no more."""
        apart, gain = math.log(more.crowd / less.crowd), math.log(more.pace / less.pace)
        return MORE * apart * (gain - MORE * apart / 2) / self._noise(less.answers, more.answers)

    def _around(self, seen: Seen) -> float | None:
        """What follows a round: the other number, or where it was better."""
        if self._quiet > 0:
            self._quiet -= 1
            return None
        other = self._other()
        here = self._here
        if not self._there:
            self._here, self._there = seen, True
            return other
        assert here is not None
        self._there = False
        apart = abs(math.log(seen.crowd / here.crowd))
        if apart < 0.25 * math.log(WIDE):  # as many as before: no trial at all
            self._up = True
            return self.level
        self._sum += self._ratio_of(here, seen) if self._up else self._ratio_of(seen, here)
        self._pairs += 1
        if abs(self._sum) < SURE:
            if self._pairs >= ENOUGH:  # the knee is here
                self._quiet, self._rest = self._rest, min(HOLD, 2 * self._rest)
                self._ratio, self._sum, self._pairs, self._up = math.sqrt(WIDE), 0.0, 0, not self._up
            return self.level
        if (self._sum > 0) is self._up:
            self.level, self._here, self._there = other, seen, True
            self._ratio, self._rest = min(self._widest, self._ratio**1.5), 1
            other = self._other()
        else:
            self._up, self._ratio = not self._up, math.sqrt(WIDE)
            other = self.level
        self._sum, self._pairs = 0.0, 0
        return other
