"""One client against one provider over real HTTP: two processes, for as long as the scenario says."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import orjson

if TYPE_CHECKING:
    from types import TracebackType

    from bench.admission.scenarios import Scenario

ROOT: Final = Path(__file__).resolve().parents[2]
BUSY: Final = 0.85  # of one core: from here on our own CPU binds
STARVED: Final = 0.10  # of the time in which a process was ready to run and waited for a core
SETTLE_S: Final = 0.2  # after the horizon, so that what was answered just before it is counted
STARTS_S: Final = 3.0  # for both processes to start, about


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

    def since(self, before: Cpu, passed_s: float) -> Cpu:
        """As shares of one core's time."""
        return Cpu((self.used_s - before.used_s) / passed_s, (self.waited_s - before.waited_s) / passed_s)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One client in one scenario: counts until the horizon, CPU and waits as shares of one core's time.

    Attributes:
        cpu: what the client used.
        waited: what the client waited for a core, or the server if that is more.
    """

    good: int
    rejected: int
    accepted: int
    peak: int
    accepted_peak: int
    cpu: float
    server_cpu: float
    waited: float

    @property
    def disturbed(self) -> bool:
        """Others had the CPU: it says nothing of the client, and may be done again."""
        return self.waited >= STARVED

    @property
    def flaw(self) -> str:
        """Why it says little of the client; "" for nothing."""
        if max(self.cpu, self.server_cpu) >= BUSY:
            return "CPU binds" if self.cpu >= self.server_cpu else "the server's CPU binds"
        return "others had the CPU" if self.disturbed else ""


class Process:
    """A process that ends with the block, or with `end_all`."""

    _alive: ClassVar[set[Process]] = set()
    ending: ClassVar = threading.Event()

    def __init__(self, module: str, *given: str, output: Any = subprocess.PIPE) -> None:
        if self.ending.is_set():
            raise RuntimeError("all processes are ended")
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *given], stdout=output, stderr=output, env=environment, text=True
        )
        self.pid = self._process.pid
        self._alive.add(self)

    def line(self) -> str:
        """The next one of what it prints; RuntimeError if it ends instead."""
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return line.strip()
        _, said = self._process.communicate()
        raise RuntimeError(f"it ended: {said}")

    @property
    def runs(self) -> bool:
        """It has not ended yet."""
        return self._process.poll() is None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._alive.discard(self)
        self._process.kill()
        self._process.communicate()

    @classmethod
    def end_all(cls) -> None:
        """Those of all threads, and no thread begins another."""
        cls.ending.set()
        for process in tuple(cls._alive):
            process._process.kill()


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
            used, server_used = _used((process.pid, server.pid), horizon_s)
            time.sleep(SETTLE_S)
            with urllib.request.urlopen(url) as response:
                seen = orjson.loads(response.read())
    return Outcome(
        good=_until(seen["good"], horizon_s),
        rejected=_until(seen["rejected"], horizon_s),
        accepted=len(seen["good"]),
        peak=seen["peak"],
        accepted_peak=seen["accepted_peak"],
        cpu=used.used_s,
        server_cpu=server_used.used_s,
        waited=max(used.waited_s, server_used.waited_s),
    )


def _used(pids: tuple[int, ...], for_s: float) -> list[Cpu]:
    """By each process, of a core, in that time; RuntimeError if they are ended."""
    began, before = time.monotonic(), [Cpu.of(pid) for pid in pids]
    if Process.ending.wait(for_s):
        raise RuntimeError("all processes are ended")
    after, passed_s = [Cpu.of(pid) for pid in pids], time.monotonic() - began
    return [now.since(then, passed_s) for now, then in zip(after, before, strict=True)]


def _until(moments: list[float], horizon_s: float) -> int:
    return sum(moment <= horizon_s for moment in moments)
