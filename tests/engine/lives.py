"""Runs of several lives, each with settings of its own, over HTTP with faults: what must hold of each, and in the end.

`drawn(seed)` says what is on, `check(told, folder, postgres)` runs it and asserts. Used by `test_lives` for a few
seeds and by `bench/lives.py` for many. What changes between two lives of a run may be anything but the chain: limits,
transport, cache, endpoints, processes, how its rows come, how its outcomes are read, and whether Python or the command
does it.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any, Final

import orjson

from cottonpalm import (
    RESTARTED,
    BatchProcessor,
    Budget,
    Cache,
    Outcome,
    RateLimit,
    RetryPolicy,
    RowFinished,
    RunStopped,
)
from cottonpalm.engine.layers.fallback import ANOTHER_MAY_DO_IT
from cottonpalm.engine.shared import ledger_of
from cottonpalm.request.limiter.limiters import _registries
from cottonpalm.stores import open_store
from cottonpalm.types import PICO, Kind
from tests.engine.combined import charge, first, second
from tests.engine.lives_drawn import ALL, TWICE, WRONG, Life, Told, drawn, holds, model_at, said
from tests.engine.trouble import ALWAYS, REJECTED, SURVIVED, TRIES, Trouble, troubles
from tests.support.ledgers import settle
from tests.support.loopback import Loopback
from tests.support.programs import at_end, programs
from tests.support.programs import run as run_command
from tests.support.replies import ok

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.replies import Reply, Request

__all__ = ["check", "drawn"]

NAME: Final = re.compile(r"row \d+")
POLICY: Final = RetryPolicy(retries=TRIES - 1, rejections=4, base_s=0.001, cap_s=0.02)
ENOUGH: Final = 1.0  # dollars
RATE: Final = 6_000  # requests a minute
KEY: Final = "sk-test-0123456789"
RUN: Final = "night"


def asked_again(kind: Kind | None) -> bool:
    """Whether the same call does a row that failed so again."""
    return kind in {Kind.TRANSIENT, Kind.THROTTLE, Kind.STOP_RUN}


class Case:
    """One drawn run: the servers' scripts, what must come of each row, and what was seen so far."""

    def __init__(self, told: Told, folder: Path, postgres: str) -> None:
        self.told, self.folder = told, folder
        self.place = postgres if told.store == "postgres" else str(folder / "runs.db")
        rng = Random(told.seed + 1)
        names = [f"row {n}" for n in range(told.distinct)]
        self.met = self._met(names, told, rng)
        self.rows = [{"x": name} for name in names + rng.choices(names, k=told.rows - len(names))]
        rng.shuffle(self.rows)
        self.healed = False
        self.done: dict[int, Outcome | None] = {}  # by row: its outcome, as far as it was told
        self.answered: Counter[str] = (
            Counter()
        )  # shown and not from the store: equal rows take each other's place
        self.sent: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.spent = 0  # what lives with a budget must find booked, at least, in pico-dollars
        self.sure = True  # all that was spent is booked
        self.caches: dict[str, Cache] = {}

    def _met(self, names: list[str], told: Told, rng: Random) -> dict[str, Trouble]:
        """Who meets what; where a row asks twice, its troubles are those that pass."""
        met = troubles(names, told.seed, hanging=int(told.hanging and len(names) > 1))
        wrong = [
            Trouble("wrong once", [ok(WRONG)], sends=2),
            Trouble("always wrong", [ok(WRONG)] * ALWAYS, Kind.REASK, 2),
        ]
        for name, trouble in met.items():
            if trouble is REJECTED or (told.form in TWICE and trouble.kind is not None):
                met[name] = rng.choice(SURVIVED)
            elif told.form not in TWICE and rng.random() < 0.1:
                met[name] = rng.choice(wrong)
        return met

    # -- the servers

    def script(self, request: Request) -> Reply:
        """What the provider says, at whichever endpoint; a question that was put once more is the same question."""
        users = [one["content"] for one in request.body["messages"] if one["role"] == "user"]
        question = users[0].partition("\n\nThat answer was not accepted")[0]
        found = NAME.search(question)
        assert found is not None, request.body
        with self.lock:
            self.sent[question] += 1
            nth = self.sent[question]
        replies = () if self.healed else self.met[found[0]].replies
        reply = replies[nth - 1] if nth <= len(replies) else ok()
        return self._of_the_form(reply, question, request, first)

    def by_the_other(self, request: Request) -> Reply:
        return self._of_the_form(ok(), request.text, request, second)

    @staticmethod
    def _of_the_form(reply: Reply, question: str, request: Request, to: Any) -> Reply:
        if reply.finish == "length" and request.body.get("response_format"):
            return replace(reply, text='{"text": "half an ans')
        if reply.text is not None or reply.status != 200 or reply.finish != "stop":
            return reply
        if request.body.get("tools"):
            name = request.body["tools"][0]["function"]["name"]
            return replace(reply, tool=(name, said(to(question))))
        if request.body.get("response_format"):
            return replace(reply, text=orjson.dumps(said(to(question))).decode())
        return replace(reply, text=to(question))

    def wanted(self, row: str) -> Any:
        """The row's value, or None where it has to fail."""
        gives, kind = ALL[self.told.form][1], self.met[row].kind
        if kind is None:
            return gives(row, first)
        return gives(row, second) if self.told.fallback and kind in ANOTHER_MAY_DO_IT else None

    def check_value(self, index: int, value: Any, *, cut: bool) -> None:
        """What `batch` and its brothers give for a row; one that a stop left out is no news."""
        if cut and isinstance(value, RunStopped):
            return
        wanted = self.wanted(self.rows[index]["x"])
        right = isinstance(value, Exception) if wanted is None else value == wanted
        assert right, (index, self.met[self.rows[index]["x"]].name, value)
        self.done.setdefault(index, None)

    def check_outcome(self, outcome: Outcome, *, cut: bool) -> None:
        if cut and outcome.status == "skipped":
            return
        name = self.rows[outcome.index]["x"]
        wanted, trouble = self.wanted(name), self.met[name]
        right = outcome.status == ("ok" if wanted is not None else "failed")
        assert right, (trouble.name, outcome)
        assert outcome.status == "failed" or outcome.output == wanted, (trouble.name, outcome)
        if outcome.error is not None:
            assert outcome.error.kind == trouble.kind, (trouble.name, outcome.error)
        self.done[outcome.index] = outcome
        self.answered[name] += not outcome.stored

    def finished(self) -> set[str]:
        """The rows that the store has an end for, and for each that is equal."""
        there = Counter(row["x"] for row in self.rows)
        over = {row for row in there if self.answered[row] >= there[row]}
        return {row for row in over if not asked_again(self.met[row].kind)}

    # -- a life

    def processor(self, life: Life, urls: tuple[str, str, str], budget: Budget | None) -> BatchProcessor:
        make = ALL[self.told.form][0]
        options: dict[str, Any] = {"store": self.place, "run": RUN} if self.told.store else {}
        if life.processes:
            options |= {"executor": "processes", "workers": 2}
        rank = {"none": None, "ranked": lambda row: int(row["x"].split()[1]) % 3, "equal": lambda _: 7}
        return BatchProcessor(
            make(model_at(urls[0])),
            replicas=[make(model_at(urls[2]))] if life.replica else (),
            fallbacks=[make(model_at(urls[1]))] if self.told.fallback else [],
            transport=life.transport,  # type: ignore[arg-type]
            concurrency=life.concurrency,  # type: ignore[arg-type]
            chunk_size=life.chunk_size,
            priority=rank[life.priority],
            cache=self.cache(life.cache),
            budget=budget,
            hedge=life.hedge,
            rate_limit=RateLimit(requests_per_minute=RATE) if life.rate_limit else None,
            item_timeout=life.item_timeout,
            retry=POLICY,
            validate=holds,
            max_failures=0 if life.ending == "failures" else 1.0,
            timeout=2 if self.told.hanging else 20,
            **options,
        )

    def cache(self, name: str) -> Cache | None:
        if name == "none":
            return None
        if name not in self.caches:
            more = {"path": self.folder / "answers.db"} if name == "disk" else {}
            self.caches[name] = Cache(max_entries=1_000, **more)
        return self.caches[name]

    def budget(self, life: Life) -> Budget | None:
        if life.ending == "money":
            return Budget(total=self.spent / PICO + life.after * 2e-5)
        return Budget(total=ENOUGH) if life.budget else None

    def source(self, life: Life) -> Any:
        """The rows as this life is given them."""
        if life.source == "frame":
            import pandas as pd

            return pd.DataFrame(self.rows)
        if life.source == "generator" and life.reading not in {"table", "pieces"}:
            return (dict(row) for row in self.rows)
        if life.source == "async generator" and life.reading in {"astart", "events"}:
            return self._one_by_one()
        return self.rows

    async def _one_by_one(self) -> AsyncIterator[dict[str, str]]:
        for row in self.rows:
            await asyncio.sleep(0)
            yield dict(row)


