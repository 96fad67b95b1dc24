"""Kills `cottonpalm run` while requests are in flight, again and again, and counts what that cost."""

from __future__ import annotations

import csv
import os
import signal
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from threading import Thread
from typing import TYPE_CHECKING
from urllib.request import urlopen
from zlib import crc32

import orjson

from cottonpalm.stores import open_store
from tests.support.loopback import ROOT, LoopbackProcess
from tests.support.programs import Cottonpalm, run
from tests.support.replies import Reply, Request, cut_by_length, fails, resets, too_many
from tests.support.transport import python_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from random import Random

LATENCY_S = 0.08  # the median; the spread makes rows end in any order
SIGMA = 1.0
AGAIN_LATENCY_S = 0.4  # in a second pass, which has fewer rows and starts with many at once
LOST_EACH = 30  # requests in flight, more or less, when killed
EVERYTHING = (
    *("--cache", "--budget", "5", "--model-option", "max_tokens=30", "--priority-field", "p"),
    *("--fallback", "openai:gpt-4o", "--retries", "5"),
)


def faults(request: Request) -> Reply | None:
    """One first request in eight is throttled, refused or dropped; one row in 24 is cut short by the first model."""
    kind = crc32(request.text.encode()) % 24
    if kind == 3 and request.body.get("model") != "gpt-4o":
        return cut_by_length("half an")
    return (too_many(), fails(500), resets())[kind] if request.nth == 1 and kind < 3 else None


def fails_first(request: Request) -> Reply | None:
    """Two rows in three are refused when they are asked first, and answered when they are asked again."""
    return fails(400) if request.nth == 1 and crc32(request.text.encode()) % 3 else None


@dataclass
class Report:
    """What the kills came to."""

    rows: int
    kills: int = 0
    stored_at_kill: list[int] = field(default_factory=list)
    in_flight_at_kill: list[int] = field(default_factory=list)
    repaid: list[str] = field(default_factory=list)  # texts of stored rows that were asked again
    lost: list[int] = field(default_factory=list)
    doubled: list[int] = field(default_factory=list)
    wrong: list[int] = field(default_factory=list)
    requests: int = 0
    code: int = -1

    @property
    def clean(self) -> bool:
        return self.code == 0 and not (self.repaid or self.lost or self.doubled or self.wrong)

    def __str__(self) -> str:
        extra = self.requests - self.rows
        return (
            f"{self.kills} kills over {self.rows} rows: {len(self.lost)} lost, {len(self.doubled)} doubled, "
            f"{len(self.wrong)} wrong, {len(self.repaid)} stored rows asked again; exit code {self.code}; "
            f"{self.requests} requests, "
            f"{extra} more than rows; {sum(self.in_flight_at_kill)} were in flight when killed; "
            f"stored at each kill: {self.stored_at_kill}"
        )


