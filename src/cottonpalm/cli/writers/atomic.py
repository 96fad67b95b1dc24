"""Outputs written in one go from the store, in input order: tables, packed files, files at addresses."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from cottonpalm.cli.files import output_file
from cottonpalm.cli.files.compression import packed
from cottonpalm.cli.files.output_file import Mark
from cottonpalm.cli.files.remote import size_of, upload
from cottonpalm.cli.problems import Problem
from cottonpalm.cli.writers.output import AllSlots, layout_of, records
from cottonpalm.cli.writers.tables import Table
from cottonpalm.urls import is_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cottonpalm.cli.files.formats import Packing
    from cottonpalm.cli.store.held_store import HeldRun
    from cottonpalm.cli.writers.output import Slots, Unpack
    from cottonpalm.cli.writers.tables import Write
    from cottonpalm.types import Outcome


class Layout(NamedTuple):
    """See `Table`."""

    columns: Sequence[str]
    schema: Any
    fields: Sequence[str] | None


class WholeOutput:
    """A file that is written again and replaced in one step whenever it differs from the store.

    Args:
        path: the absolute path, or an address.
        write: writes the format.
        packing: how the file is packed.
        form: a short name for how the format is written; a file of another form is written again.
        overwrite: replace a file that the run did not write.
        layout: returns the columns; called at the end.
        unpack: makes an outcome from a stored record.

    Attributes:
        notes: what the user should know about the file that was written.
    """

    def __init__(
        self,
        path: str,
        write: Write,
        packing: Packing,
        form: str,
        *,
        overwrite: bool,
        layout: Callable[[], Layout],
        unpack: Unpack,
    ) -> None:
        self._path, self._write, self._packing, self._overwrite = path, write, packing, overwrite
        self._form, self._layout, self._unpack = form, layout, unpack
        self._changed = False  # what stands there is not what the mark says
        self.notes: list[str] = []

    def begin(self, store: HeldRun) -> None:
        """Refuse a foreign file."""
        self._store = store
        self._mark = Mark.of(store.meta(), self._path) or Mark(self._path)
        self._changed = self._examine() != "whole"

    def _examine(self) -> str:
        return examine(self._path, Mark.of(self._store.meta(), self._path), overwrite=self._overwrite)

    def write(self, outcome: Outcome, slot: int) -> None:  # noqa: ARG002 - the protocol's
        """Do nothing, since the store has the outcome already."""
        self._store.owed.settle(slot)

    def finish(self, slots: Slots, *, complete: bool) -> None:
        """Write the file again if anything differs; rows behind those that were read keep their answers."""
        if not complete and not isinstance(slots, AllSlots):
            slots = AllSlots(slots, self._store)
        outcomes = partial(records, self._store, self._unpack, slots)
        table = Table(outcomes=outcomes, **self._layout()._asdict())
        order = layout_of(slots)
        known = self._mark.layout == self._named(order, table)
        if self._changed or not known or self._store.last_seq() > self._mark.seq:
            self._examine()  # another run may have written it meanwhile
            self.put(table, order)

    def _named(self, order: str, table: Table) -> str:
        """The rows, and how they are written: `--bom` or `--columns` said later is no less meant."""
        fields = "" if table.fields is None else ",".join(table.fields)
        return " ".join(filter(None, (order, self._form, fields)))

    def put(self, table: Table, order: str) -> None:
        """Write the file again.

        Args:
            table: the content of the file.
            order: a name for these rows in this order.
        """
        seq = self._store.last_seq()  # before anything is read
        self._mark.replacing = True
        self._mark.keep(self._store)
        with replacing(self._path) as file:
            with packed(file, self._packing) as inner:
                self.notes = self._write(inner, table)
            file.flush()
            self._mark.size = file.seek(0, os.SEEK_END)
            self._mark.recognise(file.fileno())
        self._mark.replacing, self._mark.layout, self._mark.seq = False, self._named(order, table), seq
        self._mark.written, self._mark.moved = None, True  # in case a later run appends lines to this file
        self._mark.keep(self._store)

    def close(self) -> None:
        """Do nothing: no file is open between two writes."""


@contextmanager
def replacing(path: str) -> Iterator[BinaryIO]:
    """Like `output_file.replacing`, but also for addresses: write a local file first, then send it in one go."""
    if not is_url(path):
        with output_file.replacing(path) as file:
            yield file
        return
    with tempfile.TemporaryFile() as file:
        yield file
        upload(file, path)


def examine(path: str, mark: Mark | None, *, overwrite: bool) -> str:
    """Like `output_file.examine`, but also for addresses, where a file is recognised by its size.

    Raises:
        Problem: there is a file that this run did not write, and `overwrite` is False.
    """
    if not is_url(path):
        return output_file.examine(path, mark, overwrite)
    size = size_of(path)
    if mark is None:
        if size is not None and not overwrite:
            raise Problem(output_file.refusal(path, mark))
        return "new"
    if size is None or mark.replacing:
        return "short"
    if size == mark.size:
        return "whole"
    if not overwrite:
        raise Problem(output_file.refusal(path, mark))
    return "new"
