"""What a person is told who mistyped something, or whose own chain fails: where it is, and what to do."""

from __future__ import annotations

import http.server
import threading
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import lines, rows
from tests.support.replies import bad_key, unknown_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.conftest import Command
    from tests.support.loopback import Loopback

pytestmark = [pytest.mark.core, pytest.mark.waits]
CHAINS = """
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda

def parse(row):
    return int(row["text"])  # row-0 is no number

chain = RunnableLambda(parse)
prompted = ChatPromptTemplate.from_template("Say {txt}") | RunnableLambda(str)
right = ChatPromptTemplate.from_template("Say {text}") | RunnableLambda(str)

def make_chain(loud=True):
    return RunnableLambda(lambda row: row["text"].upper() if loud else row)

def make_nothing():
    return 5
"""


@pytest.fixture
def chains(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"chains_{abs(hash(folder))}"
    (folder / f"{name}.py").write_text(CHAINS)
    rows(folder / "in.jsonl", 1)
    return name


def test_the_failed_rows_last_own_line_is_shown(cottonpalm: Command, chains: str) -> None:
    said = cottonpalm("run", "in.jsonl", "-o", "out.jsonl", "--chain", f"{chains}:chain", "-v")
    assert said.code == 3
    assert f'(at {chains}.py:6, in parse: return int(row["text"])' in said.err
    quiet = cottonpalm("run", "in.jsonl", "-o", "out.jsonl", "--chain", f"{chains}:chain", "--fresh")
    assert f"(at {chains}.py:6, in parse: return" in quiet.err
    assert cottonpalm("status", "out", "-v").out.count(f"{chains}.py:6, in parse") == 1


def test_an_import_that_fails_names_the_users_line(cottonpalm: Command, folder: Path) -> None:
    rows(folder / "in.jsonl", 1)
    (folder / "broken_app.py").write_text("import os\n\nkey = os.environ['NO_SUCH_KEY']\n")
    said = cottonpalm("run", "in.jsonl", "-o", "out.jsonl", "--chain", "broken_app:chain").one_line
    assert "KeyError: 'NO_SUCH_KEY' (at broken_app.py:3, in <module>: key = os.environ" in said


def test_a_dry_run_formats_the_first_rows_of_a_chain_and_finds_a_missing_variable(
    cottonpalm: Command, chains: str
) -> None:
    words = ("run", "in.jsonl", "-o", "out.jsonl", "--dry-run", "--chain")
    assert "user: Say row-0" in cottonpalm(*words, f"{chains}:right").out
    said = cottonpalm(*words, f"{chains}:prompted")
    assert said.code == 2
    assert "the prompt reads 'txt', which the row lacks; it has 'n', 'text'" in said.err


def test_a_chain_may_be_made_by_a_function(cottonpalm: Command, folder: Path, chains: str) -> None:
    words = ("run", "in.jsonl", "-o", "out.jsonl", "--chain")
    assert cottonpalm(*words, f"{chains}:make_chain").code == 0
    assert lines(folder / "out.jsonl")[0]["output"] == "ROW-0"
    assert "makes no Runnable but an int" in cottonpalm(*words, f"{chains}:make_nothing").one_line


def test_a_run_without_an_answer_begins_anew_when_the_prompt_is_mended(
    ask: Command, folder: Path, server: Loopback
) -> None:
    rows(folder / "in.jsonl", 2)
    server.script(lambda request: bad_key())
    assert ask("in.jsonl", "-o", "out.jsonl", "--system", "a").code != 0
    server.script(None)
    said = ask("in.jsonl", "-o", "out.jsonl", "--system", "b")
    assert said.code == 0
    assert "run out has no answer yet, so it begins anew" in said.err
    assert len(lines(folder / "out.jsonl")) == 2


def test_a_changed_prompt_is_called_the_prompt(ask: Command, folder: Path) -> None:
    rows(folder / "in.jsonl", 1)
    assert ask("in.jsonl", "-o", "out.jsonl").code == 0
    said = ask("in.jsonl", "-o", "out.jsonl", prompt="shout {text}").one_line
    assert 'the prompt changed: "say {text}" -> "shout {text}"' in said
    assert "RowPrompt" not in said
    assert "steps[" not in ask("in.jsonl", "-o", "out.jsonl", "--model-option", "temperature=1").one_line


class NotAtTheRoot(http.server.BaseHTTPRequestHandler):
    """A server whose API is below /v1, and that knows nothing else."""

    def do_GET(self) -> None:
        self._say(200 if self.path == "/v1/models" else 404)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self._say(404)

    def _say(self, status: int) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.core
def test_a_word_that_is_no_text_is_refused_before_anything_is_made(ask: Command, folder: Path) -> None:
    name = b"caf\xe9.csv".decode(errors="surrogateescape")
    (folder / name).write_text("text\na\n")
    said = ask(name, "-o", "out.csv")
    assert (said.code, r"'caf\udce9.csv' is no text in utf-8: rename the file" in said.one_line) == (2, True)
    assert [path.name for path in folder.iterdir()] == [name]


def test_where_nobody_listens_the_next_step_is_said(cottonpalm: Command, folder: Path) -> None:
    rows(folder / "in.jsonl", 1)
    words = ("run", "in.jsonl", "-o", "out.jsonl", "-m", "ollama:llama3.2", "-p", "{text}", "--retries", "0")
    said = cottonpalm(*words, "--base-url", "http://127.0.0.1:9/v1").err
    assert "nobody listens there: start the server, or name the one that runs with --base-url" in said


def test_where_a_proxy_refuses_the_proxy_is_to_be_mended(
    cottonpalm: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    rows(folder / "in.jsonl", 1)
    words = ("run", "in.jsonl", "-o", "out.jsonl", "-m", "openai:m", "-p", "{text}", "--retries", "0")
    said = cottonpalm(*words, "--base-url", "http://far.invalid/v1").err
    assert "requests go by a proxy: mend HTTPS_PROXY and HTTP_PROXY" in said
    assert "nobody listens there" not in said


class Gate(http.server.BaseHTTPRequestHandler):
    """A proxy that refuses everybody with the status of its server."""

    def do_POST(self) -> None:
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.send_header("content-length", "0")
        self.end_headers()

    do_CONNECT = do_POST

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[http.server.ThreadingHTTPServer]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gate) as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.server_address[1]}")
        monkeypatch.setenv("NO_PROXY", "")
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield proxy
        proxy.shutdown()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_asks_for_a_password_stops_the_run_and_costs_no_row(
    cottonpalm: Command,
    folder: Path,
    server: Loopback,
    gate: http.server.ThreadingHTTPServer,
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
) -> None:
    gate.status = 407  # type: ignore[attr-defined]
    rows(folder / "in.jsonl", 40)
    words = ("run", "in.jsonl", "-o", "out.jsonl", "-m", "openai:m", "-p", "{text}", "-c", "2", "--base-url")
    said = cottonpalm(*words, server.openai_url.replace("http", scheme, 1))
    assert (said.code, "the run stopped" in said.err) == (4, True)
    assert "407 Proxy Authentication Required" in said.err
    assert len(lines(folder / "out.jsonl")) <= 2
    monkeypatch.setenv("NO_PROXY", "*")
    # by another name: langchain_openai keeps the client of an address, with its proxy
    assert cottonpalm(*words, server.openai_url.replace("127.0.0.1", "localhost")).code == 0
    assert {row["status"] for row in lines(folder / "out.jsonl")} == {"ok"}


