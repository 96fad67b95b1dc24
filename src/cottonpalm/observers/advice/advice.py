"""One piece of advice: what to change, why, and what it would bring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from cottonpalm.observers.words.formatting import count
from cottonpalm.observers.words.numbers import money_usd, roughly

if TYPE_CHECKING:
    from cottonpalm.observers.measures.reported import Reported

Unit = Literal["s", "usd", "rows"]


class Bars(NamedTuple):
    """What it was, and what it would be, in the unit of the gain."""

    now: float
    then: float
    label: str


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing to change.

    Attributes:
        topic: a short name that stays the same, for programs.
        gain: seconds, dollars or rows, see `unit`.
        whole: what the gain is a part of: the run's time, its money, its rows.
        what: what to do, as one sentence.
        why: the evidence, with its numbers.
        how: what to type or whom to ask; words in backticks are options.
        exact: counted, not estimated.
        then: the label of what it would be.
    """

    topic: str
    unit: Unit
    gain: float
    whole: float
    what: str
    why: str
    how: str
    exact: bool = False
    then: str = "then"

    @property
    def share(self) -> float:
        """The gain as a part of the whole."""
        return self.gain / self.whole if self.whole else 0.0

    @property
    def bars(self) -> Bars:
        """Now and then, to be drawn."""
        return Bars(self.whole, max(0.0, self.whole - self.gain), self.then)

    def gained(self) -> str:
        """`-34 min`, `-$3.90`, `412`: rows are named by the whole of which they are a part."""
        return f"-{self.amount(self.gain)}" if self.unit != "rows" else f"{round(self.gain):,}"

    def amount(self, value: float) -> str:
        """A value in the unit of the gain, in words."""
        if self.unit == "rows":
            return count(round(value), "row")
        return roughly(value) if self.unit == "s" else money_usd(value)

    def text(self) -> str:
        """All of it in one paragraph."""
        said = "counted" if self.exact else "estimate"
        return f"{self.what} {self.why} ({self.gained()} of {self.amount(self.whole)}, {said}; {self.how})"


def rows_of(report: Reported) -> int:
    """Rows that this run has asked."""
    return report.counts.ok + report.counts.failed


def capital(text: str) -> str:
    """The beginning of a sentence."""
    return text[0].upper() + text[1:]
