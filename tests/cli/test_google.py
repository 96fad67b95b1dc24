"""`--model google:`: Gemini over real sockets, its faults, its money, and its key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import lines, rows
from tests.support import google
from tests.support.replies import cut_body, cut_by_length, fails, filtered, ok, refused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Command, Said
    from tests.support.loopback import Loopback
    from tests.support.replies import Reply, Request

KEY = "AIzaSyTheKeyOfTheReader0123456789abcdef"


@pytest.fixture
def gemini(cottonpalm: Command, server: Loopback, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`run` with Gemini on the loopback."""
    monkeypatch.setenv("GOOGLE_API_KEY", KEY)
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)

    def command(*words: str, retries: str = "0") -> Said:
        model = ("--model", "google:gemini-2.5-flash", "--retries", retries)
        return cottonpalm("run", "in.jsonl", "-o", "out.jsonl", *model, "--prompt", "say {text}", *words)

    return command


@pytest.fixture
def row(gemini: Command, server: Loopback, folder: Path) -> Callable[..., dict[str, object]]:
    """One row, answered as the replies say; its line of the output."""

    def ask(*replies: Reply, retries: str = "0") -> dict[str, object]:
        rows(folder / "in.jsonl", 1)
        server.script(list(replies))
        gemini("--fresh", retries=retries)
        [line] = lines(folder / "out.jsonl")
        return line

    return ask


def test_rows_are_answered_and_what_they_cost_is_what_the_server_counted(
    gemini: Command, server: Loopback, folder: Path
) -> None:
    rows(folder / "in.jsonl", 30)
    said = gemini("--system", "Be brief.", "--model-option", "temperature=0")
    assert said.code == 0, said.err
    found = lines(folder / "out.jsonl")
    assert [line["output"] for line in found] == [f"answer to: say row-{n}" for n in range(30)]
    assert {line["model"] for line in found} == {"gemini-2.5-flash"}
    assert {line["cost_source"] for line in found} == {"reported"}
    assert all(line["cost_usd"] > 0 for line in found)
    assert sum(line["usage"]["input_tokens"] for line in found) == server.billed.input_tokens
    assert sum(line["usage"]["output_tokens"] for line in found) == server.billed.output_tokens
    assert server.requests == 30


def test_the_limit_holds_for_its_requests(gemini: Command, server: Loopback, folder: Path) -> None:
    rows(folder / "in.jsonl", 20)
    assert gemini("-c", "2").code == 0
    assert server.peak <= 2


def test_a_key_never_leaves_its_header(gemini: Command, server: Loopback, folder: Path) -> None:
    rows(folder / "in.jsonl", 4)
    seen = []

    def script(request: Request) -> Reply | None:
        seen.append((request.headers["x-goog-api-key"], KEY in request.path, KEY in str(request.body)))
        return fails(403, raw=f'{{"error": {{"code": 403, "message": "Key {KEY} has no access"}}}}')

    server.script(script)
    said = gemini("-v", "-c", "1")
    assert said.code == 4
    assert set(seen) == {(KEY, False, False)}
    assert KEY not in said.err + said.out
    assert "[redacted]" in said.err
    for path in folder.iterdir():
        assert KEY.encode() not in path.read_bytes(), path


def test_either_variable_gives_the_key_and_none_is_one_line(
    cottonpalm: Command, server: Loopback, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows(folder / "in.jsonl", 1)
    words = ("run", "in.jsonl", "-o", "out.jsonl", "--model", "google:gemini-2.5-flash", "--prompt", "{text}")
    assert "--model google:… needs a key: export GOOGLE_API_KEY=…" in cottonpalm(*words).one_line
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    said = cottonpalm(*words, "--base-url", server.url)
    assert said.code == 0, said.err


@pytest.mark.parametrize(
    ("reply", "kind", "code"),
    [
        (google.exhausted("GenerateRequestsPerDayPerProjectPerModel-FreeTier", "3600s"), "stop_run", 4),
        (google.key_invalid(), "stop_run", 4),
        (fails(403), "fail_row", 3),
        (fails(404), "fail_row", 3),
        (google.too_many_tokens(), "degrade", 3),
        (fails(400), "fail_row", 3),
        (fails(500), "transient", 3),
        (fails(504), "transient", 3),
        (cut_body(), "transient", 3),
        (google.prompt_blocked(), "fail_row", 3),
        (filtered(), "fail_row", 3),
        (refused(), "fail_row", 3),
        (cut_by_length("half an ans"), "degrade", 3),
    ],
    ids=lambda value: getattr(value, "code", None) or str(value)[:40],
)
def test_what_google_says_is_understood(
    gemini: Command, server: Loopback, folder: Path, reply: Reply, kind: str, code: int
) -> None:
    rows(folder / "in.jsonl", 1)
    server.script(lambda _: reply)
    said = gemini()
    [line] = lines(folder / "out.jsonl")
    assert (line["error"]["kind"], said.code) == (kind, code), line
    assert server.requests == 1


@pytest.mark.parametrize(
    "reply", [google.exhausted("GenerateRequestsPerMinutePerProject", "0.2s"), fails(503)], ids=["429", "503"]
)
def test_a_throttle_is_waited_out_and_uses_no_try(
    row: Callable[..., dict[str, object]], server: Loopback, reply: Reply
) -> None:
    line = row(reply, reply, ok("at last"))
    assert (line["status"], line["output"], line["attempts"]) == ("ok", "at last", 3)


def test_the_wait_that_google_names_is_kept(row: Callable[..., dict[str, object]], server: Loopback) -> None:
    row(google.exhausted("GenerateRequestsPerMinutePerProject", "0.5s"), ok("at last"))
    first, second = server.arrivals
    assert second.at_s - first.at_s >= 0.5


def test_a_cut_answer_keeps_its_text_and_its_cost(row: Callable[..., dict[str, object]]) -> None:
    line = row(cut_by_length("half an ans"))
    assert line["output"] == "half an ans"
    assert line["cost_usd"] > 0  # type: ignore[operator]


def test_a_refused_key_names_its_variable(gemini: Command, server: Loopback, folder: Path) -> None:
    rows(folder / "in.jsonl", 1)
    server.script(lambda _: google.key_invalid())
    assert "(check GOOGLE_API_KEY)" in gemini().err


def test_a_budget_bounds_it(gemini: Command, server: Loopback, folder: Path) -> None:
    rows(folder / "in.jsonl", 100)
    said = gemini("--budget", "0.001", "--model-option", "max_output_tokens=20")
    assert said.code == 4, said.err
    assert 0 < sum(line["cost_usd"] for line in lines(folder / "out.jsonl")) <= 0.001


def test_an_option_it_does_not_know_is_refused(gemini: Command, folder: Path) -> None:
    rows(folder / "in.jsonl", 1)
    said = gemini("--model-option", "temprature=0")
    assert "google models have no option 'temprature'; did you mean temperature?" in said.one_line
