"""Reads the rows of a run from the store, if its input cannot be read a second time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cottonpalm.cli.problems import Problem
from cottonpalm.cli.readers.rows import BAD_ROW
from cottonpalm.engine.input.reader import Broken
from cottonpalm.stores.codec.records import unpack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cottonpalm.cli.store.held_store import HeldStore
    from cottonpalm.protocols import RunInfo

PAGE: Final = 512


class StoredInput:
    """Takes the place of `InputRows` for a run that has read its input to the end and cannot read it again.

    Args:
        store: the store; its run must be open when the rows are read.
        info: the present state of the run.

    Raises:
        Problem: the input was not read to its end, so the store lacks some of its rows.
    """

    def __init__(self, store: HeldStore, info: RunInfo) -> None:
        facts = info.meta.get("facts", {})
        if not facts.get("exact") or facts["total"] != info.ok + info.failed:
            piped = info.meta.get("job", {}).get("input") == "-"
            why = (
                "read standard input"
                if piped
                else "kept its input's address without what may be secret in it"
            )
            again = "… | cottonpalm run -" if piped else "cottonpalm run ADDRESS"
            raise Problem(
                f"run {info.name} {why} and is not finished; give the input again: {again} --run {info.name} …"
            )
        self._store, self._total = store, int(facts["total"])
        self.columns: list[str] = facts["columns"]
        self.schema: Any = None
        self.read = 0
        self.ended = False

    def need(self, columns: tuple[str, ...]) -> None:
        """Do nothing: the rows were checked when they were first read."""

    def total(self) -> tuple[int, bool]:
        """Return how many rows there are, which is exact."""
        return self._total, True

    def close(self) -> None:
        """Do nothing, since nothing is open."""

    def __iter__(self) -> Iterator[Any]:
        run, after = self._store.run, -1
        while run is not None and (page := run.scan(after, PAGE)):
            found = run.read([row.slot for row in page])
            for row in page:
                outcome = unpack(found[row.slot], row.slot, {})
                self.read += 1
                error = outcome.error
                unreadable = error is not None and (outcome.input is None or error.type == BAD_ROW)
                yield Broken(error, outcome.input) if unreadable and error else outcome.input
            after = page[-1].slot
        self.ended = True
