"""A simple chain through the batch lane, from the call to the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cottonpalm.types import pico
from tests.batchlane.kit import PICO_PRICES, batched, live, rows, simple

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.batch_provider import BatchProvider


def test_all_rows_go_out_in_one_batch_and_are_answered_as_live(server: BatchProvider, tmp_path: Path) -> None:
    chain = simple(server)
    wanted = live(chain).batch(rows(30))
    server.bills.clear()
    processor = batched(chain, server, tmp_path)
    assert processor.batch(rows(30)) == wanted
    assert [len(job.rows) for job in server.jobs.values()] == [30]
    assert {bill.lane for bill in server.bills} == {"batch"}
    assert not server.paid_twice()


def test_the_cost_is_the_batch_price_in_outcomes_and_ledger(server: BatchProvider, tmp_path: Path) -> None:
    processor = batched(simple(server), server, tmp_path)
    processor.batch(rows(12))
    run = processor.last_run
    assert run is not None
    charged = server.charged(PICO_PRICES)
    outcomes = list(run.outcomes())
    assert {outcome.lane for outcome in outcomes} == {"batch"}
    assert sum(outcome.cost_pico or 0 for outcome in outcomes) == charged
    stats = run.stats
    assert (pico(stats.reported_usd), pico(stats.uncertain_usd)) == (charged, 0)


def test_the_uploaded_file_is_deleted_at_the_provider_once_its_batch_is_collected(
    server: BatchProvider, tmp_path: Path
) -> None:
    batched(simple(server), server, tmp_path).batch(rows(4))
    assert server.requests["POST file"] == 1
    assert not [name for name in server.files if name.startswith("file-0")]
