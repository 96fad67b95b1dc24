"""What is loaded when a program begins: counted in modules, as seconds are the machine's."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.support.loopback import Loopback

if TYPE_CHECKING:
    from pathlib import Path

SLOW = {"rich", "pydantic", "langchain_core", "openai", "markdown_it", "pygments", "sqlite3", "orjson"}


def loaded(program: str, folder: Path | None = None, **environment: str) -> list[str]:
    """The modules whose names a program prints in its last line."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.splitlines()[-1].split()


COMMAND = """
import sys
from cottonpalm.cli.app import main
try:
    main({words})
except SystemExit:
    pass
print()
print(*sys.modules)
"""


def test_the_help_of_the_program_loads_nothing_that_only_a_run_needs() -> None:
    modules = loaded(COMMAND.format(words=["--help"]))
    assert not SLOW & {name.partition(".")[0] for name in modules}
    assert len(modules) < 230


def test_to_complete_a_word_loads_nothing_that_only_a_run_needs() -> None:
    asked = {
        "COMP_WORDS": "cottonpalm run --max-",
        "COMP_CWORD": "2",
        "_COTTONPALM_COMPLETE": "complete_bash",
    }
    modules = loaded(COMMAND.format(words=[]), **asked)
    assert not SLOW & {name.partition(".")[0] for name in modules}
    assert len(modules) < 230


def test_a_processor_is_imported_with_nothing_but_langchains_runnables_and_few_modules_of_our_own() -> None:
    new = loaded(
        "from langchain_core.runnables import Runnable\n"
        "import sys\n"
        "before = set(sys.modules)\n"
        "from cottonpalm import BatchProcessor\n"
        "print(*(set(sys.modules) - before))\n"
    )
    ours = [name for name in new if name.startswith("cottonpalm")]
    assert set(new) - set(ours) <= {"gc"}
    assert 0 < len(ours) < 55


def test_a_run_loads_little_more_than_the_model_that_it_asks(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "hi"}\n')
    model = loaded("import sys, langchain_openai, openai.resources.chat\nprint(*sys.modules)")
    with Loopback() as server:
        words = ["run", "in.jsonl", "-o", "out.jsonl", "--prompt", "say {text}"]
        words += ["--model", "openai:gpt-4o-mini", "--base-url", server.openai_url, "--no-progress"]
        new = set(loaded(COMMAND.format(words=words), tmp_path)) - set(model)
    assert server.requests == 1
    assert not {name for name in new if name.startswith("cottonpalm.presets")}
    libraries = {name.partition(".")[0] for name in new}
    assert not libraries & {
        "httpx",
        "pyarrow",
        "numpy",
        "pygments",
        "starlette",
        "prometheus_client",
        "opentelemetry",
    }
