"""Batches that the provider does not take, or does not finish: what is told, and what is paid."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableParallel

from cottonpalm import Budget, RunStopped
from tests.batchlane.kit import batched, gemini, lane, rows, simple
from tests.support.batch_provider import Faults

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.batch_provider import BatchProvider

pytestmark = pytest.mark.waits


def lanes(server: BatchProvider) -> Counter[str]:
    return Counter(bill.lane for bill in server.bills)


@pytest.mark.parametrize("queued", [400, 150])
def test_what_is_more_than_the_providers_queue_holds_goes_into_smaller_batches_and_nothing_runs_live(
    server: BatchProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture, queued: int
) -> None:
    server.queued_tokens = queued
    assert len(batched(simple(server), server, tmp_path).batch(rows(100))) == 100
    assert lanes(server) == {"batch": 100}
    assert [job.end for job in server.jobs.values()].count("failed") == 1  # the first, which told the limit
    assert f"Limit: {queued:,} enqueued tokens. Its rows wait for room" in caplog.text


def test_a_queue_that_others_fill_is_waited_for(server: BatchProvider, tmp_path: Path) -> None:
    server.queued_tokens = 10**6
    refusals = iter([10**6] * 3)
    server.waiting_tokens = lambda model: next(refusals, 0)  # type: ignore[method-assign]
    batched(simple(server), server, tmp_path).batch(rows(60))
    assert lanes(server) == {"batch": 60}


def test_batches_that_wait_for_room_are_submitted_one_by_one_as_it_comes(
    server: BatchProvider, tmp_path: Path
) -> None:
    server.queued_tokens = 300
    processor = batched(simple(server), server, tmp_path, lane=lane(server, rows=5, queued_tokens=300))
    processor.batch(rows(60))
    assert {job.end for job in server.jobs.values()} == {"done"}
    assert lanes(server) == {"batch": 60}


def test_rows_of_a_batch_that_fails_for_lines_of_others_stay_in_the_batch_lane(
    server: BatchProvider, tmp_path: Path
) -> None:
    """Each failure names one line; that row runs live at its second one."""
    server.script = lambda number, _: Faults(invalid="invalid_request" if number < 4 else None)
    batched(simple(server), server, tmp_path).batch(rows(20))
    found = lanes(server)
    assert found["batch"] >= 16
    assert found["batch"] + found["live"] == 20


def test_a_batch_that_fails_as_a_whole_is_told_with_its_reason_and_so_are_rows_that_run_live_after_two(
    server: BatchProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.faults = Faults(missing=frozenset(range(20)))
    batched(simple(server), server, tmp_path).batch(rows(20))
    assert lanes(server) == {"live": 20}
    assert "came back with 20 of 20 requests unanswered: they are asked again" in caplog.text
    assert "20 rows got no answer from two batches" in caplog.text
    assert "at the full price" in caplog.text


def test_a_batch_that_expired_is_told_with_what_it_left(
    server: BatchProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.script = lambda number, _: Faults(expire=None if number else 0.5)
    batched(simple(server), server, tmp_path).batch(rows(20))
    assert lanes(server) == {"batch": 20}
    assert "expired: 10 of 20 requests had no answer and are asked again" in caplog.text


def test_two_requests_of_a_row_that_were_lost_once_each_go_into_batches_again(
    server: BatchProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They were in one batch: no second one has left the row unanswered."""
    server.script = lambda number, _: Faults(expire=None if number else 0.0)
    both = RunnableParallel(one=simple(server), two=simple(server, temperature=0.5))
    batched(both, server, tmp_path).batch(rows(10))
    assert lanes(server) == {"batch": 20}
    assert "run live" not in caplog.text


def test_a_batch_whose_results_are_gone_is_told_as_lost(
    server: BatchProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.script = lambda number, _: Faults(gone=not number)
    options = lane(server, listing_wait_s=0.01)
    batched(simple(server), server, tmp_path, lane=options).batch(rows(20))
    assert "is lost: the provider no longer keeps its results" in caplog.text
    assert "20 of 20 requests had no answer and are asked again" in caplog.text


def test_a_budget_that_lets_few_rows_out_at_once_is_told_with_what_lets_more(
    server: BatchProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    budget = Budget(total=0.002, max_output_tokens=100)
    batched(simple(server), server, tmp_path, budget=budget).batch(rows(12))
    assert lanes(server) == {"batch": 12}
    assert "the budget lets about " in caplog.text
    assert "--max-output-tokens" in caplog.text


@pytest.mark.parametrize("queued", [400, 150])
def test_what_gemini_does_not_let_wait_goes_into_smaller_batches(
    server: BatchProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture, queued: int
) -> None:
    """It refuses the request that would make the batch, however often that is sent."""
    server.queued_tokens = queued
    chain = ChatPromptTemplate.from_template("About: {text}") | gemini(server) | StrOutputParser()
    assert len(batched(chain, server, tmp_path).batch(rows(60))) == 60
    assert (lanes(server), server.paid_twice()) == ({"batch": 60}, {})
    assert "in smaller batches where that helps" in caplog.text
    assert "run live" not in caplog.text


def test_a_batch_that_was_made_twice_after_all_is_told_with_both_ids(
    server: BatchProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer to the request that made it is lost, and no list shows it for longer than one is believed."""
    server.script = lambda number, _: Faults(lose="after", hidden_s=0.4) if number == 0 else Faults(looks=60)
    options = lane(server, listing_wait_s=0.05)
    processor = batched(simple(server), server, tmp_path, lane=options)
    assert len(processor.batch(rows(5))) == 5
    first, second = server.jobs
    assert "was made twice at the provider" in caplog.text
    assert first in caplog.text
    assert second in caplog.text
    assert processor.last_run is not None
    assert processor.last_run.stats.uncertain_usd >= processor.last_run.stats.reported_usd > 0


def test_a_provider_that_takes_no_batch_at_all_stops_the_run_before_anything_is_paid(
    server: BatchProvider, tmp_path: Path
) -> None:
    server.weather.creates = [400] * 9
    with pytest.raises(RunStopped, match=r"took no batch of 10 requests .*HTTP 400: not now.*--mode auto"):
        batched(simple(server), server, tmp_path).batch(rows(10))
    assert not server.bills
    server.weather.creates = []
    assert len(batched(simple(server), server, tmp_path).batch(rows(10))) == 10
    assert lanes(server) == {"batch": 10}


def test_a_batch_that_is_refused_while_others_are_taken_runs_live_and_so_does_the_first_where_that_was_said(
    server: BatchProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.weather.creates = [0, 400]
    batched(simple(server), server, tmp_path, lane=lane(server, rows=5)).batch(rows(10))
    assert lanes(server) == {"batch": 5, "live": 5}
    assert "took no batch of 5 requests" in caplog.text
    assert "They run live, at the full price" in caplog.text
    server.weather.creates = [400]
    options = {"lane": lane(server, or_live=True), "run": "other"}
    batched(simple(server), server, tmp_path, **options).batch(rows(4))
    assert lanes(server) == {"batch": 5, "live": 9}


def test_what_a_batch_waits_for_is_told_once_it_has_lasted(
    server: BatchProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.weather.reads = [500] * 60
    options = lane(server, listing_wait_s=0.1)
    assert len(batched(simple(server), server, tmp_path, lane=options).batch(rows(5))) == 5
    [told] = [line for line in caplog.messages if "cannot be looked at" in line]
    [job] = server.jobs
    assert f"batch {job} of openai/gpt-test cannot be looked at: HTTP 500: not now. It is tried again" in told
    assert lanes(server) == {"batch": 5}
