"""A run whose store goes away for good: what was answered is in a file, and the next run takes it in."""

from __future__ import annotations

import time
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from cottonpalm import BatchProcessor, RunStopped
from tests.engine.helpers import Probe, read
from tests.support.postgres import Cutting, Server

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.usefixtures("postgres_url")
def test_answers_that_a_server_that_is_gone_cannot_take_are_not_paid_again(
    postgres_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    chain, rows = Probe(delay_s=0.05), [f"row {number}" for number in range(100)]
    with Cutting(postgres_server, tmp_path) as between:
        processor = BatchProcessor(chain, store=between.url, run="night", fingerprint="1", concurrency=8)
        with processor.start(rows) as run:
            next(run)
            ticking = SimpleNamespace(now=count(0.0, 2.0).__next__, wall=time.time)  # two seconds a look
            monkeypatch.setattr("cottonpalm.stores.sql.database.clock", ticking)
            between.refuses = 100_000
            postgres_server.run(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE application_name = 'cottonpalm' AND pid <> pg_backend_pid()"
            )
            _, error = read(run)
        assert isinstance(error, RunStopped)
        assert error.reason == "store"
        [kept] = (tmp_path / "state" / "cottonpalm").iterdir()
        assert f"kept in {kept}" in str(error)
        assert run.unstored
        between.refuses = 0
        assert processor.batch(rows) == [("answer", row) for row in rows]
    assert chain.calls == dict.fromkeys(rows, 1)
    assert not kept.exists()