def check(told: Told, folder: Path, postgres: str = "") -> None:
    """Run the case.

    Raises:
        AssertionError: a row has not its own answer, is shown twice, is asked though it was done; a sum is not exact.
    """
    case = Case(told, folder, postgres)
    with (
        Loopback(case.script, latency=0.001) as server,
        Loopback(case.by_the_other) as other,
        Loopback(case.script) as replica,
    ):
        servers = (server, other, replica)
        for life in told.lives:
            live_out(case, life, servers)
        assert sorted(case.done) == list(range(len(case.rows)))
        if told.healed:
            heal(case, servers)
    for limiters in list(_registries):
        for limiter in limiters:
            assert limiter.in_flight == limiter.waiting == 0, f"permits that nobody gave back: {limiter}"


def live_out(case: Case, life: Life, servers: tuple[Loopback, ...]) -> None:
    """One life: read it as it says, leave it as it says, and look at what was asked and charged."""
    for one in servers:
        one.rest()  # what an earlier life gave up is charged before this one begins
    before, asked, finished = charged(servers), asked_of(servers), case.finished()
    requests = sum(one.requests for one in servers)
    urls = tuple(one.openai_url for one in servers)
    budget = case.budget(life)
    if life.ending == "kill":
        killed(case, life, urls, servers)
    elif life.reading == "command":
        by_command(case, life, urls)
    else:
        processor = case.processor(life, urls, budget)  # type: ignore[arg-type]
        with suppress(*([RunStopped] if life.ending else [])):
            READING[life.reading](case, life, processor)
        check_sums(case, life, processor, servers, before, requests)
    for one in servers:
        one.rest()
    check_ledger(case, life, budget, charged(servers) - before)
    if case.told.store:
        again = {text for text, times in asked_of(servers).items() if times > asked[text]}
        asked_names = {found[0] for text in again if (found := NAME.search(text))}
        assert not asked_names & finished, f"stored is not asked again: {asked_names & finished}"