def test_what_a_proxy_says_that_does_not_connect_is_told_with_what_to_mend(
    cottonpalm: Command, folder: Path, gate: http.server.ThreadingHTTPServer
) -> None:
    gate.status = 403  # type: ignore[attr-defined]
    rows(folder / "in.jsonl", 1)
    words = ("run", "in.jsonl", "-o", "out.jsonl", "-m", "openai:m", "-p", "{text}", "--retries", "0")
    said = cottonpalm(*words, "--base-url", "https://far.invalid/v1").err
    assert f"403 Forbidden at far.invalid, by the proxy 127.0.0.1:{gate.server_address[1]}" in said
    assert "requests go by a proxy: mend HTTPS_PROXY and HTTP_PROXY" in said


def test_https_to_a_server_without_tls_is_told_in_words(
    cottonpalm: Command, folder: Path, server: Loopback
) -> None:
    rows(folder / "in.jsonl", 1)
    url = server.openai_url.removeprefix("http://")
    asked = ("run", "in.jsonl", "-o", "a.jsonl", "-m", "openai:m", "-p", "{text}", "--retries", "0")
    said = cottonpalm(*asked, "--base-url", f"https://{url}").err
    assert f"speaks plain HTTP, no TLS: say --base-url http://{url}" in said


def test_a_base_url_without_its_path_is_told_where_the_api_is(cottonpalm: Command, folder: Path) -> None:
    rows(folder / "in.jsonl", 1)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), NotAtTheRoot) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        asked = ("run", "in.jsonl", "-m", "openai:m", "-p", "{text}", "--retries", "0")
        said = cottonpalm(*asked, "-o", "a.jsonl", "--base-url", url)
        right = cottonpalm(*asked, "-o", "b.jsonl", "--base-url", f"{url}/v1")  # only the model is wrong
        server.shutdown()
    assert f"the server's API is at {url}/v1: say --base-url {url}/v1" in said.err
    assert "--base-url" not in right.err


def test_a_server_without_a_list_of_models_that_knows_no_such_model_is_believed(
    ask: Command, folder: Path, server: Loopback
) -> None:
    rows(folder / "in.jsonl", 1)
    server.script(lambda _: unknown_model())
    said = ask("in.jsonl", "-o", "a.jsonl").err
    assert "404 Not Found: The model does not exist" in said
    assert "check --base-url" not in said


@pytest.mark.parametrize(
    ("model", "kind"), [("anthropic:claude-haiku-4-5", "Anthropic"), ("google:gemini-2.5-flash", "Gemini")]
)
def test_a_provider_whose_package_adds_the_version_is_told_the_address_without_it(
    cottonpalm: Command, folder: Path, model: str, kind: str
) -> None:
    rows(folder / "in.jsonl", 1)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), NotAtTheRoot) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        asked = ("run", "in.jsonl", "-m", model, "-p", "{text}", "--retries", "0")
        said = cottonpalm(*asked, "-o", "a.jsonl", "--base-url", f"{url}/v1")
        right = cottonpalm(*asked, "-o", "b.jsonl", "--base-url", url)  # only the model is wrong
        server.shutdown()
    assert f"the server's API is at {url}: say --base-url {url}\n" in said.err
    assert "--base-url" not in right.err
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/x"
        said = cottonpalm(*asked, "-o", "c.jsonl", "--base-url", url)
        server.shutdown()
    assert f"there is no {kind} API at {url}: check --base-url; it is the address that /v1 is put" in said.err
