"""`--schema`: answers are objects of a known form, whatever the provider, or their rows fail."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.conftest import lines, rows
from tests.docs.reading import model_is_there
from tests.support.replies import ok

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Command, Said
    from tests.support.loopback import Loopback
    from tests.support.replies import Reply, Request

MODELS = ["openai:gpt-4o-mini", "anthropic:claude-haiku-4-5", "google:gemini-2.5-flash"]
SCHEMA = {
    "type": "object",
    "properties": {"label": {"enum": ["good", "bad"]}, "why": {"type": "string"}, "tags": {"type": "array"}},
    "required": ["label"],
}
MODULE = """
from typing import Literal
from pydantic import BaseModel, Field, field_validator

class Review(BaseModel):
    label: Literal["good", "bad"]
    stars: int = Field(ge=1, le=5, alias="Stars")

class Empty(BaseModel):
    pass

number = 3
"""


@pytest.fixture
def ask(cottonpalm: Command, server: Loopback, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`run` for a row, with a schema in a file and one in a module, and every provider on the loopback."""
    (folder / "review.json").write_text(json.dumps(SCHEMA))
    (folder / "cp_forms.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(__import__("sys").modules, "cp_forms", raising=False)
    for variable, url in (
        ("OPENAI_BASE_URL", server.openai_url),
        ("ANTHROPIC_BASE_URL", server.url),
        ("GOOGLE_GEMINI_BASE_URL", server.url),
    ):
        monkeypatch.setenv(variable, url)
    rows(folder / "in.jsonl", 1)

    def command(*words: str, output: str = "out.jsonl", model: str = MODELS[0]) -> Said:
        return cottonpalm("run", "in.jsonl", "-o", output, "--model", model, "--prompt", "say {text}", *words)

    return command


def answering(*answers: Any) -> list[Reply]:
    """Replies that hold these objects, as text and as a tool call: each provider takes its own."""
    return [ok(json.dumps(answer)) for answer in answers]


def as_tool(answers: list[Any]) -> list[Reply]:
    return [ok(tool=("Answer", answer)) for answer in answers]


@pytest.mark.parametrize("schema", ["review.json", "cp_forms:Review"])
@pytest.mark.parametrize("model", MODELS)
def test_every_provider_is_asked_for_the_form_and_its_answer_is_an_object(
    ask: Command, server: Loopback, folder: Path, model: str, schema: str
) -> None:
    bodies: list[dict[str, Any]] = []
    server.script(lambda request: bodies.append(request.body))
    said = ask("--schema", schema, model=model)
    assert said.code == 0, said.err
    [line] = lines(folder / "out.jsonl")
    answer = {"label": "good", "Stars": 1}
    if schema == "review.json":
        answer = {"label": "good", "why": "answer to: say row-0", "tags": line["output"]["tags"]}
    assert line["output"] == answer
    [body] = bodies
    asked = {
        "openai": body.get("response_format", {}).get("type") == "json_schema",
        "anthropic": body.get("tool_choice", {}).get("type") == "tool",
        "google": "responseJsonSchema" in body.get("generationConfig", {}),
    }
    assert asked[model.partition(":")[0]]


def test_a_schema_in_place_of_its_file_is_said(ask: Command) -> None:
    said = ask("--schema", '{"type": "object"}').one_line
    assert "--schema takes a file, not the schema itself: save it, and say --schema answer.json" in said


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "wrong", [{"label": "so-so"}, {"why": "no label"}, ["a list"], {"label": "good", "why": 3}], ids=str
)
def test_an_answer_of_another_form_is_asked_for_again(
    ask: Command, server: Loopback, folder: Path, model: str, wrong: Any
) -> None:
    given = [wrong, {"label": "bad"}]
    tools = model.startswith("anthropic") and isinstance(wrong, dict)
    server.script(as_tool(given) if tools else answering(*given))
    if model.startswith("anthropic") and not tools:
        server.script([*answering(wrong), *as_tool([{"label": "bad"}])])
    said = ask("--schema", "review.json", model=model)
    assert said.code == 0, said.err
    [line] = lines(folder / "out.jsonl")
    assert (line["output"], line["attempts"]) == ({"label": "bad"}, 2)


@pytest.mark.parametrize("schema", ["review.json", "cp_forms:Review"])
@pytest.mark.parametrize("text", ['{"label": "so-so", "Stars": 9}', "no json at all", "null", ""])
def test_a_row_that_never_fits_fails_with_its_reason(
    ask: Command, server: Loopback, folder: Path, schema: str, text: str
) -> None:
    server.script(lambda _: ok(text))
    assert ask("--schema", schema).code == 3
    [line] = lines(folder / "out.jsonl")
    assert line["error"]["kind"] == "reask", line["error"]
    assert line["attempts"] == server.requests == 2
    assert line["cost_usd"] > 0


