"""`--dry-run`: the first rows as they would be asked. Nothing is called, opened or written."""

from __future__ import annotations

from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.chain.fingerprint import describe, together
from cottonpalm.chain.questions import names_read, question_by
from cottonpalm.cli.chains.build import build, form_of, prompt_of
from cottonpalm.cli.chains.importing import load_chain
from cottonpalm.cli.chains.messages import request_of, shown
from cottonpalm.cli.problems import Problem
from cottonpalm.cli.readers.open_rows import rows_of
from cottonpalm.cli.readers.rows import RowFields, listed, request_column
from cottonpalm.cli.screen import wording
from cottonpalm.cli.screen.screen import show_block
from cottonpalm.cli.store.held_store import existing_store
from cottonpalm.cli.writers.open_output import check_name
from cottonpalm.engine.input.known_by import part_of
from cottonpalm.engine.input.reader import Broken, Reader
from cottonpalm.errors import ChainChanged, RunBusy
from cottonpalm.observers.words.formatting import count
from cottonpalm.planning.planner import asked_again
from cottonpalm.protocols import RETRYABLE
from cottonpalm.shell import Code
from cottonpalm.stores import database_of
from cottonpalm.stores.codec.as_json import dumped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from collections.abc import Set as AbstractSet

    from cottonpalm.cli.options.spec import RunSpec
    from cottonpalm.cli.readers.rows import InputRows, Row
    from cottonpalm.cli.screen.screen import Screen
    from cottonpalm.cli.store.held_store import HeldRun, HeldStore
    from cottonpalm.protocols import RunInfo

FIRST: Final = 3  # rows shown
Part = tuple[str, str]  # a label and a text


def show_first_rows(job: RunSpec, screen: Screen, store: str, run: str, *, named: bool, fresh: bool) -> Code:
    """Show what the first rows would ask, on stdout; and where the store has the run, what of it would be asked again.

    Raises:
        Problem: the input, the prompt or the chain cannot be used, or the run is another file's or another chain's.
    """
    form = form_of(job)
    with closing(rows_of(job)) as rows:
        parts = _parts_of(job, rows)
        show_block(_what(job), [] if form is None else [("answer", f"{{{', '.join(form.fields)}}}")])
        for number, row in enumerate(islice(rows, FIRST), 1):
            show_block(*_shown(number, row, parts))
    for said in _of_the_run(job, store, run, named=named or fresh, fresh=fresh):
        screen.say(said)
    screen.say("nothing was called; without --dry-run the command does it")
    return Code.OK


def _shown(number: int, row: Row | Broken, parts: Callable[[Row], list[Part]]) -> tuple[str, list[Part]]:
    """A heading, and what the row would ask, or why it would fail."""
    if isinstance(row, Broken):
        why = row.error.message
    else:
        try:
            return f"row {number}", parts(row)
        except (TypeError, ValueError) as error:  # its messages are none, or its image cannot be read
            why = str(error)
    return f"row {number} would fail", [("", why)]


def _of_the_run(job: RunSpec, url: str, name: str, *, named: bool, fresh: bool) -> Iterator[str]:
    """Say how many rows the run has done, how many would be asked, and why some of them again.

    Raises:
        Problem: the run is another file's, or has answers of another chain.
    """
    database = database_of(url)
    if job.read_once or database is None or not database.exists():
        return
    with existing_store(url) as store:
        if (info := store.info(name)) is None:
            return
        if not named:
            check_name(info, job.input, job.output)
        if fresh:
            held = f"{count(info.ok, 'answer')} and {count(info.failed, 'failed row')}"
            yield f"run {name} would be forgotten (--fresh), {held}: all rows would be asked"
        else:
            yield from _of_what_it_holds(job, store, info)


def _of_what_it_holds(job: RunSpec, store: HeldStore, info: RunInfo) -> Iterator[str]:
    name = info.name
    description, why = _description(job)
    if description is None:
        yield f"note: whether run {name} began with the same chain was not looked at: {why}"
    try:
        run = store.open_run(name, description)
    except RunBusy:
        yield f"note: another process works on run {name}, so what it holds was not looked at"
        return
    except ChainChanged as changed:
        if info.ok or store.batches(name):
            raise Problem(wording.here(str(changed))) from changed
        yield f"run {name} has no answer yet, so it would begin anew with what was changed: all rows would be asked"
        return
    with closing(run), closing(rows_of(job)) as rows:
        yield from _counted(job, run, rows)


def _counted(job: RunSpec, run: HeldRun, rows: InputRows) -> Iterator[str]:
    reader = Reader(
        ids=RowFields(job.id_field).ids,
        store=run,
        keyed=True,
        skip=True,
        question=question_by(_reads(job, rows)),
        read=part_of(run),
    )
    asked = sum(item is not None and item.broken is None for item in map(reader.item, rows))
    held = sum(number for status, number in run.counts().items() if status != RETRYABLE)
    yield f"run {run.name} has done {reader.stored:,} of {reader.read:,} rows; {asked:,} would be asked"
    yield from (f"note: {why}" for why in asked_again(reader, held))


def _description(job: RunSpec) -> tuple[dict[str, Any] | None, str]:
    """What the answers would depend on, as the run itself keeps it; or why it cannot be told, as without a key."""
    try:
        with closing(rows_of(job)) as rows:
            built = build(job, rows, quiet=True)
    except Problem as problem:
        return None, str(problem)
    return together([describe(chain) for chain in (built.chain, *built.fallbacks)]), ""


def _reads(job: RunSpec, rows: InputRows) -> AbstractSet[str] | None:
    """The names of a row that the chain reads; None: all."""
    if job.chain is not None:
        return names_read([load_chain(job.chain, job.folder)])
    if job.requests:
        return frozenset({request_column(rows.columns, job.source)})
    return frozenset(prompt_of(job, rows).cottonpalm_reads)


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
        prompts = prompts_of(load_chain(job.chain, job.folder))
        return lambda row: list(_formatted(prompts, row)) or [("input", dumped(row).decode())]
    if job.requests:
        column = request_column(rows.columns, job.source)
        return lambda row: list(_messages(request_of(row[column], column).messages))
    prompt = prompt_of(job, rows)
    return lambda row: list(_messages(prompt.invoke(row)))


def _formatted(prompts: Any, row: Row) -> Iterator[Part]:
    """The messages of a chain that begins with a prompt template.

    Raises:
        Problem: the template reads what the row does not have.
    """
    if prompts is None:
        return
    try:
        made = prompts.invoke(row)
    except Exception as error:
        needs = [name for name in prompts.input_variables if name not in row]
        lacks = f"the prompt reads {listed(needs)}, which the row lacks; it has {listed(row)}"
        raise Problem(f"the chain's prompt cannot be made: {lacks if needs else error}") from error
    yield from _messages(made.to_messages())


def prompts_of(chain: Any) -> Any:
    """Return the prompt template that a chain begins with; None where it begins otherwise."""
    from langchain_core.prompts import BasePromptTemplate
    from langchain_core.runnables import RunnableSequence

    first = chain.first if isinstance(chain, RunnableSequence) else chain
    return first if isinstance(first, BasePromptTemplate) else None


def _messages(messages: list[Any]) -> Iterator[Part]:
    names = {"human": "user"}
    for message in messages:
        yield names.get(message.type, message.type), shown(message.content)