def charged(servers: tuple[Loopback, ...]) -> int:
    return sum(charge(one) for one in servers)


def asked_of(servers: tuple[Loopback, ...]) -> Counter[str]:
    return sum((Counter(one.counts) for one in servers), Counter())


def check_sums(
    case: Case,
    life: Life,
    processor: BatchProcessor,
    servers: tuple[Loopback, ...],
    before: int,
    requests: int,
) -> None:
    """What the run says of itself is what the servers saw, and its report agrees with it."""
    run = processor.last_run
    if run is None:
        return  # nobody holds it any more
    stats, report = run.stats, run.report
    assert stats.finished
    assert (stats.in_flight, stats.requests, stats.waiting, stats.out) == (0, 0, 0, 0), stats
    counts = report.counts
    assert (counts.ok, counts.failed) == (stats.ok, stats.failed), (counts, stats)
    assert counts.stored == stats.stored
    if life.ending:
        return
    assert stats.ok + stats.failed + stats.stored == len(case.rows), stats
    assert sum(row.requests for row in report.by_model.values()) == counts.requests
    if not life.hedge:
        now = charged(servers) - before
        assert round(stats.reported_usd * PICO) == now, (stats.reported_usd * PICO, now)
        assert stats.attempts == sum(one.requests for one in servers) - requests, stats
        assert counts.requests == stats.attempts, (counts, stats)


def check_ledger(case: Case, life: Life, budget: Budget | None, now: int) -> None:
    """Nothing stays reserved, nothing is above the ceiling, and what the servers charged is booked."""
    if budget is None and (life.ending in {"kill", "left", "abort"} or life.hedge):
        case.sure = False  # of what was given up, nobody knows the cost
    case.spent += now
    if budget is None or life.ending == "kill" or life.reading == "command":
        return  # whose ledger is elsewhere
    ledger = ledger_of(budget)
    if ledger is None:
        return
    settle(ledger)
    assert (ledger.reserved, ledger.overshoot) == (0, 0), ledger
    if case.sure:
        assert ledger.spent >= case.spent, (ledger.spent, case.spent)
    if case.told.store:
        [info] = open_store(case.place).runs()
        assert info.cost_pico + info.uncertain_pico >= ledger.spent, (info, ledger.spent)


# -- ways to read


def _cut(life: Life) -> bool:
    return bool(life.ending)


def _values(case: Case, life: Life, processor: BatchProcessor, values: list[Any]) -> None:
    assert len(values) == len(case.rows)
    for index, value in enumerate(values):
        case.check_value(index, value, cut=_cut(life))
    run = processor.last_run
    assert run is not None
    outcomes = run.outcomes()
    assert [outcome.index for outcome in outcomes] == list(range(len(case.rows)))
    for outcome in outcomes:
        case.check_outcome(outcome, cut=_cut(life))
    if not _cut(life) and not any(outcome.stored for outcome in outcomes):
        known = sum(outcome.cost_pico or 0 for outcome in outcomes)
        assert known == round(run.stats.cost_usd * PICO), (known, run.stats)


