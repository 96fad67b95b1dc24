"""`export`: a run's results as a file of any format, from the store. Nothing is called."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.cli.chains.build import need_columns
from cottonpalm.cli.commands.parts import parts_of
from cottonpalm.cli.files.output_file import is_stream
from cottonpalm.cli.options.spec import RunSpec
from cottonpalm.cli.problems import Problem
from cottonpalm.cli.readers.open_rows import Reading, open_rows, reading_of
from cottonpalm.cli.readers.rows import RowFields
from cottonpalm.cli.store.glimpse import Glimpse
from cottonpalm.cli.store.held_store import HeldRun, existing_store
from cottonpalm.cli.writers.atomic import Layout
from cottonpalm.cli.writers.open_output import CsvForm, check_output, stream_output, whole_output
from cottonpalm.cli.writers.output import PAGE, layout_of
from cottonpalm.cli.writers.tables import Table
from cottonpalm.engine.input.known_by import part_of
from cottonpalm.engine.input.reader import Broken, Reader
from cottonpalm.engine.input.slot_list import SlotList
from cottonpalm.engine.output.table import row_of
from cottonpalm.errors import RunBusy
from cottonpalm.shell import JOB, Code, command_on
from cottonpalm.stores.codec.records import NOT_KEPT, stored_input, unpack
from cottonpalm.stores.sql.database import CannotWrite
from cottonpalm.urls import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cottonpalm.cli.readers.rows import InputRows
    from cottonpalm.cli.screen.screen import Screen
    from cottonpalm.cli.store.held_store import HeldStore
    from cottonpalm.protocols import RunInfo
    from cottonpalm.providers.batches.stages import Batch
    from cottonpalm.types import Outcome

NOWHERE: Final = -1  # the slot of a row for which nothing is stored


@dataclass(frozen=True, slots=True)
class Export:
    """What is asked for.

    Attributes:
        run: its name.
        output: a path, an address or `-`.
        input: the input, where it was given again.
        everything: also what the store holds beyond the input.
        guard: formulas get an apostrophe in a CSV.
        overwrite: replace a file that the run did not write.
    """

    run: str
    output: str
    input: str | None = None
    everything: bool = False
    guard: bool = False
    overwrite: bool = False
    bom: bool = False


def show_export(url: str, asked: Export, screen: Screen) -> Code:
    """Write the file, and say how many rows it holds.

    Raises:
        Problem: there is no such run, the output cannot be written, or the input is needed and not there.
    """
    with existing_store(url) as store:
        info = store.known(asked.run)
        job = RunSpec.of(info.meta, info.name) if JOB in info.meta else None
        _refuse_folder(info, parts_of(info, store.runs()), url)
        out = _out(info, store.batches(asked.run), url)
        if out and not (info.ok or info.failed or info.retryable):
            raise Problem(f"run {asked.run} has no answer yet: {out}")
        if job is not None and asked.output == job.output != "-":
            raise Problem(
                f"-o {shown(asked.output)} is the run's own output, which `run` keeps; name another file"
            )
        checks = {"overwrite": asked.overwrite, "guard": asked.guard, "bom": asked.bom}
        source = asked.input or (job.input if job is not None else "")
        check_output(asked.output, source, info.meta, **checks)
        run = _run_of(store, asked.run, info, screen)
        stored = _with_input(run, job, asked) or _all_of(run, info, job)
        stored.fields = info.meta.get("facts", {}).get("fields")
        _put(run, stored, asked, screen)
    rows = stored.slots.straight + sum(1 for slot in stored.slots.moved if slot != NOWHERE)
    where = "standard output" if asked.output == "-" else shown(asked.output)
    screen.say(f"{where}: {rows:,} {'row' if rows == 1 else 'rows'} of run {asked.run}")
    if out:
        screen.say(f"note: {out}")
    return Code.OK


def _out(info: RunInfo, batches: list[Batch], url: str) -> str:
    """What of the run is out in batches, and how its answers are had; "" if nothing is."""
    out = [batch for batch in batches if batch.out]
    if not out:
        return ""
    requests = sum(batch.rows for batch in out)
    asked = "1 request is" if requests == 1 else f"{requests:,} requests are"
    where = "1 batch" if len(out) == 1 else f"{len(out)} batches"
    return f"{asked} out in {where}; {command_on('collect', info.name, url)} fetches what they answer"


def _refuse_folder(info: RunInfo, parts: list[RunInfo], url: str) -> None:
    if parts:
        example = command_on("export", parts[0].name, url)
        raise Problem(
            f"run {info.name} is of files, each of which is a run of its own ({example} -o FILE); their rows are in"
            f" {shown(str(info.meta[JOB]['output']))}"
        )


def _run_of(store: HeldStore, name: str, info: RunInfo, screen: Screen) -> HeldRun:
    """Open the run; where a process works on it, or the store may not be written, look at what is durable so far."""
    try:
        return store.open_run(name, None)
    except (RunBusy, CannotWrite) as exc:
        rows = store.look(name)
        if rows is None:
            raise
        if isinstance(exc, RunBusy):
            screen.say(f"note: run {name} is being worked on: this is what it has done so far")
        return HeldRun(Glimpse(name, rows, info.meta), again=False)


@dataclass
class Stored:
    """The rows of a run that are to be written.

    Attributes:
        run: the store's part.
        slots: of each row, in order; NOWHERE for one that has no outcome.
        columns: of the input.
        schema: the input's Arrow schema, if it has one.
        fields: of answers that are objects.
        delimiter: between the cells of a CSV; None: a comma.
        again: gives the input's rows once more, where the store holds no inputs.
    """

    run: HeldRun
    slots: SlotList
    columns: Sequence[str]
    schema: Any = None
    fields: Sequence[str] | None = None
    delimiter: str | None = None
    again: Callable[[], Iterator[Any]] = lambda: iter(())

    def __len__(self) -> int:
        return len(self.slots)

    def of(self, index: int) -> int:
        """The slot of one row."""
        return self.slots[index]

    def outcomes(self) -> Iterator[Outcome]:
        """All that are stored, in order."""
        rows = self.again()
        for first in range(0, len(self.slots), PAGE):
            page = [self.slots[index] for index in range(first, min(first + PAGE, len(self.slots)))]
            found, given = self.run.read(page), list(islice(rows, len(page)))
            for number, slot in enumerate(page):
                if (record := found.get(slot)) is not None:
                    outcome = unpack(record, first + number, {})
                    if (
                        outcome.input is None
                        and number < len(given)
                        and not isinstance(given[number], Broken)
                    ):
                        outcome.input = given[number]
                    yield outcome


def _with_input(run: HeldRun, job: RunSpec | None, asked: Export) -> Stored | None:
    """The stored rows of the input; None where there is no input to be read again."""
    source = asked.input or (None if job is None or job.read_once else job.input)
    if source is None:
        return None
    limit = None if job is None else job.limit
    how = Reading() if job is None else reading_of(job)
    try:
        rows = open_rows(source, limit, how)
    except Problem as problem:
        if asked.input is None and asked.everything:
            return None
        mend = (
            "" if asked.input else f"; give it again (cottonpalm export {asked.run} INPUT -o …), or say --all"
        )
        raise Problem(f"{problem}{mend}") from problem
    with closing(rows):
        slots = _slots_of(rows, run, job)
    if not slots.straight and all(slot == NOWHERE for slot in slots.moved):
        raise Problem(f"no row of {rows.name} is stored in run {asked.run}")
    if asked.everything:
        _add_others(slots, run, slots.straight)
    elif limit is not None:  # a part of the input was read last; what was done before is no less done
        _add_others(slots, run, len(slots))
    stored = Stored(run, slots, rows.columns, rows.schema)
    stored.delimiter = how.delimiter or getattr(rows, "delimiter", None)
    if not _inputs_kept(run):
        stored.again = _again(source, limit, how)
    return stored


def _add_others(slots: SlotList, run: HeldRun, first: int) -> None:
    """Add the run's other slots from `first` on."""
    here = set(slots.moved)
    for slot in _all_slots(run, first - 1):
        if slot not in here:
            slots.add(slot)


