"""`cottonpalm dashboard`, and `--dashboard` beside a run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from cottonpalm.cli.app import main
from cottonpalm.cli.options.typer_classes import with_port

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.core
ROOT = Path(__file__).parents[2]
CHAIN = """
import urllib.request
from langchain_core.runnables import RunnableLambda

SAID = []

def look(row):
    jar = urllib.request.HTTPCookieProcessor()
    return urllib.request.build_opener(jar).open(SAID[0]()).read().decode()

chain = RunnableLambda(look)
"""


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("a.csv --dashboard", "a.csv --dashboard=auto"),
        ("--dashboard 8080 -q", "--dashboard 8080 -q"),
        ("--dashboard -q", "--dashboard=auto -q"),
        ("--dashboard a.csv", "--dashboard=auto a.csv"),
        ("--dashboard=9 a.csv", "--dashboard=9 a.csv"),
        ("", ""),
    ],
)
def test_the_port_may_be_left_out(typed: str, read: str) -> None:
    assert with_port(typed.split()) == read.split()


def test_the_page_is_served_until_it_is_interrupted(store: Path) -> None:
    command = [sys.executable, "-m", "cottonpalm.cli.app", "dashboard", "--store", str(store), "--port", "0"]
    command += ["--currency", "CNY=7.1"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "200"}
    )
    assert process.stderr is not None
    try:
        assert "whoever has this address" in process.stderr.readline()
        address = process.stderr.readline().strip()
        with httpx.Client(trust_env=False, follow_redirects=True) as client:
            page = client.get(address).text
            assert "200, 20 failed" in page
            assert ("¥" in page, "$" in page) == (True, False)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.stderr.close()
        process.wait()


def test_a_run_shows_itself_while_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The chain itself opens the address that the run printed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cp_looks.py").write_text(CHAIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "in.jsonl").write_text('{"text": "one"}\n')

    def address() -> str:
        found = re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", capfd.readouterr().err)
        assert found is not None
        return found[0]

    import cp_looks  # type: ignore[import-not-found]

    says: list[Callable[[], str]] = cp_looks.SAID
    says.append(address)
    command = ["run", "in.jsonl", "-o", "out.jsonl", "--chain", "cp_looks:chain", "--dashboard", "0"]
    assert main([*command, "--no-progress", "--run", "shown-live"]) == 0
    assert "shown-live" in (tmp_path / "out.jsonl").read_text()
    assert main(["retry", "shown-live", "--no-progress", "--dashboard", "0"]) == 0
    assert "whoever has this address" in capfd.readouterr().err


@pytest.mark.parametrize("port", ["70000", "8_0", "http"])
def test_a_port_that_is_none_is_refused_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], port: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text('{"text": "one"}\n')
    command = [
        "run",
        "in.jsonl",
        "-o",
        "out.jsonl",
        "--model",
        "openai:x",
        "--prompt",
        "{text}",
        "--base-url",
        "http://127.0.0.1:1/v1",
    ]
    assert main([*command, f"--dashboard={port}"]) == 2
    assert f"--dashboard {port}: give a port from 0 to 65535" in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_store_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["dashboard", "--store", "none.db"]) == 2
    assert "there is no store none.db" in capfd.readouterr().err


def test_an_address_that_is_not_of_this_machine_is_named(
    store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["dashboard", "--store", str(store), "--host", "192.0.2.1"]) == 2
    assert "the live page cannot listen at 192.0.2.1" in capfd.readouterr().err
