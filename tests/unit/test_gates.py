"""The pure rules of admission: causes, the bucket, what headers show, ceilings; and drawn worlds."""

from __future__ import annotations

import math
from random import Random

import pytest
from bench.admission.drawn import one
from bench.admission.drawn_clients import CLIENTS
from bench.admission.family import draw
from bench.admission.virtual import NOTHING, Call, ideal
from hypothesis import given
from hypothesis import strategies as st

from cottonpalm import clock
from cottonpalm.request.limiter.rules.admission import Admission
from cottonpalm.request.limiter.rules.bucket import Bucket
from cottonpalm.request.limiter.rules.causes import Cause, Doubt, Refusals, explain
from cottonpalm.request.limiter.rules.ceilings import MINUTE_S, WINDOW_S, Ceiling
from cottonpalm.request.limiter.rules.concurrency import Concurrency
from cottonpalm.request.limiter.rules.sent import Sent
from cottonpalm.request.limiter.rules.shown import Shown
from cottonpalm.types import Quota, Usage
from tests.support.sent import sent_at

NO = {"overload": False, "empty": False, "surprising": True, "fast": False, "above": False}


@pytest.mark.parametrize(
    ("told", "cause"),
    [
        ({"overload": True, "empty": True}, Cause.OVERLOAD),
        ({"empty": True, "surprising": False}, Cause.RATE),
        ({"surprising": False, "fast": True, "above": True}, Cause.CHANCE),
        ({"fast": True, "above": True}, Cause.BOTH),
        ({"fast": True}, Cause.RATE),
        ({"above": True}, Cause.NUMBER),
        ({}, Cause.CHANGED),
    ],
)
def test_what_a_rejection_was_for_is_the_first_line_that_fits(told: dict, cause: Cause) -> None:
    assert explain(**{**NO, **told}) is cause


@given(st.lists(st.floats(0.001, 5.0), min_size=1, max_size=50))
def test_patience_is_never_shorter_than_a_usual_rejection(times: list[float]) -> None:
    refusals = Refusals(0.1)
    for seconds in times:
        refusals.took(seconds)
    assert min(times) * (1 - 1e-9) <= refusals.mean_s <= refusals.patience_s


def rejected(doubt: Doubt, which: int, *, told: bool = False, silent: bool = False) -> bool:
    return doubt.surprising(which, told=told, silent=silent, trial=False)


def test_one_rejection_is_no_evidence_and_two_close_together_are() -> None:
    doubt = Doubt()
    doubt.sent = 1_000
    assert not rejected(doubt, 500)
    assert rejected(doubt, 502)


def test_rejections_far_apart_are_chance_however_many() -> None:
    doubt = Doubt()
    doubt.sent = 10_000
    assert not any(rejected(doubt, which) for which in range(0, 10_000, 40))


def test_one_that_names_a_wait_is_for_a_limit_and_one_that_names_none_where_others_did_hardly_is() -> None:
    assert rejected(Doubt(), 1, told=True)
    doubt = Doubt()
    assert not any(rejected(doubt, which, silent=True) for which in range(1, 5))


def provider(rate: float, depth: float, pace: float, seconds: float, rng: Random) -> list[tuple[float, bool]]:
    """What a bucket makes of requests at this pace: when, and whether it was admitted."""
    level, now, seen = depth, 0.0, []
    while now < seconds:
        gap_s = rng.expovariate(pace)
        now += gap_s
        level = min(depth, level + rate * gap_s)
        seen.append((now, level >= 1))
        level -= level >= 1
    return seen


@pytest.mark.parametrize(("rate", "depth", "pace"), [(10.0, 5.0, 15.0), (10.0, 50.0, 30.0), (3.0, 5.0, 9.0)])
def test_what_was_admitted_between_two_rejections_is_the_rate_of_the_bucket(
    rate: float, depth: float, pace: float
) -> None:
    bucket, total = Bucket(), 0.0
    bucket.begin(0.0)
    for now, admitted in provider(rate, depth, pace, 120.0, Random(3)):
        total += admitted
        if not admitted and total - bucket.mark >= 20:
            bucket.empty(now, now, total, 0.0, 0.1)
    assert bucket.rate == pytest.approx(rate, rel=0.2)


