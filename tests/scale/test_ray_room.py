"""A cluster that has no core for a worker: the run goes on with the others, and says what it waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cottonpalm import BatchProcessor
from tests.scale.chains import held_until_told

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Eventually

pytestmark = pytest.mark.waits


@pytest.mark.timeout(400)  # a cluster may take its time to begin
@pytest.mark.usefixtures("cluster")
def test_workers_that_no_core_is_free_for_are_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    monkeypatch.setattr("cottonpalm.engine.executors.workers.ray.pool.ROOM_S", 0.0)
    monkeypatch.setattr("cottonpalm.engine.executors.workers.executor.LOOK_S", 0.1)
    processor = BatchProcessor(held_until_told(str(tmp_path)), executor="ray", workers=5)  # of 4 cores
    with processor.start(["a", "b", "c"]) as run:
        eventually(lambda: any("cores of the Ray cluster is free" in said for said in caplog.messages))
        (tmp_path / "go on").touch()
        assert sorted(str(outcome.output) for outcome in run) == ["a", "b", "c"]
    [told] = [said for said in caplog.messages if "Ray cluster" in said]
    assert "of 5 workers have not begun for 0 s: none of the 4 cores of the Ray cluster is free" in told
