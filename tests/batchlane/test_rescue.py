"""mode="auto" with a deadline, from the call to the provider: what would be late is pulled back and finished live."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.output_parsers import StrOutputParser

from cottonpalm import ConfigError, clock
from cottonpalm.stores import open_store
from tests.batchlane.chains import two_steps
from tests.batchlane.kit import batched, gemini, lane, live, openai, rows, simple
from tests.support.batch_provider import Faults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cottonpalm import BatchProcessor
    from tests.support.batch_provider import BatchProvider

ROWS = 30
NEVER = 1e6  # seconds
DEADLINE_S = 500.0


@pytest.fixture
def jump(server: BatchProvider) -> Iterator[Callable[..., None]]:
    """Make so many seconds pass as soon as a batch was made, and let it fare so."""
    passed, faults = 0.0, Faults()

    def script(_number: int, _rows: int) -> Faults:
        nonlocal passed
        passed += faults_and_seconds[1]
        return faults_and_seconds[0]

    faults_and_seconds: tuple[Faults, float] = (faults, 0.0)

    def set_jump(seconds: float, **fares: Any) -> None:
        nonlocal faults_and_seconds
        faults_and_seconds = (Faults(**fares), seconds)
        server.script = script

    clock.replace(lambda: time.monotonic() + passed)
    yield set_jump
    clock.replace()


def auto(chain: Any, server: BatchProvider, folder: Path, **more: Any) -> BatchProcessor:
    own = lane(server, cancel_s=more.pop("cancel_s", 100.0), poll_s=0.05)
    return batched(chain, server, folder, mode="auto", **{"lane": own, "deadline": DEADLINE_S, **more})


@pytest.mark.core
def test_batches_that_do_not_come_back_are_cancelled_and_their_rows_run_live(
    server: BatchProvider, tmp_path: Path, jump: Callable[..., None]
) -> None:
    chain = simple(server)
    wanted = live(chain).batch(rows(ROWS))
    server.bills.clear()
    jump(DEADLINE_S - 90, turnaround_s=NEVER, cancel_looks=0)
    assert auto(chain, server, tmp_path).batch(rows(ROWS)) == wanted
    assert [job.end for job in server.jobs.values()] == ["cancelled"]
    assert (Counter(bill.lane for bill in server.bills), server.paid_twice()) == ({"live": ROWS}, {})


def test_what_a_batch_has_done_when_it_is_pulled_back_is_kept(
    server: BatchProvider, tmp_path: Path, jump: Callable[..., None]
) -> None:
    jump(DEADLINE_S - 90, looks=10, expire=0.5, cancel_looks=8)
    processor = auto(simple(server), server, tmp_path)
    assert len(processor.batch(rows(ROWS))) == ROWS
    lanes = Counter(bill.lane for bill in server.bills)
    assert lanes["live"] > 2
    assert (lanes.total(), server.paid_twice()) == (ROWS, {})


def test_with_time_enough_all_rows_but_the_first_come_from_batches(
    server: BatchProvider, tmp_path: Path
) -> None:
    assert len(auto(two_steps(openai(server)), server, tmp_path).batch(rows(ROWS))) == ROWS
    lanes = Counter(bill.lane for bill in server.bills)
    assert (lanes["batch"], server.paid_twice()) == (2 * (ROWS - 2), {})


def test_a_batch_whose_cancel_hangs_is_given_up_and_stays_to_be_settled(
    server: BatchProvider, tmp_path: Path, jump: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    chain = simple(server)
    jump(DEADLINE_S, turnaround_s=NEVER, cancel_looks=NEVER)
    assert len(auto(chain, server, tmp_path, cancel_s=0.01).batch(rows(ROWS))) == ROWS
    assert "may be paid twice" in caplog.text
    [job] = server.jobs.values()
    assert job.cancelled is not None
    job.faults = Faults(turnaround_s=0.0)  # it ends after all
    assert len(batched(chain, server, tmp_path).batch(rows(ROWS))) == ROWS
    with contextlib.closing(open_store(tmp_path / "s.db")) as store:
        assert [batch.stage for batch in store.batches("r")] == ["collected"]
    assert (len(server.jobs), Counter(bill.lane for bill in server.bills)) == (1, {"live": ROWS})


def test_no_time_for_batches_sends_everything_live(server: BatchProvider, tmp_path: Path) -> None:
    assert len(auto(simple(server), server, tmp_path, deadline=0.01).batch(rows(ROWS))) == ROWS
    assert not server.jobs


def test_where_a_cancel_may_lose_a_batch_it_is_said_what_a_deadline_waits_for(
    server: BatchProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chain = gemini(server) | StrOutputParser()
    asked = [row["text"] for row in rows(6)]
    assert len(auto(chain, server, tmp_path, deadline=90_000.0).batch(asked)) == len(asked)
    assert not server.jobs
    assert 'knows none of gemini-test that has ended (mode="batch" makes one)' in caplog.text
    assert len(batched(chain, server, tmp_path, run="first").batch(asked)) == len(asked)
    assert len(server.jobs) == 1
    assert len(auto(chain, server, tmp_path, deadline=90_000.0, run="second").batch(asked)) == len(asked)
    assert len(server.jobs) == 2


@pytest.mark.parametrize("options", [{"mode": "batch"}, {"mode": "auto", "detach": True}, {"mode": "live"}])
def test_a_deadline_that_nobody_can_keep_is_refused(
    server: BatchProvider, tmp_path: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match="deadline"):
        batched(simple(server), server, tmp_path, **options, deadline=5.0)
