"""`demo`: an ordinary `run` over real review sentences with the embedded model, and an honest count."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson
from rich.text import Text

from cottonpalm.cli.commands.run import carry_out
from cottonpalm.cli.commands.where import Where
from cottonpalm.cli.files.output_file import replacing
from cottonpalm.cli.options.spec import RunSpec
from cottonpalm.cli.screen.screen import show
from cottonpalm.local.demo import GRAMMAR, MAX_TOKENS, demo_parts
from cottonpalm.shell import Code
from cottonpalm.types import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cottonpalm.cli.screen.screen import Screen
    from cottonpalm.local.demo import Demo

FOLDER: Final = "cottonpalm-demo"


def show_demo(rows: int, screen: Screen, argv: Sequence[str]) -> Code:
    """Label so many sentences in a folder of their own; the same command again goes on, or says the score again.

    Raises:
        LocalModelError: the model or the sentences cannot be fetched.
    """
    parts = demo_parts(rows, quiet=screen.quiet)
    folder = Path.cwd() / FOLDER
    folder.mkdir(exist_ok=True)
    job = _job(folder, parts, rows)
    with replacing(job.input) as file:
        file.writelines(orjson.dumps(row) + b"\n" for row in parts.rows)
    screen.say(parts.notice)
    screen.say(f"This is what runs now, on {rows} sentences that people have rated:")
    screen.command(_command(job))
    code = carry_out(job, Where(f"{FOLDER}/cottonpalm.db", f"demo-{rows}", argv=argv), screen)
    if code in (Code.OK, Code.SOME_FAILED):
        show(Text(str(parts.score(_outcomes(Path(job.output))))))
    return code


def _job(folder: Path, parts: Demo, rows: int) -> RunSpec:
    return RunSpec(
        input=str(folder / f"reviews-{rows}.jsonl"),
        output=str(folder / f"labelled-{rows}.jsonl"),
        folder=str(Path.cwd()),
        model="local",
        prompt=parts.prompt,
        system=parts.system,
        model_options={"grammar": GRAMMAR, "max_tokens": MAX_TOKENS},
    )


def _command(job: RunSpec) -> str:
    words = [
        "cottonpalm",
        "run",
        f"{FOLDER}/{Path(job.input).name}",
        "-o",
        f"{FOLDER}/{Path(job.output).name}",
    ]
    words += ["--model", "local", "--system", job.system or "", "--prompt", job.prompt or ""]
    options = [f"{key}={value}" for key, value in job.model_options.items()]
    words += [word for option in options for word in ("--model-option", option)]
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    """For a shell, on one line."""
    if "\n" not in word:
        return shlex.quote(word)
    return "$'" + word.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


def _outcomes(path: Path) -> Iterator[Outcome]:
    for line in path.read_bytes().splitlines():
        row = orjson.loads(line)
        yield Outcome(row["index"], row["status"], row["output"])
