"""What a command notes of its run beside the rows, so that `status` and pages can show it while it goes and later."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from cottonpalm import clock
from cottonpalm.errors import StoreError
from cottonpalm.events import Binding, Unreachable
from cottonpalm.shell import FACTS, TROUBLE

if TYPE_CHECKING:
    from cottonpalm.cli.readers.rows import InputRows
    from cottonpalm.cli.readers.stored_rows import StoredInput
    from cottonpalm.cli.screen.summary import Tally
    from cottonpalm.cli.store.held_store import HeldStore
    from cottonpalm.events import Event
    from cottonpalm.run import Run
    from cottonpalm.shell import Code

EVERY_S: Final = 5.0


class Facts:
    """Notes the facts of one run. It is an observer of the run.

    Args:
        store: holds the run.
        rows: its input.
        tally: counts its rows.
        sample: only the first rows are read, so how many there are would only be guessed anew.

    Attributes:
        fields: of answers that are objects; None: they are none.
    """

    def __init__(
        self, store: HeldStore, rows: InputRows | StoredInput, tally: Tally, *, sample: bool
    ) -> None:
        self.fields: list[str] | None = None
        self._store, self._rows, self._tally, self._sample = store, rows, tally, sample
        self._due_s = 0.0

    def see(self, event: Event) -> None:
        """Note at once that the run reaches no server.

        Before the first row is done, perhaps for hours, note also how many rows there are.
        """
        if isinstance(event, Unreachable):
            self._store.kept.set_meta(**{TROUBLE: event.reason})
        elif isinstance(event, Binding) and not self._tally.rows:
            self._store.kept.set_meta(**{FACTS: {**self.noted, **self._known()}})

    @property
    def noted(self) -> dict[str, Any]:
        """What was noted last, perhaps by an earlier process."""
        noted: dict[str, Any] = self._store.kept.meta().get(FACTS, {})
        return noted

    def _known(self) -> dict[str, Any]:
        if self._sample and "total" in self.noted:
            return {}
        total, exact = self._rows.total() or (None, False)
        return {"total": total, "exact": exact, "columns": self._rows.columns}

    def note_if_due(self, run: Run) -> None:
        """Note how the run stands, now and then. A store that takes no more is told by the rows that it refuses."""
        if clock.now() >= self._due_s:
            self._due_s = clock.now() + EVERY_S
            with suppress(StoreError):
                self.note(run)

    def note(self, run: Run, *, code: Code | None = None, **more: Any) -> None:
        """Note how the run stands, or with which code it ended, and what else is given."""
        stats, per_s = run.stats, run.report.rows_per_s
        facts = {**self._known(), "code": code, "fields": self.fields, "priced": stats.cost_known, **more}
        if per_s:
            facts["rate"] = round(per_s, 3)
            run.keep_report()
        self._store.kept.set_meta(**{FACTS: {**self.noted, **facts}, TROUBLE: stats.trouble})
