"""`--transport` of the tests themselves: a run of them on the SDKs says something only if it reaches every process."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from cottonpalm.request.transports import DEFAULT_TRANSPORT
from tests.cli.conftest import lines, rows
from tests.cli.killing import environment
from tests.support import programs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.support.loopback import Loopback
    from tests.support.replies import Request


def forked(words: Sequence[str]) -> int:
    return programs.run(words, env=environment() | {"OPENAI_API_KEY": "sk-x"}).returncode


def new(words: Sequence[str]) -> int:
    environ = environment() | {"OPENAI_API_KEY": "sk-x"}
    return subprocess.run([sys.executable, "-m", "cottonpalm", *words], env=environ, check=False).returncode


def in_workers(words: Sequence[str]) -> int:
    return forked([*words, "--executor", "processes", "--workers", "2"])


@pytest.mark.parametrize("begin", [forked, new, in_workers])
def test_a_program_of_a_test_sends_its_requests_by_the_transport_that_the_tests_are_run_with(
    begin: Callable[[Sequence[str]], int], folder: Path, server: Loopback
) -> None:
    by_us: list[bool] = []

    def sees(request: Request) -> Any:
        by_us.append(request.headers["accept-encoding"] == "gzip")

    server.script(sees)
    rows(folder / "in.jsonl", 40)
    model = ["--model", "openai:gpt-4o-mini", "--base-url", server.openai_url, "--prompt", "say {text}", "-q"]
    assert begin(["run", "in.jsonl", "-o", "out.jsonl", *model]) == 0
    assert len(lines(folder / "out.jsonl")) == len(by_us) == 40
    assert any(by_us) == (DEFAULT_TRANSPORT == "fast")
