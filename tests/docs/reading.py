"""Does what a reader of a page would do: writes its files, runs its Python, types its commands."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.docs.pages import ROOT, Block, blocks, name_of
from tests.support import programs
from tests.support.transport import python_path

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND_S = 120
TYPED = ("cottonpalm ", "cat ", "printf ", "echo ", "rm ")  # commands that are run; others (pip, git) are not


def model_is_there() -> bool:
    """Whether the embedded model and the demo's sentences are in the cache, and the engine is installed."""
    from importlib.util import find_spec

    from cottonpalm.local import fetch

    return bool(find_spec("xllamacpp")) and all(
        fetch.status(asset).present for asset in (fetch.MODEL, fetch.REVIEWS)
    )


def follow(page: Path, folder: Path) -> int:
    """Do all that the page says, in `folder`; how many blocks were run."""
    names: dict[str, Any] = {"__name__": "__main__"}
    run = 0
    for block in blocks(page):
        where = f"{name_of(page)}:{block.line}"
        if block.note == "file":
            (folder / block.value).write_text(block.text, encoding="utf-8")
        elif block.note == "not run" or (block.note == "needs" and not model_is_there()):
            if block.language == "python":
                compile(block.text, where, "exec")
        elif block.language == "python":
            _python(block, where, names)
            run += 1
        elif block.language == "console":
            run += _console(block, where, folder)
    return run


def _python(block: Block, where: str, names: dict[str, Any]) -> None:
    code = compile("\n" * (block.line - 1) + block.text, where, "exec")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(code, names)
    if block.prints is not None:
        compare(said.getvalue(), block.prints, where)


def _console(block: Block, where: str, folder: Path) -> int:
    run = 0
    for command, expected in commands(block.text):
        if command.startswith(TYPED):
            said = type_in(command, folder)
            compare(said, expected, f"{where}: {command}")
            run += 1
    return run


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Each command after a `$`, with the lines that continue it, and the output shown below it."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines(keepends=True)
        size = next(n for n, line in enumerate(lines, 1) if not line.rstrip("\n").endswith("\\"))
        yield "".join(lines[:size]).strip(), "".join(lines[size:])


def type_in(command: str, folder: Path) -> str:
    """What a shell shows after this command, both streams as they come."""
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    options: dict[str, Any] = {
        "cwd": folder,
        "env": {**os.environ, "PATH": tools, "PYTHONPATH": python_path(ROOT)},
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "text": True,
    }
    if words := _words(command):
        return str(programs.run(words, **options).stdout)
    return subprocess.run(["bash", "-c", command], timeout=COMMAND_S, check=False, **options).stdout


def _words(command: str) -> list[str]:
    """What follows `cottonpalm`, where that is all of the command and needs no shell to be understood."""
    command = command.replace("\\\n", " ")
    unquoted = re.sub(r"""'[^']*'|"[^"$`\\]*\"""", "", command)
    program, *words = shlex.split(command)
    return words if program == "cottonpalm" and not re.search(r"""["'|&;<>$`*?~#]""", unquoted) else []


def compare(said: str, expected: str, where: str) -> None:
    """The output shown, line by line; `...` stands for anything within a line. Nothing shown: nothing is compared."""
    if not expected.strip():
        return
    shown = [line.rstrip() for line in expected.splitlines()]
    real = [line.rstrip() for line in said.splitlines()]
    same = len(shown) == len(real) and all(_matches(*pair) for pair in zip(shown, real, strict=True))
    assert same, f"{where} shows\n{expected}\nand it is\n{said}"


def _matches(shown: str, real: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, shown.split("..."))), real) is not None


__all__ = ["commands", "compare", "follow", "model_is_there", "type_in"]
