"""Options that several commands take do for each of them what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cottonpalm.cli.writers.csv_table import guarded
from tests.cli.conftest import lines, rows
from tests.support.replies import Reply, fails

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Command, Said
    from tests.support.loopback import Loopback

pytestmark = pytest.mark.core
MODULE = """
from langchain_core.runnables import RunnableLambda
same = RunnableLambda(lambda row: row["text"])
"""


@pytest.fixture
def plan(cottonpalm: Command, server: Loopback, folder: Path) -> Command:
    rows(folder / "in.jsonl", 8)

    def command(*words: str, prompt: tuple[str, ...] = ("--prompt", "say {text}")) -> Said:
        model = ("--model", "openai:nobody-knows-me", "--base-url", server.openai_url)
        said = cottonpalm("plan", "in.jsonl", *model, *prompt, *words)
        assert server.requests == 0
        return said

    return command


def test_a_plan_of_a_chain_of_ones_own_counts_its_rows(cottonpalm: Command, folder: Path) -> None:
    rows(folder / "in.jsonl", 8)
    (folder / "cp_every.py").write_text(MODULE)
    said = cottonpalm("plan", "in.jsonl", "--chain", "cp_every:same", "--limit", "3")
    assert said.code == 0, said.err
    assert "to ask     3 rows" in said.out


def test_a_plan_takes_prices_and_maxima_for_what_nobody_knows(plan: Command) -> None:
    assert "at most $" not in plan().out
    said = plan("--price", "1:2", "--max-output-tokens", "10", "--budget", "1")
    assert said.code == 0, said.err
    assert "tokens out at most 80\n" in said.out
    assert "cost       at most $0.00" in said.out


def test_a_plan_reads_the_prompt_from_a_file_and_counts_the_system_message(
    plan: Command, folder: Path
) -> None:
    (folder / "prompt.txt").write_text("say {text}")
    bounds = ("--price", "1:2", "--max-output-tokens", "10", "--budget", "1")
    short = plan(*bounds, prompt=("--prompt-file", "prompt.txt"))
    long = plan(*bounds, "--system", "word " * 2_000, prompt=("--prompt-file", "prompt.txt"))
    assert short.code == long.code == 0
    assert short.out != long.out


def test_a_plan_takes_an_hours_money_as_the_run_will(plan: Command) -> None:
    said = plan(
        *("--price", "1:2", "--max-output-tokens", "10", "--budget-per-hour", "0.0001", "--on-budget", "wait")
    )
    assert said.code == 0, said.err
    assert "tokens out at most 80\n" in said.out, "the maximum that only a budget sends along"


def test_a_plan_looks_into_the_store_and_the_run_that_are_named(
    ask: Command, cottonpalm: Command, server: Loopback, folder: Path
) -> None:
    rows(folder / "in.jsonl", 3)
    here = ("--store", "other.db", "--run", "mine")
    assert ask("in.jsonl", "-o", "out.jsonl", *here).code == 0
    rows(folder / "in.jsonl", 8)
    model = ("--model", "openai:gpt-4o-mini", "--base-url", server.openai_url, "--prompt", "say {text}")
    assert "to ask     5 rows, 3 stored" in cottonpalm("plan", "in.jsonl", *here, *model).out
    quiet = cottonpalm("plan", "in.jsonl", *here, *model, "--quiet")
    assert (quiet.code, quiet.err, server.requests) == (0, "", 3)


def _done(ask: Command, folder: Path, *words: str) -> None:
    rows(folder / "in.jsonl", 2)
    assert ask("in.jsonl", "-o", "out.jsonl", *words).code == 0


def test_status_export_and_rm_work_on_the_store_that_is_named(
    ask: Command, cottonpalm: Command, folder: Path
) -> None:
    _done(ask, folder, "--store", "other.db")
    here = ("--store", "other.db")
    assert "out" in cottonpalm("status", *here).out
    assert cottonpalm("export", "out", "-o", "copy.jsonl", *here).code == 0
    assert len(lines(folder / "copy.jsonl")) == 2
    assert cottonpalm("retry", "out", *here).code == 0, "nothing has failed"
    assert cottonpalm("rm", "out", "--yes", *here).code == 0
    assert "out" not in cottonpalm("status", *here).out.split()


def test_an_export_guards_formulas_when_it_is_asked_to(
    ask: Command, cottonpalm: Command, folder: Path
) -> None:
    (folder / "in.jsonl").write_text('{"text": "=1+1"}\n')
    assert ask("in.jsonl", "-o", "out.jsonl").code == 0
    assert cottonpalm("export", "out", "-o", "bare.csv").code == 0
    assert cottonpalm("export", "out", "-o", "guarded.csv", "--guard-formulas").code == 0
    assert ",'=1+1" in "," + (folder / "guarded.csv").read_text().replace("\n", ",")
    assert "'=1+1" not in (folder / "bare.csv").read_text()


@pytest.mark.parametrize("sign", [*"=+-@\uff1d\uff0b\uff0d\uff20"])
@pytest.mark.parametrize(
    "begin", ["", " ", "\t", "\r", "\n", "\0", "\ufeff", "\u200b", "\xa0", "\u3000 ", "\x1f\u2060", "\u202e"]
)
def test_whatever_stands_unseen_before_a_sign_it_is_a_formula(begin: str, sign: str) -> None:
    assert guarded(f"{begin}{sign}A1") == f"'{begin}{sign}A1"


@pytest.mark.parametrize("text", ["", "a=b", " a", "-1", "+2.5e3", " -5 ", "5-3", "'=1", "x\t=1"])
def test_what_is_no_formula_stays_as_it_is(text: str) -> None:
    assert guarded(text) == text


def test_a_retry_tells_more_and_draws_nothing_when_it_is_asked_to(
    ask: Command, cottonpalm: Command, server: Loopback, folder: Path
) -> None:
    server.script([fails(400)])
    rows(folder / "in.jsonl", 1)
    assert ask("in.jsonl", "-o", "out.jsonl").code == 3
    said = cottonpalm("retry", "out", "--no-progress", "--verbose")
    assert said.code == 0, said.err
    assert [line["status"] for line in lines(folder / "out.jsonl")] == ["ok"]
    assert len(said.err) > len(cottonpalm("retry", "out", "--no-progress").err)


def test_a_request_that_takes_longer_than_the_timeout_is_sent_again_as_often_as_asked(
    cottonpalm: Command, server: Loopback, folder: Path
) -> None:
    rows(folder / "in.jsonl", 1)
    server.script([Reply(ending="held")])
    model = ("--model", "openai:gpt-4o-mini", "--base-url", server.openai_url, "--prompt", "say {text}")
    said = cottonpalm("run", "in.jsonl", "-o", "out.jsonl", *model, "--timeout", "0.3", "--retries", "1")
    assert said.code == 0, said.err
    assert server.requests == 2
