"""What the report of a run through batches says."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from tests.batchlane.chains import two_steps
from tests.batchlane.kit import batched, lane, live, openai, rows, simple
from tests.support.batch_provider import Faults

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.support.batch_provider import BatchProvider


def _waited_most(bound_s: Mapping[str, float]) -> bool:
    """It waited far longer than all else took so far, so that what is left to do takes less on any machine."""
    batch_s = bound_s.get("batch", 0.0)
    return batch_s > 2.0 + 4 * (sum(bound_s.values()) - batch_s)


def test_what_bound_a_run_that_waited_for_its_batch_is_that_batch(
    server: BatchProvider, tmp_path: Path
) -> None:
    server.faults = Faults(looks=10**6)
    waited = threading.Event()
    with batched(simple(server), server, tmp_path).start(rows(120)) as run:
        while not _waited_most(run.report.bound_s):
            waited.wait(0.01)
        for job in server.jobs.values():
            job.faults = Faults(looks=1)
        assert sum(outcome.status == "ok" for outcome in run) == 120
    report = run.report
    assert max(report.bound_s, key=lambda state: report.bound_s[state]) == "batch"
    assert "rows waited for batches" in report.bound_by[0]
    assert not [each for each in report.advice() if each.gain and each.what.startswith("Start long rows")]
    assert "sent to the end of its answer" not in report.to_html(), (
        "no request of a batch has a time of its own"
    )


def test_rounds_of_a_row_are_no_retries_and_no_tries(server: BatchProvider, tmp_path: Path) -> None:
    processor = batched(two_steps(openai(server)), server, tmp_path)
    processor.batch(rows(6))
    run = processor.last_run
    assert run is not None
    assert run.report.counts.retries == 0
    assert {outcome.attempts for outcome in run.outcomes()} == {2}  # requests, each asked once


def test_what_was_served_at_the_flex_tier_would_cost_no_less_in_a_batch(server: BatchProvider) -> None:
    for tier, share in (("default", 0.5), ("flex", 0.0)):
        processor = live(simple(server, service_tier=tier), lane=lane(server))
        processor.batch(rows(6))
        run = processor.last_run
        assert run is not None
        assert run.report.cost_usd
        assert run.report.batch.saves_usd == pytest.approx(share * run.report.cost_usd)


def test_requests_of_batches_have_no_time_and_count_among_the_others(
    server: BatchProvider, tmp_path: Path
) -> None:
    server.live_latency_s = 0.05
    server.faults = Faults(missing=frozenset({0}))
    with batched(simple(server), server, tmp_path).start(rows(6)) as run:
        lanes = sorted(outcome.lane for outcome in run)
    assert lanes == ["batch"] * 5 + ["live"], "one row got no answer from two batches"
    report = run.report
    assert report.counts.requests == 6
    assert report.request_latency_s.count == 1, "the others were timed by nobody"
    assert report.request_latency_s.p50 >= 0.05


def test_a_request_that_a_batch_refuses_is_counted_as_one_that_failed(
    server: BatchProvider, tmp_path: Path
) -> None:
    server.faults = Faults(refused=frozenset({1}))
    with batched(simple(server), server, tmp_path, max_failures=1.0).start(rows(6)) as run:
        failed = [outcome for outcome in run if outcome.status == "failed"]
    assert [outcome.attempts for outcome in failed] == [1]
    report = run.report
    assert report.counts.requests == run.stats.attempts == 6
    [used] = report.by_model.values()
    assert (used.requests, used.failed) == (6, 1)
    assert "\nrequest " not in report.text(), "no time is shown where none was measured"
