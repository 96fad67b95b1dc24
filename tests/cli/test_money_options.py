"""The options about money: what they mean, and what cannot be meant."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import orjson
import pytest

from cottonpalm.cli.checks import check_money
from cottonpalm.cli.options.amounts import prices_of
from cottonpalm.cli.options.keywords import budget_of
from cottonpalm.cli.options.spec import RunSpec
from cottonpalm.cli.problems import Problem
from cottonpalm.observers.words.numbers import money_usd
from tests.cli.conftest import rows
from tests.report.test_page import Page
from tests.support.replies import Reply

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Command
    from tests.support.loopback import Loopback

JOB = RunSpec(input="in.jsonl", output="out.jsonl", folder="/")


def test_prices_are_dollars_per_million_tokens_for_one_model_or_for_all() -> None:
    assert prices_of(["0.15:0.6", "openai/gpt=x=.5:2", "local:big=1:2"]) == {
        "*": (0.15, 0.6),
        "openai/gpt=x": (0.5, 2.0),
        "local:big": (1.0, 2.0),
    }
    assert prices_of([]) is None


@pytest.mark.parametrize("text", ["", "1", "a:b", "gpt=1", "-1:2", "1:2:3", "=1:2"])
def test_a_price_that_is_none_says_how_to_write_one(text: str) -> None:
    with pytest.raises(Problem, match=r"0\.15:0\.60"):
        prices_of([text])


def test_the_budget_has_all_that_was_said() -> None:
    job = replace(JOB, budget_usd=20.0, budget_per_hour_usd=5.0, on_budget="wait", max_output_tokens=300)
    check_money(job)
    budget = budget_of(job)
    assert budget is not None
    assert (budget.total, budget.per_hour, budget.on_exceed, budget.max_output_tokens) == (20, 5, "wait", 300)
    assert budget_of(JOB) is None


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"budget_usd": -1.0}, "--budget -1"),
        ({"budget_per_hour_usd": float("nan")}, "--budget-per-hour nan"),
        ({"on_budget": "sleep"}, "say stop or wait"),
        ({"on_budget": "wait", "budget_usd": 1.0}, "--budget-per-hour"),
        ({"max_output_tokens": 5}, "--model-option max_tokens=N"),
        ({"prices": ["x"]}, "--price x"),
    ],
)
def test_what_cannot_be_meant_says_what_to_mend(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(Problem, match=says):
        check_money(replace(JOB, **wrong))  # type: ignore[arg-type]


def test_amounts_are_shown_in_another_currency_and_counted_in_dollars(
    ask: Command, cottonpalm: Command, folder: Path
) -> None:
    rows(folder / "in.jsonl", 2)
    priced = ("in.jsonl", "-o", "out.jsonl", "--price", "1000:1000", "--max-output-tokens", "50")
    assert "CNY=7.1" in ask(*priced, "--budget", "5", "--currency", "CNY").one_line
    yuan = ask(*priced, "--budget", "5", "--currency", "cny=10")
    [cost] = [line.split()[1] for line in yuan.err.splitlines() if line.startswith("  cost")]
    [told] = [orjson.loads(line)["cost_usd"] for line in cottonpalm("status", "--json").out.splitlines()]
    assert cost.startswith("¥")
    assert float(cost[1:].rstrip(",")) == pytest.approx(10 * told, abs=0.01)
    assert "¥" in cottonpalm("status", "--currency", "CNY=7.1").out
    assert "$" in cottonpalm("status").out
    euros = ("in.jsonl", "-o", "other.jsonl", "--currency", "EUR=0.9", "-p", "{text}", "--dry-run")
    assert cottonpalm("run", *euros, "--model", "openai:gpt-4o-mini").code == 0
    planned = ("in.jsonl", "-m", "openai:gpt-4o-mini", "--base-url", "http://127.0.0.1:9/v1", "-p", "{text}")
    assert "¥" in cottonpalm("plan", *planned, "--currency", "CNY=7.1", "--price", "1:1").out


def test_a_budget_that_does_not_reach_is_told_in_the_currency_that_is_shown(
    ask: Command, folder: Path
) -> None:
    rows(folder / "in.jsonl", 1)
    priced = ("in.jsonl", "-o", "out.jsonl", "--price", "1000:1000", "--max-output-tokens", "50")
    said = ask(*priced, "--budget", "0.001", "--currency", "CNY=10").err
    assert "¥0.0100 is left" in said
    assert "$" not in said


def test_a_page_in_another_currency_is_in_no_other(ask: Command, cottonpalm: Command, folder: Path) -> None:
    rows(folder / "in.jsonl", 3)
    euros = ("--currency", "EUR=0.5")
    words = ("--price", "1000:1000", "--max-output-tokens", "50", "--budget", "0.5", "--report", "page.html")
    assert ask("in.jsonl", "-o", "out.jsonl", *words, *euros).code == 0
    assert cottonpalm("report", "out", "-o", "again.html", *euros).code == 0
    for name in ("page.html", "again.html"):
        said = Page((folder / name).read_text("utf-8")).said
        assert "budget €0.25" in said
        assert "$" not in said
    assert "€" in cottonpalm("report", "out", *euros).out


def test_a_cost_that_is_not_known_is_null_to_programs_and_not_nothing(
    cottonpalm: Command, server: Loopback, folder: Path
) -> None:
    rows(folder / "in.jsonl", 1)
    unknown = ("--model", "openai:no-such-model", "--base-url", server.openai_url, "--prompt", "{text}")
    assert cottonpalm("run", "in.jsonl", "-o", "out.jsonl", *unknown).code == 0
    assert orjson.loads(cottonpalm("status", "--json").out)["cost_usd"] is None
    assert cottonpalm("run", "in.jsonl", "-o", "free.jsonl", *unknown, "--price", "0:0").code == 0
    assert orjson.loads(cottonpalm("status", "free", "--json").out)["cost_usd"] == 0


def test_programs_are_told_what_a_run_may_have_cost_besides(
    ask: Command, cottonpalm: Command, server: Loopback, folder: Path
) -> None:
    rows(folder / "in.jsonl", 2)
    server.script([Reply(usage=False)])
    assert ask("in.jsonl", "-o", "out.jsonl", "--model-option", "max_tokens=20").code == 0
    (line,) = cottonpalm("status", "--json").out.splitlines()
    said = cottonpalm("status", "out").out
    assert f"up to {money_usd(orjson.loads(line)['uncertain_usd'])} besides" in said
