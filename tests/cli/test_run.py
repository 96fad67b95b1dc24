"""`run`, `retry` and `status`, from file to file, against a real server on the loopback."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import orjson
import pytest

from cottonpalm.stores import open_store
from tests.cli.conftest import lines, rows
from tests.support.programs import run as as_a_process
from tests.support.replies import bad_key, context_too_long, fails, ok

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Command
    from tests.support.loopback import Loopback
    from tests.support.replies import Reply, Request

pytestmark = pytest.mark.core


def answers(path: Path) -> list[str]:
    return [line["output"] for line in lines(path)]


def fail_for(*texts: str) -> object:
    """Rows with these texts are refused for good."""

    def script(request: Request) -> Reply | None:
        return context_too_long() if request.text in texts else None

    return script


def test_every_row_gets_its_answer_and_stdout_stays_empty(
    ask: Command, folder: Path, server: Loopback
) -> None:
    rows(folder / "in.jsonl", 30)
    said = ask("in.jsonl", "-o", "out.jsonl")
    assert (said.code, said.out) == (0, "")
    assert answers(folder / "out.jsonl") == [f"answer to: say row-{n}" for n in range(30)]
    line = lines(folder / "out.jsonl")[7]
    assert line["input"] == {"n": 7, "text": "row-7"}
    assert (line["status"], line["error"], line["attempts"], line["lane"]) == ("ok", None, 1, "live")
    assert line["usage"]["input_tokens"] > 0
    assert line["cost_source"] == "reported"
    assert "out: 30 rows: 30 ok, 0 failed" in said.err
    assert "results  out.jsonl" in said.err
    assert server.requests == 30


def test_the_same_command_again_does_nothing_and_says_so(
    ask: Command, folder: Path, server: Loopback
) -> None:
    rows(folder / "in.jsonl", 5)
    ask("in.jsonl", "-o", "out.jsonl")
    before = (folder / "out.jsonl").read_bytes()
    said = ask("in.jsonl", "-o", "out.jsonl")
    assert said.code == 0
    assert "nothing to do: run out has done all its rows already" in said.err
    assert server.requests == 5
    assert (folder / "out.jsonl").read_bytes() == before


def test_of_several_failures_the_commonest_is_named_first(
    ask: Command, folder: Path, server: Loopback
) -> None:
    rows(folder / "in.jsonl", 6)
    server.script(lambda asked: {"1": fails(400), "2": fails(413), "3": fails(413)}.get(asked.text[-1]))
    [failed] = [line for line in ask("in.jsonl", "-o", "out.jsonl").err.splitlines() if "  failed" in line]
    assert failed.index("2 the answer was cut") < failed.index("1 rejected")


def test_failed_rows_end_with_3_again_and_retry_takes_just_those(
    ask: Command, cottonpalm: Command, folder: Path, server: Loopback
) -> None:
    rows(folder / "in.jsonl", 6)
    server.script(fail_for("say row-1", "say row-4"))
    said = ask("in.jsonl", "-o", "out.jsonl")
    assert said.code == 3
    assert "6 rows: 4 ok, 2 failed" in said.err
    assert re.search(
        r"2 the answer was cut, or the input is too long \(degrade\); the first, row (2 \(index 1\)|5 \(index 4\)): ",
        said.err,
    )  # as `status` says it
    assert "retry    cottonpalm retry out\n" in said.err
    assert ask("in.jsonl", "-o", "out.jsonl").code == 3  # nothing that may work by itself
    assert server.requests == 6
    server.script(None)
    said = cottonpalm("retry", "out")
    assert said.code == 0
    assert "6 rows: 6 ok, 0 failed" in said.err
    assert server.requests == 8
    assert answers(folder / "out.jsonl") == [f"answer to: say row-{n}" for n in range(6)]
    said = cottonpalm("retry", "out")
    assert (said.code, server.requests) == (0, 8)
    assert "nothing to do" in said.err


def test_rows_that_failed_for_a_passing_reason_are_done_by_the_same_command(
    ask: Command, folder: Path, server: Loopback
) -> None:
    rows(folder / "in.jsonl", 3)
    server.script([fails(500)])
    assert ask("in.jsonl", "-o", "out.jsonl").code == 3
    assert ask("in.jsonl", "-o", "out.jsonl").code == 0
    assert server.requests == 4
    assert len((folder / "out.jsonl").read_bytes().splitlines()) == 3


def test_csv_in_and_out_keeps_columns_and_order(ask: Command, folder: Path, server: Loopback) -> None:
    (folder / "in.csv").write_text('id,text\n1,"a, ""b""\nc"\n2,=1+1\n3,{x}\n', encoding="utf-8")
    server.script(
        lambda request: (
            context_too_long() if "{x}" in request.text else ok("-1+1" if "=1" in request.text else None)
        )
    )
    said = ask("in.csv", "-o", "out.csv")
    assert said.code == 3
    table = list(csv.reader(io.StringIO((folder / "out.csv").read_text(encoding="utf-8"), newline="")))
    assert table[0] == ["id", "text", "output", "status", "error", "cost_usd"]
    assert table[1][:4] == ["1", 'a, "b"\nc', 'answer to: say a, "b"\nc', "ok"]
    assert table[2][:4] == ["2", "=1+1", "-1+1", "ok"]
    assert table[3][:4] == ["3", "{x}", "", "failed"]
    assert table[3][4].startswith("degrade: ")
    assert float(table[1][5]) > 0


def test_standard_output_holds_data_only_and_always_all_of_it(
    ask: Command, folder: Path, server: Loopback
) -> None:
    rows(folder / "in.jsonl", 4)
    for _ in range(2):
        said = ask("in.jsonl", "-o", "-")
        assert said.code == 0
        found = [orjson.loads(line) for line in said.out.splitlines()]
        assert sorted(row["index"] for row in found) == [0, 1, 2, 3]
    assert server.requests == 4  # the run has the input's name
    assert "in: 4 rows: 4 ok" in said.err


def test_a_later_bad_line_is_a_failed_row_that_names_it(ask: Command, folder: Path, server: Loopback) -> None:
    (folder / "in.jsonl").write_bytes(
        b'{"text": "a"}\n{oops\n{"txt": "b"}\n{"text": "\xff"}\n{"text": "c"}\n'
    )
    said = ask("in.jsonl", "-o", "out.jsonl")
    assert said.code == 3
    assert server.requests == 2
    errors = [line["error"]["message"] if line["error"] else None for line in lines(folder / "out.jsonl")]
    assert errors[0] is errors[4] is None
    assert "in.jsonl line 2: not a JSON object" in errors[1]
    assert "in.jsonl line 3: no column 'text'" in errors[2]
    assert "in.jsonl line 4: byte 11 is not UTF-8" in errors[3]


def test_a_mended_line_is_done_and_nothing_else(ask: Command, folder: Path, server: Loopback) -> None:
    (folder / "in.jsonl").write_text('{"text": "a"}\n{oops\n{"text": "c"}\n')
    ask("in.jsonl", "-o", "out.jsonl")
    (folder / "in.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n{"text": "c"}\n')
    assert ask("in.jsonl", "-o", "out.jsonl").code == 0
    assert answers(folder / "out.jsonl") == [f"answer to: say {text}" for text in "abc"]
    assert server.requests == 3


def test_inserting_and_reordering_rows_repays_none_and_renumbers(
    ask: Command, folder: Path, server: Loopback
) -> None:
    def put(texts: str) -> None:
        (folder / "in.jsonl").write_text("".join(f'{{"text": "{text}"}}\n' for text in texts))

    put("abc")
    ask("in.jsonl", "-o", "out.jsonl")
    put("xcab")
    assert ask("in.jsonl", "-o", "out.jsonl").code == 0
    assert server.requests == 4
    assert answers(folder / "out.jsonl") == [f"answer to: say {text}" for text in "xcab"]
    put("ca")
    assert ask("in.jsonl", "-o", "out.jsonl").code == 0
    assert server.requests == 4
    assert answers(folder / "out.jsonl") == ["answer to: say c", "answer to: say a"]


def test_a_deleted_output_comes_back_without_a_call(ask: Command, folder: Path, server: Loopback) -> None:
    rows(folder / "in.jsonl", 5)
    ask("in.jsonl", "-o", "out.jsonl")
    (folder / "out.jsonl").unlink()
    assert ask("in.jsonl", "-o", "out.jsonl").code == 0
    assert (len(lines(folder / "out.jsonl")), server.requests) == (5, 5)


def test_fresh_pays_again_and_replaces_its_own_output(ask: Command, folder: Path, server: Loopback) -> None:
    rows(folder / "in.jsonl", 3)
    ask("in.jsonl", "-o", "out.jsonl")
    said = ask("in.jsonl", "-o", "out.jsonl", "--fresh", prompt="ask {text}")
    assert said.code == 0
    assert server.requests == 6
    assert answers(folder / "out.jsonl") == [f"answer to: ask row-{n}" for n in range(3)]


def test_another_prompt_is_refused_and_the_ways_out_are_named(
    ask: Command, folder: Path, server: Loopback
) -> None:
    rows(folder / "in.jsonl", 2)
    ask("in.jsonl", "-o", "out.jsonl")
    said = ask("in.jsonl", "-o", "out.jsonl", prompt="ask {text}")
    assert said.code == 2
    assert "prompt" in said.one_line
    assert "--fresh" in said.one_line
    assert "--run NAME" in said.one_line
    assert server.requests == 2


def test_another_output_for_the_same_run_is_written_from_the_store(
    ask: Command, folder: Path, server: Loopback
) -> None:
    rows(folder / "in.jsonl", 3)
    ask("in.jsonl", "-o", "out.jsonl")
    assert ask("in.jsonl", "-o", "out.csv").code == 0
    assert len((folder / "out.csv").read_text().splitlines()) == 4
    assert server.requests == 3


def test_repeats_are_counted_with_what_a_cache_would_have_saved(ask: Command, folder: Path) -> None:
    (folder / "in.jsonl").write_text('{"text": "same"}\n' * 5)
    said = ask("in.jsonl", "-o", "out.jsonl")
    assert (
        "repeats  4 rows the same as an earlier one: --cache would have saved 4 calls, about $0.0000"
        in said.err
    )


def test_quiet_says_nothing_but_errors(ask: Command, folder: Path) -> None:
    rows(folder / "in.jsonl", 2)
    said = ask("in.jsonl", "-o", "out.jsonl", "-q")
    assert (said.code, said.out, said.err) == (0, "", "")
    assert "cannot read no.jsonl" in ask("no.jsonl", "-o", "out.jsonl", "-q").one_line


def test_verbose_tells_of_retries_and_failed_rows(ask: Command, folder: Path, server: Loopback) -> None:
    rows(folder / "in.jsonl", 2)
    server.script(fail_for("say row-1"))
    said = ask("in.jsonl", "-o", "out.jsonl", "-v")
    assert "row 2 (index 1): HTTP 400 from 127.0.0.1" in said.err
    assert "row 2 (index 1) failed (degrade): " in said.err
    assert "\nrows       1 ok, 1 failed" in said.err, "where the time went"
    assert "bound by" not in ask("in.jsonl", "-o", "out.jsonl").err


def test_what_the_provider_says_cannot_touch_the_terminal(
    ask: Command, folder: Path, server: Loopback
) -> None:
    rows(folder / "in.jsonl", 1)
    (folder / "in.jsonl").write_text('{"text": "[red]x[/red] \\u001b[31m \\u202e"}\n')
    server.script(lambda request: context_too_long())
    said = ask("in.jsonl", "-o", "out.jsonl", "-v")
    assert said.code == 3
    assert "\x1b" not in said.err
    assert "\u202e" not in said.err
    assert (
        lines(folder / "out.jsonl")[0]["input"]["text"] == "[red]x[/red] \x1b[31m \u202e"
    )  # the data is exact


def test_a_bad_key_stops_the_run_with_4_and_says_how_to_go_on(
    ask: Command, folder: Path, server: Loopback
) -> None:
    rows(folder / "in.jsonl", 50)
    server.script(lambda request: bad_key())
    said = ask("in.jsonl", "-o", "out.jsonl")
    assert said.code == 4
    assert "cottonpalm: the run stopped: no row can be answered" in said.err
    assert "Incorrect API key" in said.err
    assert "resume   cottonpalm run in.jsonl -o out.jsonl --model openai:gpt-4o-mini" in said.err
    server.script(None)
    assert ask("in.jsonl", "-o", "out.jsonl").code == 0
    assert len(lines(folder / "out.jsonl")) == 50


def test_a_second_process_on_the_run_is_refused_and_told_who_has_it(
    ask: Command, folder: Path, server: Loopback
) -> None:
    rows(folder / "in.jsonl", 2)
    store = open_store(folder / "cottonpalm.db")
    held = store.open_run("out", None)
    said = ask("in.jsonl", "-o", "out.jsonl")
    held.close()
    store.close()
    assert said.code == 2
    assert "process" in said.one_line
    assert "since" in said.one_line
    assert server.requests == 0


def test_status_lists_runs_and_tells_of_one(
    ask: Command, cottonpalm: Command, folder: Path, server: Loopback
) -> None:
    rows(folder / "in.jsonl", 4)
    server.script(fail_for("say row-1"))
    ask("in.jsonl", "-o", "out.jsonl")
    said = cottonpalm("status")
    assert (said.code, said.err) == (0, "")
    head, row = said.out.splitlines()
    assert head.split() == ["run", "ok", "failed", "left", "cost", "rate", "output", "held", "by"]
    assert row.split()[:4] == ["out", "3", "1", "0"]
    assert row.split()[4].startswith("$0.0000")
    said = cottonpalm("status", "out")
    assert "say {text}" in said.out
    assert "output     out.jsonl\n" in said.out
    assert "1 (0 may work when asked again)" in said.out


def test_the_store_holds_no_secret(ask: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-this-is-secret")
    rows(folder / "in.jsonl", 2)
    ask("in.jsonl", "-o", "out.jsonl", "--model-option", 'default_headers={"x-key": "hidden-header"}')
    kept = b"".join(path.read_bytes() for path in folder.iterdir())
    assert b"sk-this-is-secret" not in kept
    assert b"hidden-header" not in kept


def test_retry_asks_for_options_that_were_not_kept(ask: Command, cottonpalm: Command, folder: Path) -> None:
    rows(folder / "in.jsonl", 2)
    option = ("--model-option", 'default_headers={"x-key": "v"}')
    ask("in.jsonl", "-o", "out.jsonl", *option)
    assert "--model-option default_headers=" in cottonpalm("retry", "out").one_line
    assert cottonpalm("retry", "out", *option).code == 0


def test_ones_own_chain_gets_the_row_as_a_dict(cottonpalm: Command, folder: Path) -> None:
    (folder / "cp_own.py").write_text(
        "from langchain_core.runnables import RunnableLambda\n"
        "def answer(row):\n"
        "    print('noise')\n"
        "    if row['n'] == 2: raise SystemExit(9)\n"
        "    return {'double': row['n'] * 2}\n"
        "chain = RunnableLambda(answer)\n"
    )
    rows(folder / "in.jsonl", 4)
    said = cottonpalm("run", "in.jsonl", "-o", "-", "--chain", "cp_own:chain")
    assert said.code == 3  # the row that tried to end the process failed alone
    found = sorted((orjson.loads(line) for line in said.out.splitlines()), key=lambda line: line["index"])
    assert [line["output"] for line in found] == [{"double": 0}, {"double": 2}, None, {"double": 6}]
    assert found[2]["error"]["type"] == "SystemExit"
    sys.modules.pop("cp_own")


def test_anthropic_models_speak_too(cottonpalm: Command, folder: Path, server: Loopback) -> None:
    rows(folder / "in.jsonl", 3)
    model = ("--model", "anthropic:claude-haiku-4-5", "--base-url", server.url)
    said = cottonpalm("run", "in.jsonl", "-o", "out.jsonl", *model, "-p", "say {text}", "--system", "be kind")
    assert said.code == 0, said.err
    assert answers(folder / "out.jsonl") == [f"answer to: say row-{n}" for n in range(3)]


def test_a_prompt_from_a_file_is_kept_for_retry(
    ask: Command, cottonpalm: Command, folder: Path, server: Loopback
) -> None:
    rows(folder / "in.jsonl", 2)
    (folder / "p.txt").write_text('say {text} as {"json": true}')
    server.script([context_too_long()])
    model = ("--model", "openai:x", "--base-url", server.openai_url)
    assert cottonpalm("run", "in.jsonl", "-o", "out.jsonl", *model, "--prompt-file", "p.txt").code == 3
    (folder / "p.txt").unlink()
    assert cottonpalm("retry", "out").code == 0
    assert answers(folder / "out.jsonl") == [f'answer to: say row-{n} as {{"json": true}}' for n in range(2)]


def test_an_object_that_cannot_be_rebuilt_says_how_to_mend_the_chain(
    cottonpalm: Command, folder: Path
) -> None:
    rows(folder / "in.jsonl", 1)
    (folder / "cp_hidden.py").write_text(
        "from pydantic import BaseModel\nfrom langchain_core.runnables import RunnableLambda\n"
        "class Review(BaseModel):\n    good: bool\n"
        "known = {'r': Review}\n"
        "def said(row) -> Review:\n    return known['r'](good=True)\n"
        "hidden = RunnableLambda(lambda row: known['r'](good=True))\nshown = RunnableLambda(said)\n"
    )
    said = cottonpalm("run", "in.jsonl", "-o", "a.jsonl", "--chain", "cp_hidden:hidden")
    assert said.code == 4
    assert "(def answer(row) -> Review), or return its model_dump()" in said.err
    assert "output_type" not in said.err
    assert cottonpalm("run", "in.jsonl", "-o", "b.jsonl", "--chain", "cp_hidden:shown").code == 0
    assert lines(folder / "b.jsonl")[0]["output"] == {"good": True}


OWN_CODE = """
from langchain_core.runnables import RunnableLambda
INSTRUCTION = {word!r}

def ask(row):
    return INSTRUCTION + row["text"]

chain = RunnableLambda(ask)
"""


def test_a_changed_global_is_named_though_all_is_done_and_quiet_was_asked_for(
    folder: Path, cottonpalm: Command
) -> None:
    def run(word: str) -> str:
        (folder / "cp_global.py").write_text(OWN_CODE.format(word=word))
        words = ("run", "in.jsonl", "-o", "a.jsonl", "--chain", "cp_global:chain", "-q")
        done = as_a_process(words, cwd=folder, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 0
        return str(done.stderr)

    (folder / "in.jsonl").write_text('{"text": "a"}\n')
    assert run("Good? ") == ""
    assert run("Good? ") == ""
    said = run("Quite another: ")
    assert "INSTRUCTION, which RunnableLambda uses, changed" in said
    assert run("Quite another: ") == ""
