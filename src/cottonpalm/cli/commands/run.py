"""One run: what it needs is opened, checked and held, and closed again, whatever comes of it."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, closing, redirect_stdout
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.cli.chains.build import build
from cottonpalm.cli.commands.dashboard import beside, port_of
from cottonpalm.cli.commands.ending import Work
from cottonpalm.cli.commands.session import Session
from cottonpalm.cli.files.output_file import is_same, is_stream
from cottonpalm.cli.problems import Problem
from cottonpalm.cli.readers.open_rows import rows_of
from cottonpalm.cli.readers.stored_rows import StoredInput
from cottonpalm.cli.screen import wording
from cottonpalm.cli.store.held_store import HeldStore
from cottonpalm.cli.writers.open_output import check_name, check_output
from cottonpalm.errors import ChainChanged, StoreError
from cottonpalm.shell import Code
from cottonpalm.stores import database_of, open_store
from cottonpalm.urls import absolute, shown

if TYPE_CHECKING:
    from cottonpalm.cli.chains.build import Built
    from cottonpalm.cli.commands.where import Where
    from cottonpalm.cli.options.spec import RunSpec
    from cottonpalm.cli.readers.rows import InputRows
    from cottonpalm.cli.screen.screen import Screen

WRITTEN: Final = ("output", "report")


def carry_out(job: RunSpec, where: Where, screen: Screen) -> Code:
    """Do a job's rows that are not done, bring the output up to date, and say how it went.

    Raises:
        Problem, ConfigError, StoreError: nothing was called yet; the message says what to mend.
    """
    with ExitStack() as stack:
        if job.output == "-" and sys.stdout is not None:  # data alone: what a chain prints goes aside
            stack.enter_context(redirect_stdout(sys.stderr))
        _check_views(job, where)
        if _is_new(where.store):  # what is refused leaves no file behind
            _check_output(job, where, {})
        if where.again and job.read_once:
            store = _held(where, stack)
            rows: InputRows | StoredInput = StoredInput(store, store.known(where.run))
            built = build(job, rows, quiet=screen.quiet)
        else:
            rows = stack.enter_context(closing(rows_of(job)))
            built = build(job, rows, quiet=screen.quiet)
            store = _held(where, stack)
        info = store.info(where.run)
        if info is not None and not where.named:
            check_name(info, job.input, job.output, replace=where.fresh or where.overwrite)
        _check_output(job, where, info.meta if info else {})
        stack.enter_context(beside(where.store, where.live, screen))
        code = _run_or_begin_anew(Session(Work(job, where, screen, rows, store)), built, store, screen)
        return released(store, code, screen)


def _run_or_begin_anew(session: Session, built: Built, store: HeldStore, screen: Screen) -> Code:
    """Run; where the chain has changed and the run has no answer yet, forget its failures and begin again.

    Raises:
        Problem: the chain has changed, and the run has answers.
    """
    try:
        return session.run(built)
    except ChainChanged as changed:
        info = store.info(session.name)
        if info is None or info.ok or store.batches(session.name):
            raise Problem(wording.here(str(changed))) from changed
    screen.say(f"run {session.name} has no answer yet, so it begins anew with what was changed")
    store.begin_anew()
    session.forget()
    return session.run(built)


def _check_views(job: RunSpec, where: Where) -> None:
    port_of(where.live)
    if where.stream and job.mode != "live":
        raise Problem(
            f"--stream shows answers as they come, a batch brings them whole: leave out --mode {job.mode}"
        )
    if where.stream and job.executor != "local":
        raise Problem(f"--stream is for rows of this process: leave out --executor {job.executor}")
    if where.page is not None:
        from cottonpalm.cli.commands.report import check_page

        check_page(where.page, overwrite=where.overwrite)
    _check_files(job, where)


def _check_files(job: RunSpec, where: Where) -> None:
    """Refuse one file in two places: what is written in the one would spoil the other."""
    files = {} if (store := database_of(where.store)) is None else {"store": absolute(str(store))}
    _refuse_same("-o", job.output, files)  # that it is not the input is looked at with it
    files |= {"input": job.input, "output": job.output}
    for flag, path in (("--report", where.page), ("--events", where.events)):
        if path is not None:
            _refuse_same(flag, absolute(path), files)
            files["report"] = absolute(path)


def _refuse_same(flag: str, path: str, files: dict[str, str]) -> None:
    for what, other in files.items():
        if (what == "input" and other == "-") or not is_same(path, other):
            continue
        if not (is_stream(path) or is_stream(other)):
            raise Problem(f"{flag} {shown(path)} is the {what} itself; name another file")
        if what in WRITTEN and not is_same(path, os.devnull):  # into a stream, nothing else is lost
            where = " on standard output" if is_same(path, "-") else ""
            raise Problem(
                f"{flag} {shown(path)} and the {what} would be one text{where}; name a file for one of them"
            )


def _held(where: Where, stack: ExitStack) -> HeldStore:
    store = HeldStore(open_store(where.store), where.store, fresh=where.fresh, again=where.again)
    stack.callback(store.release)
    return store


def _is_new(store: str) -> bool:
    database = database_of(store)
    return database is not None and not database.exists()


def _check_output(job: RunSpec, where: Where, meta: dict[str, Any]) -> None:
    guard, bom = job.guard_formulas, job.bom
    check_output(job.output, job.input, meta, overwrite=where.overwrite, guard=guard, bom=bom)


def released(store: HeldStore, code: Code, screen: Screen) -> Code:
    """Close the store; if that fails after all went well, the run was stopped by its store."""
    try:
        store.release()
    except StoreError as error:
        if code in (Code.OK, Code.SOME_FAILED):
            screen.error(str(error))
            return Code.STOPPED
    return code
