"""What a probe tells that is admitted: what it was that others were rejected for. No clock, no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cottonpalm.request.limiter.rules.bucket import Bucket
from cottonpalm.request.limiter.rules.causes import Cause
from cottonpalm.request.limiter.rules.gates import NUMBERS, Gates
from cottonpalm.request.limiter.rules.under_way import Helped

if TYPE_CHECKING:
    from cottonpalm.request.limiter.rules.sent import Sent
    from cottonpalm.request.limiter.rules.under_way import Saved


class Probing(Gates):
    """The probe as the experiment: what is admitted now and was rejected before shows the cause."""

    __slots__ = ()

    def _restore(self) -> None:
        """Whatever the number was blamed for, it was not."""
        if self._saved is not None:
            self.concurrency.restore(self._saved[0])

    def _revive(self, probe: Sent) -> None:
        """The probe was admitted: the experiment that tells what it was."""
        recovery, number, bucket, cause = self.recovery, self.concurrency, self.bucket, self.cause
        recovery.dead = False
        window = 2.0
        if bucket.rate and cause is not Cause.CHANGED:
            window = max(2.0, bucket.rate * self.refusals.patience_s)
        elif cause is Cause.OVERLOAD:
            window = max(2.0, min(number.limit / 4, self._overload.since))
        elif cause in NUMBERS and number.wall is not None:
            window = max(2.0, number.limit / 4)
        silence_s = recovery.revive(probe.at_s, window)
        if self._saved and not bucket.rate and probe.total - probe.cost <= self._bad:
            self._begin_anew(probe)
            return
        bucket.silent(silence_s)
        saved, self._saved = self._saved, None
        if saved is not None:
            self._blame(probe, silence_s, saved)
        if recovery.refused:
            bucket.opens(probe.at_s, probe.at_s - silence_s, probe.total - probe.cost - self._bad)

    def _begin_anew(self, probe: Sent) -> None:
        """All before it were rejected: it was no limit of ours, and the time that it took tells no pace."""
        self._restore()
        self._saved = None
        self._calm_s, self.recovery.needed_s = probe.at_s, 0.0
        self.bucket = Bucket()
        self.bucket.begin(probe.at_s)

    def _blame(self, probe: Sent, silence_s: float, saved: Saved) -> None:
        """See what it was for, by what was admitted now that was rejected before."""
        recovery, number, bucket, cause = self.recovery, self.concurrency, self.bucket, self.cause
        was, sent, mine = saved
        crowd = number.wall or sent.ordinal
        if cause in NUMBERS and self._crowd(probe) >= crowd:
            # As many in flight as were rejected before: it was time that helped.
            self._helped = Helped(probe, crowd, number.fitting, bucket.blamed, saved)
            number.restore(was._replace(known=probe.ordinal))
            bucket.blamed = True
            if cause is Cause.NUMBER:
                bucket.learn(sent.at_s, mine, silence_s)
        elif cause is Cause.CHANGED:
            number.known = min(number.known, probe.ordinal)
            if recovery.refused:
                number.restart(probe.ordinal)
            bucket.learn(sent.at_s, mine, max(0.0, probe.at_s - sent.at_s))
        elif cause is Cause.BOTH and not self.answers:  # fewer than were rejected went: it says nothing yet
            self._saved = saved
