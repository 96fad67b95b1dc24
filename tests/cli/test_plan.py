"""`cottonpalm plan`: what it would cost, on one small screen."""

from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import lines, rows

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Command
    from tests.support.loopback import Loopback

BOUND = ("--model-option", "max_tokens=50")


@pytest.fixture
def plan(cottonpalm: Command, server: Loopback) -> Command:
    model = ("--model", "openai:gpt-5-mini", "--base-url", server.openai_url, "--prompt", "say {text}")
    return lambda *words: cottonpalm("plan", *words, *model)


def test_a_plan_is_printed_and_nothing_is_called_or_made(
    plan: Command, server: Loopback, folder: Path
) -> None:
    (folder / "in.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n{"text": "a"}\n{"txt": 1}\n')
    said = plan("in.jsonl", "-o", "out.jsonl", *BOUND)
    assert said.code == 0
    assert "to ask     3 rows, 1 unreadable\n" in said.out
    assert "repeats    1 row asked before: --cache asks them once\n" in said.out
    assert "tokens out at most 150\n" in said.out
    assert "cost       at most $0.000" in said.out
    assert max(map(len, said.out.splitlines())) <= 80
    assert server.requests == 0
    assert [path.name for path in folder.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize(
    "model",
    ["openai:gpt-5-mini", "anthropic:claude-haiku-4-5", "google:gemini-2.5-flash", "deepseek:deepseek-chat"],
)
def test_a_plan_needs_no_key_but_its_sample_does(
    cottonpalm: Command, folder: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    for name in (
        "OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
        "GOOGLE_API_KEY",
        "GEMINI_API_KEY",
        "DEEPSEEK_API_KEY",
    ):
        monkeypatch.delenv(name, raising=False)
    rows(folder / "in.jsonl", 2)
    asked = ("in.jsonl", "--model", model, "--prompt", "say {text}", *BOUND)
    said = cottonpalm("plan", *asked)
    assert said.code == 0
    assert "cost       at most $0.0" in said.out
    sampled = cottonpalm("plan", *asked, "--sample", "1")
    assert sampled.code == 2
    assert "needs a key" in sampled.one_line


def test_a_sample_is_kept_for_the_run(
    plan: Command, cottonpalm: Command, server: Loopback, folder: Path
) -> None:
    rows(folder / "in.jsonl", 30)
    said = plan("in.jsonl", "-o", "out.jsonl", "--sample", "10", "--concurrency", "5", *BOUND)
    assert "from       10 rows drawn at random and run, for $0.0" in said.out
    assert "time       about" in said.out
    assert server.requests == 10
    model = ("--model", "openai:gpt-5-mini", "--base-url", server.openai_url, "--prompt", "say {text}")
    told = cottonpalm("run", "in.jsonl", "-o", "out.jsonl", *BOUND, *model)
    assert (told.code, server.requests, len(lines(folder / "out.jsonl"))) == (0, 30, 30)
    again = plan("in.jsonl", "-o", "out.jsonl", *BOUND)
    assert "to ask     0 rows, 30 stored\n" in again.out


def test_a_run_of_which_a_sample_was_made_counts_as_stopped_and_not_as_done(
    plan: Command, cottonpalm: Command, server: Loopback, folder: Path
) -> None:
    rows(folder / "in.jsonl", 30)
    words = ("in.jsonl", "-o", "out.jsonl", *BOUND)

    def told() -> str:
        assert cottonpalm("report", "out", "-o", "page.html").code == 0
        page = (folder / "page.html").read_text()
        return unescape(re.sub(r"<[^>]*>", " ", page[page.index("<header") : page.index("</header")]))

    assert plan(*words, "--sample", "10").code == 0
    assert re.search(
        r"Stopped: 10 of 30 rows answered .* Only a sample of it was run, for a plan\.", told(), re.S
    )
    assert plan(*words, "--sample", "5").code == 0
    assert re.search(
        r"Stopped: 15 of 30 .* 5 rows in this life of the run, .*; 10 were done before\.", told(), re.S
    )
    model = ("--model", "openai:gpt-5-mini", "--base-url", server.openai_url, "--prompt", "say {text}")
    assert cottonpalm("run", *words, *model).code == 0
    assert "30 of 30 rows answered" in told()
    assert "Stopped" not in told()


def test_a_sample_of_rows_with_ids_is_kept_under_the_ids_that_the_run_looks_for(
    plan: Command, cottonpalm: Command, server: Loopback, folder: Path
) -> None:
    text = "".join(f'{{"nr": {n}, "text": "row {n}"}}\n' for n in range(12))
    (folder / "in.jsonl").write_text(text)
    words = ("in.jsonl", "-o", "out.jsonl", "--id-field", "nr", *BOUND)
    assert plan(*words, "--sample", "5").code == 0
    assert "to ask     7 rows, 5 stored\n" in plan(*words).out
    model = ("--model", "openai:gpt-5-mini", "--base-url", server.openai_url, "--prompt", "say {text}")
    assert cottonpalm("run", *words, *model).code == 0
    assert (server.requests, len(lines(folder / "out.jsonl"))) == (12, 12)


def test_a_sample_with_a_fallback_and_a_budget_is_kept_for_the_run_that_has_them_too(
    plan: Command, cottonpalm: Command, server: Loopback, folder: Path
) -> None:
    rows(folder / "in.jsonl", 12)
    words = ("in.jsonl", "-o", "out.jsonl", "--fallback", "openai:gpt-4o-mini", "--budget", "1", *BOUND)
    assert plan(*words, "--sample", "5").code == 0
    model = ("--model", "openai:gpt-5-mini", "--base-url", server.openai_url, "--prompt", "say {text}")
    assert cottonpalm("run", *words, *model).code == 0
    assert (server.requests, len(lines(folder / "out.jsonl"))) == (12, 12)


def most(said: str) -> str:
    """The dollars that a plan says the run costs at most."""
    found = re.search(r"^cost +at most \$([\d.]+);", said, re.MULTILINE)
    assert found is not None, said
    return found[1]


def test_a_budget_of_what_the_plan_names_is_enough_and_the_run_refuses_a_smaller_one(
    plan: Command, cottonpalm: Command, server: Loopback, folder: Path
) -> None:
    rows(folder / "in.jsonl", 1)
    words = ("--model-option", "max_tokens=4000")
    amount = most(plan("in.jsonl", *words).out)
    model = ("--model", "openai:gpt-5-mini", "--base-url", server.openai_url, "--prompt", "say {text}")
    less = ("--budget", f"{0.99 * float(amount):.9f}")
    assert cottonpalm("run", "in.jsonl", "-o", "less.jsonl", *less, *model, *words).code == 4
    assert server.requests == 0
    done = cottonpalm("run", "in.jsonl", "-o", "out.jsonl", "--budget", amount, *model, *words)
    assert (done.code, server.requests) == (0, 1)


def test_a_sample_that_is_not_kept_says_so(plan: Command, folder: Path) -> None:
    rows(folder / "in.jsonl", 3)
    said = plan("in.jsonl", "--sample", "1")
    assert "not kept: name the run" in said.err
    assert "from one row: it may be far more" in said.out


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (("none.jsonl", "--model", "openai:gpt-4o", "--prompt", "{text}"), "none.jsonl"),
        (("in.jsonl", "--model", "nobody:x", "--prompt", "{text}"), "nobody"),
        (("in.jsonl", "--model", "openai:gpt-4o", "--prompt", "{tekst}"), "names {tekst}"),
        (("in.jsonl",), "--prompt"),
        (("in.jsonl", "--model", "openai:gpt-4o", "--prompt", "{text}", "--sample", "-1"), "--sample"),
    ],
)
def test_what_cannot_be_planned_is_one_line(
    cottonpalm: Command, folder: Path, words: tuple[str, ...], word: str
) -> None:
    rows(folder / "in.jsonl", 2)
    said = cottonpalm("plan", *words)
    assert said.code == 2
    assert word in said.one_line


def test_a_plan_from_the_only_row_that_can_be_asked_names_no_most(cottonpalm: Command, folder: Path) -> None:
    asked = '{"text": [{"role": "user", "content": "hi"}]}\n'
    (folder / "in.jsonl").write_text(asked + '{"text": 5}\n{"text": 6}\n')
    model = ("--model", "openai:gpt-4o-mini", "--base-url", "http://127.0.0.1:9/v1", *BOUND)
    said = cottonpalm("plan", "in.jsonl", "--messages", "text", *model)
    assert said.code == 0
    assert "tokens out about 150, from one row: it may be far more\ncost       about $0.0000" in said.out


def test_a_plan_with_a_schema_runs_its_sample_by_it(plan: Command, server: Loopback, folder: Path) -> None:
    (folder / "in.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
    (folder / "form.json").write_text(
        '{"title": "Label", "type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}'
    )
    said = plan("in.jsonl", "--schema", "form.json", *BOUND)
    assert said.code == 0
    assert "to ask     2 rows\n" in said.out
    assert server.requests == 0
    assert "cannot read no.json" in plan("in.jsonl", "--schema", "no.json", *BOUND).one_line
