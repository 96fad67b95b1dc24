"""`mode="batch"` is asked for its price: where nobody has a Batch API, nothing is sent at the full one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cottonpalm import BatchLane, RunStopped
from tests.batchlane.kit import batched, rows, simple

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.batch_provider import BatchProvider

NOBODY = BatchLane()


def test_at_an_address_without_a_known_batch_api_the_run_stops_before_anything_is_paid(
    server: BatchProvider, tmp_path: Path
) -> None:
    with pytest.raises(RunStopped, match=r"no Batch API is known at 127\.0\.0\.1; --batch-host") as stopped:
        batched(simple(server), server, tmp_path, lane=NOBODY).batch(rows(20))
    assert stopped.value.reason == "fatal"
    assert 'mode="auto"' in str(stopped.value)
    assert (server.bills, server.seen) == ([], [])


def test_once_the_address_is_named_the_same_call_goes_on(server: BatchProvider, tmp_path: Path) -> None:
    with pytest.raises(RunStopped):
        batched(simple(server), server, tmp_path, lane=NOBODY).batch(rows(20))
    assert len(batched(simple(server), server, tmp_path).batch(rows(20))) == 20
    assert {bill.lane for bill in server.bills} == {"batch"}


def test_whoever_takes_the_cheapest_lane_takes_what_there_is(
    server: BatchProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(batched(simple(server), server, tmp_path, lane=NOBODY, mode="auto").batch(rows(20))) == 20
    assert {bill.lane for bill in server.bills} == {"live"}
    assert "at the full price" in caplog.text


def test_whoever_says_so_has_such_rows_answered_live(server: BatchProvider, tmp_path: Path) -> None:
    lane = BatchLane(or_live=True)
    assert len(batched(simple(server), server, tmp_path, lane=lane).batch(rows(20))) == 20
    assert {bill.lane for bill in server.bills} == {"live"}
