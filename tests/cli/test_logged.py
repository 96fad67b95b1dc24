"""What the library logs, as the command shows it: nothing takes it there but the command itself."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.cli.conftest import rows
from tests.support import programs

if TYPE_CHECKING:
    from pathlib import Path


WARNS = """
import logging
from langchain_core.runnables import RunnableLambda

{setup}

def warn(row):
    logging.getLogger("cottonpalm").warning("no price is known; prices={{'m': (in, out)}} (--price m=IN:OUT) says it")
    logging.getLogger("other").error("a thing\\x1b[31m broke")
    return 1

chain = RunnableLambda(warn)
"""


def said(folder: Path, *words: str, setup: str = "") -> str:
    (folder / "cp_warns.py").write_text(WARNS.format(setup=setup))
    command = ["run", "in.jsonl", "-o", "out.jsonl", "--fresh", "--chain", "cp_warns:chain", *words]
    done = programs.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0
    return str(done.stderr)


def test_what_is_logged_is_said_in_the_words_of_the_command_line(folder: Path) -> None:
    rows(folder / "in.jsonl", 1)
    loud = said(folder)
    assert "no price is known; --price m=IN:OUT says it\n" in loud
    assert "cottonpalm: a thing\\x1b[31m broke\n" in loud
    assert said(folder, "-q").splitlines() == loud.splitlines()[:2], "with -q as well"


def test_a_chain_that_sets_up_logging_has_it_as_it_wants(folder: Path) -> None:
    rows(folder / "in.jsonl", 1)
    loud = said(folder, "-q", setup="logging.basicConfig(format='mine %(message)s')")
    assert loud.startswith("mine no price is known; prices={'m': (in, out)}")
    assert "cottonpalm:" not in loud
