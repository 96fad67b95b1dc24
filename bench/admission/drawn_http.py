"""Drawn worlds over real HTTP beside the simulator: `python -m bench.admission.drawn_http 91000`, from the root.

From that seed on, the first worlds that are small enough (`small_worlds.py`): a server process enforces the world in
real time, a client process meets it with the real `ChatOpenAI` in a `BatchProcessor`, or with the command line, and no
knobs but the world's timeout. What a world does by chance befalls few requests of so short a run, so each is met
several times, each time with another luck, by the simulator as over HTTP; what is compared is the mean. The farther
apart the simulator finds a world's lucks, the more of them there are. A score is the
oracle's wall time over the client's, from the first request to the last good answer, seen by the server; starting
Python is not counted. A run in which others had the CPU for a tenth of the time is done again, and marked where it was
disturbed each time.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import mean, median, stdev
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import orjson
from bench.admission.drawn import one
from bench.admission.driven import STARVED, Cpu, Process
from bench.admission.small_worlds import fits, small
from bench.admission.virtual import ideal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.admission.drawn import Seen
    from bench.admission.family import World

LONGEST: Final = 4.0  # times the oracle's time, and a start, until it is ended
STARTS_S: Final = 60.0  # a process that has to wait for a core needs long to begin
LOOK_S: Final = 0.25
NEAR: Final = 5.0  # points
SIMULATIONS: Final = 5
LOOKED_AT: Final = 8  # lucks that say how far apart a world's lucks are
MOST_LUCKS: Final = 24


class Met(NamedTuple):
    """What became of a run over HTTP."""

    score: float
    rejected: float
    waited: float  # for a core, of the time
    good: int


def rows_of(world: World) -> list[str]:
    """A number, and words for as many tokens as the call has."""
    from bench.admission.virtual import Run

    calls = iter(Run(world, None)._fresh, None)
    return [f"{call.number} " + "word" * call.tokens_in for call in calls]


def processor(url: str, world: World, _: Path) -> None:
    """In this process: `BatchProcessor`."""
    from langchain_openai import ChatOpenAI

    from cottonpalm import BatchProcessor

    model = ChatOpenAI(model="small", base_url=url, api_key="not-a-key")  # type: ignore[arg-type]
    BatchProcessor(model, timeout=world.timeout_s).batch(rows_of(world), return_exceptions=True)


def command(url: str, world: World, folder: Path) -> None:
    """Becomes the command line's process."""
    table = folder / "rows.jsonl"
    table.write_bytes(b"".join(orjson.dumps({"text": row}) + b"\n" for row in rows_of(world)))
    os.chdir(folder)
    os.environ["OPENAI_API_KEY"] = "not-a-key"
    given = ["--model", "openai:small", "--base-url", url, "--prompt", "{text}", "--timeout"]
    words = ["-m", "cottonpalm.cli.app", "run", str(table), "-o", "out.jsonl", *given, str(world.timeout_s)]
    os.execv(sys.executable, [sys.executable, *words])


CLIENTS: Final = {"BatchProcessor": processor, "cottonpalm run": command}