def mirror(
    limit: float, shows: object, rate: float = 10.0, depth: float = 100.0, seconds: float = 60.0
) -> Shown:
    """A mirror that has seen a bucket for a while, in what `shows` makes of its level."""
    shown, level, total, now = Shown(), depth, 0.0, 0.0
    rng = Random(5)
    while now < seconds:
        gap_s = rng.expovariate(12.0)
        now += gap_s
        level = min(depth, level + rate * gap_s)
        if level >= 1:
            level, total = level - 1, total + 1
            shown.told(now, total, 1.0, Quota("requests", limit, *shows(level)))  # type: ignore[operator]
    return shown


def test_exact_headers_are_believed_and_tell_the_rate() -> None:
    shown = mirror(100.0, lambda level: (float(int(level)), (100 - level) / 10))
    assert shown.trusted
    assert shown.rate == pytest.approx(10.0, rel=0.1)


def test_headers_of_a_minute_over_a_bucket_of_ten_seconds_are_read_as_what_they_are() -> None:
    shown = mirror(600.0, lambda level: (float(int(level)), (100 - level) / 10))
    assert shown.trusted
    assert shown.rate == pytest.approx(10.0, rel=0.1)


def test_headers_that_predict_nothing_are_not_used() -> None:
    rng = Random(7)
    shown = mirror(100.0, lambda _: (float(rng.randrange(100)), rng.random() * 10))
    assert not shown.trusted


@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 700), st.floats(0, 10)), max_size=200),
    st.integers(1, 20),
    st.integers(0, 50),
    st.integers(0, 500),
)
def test_a_limit_stays_within_its_bounds(steps: list, minimum: int, more: int, most: int) -> None:
    limit, now = Concurrency(minimum + more, minimum, minimum + more + most), 0.0
    for answered, in_flight, passed in steps:
        now += passed
        if answered:
            limit.admitted(in_flight, in_flight, may_test=True)
            sent = sent_at(now - passed, in_flight)
            sent.number = 1 if passed < 1 else 100
            limit.answered(now, sent, in_flight)
        else:
            limit.rejected(in_flight, 0.0, 1.0)
        assert limit.minimum <= limit.limit <= limit.maximum


def test_a_wall_is_tested_ever_more_rarely_while_tests_fail() -> None:
    limit = Concurrency(50, 1, 500)
    limit.rejected(41, 0.0, 1.0)
    needed = []
    for _ in range(6):
        count = 0
        while not limit.testing:
            limit.admitted(int(limit.limit), limit.limit, may_test=True)
            count += 1
        limit.rejected(41, 0.0, 1.0)
        needed.append(count)
    assert limit.limit == 40
    assert needed == sorted(needed)
    assert math.isclose(needed[-1], 200, rel_tol=0.05)


# Ceilings of the user's own


@given(
    st.integers(1, 50),
    st.lists(st.tuples(st.floats(0, 20), st.integers(1, 60)), min_size=1, max_size=200),
)
def test_no_sliding_minute_holds_more_than_the_ceiling(most: int, wishes: list) -> None:
    ceiling, now, sent = Ceiling(most, tokens=True), 0.0, []
    for passed, amount in wishes:
        now += passed
        if ceiling.wait_s(now, amount) == 0:
            ceiling.book([sent_at(now, 1, amount)])
            sent.append((now, amount))
    for moment, amount in sent:
        minute = [this for at, this in sent if moment - MINUTE_S < at <= moment]
        assert sum(minute) <= most or minute == [amount]


