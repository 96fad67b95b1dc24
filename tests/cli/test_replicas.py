"""`--base-url` more than once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cli.conftest import lines, rows
from tests.support.loopback import Loopback
from tests.support.replies import capped, fails

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Command

WHAT = ("--model", "openai:gpt-4o-mini", "--prompt", "say {text}")


def test_two_servers_share_the_rows_and_a_run_goes_on_with_one(cottonpalm: Command, folder: Path) -> None:
    rows(folder / "in.jsonl", 120)
    with Loopback(script=capped(10), latency=0.02) as first, Loopback(latency=0.02) as second:
        urls = [part for one in (first, second) for part in ("--base-url", one.openai_url)]
        said = cottonpalm("run", "in.jsonl", "-o", "out.jsonl", *WHAT, *urls)
        assert said.code == 0, said.err
        found = lines(folder / "out.jsonl")
        assert [line["output"] for line in found] == [f"answer to: say row-{n}" for n in range(120)]
        assert first.billed.answers + second.billed.answers == 120
        assert min(first.billed.answers, second.billed.answers) >= 10
        rows(folder / "in.jsonl", 130)
        said = cottonpalm("run", "in.jsonl", "-o", "out.jsonl", *WHAT, "--base-url", second.openai_url)
        assert said.code == 0, said.err
        assert first.billed.answers + second.billed.answers == 130


def test_a_dead_server_costs_no_row_and_retry_knows_all_servers(cottonpalm: Command, folder: Path) -> None:
    rows(folder / "in.jsonl", 8)
    with Loopback(script=lambda _: fails(400)) as first, Loopback(script=lambda _: fails(400)) as second:
        urls = [part for one in (first, second) for part in ("--base-url", one.openai_url)]
        assert cottonpalm("run", "in.jsonl", "-o", "out.jsonl", *WHAT, *urls).code == 3
        first.script(lambda _: fails(503))
        second.script(None)
        said = cottonpalm("retry", "out")
        assert said.code == 0, said.err
        assert second.billed.answers == 8


def test_addresses_that_cannot_be_meant_are_refused(cottonpalm: Command, folder: Path) -> None:
    rows(folder / "in.jsonl", 1)
    run = ("run", "in.jsonl", "-o", "out.jsonl", *WHAT, "--base-url", "http://127.0.0.1:9/v1")
    assert "is given twice" in cottonpalm(*run, "--base-url", "http://127.0.0.1:9/v1").one_line
    assert "is given twice" in cottonpalm(*run, "--base-url", "http://127.0.0.1:9/v1/").one_line
    assert "write the whole address" in cottonpalm(*run, "--base-url", "127.0.0.1:8/v1").one_line
