"""Where the next row goes among several endpoints, and when one of them is left alone."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from cottonpalm.request.endpoints.routing import RESTS_AFTER, EndpointState, Failed, Health, choose, spread
from cottonpalm.request.limiter.rules.circuit import OPENS_AT, Circuit, Standing

STANDINGS = st.lists(
    st.builds(
        EndpointState,
        free=st.integers(-20, 20).map(float),
        limit=st.floats(1, 500),
        waiting=st.integers(0, 30),
        trip_s=st.floats(0.01, 60),
        opens_in_s=st.sampled_from([0.0, 0.5, 30.0]),
        ill=st.booleans(),
        refused=st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


@given(STANDINGS, st.integers(0, 1_000))
def test_a_row_waits_only_where_no_endpoint_has_room(standings: list[EndpointState], turn: int) -> None:
    chosen = standings[choose(standings, turn)]
    assert chosen.has_room or not any(one.has_room for one in standings)
    assert not chosen.opens_in_s or all(one.opens_in_s for one in standings)


@given(st.integers(2, 6), st.integers(0, 1_000))
def test_equal_endpoints_take_turns(count: int, turn: int) -> None:
    standings = [EndpointState(5.0, 10.0)] * count
    assert sorted(choose(standings, turn + n) for n in range(count)) == list(range(count))


def test_the_least_used_goes_before_the_one_with_the_most_places() -> None:
    assert choose([EndpointState(5.0, 10.0), EndpointState(40.0, 100.0)], 0) == 0


def test_without_room_the_shortest_wait_is_chosen_not_the_shortest_line() -> None:
    slow, quick = (
        EndpointState(-2, 10.0, waiting=1, trip_s=30.0),
        EndpointState(-4, 10.0, waiting=3, trip_s=1.0),
    )
    assert choose([slow, quick], 0) == 1


def test_an_endpoint_whose_limit_other_processes_have_has_the_longest_wait() -> None:
    gone, long = EndpointState(0.0, 0.0), EndpointState(-9.0, 1.0, waiting=9, trip_s=60.0)
    assert choose([gone, long], 0) == choose([gone, long], 1) == 1
    assert choose([gone, gone], 1) == 1
    assert spread([gone._replace(waiting=2), EndpointState(1.0, 1.0)]) == [(0, 1, 1)]


def test_where_all_are_closed_a_pause_goes_before_an_illness_and_that_before_a_refusal() -> None:
    refused = EndpointState(1, 10, opens_in_s=1.0, ill=True, refused=True)
    ill, paused = EndpointState(1, 10, opens_in_s=2.0, ill=True), EndpointState(1, 10, opens_in_s=60.0)
    assert choose([refused, ill, paused], 0) == 2
    assert choose([refused, ill], 0) == 1


@given(STANDINGS)
def test_no_more_rows_change_their_place_than_there_are_permits_and_rows_in_line(
    standings: list[EndpointState],
) -> None:
    transfers = spread(standings)
    for number, standing in enumerate(standings):
        came = sum(one.rows for one in transfers if one.target == number)
        went = sum(one.rows for one in transfers if one.source == number)
        assert came <= (max(0, standing.free) if standing.has_room else 0)
        assert went <= standing.waiting
    assert all(one.rows > 0 and one.source != one.target for one in transfers)
    left = [one.waiting - sum(t.rows for t in transfers if t.source == n) for n, one in enumerate(standings)]
    room = [
        int(one.free) - sum(t.rows for t in transfers if t.target == n) if one.has_room else 0
        for n, one in enumerate(standings)
    ]
    assert not any(left[a] > 0 and room[b] > 0 for a in range(len(left)) for b in range(len(room)) if a != b)


def test_rows_of_a_closed_endpoint_go_first() -> None:
    closed, long, free = (
        EndpointState(-5, 10, waiting=5, opens_in_s=9.0),
        EndpointState(-9, 10, waiting=9),
        EndpointState(6, 10),
    )
    assert [tuple(one) for one in spread([long, closed, free])] == [(1, 2, 5), (0, 2, 1)]


def fails(health: Health, now: float, *, refusal: bool = False) -> float:
    return health.failure(now, health.send(), refusal=refusal)


def test_an_endpoint_rests_after_five_failures_in_a_row_and_ever_longer() -> None:
    health, now, rests = Health(), 0.0, []
    for _ in range(RESTS_AFTER - 1):
        assert fails(health, now) == 0.0
    for _ in range(7):
        rests.append(fails(health, now))
        now = health.rests_until
    assert rests == [1, 2, 4, 8, 16, 30, 30]
    assert health.ill
    health.accepted(health.send())
    assert not health.ill
    assert fails(health, now) == 0.0


def test_what_was_under_way_when_a_rest_began_says_nothing_new() -> None:
    health = Health()
    early = [health.send() for _ in range(50)]
    rests = [health.failure(10.0, number, refusal=False) for number in early[:40]]
    assert rests == [0.0] * 4 + [1.0] + [0.0] * 35
    assert health.failure(12.0, early[40], refusal=False) == 0.0, "sent before the rest, failed after it"
    health.accepted(early[41])
    assert health.ill, "it finishes what it had begun, and takes nothing new"
    assert fails(health, 12.0) == 2.0


def test_failures_among_many_requests_under_way_are_hardly_ever_an_illness() -> None:
    health, rng, rests = Health(), Random(1), 0
    under_way = [health.send() for _ in range(200)]
    for step in range(5_000):
        if rng.random() < 0.1:
            rests += health.failure(step / 100, health.send(), refusal=False) > 0
        else:
            under_way.append(health.send())
            health.accepted(under_way.pop(0))
    assert rests <= 2


def test_a_refusal_counts_at_once_and_rests_for_minutes() -> None:
    health = Health()
    assert [fails(health, 1.0, refusal=True) for _ in range(3)] == [60.0, 0.0, 0.0]
    assert health.refused
    assert fails(health, 61.0, refusal=True) == 120.0
    health = Health()
    for _ in range(RESTS_AFTER):
        fails(health, 0.0)
    assert fails(health, 0.5, refusal=True) == 60.0, "a dead endpoint that says it is the key"


def test_a_circuit_opens_although_the_provider_still_answers_what_it_had_begun() -> None:
    circuit = Circuit()  # forty were under way when it went down; one of them is answered after each failure
    opened = [
        circuit.after(Standing(0.0, 0.0, good=n, sent=40 + n, accepted=n), last=0, probe=True)
        for n in range(30)
    ]
    assert opened.index(True) == OPENS_AT - 1
    assert circuit.is_open(good=40)
    assert not circuit.is_open(good=41)


def test_a_circuit_stays_closed_while_most_requests_are_under_way() -> None:
    circuit, rng, good = Circuit(), Random(1), 0
    for sent in range(1, 5_000):  # one in ten fails at once; the others are answered 200 requests later
        if rng.random() < 0.1:
            assert not circuit.after(Standing(sent, 0.0, good, sent, accepted=0), last=0, probe=True)
        else:
            good = max(good, sent - 200)


def test_a_row_goes_once_to_each_endpoint_and_once_more_where_its_own_is_no_better() -> None:
    failed = Failed()
    assert failed.allows(1, again=False)
    failed.note(1)
    assert not failed.allows(1, again=False)
    assert failed.allows(1, again=True)
    assert failed.allows(2, again=False)
    failed.note(1)
    assert not failed.allows(1, again=True)
    assert (failed.at(1), failed.at(2)) == (2, 0)
