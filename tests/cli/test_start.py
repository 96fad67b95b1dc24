"""What is loaded when a program begins: counted in modules, as seconds are the machine's."""

from __future__ import annotations

import os
import subprocess
import sys

SLOW = {"rich", "pydantic", "langchain_core", "openai", "markdown_it", "pygments", "sqlite3", "orjson"}


def loaded(program: str, **environment: str) -> list[str]:
    """The modules whose names a program prints in its last line."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
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