@given(st.integers(1, 50), st.integers(0, 200))
def test_the_wait_of_a_ceiling_is_enough_and_not_too_long(most: int, amount: int) -> None:
    ceiling = Ceiling(most)
    for moment in range(most):
        ceiling.book([sent_at(float(moment) / most, 1)])
    now = 1.0
    for _ in range(100):
        if not (wait_s := ceiling.wait_s(now, amount)):
            break
        assert wait_s <= WINDOW_S
        now += wait_s + 1e-6
    assert now <= 1.0 + WINDOW_S + 0.1


def test_tokens_that_were_not_used_go_back_under_the_ceiling() -> None:
    ceiling, sent = Ceiling(1000, tokens=True), sent_at(0.0, 1, 900.0)
    ceiling.book([sent])
    assert ceiling.wait_s(1.0, 200) > 30
    ceiling.book([(sent, 10.0)])
    assert ceiling.wait_s(1.0, 200) == 0


class Asked:
    """Requests through the gates of one key, whose provider shows two quotas."""

    def __init__(self, ceilings: list, quotas: tuple[float, float], *, each: bool, ask: int = 0) -> None:
        self.gates, self.each = Admission(Concurrency(1_000, 1_000, 1_000), ceilings), each
        self.out, self.total = list[Sent](), [0.0, 0.0]
        self.quotas = quotas
        for moment in range(200):  # until no single answer counts any more
            self.send(moment * 60.0, ask)
            self.answer(moment * 60.0, ask)

    def wait_s(self, now: float, ask: int) -> float:
        if self.each:
            self.gates.book()
        wait_s = self.gates.wait_s(now, len(self.out), ask)
        assert wait_s is not None
        return wait_s if wait_s > 1e-6 else 0.0

    def send(self, now: float, ask: int, *, stays: bool = True) -> None:
        if self.each:
            self.gates.book()
        self.out.append(sent_at(now, len(self.out) + 1, ask))
        self.gates.sent(self.out[-1])
        if not stays:
            self.gates.undone(self.out.pop())

    def answer(self, now: float, used: int) -> None:
        sent = self.out.pop(0)
        if self.gates.answered(now, sent, len(self.out), Usage(used, 0)):
            self.gates.look()
        self.total = [self.total[0] + 1, self.total[1] + sent.ask]
        left = [max(0.0, most - total) for most, total in zip(self.quotas, self.total, strict=True)]
        requests = Quota("requests", self.quotas[0], left[0], 1e6)
        tokens = Quota("tokens", self.quotas[1], left[1], 1e6)
        self.gates.heard(sent, [requests, tokens])


@given(
    st.just([]) | st.tuples(st.integers(20, 2_000), st.integers(2_000, 200_000)),
    st.tuples(st.floats(250, 2_000), st.floats(1_000, 200_000)),
    st.lists(
        st.tuples(
            st.floats(0, 3), st.integers(1, 400), st.integers(0, 500), st.integers(0, 40), st.booleans()
        ),
        min_size=1,
        max_size=300,
    ),
)
def test_what_goes_without_asking_would_have_gone_had_each_been_asked(
    most: tuple[int, int] | list, quotas: tuple[float, float], steps: list
) -> None:
    own = list(zip(("requests", "tokens"), map(float, most), strict=False))
    noting, asking = Asked(own, quotas, each=False), Asked(own, quotas, each=True)
    now = 12_000.0
    for passed, ask, used, leave, undone in steps:
        now += passed
        told, wait_s = noting.wait_s(now, ask), asking.wait_s(now, ask)
        assert told == pytest.approx(wait_s, abs=1e-6)
        for line in (noting, asking):
            if wait_s == 0.0:
                line.send(now, ask, stays=not undone)
            while len(line.out) > leave:
                line.answer(now, used)
    for line in (noting, asking):
        line.gates.book()
    assert noting.gates.quotas.sent == pytest.approx(asking.gates.quotas.sent)
    for (_, one_), (_, other) in zip(noting.gates.ceilings, asking.gates.ceilings, strict=True):
        assert one_.used_at(now) == pytest.approx(other.used_at(now), abs=1e-6)


