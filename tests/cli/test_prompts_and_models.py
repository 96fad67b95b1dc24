"""The row prompt, models by name, and the user's own chain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cottonpalm.cli.chains.importing import load_chain
from cottonpalm.cli.chains.models import build_model, check_model
from cottonpalm.cli.chains.prompts import row_prompt
from cottonpalm.cli.options.model_options import check_urls, keepable, parse_options
from cottonpalm.cli.problems import Problem

if TYPE_CHECKING:
    from pathlib import Path


def texts(template: str, row: dict[str, object], system: str | None = None) -> list[str]:
    return [str(message.content) for message in row_prompt(template, system, row, "rows.csv").invoke(row)]


def test_known_columns_are_replaced_and_every_other_brace_stays() -> None:
    row = {"text": "{id} {text}", "id": "7"}
    assert texts('{text} {{other}} {{id}} {"json": {}} {3}', row) == [
        '{id} {text} {other} {7} {"json": {}} {3}'
    ]
    meant = row_prompt("{text} {other} {{other}} {text.upper} {text!r}", None, row, "rows.csv", literal=True)
    assert meant.invoke(row)[0].content == "{id} {text} {other} {{other}} {text.upper} {text!r}"


def test_values_that_are_no_text_are_put_in_as_json() -> None:
    row = {"a": None, "b": [1, "ü"], "c": True, "d": 2**70}
    assert texts("{a}|{b} {c} {d}", row) == [f'|[1,"ü"] true {2**70}'], "nothing is no word"


def test_column_names_may_hold_anything() -> None:
    assert texts("{a b} {x.y} {(}", {"a b": "1", "x.y": "2", "(": "3"}) == ["1 2 3"]


def test_the_system_message_comes_first_and_is_filled_too() -> None:
    assert texts("{text}", {"text": "q", "tone": "kind"}, system="be {tone}") == ["be kind", "q"]


def test_a_prompt_without_a_column_is_refused_and_the_columns_are_named() -> None:
    with pytest.raises(Problem, match=r"names no column of rows\.csv.*\{text\}, \{id\}"):
        row_prompt("Is it good?", None, ["text", "id"], "rows.csv")
    with pytest.raises(
        Problem, match=r"names \{txt\}, which is no column of rows\.csv; did you mean \{text\}\?"
    ):
        row_prompt("Is {txt} good?", None, ["text", "id"], "rows.csv")


@pytest.mark.parametrize(("template", "system"), [("{text} {lable}", None), ("{text}", "say {lable}")])
def test_a_misspelt_column_beside_a_right_one_is_refused_with_the_nearest(
    template: str, system: str | None
) -> None:
    with pytest.raises(
        Problem, match=r"names \{lable\}.*did you mean \{label\}\?.*\{\{lable\}\}.*--literal-braces"
    ):
        row_prompt(template, system, ["text", "label"], "rows.csv")


def test_the_prompt_shows_what_it_is_made_of_and_only_the_columns_it_uses() -> None:
    prompt = row_prompt("{text}", "s", ["id", "text"], "rows.csv")
    assert (prompt.template, prompt.system, prompt.columns) == ("{text}", "s", ("text",))


def test_model_options_are_json_where_they_are_json() -> None:
    given = ["temperature=0", 'stop=["a"]', "name=gpt-4", "seed=007", "user="]
    assert parse_options(given) == {
        "temperature": 0,
        "stop": ["a"],
        "name": "gpt-4",
        "seed": "007",
        "user": "",
    }


@pytest.mark.parametrize("pair", ["temperature", "=1", "a b=1"])
def test_a_model_option_without_key_or_value_is_refused(pair: str) -> None:
    with pytest.raises(Problem, match="write KEY=VALUE"):
        parse_options([pair])


@pytest.mark.parametrize("key", ["api_key", "openai_api_key", "auth_token", "password"])
def test_a_key_on_the_command_line_is_refused_without_repeating_it(key: str) -> None:
    with pytest.raises(Problem, match="environment variable") as caught:
        parse_options([f"{key}=sk-very-secret"])
    assert "sk-very-secret" not in str(caught.value)


def test_a_proxys_password_on_the_command_line_is_refused_without_repeating_it() -> None:
    with pytest.raises(Problem, match="belongs in HTTPS_PROXY") as caught:
        parse_options(["openai_proxy=http://me:hidden@gate:3128"])
    assert "hidden" not in str(caught.value)
    assert parse_options(["openai_proxy=http://gate:3128/?a@b"]) == {"openai_proxy": "http://gate:3128/?a@b"}


def test_options_that_may_hold_secrets_are_not_kept() -> None:
    options = {"temperature": 0, "default_headers": {"x": "y"}, "extra_body": {"grammar": "g"}}
    assert keepable(options) == ({"temperature": 0, "extra_body": {"grammar": "g"}}, ["default_headers"])
    assert keepable({"extra_body": {"a": {"api_key": "s"}}})[1] == ["extra_body"]
    assert keepable({"extra_body": {"a": "http://me:hidden@gate"}})[1] == ["extra_body"]


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x", "http://"])
def test_a_base_url_must_be_whole(url: str) -> None:
    with pytest.raises(Problem, match="write the whole address"):
        check_urls([url])


@pytest.mark.parametrize("url", ["https://me:hidden@example.com/v1", "https://example.com/v1?a=b&key=hidden"])
def test_a_secret_in_the_base_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(Problem, match="set the provider's environment variable") as caught:
        check_urls([url])
    assert "hidden" not in str(caught.value)


def test_a_query_that_holds_no_secret_may_stand_in_the_base_url() -> None:
    check_urls(["https://example.com/v1?api-version=2024-10-21"])


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "OPENAI_API_BASE",
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_BASE_URL",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_keys")
@pytest.mark.parametrize(
    ("spec", "variable"),
    [("openai:gpt-4o-mini", "OPENAI_API_KEY"), ("anthropic:claude-x", "ANTHROPIC_API_KEY")],
)
def test_a_missing_key_is_one_line_that_names_the_variable(spec: str, variable: str) -> None:
    with pytest.raises(Problem, match=f"export {variable}="):
        build_model(spec, {}, None)


@pytest.mark.usefixtures("no_keys")
def test_a_server_of_ones_own_needs_no_key() -> None:
    assert build_model("openai:x", {}, "http://127.0.0.1:1/v1").openai_api_base == "http://127.0.0.1:1/v1"
    assert build_model("anthropic:x", {"max_tokens": 5}, "http://127.0.0.1:1").max_tokens == 5


@pytest.mark.usefixtures("no_keys")
@pytest.mark.parametrize(
    ("spec", "options", "said"),
    [
        ("my-model", {}, "cottonpalm knows local, openai, anthropic, google, ollama, "),
        ("my-model", {}, "; write PROVIDER:NAME, for instance openai:gpt-4o-mini"),
        ("opnai", {}, "did you mean openai?"),
        ("OpenAI:gpt-4o", {}, "did you mean openai?"),
        ("openai/gpt-4o", {}, "write openai:gpt-4o"),
        ("openai", {}, "name the model too, for instance openai:gpt-4o-mini"),
        ("openai:x", {"temprature": 0}, "no option 'temprature'; did you mean temperature?"),
        ("openai:x", {"temperature": "hot"}, "temperature"),
        ("openai:x", {"base_url": "http://127.0.0.1:2/v1"}, "write --base-url URL instead"),
        ("anthropic:x", {"max_token": 0}, "no option 'max_token'; did you mean max_tokens"),
    ],
)
def test_a_model_that_cannot_be_made_is_one_line(spec: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(Problem) as caught:
        build_model(spec, options, "http://127.0.0.1:1/v1")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def chain_refusal(spec: str, folder: Path) -> str:
    with pytest.raises(Problem) as caught:
        load_chain(spec, str(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cp_app.py").write_text(
        "from langchain_core.runnables import RunnableLambda\n"
        "chain = RunnableLambda(lambda row: row['text'])\n"
        "class Holder:\n    inner = chain\n"
        "def answer(row): return row\n"
        "number = 3\n"
    )
    (tmp_path / "cp_broken.py").write_text("import json\n\nboom = 1 / 0\n")
    (tmp_path / "cp_needs.py").write_text("import no_such_package_at_all\n")
    (tmp_path / "cp_exits.py").write_text("raise SystemExit(1)\n")
    return tmp_path


def test_a_chain_is_found_in_the_folder_of_the_command(folder: Path) -> None:
    assert load_chain("cp_app:chain", str(folder)).invoke({"text": "x"}) == "x"
    assert load_chain("cp_app:Holder.inner", str(folder)).invoke({"text": "x"}) == "x"


def test_what_is_no_chain_is_said_in_one_line(folder: Path) -> None:
    assert "write MODULE:ATTRIBUTE" in chain_refusal("cp_app", folder)
    assert "no module 'cp_nowhere'" in chain_refusal("cp_nowhere:chain", folder)
    assert "has no attribute 'chian'; its Runnables are chain" in chain_refusal("cp_app:chian", folder)
    assert "write MODULE:ATTRIBUTE, for instance cp_app:chain" in chain_refusal("cp_app.py:chain", folder)
    assert "write MODULE:ATTRIBUTE" in chain_refusal("../cp_app:chain", folder)
    assert "is no Runnable but a function with arguments" in chain_refusal("cp_app:answer", folder)
    assert "is no Runnable but an int" in chain_refusal("cp_app:number", folder)
    (folder / "cp_syntax.py").write_text("x = 1\ndef f(:\n")
    said = chain_refusal("cp_syntax:chain", folder)
    assert "SyntaxError: invalid syntax" in said
    assert said.endswith(f"({folder}/cp_syntax.py line 2)")
    assert "ZeroDivisionError: division by zero" in chain_refusal("cp_broken:chain", folder)
    assert "cp_broken.py:3, in <module>: boom = 1 / 0" in chain_refusal("cp_broken:chain", folder)
    assert "No module named 'no_such_package_at_all'" in chain_refusal("cp_needs:chain", folder)
    assert "ends the program" in chain_refusal("cp_exits:chain", folder)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{ text }", "names { text }, which is no column of rows.csv; did you mean {text}?"),
        ("{TEXT}", "names {TEXT}, which is no column of rows.csv; did you mean {text}?"),
        ("{{text}}", "says {{text}}: write {text} for what stands in that column"),
        ("@ask.txt", "A prompt in a file: --prompt-file ask.txt"),
        ("ask.md", "A prompt in a file: --prompt-file ask.md"),
    ],
)
def test_a_column_in_the_words_of_others_is_refused_with_what_to_write(template: str, said: str) -> None:
    with pytest.raises(Problem) as caught:
        row_prompt(template, None, ["id", "text"], "rows.csv")
    assert said in str(caught.value)


def test_blanks_in_the_name_of_a_column_belong_to_it() -> None:
    for name in (" text", "text ", " text "):
        prompt = row_prompt(f"about {{{name}}}", None, ["id", name], "rows.csv")
        assert prompt.invoke({"id": 1, name: "plums"})[0].content == "about plums"
    with pytest.raises(Problem, match=r"did you mean \{ text\}\?"):
        row_prompt("about {text}", None, ["id", " text"], "rows.csv")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (
            "{Reveiw text} of {id}",
            "names {Reveiw text}, which is no column of in.jsonl; did you mean {Review text}?",
        ),
        ("{review-text} of {id}", "did you mean {Review text}?"),
        ("{user.name} of {id}", "did you mean {user_name}?"),
        (
            "{item.title} of {id}",
            "{item.title}: it can name whole columns only. {item} sends all of that one",
        ),
        ("{item[title]} of {id}", "{item[title]}: it can name whole columns only"),
        ("{item['title']} of {id}", "{item['title']}: it can name whole columns only"),
        ("{id!r} of {item}", "{id!r}: it can name whole columns only"),
        ("{price:.2f} of {id}", "{price:.2f}: it can name whole columns only"),
    ],
)
def test_a_longer_name_that_would_be_sent_as_it_stands_is_refused(template: str, said: str) -> None:
    columns = ["id", "Review text", "user_name", "item", "price"]
    for prompt, system in ((template, None), ("{id}", template)):
        with pytest.raises(Problem) as caught:
            row_prompt(prompt, system, columns, "in.jsonl")
        assert said in str(caught.value)
    assert row_prompt(template, None, columns, "in.jsonl", literal=True).template == template
    named = row_prompt(
        "{item.title} {price:.2f}", None, ["item.title", "price:.2f", "item", "price"], "in.csv"
    )
    assert named.columns == ("item.title", "price:.2f")


def test_braces_that_are_no_column_at_all_stay() -> None:
    row = {"id": "7", "text": "a"}
    for template in (
        "{ 1, 2 } {text}",
        "{ foo } {text}",
        '{"text": {text}}',
        "{{text}} of {text}",
        "{{text.x}} of {text}",
        "{id: number, text: string} {text}",
        "f(x) { return text; } {text}",
        "{os.path} {the text} {text}",
    ):
        wanted = template.replace("{text}", "a")
        assert row_prompt(template, None, row, "rows.csv").invoke(row)[0].content == wanted


def test_a_well_known_model_needs_no_provider() -> None:
    for name, maker in (("gpt-4o-mini", "openai"), ("o3", "openai"), ("claude-haiku-4-5", "anthropic")):
        assert check_model(name) == (maker, name)
    assert check_model("gemini-2.5-flash")[0] == "google"
