"""Real processes, killed by the system wherever they happen to be."""

from __future__ import annotations

import json
import subprocess
from random import Random
from typing import TYPE_CHECKING

from tests.batches.kit import PROVIDERS, Disk, results
from tests.batches.worker import ROWS
from tests.support.batch_provider import by_chance
from tests.support.loopback import ROOT
from tests.support.programs import Program

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.batch_provider import BatchProvider

KILLS = 2


def test_killed_processes_pay_no_row_twice_and_leave_none_unanswered(
    server: BatchProvider, provider: str, tmp_path: Path, eventually: Callable[[Callable[[], object]], None]
) -> None:
    rng, path = Random(f"kill {provider}"), tmp_path / "store.db"
    server.script = lambda number, rows: by_chance(rng, rows)
    told = json.dumps({"provider": provider, "urls": {name: server.url(name) for name in PROVIDERS}})
    command = ["tests.batches.worker", path, told]
    for _ in range(KILLS):
        target = server.asked + rng.randint(1, 6)
        with Program(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
            eventually(lambda: server.asked >= target or process.poll() is not None)  # noqa: B023
            process.kill()
    with Program(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        out, err = process.communicate()
    assert out == "done\n", err
    disk = Disk(path)
    found = results(disk.book, ROWS)
    over = [batch.over for batch in disk.book.batches()]
    disk.close()
    assert sorted(found) == list(range(ROWS))
    assert all(result is not None and result.final for result in found.values())
    assert all(over)
    assert not server.paid_twice()
