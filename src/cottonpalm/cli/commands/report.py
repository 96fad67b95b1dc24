"""`report`: a run of the store as one HTML file, or two runs compared. Nothing is called."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from cottonpalm import clock
from cottonpalm.cli.files.output_file import is_stream, probe, replacing
from cottonpalm.cli.held_store import existing_store
from cottonpalm.cli.problems import Code, Problem, os_problem, shown
from cottonpalm.cli.spec import META
from cottonpalm.cli.summary import retry_command
from cottonpalm.observers import kept
from cottonpalm.observers.formatting import count
from cottonpalm.observers.page.compare import compare, compared_text
from cottonpalm.observers.page.document import MADE_HERE
from cottonpalm.observers.page.run_page import page_of
from cottonpalm.observers.page.story import Story
from cottonpalm.observers.report import text_of
from cottonpalm.observers.rows_seen import RowsSeen
from cottonpalm.protocols import ReadsOn
from cottonpalm.stores import shown as store_shown
from cottonpalm.stores.codec.glances import about, glances

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cottonpalm.cli.held_store import HeldStore
    from cottonpalm.cli.screen import Screen
    from cottonpalm.observers.kept import Kept
    from cottonpalm.observers.page.story import State
    from cottonpalm.protocols import RunInfo, StoredRows

PAGE: Final = 1024
FACTS: Final = "facts"
DEFAULT_STORE: Final = "cottonpalm.db"
HEAD: Final = 400  # bytes within which a report of ours says that it is one
_WHY: Final = {
    "fatal": "No row could be answered.",
    "budget": "The budget did not reach further.",
    "max_failures": "Too many rows failed.",
    "stalled": "Nothing moved any more.",
    "store": "The store failed.",
    "interrupted": "It was interrupted.",
    "error": "It ended with an error.",
}
_HIDDEN: Final = frozenset({"folder", "input_kept", "unkept"})


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
    if output is not None and not is_stream(output):
        check_page(output, overwrite=overwrite)
    with existing_store(url) as store:
        stories = [story_of(store, name, url) for name in names]
    if output is None:
        sys.stdout.write(_text(stories) + "\n")
        return Code.OK
    now = clock.wall()
    text = page_of(stories[0], written=now) if len(stories) == 1 else compare(*stories, written=now)
    write_page(output, text)
    what = f"report of run {names[0]}" if len(names) == 1 else f"runs {names[0]} and {names[1]}, compared"
    screen.say(f"{'standard output' if output == '-' else shown(output)}: {what}")
    return Code.OK


def check_page(output: str, *, overwrite: bool) -> None:
    """Before anything is read.

    Raises:
        Problem: the folder is not there, or the file is one of somebody else.
    """
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
    if output == "-":
        sys.stdout.write(text)
    elif is_stream(output):
        Path(output).write_text(text, "utf-8")
    else:
        with replacing(output) as file:
            file.write(text.encode())


def open_events(path: str) -> BinaryIO:
    """A file to which events are added.

    Raises:
        Problem: it cannot be written.
    """
    try:
        return Path(path).open("ab", buffering=1 << 16)
    except OSError as error:
        raise os_problem("write", path, error) from error


# -- what is known of a run


def story_of(store: HeldStore, name: str, url: str, *, ours: bool = False) -> Story:
    """A run as its page tells it. `ours`: it is this process that holds it, and it has come to its end.

    Raises:
        Problem: there is none of this name.
    """
    info = store.known(name)
    if ours:
        info = info._replace(holder=None)
    life = kept.read(info.meta.get(kept.META))
    rows = rows_of(store.look(name))
    facts = info.meta.get(FACTS, {})
    report = life.report if life is not None else kept.nothing()
    asked = info.meta.get(META, {})
    return Story(
        report,
        name,
        _state(info, life, facts),
        "" if life is None or life.reason is None else _WHY.get(life.reason, ""),
        tuple(report.by_model) or tuple(filter(None, [asked.get("model")])),
        info.created if life is None else life.began,
        None if life is None or info.holder else life.ended,
        facts.get("total") if facts.get("exact") else None,
        rows,
        dict(_settings(info, life, url)),
        retry_command(name, url, DEFAULT_STORE) if rows.failed else "",
    )


def rows_of(stored: StoredRows | None) -> RowsSeen:
    """Read all rows once, even if another process works on the run."""
    seen = RowsSeen()
    if stored is not None:
        for page in _pages(stored):
            seen.add(glances(page))
        seen.texts = {at: about(record) for at, record in stored.read(sorted(seen.shown)).items()}
    return seen


def _pages(stored: StoredRows) -> Iterator[list[tuple[int, bytes]]]:
    """All records, in the order of the rows."""
    after = -1
    if isinstance(stored, ReadsOn):
        while page := stored.records(after, PAGE):
            yield page
            after = page[-1][0]
        return
    while slots := stored.scan(after, PAGE):
        yield sorted(stored.read([row.slot for row in slots]).items())
        after = slots[-1].slot


def _state(info: RunInfo, life: Kept | None, facts: Mapping[str, Any]) -> State:
    if info.holder:
        return "running"
    code = facts.get("code")
    stopped = code not in (None, Code.OK, Code.SOME_FAILED)
    if stopped or life is None or life.reason is not None or not life.over:
        return "failed" if life is not None and life.reason in ("fatal", "store", "error") else "stopped"
    return "some failed" if info.failed else "done"


def _settings(info: RunInfo, life: Kept | None, url: str) -> Iterator[tuple[str, str]]:
    yield "run", info.name
    for name, value in info.meta.get(META, {}).items():
        if name not in _HIDDEN and value not in (None, "", [], {}, False):
            yield _label(name), _said(name, value)
    yield "store", shown(store_shown(url))
    if life is not None and life.lives:
        earlier = sum(rows for _, _, rows in life.lives)
        yield "lives", f"{len(life.lives) + 1}; the earlier ones did {count(earlier, 'row')}"


def _label(name: str) -> str:
    return name.removesuffix("_usd").removesuffix("_s").replace("_", " ")


def _said(name: str, value: Any) -> str:
    if name in ("input", "output"):
        return "standard input" if value == "-" and name == "input" else shown(str(value))
    if isinstance(value, dict):
        return ", ".join(f"{key}={part}" for key, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if name.endswith("_usd"):
        return f"${value:,.2f}"
    return "on" if value is True else f"{value:g} s" if name.endswith("_s") else str(value)


def _text(stories: Sequence[Story]) -> str:
    """For a terminal."""
    return text_of(stories[0].report) if len(stories) == 1 else compared_text(*stories)
