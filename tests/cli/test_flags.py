"""Fallbacks, failures, money, the cache, and a look before anything is called."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.cli.conftest import lines, rows
from tests.support.replies import Reply, bad_key, cut_by_length, fails, ok

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Command
    from tests.support.loopback import Loopback
    from tests.support.replies import Request


@pytest.fixture
def anthropic(server: Loopback, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)


def only_anthropic(request: Request) -> Reply | None:
    return None if request.api == "anthropic" else fails(500)


@pytest.mark.usefixtures("anthropic")
def test_a_fallback_answers_what_the_model_could_not(ask: Command, server: Loopback, folder: Path) -> None:
    server.script(only_anthropic)
    rows(folder / "in.jsonl", 3)
    said = ask("in.jsonl", "-o", "out.jsonl", "--fallback", "anthropic:claude-haiku-4-5")
    assert said.code == 0, said.err
    assert {line["model"] for line in lines(folder / "out.jsonl")} == {"claude-haiku-4-5"}
    assert "3 ok" in said.err


@pytest.mark.usefixtures("anthropic")
def test_fallbacks_are_tried_in_order_and_kept_for_retry(
    ask: Command, cottonpalm: Command, server: Loopback, folder: Path
) -> None:
    rows(folder / "in.jsonl", 1)
    server.script(lambda _: fails(500))
    chosen = ("--fallback", "openai:gpt-4o", "--fallback", "anthropic:claude-haiku-4-5")
    assert ask("in.jsonl", "-o", "out.jsonl", *chosen).code == 3
    assert [arrival.path for arrival in server.arrivals] == ["/v1/chat/completions"] * 2 + ["/v1/messages"]
    server.script(only_anthropic)
    assert cottonpalm("retry", "out").code == 0
    assert [line["model"] for line in lines(folder / "out.jsonl")] == ["claude-haiku-4-5"]


@pytest.mark.usefixtures("anthropic")
def test_an_option_that_a_fallback_does_not_know_is_left_to_the_model_it_was_meant_for(
    ask: Command, server: Loopback, folder: Path
) -> None:
    seen = []

    def script(request: Request) -> Reply | None:
        seen.append({key: request.body.get(key) for key in ("max_tokens", "max_completion_tokens", "seed")})
        return only_anthropic(request)

    server.script(script)
    rows(folder / "in.jsonl", 1)
    options = ("--model-option", "seed=7", "--model-option", "max_tokens=9")
    said = ask("in.jsonl", "-o", "out.jsonl", *options, "--fallback", "anthropic:claude-haiku-4-5")
    assert said.code == 0, said.err
    assert seen[0] == {"max_tokens": None, "max_completion_tokens": 9, "seed": 7}
    assert seen[1] == {"max_tokens": 9, "max_completion_tokens": None, "seed": None}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--fallback", "nobody:x"), "--fallback nobody:x: unknown provider 'nobody'"),
        (("--fallback", "openai"), "--fallback openai: name the model too"),
        (("--max-failures", "many"), "--max-failures many: say a number of rows"),
        (("--max-failures", "101%"), "--max-failures 101%: say a number of rows"),
        (("--max-failures", "0%"), "--max-failures 0%: say a number of rows"),
        (("--max-failures", "-1"), "--max-failures -1: say a number of rows"),
        (("--budget", "-1"), "--budget -1: say a number of US dollars, 0 or more"),
        (("--budget", "inf"), "--budget inf: say a number of US dollars"),
        (("--on-budget", "ask"), "--on-budget ask: say stop or wait"),
        (("--on-budget", "wait"), "--on-budget wait is for --budget-per-hour"),
        (("--timeout", "0"), "--timeout 0: say a number of seconds above 0"),
        (("--timeout", "nan"), "--timeout nan: say a number of seconds above 0"),
        (("--concurrency", "many"), "--concurrency many: say auto, or a number from 1 on"),
        (("--concurrency", "9", "--max-concurrency", "8"), "--concurrency 9 is above --max-concurrency 8"),
        (("--max-concurrency", "0"), "Invalid value for '--max-concurrency'"),
        (("-q", "-v"), "say -q or -v, not both"),
    ],
)
def test_a_value_that_cannot_be_meant_is_one_line_before_any_call(
    ask: Command, server: Loopback, folder: Path, words: tuple[str, ...], said: str
) -> None:
    rows(folder / "in.jsonl", 1)
    done = ask("in.jsonl", "-o", "out.jsonl", *words)
    assert done.code == 2
    assert said in done.one_line
    assert server.requests == 0
    assert not (folder / "cottonpalm.db").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--mode", "bach"), '--mode bach: say "live", "batch" or "auto"'),
        (("--mode", "batch", "--executor", "processes"), "--mode batch needs --executor local"),
        (("--deadline", "5"), "--deadline needs --mode batch or --mode auto"),
        (("--detach",), "--detach needs --mode batch"),
    ],
)
def test_what_the_processor_refuses_is_said_in_the_words_of_the_command_line(
    ask: Command, server: Loopback, folder: Path, words: tuple[str, ...], said: str
) -> None:
    rows(folder / "in.jsonl", 1)
    done = ask("in.jsonl", "-o", "out.jsonl", *words)
    assert (done.code, server.requests) == (2, 0)
    assert said in done.one_line


def test_a_chain_takes_no_fallback(cottonpalm: Command, folder: Path) -> None:
    rows(folder / "in.jsonl", 1)
    said = cottonpalm("run", "in.jsonl", "-o", "o.jsonl", "--chain", "a:b", "--fallback", "openai:x")
    assert "--chain brings its own model and prompt; leave out --fallback" in said.one_line


def test_more_failed_rows_than_allowed_stop_the_run(ask: Command, server: Loopback, folder: Path) -> None:
    server.script(lambda _: fails(400))
    rows(folder / "in.jsonl", 9)
    said = ask("in.jsonl", "-o", "out.jsonl", "--max-failures", "2", "-c", "1")
    assert said.code == 4
    assert "3 rows failed, more than --max-failures 2" in said.err
    assert server.requests <= 4  # one more may have been on its way


def test_a_share_of_failed_rows_is_judged_from_a_hundred_on(
    ask: Command, server: Loopback, folder: Path
) -> None:
    server.script(lambda request: fails(400) if int(request.text.rpartition("-")[2]) % 2 else None)
    rows(folder / "in.jsonl", 300)
    said = ask("in.jsonl", "-o", "out.jsonl", "--max-failures", "12.5%", "-c", "8")
    assert said.code == 4
    assert "rows failed, more than --max-failures 12.5%" in said.err
    assert 100 <= server.requests < 150


def test_the_budget_of_a_command_is_not_passed(ask: Command, server: Loopback, folder: Path) -> None:
    rows(folder / "in.jsonl", 200)
    bounded = ("--model-option", "max_tokens=20")
    said = ask("in.jsonl", "-o", "out.jsonl", "--budget", "0.0005", *bounded)
    assert said.code == 4
    assert "the budget does not allow for another request to 'gpt-4o-mini', which can cost $" in said.err
    assert (
        "a higher --budget or --budget-per-hour, or a smaller --max-output-tokens, lets it go on" in said.err
    )
    spent = sum(line["cost_usd"] for line in lines(folder / "out.jsonl"))
    assert 0 < spent <= 0.0005
    assert server.requests < 200
    assert said.err.count("budget: 50 % reached, $") == said.err.count("budget: 80 % reached, $") == 1
    assert "resume   with a higher --budget: cottonpalm run in.jsonl" in said.err


def test_the_tokens_are_those_of_the_cost_where_a_budget_ends_amid_a_row(
    cottonpalm: Command, server: Loopback, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows(folder / "in.jsonl", 1)
    code = (
        "from langchain_core.runnables import RunnableLambda",
        "from langchain_openai import ChatOpenAI",
        f"model = ChatOpenAI(base_url={server.openai_url!r}, api_key='none', max_tokens=20)",
        "first, second = model, model.bind(max_tokens=2000)",
        "async def ask(row):",
        "    return await second.ainvoke((await first.ainvoke(row['text'])).content)",
        "chain = RunnableLambda(ask)",
    )
    (folder / "two_questions.py").write_text("\n".join(code))
    monkeypatch.syspath_prepend(folder)
    bounded = ("--price", "1:1", "--budget", "0.001")
    said = cottonpalm("run", "in.jsonl", "-o", "out.jsonl", "--chain", "two_questions:chain", *bounded)
    assert said.code == 4
    assert "0 ok" in said.err
    assert server.requests == 1
    assert re.search(r"cost +\$0\.\d+, [1-9]\d* tokens in, [1-9]\d* out\n", said.err), said.err


def test_an_answer_that_does_not_say_what_it_used_is_uncertain(
    ask: Command, server: Loopback, folder: Path
) -> None:
    rows(folder / "in.jsonl", 2)
    server.script([Reply(usage=False)])
    said = ask("in.jsonl", "-o", "out.jsonl", "--model-option", "max_tokens=20")
    assert said.code == 0
    assert re.search(
        r"uncertain up to \$0\.\d+ besides, for requests whose answer never came, or whose cost", said.err
    )


def test_an_hour_s_budget_stops_the_command_when_it_is_spent(
    ask: Command, server: Loopback, folder: Path
) -> None:
    rows(folder / "in.jsonl", 200)
    hourly = ("--budget-per-hour", "0.0005", "--on-budget", "stop")
    said = ask("in.jsonl", "-o", "out.jsonl", *hourly, "--model-option", "max_tokens=20")
    assert said.code == 4, said.err
    spent = sum(line["cost_usd"] for line in lines(folder / "out.jsonl"))
    assert 0 < spent <= 0.0005
    assert "resume   later: cottonpalm run in.jsonl" in said.err


def test_what_cannot_be_bounded_is_refused_in_the_words_of_the_command_line(
    cottonpalm: Command, server: Loopback, folder: Path
) -> None:
    rows(folder / "in.jsonl", 2)
    model = ("--model", "openai:our-own-model", "--base-url", server.openai_url, "--price", "1:2")
    said = cottonpalm("run", "in.jsonl", "-o", "out.jsonl", *model, "--prompt", "{text}", "--budget", "1")
    assert said.code == 4
    assert said.err.rstrip().endswith("--budget 1 --max-output-tokens N"), "what the command lacks"
    assert "Budget(" not in said.err
    assert "higher --budget" not in said.err
    assert server.requests == 0


def test_what_has_no_price_is_refused_with_a_budget_before_any_call(
    cottonpalm: Command, server: Loopback, folder: Path
) -> None:
    rows(folder / "in.jsonl", 2)
    model = ("--model", "openai:our-own-model", "--base-url", server.openai_url)
    said = cottonpalm("run", "in.jsonl", "-o", "out.jsonl", *model, "--prompt", "{text}", "--budget", "1")
    assert said.code == 4
    assert "a budget is set, but no price is known for 'our-own-model'" in said.err
    assert said.err.rstrip().endswith("--budget 1 --price our-own-model=IN:OUT"), "what the command lacks"
    assert server.requests == 0


def test_equal_rows_are_asked_once_with_the_cache(ask: Command, server: Loopback, folder: Path) -> None:
    (folder / "in.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n' * 5)
    said = ask("in.jsonl", "-o", "out.jsonl", "--cache")
    assert server.counts == {"say a": 1, "say b": 1}
    assert sum(line["cached"] for line in lines(folder / "out.jsonl")) == 8
    assert "repeats  8 rows answered from the cache: saved 8 calls, $" in said.err


def test_rows_with_ids_of_their_own_are_equal_if_the_prompt_is(
    ask: Command, server: Loopback, folder: Path
) -> None:
    (folder / "in.csv").write_text("id,text\n1,a\n2,b\n3,a\n4,a\n")
    said = ask("in.csv", "-o", "dear.jsonl", "--id-field", "id")
    assert "repeats  2 rows the same as an earlier one: --cache would have saved 2 calls" in said.err
    said = ask("in.csv", "-o", "out.jsonl", "--id-field", "id", "--cache")
    assert server.counts == {"say a": 4, "say b": 2}
    assert "repeats  2 rows answered from the cache: saved 2 calls, $" in said.err
    found = [(line["id"], line["input"]["id"], line["output"]) for line in lines(folder / "out.jsonl")]
    assert sorted(found) == [(str(n), str(n), f"answer to: say {text}") for n, text in enumerate("abaa", 1)]


def test_another_run_of_the_same_store_finds_the_answers(
    ask: Command, server: Loopback, folder: Path
) -> None:
    rows(folder / "in.jsonl", 3)
    for name in ("one", "two"):
        said = ask("in.jsonl", "-o", f"{name}.jsonl", "--cache")
    assert set(server.counts.values()) == {1}
    assert "repeats  3 rows answered from the cache: saved 3 calls, $" in said.err


def test_without_the_cache_the_summary_says_what_it_would_have_saved(
    ask: Command, server: Loopback, folder: Path
) -> None:
    (folder / "in.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n' * 5)
    said = ask("in.jsonl", "-o", "out.jsonl", "--no-cache")
    assert server.requests == 10
    assert "repeats  8 rows the same as an earlier one: --cache would have saved 8 calls" in said.err


def test_the_cache_would_have_saved_nothing_where_no_model_answered(
    ask: Command, cottonpalm: Command, server: Loopback, folder: Path
) -> None:
    (folder / "in.jsonl").write_text('{"text": "a"}\n' * 6)
    (folder / "app.py").write_text("def shout(row):\n    return row['text'].upper()\n")
    assert "repeats" not in cottonpalm("run", "in.jsonl", "-o", "shout.jsonl", "--chain", "app:shout").err
    server.script(lambda _: fails(400))
    assert "repeats" not in ask("in.jsonl", "-o", "out.jsonl").err
    server.script(lambda _: None)
    assert "--cache would have saved 5 calls" in cottonpalm("retry", "out").err
    assert "repeats" not in ask("in.jsonl", "-o", "out.jsonl").err  # all is done: no call was made


def test_a_dry_run_shows_the_messages_and_does_nothing_else(
    ask: Command, server: Loopback, folder: Path
) -> None:
    (folder / "in.csv").write_text('id,text\n1,"two\nlines {id}"\n2,\x1b[31mred\n3,c\n4,d\n')
    before = sorted(folder.iterdir())
    more = ("--system", "You are {id}.", "--model-option", "temperature=0")
    said = ask("in.csv", "-o", "out.csv", "--dry-run", *more)
    assert said.code == 0
    assert said.out.splitlines() == [
        "model openai:gpt-4o-mini, temperature=0",
        "row 1",
        "  system: You are 1.",
        "  user: say two",
        "        lines {id}",
        "row 2",
        "  system: You are 2.",
        "  user: say \\x1b[31mred",
        "row 3",
        "  system: You are 3.",
        "  user: say c",
    ]
    assert said.err == "nothing was called; without --dry-run the command does it\n"
    assert server.requests == 0
    assert sorted(folder.iterdir()) == before


def test_a_dry_run_shows_the_request_that_is_then_sent(ask: Command, server: Loopback, folder: Path) -> None:
    rows(folder / "in.jsonl", 1)
    shown = ask("in.jsonl", "-o", "o.jsonl", "--dry-run", prompt='Is {text} {"json": {}}?').out
    ask("in.jsonl", "-o", "o.jsonl", prompt='Is {text} {"json": {}}?')
    [arrival] = server.arrivals
    assert f"user: {arrival.text}\n" in shown


@pytest.mark.parametrize(
    ("row", "words", "why"),
    [
        (
            {"text": "gone.png", "n": 1},
            ("--image", "text", "--prompt", "What is {n}?"),
            "'text' names an image",
        ),
        ({"text": 5}, ("--messages", "text"), "'text' holds no messages"),
        ({"custom_id": "a", "body": {"messages": 5}}, ("--requests",), "'messages' holds no messages"),
    ],
)
def test_a_dry_run_says_which_rows_would_fail_and_goes_on(
    cottonpalm: Command, folder: Path, row: dict[str, Any], words: tuple[str, ...], why: str
) -> None:
    two = (row, row | {"custom_id": "b"})
    (folder / "in.jsonl").write_bytes(b"\n".join(map(orjson.dumps, two)))
    model = ("--model", "openai:gpt-4o-mini", "--base-url", "http://127.0.0.1:9/v1")
    said = cottonpalm("run", "in.jsonl", "-o", "out.jsonl", "--dry-run", *model, *words)
    assert (said.code, said.err) == (0, "nothing was called; without --dry-run the command does it\n")
    assert f"row 1 would fail\n  {why}" in said.out
    assert f"row 2 would fail\n  {why}" in said.out


def test_a_dry_run_says_which_stored_rows_would_be_asked_again_and_why(ask: Command, folder: Path) -> None:
    rows(folder / "in.jsonl", 3)
    ask("in.jsonl", "-o", "out.jsonl", "--id-field", "n")
    (folder / "in.jsonl").write_text(
        '{"n": 0, "text": "row-0", "note": "new"}\n{"n": 1, "text": "edited"}\n{"n": 9, "text": "more"}\n'
    )
    said = ask("in.jsonl", "-o", "out.jsonl", "--id-field", "n", "--dry-run").err
    assert "run out has done 1 of 3 rows; 2 would be asked" in said
    assert "1 of the rows to ask were edited since the run asked them" in said
    assert ask("in.jsonl", "-o", "out.jsonl", "--id-field", "n").code == 0  # the run is held by nobody


def test_a_dry_run_refuses_another_chain_as_the_run_would(
    ask: Command, cottonpalm: Command, server: Loopback, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows(folder / "in.jsonl", 3)
    ask("in.jsonl", "-o", "out.jsonl")
    asked = server.requests
    for words, prompt in (((), "shout {text}"), (("--temperature", "1"), "say {text}")):
        said = ask("in.jsonl", "-o", "out.jsonl", "--dry-run", *words, prompt=prompt)
        assert (said.code, said.err) == (2, ask("in.jsonl", "-o", "out.jsonl", *words, prompt=prompt).err)
        assert "run 'out' began with another chain" in said.err
        assert "would be asked" not in said.err
    fresh = ask("in.jsonl", "-o", "out.jsonl", "--dry-run", "--fresh", prompt="shout {text}")
    assert (
        "run out would be forgotten (--fresh), 3 answers and 0 failed rows: all rows would be asked"
        in fresh.err
    )
    assert (
        "run out has done 3 of 3 rows; 0 would be asked"
        in ask("in.jsonl", "-o", "out.jsonl", "--dry-run").err
    )
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    without = cottonpalm(
        "run",
        "in.jsonl",
        "-o",
        "out.jsonl",
        "--dry-run",
        "--model",
        "openai:gpt-4o-mini",
        "--prompt",
        "other {text}",
    )
    assert without.code == 0
    assert "note: whether run out began with the same chain was not looked at: " in without.err
    assert server.requests == asked


def test_a_dry_run_of_a_run_without_an_answer_says_that_it_begins_anew(
    ask: Command, server: Loopback, folder: Path
) -> None:
    server.script(lambda _: bad_key())
    rows(folder / "in.jsonl", 1)
    ask("in.jsonl", "-o", "out.jsonl")
    said = ask("in.jsonl", "-o", "out.jsonl", "--dry-run", prompt="shout {text}")
    assert said.code == 0
    assert (
        "run out has no answer yet, so it would begin anew with what was changed: all rows would be asked"
        in said.err
    )


def test_a_dry_run_of_a_chain_shows_its_input(cottonpalm: Command, folder: Path) -> None:
    rows(folder / "in.jsonl", 1)
    (folder / "cp_dry.py").write_text(
        "from langchain_core.runnables import RunnableLambda\n"
        "chain = RunnableLambda(lambda row: open('called', 'w'))\n"
    )
    said = cottonpalm("run", "in.jsonl", "-o", "o.jsonl", "--chain", "cp_dry:chain", "--dry-run", "-q")
    assert said.out == 'chain cp_dry:chain\nrow 1\n  input: {"n":0,"text":"row-0"}\n'
    assert said.err == ""
    assert not (folder / "called").exists()


def test_a_dry_run_needs_no_key_and_finds_what_is_wrong(cottonpalm: Command, folder: Path) -> None:
    (folder / "in.jsonl").write_text('{"text": "a"}\n{"txt": "b"}\n')
    model = ("--model", "openai:gpt-4o-mini", "--dry-run")
    said = cottonpalm("run", "in.jsonl", "-o", "o.jsonl", *model, "--prompt", "{text}")
    assert said.code == 0
    assert "row 2 would fail\n  in.jsonl line 2: no column 'text'" in said.out
    said = cottonpalm("run", "in.jsonl", "-o", "o.jsonl", *model, "--prompt", "{tekst}")
    assert said.code == 2
    assert "names {tekst}, which is no column of in.jsonl; did you mean {text}?" in said.one_line
    said = cottonpalm(
        "run", "in.jsonl", "-o", "o.jsonl", "--model", "opnai:x", "--dry-run", "--prompt", "{text}"
    )
    assert "unknown provider 'opnai'" in said.one_line


def test_a_refused_key_says_which_variable_to_look_at(ask: Command, server: Loopback, folder: Path) -> None:
    server.script(lambda _: bad_key())
    rows(folder / "in.jsonl", 1)
    said = ask("in.jsonl", "-o", "out.jsonl")
    assert said.code == 4
    assert "Incorrect API key provided." in said.err
    assert "check OPENAI_API_KEY" in said.err
    server.script(lambda _: ok("fine"))
    assert ask("in.jsonl", "-o", "out.jsonl").code == 0


def test_a_cut_answer_is_a_fault_unless_it_is_accepted(ask: Command, server: Loopback, folder: Path) -> None:
    server.script(lambda _: cut_by_length("half"))
    rows(folder / "in.jsonl", 1)
    assert ask("in.jsonl", "-o", "out.jsonl").code == 3
    assert ask("in.jsonl", "-o", "taken.jsonl", "--accept-truncated", "--no-hedge").code == 0
    assert lines(folder / "taken.jsonl")[0]["output"] == "half"


def test_requests_go_by_the_transport_that_is_asked_for_and_the_report_says_so(
    ask: Command, cottonpalm: Command, server: Loopback, folder: Path
) -> None:
    rows(folder / "in.jsonl", 4)
    assert 'say "fast" or "stock"' in ask("in.jsonl", "-o", "a.jsonl", "--transport", "turbo").one_line
    assert ask("in.jsonl", "-o", "a.jsonl", "--transport", "stock").code == 0
    assert ask("in.jsonl", "-o", "b.jsonl", "--transport", "fast", "-c", "1").code == 0
    stock, fast = ([line["output"] for line in lines(folder / name)] for name in ("a.jsonl", "b.jsonl"))
    assert stock == fast == [f"answer to: say row-{number}" for number in range(4)]
    assert "transport" not in cottonpalm("report", "a").out
    assert "transport  3 fast, 1 by the SDK (the model's first request)" in cottonpalm("report", "b").out


def test_the_display_is_redrawn_unless_it_is_not_wanted(
    ask: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    rows(folder / "in.jsonl", 3)
    hides_the_cursor = "\x1b[?25l"
    assert hides_the_cursor in ask("in.jsonl", "-o", "a.jsonl", "--progress").err
    assert hides_the_cursor not in ask("in.jsonl", "-o", "b.jsonl", "--no-progress").err
    assert ask("in.jsonl", "-o", "c.jsonl", "-q").err == ""


def test_the_demo_labels_one_sentence_at_least(cottonpalm: Command) -> None:
    said = cottonpalm("demo", "--rows", "0")
    assert said.code == 2
    assert "Invalid value for '--rows'" in said.one_line


def test_rates_are_taken_as_ceilings_and_must_be_at_least_one(
    ask: Command, server: Loopback, folder: Path
) -> None:
    rows(folder / "in.jsonl", 2)
    assert ask("in.jsonl", "-o", "out.jsonl", "--rpm", "600", "--tpm", "100000").code == 0
    assert server.requests == 2
    for flag in ("--rpm", "--tpm"):
        refused = ask("in.jsonl", "-o", "other.jsonl", flag, "0")
        assert refused.code == 2
        assert flag in refused.err
    assert server.requests == 2


def test_a_run_whose_first_twenty_rows_fail_alike_ends_with_4_unless_all_may_fail(
    ask: Command, folder: Path, server: Loopback
) -> None:
    rows(folder / "in.jsonl", 120)
    server.script(lambda _: fails(400))
    said = ask("in.jsonl", "-o", "out.jsonl", "--concurrency", "4")
    assert said.code == 4
    assert "the first 20 rows that were over all failed alike: " in said.err
    assert "400 Bad Request" in said.err
    assert "say --max-failures 100%" in said.err
    assert 20 <= server.requests < 30
    said = ask("in.jsonl", "-o", "out.jsonl", "--max-failures", "100%")
    assert said.code == 3
    assert (
        120 <= server.requests < 124
    )  # a refusal that was under way when the run stopped is asked for once more
