"""`rm`: forgets a run and its rows after the user has confirmed it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cottonpalm.cli.commands.parts import parts_of
from cottonpalm.cli.problems import Problem
from cottonpalm.cli.screen.screen import holder_of
from cottonpalm.cli.store.held_store import existing_store
from cottonpalm.observers.words.formatting import clean, count, money
from cottonpalm.shell import JOB, Code
from cottonpalm.urls import shown

if TYPE_CHECKING:
    from cottonpalm.cli.screen.screen import Screen
    from cottonpalm.protocols import RunInfo


def remove_run(url: str, name: str, screen: Screen, *, sure: bool) -> Code:
    """Forget a run. Its output file stays where it is.

    Args:
        url: the store.
        name: of the run.
        screen: where the question is asked.
        sure: do not ask.

    Raises:
        Problem: there is no such store or run, nobody can be asked, or the answer was no.
        RunBusy: another process works on it.
    """
    with existing_store(url, writes=True) as store:
        info = store.known(name)
        if info.holder is not None:
            raise Problem(f"run {name} is in use by {holder_of(info)}; stop that first")
        parts = parts_of(info, store.runs())  # of a folder: what was answered is theirs
        if (busy := next((part for part in parts if part.holder is not None), None)) is not None:
            raise Problem(f"run {busy.name} is in use by {holder_of(busy)}; stop that first")
        if not sure:
            _ask(info, parts, screen)
        for part in parts:  # before the folder's own: without that nobody would find them again
            store.remove(part.name)
        store.remove(name)
    kept = info.meta.get(JOB, {}).get("output", "-")
    screen.say(f"run {name} is forgotten{'' if kept == '-' else f'; {shown(kept)} stays as it is'}")
    return Code.OK


def _ask(info: RunInfo, parts: list[RunInfo], screen: Screen) -> None:
    of_rows = parts or [info]
    ok, failed = sum(part.ok for part in of_rows), sum(part.failed for part in of_rows)
    what = f"{count(ok, 'answer')} and {count(failed, 'failed row')}"
    what += f" of {count(len(parts), 'file')}" if parts else ""
    cost = sum(part.cost_pico for part in of_rows)
    worth = f", which cost {money(cost)}" if cost else ""
    if sys.stdin is None or not sys.stdin.isatty():
        raise Problem(f"rm {info.name} would forget {what}{worth}; say --yes to do it")
    screen.ask(f"forget {what} of run {clean(info.name)}{worth}? [y/N] ")
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise Problem(f"run {info.name} is kept")
