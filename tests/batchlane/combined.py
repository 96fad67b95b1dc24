"""Runs of the batch lane with everything drawn at random, left, cancelled or killed and taken up again.

`drawn(seed)` says what is on, `check(drawn, folder)` runs it and asserts: every row has its own answer, no question is
paid twice, nothing stays out, and what was charged is booked. Used by `test_combined` for a few seeds and by
`bench/batch_combined.py` for many.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import re
import threading
import time
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any, Final

from cottonpalm import BatchProcessor, RunStopped
from cottonpalm.engine.shared import ledger_of
from cottonpalm.events import RunEnded
from cottonpalm.providers.batches.stages import Stage
from cottonpalm.stores import open_store
from cottonpalm.types import PICO
from tests.batchlane import kit
from tests.batchlane.seen import seen
from tests.support.batch_provider import BatchProvider, Faults, by_chance
from tests.support.ledgers import settle
from tests.support.programs import at_end, programs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cottonpalm import Outcome
    from cottonpalm.events import Event

from tests.batchlane.drawn import MODELS, Drawn, chain_of, names, processor_of, program, rows_of

LIVES: Final = 12  # of a run, at most
LONG_S: Final = 90.0  # no life takes so long
NAME: Final = re.compile(r"row \d+")


class Moment:
    """At which a run is left; see `protocols.Observer`: at the latest when it is over."""

    def __init__(self) -> None:
        self.reached = threading.Event()

    def see(self, event: Event) -> None:
        if isinstance(event, RunEnded):
            self.reached.set()


class Case:
    """One case, and what was seen of it so far."""

    def __init__(self, told: Drawn, folder: Path, server: BatchProvider) -> None:
        self.told, self.folder, self.server = told, folder, server
        self.rng = Random(told.seed + 2)
        self.rows = rows_of(told)
        chain = chain_of(told, server)
        distinct = [{"text": f"row {number}"} for number in range(told.distinct)]
        said = chain.batch(distinct, config={"max_concurrency": 4})
        self.wanted = {row["text"]: seen(value) for row, value in zip(distinct, said, strict=True)}
        self.asked = Counter((bill.model, bill.text) for bill in server.bills)
        self.price = server.charged(kit.PICO_PRICES) / PICO * told.rows / told.distinct
        server.bills.clear()
        self.large = self.price * max(
            20, 80 / told.rows
        )  # what one row may cost is set aside, of few rows as of many
        self.total = self.large if told.budget == "large" else float("inf")
        if told.budget == "small":
            self.total = self.price * self.rng.uniform(0.0, 0.6)
        self.in_flight: set[int] = set()  # numbers of live bills that a killed program may not have seen
        self.half_done: set[str] = set()  # rows that money or a stop ended between two live answers
        self.twice_told = False  # a run said that something was or may be paid twice
        self.killed = False
        self.unsure = False  # a run was left: what it could not know the cost of is not known here
        self.over: dict[str, list[Outcome]] = {}
        self.spent: dict[str, int] = {}
        self.uncertain = 0
        if not told.calm:
            server.script = self.faults
            numbers = itertools.count()
            bad = Random(told.seed + 3)
            fates = [bad.choice((429, 500, 529)) if bad.random() < 0.1 else 200 for _ in range(997)]
            server.live = lambda _body: fates[next(numbers) % 997]
            server.weather.reads = [bad.choice((0, 0, 0, 429, 500, 503)) for _ in range(60)]
            server.weather.creates = [bad.choice((0, 0, 0, 429, 500)) for _ in range(12)]
            server.weather.cut = bad.choice((0, 0, 2))
            server.queued_tokens = bad.choice((None, None, 400)) if told.lane_rows else None

    def faults(self, _number: int, count: int) -> Faults:
        rng = self.rng
        base = Faults(turnaround_s=rng.choice((None, 0.0, 0.05, 0.4)), cancel_looks=rng.choice((0, 0.05, 1)))
        return by_chance(rng, count, base)

    @property
    def addresses(self) -> dict[str, Any]:
        return {f"{name}_url": getattr(self.server, f"{name}_url") for name in MODELS} | {
            "hosts": self.server.hosts
        }

    # -- lives

    def live_out(self, ending: str) -> None:
        """One life, left in this way."""
        if self.told.budget == "small" and self.total < self.large:
            # each row in flight sets aside many times what it costs: the fewer there are, the longer that would take
            self.total += self.price * self.rng.uniform(0.1, 1.0) * max(1, 4 / self.told.rows)
        total = self.total
        if ending == "money":
            self.total = min(total, max(1e-9, self.price * self.rng.uniform(0.0, 0.5)))
        if ending == "kill":
            self._killed()
        else:
            self._left(ending)
        if self.told.budget != "small":
            self.total = total

    def _left(self, ending: str) -> None:
        after, billed = self.server.asked + self.rng.randint(0, 40), len(self.server.bills)
        threads = [
            threading.Thread(target=self._one, args=(ending, name, after), daemon=True)
            for name in names(self.told)
        ]
        self.errors: list[BaseException] = []
        for thread in threads:
            thread.start()
        until = time.monotonic() + LONG_S
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        assert not any(thread.is_alive() for thread in threads), "a run hangs"
        if self.errors:
            raise self.errors[0]
        if ending == "leave":  # what it asked live is dropped with it
            self._may_be_lost(billed)

    def _killed(self) -> None:
        server, self.killed = self.server, True
        process = programs().Process(
            target=program, args=(self.told, self.folder, self.addresses, self.total)
        )
        after, more_s = server.asked + self.rng.randint(1, 40), self.rng.uniform(0.0, 0.03)
        billed = len(server.bills)
        process.start()
        moment = threading.Event()
        at_end(process, moment.set)
        server.watch(after, moment.set)
        assert moment.wait(LONG_S), "a program hangs"
        process.join(more_s)
        process.kill()
        process.join()
        self._may_be_lost(billed)

    def _may_be_lost(self, billed: int) -> None:
        """Live answers since then may have been on their way when their run ended."""
        bills = enumerate(self.server.bills[billed:], billed)
        self.in_flight |= {number for number, bill in bills if bill.lane in ("live", "flex")}

    def _one(self, ending: str, name: str, after: int) -> None:
        try:
            self._run(ending, name, after)
        except BaseException as exc:  # raised in the main thread
            self.errors.append(exc)

    def _run(self, ending: str, name: str, after: int) -> None:
        moment = Moment()
        more = {"observers": [moment]} if ending == "leave" else {}
        processor = processor_of(self.told, self.folder, self.server, ending, self.total, name, **more)
        found: list[Outcome] = []
        with processor.start(self.rows) as run:
            if ending == "leave":
                self.server.watch(after, moment.reached.set)
                moment.reached.wait(5)
                self.unsure = True
                return
            if ending == "stop":
                self.server.watch(after, run.stop)
            with contextlib.suppress(RunStopped):
                found.extend(run)
        self._check(found, name)
        if ending == "":
            self.over[name] = found
            budget = run_budget(processor)
            self.spent[name] = -1 if budget is None else budget
        self.uncertain += round(run.stats.uncertain_usd * PICO)

    # -- what must hold

    def _check(self, outcomes: Sequence[Outcome], name: str) -> None:
        assert len({outcome.index for outcome in outcomes}) == len(outcomes), f"{name}: a row came twice"
        refused = self.refused()
        for outcome in outcomes:
            text = self.rows[outcome.index]["text"]
            if outcome.status == "skipped":
                if outcome.cost_pico:
                    self.half_done.add(text)
                continue
            if outcome.status == "failed":
                assert text in refused, (name, outcome)
            elif text not in refused:
                assert seen(outcome.output) == self.wanted[text], (name, outcome)

    def refused(self) -> set[str]:
        """Rows of which the provider refused a question for good."""
        texts = set()
        for job in self.server.jobs.values():
            for number, outcome in job.outcomes.items():
                if outcome.status == 400 and (found := NAME.search(str(job.rows[number].body))):
                    texts.add(found[0])
        return texts

    def check(self) -> None:
        """All of it is done."""
        told, server = self.told, self.server
        for name in names(told):
            statuses = Counter(outcome.status for outcome in self.over[name])
            assert sum(statuses.values()) == told.rows, (name, statuses)
            assert not statuses["skipped"], (name, statuses)
        with contextlib.closing(open_store(self.folder / "s.db")) as store:
            batches = [batch for name in names(told) for batch in store.batches(name)]
        # a run says of each that it may have to be paid all the same
        self._check_bills({batch.tag for batch in batches if batch.stage is Stage.LOST})
        if not self.twice_told:
            assert all(batch.over for batch in batches), [b for b in batches if not b.over]
        known = {name for batch in batches for name in (batch.batch_id, *batch.twins, *batch.strangers)}
        assert set(server.jobs) <= known, f"unknown to the store: {set(server.jobs) - known}"
        self._check_money()

    def _check_bills(self, lost: set[str]) -> None:
        if self.twice_told:
            return
        equal = Counter(row["text"] for row in self.rows)
        refused = self.refused()
        forgets = self.told.cache == "memory"  # what a life knew: an equal row of the next one asks again
        by_question: dict[Any, list[int]] = {}
        for number, bill in enumerate(self.server.bills):
            by_question.setdefault((bill.model, bill.text), []).append(number)
        for question, numbers in by_question.items():
            sure = [number for number in numbers if not self._may_be_vain(number, lost)]
            bound = max(1, self.asked[question]) * self.told.runs
            found = NAME.search(question[1])
            if found is not None and (
                forgets or found[0] in refused
            ):  # after one that failed, an equal row asks
                bound *= equal[found[0]]
            bills = [self.server.bills[number] for number in numbers]
            assert len(sure) <= bound, f"paid {len(numbers)} times, not {bound}: {bills}"

    def _may_be_vain(self, number: int, lost: set[str]) -> bool:
        """Whether it is of a batch that is lost, or a live answer of a row that was not finished, which is not kept."""
        bill = self.server.bills[number]
        if bill.custom_id.rpartition("-")[0] in lost:
            return True
        found = NAME.search(bill.text)
        half_done = found is not None and found[0] in self.half_done
        return number in self.in_flight or (bill.lane != "batch" and half_done)

    def _check_money(self) -> None:
        charged = self.server.charged(kit.PICO_PRICES)
        if self.told.runs == 1 and not self.killed and not self.twice_told:
            [outcomes] = self.over.values()
            booked = self.spent["one"]
            if booked >= 0:
                assert charged <= booked, (charged, booked)
                if not self.unsure:
                    assert booked - self.uncertain <= charged, (booked, self.uncertain, charged)
                if not (self.uncertain or self.unsure):
                    assert booked == charged
            if not (self.told.endings or self.half_done):  # a row's cost is that of its last life
                costs = sum(outcome.cost_pico or 0 for outcome in outcomes)
                assert costs == charged, (costs, charged)


def run_budget(processor: BatchProcessor) -> int | None:
    budget = processor._settings.budget
    ledger = ledger_of(budget) if budget is not None else None
    if ledger is None:
        return None
    settle(ledger)
    assert ledger.reserved == 0, ledger.reserved
    return ledger.spent


class _Told(logging.Handler):
    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case = case

    def emit(self, record: logging.LogRecord) -> None:
        if "paid twice" in record.getMessage():
            self.case.twice_told = True


def check(told: Drawn, folder: Path) -> str:
    """Run the case.

    Raises:
        AssertionError: a row has not its own answer, a question is paid twice, a run hangs, the money is not exact.
    """
    with BatchProvider() as server:
        case = Case(told, folder, server)
        handler = _Told(case)
        logger = logging.getLogger("cottonpalm")
        logger.addHandler(handler)
        try:
            for ending in told.endings:
                case.live_out(ending)
            for _ in range(LIVES):
                case.live_out("")
                if all(
                    not any(o.status == "skipped" for o in case.over[name])
                    and len(case.over[name]) == told.rows
                    for name in names(told)
                ):
                    break
            case.check()
        finally:
            logger.removeHandler(handler)
        return f"{len(server.jobs)} batches, {len(server.bills)} bills" + (
            ", twice" if case.twice_told else ""
        )
