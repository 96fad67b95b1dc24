"""What follows each failure of a request, by every policy: tries, waits, places in line, and the circuit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cottonpalm import clock
from cottonpalm.config import RetryPolicy
from cottonpalm.request.attempt.tries import OWN, Next, Tries
from cottonpalm.request.limiter.rules.circuit import OPENS_AT
from cottonpalm.request.limiter.rules.recovery import BACKOFF, LONGEST_S
from cottonpalm.types import Fault, Kind, Verdict
from tests.request.kit import a_run
from tests.request.test_waits import Longest

if TYPE_CHECKING:
    from cottonpalm.request.limiter.limiter import Limiter
    from cottonpalm.request.run_account import RunAccount

pytestmark = pytest.mark.core
DOWN = Fault(Kind.TRANSIENT, "ConnectError", "refused")
FULL = Fault(Kind.THROTTLE, "RateLimitError", "429")
FIRST_WAIT_S = 1.0


def a_stage(**policy: Any) -> tuple[RunAccount, Limiter]:
    """A run whose waits are always the longest, and its limiter."""
    run = a_run(retry=RetryPolicy(**{"base_s": 1.0, "cap_s": 64.0, **policy}))
    run.rng = Longest()
    return run, run.flow.limiter("k")


def bring_down(run: RunAccount, limiter: Limiter) -> None:
    """So many different requests fail that the provider counts as dead."""
    for _ in range(OPENS_AT):
        limiter.release(limiter.force(), Verdict.LOST)
        Tries(limiter.accepted, limiter.granted).after(DOWN, run, limiter, probe=True)


def accept(limiter: Limiter, times: int = 1) -> None:
    for _ in range(times):
        limiter.release(limiter.force(), Verdict.SUCCESS)


# -- while the provider is down


@pytest.mark.parametrize("probe", [False, True])
@pytest.mark.parametrize("spare", [False, True])
def test_while_the_provider_is_down_a_request_uses_no_try_and_only_the_probe_makes_all_wait(
    probe: bool, spare: bool
) -> None:
    run, limiter = a_stage(retries=1)
    bring_down(run, limiter)
    tries = Tries(limiter.accepted, limiter.granted)
    for _ in range(5):
        then = tries.after(DOWN, run, limiter, probe=probe, spare=spare)
        assert then.sleep_s == (None if spare else 0.0), "who has another chain goes there"
        assert (then.pause_s >= FIRST_WAIT_S) is probe
        assert (then.pause_s == 0) is not probe
        assert tries.behind, "it waits behind those who may probe"
    assert tries.transient == 0


def test_each_pause_of_a_dead_provider_is_a_third_longer_than_the_one_before() -> None:
    run, limiter = a_stage()
    bring_down(run, limiter)
    tries = Tries(limiter.accepted, limiter.granted)
    pauses = [tries.after(DOWN, run, limiter, probe=True).pause_s for _ in range(12)]
    assert pauses == pytest.approx([min(LONGEST_S, (1 + BACKOFF) ** failed) for failed in range(1, 13)])


@pytest.mark.parametrize(("spare", "sends"), [(False, 3), (True, None)])
def test_a_policy_that_counts_every_send_counts_them_while_the_provider_is_down_too(
    spare: bool, sends: int | None
) -> None:
    run, limiter = a_stage(retries=2, count_all=True)
    bring_down(run, limiter)
    tries = Tries(limiter.accepted, limiter.granted)
    then = [tries.after(DOWN, run, limiter, probe=True, spare=spare) for _ in range(3)]
    if sends is None:  # the other chain answers it: no wait, and no try
        assert [next_.sleep_s for next_ in then] == [None] * 3
        assert tries.transient == 0
    else:
        assert [next_.sleep_s for next_ in then] == [1.0, 2.0, None]
        assert (tries.transient, tries.behind) == (3, False)


def test_up_again_a_request_has_all_its_tries() -> None:
    run, limiter = a_stage(retries=2)
    bring_down(run, limiter)
    tries = Tries(limiter.accepted, limiter.granted)
    tries.after(DOWN, run, limiter, probe=True)
    accept(limiter)
    then = [tries.after(DOWN, run, limiter, probe=True) for _ in range(3)]
    assert then == [Next(1.0), Next(2.0), Next(None)]


@pytest.mark.parametrize("probe", [False, True])
@pytest.mark.parametrize("down", [False, True])
def test_a_request_that_goes_to_another_endpoint_uses_no_try_here_and_its_probe_tells_the_others(
    down: bool, probe: bool
) -> None:
    run, limiter = a_stage()
    if down:
        bring_down(run, limiter)
    tries = Tries(limiter.accepted, limiter.granted)
    then = tries.elsewhere(limiter, probe=probe)
    assert then.sleep_s is None
    assert (then.pause_s > 0) is (down and probe)
    assert tries.transient == 0


@pytest.mark.parametrize("elsewhere", [False, True])
def test_one_request_that_fails_often_is_no_dead_provider(elsewhere: bool) -> None:
    run, limiter = a_stage(retries=1000)
    tries = Tries(limiter.accepted, limiter.granted, transient=elsewhere)
    for _ in range(2 * OPENS_AT):
        limiter.release(limiter.force(), Verdict.LOST)
        if elsewhere:
            tries.elsewhere(limiter, probe=True)
        else:
            tries.after(DOWN, run, limiter, probe=True)
    assert not limiter.circuit.is_open(limiter.good)


def test_many_requests_that_leave_for_another_endpoint_are_a_dead_provider() -> None:
    _, limiter = a_stage()
    for number in range(OPENS_AT):
        assert limiter.circuit.is_open(limiter.good) is False, number
        limiter.release(limiter.force(), Verdict.LOST)
        Tries(limiter.accepted, limiter.granted).elsewhere(limiter, probe=True)
    assert limiter.circuit.is_open(limiter.good)


# -- throttles


class Model:
    """The rule in words: rejections count from the first one after the key has accepted another request."""

    def __init__(self, policy: RetryPolicy) -> None:
        self.policy, self.alone, self.counted, self.accepted = policy, 0, 0, 0

    def rejected(self) -> bool:
        """Whether it is asked again."""
        if self.accepted:
            self.counted += 1
        else:
            self.alone += 1
        every = self.policy.count_all and self.alone + self.counted > self.policy.retries
        return not every and self.counted < self.policy.rejections


@given(
    st.lists(st.booleans(), min_size=1, max_size=25),
    st.integers(0, 4),
    st.integers(1, 5),
    st.booleans(),
    st.integers(0, 3),
)
def test_rejections_count_only_once_others_are_accepted(
    accepts: list[bool], retries: int, rejections: int, count_all: bool, before: int
) -> None:
    run, limiter = a_stage(retries=retries, rejections=rejections, count_all=count_all, cap_s=8.0)
    accept(limiter, before)
    tries, model, since, among = Tries(limiter.accepted, limiter.granted), Model(run.retry), False, 0
    for accepts_another in accepts:
        if accepts_another:
            accept(limiter)
            model.accepted += 1
        since = accepts_another
        among += since
        nth = tries.throttled + tries.alone
        then = tries.after(FULL, run, limiter, probe=True)
        again = model.rejected()
        assert (then.sleep_s is not None) is again
        assert (tries.throttled, tries.alone) == (model.counted, model.alone)
        assert tries.behind is not since, "it goes last as long as nobody was accepted since"
        assert tries.own is (among >= 2), (
            "from its second rejection while others are accepted, and ever after"
        )
        if limiter.accepted:
            assert then.pause_s == 0, "others are accepted: the limiter finds its pace"
        else:
            assert then.pause_s == min(8.0, 2.0**nth), "the backoff doubles with each rejection"
        if not again:
            break


@pytest.mark.parametrize(("got", "lost", "counts"), [(1, 0, True), (3, 2, True), (2, 5, False), (0, 5, True)])
def test_a_rejection_between_which_most_others_were_rejected_too_says_nothing_against_the_request(
    got: int, lost: int, counts: bool
) -> None:
    run, limiter = a_stage(rejections=9)
    tries = Tries(limiter.accepted, limiter.granted)
    accept(limiter)
    tries.after(FULL, run, limiter, probe=True)
    limiter.release(limiter.force(), Verdict.DROPPED)  # its own
    for verdict in [Verdict.SUCCESS] * got + [Verdict.DROPPED] * lost:
        limiter.release(limiter.force(), verdict)
    assert tries.after(FULL, run, limiter, probe=True).sleep_s is not None
    assert tries.throttled == 1 + counts


def test_answers_to_those_who_were_sent_before_say_nothing_against_one_of_many_that_are_rejected() -> None:
    run, limiter = a_stage(rejections=9)
    before = [limiter.force() for _ in range(100)]
    many = [Tries(limiter.accepted, limiter.granted) for _ in range(40)]
    for _ in range(2):  # all that are sent now are rejected, while those that were sent before are answered
        for tries in many:
            permit = limiter.force()
            limiter.release(before.pop(), Verdict.SUCCESS)
            tries.after(FULL, run, limiter, probe=True)
            limiter.release(permit, Verdict.DROPPED)
    assert not any(tries.own for tries in many)
    one = many[0]
    for _ in range(2):
        accept(limiter, 9)
        one.after(FULL, run, limiter, probe=True)
    assert one.own


@pytest.mark.parametrize(("theirs", "since", "own"), [(1, 0, True), (2, 0, False), (2, 200, True)])
def test_a_request_is_itself_the_reason_once_it_was_rejected_more_often_than_those_that_came_through(
    theirs: int, since: int, own: bool
) -> None:
    run, limiter = a_stage(rejections=9)
    accept(limiter, 20)
    tries = Tries(limiter.accepted, limiter.granted)
    accept(limiter)
    tries.after(FULL, run, limiter, probe=True)
    accept(limiter)
    limiter.accepted_after(theirs)
    accept(limiter, since)
    tries.after(FULL, run, limiter, probe=True)
    assert tries.own is own


def test_a_request_that_is_itself_the_reason_sleeps_longer_each_time_and_stops_nobody() -> None:
    run, limiter = a_stage(rejections=9)
    tries, slept_s = Tries(limiter.accepted, limiter.granted), []
    for n in range(8):
        accept(limiter, 1 if n < 3 else 0)
        then = tries.after(FULL, run, limiter, probe=True)
        assert (then.pause_s, tries.own) == (0.0, n >= OWN - 1)
        slept_s.append(then.sleep_s)
    assert slept_s == [0.0, 1.0, 2.0, 4.0, 8.0, LONGEST_S, LONGEST_S, LONGEST_S], (
        "also when nobody else is left"
    )


def test_a_wait_that_is_named_pauses_all_even_where_others_are_accepted() -> None:
    run, limiter = a_stage()
    accept(limiter, 3)
    named = Fault(Kind.THROTTLE, "RateLimitError", "429", retry_after_s=4.0)
    then = Tries(limiter.accepted, limiter.granted).after(named, run, limiter, probe=True)
    assert then == Next(0.0, 4.0), "and no longer: one goes first"


def test_others_under_way_may_be_accepted_by_now_and_nobody_pauses_for_a_guess() -> None:
    run, limiter = a_stage()
    mine = limiter.force()
    assert Tries(0, 0).after(FULL, run, limiter, probe=True).pause_s == 1.0, "nobody else is under way"
    other = limiter.force()
    assert Tries(0, 0).after(FULL, run, limiter, probe=True).pause_s == 0.0
    for permit in (mine, other):
        limiter.release(permit, Verdict.IGNORED)


@pytest.mark.parametrize("named_s", [None, 2.0])
def test_a_policy_with_a_wait_of_its_own_lets_the_request_sleep_and_pauses_nobody(
    named_s: float | None,
) -> None:
    run, limiter = a_stage(throttle_wait_s=8.0)
    fault = Fault(Kind.THROTTLE, "RateLimitError", "429", retry_after_s=named_s)
    then = Tries(0, 0).after(fault, run, limiter, probe=True)
    assert then == (Next(8.0 + 0.25 * 5.0, 0.0) if named_s is None else Next(0.0, 2.0))


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in (Kind.THROTTLE, Kind.TRANSIENT)])
def test_what_is_neither_transient_nor_a_throttle_is_not_sent_again(kind: Kind) -> None:
    run, limiter = a_stage()
    tries = Tries(0, 0)
    assert tries.after(Fault(kind, "E", "x"), run, limiter, probe=True) == Next(None)
    assert (tries.transient, tries.throttled, tries.alone) == (0, 0, 0)


def test_with_the_allowance_spent_a_wait_that_was_named_is_kept_if_it_is_longer() -> None:
    run, limiter = a_stage(cap_s=4.0, allowance_share=0.0, allowance_floor=0)
    for named_s, waits_s in ((None, 4.0), (1.0, 4.0), (90.0, 90.0)):
        fault = Fault(Kind.TRANSIENT, "E", "500", retry_after_s=named_s)
        assert Tries(0, 0).after(fault, run, limiter, probe=True) == Next(waits_s)


def test_the_pause_of_a_dead_provider_is_over_when_it_says_so() -> None:
    """Through the limiter: who comes meanwhile waits, and one goes first then."""
    run, limiter = a_stage()
    bring_down(run, limiter)
    then = Tries(limiter.accepted, limiter.granted).after(DOWN, run, limiter, probe=True)
    before_s = clock.now()
    limiter.release(limiter.force(), Verdict.LOST, then.pause_s)
    assert before_s + then.pause_s <= limiter.paused_until <= clock.now() + then.pause_s
    assert limiter.try_acquire() is None or clock.now() > limiter.paused_until
