"""What a page is made of: the report, what is known of the run besides, and its rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cottonpalm.observers.measures.reported import Reported
    from cottonpalm.observers.measures.rows_seen import RowsSeen

State = Literal["running", "done", "some failed", "stopped", "failed"]
_ALL_READ: Final = ("done", "some failed")


def stopped_state(reason: str | None) -> State:
    """How a run stands that ended before its rows did."""
    return "failed" if reason in ("fatal", "store", "error") else "stopped"


@dataclass(frozen=True, slots=True)
class Story:
    """One run as a page tells it.

    Attributes:
        report: of its last life.
        name: the run's; None where it has none.
        state: how it stands.
        reason: why it stopped, as a sentence; "" where it did not.
        models: names, the most asked first.
        began: Unix seconds; None: not known. `ended` likewise.
        total: rows of the input; None: not known.
        rows: of all lives, from the store; None where nothing is known but the report.
        settings: what was asked for, in the order in which it is shown.
        mend: the command that asks failed rows again, or goes on.
        about: rows of the input, judged by the part that was read; None: `total` says them, or nobody knows.
    """

    report: Reported
    name: str | None = None
    state: State = "done"
    reason: str = ""
    models: tuple[str, ...] = ()
    began: float | None = None
    ended: float | None = None
    total: int | None = None
    rows: RowsSeen | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    mend: str = ""
    about: int | None = None

    @property
    def known(self) -> bool:
        """Whether there is a report: a process that was killed at once has kept none."""
        return self.rows is None or self.report.wall_s > 0

    @property
    def asked_models(self) -> bool:
        """Whether a model was asked, as far as is known; so it was where nothing is known but rows."""
        return bool(self.report.by_model or self.report.usage.input_tokens or (not self.known and self.done))

    @property
    def goes_on(self) -> bool:
        """Whether rows were done before its latest life, of which alone its report is: it was resumed, or retried."""
        return self.report.counts.stored > 0

    @property
    def told(self) -> int:
        """Rows that are done in its latest life, as far as its report tells."""
        return self.report.counts.ok + self.report.counts.failed

    @property
    def untold(self) -> int:
        """Rows of which its report tells nothing: its process was killed, or went on, since that was kept."""
        return max(0, self.ok + self.failed - self.told - self.report.counts.stored)

    @property
    def ok(self) -> int:
        """Rows that are answered, in all lives where that is known."""
        return self.report.counts.ok if self.rows is None else self.rows.ok

    @property
    def failed(self) -> int:
        """Rows that failed, likewise."""
        return self.report.counts.failed if self.rows is None else self.rows.failed

    @property
    def before(self) -> int:
        """Rows that were done before this life; the report alone does not know how they ended."""
        return self.report.counts.stored if self.rows is None else 0

    @property
    def done(self) -> int:
        """All of these."""
        return self.ok + self.failed + self.before

    @property
    def has_read_all(self) -> bool:
        """Whether it came to the end of its input."""
        return self.state in _ALL_READ

    @property
    def all_rows(self) -> int | None:
        """Rows of the input, or about so many; None: not known. A run that is done has read them all."""
        if self.total is not None:
            return self.total
        return self.done if self.has_read_all else self.about

    @property
    def is_guess(self) -> bool:
        """Whether `all_rows` was judged by a part of the input."""
        return self.total is None and self.about is not None and not self.has_read_all

    @property
    def cost_usd(self) -> float | None:
        """What they cost, likewise; None: not known."""
        return self.report.cost_usd if self.rows is None else self.rows.cost_usd
