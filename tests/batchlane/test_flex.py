"""The flex tier as a lane: the cheapest where a model has it, batches or the standard tier where it has no room."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableParallel

from cottonpalm import Budget, RetryPolicy
from tests.batchlane.chains import PROMPT, two_steps
from tests.batchlane.kit import anthropic, batched, openai, rows

if TYPE_CHECKING:
    from pathlib import Path

    from cottonpalm.types import Outcome
    from tests.support.batch_provider import BatchProvider

pytestmark = pytest.mark.waits

MODEL = "gpt-5-mini"  # in the price list: 0.25 and 2 dollars for a million tokens, half of that at flex and in batches
PICO = {MODEL: (250_000, 2_000_000)}


def cheapest(chain: Any, server: BatchProvider, folder: Path, **more: Any) -> Any:
    quickly = RetryPolicy(base_s=0.001, cap_s=0.002)
    return batched(chain, server, folder, **{"mode": "auto", "prices": None, "retry": quickly, **more})


def outcomes(processor: Any, count: int, **how: Any) -> list[Outcome]:
    processor.batch(rows(count), **how)
    found: list[Outcome] = sorted(processor.last_run.outcomes(), key=lambda outcome: outcome.index)
    return found


def lanes(server: BatchProvider) -> dict[str, int]:
    return dict(Counter(bill.lane for bill in server.bills))


def check_paid(server: BatchProvider, found: list[Outcome]) -> None:
    """Each question once, and the cost that we tell is what was charged."""
    assert server.paid_twice() == {}
    assert sum(outcome.cost_pico or 0 for outcome in found) == server.charged(PICO)


@pytest.mark.parametrize("responses", [False, True], ids=["chat", "responses"])
def test_auto_without_a_deadline_asks_at_the_flex_tier_where_it_costs_no_more_than_a_batch(
    server: BatchProvider, tmp_path: Path, responses: bool
) -> None:
    chain = PROMPT | openai(server, MODEL, use_responses_api=responses)
    processor = cheapest(chain, server, tmp_path, budget=Budget(total=1, max_output_tokens=500))
    found = outcomes(processor, 6)
    assert [outcome.output.text for outcome in found] == [f"answer to: About: row {n}" for n in range(6)]
    assert {outcome.lane for outcome in found} == {"flex"}
    assert (lanes(server), server.jobs) == ({"flex": 6}, {})
    check_paid(server, found)
    assert processor.last_run.stats.reported_usd == pytest.approx(server.charged(PICO) / 1e12)


def test_only_a_run_that_looks_for_the_cheapest_lane_asks_for_flex(
    server: BatchProvider, tmp_path: Path
) -> None:
    chain = PROMPT | openai(server, MODEL) | StrOutputParser()
    for mode, lane in (("batch", "batch"), ("live", "live")):
        server.bills.clear()
        outcomes(cheapest(chain, server, tmp_path, mode=mode, run=mode), 2)
        assert lanes(server) == {lane: 2}
    server.bills.clear()
    outcomes(cheapest(chain, server, tmp_path, run="own", prices={MODEL: (1.0, 2.0)}), 2)  # no word of flex
    assert lanes(server) == {"batch": 2}
    server.bills.clear()
    outcomes(cheapest(PROMPT | anthropic(server), server, tmp_path, run="other", prices=None), 2)
    assert lanes(server) == {"batch": 2}


def test_a_row_that_finds_no_room_at_the_flex_tier_goes_into_a_batch_and_pays_nothing_twice(
    server: BatchProvider, tmp_path: Path
) -> None:
    server.flex = lambda body: "no room" if "row 3" in body["messages"][-1]["content"] else "ok"
    found = outcomes(cheapest(PROMPT | openai(server, MODEL), server, tmp_path), 6)
    assert [outcome.output.content for outcome in found] == [f"answer to: About: row {n}" for n in range(6)]
    assert [outcome.lane for outcome in found] == ["flex", "flex", "flex", "batch", "flex", "flex"]
    assert lanes(server) == {"flex": 5, "batch": 1}
    check_paid(server, found)


@pytest.mark.parametrize("said", ["no room", "unknown"])
def test_a_flex_tier_without_room_for_anybody_leaves_all_rows_to_batches(
    server: BatchProvider, tmp_path: Path, said: str
) -> None:
    asked = Counter[str]()

    def refuse(body: dict[str, Any]) -> str:
        asked[body["messages"][-1]["content"]] += 1
        return said

    server.flex = refuse
    found = outcomes(cheapest(PROMPT | openai(server, MODEL), server, tmp_path, concurrency=2), 30)
    assert lanes(server) == {"batch": 30}
    assert max(asked.values()) <= (3 if said == "no room" else 1)
    assert len(asked) < 30  # after some, the others do not try
    check_paid(server, found)


def test_a_fault_that_is_no_word_on_the_tier_is_met_as_at_any_other(
    server: BatchProvider, tmp_path: Path
) -> None:
    asked = Counter[str]()

    def status(body: dict[str, Any]) -> int:
        said = body["messages"][-1]["content"]
        asked[said] += 1
        if "row 2" in said:
            return 400
        return 500 if asked[said] == 1 and "row 1" in said else 200

    server.live = status
    chain = PROMPT | openai(server, MODEL)
    found = outcomes(cheapest(chain, server, tmp_path), 4, return_exceptions=True)
    assert [outcome.lane for outcome in found if outcome.status == "ok"] == ["flex"] * 3
    assert [outcome.attempts for outcome in found] == [1, 2, 1, 1]
    assert [outcome.index for outcome in found if outcome.status == "failed"] == [2]
    assert sorted(asked.values()) == [1, 1, 1, 2]
    check_paid(server, found)


@pytest.mark.parametrize("responses", [False, True], ids=["chat", "responses"])
def test_what_is_answered_at_another_tier_says_so_and_after_three_of_them_rows_go_into_batches(
    server: BatchProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture, responses: bool
) -> None:
    server.flex = lambda _: "default"
    model = openai(server, MODEL, use_responses_api=responses)
    processor = cheapest(PROMPT | model, server, tmp_path, concurrency=1)
    found = outcomes(processor, 20)
    assert Counter(outcome.lane for outcome in found) == lanes(server) == {"live": 3, "batch": 17}
    assert "was asked at the flex tier and answered at the tier 'default', at its price" in caplog.text
    check_paid(server, found)


def test_an_answer_at_another_tier_among_those_of_the_flex_tier_is_the_row_s_own_lane(
    server: BatchProvider, tmp_path: Path
) -> None:
    server.flex = lambda body: "default" if "Shorter" in body["messages"][-1]["content"] else "ok"
    found = outcomes(cheapest(two_steps(openai(server, MODEL)), server, tmp_path, concurrency=1), 6)
    assert {outcome.lane for outcome in found} == {"mixed"}
    assert lanes(server) == {"flex": 6, "live": 6}
    check_paid(server, found)


def test_what_has_answers_from_the_flex_tier_and_then_finds_no_room_is_finished_at_the_standard_tier(
    server: BatchProvider, tmp_path: Path
) -> None:
    """Taken back it would pay its first question again."""
    server.flex = lambda body: "no room" if "Shorter" in body["messages"][-1]["content"] else "ok"
    found = outcomes(cheapest(two_steps(openai(server, MODEL)), server, tmp_path), 2)
    assert {outcome.lane for outcome in found} == {"mixed"}
    assert lanes(server) == {"flex": 2, "live": 2}
    check_paid(server, found)


def test_a_row_with_other_requests_under_way_is_not_taken_back(server: BatchProvider, tmp_path: Path) -> None:
    server.flex = lambda body: "no room" if "left" in body["messages"][0]["content"] else "ok"
    ask = {
        side: PROMPT.from_template(f"{side} {{text}}") | openai(server, MODEL) for side in ("left", "right")
    }
    found = outcomes(cheapest(RunnableParallel(ask), server, tmp_path), 3)
    assert server.paid_twice() == {}
    assert sum(outcome.cost_pico or 0 for outcome in found) == server.charged(PICO)


def test_a_tier_that_the_user_chose_stands(server: BatchProvider, tmp_path: Path) -> None:
    chain = PROMPT | openai(server, MODEL, service_tier="default")
    found = outcomes(cheapest(chain, server, tmp_path), 2)
    assert lanes(server) == {"batch": 2}
    check_paid(server, found)


def test_a_user_s_own_flex_tier_waits_for_room_and_never_falls_to_the_standard_price(
    server: BatchProvider, tmp_path: Path
) -> None:
    refused = Counter[str]()

    def twice(body: dict[str, Any]) -> str:
        text = body["messages"][-1]["content"]
        refused[text] += 1
        return "no room" if refused[text] <= 4 else "ok"

    server.flex = twice
    chain = PROMPT | openai(server, MODEL, service_tier="flex")
    found = outcomes(cheapest(chain, server, tmp_path, mode="live"), 3)
    assert lanes(server) == {"flex": 3}
    check_paid(server, found)
