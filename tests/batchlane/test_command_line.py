"""The batch lane from the command line: submit and leave, look, collect."""

from __future__ import annotations

import importlib
import json
import sqlite3
import threading
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import pytest

from cottonpalm import config
from tests.cli.conftest import *  # noqa: F403 - its fixtures
from tests.support.batch_provider import BatchProvider, Faults

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.conftest import Command

pytestmark = pytest.mark.waits


@pytest.fixture
def server() -> Iterator[BatchProvider]:
    with BatchProvider() as server:
        yield server


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command has no option for how often it looks at a batch, which is too seldom for a test."""
    importlib.import_module("cottonpalm.setting_checks")  # keeps the class itself, whichever test comes first
    monkeypatch.setattr(config, "BatchLane", partial(config.BatchLane, poll_s=0.05))


def asked(server: BatchProvider, *more: str) -> list[str]:
    host = next(host for host, name in server.hosts.items() if name == "openai")
    options = ["--model", "openai:gpt-test", "--base-url", server.openai_url, "--prompt", "{text}"]
    return ["run", "in.jsonl", "-o", "out.jsonl", *options, "--batch-host", f"{host}=openai", *more]


def test_a_detached_command_is_shown_by_status_and_collected_later(
    server: BatchProvider, cottonpalm: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    (folder / "in.jsonl").write_text("".join(f'{{"text": "row {n}"}}\n' for n in range(6)))
    server.faults = Faults(looks=10**6)
    said = cottonpalm(*asked(server, "--mode", "batch", "--detach", "--model-option", "temperature=0"))
    assert said.code == 0, said.err
    assert "6 requests are out in 1 batch" in said.err
    [job] = server.jobs.values()
    said = cottonpalm("status", "out")
    assert job.id in said.out
    assert "/gpt-test, 6 rows" in said.out
    said = cottonpalm("export", "out", "-o", "now.csv")
    assert said.code == 2
    assert said.one_line == (
        "cottonpalm: run out has no answer yet: 6 requests are out in 1 batch; cottonpalm collect out fetches what "
        "they answer"
    )
    job.faults = Faults(looks=1)
    said = cottonpalm("collect", "out", "--store", "cottonpalm.db", "--no-progress", "--verbose")
    assert said.code == 0, said.err
    lines = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert len(lines) == 6
    assert (
        cottonpalm("collect", "out", "--quiet", "--model-option", "temperature=0").code == 0
    )  # nothing is left to do
    assert (len(server.jobs), len(server.bills), {bill.lane for bill in server.bills}) == (1, 6, {"batch"})


def test_an_export_says_how_many_requests_are_still_out(
    server: BatchProvider, cottonpalm: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    (folder / "in.jsonl").write_text("".join(f'{{"text": "row {n}"}}\n' for n in range(6)))
    server.faults = Faults(looks=10**6)
    assert cottonpalm(*asked(server, "--limit", "2")).code == 0
    said = cottonpalm(*asked(server, "--mode", "batch", "--detach"))
    assert said.code == 0, said.err
    said = cottonpalm("export", "out", "-o", "now.csv")
    assert said.code == 0, said.err
    assert said.err.splitlines() == [
        "now.csv: 2 rows of run out",
        "note: 4 requests are out in 1 batch; cottonpalm collect out fetches what they answer",
    ]


def test_plan_takes_the_options_of_the_lane_that_run_takes(
    server: BatchProvider, cottonpalm: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    (folder / "in.jsonl").write_text("".join(f'{{"text": "row {n}"}}\n' for n in range(6)))
    host = next(host for host, name in server.hosts.items() if name == "openai")
    _, source, output, name, *options = asked(server, "--price", "gpt-test=2:8", "--max-tokens", "9")
    named = cottonpalm("plan", source, output, name, *options, "--mode", "batch", "--detach")
    assert named.code == 0, named.err
    assert "batch" in named.out
    nameless = cottonpalm("plan", source, *options, "--mode", "batch")
    assert (nameless.code, nameless.out) == (0, named.out)
    soon = cottonpalm("plan", source, *options, "--mode", "auto", "--deadline", "3600")
    assert (soon.code, soon.out) == (0, named.out)
    elsewhere = cottonpalm("plan", source, *options[:-6], "--batch-host", f"{host}=anthropic", *options[-4:])
    assert elsewhere.code == 0
    assert "batch" not in elsewhere.out
    unknown = cottonpalm("plan", source, *options, "--deadline", "3600")
    assert unknown.code == 2
    assert server.asked == 0


def test_a_run_that_is_not_there_cannot_be_collected(cottonpalm: Command) -> None:
    said = cottonpalm("collect", "out", "--store", "none.db", "--model-option", "top_p=1")
    assert (said.code, said.out) == (2, "")
    assert "there is no store" in said.err


def test_a_mode_that_there_is_not_is_refused_in_one_line(
    server: BatchProvider, cottonpalm: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    (folder / "in.jsonl").write_text('{"text": "row"}\n')
    said = cottonpalm(*asked(server, "--mode", "cheap"))
    assert said.code == 2
    assert 'say "live", "batch" or "auto"' in said.err
    assert not server.seen


def test_the_command_cancels_and_status_shows_when_a_batch_is_expected(
    server: BatchProvider, cottonpalm: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    (folder / "in.jsonl").write_text("".join(f'{{"text": "row {n}"}}\n' for n in range(6)))
    server.faults = Faults(looks=10)
    command = asked(
        server,
        "--mode",
        "auto",
        "--detach",
        "--model-option",
        "top_p=1",
        "--budget",
        "1",
        "--price",
        "gpt-test=1:2",
    )
    assert cottonpalm(*command, "--max-output-tokens", "50").code == 0
    for job in server.jobs.values():
        job.faults = Faults(looks=10**6)
    said = cottonpalm("status", "out")
    assert ", up to $" in said.out
    said = cottonpalm("cancel", "out", "--model-option", "top_p=1", "--store", "cottonpalm.db", "--verbose")
    assert said.code == 0, said.err
    assert (
        cottonpalm("cancel", "out", "--model-option", "top_p=1", "--quiet").code == 0
    )  # nothing is left to cancel
    assert {job.end for job in server.jobs.values()} == {"cancelled"}
    assert "batch batch_" not in cottonpalm("status", "out").out
    said = cottonpalm("cancel", "out", "--model-option", "top_p=1", "--no-progress", "--verbose")
    assert "no batch is out any more" in said.err
    assert "cottonpalm collect out" in said.err  # the same command again would only cancel once more
    server.faults = Faults()
    assert cottonpalm("collect", "out", "--no-progress", "--model-option", "top_p=1").code == 0
    assert len([json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]) == 6
    assert not server.paid_twice()


def test_a_run_that_sent_no_batches_has_none_to_cancel(
    server: BatchProvider, cottonpalm: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    (folder / "in.jsonl").write_text('{"text": "one row"}\n')
    assert cottonpalm(*asked(server, "--mode", "live")).code == 0
    said = cottonpalm("cancel", "out")
    assert (said.code, said.err.strip()) == (0, "nothing to cancel: run out has sent no batches")
    assert "ok         1\n" in cottonpalm("status", "out").out


def test_what_a_cancelled_batch_had_done_is_part_of_the_runs_cost_at_once(
    server: BatchProvider, cottonpalm: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    (folder / "in.jsonl").write_text("".join(f'{{"text": "row {n}"}}\n' for n in range(12)))
    server.faults = Faults(looks=4, cancel_looks=0)
    command = asked(server, "--mode", "batch", "--detach", "--price", "gpt-test=1:2", "--max-tokens", "50")
    assert cottonpalm(*command).code == 0
    said = cottonpalm("cancel", "out", "--no-progress")
    assert 0 < len(server.bills) < 12
    cost = server.charged({"gpt-test": (10**6, 2 * 10**6)}) / 10**12
    shown = json.loads(cottonpalm("status", "out", "--json").out)
    assert shown["cost_usd"] == pytest.approx(cost)
    assert f"cost     ${cost:.6f}" in said.err
    server.faults = Faults()
    assert cottonpalm("collect", "out", "--no-progress").code == 0
    shown = json.loads(cottonpalm("status", "out", "--json").out)
    assert shown["cost_usd"] == pytest.approx(server.charged({"gpt-test": (10**6, 2 * 10**6)}) / 10**12)


def test_a_cancel_which_reads_the_first_rows_alone_leaves_their_number_as_it_is_known(
    server: BatchProvider, cottonpalm: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    (folder / "in.jsonl").write_text(
        "".join(f'{{"text": "{"row " * (n % 5 + 1)}{n}"}}\n' for n in range(300))
    )
    server.faults = Faults(looks=10**6)
    assert cottonpalm(*asked(server, "--mode", "batch", "--detach")).code == 0
    assert cottonpalm("cancel", "out", "--no-progress").code == 0
    shown = json.loads(cottonpalm("status", "out", "--json").out)
    assert (shown["total"], shown["total_exact"]) == (300, True)


def test_collect_goes_on_with_what_is_out_though_a_few_rows_were_asked_live_meanwhile(
    server: BatchProvider, cottonpalm: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    lines = [f'{{"text": "row {n}"}}\n' for n in range(6)]
    (folder / "in.jsonl").write_text("".join(lines))
    server.faults = Faults(looks=10**6)
    assert cottonpalm(*asked(server, "--mode", "batch", "--detach")).code == 0
    (folder / "in.jsonl").write_text("".join(['{"text": "urgent"}\n', *lines[::-1]]))
    assert cottonpalm(*asked(server, "--limit", "1", "--no-progress")).code == 0
    assert {bill.text for bill in server.bills} == {"urgent"}
    for job in server.jobs.values():
        job.faults = Faults(looks=1)
    assert cottonpalm("collect", "out", "--no-progress").code == 0
    written = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert {line["index"]: line["output"] for line in written} == {
        index: f"answer to: {text}"
        for index, text in enumerate(["urgent", *(f"row {n}" for n in reversed(range(6)))])
    }
    assert (len(server.jobs), len(server.bills), server.paid_twice()) == (1, 7, {})


def test_a_deadline_that_leaves_no_time_for_batches_sends_all_rows_live(
    server: BatchProvider,
    cottonpalm: Command,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    (folder / "in.jsonl").write_text("".join(f'{{"text": "row {n}"}}\n' for n in range(6)))
    said = cottonpalm(*asked(server, "--mode", "auto", "--deadline", "30", "--no-progress"))
    assert said.code == 0, said.err
    assert not server.jobs
    assert [bill.lane for bill in server.bills] == ["live"] * 6
    assert "the deadline leaves no time for batches, which are cancelled 10 min" in caplog.text


@pytest.fixture
def given_up(
    server: BatchProvider, cottonpalm: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command whose deadline has left a batch out, as it could not be cancelled in time: all its rows ran live."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setattr(config, "BatchLane", partial(config.BatchLane, cancel_s=0.1))
    (folder / "in.jsonl").write_text("".join(f'{{"text": "row {n}"}}\n' for n in range(5)))
    server.faults = Faults(looks=10**6, cancel_looks=10**6)
    command = asked(server, "--mode", "auto", "--deadline", "2", "--price", "gpt-test=1:2", "--no-progress")
    assert cottonpalm(*command, "--max-tokens", "50").code == 0
    assert (len(server.jobs), len(server.bills)) == (1, 5)
    assert "batch batch_" in cottonpalm("status", "out").out


def test_collect_settles_what_a_deadline_left_out_though_all_rows_are_done(
    server: BatchProvider, given_up: None, cottonpalm: Command
) -> None:
    [job] = server.jobs.values()
    job.cancelled, job.faults = None, Faults(looks=1)  # the cancel came too late
    assert cottonpalm("collect", "out", "--no-progress").code == 0
    assert (job.end, len(server.bills)) == ("done", 5 + len(job.rows))
    assert "batch batch_" not in cottonpalm("status", "out").out
    shown = json.loads(cottonpalm("status", "out", "--json").out)
    assert shown["cost_usd"] == pytest.approx(server.charged({"gpt-test": (10**6, 2 * 10**6)}) / 10**12)


def test_a_cancel_of_what_a_deadline_left_out_waits_for_its_end(
    server: BatchProvider, given_up: None, cottonpalm: Command
) -> None:
    [job] = server.jobs.values()
    job.cancelled, job.faults = None, Faults(looks=10**6, cancel_looks=1)
    said = cottonpalm("cancel", "out", "--no-progress")
    assert said.code == 0, said.err
    assert "no batch is out any more" in said.err
    assert job.end == "cancelled"
    assert "batch batch_" not in cottonpalm("status", "out").out


def test_with_a_deadline_all_rows_but_the_first_two_come_from_a_batch(
    server: BatchProvider, cottonpalm: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    (folder / "in.jsonl").write_text("".join(f'{{"text": "row {n}"}}\n' for n in range(5)))
    server.faults = Faults(turnaround_s=0.0)
    said = cottonpalm(*asked(server, "--mode", "auto", "--deadline", "86400"))
    assert said.code == 0, said.err
    assert [len(job.rows) for job in server.jobs.values()] == [3]


def test_status_knows_how_many_rows_are_left_while_the_first_batch_is_out(
    server: BatchProvider, cottonpalm: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    (folder / "in.jsonl").write_text("".join(f'{{"text": "row {n}"}}\n' for n in range(6)))
    seen = list[dict[str, object]]()

    def look(number: int, rows: int) -> Faults:
        threading.Thread(target=watch).start()
        return Faults(looks=10**6)

    def facts() -> dict[str, object]:
        with closing(sqlite3.connect(folder / "cottonpalm.db")) as db:
            [[meta]] = db.execute("SELECT meta FROM run")
        return json.loads(meta).get("facts", {})  # type: ignore[no-any-return]

    def watch() -> None:
        while not (found := facts()).get("total"):
            threading.Event().wait(0.02)
        seen.append({name: found[name] for name in ("total", "exact")})
        for job in server.jobs.values():
            job.faults = Faults(looks=1)

    server.script = look
    assert cottonpalm(*asked(server, "--mode", "batch")).code == 0
    assert seen == [{"total": 6, "exact": True}]