def _slots_of(rows: InputRows, run: HeldRun, job: RunSpec | None) -> SlotList:
    """Which stored row each row of the input is."""
    fields = RowFields(job.id_field, job.priority_field) if job is not None else RowFields()
    rows.use(fields)
    if job is not None:
        need_columns(job, rows)  # the store knows a bad row by what the run said of it
    reader = Reader(ids=fields.ids, store=run, redo=frozenset(), read=part_of(run))
    slots = SlotList()
    for row in rows:
        item = reader.item(row)
        slots.add(item.slot if item is not None and item.stored is not None else NOWHERE)
    return slots


def _again(source: str, limit: int | None, how: Reading) -> Callable[[], Iterator[Any]]:
    def rows() -> Iterator[Any]:
        with closing(open_rows(source, limit, how)) as opened:
            yield from opened

    return rows


def _all_of(run: HeldRun, info: RunInfo, job: RunSpec | None) -> Stored:
    """Every stored row, in the store's order."""
    if not _inputs_kept(run):
        raise Problem(
            f"run {info.name} keeps no inputs; give them again: cottonpalm export {info.name} INPUT -o …"
        )
    slots = SlotList()
    for slot in _all_slots(run):
        slots.add(slot)
    stored = Stored(run, slots, info.meta.get("facts", {}).get("columns", ()))
    stored.delimiter = None if job is None else reading_of(job).delimiter
    if not stored.columns:
        stored.columns = list(
            dict.fromkeys(name for outcome in stored.outcomes() for name in row_of(outcome))
        )
    return stored


def _inputs_kept(run: HeldRun) -> bool:
    """Whether the first record that tells holds its input."""
    first = next(_all_slots(run), None)
    return first is None or stored_input(run.read([first])[first], {}) is not NOT_KEPT


def _all_slots(run: HeldRun, after: int = -1) -> Iterator[int]:
    while page := run.scan(after, PAGE):
        yield from (row.slot for row in page)
        after = page[-1].slot


def _put(run: HeldRun, stored: Stored, asked: Export, screen: Screen) -> None:
    if is_stream(asked.output):
        with closing(stream_output(asked.output)) as stream:
            stream.begin(run)
            for outcome in stored.outcomes():
                stream.write(outcome, outcome.index)
        return
    layout = Layout(stored.columns, stored.schema, stored.fields)
    output = whole_output(
        asked.output,
        lambda: layout,
        unpack=lambda record, index: unpack(record, index, {}),
        overwrite=asked.overwrite,
        csv=CsvForm(asked.guard, asked.bom, stored.delimiter),
    )
    output.begin(run)
    output.put(Table(outcomes=stored.outcomes, **layout._asdict()), layout_of(stored))
    for note in output.notes:
        screen.say(f"note: {note}")
