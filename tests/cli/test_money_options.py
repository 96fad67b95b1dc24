"""The options about money: what they mean, and what cannot be meant."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cottonpalm.cli.amounts import prices_of
from cottonpalm.cli.checks import check_money
from cottonpalm.cli.problems import Problem
from cottonpalm.cli.spec import RunSpec

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
    budget = job.budget()
    assert budget is not None
    assert (budget.total, budget.per_hour, budget.on_exceed, budget.max_output_tokens) == (20, 5, "wait", 300)
    assert JOB.budget() is None


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