def test_where_an_answer_does_not_fit_is_said(ask: Command, server: Loopback, folder: Path) -> None:
    server.script(lambda _: ok('{"label": "so-so"}'))
    said = ask("--schema", "review.json")
    assert "label is none of 'good', 'bad'" in lines(folder / "out.jsonl")[0]["error"]["message"]
    assert "label is none of 'good', 'bad'" in said.err


def test_a_table_has_a_column_for_each_field(ask: Command, server: Loopback, folder: Path) -> None:
    (folder / "in.jsonl").write_text('{"text": "a", "label": "mine"}\n{"text": "b"}\n')

    def script(request: Request) -> Reply:
        return ok('{"label": "good", "tags": ["x", 1]}' if request.text == "say a" else "{}")

    server.script(script)
    said = ask("--schema", "review.json", output="out.csv")
    assert said.code == 3
    head, first, second = (folder / "out.csv").read_text().splitlines()
    assert head == "text,label,cottonpalm_label,why,tags,status,error,cost_usd"
    assert first.startswith('a,mine,good,,"[""x"",1]",ok,,0.0000')
    assert second.startswith("b,,,,,failed,reask: InvalidAnswer")


def test_a_later_run_and_a_retry_know_the_form(
    ask: Command, cottonpalm: Command, server: Loopback, folder: Path
) -> None:
    server.script(lambda _: ok("{}"))
    assert ask("--schema", "cp_forms:Review").code == 3
    server.script(lambda _: ok('{"label": "bad", "Stars": 2}'))
    assert cottonpalm("retry", "out").code == 0
    assert lines(folder / "out.jsonl")[0]["output"] == {"label": "bad", "Stars": 2}
    said = ask("--schema", "cp_forms:Review")
    assert (said.code, "nothing to do" in said.err) == (0, True)
    said = ask("--schema", "review.json")
    assert said.code == 2
    assert "began with another chain" in said.err


@pytest.mark.parametrize("schema", ["review.json", "cp_forms:Review"])
def test_the_cache_on_disk_keeps_answers_of_a_form(ask: Command, server: Loopback, schema: str) -> None:
    server.script(answering({"label": "good", "Stars": 4}) * 2)
    for output in ("one.jsonl", "two.jsonl"):
        said = ask("--schema", schema, "--cache", output=output)
        assert said.code == 0, said.err
        assert "not kept" not in said.err
    assert server.requests == 1


def test_a_fallback_gives_the_same_form(ask: Command, server: Loopback, folder: Path) -> None:
    server.script(lambda request: None if request.api == "anthropic" else ok("no json"))
    said = ask("--schema", "review.json", "--fallback", MODELS[1])
    assert said.code == 0, said.err
    assert lines(folder / "out.jsonl")[0]["output"]["label"] == "good"


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ("nowhere.json", "cannot read nowhere.json: No such file or directory"),
        ("broken.json", "--schema broken.json is no JSON: "),
        ("list.json", "--schema list.json cannot be asked for: it must describe an object"),
        ("kind.json", "--schema kind.json cannot be asked for: a has the type 'text'"),
        ("cp_forms", "--schema cp_forms: write MODULE:ATTRIBUTE, for instance cp_forms:Answer"),
        ("cp_forms:Revue", "module 'cp_forms' has no attribute 'Revue'; its models are Review, Empty"),
        ("cp_forms:number", "--schema cp_forms:number is no Pydantic model but an int"),
        ("cp_forms:Empty", "--schema cp_forms:Empty cannot be asked for: it must describe an object"),
        ("cp_nowhere:Review", "no module 'cp_nowhere'"),
    ],
)
def test_a_schema_that_cannot_be_used_is_one_line_before_any_call(
    ask: Command, server: Loopback, folder: Path, schema: str, said: str
) -> None:
    (folder / "broken.json").write_text('{"type": ')
    (folder / "list.json").write_text('{"type": "array"}')
    (folder / "kind.json").write_text('{"properties": {"a": {"type": "text"}}}')
    done = ask("--schema", schema)
    assert done.code == 2
    assert said in done.one_line
    assert server.requests == 0


def test_a_chain_brings_its_own_form(cottonpalm: Command, ask: Command) -> None:
    said = cottonpalm("run", "in.jsonl", "-o", "o.jsonl", "--chain", "a:b", "--schema", "review.json")
    assert "leave out --schema" in said.one_line


def test_a_dry_run_shows_the_fields(ask: Command, server: Loopback) -> None:
    said = ask("--schema", "review.json", "--dry-run")
    assert "model openai:gpt-4o-mini\n  answer: {label, why, tags}\n" in said.out
    assert server.requests == 0


def test_the_embedded_model_is_held_to_the_form(ask: Command, folder: Path) -> None:
    if not model_is_there():
        pytest.skip("the embedded model is not in the cache")
    assert ask("--schema", "review.json", "--model-option", "max_tokens=60", model="local").code in (0, 3)
    [line] = lines(folder / "out.jsonl")
    assert line["status"] == "failed" or line["output"]["label"] in ("good", "bad")
