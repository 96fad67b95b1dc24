"""The command in this process, in an empty folder, against a server on the loopback."""

from __future__ import annotations

import functools
import http.server
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from cottonpalm.cli.app import main
from cottonpalm.cli.chains.models import PROVIDERS
from tests.support.loopback import Loopback

if TYPE_CHECKING:
    from pathlib import Path

KEYS = [name for provider in PROVIDERS.values() for name in (*provider.keys, *provider.urls)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder and the address that serves it, without ranges."""
    folder = tmp_path_factory.mktemp("site")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def one_line(self) -> str:
        """The error, if it is exactly one line and says who speaks."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("cottonpalm: ")
        return lines[0]


Command = Callable[..., Said]


@pytest.fixture
def server() -> Iterator[Loopback]:
    with Loopback() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for key in KEYS:
        monkeypatch.delenv(key, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cottonpalm(folder: Path, capfd: pytest.CaptureFixture[str]) -> Command:
    def command(*words: str) -> Said:
        before = signal.getsignal(signal.SIGINT)
        code = main(list(words))
        assert signal.getsignal(signal.SIGINT) is before
        out, err = capfd.readouterr()
        return Said(code, out, err)

    return command


@pytest.fixture
def ask(cottonpalm: Command, server: Loopback) -> Command:
    """`run` with the loopback server as the model."""

    def command(*words: str, prompt: str = "say {text}", retries: str = "0") -> Said:
        model = ("--model", "openai:gpt-4o-mini", "--base-url", server.openai_url, "--retries", retries)
        return cottonpalm("run", *words, *model, "--prompt", prompt)

    return command


def rows(path: Path, number: int) -> Path:
    """An input of so many rows."""
    path.write_bytes(b"".join(b'{"n": %d, "text": "row-%d"}\n' % (n, n) for n in range(number)))
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    """An output's lines, by index."""
    found = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    return sorted(found, key=lambda line: line["index"])
