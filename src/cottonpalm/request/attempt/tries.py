"""Decides when a request is tried again, and how long it waits before. No I/O."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from cottonpalm import clock
from cottonpalm.request.backoff import backoff_s, hinted_s, longest_s
from cottonpalm.request.limiter.rules.circuit import Enough
from cottonpalm.request.limiter.rules.recovery import LONGEST_S
from cottonpalm.types import Fault, Kind

if TYPE_CHECKING:
    from cottonpalm.config import RetryPolicy
    from cottonpalm.request.limiter.limiter import Limiter
    from cottonpalm.request.limiter.rules.circuit import Circuit
    from cottonpalm.request.run_account import RunAccount


class Next(NamedTuple):
    """What follows a failure.

    Attributes:
        sleep_s: seconds that this request alone sleeps before its next try; None: there is no next try.
        pause_s: seconds that all requests on the same key must wait.
    """

    sleep_s: float | None
    pause_s: float = 0.0


OWN: Final = 2  # rejections while others are accepted, from which a request itself may be the reason


@dataclass(slots=True)
class Tries:
    """The tries that one request has used up.

    A throttle is not the request's fault, so it uses no try. Throttles are limited only once the same key has accepted
    another request after this one was first sent; from then on every rejection counts, even if no other request is
    left, but for those between which half as many others were rejected as were sent: then the provider is full. With a
    `count_all` policy, every send counts, even while the provider is down.

    Attributes:
        transient: how many sends failed for a transient reason, but for those while the provider was down: that they
            were is known later for the first of them...
        streak: ...the provider's streak of failures in which it failed last...
        within: ...and how many of its tries failed in that.
        throttled: how many rejections came after the key had accepted another request.
        alone: how many rejections came before that, or while most others were rejected as well.
        among: how many rejections came after another request was accepted since the one before, while few others were
            rejected, or were its `own`. Answers alone tell nothing: those who were sent before are answered also where
            nobody fits any more.
        accepted: how many requests the key had accepted before the first try.
        sent: how many had been sent to it before the first try, or at the last rejection...
        seen: ...how many it had accepted then...
        lost: ...and rejected.
        behind: so many of those who wait go before it: all, if it failed while no other request was accepted. Else it
            could always be the one probe after a pause, always fail, and keep others from being tried. But after every
            second probe that fails only one goes before it: where each request fails at first, nobody would see else
            that its next try does not.
        own: True: it is itself the reason, also once no other is left. It was rejected while others were accepted, and
            more often than chance explains.
        whole: True: our smaller maximum has cut an answer, so from now on the request's own maximum is sent.
        failed: it was sent and failed: what follows is a retry.
        refused: how often the flex tier had no room for it, or did not know it.
        slowed: it sleeps for long, as the run's retries are used up.
    """

    accepted: int
    sent: int
    transient: int = 0
    streak: int = 0
    within: int = 0
    throttled: int = 0
    alone: int = 0
    among: int = 0
    seen: int = 0
    lost: int = 0
    behind: float = 0
    own: bool = False
    whole: bool = False
    failed: bool = False
    refused: int = 0
    slowed: bool = False

    def __post_init__(self) -> None:
        self.seen = self.accepted

    @property
    def rejections(self) -> int:
        """How often it was rejected so far."""
        return self.throttled + self.alone

    def after(
        self,
        fault: Fault,
        run: RunAccount,
        limiter: Limiter,
        *,
        probe: bool,
        spare: bool = False,
        alone: bool = False,
        waits: bool = False,
    ) -> Next:
        """Decide what follows this fault.

        Args:
            fault: the fault of the try.
            run: the run whose retry rules hold.
            limiter: the limiter of the key.
            probe: True: it was sent while no pause was on.
            spare: True: its row has another chain, and need not wait until this provider is up again.
            alone: True: its row has been at several endpoints, and each of them fails.
            waits: True: it did not reach the server, and nobody else could answer it. Where the server was reached
                before, that is no fault of the row, however few are left to tell.
        """
        if fault.kind is Kind.THROTTLE:
            return self._after_throttle(fault, run, limiter)
        if fault.kind is not Kind.TRANSIENT:
            return Next(None)
        enough = Enough.MANY if spare else Enough.ONE if alone else Enough.FEW
        if self._is_down(limiter, probe, enough) and (spare or not run.retry.count_all):
            return self._while_open(limiter.circuit, probe, spare)
        if self.transient >= run.retry.retries and waits and limiter.accepted and not run.retry.count_all:
            limiter.circuit.trip()
            return self._while_open(limiter.circuit, probe, spare)
        return self._after_transient(fault, run, limiter)

    def _after_transient(self, fault: Fault, run: RunAccount, limiter: Limiter) -> Next:
        self.transient += 1
        self.within += not run.retry.count_all
        self.slowed = False
        if self._used_up(run.retry):
            return Next(None)
        if not run.allowance.take():  # a retry storm: no request fails because of it, but all slow down
            self.slowed = fault.retry_after_s is None  # a wait that is named is kept
            limiter.storm.failed(clock.now(), limiter.granted)
            return Next(max(longest_s(run.retry.cap_s, run.rng), fault.retry_after_s or 0.0))
        return Next(_wait_s(fault, run, self.transient - 1))

    def nap_s(self, left_s: float, run: RunAccount, limiter: Limiter) -> float:
        """How long to sleep of what is left, before looking whether the provider answers again; 0: it goes now."""
        if left_s <= 0 or limiter.storm.lets_go(clock.now(), limiter.good, run.retry.base_s):
            return 0.0
        return min(left_s, run.rng.uniform(0.5, 1.0) * run.retry.base_s)

    def elsewhere(self, limiter: Limiter, *, probe: bool) -> Next:
        """Decide what follows a transient fault if the row goes to another endpoint: it uses no try here."""
        is_down = self._is_down(limiter, probe, Enough.MANY)
        return Next(None, limiter.circuit.wait_s if is_down and probe else 0.0)

    def _is_down(self, limiter: Limiter, probe: bool, enough: Enough) -> bool:
        """Whether the provider counts as dead with this failure."""
        circuit, last = limiter.circuit, self.streak
        if last in circuit.outages:  # what failed in it was not its own fault
            self.transient, self.within = self.transient - self.within, 0
        again = None if self.transient else last
        down = circuit.after(limiter.standing, last=again, probe=probe, enough=enough)
        if last != circuit.streak:
            self.streak, self.within = circuit.streak, 0
        return down

    def _while_open(self, circuit: Circuit, probe: bool, spare: bool) -> Next:
        """Decide what follows while the provider is down: this is not the row's fault, so it uses no try.

        The request waits behind others until it may probe. If its row has another chain, the row goes there.
        """
        self.behind = _behind(circuit.probes if probe else 0)
        return Next(None if spare else 0.0, circuit.wait_s if probe else 0.0)

    def _after_throttle(self, fault: Fault, run: RunAccount, limiter: Limiter) -> Next:
        accepted, rejected = limiter.accepted, limiter.rejected
        pause_s, sleep_s = 0.0, 0.0  # no sleep: the limiter holds the pause
        # If others are accepted, or may be by now, and no wait is named, we need no pause: the limiter finds its pace.
        if fault.retry_after_s is None and run.retry.throttle_wait_s is not None:
            sleep_s = hinted_s(run.retry.throttle_wait_s, run.rng)
        elif fault.retry_after_s is not None:
            pause_s = fault.retry_after_s  # no later: one goes first, so no crowd comes back
        elif not (accepted or limiter.in_flight > 1):
            pause_s = _wait_s(fault, run, self.rejections)
        since, probes = accepted > self.seen, limiter.refused
        self.behind = _behind(probes) if probes or not since else 0
        self._count(accepted, rejected, limiter.granted)
        suspect = self.among >= OWN and not limiter.came_through.explains(self.rejections, accepted)
        others = run.flow.waiting > run.flow.again  # who were never rejected: a silence is asked with them
        self.own = suspect and (since or not others)
        if suspect and not (sleep_s or pause_s):  # it leaves the line to them
            cap_s = min(run.retry.cap_s, LONGEST_S)
            sleep_s = backoff_s(self.among - OWN, run.retry.base_s, cap_s, run.rng)
        over = self._used_up(run.retry) or self.throttled >= run.retry.rejections
        return Next(None if over else sleep_s, pause_s)

    def _count(self, accepted: int, rejected: int, sent: int) -> None:
        """Count a rejection: of so many requests that the key has accepted and rejected by now, of so many sent."""
        since = accepted > self.seen
        others = rejected - self.lost - 1  # but for its own
        full = since and self.rejections > 0 and 2 * others > sent - self.sent
        # Where all that are left are the reason, nobody else is accepted.
        self.among += self.own or (since and not full)
        if accepted > self.accepted and not full:
            self.throttled += 1
        else:
            self.alone += 1
        self.seen, self.lost, self.sent = accepted, rejected, sent

    def _used_up(self, policy: RetryPolicy) -> bool:
        rejected = self.rejections if policy.count_all else 0
        return self.transient + rejected > policy.retries


def _behind(probes: int) -> float:
    """How many go before one that failed: the last of so many probes in a row that did; 0: it was none."""
    return 1 if probes % 2 else math.inf


def _wait_s(fault: Fault, run: RunAccount, attempt: int) -> float:
    if fault.retry_after_s is not None:
        return hinted_s(fault.retry_after_s, run.rng)
    return backoff_s(attempt, run.retry.base_s, run.retry.cap_s, run.rng)
