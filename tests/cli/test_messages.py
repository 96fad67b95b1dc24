"""Rows that are messages, images and requests; answers that are several, or several columns."""

from __future__ import annotations

import base64
import csv
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from langchain_core.load import dumpd
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, messages_to_dict

from cottonpalm.cli.chains.messages import messages_of
from cottonpalm.cli.chains.several import most_common
from tests.cli.conftest import lines
from tests.support.replies import Reply

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Command
    from tests.support.loopback import Loopback

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 8
TALK = [SystemMessage("be short"), HumanMessage("hi"), AIMessage("yes?"), HumanMessage("bye")]
OPENAI = [
    {"role": "system", "content": "be short"},
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "yes?"},
    {"role": "user", "content": "bye"},
]


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))


@pytest.fixture
def bodies(server: Loopback) -> list[dict[str, Any]]:
    """The bodies of the requests that come."""
    found: list[dict[str, Any]] = []
    server.script(lambda request: found.append(request.body))  # type: ignore[func-returns-value]
    return found


@pytest.fixture
def run(cottonpalm: Command, server: Loopback) -> Command:
    def command(*words: str) -> Any:
        model = ("--model", "openai:gpt-4o-mini", "--base-url", server.openai_url, "--retries", "0")
        return cottonpalm("run", *words, *model, "-c", "1")

    return command


@pytest.mark.parametrize(
    "value",
    [
        OPENAI,
        {"messages": OPENAI},
        orjson.dumps(OPENAI).decode(),
        messages_to_dict(TALK),
        [dumpd(each) for each in TALK],
        [each.model_dump() for each in TALK],
    ],
)
def test_messages_are_read_in_every_shape_that_they_are_written_in(value: Any) -> None:
    found = messages_of(value, "talk")
    assert [(each.type, each.content) for each in found] == [(each.type, each.content) for each in TALK]


@pytest.mark.parametrize("text", ["[urgent] Where is my order?", "{name} says hello", "[1] and [2]", " {x"])
def test_a_plain_text_may_begin_with_a_bracket(text: str) -> None:
    assert [each.content for each in messages_of(text, "talk")] == [text]


@pytest.mark.parametrize(
    "value",
    [[], 3, None, [{"text": "no role"}], "[1]", '[{"role": "user", "content": "cut sho', '{"role": "us'],
)
def test_what_is_no_message_is_said_with_its_column(value: Any) -> None:
    with pytest.raises(ValueError, match="'talk' holds no messages"):
        messages_of(value, "talk")


def test_of_a_cell_of_messages_that_is_null_it_is_said_that_it_is_empty() -> None:
    with pytest.raises(ValueError, match="'talk' holds no messages: it is empty"):
        messages_of(None, "talk")


def test_a_column_of_messages_is_asked_as_it_stands_and_a_bad_one_fails_alone(
    run: Command, folder: Path, bodies: list[dict[str, Any]]
) -> None:
    write(folder / "in.jsonl", [{"talk": OPENAI}, {"talk": [{"no": "role"}]}, {"talk": "plain text"}])
    said = run("in.jsonl", "-o", "out.jsonl", "--messages", "talk")
    assert said.code == 3
    assert [body["messages"] for body in bodies] == [OPENAI, [{"role": "user", "content": "plain text"}]]
    assert "'talk' holds no messages" in lines(folder / "out.jsonl")[1]["error"]["message"]
    assert "no such column; it has 'talk'" in run("in.jsonl", "-o", "o.jsonl", "--messages", "t").one_line
    assert "leave out --prompt" in run("in.jsonl", "-o", "o.jsonl", "--messages", "talk", "-p", "x").one_line


def test_images_go_with_the_prompt_from_paths_addresses_and_data(
    run: Command, folder: Path, bodies: list[dict[str, Any]]
) -> None:
    (folder / "cat.png").write_bytes(PNG)
    (folder / "secret.txt").write_text("no image")
    inline = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    pictures = ["cat.png", "https://example.org/cat.jpg", inline, "", "secret.txt", "gone.png"]
    write(folder / "in.jsonl", [{"q": f"what {n}", "pic": each} for n, each in enumerate(pictures)])
    asked = ("in.jsonl", "-o", "out.jsonl", "-p", "{q}", "--image", "pic")
    assert run(*asked).code == 3
    sent = [body["messages"][0]["content"] for body in bodies]
    assert sent[0] == [
        {"type": "text", "text": "what 0"},
        {"type": "image_url", "image_url": {"url": inline}},
    ]
    assert sent[1][1]["image_url"]["url"] == "https://example.org/cat.jpg"
    assert sent[2][1]["image_url"]["url"] == inline
    assert sent[3] == [{"type": "text", "text": "what 3"}]
    assert len(sent) == 4
    out = lines(folder / "out.jsonl")
    assert "its bytes are not PNG, JPEG, GIF or WebP" in out[4]["error"]["message"]
    assert "cannot be read" in out[5]["error"]["message"]
    shown = run(*asked, "--dry-run").out
    assert "[image/png, 16 bytes]" in shown
    assert "[image https://example.org/cat.jpg]" in shown


