"""What is learnt of the provider's limits, by what it admits and rejects. No clock, no I/O."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from cottonpalm.request.limiter.rules.causes import (
    CHANCE,
    DOUBT,
    ENOUGH,
    SURE,
    SURPRISE,
    Cause,
    explain,
)
from cottonpalm.request.limiter.rules.concurrency import SOON
from cottonpalm.request.limiter.rules.gates import NUMBERS
from cottonpalm.request.limiter.rules.probing import Probing
from cottonpalm.request.limiter.rules.recovery import State
from cottonpalm.request.limiter.rules.sent import Sent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cottonpalm.request.limiter.rules.under_way import Helped
    from cottonpalm.types import Quota, Usage

__all__ = ["Admission", "Sent"]

MANY: Final = 64  # answers, of which one looks who else was admitted, where no single one counts


class Admission(Probing):
    """All limits of one key together, as gates that each say how long to wait; the longest counts.

    The gates: in flight (`concurrency`), a learnt rate (`bucket`), the quotas that are shown (`quotas`), the user's
    ceilings, and what is left of a silence (`recovery`). What was rejected restricts the gates under which it was more
    than is known to fit, and each that holds requests back is tested. So nobody has to know at once which of them it
    was, and no belief is given up for another.

    A rejection comes within a refusal time, an answer takes far longer. So a request that was not rejected within
    `refusals.patience_s` was admitted: everything grows and is judged on that scale.
    """

    __slots__ = ()

    # What came back

    def _admitted(self, sent: Sent) -> None:
        sent.known = True
        self._good += 1
        recovery, bucket, stretch = self.recovery, self.bucket, sent.stretch
        if sent is recovery.probe:
            self._revive(sent)
        if stretch.generation != self.generation:  # what it asked for was another number, or another pace
            return
        if bucket.rate and not bucket.counted(sent.at_s, self.refusals.patience_s):
            self.book()
            pace = bucket.rate * (1 + bucket.extra)
            self._doubt.went(self.number, trial=self._tries_more)
            bucket.admitted(
                sent.at_s,
                sent.total - self._bad,
                self._total - self._bad,
                self.refusals.patience_s,
                self._doubt.share,
            )
            if not bucket.rate:  # it was not to blame
                recovery.ramp(max(2.0, pace * self.refusals.patience_s))
                self.calm = False
        if recovery.state is State.RAMP:
            recovery.window += 1 if self.refusals.seen else SOON  # nothing speaks for a limit yet
        number, crowd = self.concurrency, sent.ordinal - self.refusals.seen + stretch.refusals
        if number.wall is not None:
            may_test = not bucket.binds
            number.admitted(sent.ordinal, crowd, may_test=may_test, total=sent.total, newest=self._total)
        elif crowd > number.known or number.beginning:  # else it tells nothing new
            number.admitted(sent.ordinal, crowd, may_test=False)

    def answered(  # noqa: C901 - for every request: each call more is a thirtieth of what a permit costs
        self, now: float, sent: Sent, in_flight: int, usage: Usage | None = None
    ) -> bool:
        """It was answered. Returns whether limits have to be looked at again.

        Args:
            now: when.
            sent: the request.
            in_flight: without it.
            usage: tokens that it really used, where that is known.
        """
        self.answers = answers = self.answers + 1
        self.answered_s = now
        if sent.number > self.newest:  # noqa: PLR1730 - for every request: quicker than max()
            self.newest = sent.number
        self._trips += now - sent.at_s
        self._asks += sent.ask
        if usage is None:
            self._outputs += self._output
        else:
            self._outputs += usage.output_tokens
            if self._own is not None:
                used = usage.input_tokens + usage.output_tokens
                if used != sent.ask:
                    self.headroom.settle(sent, used)
                self._sizes += used - self.usual_size
        if not self.calm:
            self._average()
            return self._heard(now, sent, in_flight)
        if not sent.known:
            bucket = self.bucket
            if bucket.rate and not (
                sent.stretch.generation == self.generation
                and bucket.counted(sent.at_s, self.refusals.patience_s)
            ):
                self._admitted(sent)
            else:  # as that says, without its calls: for every answer
                sent.known = True
                self._good += 1
                if sent.ordinal > self.concurrency.known:
                    self._fits(sent)
        moved = self.concurrency.starting and self._moved(now, sent, in_flight)
        if answers % MANY:
            return moved
        self._average()
        self._news(now)
        return True

    def _moved(self, now: float, sent: Sent, in_flight: int, *, gated: bool = False) -> bool:
        """Whether it moves the number in flight, or the server is full: halving begins with who goes next."""
        number = self.concurrency
        limit, starting = number.limit, number.starting
        # Where fewer were sent since than went with it, those that take long are left.
        since = self.number - sent.number - self.refusals.seen + sent.refusals
        left = since < sent.ordinal or self.recovery.leaves(now, sent.at_s, self.trip_s)
        room = 0.0
        if self.quotas.shown and number.grows(in_flight + 1):
            self.book()
            room = self.quotas.ahead
        number.answered(now, sent, in_flight + 1, gated=gated, left=left, room=room)
        return number.limit != limit or number.starting is not starting or number.knee.times is not None

    def _heard(self, now: float, sent: Sent, in_flight: int) -> bool:
        """It was answered, and that tells more than means: who was admitted, what fits, that a provider lives."""
        limit = self.concurrency.limit
        self._news_of(now, sent)
        if self._late:
            self._late = max(0.0, self._late - DOUBT)
        moved = self._moved(now, sent, in_flight, gated=self._held_back)
        self._held_back = False
        return moved or self.concurrency.limit != limit or not self.answers % MANY

    def _news_of(self, now: float, sent: Sent) -> None:
        if not sent.known:
            self._admitted(sent)
        if self._young:
            self._news(now)

    def _fits(self, sent: Sent) -> None:
        """It was admitted: so many in flight fit."""
        crowd = sent.ordinal - self.refusals.seen + sent.refusals
        if sent.generation == self.generation and crowd > self.concurrency.known:
            self.concurrency.known = crowd

    def _catch_up(self, now: float) -> None:
        """It is no answer: what calm answers left undone is done, and the next one sent differs from these."""
        self.book()
        self._average()
        self._stretch = None
        self._doubt.went(self.number, trial=self._tries_more)
        if self.calm and not self.bucket.rate:
            self._news(now)

    def ignored(self, now: float, sent: Sent) -> None:
        """It ended in a way that says nothing of the provider's limits."""
        self.failures.took(now - sent.at_s)
        self._settled(sent)

    def failed(self, now: float, sent: Sent, in_flight: int) -> None:
        """It came to nothing: where many do far too late, or at once and above what is known to fit, it is full."""
        self._catch_up(now)
        took_s = now - sent.at_s
        self.failures.took(took_s)
        soon = 2 * took_s < self.answer_s(now)  # no answer could have come by then
        since = self.answers - sent.answers
        late = took_s > self.trip_s and not soon and since < sent.ordinal
        if late and sent.known and sent.number > self._drowned:
            self._late -= math.log(2 * CHANCE[1])
            if self._late > 2 * SURPRISE:
                self._undo_known(sent)
                self._see_unfailed()
                self._late, self._drowned, self.generation = 0.0, self.number, self.generation + 1
                self._saved = None  # a probe that is under way tells nothing of the number that was
                # Who stands in a line is answered in time behind no more than were answered since; without an answer
                # the whole server may have stood still.
                self.concurrency.drowned(now, min((in_flight + 1) / 2, since or math.inf))
        given_up = self._is_given_up(now, took_s)
        early = soon and (given_up or not sent.known)
        if early:
            self._undo_known(sent)
        self._settled(sent)
        if early and sent.generation == self.generation:
            self._dropped(now, sent)

    def _is_given_up(self, now: float, took_s: float) -> bool:
        """Whether a full gateway gave it up: sooner than any of the first answers came, while others are answered.

        Where the provider goes down, all that are under way are cut at once.
        """
        if now > self._failed_s + self.failures.mean_s:
            self._failing = self.answers
        self._failed_s = now
        return took_s < self.concurrency.knee.least_s and self.answers > self._failing

    def _undo_known(self, sent: Sent) -> None:
        """It had no place: where it was taken for admitted, that was too soon, and so it may be with others."""
        if sent.known:
            self.concurrency.known = min(self.concurrency.known, sent.ordinal - 1)

    def _dropped(self, now: float, sent: Sent) -> None:
        """It came to nothing long before an answer could: a full server may drop what it has no place for."""
        self.refusals.took(now - sent.at_s)
        off = self._off(now)
        if sent.ordinal <= max(1, self.concurrency.known - off):
            return
        self._doubt.suspect = sent.ordinal - off
        trial = self.concurrency.testing
        if self._doubt.surprising(sent.asked, told=False, silent=False, trial=trial):
            self._bad += sent.cost
            if sent.ordinal <= self.concurrency.known:
                self._see_unfailed()
            self._found(now, sent, Cause.NUMBER, 0.0)

    def _see_unfailed(self) -> None:
        """Keep what is found of the number until a request is answered that was sent since: see `_acquit`."""
        if self._unfailed is None or self.newest > self._unfailed[2]:
            self._unfailed = self.concurrency.fitting, self.cause, self.number

    def heard(self, sent: Sent, quotas: Sequence[Quota]) -> None:
        """An answer shows quotas."""
        self._speaks = self.gated = True
        if not self.quotas.keeps(sent, quotas, self.refusals.patience_s):
            self.book()
            self.quotas.learn(sent, quotas, self.refusals.patience_s)

    # Rejections

    def rejected(
        self,
        now: float,
        sent: Sent,
        quotas: Sequence[Quota] = (),
        *,
        named_s: float = 0.0,
        overload: bool = False,
    ) -> bool:
        """It was rejected.

        Args:
            now: when that is known.
            sent: the request.
            quotas: what the rejection shows.
            named_s: a wait that it names; obeyed, whatever it was for.
            overload: the provider is overloaded by all its users: no word about our own limits.

        Returns:
            Whether that seems to be chance.
        """
        self._catch_up(now)
        probe = sent is self.recovery.probe
        self.refusals.took(now - sent.at_s)
        self._refused.append((sent.number, self.number))
        if self._helped is not None:
            self._see_helped(self._helped, sent)
        self._undo_known(sent)
        self._settled(sent)
        self._bad += sent.cost
        if self.quotas.shown:
            self.quotas.rejected(sent)
        if quotas:
            self._speaks = True
            self.quotas.learn(sent, quotas, self.refusals.patience_s)
        if probe:
            self.recovery.refuse(sent.at_s)
            self.recovery.hold(now, named_s, self._least_s(now))
        elif sent.generation != self.generation:
            self._rejected_before(now, sent)
        else:
            cause = self._cause(now, sent, quotas, named_s, overload)
            self._found(now, sent, cause, named_s)
            return cause is Cause.CHANCE
        return False

    def _see_helped(self, helped: Helped, sent: Sent) -> None:
        """Whether it was time that helped: not where the probe is rejected after all, or others of its crowd were."""
        probe = helped.probe
        if sent is probe or (sent.number < probe.number and self._crowd(probe) < helped.crowd):
            self._helped, self._saved, self.bucket.blamed = None, helped.saved, helped.blamed
            self.concurrency.restore(helped.fitting)

    def _rejected_before(self, now: float, sent: Sent) -> None:
        """Another one of a burst whose cause is found: one less fits, unless more are known to fit than were there."""
        number = self.concurrency
        if self.cause not in NUMBERS or self._saved is None:
            return
        if not number.known - self._off(now) <= self._crowd(sent) <= number.limit:
            return
        if sent.ordinal > 1:
            number.fewer()
        else:  # nobody else was there: it is not the number
            self._restore()
            self.cause = Cause.CHANGED

    def _cause(
        self, now: float, sent: Sent, quotas: Sequence[Quota], named_s: float, overload: bool
    ) -> Cause:
        number, bucket, doubt = self.concurrency, self.bucket, self._doubt
        empty = self.quotas.empty(sent, quotas)
        speaks = named_s > 0 or bool(quotas)
        self._speaks = self._speaks or speaks
        off = self._off(now)
        above = sent.ordinal > max(1, number.known - off)
        fits = number.known if above else math.inf
        overload = overload and not self._overload.is_ours(self._good, number.limit, fits=fits)
        surprising = not overload and doubt.surprising(
            sent.asked,
            told=(named_s > 0 and doubt.waits_tell) or empty,  # a quota that is left explains nothing
            silent=self._speaks and not speaks,
            trial=self._tries_more,
        )
        doubt.suspect = sent.ordinal - off if above else -math.inf
        fast = self._may_be_fast()
        # Where time alone had helped, the pace explains it: as many in flight had been admitted soon after.
        explained = bucket.extra > 0 or (fast and bucket.blamed)
        cause = explain(
            overload=overload,
            empty=empty,
            surprising=surprising,
            fast=fast,
            above=above and (number.testing or not explained),
        )
        if named_s > 0 and not (overload or empty or fast or above) and doubt.odd():
            number.restart(number.limit)  # what was found may have been chance as well
            bucket.off()
        return cause

    @property
    def _tries_more(self) -> bool:
        """More goes than is known to fit."""
        return self.bucket.extra > 0 or self.concurrency.testing

    def _may_be_fast(self) -> bool:
        """Whether a rejection may be for the pace, whatever is left of a quota.

        Some enforce by the second what they show by the minute (OpenAI, Azure).
        """
        return self.bucket.trial or not (self.bucket.rate or self.concurrency.testing)

    def _found(self, now: float, sent: Sent, cause: Cause, named_s: float) -> None:
        number, bucket, recovery = self.concurrency, self.bucket, self.recovery
        mine = sent.total - self._bad
        if cause is Cause.CHANCE:
            bucket.drained(now, sent.at_s, mine)
            number.lost(sent.ordinal, self._doubt.share)
            return
        self.cause, self.generation, self._calm_s = cause, self.generation + 1, now
        self._doubt.settled()
        self._saved, self._helped = (number.fitting, sent, mine), None
        known = straight = False
        if cause in (Cause.RATE, Cause.BOTH):
            known = bucket.rate > 0
            # Whether the number alone explains it is seen from the next ones: not where one is rejected again, though
            # no more were let go than seemed to fit.
            again = bucket.learning and not number.testing and mine - bucket.mark >= ENOUGH
            if cause is Cause.BOTH and not (known or bucket.blamed or again):
                bucket.learn(sent.at_s, mine)
            else:
                bucket.empty(now, sent.at_s, mine, named_s, self.refusals.patience_s)
        if cause in NUMBERS:
            known = known or number.wall is not None
            # A probe would take longer than an answer, and what fits is known.
            straight = number.testing and not bucket.rate and self.refusals.patience_s > self.trip_s
            lost = named_s * sent.ordinal / self.trip_s if self.trip_s else 0.0
            number.rejected(self._crowd(sent), self._off(now), 1 + lost)
        if cause not in (Cause.NUMBER, Cause.OVERLOAD) and self.usual_ask and sent.ask:
            heavy = self.heavy + math.log(sent.ask / self.usual_ask)
            self.heavy = max(-2 * SURE, min(2 * SURE, heavy))
        fresh, self._good_then = self._good - self._good_then >= min(ENOUGH, number.limit), self._good
        if known and fresh and not named_s:  # a test has failed; what fits is known
            return
        recovery.begin(now)
        recovery.hold(now, named_s, self._least_s(now), then=number.limit if straight and fresh else 0.0)