def _batch(case: Case, life: Life, processor: BatchProcessor) -> None:
    _values(case, life, processor, processor.batch(case.source(life), return_exceptions=True))


def _abatch(case: Case, life: Life, processor: BatchProcessor) -> None:
    _values(case, life, processor, asyncio.run(processor.abatch(case.source(life), return_exceptions=True)))


def _completed(case: Case, life: Life, processor: BatchProcessor) -> None:
    seen: Counter[int] = Counter()
    for index, value in processor.batch_as_completed(case.source(life), return_exceptions=True):
        case.check_value(index, value, cut=_cut(life))
        seen[index] += 1
        if life.ending in {"left", "abort"} and len(seen) >= life.after:
            break
        if life.ending == "stop" and len(seen) == life.after and processor.last_run is not None:
            processor.last_run.stop()
    assert set(seen.values()) <= {1}


def _acompleted(case: Case, life: Life, processor: BatchProcessor) -> None:
    async def main() -> None:
        seen: Counter[int] = Counter()
        async for index, value in processor.abatch_as_completed(case.source(life), return_exceptions=True):
            case.check_value(index, value, cut=_cut(life))
            seen[index] += 1
        assert set(seen.values()) <= {1}

    asyncio.run(main())


class Reader:
    """Who reads a run: looks at each outcome, and says when it was enough."""

    def __init__(self, case: Case, life: Life, run: Any) -> None:
        self.case, self.life, self.run = case, life, run
        self.seen: Counter[int] = Counter()
        self.rng = Random(case.told.seed + 7)

    def before(self) -> bool:
        """Whether it is left before an outcome came."""
        return self._ends(0)

    def enough(self, outcome: Outcome) -> bool:
        self.case.check_outcome(outcome, cut=_cut(self.life))
        self.seen[outcome.index] += 1
        assert self.seen[outcome.index] == 1, "shown twice"
        if self.life.touched and self.rng.random() < 0.2:
            self.touch()
        return self._ends(self.seen.total())

    def touch(self) -> None:
        """Turn what may be turned while it goes."""
        self.run.pause()
        self.run.limit = self.rng.choice((1, 5, None))
        if self.run.budget is not None and self.life.ending != "money":
            self.run.budget.total = ENOUGH * self.rng.choice((1, 2))
        self.run.resume()

    def _ends(self, count: int) -> bool:
        if self.life.ending not in {"left", "stop", "abort"} or count != self.life.after:
            return False
        if self.life.ending == "left":
            return True
        self.run.stop() if self.life.ending == "stop" else self.run.abort()
        return self.life.ending == "abort"


def _start(case: Case, life: Life, processor: BatchProcessor) -> None:
    with processor.start(case.source(life)) as run:
        reader = Reader(case, life, run)
        if not reader.before():
            for outcome in run:
                if reader.enough(outcome):
                    break


def _astart(case: Case, life: Life, processor: BatchProcessor) -> None:
    async def main() -> None:
        async with processor.astart(case.source(life)) as run:
            reader = Reader(case, life, run)
            if not reader.before():
                async for outcome in run:
                    if reader.enough(outcome):
                        break

    asyncio.run(main())


def _events(case: Case, life: Life, processor: BatchProcessor) -> None:
    async def main() -> None:
        async with processor.astart(case.source(life), stream=True) as run:
            reader = Reader(case, life, run)
            if reader.before():
                return
            async for event in run:
                if isinstance(event, RowFinished) and reader.enough(event.outcome):
                    break

    asyncio.run(main())


def _pieces(case: Case, life: Life, processor: BatchProcessor) -> None:
    """Pieces of all rows; a text's pieces make its answer. It is left after so many pieces."""
    texts: dict[int, Any] = {}
    failing = life.ending or any(case.wanted(row["x"]) is None for row in case.rows)
    with suppress(*([Exception] if failing else [])):
        asyncio.run(_collect(case, life, processor, texts))
    if life.ending in {"left", "abort"}:
        return
    run = processor.last_run
    assert run is not None
    for outcome in run.outcomes():
        case.check_outcome(outcome, cut=_cut(life))
        if isinstance(outcome.output, str) and outcome.status == "ok":
            assert texts.get(outcome.index) == outcome.output, (texts.get(outcome.index), outcome)