def test_a_batch_file_is_an_input_with_its_ids_and_settings(
    run: Command, folder: Path, bodies: list[dict[str, Any]]
) -> None:
    body = {"model": "gpt-3.5-turbo", "messages": OPENAI, "temperature": 0.5, "max_tokens": 7}
    row = {"custom_id": "a1", "method": "POST", "url": "/v1/chat/completions", "body": body}
    write(folder / "in.jsonl", [row, {"custom_id": "a2", "body": {"input": "of another API"}}])
    assert run("in.jsonl", "-o", "out.jsonl", "--requests").code == 3
    [sent] = bodies
    assert (sent["messages"], sent["temperature"], sent["model"]) == (OPENAI, 0.5, "gpt-4o-mini")
    assert 7 in (sent.get("max_tokens"), sent.get("max_completion_tokens"))
    out = lines(folder / "out.jsonl")
    assert [line["id"] for line in out] == ["a1", "a2"]
    assert "it has no messages" in out[1]["error"]["message"]
    write(folder / "other.jsonl", [{"text": "x"}])
    assert "is no batch file" in run("other.jsonl", "-o", "o.jsonl", "--requests").one_line


def test_several_answers_are_a_list_or_the_one_given_most_often(
    run: Command, folder: Path, server: Loopback
) -> None:
    said = iter(["Yes", "no", "yes ", "A", "B", "C"])
    server.script(lambda _: Reply(text=next(said)))
    write(folder / "in.jsonl", [{"q": "good?"}])
    asked = ("in.jsonl", "-p", "{q}", "--n", "3")
    assert run(*asked, "--vote", "-o", "voted.jsonl").code == 0
    assert lines(folder / "voted.jsonl")[0]["output"].strip().lower() == "yes"
    assert run(*asked, "-o", "all.jsonl").code == 0
    assert sorted(lines(folder / "all.jsonl")[0]["output"]) == ["A", "B", "C"]
    assert server.requests == 6
    assert "--vote needs --n" in run("in.jsonl", "-p", "{q}", "--vote", "-o", "o.jsonl").one_line
    assert most_common([{"a": 1}, {"a": 2}, {"a": 2}]) == {"a": 2}


def test_what_a_table_lacks_because_of_its_named_columns_is_said(
    run: Command, cottonpalm: Command, folder: Path
) -> None:
    write(folder / "in.jsonl", [{"q": "abc"}, {"q": "de"}])
    asked = ("in.jsonl", "-p", "{q}", "-o", "out.csv")
    said = run(*asked, "--columns", "label")
    assert (
        "note: 2 answers are no objects, so the table lacks them: the same command without --columns"
        in said.err
    )
    assert "answer to" not in (folder / "out.csv").read_text()
    assert run(*asked).code == 0
    assert (folder / "out.csv").read_text().count("answer to") == 2
    (folder / "own_fields.py").write_text(
        "from langchain_core.runnables import RunnableLambda\n"
        "chain = RunnableLambda(lambda row: {'label': row['q'], 'size': 1})\n"
    )
    words = ("run", "in.jsonl", "--chain", "own_fields:chain", "--columns", "lable,size")
    said = cottonpalm(*words, "-o", "own.csv")
    assert "note: no answer has 'lable', which --columns names; the first has 'label', 'size'" in said.err
    assert "'size', which" not in said.err
    assert "note" not in cottonpalm(*words, "-o", "own.jsonl").err, "a line has the whole answer"


def test_the_named_fields_of_a_chains_answers_become_columns(cottonpalm: Command, folder: Path) -> None:
    (folder / "own.py").write_text(
        "from langchain_core.runnables import RunnableLambda\n"
        "chain = RunnableLambda(lambda row: {'label': row['q'][0], 'size': len(row['q']), 'rest': 1})\n"
    )
    write(folder / "in.jsonl", [{"q": "abc"}, {"q": "de"}])
    said = cottonpalm("run", "in.jsonl", "-o", "out.csv", "--chain", "own:chain", "--columns", "label, size")
    assert said.code == 0
    with (folder / "out.csv").open(newline="") as file:
        found = [(row["q"], row["label"], row["size"], row["status"]) for row in csv.DictReader(file)]
    assert found == [("abc", "a", "3", "ok"), ("de", "d", "2", "ok")]


def test_a_plan_asks_nothing_of_messages_images_and_requests_either(
    cottonpalm: Command, folder: Path, server: Loopback
) -> None:
    body = {"messages": OPENAI}
    write(
        folder / "in.jsonl", [{"custom_id": "a1", "body": body, "talk": OPENAI, "pic": "https://e.org/a.png"}]
    )
    asked = ("in.jsonl", "--model", "openai:gpt-4o-mini", "--base-url", server.openai_url)
    several = cottonpalm(
        "plan", *asked, "--messages", "talk", "--image", "pic", "--n", "3", "--vote", "--max-tokens", "5"
    )
    assert (several.code, "tokens out at most 15" in several.out) == (0, True)
    assert cottonpalm("plan", *asked, "--requests", "--max-tokens", "5").code == 0
    assert "be short" in cottonpalm("run", *asked, "--requests", "-o", "o.jsonl", "--dry-run").out
    assert server.requests == 0
