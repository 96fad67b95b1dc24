"""Rows go to the endpoint that has the start of their prompt, where they have a choice and nobody waits for it."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cottonpalm.request.endpoints.affinity import KEPT, PIECE, SLACK, Affinity, pieces_of, warmer
from cottonpalm.request.endpoints.endpoint import Endpoint
from cottonpalm.request.endpoints.routing import EndpointState
from tests.promptcache.kit import RULES, Done, asking, rows, run_replicas
from tests.request.kit import a_run
from tests.support.prompt_caching import OPENAI, VLLM
from tests.unit.test_replicas import STANDINGS

FREE = EndpointState(free=6, limit=8)
FULL = EndpointState(free=0, limit=8, waiting=1)
LONG = 8 * PIECE

# Rules


@pytest.mark.core
@pytest.mark.parametrize(
    ("there", "here", "goes"),
    [
        (FREE, FREE, True),
        (FREE, FULL, True),
        (FREE._replace(free=2), FREE, True),
        (FREE._replace(free=1), FREE, False),  # much busier: its start is worth keeping at both
        (FULL, FREE, False),  # it would wait in line, and here it need not
        (FULL, FULL, True),
        (FULL._replace(waiting=5), FULL, True),
        (FULL._replace(waiting=6), FULL, False),
        (FREE._replace(ill=True), FREE, False),
        (FREE._replace(opens_in_s=1.0), FREE, False),
    ],
)
def test_a_row_goes_where_its_prompt_is_kept_if_it_begins_there_about_as_soon(
    there: EndpointState, here: EndpointState, goes: bool
) -> None:
    assert warmer([here, there], [0, LONG], 0, LONG) == int(goes)


def test_a_row_goes_nowhere_for_little() -> None:
    assert warmer([FREE, FREE], [LONG, LONG], 0, LONG) == 0
    assert warmer([FREE, FREE], [LONG, LONG + PIECE - 1], 0, 2 * LONG) == 0
    assert warmer([FREE, FREE], [0, LONG], 0, 11 * LONG) == 0, "less than a tenth of its prompt"


@given(STANDINGS, st.data())
def test_no_row_leaves_a_free_permit_for_a_line_or_for_an_endpoint_that_rests(
    states: list[EndpointState], data: st.DataObject
) -> None:
    warm = [data.draw(st.integers(0, 20)) * PIECE for _ in states]
    here = data.draw(st.integers(0, len(states) - 1))
    if (place := warmer(states, warm, here, 20 * PIECE)) != here:
        assert warm[place] > warm[here]
        assert not states[place].ill
        assert not states[place].opens_in_s
        assert states[place].has_room or not states[here].has_room
        if states[here].has_room:
            assert states[place].busy <= states[here].busy + SLACK


def test_prompts_are_known_by_their_starts_and_take_bounded_memory() -> None:
    affinity, rng = Affinity(2), Random(1)
    start = rng.randbytes(3 * PIECE)
    affinity.place(pieces_of(start + rng.randbytes(PIECE)), 1, 4 * PIECE, None)
    assert affinity.place(pieces_of(start + b"another end"), 0, len(start), [FREE, FREE]) == 1
    assert affinity.loses(pieces_of(start), 1, 0) == 3 * PIECE
    for _ in range(KEPT):
        affinity.place(pieces_of(rng.randbytes(2 * PIECE)), 1, 2 * PIECE, None)
    assert affinity.loses(pieces_of(start), 1, 0) == 0, "forgotten"
    assert len(affinity._kept[1]) == KEPT


def test_a_long_line_counts_as_long_before_the_first_answer_has_come() -> None:
    flow = a_run(4).flow
    short, long = Endpoint(0, flow), Endpoint(1, flow)
    for endpoint, waiting in ((short, 1), (long, 30)):
        endpoint.asks(flow.limiter(f"key {endpoint.number}"), "label")
        endpoint.waiting = waiting
    assert long.standing(0.0).wait_s > short.standing(0.0).wait_s


# Runs


def documents(count: int, questions: int) -> list[dict[str, str]]:
    """One question after the other, each of all documents."""
    texts = [f"Document {n}.\n" + RULES[:6_000].replace("Rule", f"Line {n}") for n in range(count)]
    return [{"text": f"{text}\nQuestion {n}?"} for n in range(questions) for text in texts]


def misses(done: Done) -> int:
    """Requests that read next to nothing from a cache."""
    assert all(outcome.status == "ok" for outcome in done.outcomes)
    prompt = (done.read + sum(each.bill.fresh for each in done.providers)) / len(done.outcomes)
    return round(len(done.outcomes) - done.read / prompt)


@pytest.mark.core
@pytest.mark.parametrize("order", ["by question", "by document", "mixed"])
def test_a_document_is_read_at_few_endpoints_and_the_run_takes_no_longer(order: str) -> None:
    given = documents(15, 8)
    if order != "by question":
        given.sort(key=lambda row: row["text"])
    if order == "mixed":
        Random(1).shuffle(given)
    off, ours = (run_replicas(VLLM, mode, given, slots=8) for mode in ("off", "auto"))
    assert misses(ours) < 0.75 * misses(off)
    assert ours.seconds <= off.seconds * 1.03
    answered = [each.bill.requests for each in ours.providers]
    assert min(answered) >= 0.8 * max(answered)


def test_a_start_that_all_rows_share_is_kept_everywhere_and_rows_are_spread_as_before() -> None:
    off, ours = (run_replicas(VLLM, mode, rows(60), prompt=asking(RULES[:6_000])) for mode in ("off", "auto"))
    assert ours.read == off.read
    assert [len(each.sent) for each in ours.providers] == [len(each.sent) for each in off.providers]
    assert ours.seconds == off.seconds


def test_short_prompts_go_where_they_went() -> None:
    off, ours = (run_replicas(VLLM, mode, rows(40), prompt=asking("Be brief.")) for mode in ("off", "auto"))
    assert [each.sent for each in ours.providers] == [each.sent for each in off.providers]


def test_each_endpoint_of_a_provider_is_warmed_by_a_request_of_its_own() -> None:
    regions = replace(OPENAI, url="https://region1.api.openai.com/v1")
    ours = run_replicas(regions, "auto", rows(40), count=2, slots=16, prompt=asking())
    assert all(each.bill.requests > 10 for each in ours.providers)
    assert [each.bill.requests * 2_944 - each.bill.read for each in ours.providers] == [2_944] * 2


def test_over_sockets_too_a_document_is_read_at_few_endpoints() -> None:
    given = documents(10, 6)
    off, ours = (run_replicas(VLLM, mode, given, sockets=True) for mode in ("off", "auto"))
    assert misses(ours) < misses(off)