def test_far_from_every_ceiling_and_quota_64_go_in_one_asking() -> None:
    line = Asked([("requests", 10_000.0), ("tokens", 1e6)], (1e5, 1e7), each=False)
    assert line.wait_s(12_000.0, 100) == 0.0
    assert (line.gates.headroom.requests, line.gates.headroom.tokens) == (64, 20_000.0), (
        "a fiftieth of the tokens"
    )
    for _ in range(64):
        assert line.wait_s(12_000.0, 100) == 0.0
        line.send(12_000.0, 100)
    assert line.gates.headroom.requests == 0
    assert len(line.gates.headroom.events) == 64
    line.wait_s(12_000.0, 100)
    assert not line.gates.headroom.events


@pytest.mark.parametrize(("quotas", "binding"), [((240.0, 1e9), "requests"), ((1e9, 24_000.0), "tokens")])
def test_no_more_go_unasked_than_the_quotas_that_are_shown_leave(
    quotas: tuple[float, float], binding: str
) -> None:
    gone = []
    for each in (False, True):
        line, sent = Asked([], quotas, each=each, ask=100), 0
        while line.wait_s(12_000.0, 100) == 0.0:
            line.send(12_000.0, 100)
            sent += 1
        assert line.gates.binding == binding
        gone.append(sent)
    assert gone[0] == gone[1] < 64


def test_a_learnt_rate_lets_an_eighth_of_what_is_saved_up_go_unasked_and_nothing_once_it_held_one_back() -> (
    None
):
    bucket = Bucket()
    bucket.rate, bucket.depth, bucket.level = 10.0, 80.0, 80.0
    assert bucket.room() == 10.0
    bucket.took(0.0, 10)
    assert bucket.level == 70.0
    assert bucket.wait_s(0.0, 1.0) > 0, "no more at once"
    assert bucket.room() == 0.0
    bucket.take(1.0, 1.0)
    assert bucket.room() == 0.0, "as long as its pace is what counts"
    line = Asked([], (1e9, 1e9), each=False)
    line.gates.bucket.rate, line.gates.bucket.depth = 10.0, 80.0
    assert line.wait_s(12_000.0, 100) == 0.0
    assert line.gates.headroom.requests == 10


# Drawn worlds


def test_a_world_is_the_same_on_every_machine() -> None:
    world = draw(1007, most_rows=500)
    assert world.features == ("knee", "cap", "chance", "tail", "several")
    assert round(ideal(world).wall_s, 6) == 208.965989


def test_the_limiter_and_what_it_was_before_end_their_runs_in_a_drawn_world_not_far_from_the_oracle() -> None:
    world = draw(9001, most_rows=500)
    ideal_s = ideal(world).wall_s
    for client in ("ours", "present"):
        seen = one(client, world, ideal_s)
        assert seen.ended
        assert seen.score >= 0.4


def test_a_server_that_resets_what_is_too_much_before_its_first_answer_is_no_full_one() -> None:
    world = draw(661_005, most_rows=6_000, wide=True)
    assert one("ours", world, ideal(world).wall_s).score >= 0.9, (
        "0.66 where the resets count as answers that are late"
    )


@pytest.mark.parametrize("client", ["ours", "present"])
def test_a_client_of_the_bench_has_what_a_run_asks_for_when_its_retries_are_used_up(client: str) -> None:
    met = CLIENTS[client](draw(9001, most_rows=500))
    try:
        for number in range(200):
            call = Call(number, 10, 10, 1.0)
            assert met.wait_s(number, call) == 0.0, "a server error is no rejection"
            met.sent(number, call)
            met.came(number + 0.5, call, 500 if number % 5 else 200, NOTHING)
    finally:
        clock.replace()
    assert not met.run.allowance.take(), "so many failed that a run slows down"
