"""Two commands in one folder share what they may send; what one has learnt, the next one starts with."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from typing import TYPE_CHECKING

import pytest

from cottonpalm.cli.store.held_store import HeldStore
from cottonpalm.store_extras import SharesLimits
from cottonpalm.stores import open_store
from tests.cli.conftest import rows
from tests.cli.killing import environment
from tests.support.programs import Cottonpalm

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.loopback import Loopback

pytestmark = pytest.mark.waits

RPM = 20
MORE = 4  # requests of both together that are watched after the first minute
MINUTE_S = 55.0  # as far apart as so many requests must be, seen from the server


def start(folder: Path, server: Loopback, name: str, *more: str) -> Cottonpalm:
    rows(folder / f"{name}.jsonl", 2 * RPM)
    model = ["--model", "openai:gpt-4o-mini", "--base-url", server.openai_url]
    words = [
        f"{name}.jsonl",
        "-o",
        f"{name}-out.jsonl",
        *model,
        "--prompt",
        "{text}",
        "--rpm",
        str(RPM),
        *more,
    ]
    return Cottonpalm(["run", *words, "-q"], cwd=folder, env=environment(), stdin=subprocess.DEVNULL)


def sharing(folder: Path) -> int:
    """How many processes have a part of the ceiling now."""
    with sqlite3.connect(f"file:{folder}/cottonpalm.db?mode=ro", uri=True) as db:
        found = db.execute("SELECT count(*) FROM share WHERE unit = 'requests'").fetchone()
    db.close()
    return int(found[0])


def test_two_commands_in_one_folder_together_keep_their_requests_per_minute(
    folder: Path, server: Loopback
) -> None:
    processes = [start(folder, server, "first")]
    try:
        server.wait(requests=RPM, timeout_s=120)
        os.mkfifo(folder / "events")
        processes.append(start(folder, server, "second", "--events", "events"))
        with (folder / "events").open() as events:  # each line is waited for
            assert any(sharing(folder) == 2 for _ in events), "the second command never shared"
            server.wait(requests=RPM + MORE, timeout_s=120)
        times = sorted(arrival.at_s for arrival in server.arrivals)
        assert all(later - first > MINUTE_S for first, later in zip(times, times[RPM:], strict=False))
    finally:
        for process in processes:
            process.kill()
            process.wait(30)


def test_the_run_of_a_command_shares_limits_where_its_store_is_a_file(tmp_path: Path) -> None:
    for where, shares in ((str(tmp_path / "runs.db"), True), ("memory:", False)):
        held = HeldStore(open_store(where), where)
        run = held.open_run("a", {})
        assert isinstance(run, SharesLimits) is shares
        held.release()
