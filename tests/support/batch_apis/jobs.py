"""A batch at the loopback provider: how it comes on, what it bills, and what comes back of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from tests.support.batch_apis import rules
from tests.support.replies import Reply
from tests.support.shapes import last_user_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.batch_apis.faults import Faults
    from tests.support.batch_apis.rules import Outcome, Row


class Bill(NamedTuple):
    """One answer that was charged for. `lane` is "live", "flex" or "batch", `text` the last user text."""

    lane: str
    api: str
    model: str
    text: str
    input_tokens: int
    output_tokens: int
    custom_id: str = ""


@dataclass(slots=True, eq=False)
class Job:
    """One batch. `end` says how it ended: "done", "expired", "cancelled" or "failed"; "" while it runs."""

    id: str
    api: str  # of its rows: chat, responses, anthropic, google
    path: str
    account: str
    created: float
    rows: list[Row]
    faults: Faults
    bill: Callable[[Bill], None]
    file: str | None = None
    tag: dict[str, str] = field(default_factory=dict)
    endpoint: str = ""
    end: str = ""
    ended: float = 0.0
    cancelled: float | None = None  # when it was asked to stop: looks, or seconds
    looks: int = 0
    looks_after: int = 0  # its end
    hidden: int = 0
    failure: tuple[str, str, int | None] | None = None  # code, message, line
    outcomes: dict[int, Outcome] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """How much of it is done, were there no faults."""
        return min(1.0, self.looks / self.faults.looks)

    def seen(self, now: float) -> None:
        """Somebody looks: bring it to where it is by then."""
        if self.end:
            self.looks_after += 1
            return None
        self.looks += 1
        faults = self.faults
        if self.failure is not None or faults.invalid:
            self.failure = self.failure or (faults.invalid or "", "the first line is wrong", 1)
            return self._over("failed", now)
        timed = faults.turnaround_s
        share = self.share if timed is None else min(1.0, (now - self.created) / timed if timed else 1.0)
        since = 0.0 if self.cancelled is None else (self.looks if timed is None else now) - self.cancelled
        if self.cancelled is not None and since >= faults.cancel_looks:
            return self._over("cancelled", now)
        if self.cancelled is None:
            most = 1.0 if faults.expire is None else faults.expire * (self.api != "google")
            self._run_to(int(len(self.rows) * min(share, most)))
        if share >= 1.0 and self.cancelled is None:
            self._over("done" if faults.expire is None else "expired", now)
        return None

    def cancel(self, now: float) -> None:
        if not self.end and self.cancelled is None:
            self.cancelled = self.looks if self.faults.turnaround_s is None else now

    def _over(self, end: str, now: float) -> None:
        self.end, self.ended = end, now

    def _run_to(self, count: int) -> None:
        for number in range(count):
            if number not in self.outcomes and number not in self.faults.missing:
                self.outcomes[number] = self._execute(number, self.rows[number])

    def _execute(self, number: int, row: Row) -> Outcome:
        faults, reply = self.faults, None
        if faults.all_refused or number in faults.refused:
            reply = Reply(status=faults.refused_as)
        elif number in faults.broken:
            reply = Reply(status=500)
        outcome = rules.asked(self.api, self.path, row.body, reply)
        if outcome.answer is not None:
            self.bill(bill_of("batch", self.api, self.path, row.body, outcome, row.custom_id))
        return outcome

    @property
    def told(self) -> bool:
        """It says where its answers are."""
        return bool(self.end) and self.looks_after >= self.faults.late

    @property
    def counts(self) -> tuple[int, int]:
        """Rows answered and rows with an error."""
        good = sum(outcome.status == 200 for outcome in self.outcomes.values())
        return good, len(self.outcomes) - good

    def returned(self) -> list[tuple[str, Outcome | None]]:
        """Everything that comes back: None for a row that was not executed."""
        found = [
            (row.custom_id, self.outcomes.get(number))
            for number, row in enumerate(self.rows)
            if number not in self.faults.missing
        ]
        found += [found[number] for number in sorted(self.faults.twice) if number < len(found)]
        if self.faults.shuffle is not None:
            Random(self.faults.shuffle).shuffle(found)
        if self.faults.foreign:
            found.insert(0, ("of-another-batch-0", None))
        return found


def bill_of(
    lane: str, api: str, path: str, body: dict[str, object], outcome: Outcome, custom_id: str = ""
) -> Bill:
    assert outcome.answer is not None
    model = str(body.get("model") or path.rpartition("/")[2].partition(":")[0])
    answer = outcome.answer
    return Bill(lane, api, model, last_user_text(body), answer.input_tokens, answer.output_tokens, custom_id)
