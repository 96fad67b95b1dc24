"""`report`: a run of the store as one HTML file, or two runs compared. Nothing is called."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from cottonpalm import clock
from cottonpalm.cli.commands.parts import parts_of
from cottonpalm.cli.files.output_file import is_same, is_stream, probe, replacing
from cottonpalm.cli.problems import Problem, os_problem
from cottonpalm.cli.screen.screen import put
from cottonpalm.cli.store.held_store import existing_store
from cottonpalm.live.stories import rows_of, told
from cottonpalm.observers import kept
from cottonpalm.observers.page.compare import compare, compared_text
from cottonpalm.observers.page.document import MADE_HERE
from cottonpalm.observers.page.run_page import page_of
from cottonpalm.observers.report import text_of
from cottonpalm.observers.words.formatting import as_it_can_be_shown, money
from cottonpalm.shell import Code, command_on
from cottonpalm.stores import database_of
from cottonpalm.urls import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cottonpalm.cli.screen.screen import Screen
    from cottonpalm.cli.store.held_store import HeldStore
    from cottonpalm.observers.page.story import Story

HEAD: Final = 400  # bytes within which a report of ours says that it is one


def story_of(store: HeldStore, name: str, url: str, *, ours: bool = False) -> Story:
    """A run as its page tells it. `ours`: it is this process that holds it, and it has come to its end.

    Raises:
        Refused: there is none of this name.
    """
    info = store.known(name)
    if ours:
        info = info._replace(holder=None)
    return told(info, kept.read(info.meta.get(kept.META)), rows_of(store.look(name)), url)


def show_report(
    url: str, names: Sequence[str], output: str | None, screen: Screen, *, overwrite: bool
) -> Code:
    """Write the page, or print the same in short.

    Args:
        url: the store.
        names: one run, or two to be compared.
        output: an HTML file, `-` for standard output; None for a text.
        screen: where the user is told.
        overwrite: replace a file that is no report.

    Raises:
        Problem: there is no such run, or the file cannot be written.
    """
    if output is not None:
        _refuse_store(output, url)
        check_page(output, overwrite=overwrite)
    with existing_store(url) as store:
        stories = [story_of(store, name, url) for name in names]
        folders = [note for name in names if (note := _of_files(store, name, url))]
    for note in folders:
        screen.say(note)
    if output is None:
        sys.stdout.write(as_it_can_be_shown(_text(stories), sys.stdout.encoding) + "\n")
        return Code.OK
    now = clock.wall()
    text = page_of(stories[0], written=now) if len(stories) == 1 else compare(*stories, written=now)
    write_page(output, text)
    what = f"report of run {names[0]}" if len(names) == 1 else f"runs {names[0]} and {names[1]}, compared"
    screen.say(f"{'standard output' if output == '-' else shown(output)}: {what}")
    return Code.OK


def _of_files(store: HeldStore, name: str, url: str) -> str:
    """What the rows in the report of a folder's run are; "" for any other run."""
    parts = parts_of(store.known(name), store.runs())
    if not parts:
        return ""
    example = command_on("report", parts[0].name, url)
    return f"note: the rows in the report of run {name} are files, each of which is a run with a report ({example})"


def _refuse_store(output: str, url: str) -> None:
    """`overwrite` is for files that can be made again: all that the runs have paid for is in the store."""
    store = database_of(url)
    if store is not None and is_same(output, str(store)):
        raise Problem(f"-o {shown(output)} is the store itself; name another file")


def check_page(output: str, *, overwrite: bool) -> None:
    """Before anything is read.

    Raises:
        Problem: the folder is not there, or the file is one of somebody else.
    """
    if is_stream(output):  # nothing is replaced there
        return
    path = Path(output)
    if not path.parent.is_dir():
        raise Problem(
            f"there is no folder {shown(str(path.parent))} for {shown(output)}; make it, or name another"
        )
    if path.is_dir():
        raise Problem(f"{shown(output)} is a folder; name a file, as in {shown(str(path / 'report.html'))}")
    if path.exists() and not overwrite and not _is_ours(path):
        raise Problem(f"{shown(output)} is there and is no report; name another file, or say --overwrite")
    probe(output)


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(HEAD)
    return not start or MADE_HERE.encode() in start


def write_page(output: str, text: str) -> None:
    """Put the whole file in place in one step.

    Raises:
        Problem: it cannot be written.
    """
    if not is_stream(output):
        with replacing(output) as file:
            file.write(text.encode())
        return
    try:
        if output == "-":
            put(text.encode())
        else:
            Path(output).write_text(text, "utf-8")
    except OSError as error:
        where = "standard output" if output == "-" else output
        raise os_problem("write to", where, error, Code.STOPPED) from error


def open_events(path: str, say: Callable[[str], None]) -> BinaryIO:
    """A file to which events are added, each a line of its own, also behind one that was cut; `-` for standard output.

    Args:
        path: the file.
        say: called where nobody reads the pipe that it is, as to open that waits for a reader.

    Raises:
        Problem: it cannot be written.
    """
    try:
        if path == "-":
            return os.fdopen(
                os.dup(1), "wb", buffering=1 << 16
            )  # a file of its own, as it is closed with the run
        if Path(path).is_fifo():
            return os.fdopen(_open_pipe(path, say), "wb", buffering=1 << 16)
        return _at_a_new_line(Path(path).open("ab", buffering=1 << 16), path)
    except OSError as error:
        raise os_problem("write", path, error) from error


def _open_pipe(path: str, say: Callable[[str], None]) -> int:
    try:
        pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        say(f"--events {shown(path)} is a pipe that nobody reads: the run begins when somebody does")
        return os.open(path, os.O_WRONLY)
    os.set_blocking(pipe, True)  # one that was opened and closed again would end its reader
    return pipe


def _at_a_new_line(file: BinaryIO, path: str) -> BinaryIO:
    if not is_stream(path) and Path(path).stat().st_size:
        with suppress(PermissionError), Path(path).open("rb") as before:  # one may be allowed to write alone
            before.seek(-1, os.SEEK_END)
            file.write(b"" if before.read() == b"\n" else b"\n")
    return file


def _text(stories: Sequence[Story]) -> str:
    """For a terminal."""
    return _one(stories[0]) if len(stories) == 1 else compared_text(*stories)


def _one(story: Story) -> str:
    """Its report, and before it what the store holds beyond that: a process that was killed kept no last report."""
    rows = story.rows
    if rows is None or (story.known and not story.untold):
        return text_of(story.report)
    cost = f", {money(rows.cost_pico)}" if rows.cost_pico else ""
    stored = f"stored     {rows.ok:,} ok, {rows.failed:,} failed{cost}\n"
    if not story.known:
        return f"{stored}report     its process has kept none: it was killed, or began just now"
    return f"{stored}report     of the time before, as its process kept it:\n\n{text_of(story.report)}"
