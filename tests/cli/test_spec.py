"""An option is declared once: what is typed becomes a spec, what is kept keeps its names, a processor is told all."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from cottonpalm import BatchProcessor, Budget, Cache, RateLimit
from cottonpalm.cli.options import of_commands as o
from cottonpalm.cli.options.keywords import keywords_of
from cottonpalm.cli.options.spec import RunSpec
from cottonpalm.cli.options.takes import takes
from cottonpalm.cli.problems import Problem
from cottonpalm.shell import JOB

pytestmark = pytest.mark.core

# Stored runs have these: `retry` and `status` read them, whatever the options are called.
KEPT = (
    *(
        "input",
        "output",
        "folder",
        "chain",
        "model",
        "prompt",
        "system",
        "literal_braces",
        "messages",
        "images",
        "requests",
        "times",
        "vote",
        "columns",
        "schema",
        "model_options",
        "base_url",
    ),
    *(
        "replica_urls",
        "accept_truncated",
        "concurrency",
        "max_concurrency",
        "rpm",
        "tpm",
        "timeout_s",
        "no_hedge",
        "transport",
        "retries",
    ),
    *("fallbacks", "max_failures", "budget_usd", "budget_per_hour_usd", "on_budget", "prices"),
    *(
        "max_output_tokens",
        "prompt_cache",
        "mode",
        "detach",
        "deadline_s",
        "batch_hosts",
        "executor",
        "workers",
        "ray_address",
        "cache",
        "id_field",
        "priority_field",
        "limit",
        "delimiter",
        "encoding",
        "input_format",
        "bom",
        "guard_formulas",
        "input_kept",
        "unkept",
    ),
)
OPTIONS = [name for name in KEPT if name not in {"folder", "replica_urls", "input_kept", "unkept"}]


class NoChains(NamedTuple):
    fallbacks: tuple[()] = ()
    replicas: tuple[()] = ()
    validate: None = None


def spec_of(*words: str, names: str = " ".join(OPTIONS), **instead: object) -> RunSpec:
    """The spec that a command with these options gets of these words."""
    app, got = typer.Typer(), list[RunSpec]()

    @app.command()
    @takes(names, **instead)
    def command(context: typer.Context, job: RunSpec) -> int:
        got.append(job)
        return 0

    app(args=list(words), standalone_mode=False)
    return got[0]


def test_what_is_kept_of_a_run_keeps_its_names() -> None:
    job = RunSpec(input="in.jsonl", output="-")
    assert [field.name for field in fields(RunSpec)] == list(KEPT)
    assert list(job.as_json()[JOB]) == ["version", *KEPT]
    assert RunSpec.of(job.as_json(), "one") == job


def test_a_command_that_is_told_nothing_gets_the_defaults(folder: Path) -> None:
    assert spec_of("in.jsonl", "-o", "-") == RunSpec(input=str(folder / "in.jsonl"), output="-")


def test_every_option_reaches_its_field_as_it_is_kept(folder: Path) -> None:
    words = (
        "in.jsonl -o out.csv --chain app:chain -m local:a.gguf -p {text} --system s --schema app:Form "
        "--model-option temperature=0 --model-option stop=x --base-url http://a/v1 --base-url http://b/v1 "
        "--base-url http://c/v1 --accept-truncated -c 7 --max-concurrency 9 --rpm 10 --tpm 11 --timeout 12 --retries 0 "
        "--fallback openai:x --fallback local:b.gguf --max-failures 5% --budget 1 --budget-per-hour 2 --on-budget wait "
        "--price 1:2 --price gpt=3:4 --max-output-tokens 13 --cache --id-field nr --priority-field p --limit 14 "
        "--guard-formulas --no-hedge --literal-braces --delimiter ; --encoding gbk --input-format csv --bom "
        "--prompt-cache off"
    )
    assert spec_of(*words.split()) == RunSpec(
        input=str(folder / "in.jsonl"),
        output=str(folder / "out.csv"),
        folder=str(folder),
        chain="app:chain",
        model=f"local:{folder / 'a.gguf'}",
        prompt="{text}",
        system="s",
        schema="app:Form",
        model_options={"temperature": 0, "stop": "x"},
        base_url="http://a/v1",
        replica_urls=["http://b/v1", "http://c/v1"],
        accept_truncated=True,
        concurrency="7",
        max_concurrency=9,
        rpm=10,
        tpm=11,
        timeout_s=12,
        no_hedge=True,
        prompt_cache="off",
        retries=0,
        fallbacks=["openai:x", f"local:{folder / 'b.gguf'}"],
        max_failures=0.05,
        budget_usd=1,
        budget_per_hour_usd=2,
        on_budget="wait",
        prices=["1:2", "gpt=3:4"],
        max_output_tokens=13,
        cache=True,
        id_field="nr",
        priority_field="p",
        limit=14,
        literal_braces=True,
        delimiter=";",
        encoding="gbk",
        input_format="csv",
        bom=True,
        guard_formulas=True,
    )


@pytest.mark.parametrize(
    ("words", "says"), [(("--max-failures", "x"), "--max-failures x"), (("--model-option", "x"), "KEY=VALUE")]
)
def test_what_cannot_be_meant_is_a_problem_of_that_option(words: tuple[str, ...], says: str) -> None:
    with pytest.raises(Problem, match=says):
        spec_of("in.jsonl", "-o", "-", *words)


def test_a_command_may_declare_an_option_otherwise_and_let_it_be_left_out(folder: Path) -> None:
    names, declared = "input output", {"output": o.PlannedOutput}
    assert spec_of("in.jsonl", names=names, **declared).output == ""
    assert spec_of("in.jsonl", "-o", "x.csv", names=names, **declared).output == str(folder / "x.csv")


def test_options_stand_in_the_order_in_which_the_command_names_them_between_its_own() -> None:
    app = typer.Typer(add_completion=False)

    @app.command()
    @takes("input limit quiet retries output store")
    def command(
        context: typer.Context, job: RunSpec, *, store: o.StoreUrl = "x.db", quiet: o.Quiet = False
    ) -> int:
        """Do it."""
        raise AssertionError

    made = typer.main.get_command(app)
    assert " ".join(str(option.name) for option in made.params) == "input limit quiet retries output store"
    assert (made.name, made.help) == ("command", "Do it.")


def test_what_a_processor_is_told_are_its_parameters_and_all_of_the_spec_that_concerns_it() -> None:
    job = RunSpec(
        input="in.jsonl",
        output="-",
        concurrency="7",
        rpm=10,
        timeout_s=12,
        retries=0,
        max_failures=5,
        budget_usd=1,
        prices=["1:2"],
        cache=True,
        transport="stock",
        accept_truncated=True,
    )
    told = keywords_of(job, NoChains(), "kept.db")
    assert set(told) < set(inspect.signature(BatchProcessor).parameters)
    budget, cache = told.pop("budget"), told.pop("cache")
    assert isinstance(budget, Budget)
    assert budget.total == 1
    assert isinstance(cache, Cache)
    assert cache.path == str(Path("kept.db").absolute())
    assert told == {
        "concurrency": 7,
        "rate_limit": RateLimit(10, None),
        "retry": 0,
        "fallbacks": (),
        "replicas": (),
        "validate": None,
        "max_failures": 5,
        "prices": {"*": (1.0, 2.0)},
        "timeout": 12,
        "hedge": True,
        "prompt_cache": "on",
        "transport": "stock",
        "accept_truncated": True,
    }
    assert keywords_of(RunSpec(input="-", output="-"), NoChains(), "kept.db")["cache"] is None


def test_no_hedge_is_told_to_the_processor() -> None:
    assert keywords_of(RunSpec(input="-", output="-"), NoChains(), "kept.db")["hedge"] is True
    assert keywords_of(RunSpec(input="-", output="-", no_hedge=True), NoChains(), "kept.db")["hedge"] is False


def test_a_prompt_of_ours_asks_for_the_prompt_cache_and_a_chain_only_when_told_to() -> None:
    def told(**options: Any) -> Any:
        return keywords_of(RunSpec(input="-", output="-", **options), NoChains(), "kept.db")["prompt_cache"]

    assert told() == "on"
    assert told(chain="app:chain") == "auto"
    assert told(chain="app:chain", prompt_cache="on") == "on"
    assert told(prompt_cache="off") == "off"
    with pytest.raises(Problem, match="--prompt-cache maybe: say auto, on or off"):
        told(prompt_cache="maybe")
