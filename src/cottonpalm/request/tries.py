"""When a request is tried again, and how long it waits before. Decisions only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from cottonpalm.request.backoff import backoff_s, hinted_s
from cottonpalm.types import Fault, Kind

if TYPE_CHECKING:
    from cottonpalm.config import RetryPolicy
    from cottonpalm.request.limiter.limiter import Limiter
    from cottonpalm.request.limiter.rules.circuit import Circuit
    from cottonpalm.request.run_account import RunAccount


class Next(NamedTuple):
    """What follows a failure.

    Attributes:
        sleep_s: of this request alone before its next try; None: there is none.
        pause_s: of everybody on the same key.
    """

    sleep_s: float | None
    pause_s: float = 0.0


@dataclass(slots=True)
class Tries:
    """What one request has used up.

    Throttles are nobody's fault and use no tries. They end only where the same key took others' requests since this
    one was first sent: from then on every rejection counts, also those that come when no other request is left.
    A policy with `count_all` makes no such difference: every send counts, also while the provider is down.

    Attributes:
        transient: sends that failed for a transient reason.
        throttled: rejections since the key first accepted others.
        alone: rejections before it did.
        accepted: the key's count of accepted requests before the first try.
        seen: the same at the last rejection.
        behind: for its next permit it goes behind all that wait, after a rejection while nobody was accepted: were
            it always the one probe after a pause, and always rejected itself, no other request would ever be tried.
        whole: an answer was cut by a tighter maximum of ours: from now on it is asked with its own.
        failed: it was sent and failed: what follows is a retry.
    """

    accepted: int
    transient: int = 0
    throttled: int = 0
    alone: int = 0
    seen: int = 0
    behind: bool = False
    whole: bool = False
    failed: bool = False

    def __post_init__(self) -> None:
        self.seen = self.accepted

    def after(
        self, fault: Fault, run: RunAccount, limiter: Limiter, *, probe: bool, spare: bool = False
    ) -> Next:
        """What follows this fault.

        Args:
            fault: what the try came to.
            run: whose rules hold.
            limiter: of the key.
            probe: it was sent when no pause was on.
            spare: its row has another chain left, which need not wait until this provider is up again.
        """
        if fault.kind is Kind.THROTTLE:
            return self._after_throttle(fault, run, limiter)
        if fault.kind is not Kind.TRANSIENT:
            return Next(None)
        circuit = limiter.circuit
        is_open = circuit.after(limiter.good, limiter.granted, first=not self.transient, probe=probe)
        if is_open and (spare or not run.retry.count_all):
            return self._while_open(circuit, probe, spare)
        self.transient += 1
        if self._used_up(run.retry):
            return Next(None)
        if not run.allowance.take():  # a storm: nobody fails for it, but everybody slows down
            return Next(max(run.retry.cap_s, fault.retry_after_s or 0.0))
        return Next(_wait_s(fault, run, self.transient - 1))

    def elsewhere(self, limiter: Limiter, *, probe: bool) -> Next:
        """What follows a transient fault of a row that goes to another endpoint: nothing is used up here."""
        circuit = limiter.circuit
        is_open = circuit.after(limiter.good, limiter.granted, first=not self.transient, probe=probe)
        return Next(None, circuit.wait_s if is_open and probe else 0.0)

    def _while_open(self, circuit: Circuit, probe: bool, spare: bool) -> Next:
        """The provider is down, which is not the row's fault: it uses no try, and goes behind the others as a probe.

        One that has another chain goes there.
        """
        self.behind = True
        return Next(None if spare else 0.0, circuit.wait_s if probe else 0.0)

    def _after_throttle(self, fault: Fault, run: RunAccount, limiter: Limiter) -> Next:
        accepted, pause_s, sleep_s = limiter.accepted, 0.0, 0.0  # no sleep: the limiter holds the pause
        # Where others are accepted, or may be by now, and no wait is named, the limiter finds its pace by itself.
        if fault.retry_after_s is None and run.retry.throttle_wait_s is not None:
            sleep_s = hinted_s(run.retry.throttle_wait_s, run.rng)
        elif fault.retry_after_s is not None or not (accepted or limiter.in_flight > 1):
            pause_s = _wait_s(fault, run, self.throttled + self.alone)
        if accepted > self.accepted:
            self.throttled += 1
        else:
            self.alone += 1
        self.behind = accepted <= self.seen
        self.seen = accepted
        over = self._used_up(run.retry) or self.throttled >= run.retry.throttle_tries
        return Next(None if over else sleep_s, pause_s)

    def _used_up(self, policy: RetryPolicy) -> bool:
        rejected = self.throttled + self.alone if policy.count_all else 0
        return self.transient + rejected >= policy.transient_tries


def _wait_s(fault: Fault, run: RunAccount, attempt: int) -> float:
    if fault.retry_after_s is not None:
        return hinted_s(fault.retry_after_s, run.rng)
    return backoff_s(attempt, run.retry.base_s, run.retry.cap_s, run.rng)
