"""A command whose store goes away for good: where its answers are, and how it goes on, is said all the same."""

from __future__ import annotations

import time
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import rows
from tests.support.loopback import Loopback
from tests.support.postgres import Cutting, Server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Command


@pytest.mark.usefixtures("postgres_url")
def test_a_run_whose_store_is_gone_names_the_file_that_keeps_its_answers_and_the_command_that_goes_on(
    cottonpalm: Command,
    folder: Path,
    tmp_path: Path,
    postgres_server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def cut(request: object) -> None:
        if len(server.counts) == 20 and not between.refuses:
            between.refuses = 100_000
            ticking = SimpleNamespace(now=count(0.0, 2.0).__next__, wall=time.time)  # two seconds a look
            monkeypatch.setattr("cottonpalm.stores.sql.database.clock", ticking)
            postgres_server.run(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE application_name = 'cottonpalm' AND pid <> pg_backend_pid()"
            )

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    source = rows(folder / "in.jsonl", 60)
    with Cutting(postgres_server, tmp_path) as between, Loopback(script=cut, latency=0.02) as server:
        words = ["run", str(source), "-o", "out.jsonl", "-m", "openai:m", "-p", "{text}", "-c", "4"]
        words += ["--base-url", server.openai_url, "--store", between.url]
        away = cottonpalm(*words)
        assert away.code == 4, away.err
        [kept] = (tmp_path / "state" / "cottonpalm").iterdir()
        assert "cottonpalm: the run stopped: " in away.err
        assert f"kept in {kept}" in away.err
        assert "to go on, once the store is there: cottonpalm run " in away.err
        between.refuses = 0
        again = cottonpalm(*words)
        assert again.code == 0, again.err
        assert set(server.counts.values()) == {1}