def over_http(world: World, client: str, ideal_s: float) -> Met:
    """One client in one world."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Process("bench.admission.drawn_served", str(world.seed), str(world.luck)) as server,
    ):
        url = f"http://127.0.0.1:{server.line()}/v1"
        given = ("--as-client", client, "--url", url, "--folder", folder, str(world.seed))
        with Process("bench.admission.drawn_http", *given, output=subprocess.DEVNULL) as process:
            waited = _until_over((server, process), LONGEST * ideal_s + STARTS_S)
        with urllib.request.urlopen(url) as response:
            seen = orjson.loads(response.read())
    score = min(1.0, ideal_s / max(1e-9, seen["ended_s"])) * seen["good"] / world.rows
    return Met(min(1.0, score), seen["rejected"] / max(1, seen["good"]), waited, seen["good"])


def _until_over(processes: tuple[Process, Process], longest_s: float) -> float:
    """Until the client has ended; the share of the time in which one of them waited for a core."""
    began = time.monotonic()
    waited = [0.0, 0.0]
    while processes[1].runs and time.monotonic() - began < longest_s:
        for number, process in enumerate(processes):
            try:
                waited[number] = Cpu.of(process.pid).waited_s
            except OSError:
                break
        time.sleep(LOOK_S)
    return max(waited) / (time.monotonic() - began)


def simulated(world: World, ideal_s: float) -> list[Seen]:
    """What the simulator says, each time with a line that is a millisecond longer: so far it differs from itself."""
    return [one("ours", replace(world, net_s=world.net_s + ms / 1000), ideal_s) for ms in range(SIMULATIONS)]


class Says(NamedTuple):
    """One world with its luck, and what the simulator says of it."""

    world: World
    ideal_s: float
    seen: list[Seen]

    @classmethod
    def of(cls, world: World) -> Self:
        ideal_s = ideal(world).wall_s
        return cls(world, ideal_s, simulated(world, ideal_s))


def lucks_of(seed: int, fewest: int) -> list[Says]:
    """A world's lucks: so many that their mean is known to half of what may lie between (`NEAR`), if that is possible.

    The standard error of a mean is the deviation over the root of the number.
    """
    lucks = [Says.of(small(seed, luck)) for luck in range(max(fewest, LOOKED_AT))]
    apart = 100 * stdev(mean(each.score for each in says.seen) for says in lucks)
    needed = min(MOST_LUCKS, max(fewest, math.ceil((2 * apart / NEAR) ** 2)))
    return lucks[:needed] + [Says.of(small(seed, luck)) for luck in range(len(lucks), needed)]


def met_by(client: str, says: Says, times: int) -> Met:
    """The same over HTTP; again where others had the CPU."""
    for _ in range(times):
        met = over_http(says.world, client, says.ideal_s)
        if met.waited < STARVED:
            break
    return met


def line(client: str, says: Sequence[Says], met: Sequence[Met]) -> tuple[str, float]:
    """One world: the simulator, HTTP, the points between."""
    world = says[0].world
    seen = [each for luck in says for each in luck.seen]
    simulated, real = [each.score for each in seen], [each.score for each in met]
    apart = 100 * (mean(real) - mean(simulated))
    disturbed = " others had the CPU" if any(each.waited >= STARVED for each in met) else ""
    text = (
        f"{world.seed} {client:14s} {world.rows:5d} {len(met):3d} {mean(luck.ideal_s for luck in says):6.1f} "
        f"{mean(simulated):6.3f} {min(simulated):6.3f}-{max(simulated):.3f} "
        f"{mean(real):6.3f} {min(real):6.3f}-{max(real):.3f} {apart:+6.1f} "
        f"{mean(each.rejected for each in seen):6.1%} {mean(each.rejected for each in met):6.1%} "
        f"{max(each.waited for each in met):4.0%}  {' '.join(world.features)}{disturbed}"
    )
    return text, apart


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.admission.drawn_http", description=__doc__)
    options.add_argument("first", type=int)
    options.add_argument("--worlds", type=int, default=20)
    options.add_argument("--client", choices=list(CLIENTS), default="BatchProcessor")
    options.add_argument(
        "--lucks", type=int, default=4, help="fewest runs of each world, each with a luck of its own"
    )
    options.add_argument(
        "--at-once", type=int, default=3, help="runs side by side: each needs little of a core"
    )
    options.add_argument("--times", type=int, default=2, help="of one that is disturbed")
    options.add_argument("--as-client", choices=list(CLIENTS), help=argparse.SUPPRESS)
    options.add_argument("--url", help=argparse.SUPPRESS)
    options.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.as_client:
        CLIENTS[given.as_client](given.url, small(given.first), given.folder)
        return
    print(
        "seed  client          rows met  ideal   sim.     from-to   HTTP     from-to  points rejected: sim., HTTP;"
        " waited for a core; features"
    )
    seeds = itertools.islice(filter(fits, itertools.count(given.first)), given.worlds)
    worlds = [lucks_of(seed, given.lucks) for seed in seeds]
    aparts = list[float]()
    with ThreadPoolExecutor(given.at_once) as pool:
        runs = [[pool.submit(met_by, given.client, says, given.times) for says in lucks] for lucks in worlds]
        for lucks, run in zip(worlds, runs, strict=True):
            text, apart = line(given.client, lucks, [each.result() for each in run])
            print(text, flush=True)
            aparts.append(apart)
    near = sum(abs(each) <= NEAR for each in aparts)
    print(
        f"within {NEAR:.0f} points of the simulations' mean: {near} of {len(aparts)}; "
        f"mean {mean(aparts):+.1f}, median {median(aparts):+.1f}"
    )


if __name__ == "__main__":
    main()
