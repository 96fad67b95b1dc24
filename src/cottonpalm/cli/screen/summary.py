"""Makes the summary at the end: how the rows ended, time and cost, where the results are, and how to go on."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.cli.readers.rows import BadRow
from cottonpalm.cli.screen.wording import here
from cottonpalm.engine.input.keys import Distinct, content_key
from cottonpalm.observers.words.formatting import clean, count, duration, money, rate, told
from cottonpalm.observers.words.kinds import in_words
from cottonpalm.observers.words.numbers import besides
from cottonpalm.protocols import FAILED, OK, RETRYABLE
from cottonpalm.stores import without_password
from cottonpalm.types import numbered, pico

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cottonpalm.observers.report import Report
    from cottonpalm.protocols import RunStore, Slot
    from cottonpalm.run import Run
    from cottonpalm.stats import Stats
    from cottonpalm.types import Outcome

PAGE: Final = 4096
ADVICE: Final = 2  # lines at most


@dataclass(slots=True)
class Tally:
    """Counts what this process did, row by row.

    Attributes:
        question: takes from a row the part that the chain reads, if that may be less than the row.
        asked: counts the questions that a model had answered before when it was asked again.
        answers: rows that a model answered.
        kinds: rows by what befell them, in words with the stored name beside.
        unread: rows that could not be read.
        empty: answers without a word, and the first of them.
        estimated: rows whose answers did not say what they cost.
    """

    question: Callable[[Any], Any] | None = None
    asked: Distinct = field(default_factory=Distinct)
    answers: int = 0
    rows: int = 0
    cached: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    unread: int = 0
    empty: int = 0
    first_empty: str = ""
    estimated: int = 0
    first_failed: str = ""

    def add(self, outcome: Outcome) -> None:
        """Count one outcome."""
        self.rows += 1
        self.cached += outcome.cached
        self.estimated += outcome.cost_source == "estimated"
        is_answer = outcome.status == "ok" and (outcome.usage is not None or outcome.model is not None)
        if is_answer and not outcome.cached:
            self.answers += 1
            self.asked.add(
                content_key(outcome.input if self.question is None else self.question(outcome.input))
            )
        if outcome.status == "ok" and isinstance(outcome.output, str) and not outcome.output.strip():
            self.empty += 1
            self.first_empty = self.first_empty or numbered(outcome.index)
        if outcome.usage is not None:
            self.input_tokens += outcome.usage.input_tokens
            self.output_tokens += outcome.usage.output_tokens
        if (error := outcome.error) is not None:
            unread = error.type == BadRow.__name__
            kind = f"{'could not be read' if unread else in_words(error.kind)} ({error.kind})"
            self.kinds[kind] = self.kinds.get(kind, 0) + 1
            self.unread += unread
            where = "" if error.where is None else f" (at {error.where})"
            self.first_failed = self.first_failed or f"{numbered(outcome.index)}: {told(error)}{where}"


@dataclass(slots=True)
class Counts:
    """How many rows of the input have which status in the store, including the work of earlier processes."""

    ok: int = 0
    failed: int = 0


def slots_of(store: RunStore) -> Iterator[Slot]:
    """Yield all stored rows, page by page."""
    after = -1
    while page := store.scan(after, PAGE):
        yield from page
        after = page[-1].slot


def counts_of(store: RunStore, mine: bytearray | None) -> Counts:
    """Count the store's rows; if `mine` leaves some unmarked, only those marked, which takes a look at each row."""
    if mine is None or 0 not in mine:
        by_status = store.counts()
        return Counts(by_status.get(OK, 0), by_status.get(RETRYABLE, 0) + by_status.get(FAILED, 0))
    counts = Counts()
    for row in slots_of(store):
        if row.slot < len(mine) and mine[row.slot]:
            counts.ok += row.status == OK
            counts.failed += row.status != OK
    return counts


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything that the last lines need."""

    name: str
    counts: Counts
    left: int | None
    tally: Tally
    seconds: float
    used: tuple[int, int]  # tokens in and out of this process, also those of rows that are not done
    cost_pico: int | None  # the cost of this process; None: not known
    cost_whole: bool  # False: it leaves out rows whose cost is not known
    cost_total_pico: int | None  # the cost of the run
    uncertain_pico: int  # the most that the run may have cost besides
    results: str
    retry: str | None
    resume: str | None
    saved_pico: int | None = None  # what the cache saved; None: not known
    prompt: str = ""  # what the rows' prompts have in common, and what the provider's cache made of that
    trouble: str = ""  # why the latest request reached no server
    report: str | None = None  # the HTML file
    advice: tuple[str, ...] = ()  # what to change before the next run
    streamed: bool = False

    def lines(self) -> list[tuple[str, str]]:
        """Label and text of each line."""
        found = [
            (self.name, self._rows()),
            ("time", self._time()),
            ("cost", self._cost()),
            ("prompt", self.prompt),
            ("uncertain", self._uncertain()),
            ("repeats", self._repeats()),
            ("empty", self._empty()),
            ("trouble", self.trouble),
        ]
        found += [("failed", self._failed()), ("results", self.results), ("report", self.report or "")]
        found += [("advice", said) for said in self.advice]
        found += [*self._on_failed(), ("resume", self.resume or "")]
        return [(label, text) for label, text in found if text]

    def _rows(self) -> str:
        counts = self.counts
        parts = [f"{counts.ok:,} ok", f"{counts.failed:,} failed"]
        if self.left is None:
            parts.append("the input was not read to its end")
        elif self.left:
            parts.append(f"{self.left:,} left")
        return f"{count(counts.ok + counts.failed + (self.left or 0), 'row')}: {', '.join(parts)}"

    def _time(self) -> str:
        per_s = self.tally.rows / self.seconds if self.seconds > 0 else 0.0
        return (
            f"{duration(self.seconds)} for {count(self.tally.rows, 'row')}, {rate(per_s)}"
            if self.tally.rows
            else ""
        )

    def _cost(self) -> str:
        tokens = "{:,} tokens in, {:,} out".format(*self.used)
        least = "" if self.cost_whole else "at least "
        if not any(self.used):
            return "" if not self.cost_pico else f"{least}{money(self.cost_pico)}"
        if self.cost_pico is None:
            return f"no price known for this model: --price IN:OUT says it; {tokens}"
        total = self.cost_total_pico
        whole = f" ({money(total)} for the whole run)" if total is not None and total > self.cost_pico else ""
        return f"{least}{money(self.cost_pico)}, {tokens}{whole}"

    def _uncertain(self) -> str:
        if not self.uncertain_pico:
            return ""
        said = besides(money(self.uncertain_pico))
        if self.streamed and self.tally.estimated:
            said += "; --model-option stream_usage=true lets streams say it, where the server can"
        return said

    def _repeats(self) -> str:
        """Say how many rows repeated another's question, and what the cache saved or would have saved."""
        cached = self.tally.cached
        if cached:
            saved = f", {money(self.saved_pico)}" if self.saved_pico else ""
            return f"{count(cached, 'row')} answered from the cache: saved {count(cached, 'call')}{saved}"
        repeats = self.tally.asked.repeats
        if not repeats:
            return ""
        about = "" if self.tally.asked.exact else "about "
        rows, calls = count(repeats, "row"), count(repeats, "call")
        saved = self._worth(self.cost_pico, self.tally.answers, repeats)
        return f"{about}{rows} the same as an earlier one: --cache would have saved {calls}{saved}"

    @staticmethod
    def _worth(cost_pico: int | None, asked: int, spared: int) -> str:
        """Estimate what so many calls cost, at the mean price of the calls that were made."""
        return f", about {money(cost_pico * spared // asked)}" if cost_pico and asked > 0 else ""

    def _empty(self) -> str:
        """Say how many answers have no text: they count as answers."""
        if not self.tally.empty:
            return ""
        some = "1 answer has" if self.tally.empty == 1 else f"{self.tally.empty:,} answers have"
        return f"{some} no text; the first, {self.tally.first_empty}"

    def _on_failed(self) -> Iterator[tuple[str, str]]:
        """What to mend where rows could not be read, and the command that asks the other failed rows again."""
        unread = self.tally.unread
        if unread:
            some = "" if unread == self.counts.failed else f" ({count(unread, 'row')} could not be read)"
            yield "mend", f"the input{some}, and give the same command again: it asks only what is new there"
        if unread < self.counts.failed:
            yield "retry", self.retry or ""

    def _failed(self) -> str:
        most_first = sorted(self.tally.kinds.items(), key=lambda pair: (-pair[1], pair[0]))
        kinds = ", ".join(f"{number:,} {kind}" for kind, number in most_first)
        return f"{kinds}; the first, {clean(here(self.tally.first_failed))}" if kinds else ""


def advice_in(report: Report) -> tuple[str, ...]:
    """The advice that is worth a line, but for what other lines say: that rows repeat, or that some failed."""
    found = [each for each in report.advice() if each.unit != "rows" and each.topic != "repeats"]
    return tuple(here(each.text()) for each in found[:ADVICE])


def resume_command(argv: Sequence[str]) -> str:
    """Return the same command, without passwords and options that would discard or refuse the existing results."""
    words = (without_password(word) for word in argv if word not in {"--fresh", "--overwrite"})
    return shlex.join(["cottonpalm", *words])


def used_by(run: Run, tally: Tally) -> tuple[int, int]:
    """The tokens that this process used, as `cost_of`: of its requests, or of its rows where those are not seen."""
    models = run.report.by_model.values()
    return (
        max(tally.input_tokens, sum(model.input_tokens for model in models)),
        max(tally.output_tokens, sum(model.output_tokens for model in models)),
    )


def cost_of(stats: Stats) -> int | None:
    """What this process spent, also on answers whose rows are not done; None: no price is known."""
    if not (stats.cost_known or stats.cost_usd):
        return None
    return pico(max(stats.cost_usd, stats.reported_usd))
