"""The simulator's claims against real HTTP: `python -m bench.admission.http --help`, from the repository's root.

A server process enforces a scenario's limits in real time, a client process meets it without any knobs: the real
`ChatOpenAI` in a `BatchProcessor`, the document's `AdaptiveBatchProcessor`, and the command line. Beside what they
reach stands what the simulator says of the very same scenario, both over the simulator's oracle: one seed over HTTP,
several in the simulator, since a run of half a minute owes something to chance.

Timing matters. On a machine that has other work, `chrt -r 1 python -m bench.admission.http` lets these go first.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final, Self

import orjson
from bench.admission import measure
from bench.admission.clients import CLIENTS
from bench.admission.scaled import BY_NAME, MINUTE_S, SCALED, TRIP_S

if TYPE_CHECKING:
    from types import TracebackType

    from bench.admission.scenarios import Scenario

ROOT: Final = Path(__file__).resolve().parents[2]
BUSY: Final = 0.85  # of one core: from here on our own CPU binds
STARVED: Final = 0.10  # of the time in which the client was ready to run and waited for a core
SETTLE_S: Final = 0.2  # after the horizon, so that what was answered just before it is counted
NEAR: Final = 5.0  # points
SEEDS: Final = 8  # of the simulator
HEAD: Final = (
    "scenario", "client", "goodput", "simulated", "from-to", "points", "rejected", "simulated", "peak", "cpu",
    "waited", "load", "",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cpu:
    """What a process has used, and how long it waited for a core; in seconds."""

    used_s: float
    waited_s: float

    @classmethod
    def of(cls, pid: int) -> Self:
        """All its threads together (Linux)."""
        used = waited = 0
        for task in Path(f"/proc/{pid}/task").glob("*"):
            on_cpu, in_line, _ = (task / "schedstat").read_text().split()
            used, waited = used + int(on_cpu), waited + int(in_line)
        return cls(used / 1e9, waited / 1e9)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One client in one scenario: counts until the horizon, CPU and waits as shares of one core's time."""

    good: int
    rejected: int
    accepted: int
    peak: int
    accepted_peak: int
    cpu: float
    waited: float
    late_s: float


class Process:
    """A process that ends with the block."""

    def __init__(self, module: str, *given: str, output: Any = subprocess.PIPE) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *given], stdout=output, stderr=output, env=environment, text=True
        )
        self.pid = self._process.pid

    def line(self) -> str:
        """The next one of what it prints; RuntimeError if it ends instead."""
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return line.strip()
        _, said = self._process.communicate()
        raise RuntimeError(f"it ended: {said}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


def over_http(scenario: Scenario, client: str, seed: int, *, horizon_s: float | None = None) -> Outcome:
    """Run one client for as long as the scenario says, and kill it."""
    horizon_s = scenario.horizon_s if horizon_s is None else horizon_s
    with (
        tempfile.TemporaryDirectory() as folder,
        (Path(folder) / "said.txt").open("w") as said,
        Process("bench.admission.served", scenario.name, f"--seed={seed}") as server,
    ):
        url = f"http://127.0.0.1:{server.line()}/v1"
        given = (client, scenario.name, url, folder, f"--seed={seed}")
        with Process("bench.admission.clients", *given, output=said) as process:
            assert server.line() == "begun"
            began, before = time.monotonic(), Cpu.of(process.pid)
            time.sleep(horizon_s)
            after, passed_s = Cpu.of(process.pid), time.monotonic() - began
            time.sleep(SETTLE_S)
            with urllib.request.urlopen(url) as response:
                seen = orjson.loads(response.read())
    return Outcome(
        good=_until(seen["good"], horizon_s),
        rejected=_until(seen["rejected"], horizon_s),
        accepted=len(seen["good"]),
        peak=seen["peak"],
        accepted_peak=seen["accepted_peak"],
        cpu=(after.used_s - before.used_s) / passed_s,
        waited=(after.waited_s - before.waited_s) / passed_s,
        late_s=seen["latest_s"],
    )


def _until(moments: list[float], horizon_s: float) -> int:
    return sum(moment <= horizon_s for moment in moments)


@dataclass(frozen=True, slots=True)
class Simulated:
    """What the simulator says of a scenario, over several seeds: goodputs, and rejected per accepted."""

    best: list[int]
    goodputs: list[float]
    rejected: list[float]

    @classmethod
    def of(cls, scenario: Scenario) -> Self:
        best, runs = [], []
        for seed in range(SEEDS):
            best.append(len(measure.oracle(scenario, seed).good))
            runs.append(measure.run(scenario, seed, "ours")[0])
        goodputs = [len(seen.good) / most for seen, most in zip(runs, best, strict=True)]
        return cls(best, goodputs, [len(seen.rejected) / max(1, seen.accepted) for seen in runs])

    def away(self, goodput: float) -> float:
        """Points from the nearest of the seeds; 0 among them."""
        nearest = min(max(goodput, min(self.goodputs)), max(self.goodputs))
        return 100 * (goodput - nearest)


def line(scenario: Scenario, client: str, seed: int, simulated: Simulated) -> tuple[str, ...]:
    """One client in one scenario, beside the simulator."""
    found = over_http(scenario, client, seed)
    goodput, expected = found.good / simulated.best[seed], median(simulated.goodputs)
    why = ""
    if found.cpu >= BUSY:
        why = "our CPU binds"
    elif found.waited >= STARVED:
        why = "disturbed: others had the CPU"
    elif abs(simulated.away(goodput)) > NEAR:
        why = f"more than {NEAR:.0f} points from all seeds"
    return (
        scenario.name, client, f"{goodput:.1%}", f"{expected:.1%}",
        f"{100 * min(simulated.goodputs):.0f}-{100 * max(simulated.goodputs):.0f}",
        f"{100 * (goodput - expected):+.1f}", f"{found.rejected / max(1, found.accepted):.2%}",
        f"{median(simulated.rejected):.2%}", str(found.peak), f"{found.cpu:.0%}", f"{found.waited:.0%}",
        f"{os.getloadavg()[0]:.1f}", why,
    )  # fmt: skip


def show(cells: tuple[str, ...]) -> None:
    widths = (18, 22, 8, 9, 7, 7, 9, 9, 5, 5, 7, 5, 0)
    lefts = (0, 1, len(cells) - 1)
    print(
        " ".join(
            cell.ljust(width) if n in lefts else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip(),
        flush=True,
    )


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.admission.http", description=__doc__)
    options.add_argument(
        "--scenario", action="append", choices=list(BY_NAME), help="only this one; may be repeated"
    )
    options.add_argument("--client", action="append", choices=list(CLIENTS), help="only this one; likewise")
    options.add_argument("--seed", type=int, default=0, choices=range(SEEDS))
    given = options.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # its processes end with it
    print(
        f"A minute scaled to {MINUTE_S:.0f} s, an answer's median to {TRIP_S} s. Goodput over the oracle's, rejected\n"
        f"per accepted, each beside the simulator's median of {SEEDS} seeds (and all of them, from-to); the\n"
        "client's CPU and its wait for a core, of one core; the machine's load.\n"
    )
    show(HEAD)
    for name in given.scenario or [scenario.name for scenario in SCALED]:
        simulated = Simulated.of(BY_NAME[name])
        for client in given.client or list(CLIENTS):
            show(line(BY_NAME[name], client, given.seed, simulated))


if __name__ == "__main__":
    main()