async def _collect(case: Case, life: Life, processor: BatchProcessor, texts: dict[int, Any]) -> None:
    """Add up the pieces, until it is left or stopped."""
    count = 0
    async for index, piece in processor.stream_batch(case.source(life)):
        count += 1
        if piece is RESTARTED:
            texts.pop(index, None)
        elif isinstance(piece, str):
            texts[index] = texts.get(index, "") + piece
        if life.ending in {"left", "abort"} and count >= life.after:
            return
        if life.ending == "stop" and count == life.after and processor.last_run is not None:
            processor.last_run.stop()


def _table(case: Case, life: Life, processor: BatchProcessor) -> None:
    import pandas as pd

    frame = processor.map_table(pd.DataFrame(case.rows), output="answer")
    assert list(frame["x"]) == [row["x"] for row in case.rows]
    assert processor.last_run is not None
    for outcome in processor.last_run.outcomes():
        case.check_outcome(outcome, cut=_cut(life))
        if outcome.status != "ok":
            assert frame["answer_error"][outcome.index], outcome
        elif isinstance(outcome.output, str):
            assert frame["answer"][outcome.index] == outcome.output


READING: Final = {
    "batch": _batch,
    "abatch": _abatch,
    "completed": _completed,
    "acompleted": _acompleted,
    "start": _start,
    "astart": _astart,
    "events": _events,
    "pieces": _pieces,
    "table": _table,
}


# -- other processes


def program(told: Told, life: Life, folder: Path, place: str, urls: tuple[str, str, str]) -> None:
    """A program that is to be killed; its server is elsewhere."""
    case = Case(told, folder, place)
    processor = case.processor(life, urls, Budget(total=ENOUGH) if life.budget else None)
    processor.batch(case.rows, return_exceptions=True)


def killed(case: Case, life: Life, urls: Any, servers: tuple[Loopback, ...]) -> None:
    case.sure = case.sure and life.budget
    process = programs().Process(target=program, args=(case.told, life, case.folder, case.place, urls))
    moment, server = threading.Event(), servers[0]
    process.start()
    at_end(process, moment.set)
    server._call(lambda: server._provider.watch(server.requests + life.after, 0, moment.set))
    assert moment.wait(60), "a program hangs"
    process.kill()
    process.join()


APP: Final = """
from tests.engine.lives_drawn import ALL, model_at
make = ALL[{form!r}][0]
chain = make(model_at({url!r}))
"""


def by_command(case: Case, life: Life, urls: Any) -> None:
    """The command goes on with what Python began, or begins it."""
    (case.folder / "app.py").write_text(APP.format(form=case.told.form, url=urls[0]))
    rows = case.folder / "rows.jsonl"
    rows.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in case.rows))
    words = ["run", str(rows), "-o", str(case.folder / "out.jsonl"), "--chain", "app:chain", "--run", RUN]
    words += ["--store", case.place, "--retries", str(TRIES - 1), "--max-failures", "100%", "-q"]
    if life.budget:
        words += ["--budget", str(ENOUGH)]
    done = run_command(words, cwd=case.folder, stdin=-3, stdout=-1, stderr=-1, text=True)
    assert done.returncode in (0, 3), (done.returncode, done.stdout, done.stderr)
    lines = [orjson.loads(line) for line in (case.folder / "out.jsonl").read_bytes().splitlines()]
    assert sorted(line["index"] for line in lines) == list(range(len(case.rows))), done
    for line in lines:
        wanted = case.wanted(case.rows[line["index"]]["x"])
        value = wanted.model_dump() if hasattr(wanted, "model_dump") else wanted
        assert line["status"] == ("ok" if wanted is not None else "failed"), line
        assert wanted is None or line["output"] == value, (line, value)
        case.done.setdefault(line["index"], None)


# -- in the end


def heal(case: Case, servers: tuple[Loopback, ...]) -> None:
    """The troubles are over: failed rows are done again, once, and after that nothing is asked any more."""
    case.healed = True
    failed = [index for index, row in enumerate(case.rows) if case.wanted(row["x"]) is None]
    urls: Any = tuple(one.openai_url for one in servers)
    life = replace(case.told.lives[-1], processes=False, ending="", cache="none")
    outcomes = case.processor(life, urls, None).retry()
    assert [outcome.status for outcome in outcomes] == ["ok"] * len(failed), outcomes
    requests = sum(one.requests for one in servers)
    values = case.processor(life, urls, None).batch(case.rows, return_exceptions=True)
    gives = ALL[case.told.form][1]
    for index, value in enumerate(values):
        row = case.rows[index]["x"]
        assert value == (gives(row, first) if index in failed else case.wanted(row)), (row, value)
    assert sum(one.requests for one in servers) == requests, "what is stored is not asked again"
