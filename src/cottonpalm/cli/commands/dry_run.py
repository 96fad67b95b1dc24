"""`--dry-run`: the first rows as they would be asked. Nothing is called, opened or written."""

from __future__ import annotations

from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.cli.chains.build import form_of, prompt_of
from cottonpalm.cli.chains.importing import load_chain
from cottonpalm.cli.chains.prompts import doubts
from cottonpalm.cli.problems import Code
from cottonpalm.cli.readers.open_rows import rows_of
from cottonpalm.cli.screen import show_block
from cottonpalm.engine.input.reader import Broken
from cottonpalm.stores.codec.as_json import dumped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cottonpalm.cli.readers.rows import InputRows, Row
    from cottonpalm.cli.screen import Screen
    from cottonpalm.cli.spec import RunSpec

FIRST: Final = 3  # rows shown
Part = tuple[str, str]  # a label and a text


def show_first_rows(job: RunSpec, screen: Screen) -> Code:
    """Show what the first rows would ask, on stdout.

    Raises:
        Problem: the input, the prompt or the chain cannot be used.
    """
    form = form_of(job)
    with closing(rows_of(job)) as rows:
        parts = _parts_of(job, rows)
        show_block(_what(job), [] if form is None else [("answer", f"{{{', '.join(form.fields)}}}")])
        for number, row in enumerate(islice(rows, FIRST)):
            if isinstance(row, Broken):
                show_block(f"row {number} would fail", [("", row.error.message)])
            else:
                show_block(f"row {number}", parts(row))
        for doubt in doubts(f"{job.prompt} {job.system or ''}", rows.columns) if job.prompt else ():
            screen.say(f"note: {doubt}")
    screen.say("nothing was called; without --dry-run the command does it")
    return Code.OK


def _what(job: RunSpec) -> str:
    if job.chain is not None:
        return f"chain {job.chain}"
    options = [
        f"{key}={dumped(value).decode()}" for key, value in job.as_json()["job"]["model_options"].items()
    ]
    return ", ".join([f"model {job.model or 'local'}", *options])


def _parts_of(job: RunSpec, rows: InputRows) -> Callable[[Row], list[Part]]:
    """What is shown of a row: its messages; for a chain of the user's, the input it gets."""
    if job.chain is not None:
        load_chain(job.chain, job.folder)
        return lambda row: [("input", dumped(row).decode())]
    prompt = prompt_of(job, rows)
    return lambda row: list(_messages(prompt.invoke(row)))


def _messages(messages: list[Any]) -> Iterator[Part]:
    names = {"human": "user"}
    for message in messages:
        yield names.get(message.type, message.type), str(message.content)