class Killed:
    """One input, one server, one command, killed until the kills are used up.

    Args:
        folder: an empty one.
        rows: how many.
        kills: how often at most; the run may be over before.
        rng: chooses the moments.
        everything: all techniques at once: a fifth of the rows equal to others, priorities, a cache, a budget, a
            fallback, retries, and a server with `faults`.
        again: the first run ends, with many rows that failed; `retry` is what is killed.
        kind: of the output.
    """

    def __init__(
        self,
        folder: Path,
        rows: int,
        kills: int,
        rng: Random,
        *,
        everything: bool = False,
        again: bool = False,
        kind: str = "jsonl",
    ) -> None:
        self._folder, self._kills, self._rng = folder, kills, rng
        self._again = again
        self._input, self._output = folder / "in.jsonl", folder / f"out.{kind}"
        self._everything = everything
        self._different = rows * 4 // 5 if everything else rows
        lines = [
            {"text": self._text(n), "p": n % 3} if everything else {"n": n, "text": self._text(n)}
            for n in range(rows)
        ]
        self._input.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
        self.report = Report(rows)

    def _text(self, number: int) -> str:
        return f"row-{number % self._different}"

    def run(self) -> Report:
        """Kill, look, start again; then let it end, and count."""
        scripted = "faults" if self._everything else "fails_first" if self._again else None
        script = {"script": f"{__name__}:{scripted}"} if scripted else {}
        seed = self._rng.randrange(1000)
        latency_s = AGAIN_LATENCY_S if self._again else LATENCY_S
        with LoopbackProcess(latency=latency_s, latency_sigma=SIGMA, seed=seed, **script) as server:
            if self._again:
                first = self._command(server.openai_url)
                assert run(first, cwd=self._folder, env=environment()).returncode == 3
                self._stored()
            stored_texts: list[tuple[int, set[str]]] = []  # requests seen so far, texts stored by then
            for _ in range(self._kills):
                if not self._kill_once(server):
                    break
                stored_texts.append((server.stats(log=False).requests, self._stored()))
            last = self._killed(server.openai_url)
            self.report.code = run(last, cwd=self._folder, env=environment()).returncode
            self._count(server, stored_texts)
        return self.report

    def _kill_once(self, server: LoopbackProcess) -> bool:
        """Start the command and kill it at some moment with requests in flight; False if it ended before."""
        before = server.stats(log=False).requests
        most = self._most()
        more = self._rng.randint(1, most)
        waiting = f"{server.url}/_wait?requests={before + more}&in_flight=1"
        waiter = Thread(target=_answered, args=(waiting,), daemon=True)
        process = Cottonpalm(
            self._killed(server.openai_url), cwd=self._folder, env=environment(), start_new_session=True
        )
        waiter.start()  # the server says when so many requests came; the run may end before
        try:
            while waiter.is_alive() and process.poll() is None:
                _nap(self._rng.uniform(0.001, 0.02))
            while self._again and process.poll() is None and self._ok() < self.report.stored_at_kill[-1] + 5:
                _nap(0.01)  # some of the second pass is stored
            if process.poll() is not None:
                return False
            _nap(self._rng.uniform(0, LATENCY_S))
            in_flight = server.stats(log=False).in_flight
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.report.kills += 1
        self.report.in_flight_at_kill.append(in_flight)
        return True

    def _ok(self) -> int:
        """Rows that are answered in the store just now."""
        with closing(sqlite3.connect(self._folder / "cottonpalm.db")) as db:
            return int(db.execute("SELECT ok FROM run").fetchone()[0])

    def _most(self) -> int:
        """So many requests that the kills are spread over the whole run, what each kill costs included."""
        left = self.report.rows - (self.report.stored_at_kill or [0])[-1]
        share = 2 * left // (self._kills - self.report.kills + 1)
        return max(1, min(share + LOST_EACH, left * 3 // 4))

    def _killed(self, url: str) -> list[str]:
        """The command that is killed, and at last is not."""
        if not self._again:
            return self._command(url)
        return ["retry", self._output.stem, "-q"]

    def _command(self, url: str) -> list[str]:
        words = [
            "run",
            self._input.name,
            "-o",
            self._output.name,
            "--model",
            "openai:gpt-4o-mini",
            "--base-url",
            url,
        ]
        more = EVERYTHING if self._everything else ()
        return [*words, "--prompt", "say {text}", "-q", *more]

    def _stored(self) -> set[str]:
        """The texts of which all rows are durable; found as any later process would find them."""
        store = open_store(self._folder / "cottonpalm.db")
        try:
            if not store.runs():
                self.report.stored_at_kill.append(0)
                return set()
            run = store.open_run("out", None)
            slots = [row.slot for row in run.scan(-1, 10**6) if row.status == 1]
            run.close()
        finally:
            store.close()
        self.report.stored_at_kill.append(len(slots))
        left = {self._text(n) for n in set(range(self.report.rows)).difference(slots)}
        return {f"say {self._text(slot)}" for slot in slots if self._text(slot) not in left}

    def _count(self, server: LoopbackProcess, stored: list[tuple[int, set[str]]]) -> None:
        report, stats = self.report, server.stats()
        report.requests = stats.requests
        for seen, texts in stored:
            report.repaid += [
                arrival[3] for arrival in stats.arrivals if arrival[0] >= seen and arrival[3] in texts
            ]
        times: dict[int, int] = {}
        for number, given, output in self._lines():
            times[number] = times.get(number, 0) + 1
            text = self._text(number)
            if given != text or output != f"answer to: say {text}":
                report.wrong.append(number)
        report.lost = [number for number in range(report.rows) if number not in times]
        report.doubled = [number for number, count in times.items() if count > 1]

    def _lines(self) -> Iterator[tuple[int, str, str | None]]:
        """Number, text and answer of each row of the output."""
        if self._output.suffix == ".csv":
            with self._output.open(newline="", encoding="utf-8") as file:
                yield from ((int(row["n"]), row["text"], row["output"]) for row in csv.DictReader(file))
            return
        for line in self._output.read_bytes().splitlines(keepends=True):
            row = orjson.loads(line)
            yield row["index"], row["input"]["text"], row["output"]


def _answered(url: str) -> None:
    with suppress(OSError, HTTPException):  # the server ends
        urlopen(url, timeout=120).read()


def environment() -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OPENAI_", "LANGCHAIN_", "LANGSMITH_"))
    }
    return {**kept, "PYTHONPATH": python_path(ROOT / "src", ROOT)}


def _nap(seconds: float) -> None:
    import threading

    threading.Event().wait(seconds)  # a random moment is the point here
