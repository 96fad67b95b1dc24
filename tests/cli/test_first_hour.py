"""The first hour: providers by name, keys from a file, options from a file, and words that were nearly right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cottonpalm.cli.chains.compatible import COMPATIBLE
from cottonpalm.cli.chains.models import build_model
from cottonpalm.cli.problems import Problem
from tests.cli.conftest import lines, rows
from tests.support.replies import fails

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Command
    from tests.support.loopback import Loopback

KEY = "DEEPSEEK_API_KEY"


def told(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """Whatever the command puts there leaves the environment after the test."""
    monkeypatch.setenv(key, "x")
    monkeypatch.delenv(key)


@pytest.mark.core
def test_a_server_that_speaks_openais_protocol_is_named_like_any_provider(
    cottonpalm: Command, folder: Path, server: Loopback
) -> None:
    rows(folder / "in.jsonl", 1)
    for name in ("ollama:llama3.2", "deepseek:deepseek-chat"):
        words = ("--model", name, "--base-url", server.openai_url, "--prompt", "{text}", "--fresh")
        assert cottonpalm("run", "in.jsonl", "-o", "out.jsonl", *words).code == 0
    assert server.requests == 2


def test_a_named_server_has_its_own_address_and_key(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv(KEY, "sk-own")
    model = build_model("deepseek:deepseek-chat", {}, None)
    assert model.openai_api_base == COMPATIBLE["deepseek"].url  # type: ignore[attr-defined]
    assert model.openai_api_key.get_secret_value() == "sk-own"  # type: ignore[attr-defined]
    monkeypatch.delenv(KEY)
    with pytest.raises(Problem, match=f"needs a key: export {KEY}=…"):
        build_model("deepseek:deepseek-chat", {}, None)
    assert build_model("ollama:llama3.2", {}, None).openai_api_base == "http://127.0.0.1:11434/v1"  # type: ignore[attr-defined]


def test_what_langchain_knows_besides_names_the_package_to_install(folder: Path) -> None:
    with pytest.raises(Problem, match=r"pip install langchain langchain-cohere") as caught:
        build_model("cohere:command-r", {}, None)
    assert "None" not in str(caught.value)
    with pytest.raises(Problem, match=r"did you mean mistral\?"):
        build_model("mistrall:small", {}, None)


@pytest.mark.core
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])  # the last by `>` in PowerShell
def test_keys_come_from_an_env_file_which_is_named(
    cottonpalm: Command, folder: Path, server: Loopback, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    told(monkeypatch, KEY)
    rows(folder / "in.jsonl", 1)
    kept = f"export {KEY}='sk-from-file' # mine\nOTHER_SECRET=no\n"
    (folder / ".env").write_text(kept, encoding=encoding)
    heads: list[bytes] = []
    server.script(lambda request: heads.append(request.head))  # type: ignore[func-returns-value]
    words = ("--model", "deepseek:x", "--base-url", server.openai_url, "--prompt", "{text}")
    said = cottonpalm("run", "in.jsonl", "-o", "out.jsonl", *words)
    assert (said.code, f"note: {KEY} from .env" in said.err) == (0, True)
    assert b"Bearer sk-from-file" in heads[0]


def test_a_stored_run_goes_on_with_the_keys_it_was_begun_with(
    cottonpalm: Command, folder: Path, server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows(folder / "in.jsonl", 1)
    server.script([fails(400)])
    found = {"OPENAI_API_KEY": "sk-from-file", "OPENAI_BASE_URL": server.openai_url}
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in found.items()))
    run = ("run", "in.jsonl", "-o", "out.jsonl", "--model", "openai:gpt-4o-mini", "--prompt", "{text}")
    for words in (run, ("retry", "out"), ("collect", "out"), ("cancel", "out")):
        for name in found:
            told(monkeypatch, name)
        said = cottonpalm(*words)
        assert (said.code, "note: OPENAI_API_KEY, OPENAI_BASE_URL from .env" in said.err) == (
            3 if words is run else 0,
            True,
        )


@pytest.mark.parametrize("in_file", [False, True])
def test_what_is_blank_round_a_key_is_no_part_of_it(
    cottonpalm: Command, folder: Path, server: Loopback, monkeypatch: pytest.MonkeyPatch, in_file: bool
) -> None:
    rows(folder / "in.jsonl", 1)
    told(monkeypatch, "OPENAI_API_KEY")
    if in_file:
        (folder / ".env").write_text('OPENAI_API_KEY=" sk-pasted  "\n')
    else:
        monkeypatch.setenv("OPENAI_API_KEY", " sk-pasted\r\n")
    heads: list[bytes] = []
    server.script(lambda request: heads.append(request.head))  # type: ignore[func-returns-value]
    words = ("--model", "openai:gpt-4o-mini", "--base-url", server.openai_url, "--prompt", "{text}")
    assert cottonpalm("run", "in.jsonl", "-o", "out.jsonl", *words).code == 0
    assert b"Bearer sk-pasted\r\n" in heads[0]


def test_a_key_without_a_model_asks_for_one_and_fetches_nothing(
    cottonpalm: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    rows(folder / "in.jsonl", 1)
    said = cottonpalm("run", "in.jsonl", "-o", "out.jsonl", "--prompt", "{text}").one_line
    assert "OPENAI_API_KEY is set, so perhaps --model openai:gpt-4o-mini" in said


@pytest.mark.core
def test_options_come_from_a_file_and_the_command_line_goes_before_it(
    cottonpalm: Command, folder: Path, server: Loopback
) -> None:
    rows(folder / "in.jsonl", 3)
    (folder / "cottonpalm.toml").write_text(
        f'[run]\nmodel = "openai:gpt-4o-mini"\nbase-url = ["{server.openai_url}"]\nprompt = "file {{text}}"\n'
        'output = "out.jsonl"\nretries = 0\n[profile.trial]\nlimit = 1\n'
    )
    assert cottonpalm("run", "in.jsonl", "--profile", "trial").code == 0
    assert [line["output"] for line in lines(folder / "out.jsonl")] == ["answer to: file row-0"]
    assert cottonpalm("run", "in.jsonl", "-o", "two.jsonl", "--prompt", "said {text}").code == 0
    assert lines(folder / "two.jsonl")[2]["output"] == "answer to: said row-2"
    assert "2 rows" in cottonpalm("plan", "in.jsonl", "--profile=trial", "--limit", "2").out
    (folder / "other.toml").write_text('[run]\npromt = "{text}"\n')
    said = cottonpalm("run", "in.jsonl", "-o", "x.jsonl", "--config", "other.toml").one_line
    assert "other.toml: no option 'promt'; did you mean prompt?" in said
    (folder / "loose.toml").write_text('model = "openai:gpt-4o-mini"\n')
    said = cottonpalm("run", "in.jsonl", "-o", "x.jsonl", "--config", "loose.toml").one_line
    assert "loose.toml: 'model' stands outside of [run] and [profile.NAME]; put it below [run]" in said
    assert (
        "'trial'"
        in cottonpalm("plan", "in.jsonl", "--profile", "tryal", "--config", "cottonpalm.toml").one_line
    )


@pytest.mark.parametrize("word", ["no-cache = true", "no_cache = true", "cache = false"])
def test_a_no_in_the_file_means_no(ask: Command, server: Loopback, folder: Path, word: str) -> None:
    (folder / "in.jsonl").write_text('{"text": "same"}\n' * 3)
    (folder / "cottonpalm.toml").write_text(f"[run]\n{word}\n")
    assert ask("in.jsonl", "-o", "out.jsonl").code == 0
    assert server.requests == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[run]\nprompt = ["{text}"]\n', "prompt = ['{text}']: give one value, not a list"),
        ("[run]\nno-cache = 3\n", "no-cache = 3: say true or false"),
        ("run = 3\n", "write [run] on a line of its own, and its options below"),
        ('profile = "trial"\n', "write [profile.NAME] on a line of its own, and its options below"),
        ("[profile]\ntrial = 3\n", "write [profile.trial] on a line of its own, and its options below"),
        ('[run]\nbudget = "five"\n', "Invalid value for '--budget': Input should be a valid number"),
        ("[run]\nretries = 2.5\n", "Invalid value for '--retries': Input should be a valid integer"),
        ("[profile.trial]\nlimit = 0\n", "Invalid value for '--limit': "),
        (
            '[run]\nprofile = "dear"\n',
            "profile stands in the file that it chooses from: say --profile on",
        ),
        (
            '[profile.trial]\nconfig = "x.toml"\n',
            "config stands in the file that it chooses from: say --config on",
        ),
        ("[run]\nlimit = true\n", "limit = true: this option takes a value, not true or false"),
    ],
)
def test_what_the_file_cannot_mean_is_said(cottonpalm: Command, folder: Path, text: str, says: str) -> None:
    rows(folder / "in.jsonl", 1)
    (folder / "cottonpalm.toml").write_text(text)
    profile = ("--profile", "trial") if "trial" in text else ()
    assert f"cottonpalm.toml: {says}" in cottonpalm("run", "in.jsonl", "-o", "out.jsonl", *profile).one_line


def test_a_wrong_value_on_the_command_line_is_not_the_files(cottonpalm: Command, folder: Path) -> None:
    rows(folder / "in.jsonl", 1)
    (folder / "other.toml").write_text("[run]\nbudget = 5\nretries = 2.5\n")
    words = ("run", "in.jsonl", "-o", "out.jsonl", "--config", "other.toml")
    assert cottonpalm(*words).one_line.startswith("cottonpalm: other.toml: Invalid value for '--retries'")
    said = cottonpalm(*words, "--retries", "1", "--budget", "five").one_line
    assert said.startswith("cottonpalm: Invalid value for '--budget'")


@pytest.mark.parametrize(
    ("text", "typed", "says"),
    [
        ("budget = -3\n", (), "--budget -3: say a number of US dollars, 0 or more (budget stands in {file})"),
        ('mode = "cheap"\n', (), '"auto" (mode stands in {file})'),
        ('mode = "cheap"\n', ("--mode", "dear"), '--mode dear: say "live", "batch" or "auto"'),
        (
            'prompt-file = "none.txt"\n',
            (),
            "say --prompt or --prompt-file, not both (prompt and prompt-file stand in {file})",
        ),
        ("", ("--chain", "app:chain"), "leave out --prompt (prompt stands in {file})"),
    ],
)
def test_what_is_refused_once_all_is_read_names_the_file_where_it_stands(
    cottonpalm: Command, folder: Path, text: str, typed: tuple[str, ...], says: str
) -> None:
    rows(folder / "in.jsonl", 1)
    (folder / "other.toml").write_text(f'[run]\nprompt = "{{text}}"\n{text}')
    model = () if "--chain" in typed else ("-m", "vllm:some-model")
    said = cottonpalm("run", "in.jsonl", "-o", "out.jsonl", "--config", "other.toml", *model, *typed)
    assert said.one_line.endswith(says.format(file="other.toml")), said.err


def test_what_only_a_run_can_do_may_stand_in_the_file_when_it_is_planned(
    cottonpalm: Command, folder: Path
) -> None:
    rows(folder / "in.jsonl", 2)
    (folder / "cottonpalm.toml").write_text(
        '[run]\nmodel = "openai:gpt-4o-mini"\nbase-url = "http://127.0.0.1:9/v1"\nprompt = "{text}"\n'
        'executor = "processes"\nworkers = 2\nstream = true\ncolumns = "a"\nsample = 0\ndashboard = true\n'
    )
    assert "2 rows" in cottonpalm("plan", "in.jsonl").out
    assert cottonpalm("run", "in.jsonl", "-o", "out.jsonl", "--dry-run").code == 0


def test_an_option_that_may_be_given_several_times_needs_no_list(
    cottonpalm: Command, folder: Path, server: Loopback
) -> None:
    rows(folder / "in.jsonl", 1)
    (folder / "cottonpalm.toml").write_text(
        f'[run]\nmodel = "openai:gpt-4o-mini"\nprompt = "{{text}}"\nbase-url = "{server.openai_url}"\n'
    )
    assert cottonpalm("run", "in.jsonl", "-o", "out.jsonl").code == 0


def test_init_writes_a_file_that_is_read_and_changes_nothing(
    cottonpalm: Command, ask: Command, folder: Path
) -> None:
    assert cottonpalm("init").code == 0
    rows(folder / "in.jsonl", 1)
    assert ask("in.jsonl", "-o", "out.jsonl").code == 0
    assert "is here already" in cottonpalm("init").one_line


def test_temperature_and_max_tokens_have_words_of_their_own(
    ask: Command, cottonpalm: Command, folder: Path, server: Loopback
) -> None:
    rows(folder / "in.jsonl", 1)
    bodies: list[dict[str, Any]] = []
    server.script(lambda request: bodies.append(request.body))  # type: ignore[func-returns-value]
    assert ask("in.jsonl", "-o", "out.jsonl", "--temperature", "0", "--max-tokens", "7").code == 0
    assert (bodies[0]["temperature"], bodies[0]["max_completion_tokens"]) == (0, 7)
    words = ("--model", "openai:gpt-4o-mini", "--base-url", server.openai_url, "--prompt", "{text}")
    assert cottonpalm("plan", "in.jsonl", *words, "--temperature", "0", "--max-tokens", "7").code == 0
    assert "--temperature" in ask("in.jsonl", "-o", "out.jsonl", "--temprature", "0").one_line
