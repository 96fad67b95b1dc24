"""The simulator's claims against real HTTP: `python -m bench.admission.http --help`, from the repository's root.

A server process enforces a scenario's limits in real time, a client process meets it without any knobs: the real
`ChatOpenAI` in a `BatchProcessor`, the document's `AdaptiveBatchProcessor`, and the command line. Beside what they
reach stands what the simulator says of the very same scenario, both over the simulator's oracle: one seed over HTTP,
several in the simulator. A run that others on the machine disturb is done again.

Timing matters. On a machine that has other work, `chrt -r 1 python -m bench.admission.http` lets these go first.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import TYPE_CHECKING, Final, NoReturn

from bench.admission.clients import CLIENTS
from bench.admission.driven import STARTS_S, Process, over_http
from bench.admission.scaled import BY_NAME, SCALED
from bench.admission.simulated import NEAR, SEEDS, simulated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.admission.scenarios import Scenario
    from bench.admission.simulated import Simulated

RUNS: Final = 3  # of one that is disturbed
SIMULATION_S: Final = 4.0  # of one scenario, about
HEAD: Final = (
    "scenario", "client", "http", "simulated", "from-to", "points", "rejected", "simulated", "peak", "cpu",
    "waited", "load", "",
)  # fmt: skip


def line(scenario: Scenario, client: str, seed: int, says: Simulated) -> tuple[str, ...]:
    """One client in one scenario, beside the simulator."""
    for _ in range(RUNS):
        found = over_http(scenario, client, seed)
        if not found.disturbed:
            break
    goodput = found.good / says.best[seed]
    verdict = "agrees" if says.agrees(goodput) else f"{says.away(goodput):+.1f} from all seeds"
    return (
        scenario.name, client, f"{goodput:.1%}", f"{says.goodput:.1%}",
        f"{100 * min(says.goodputs):.0f}-{100 * max(says.goodputs):.0f}",
        f"{100 * (goodput - says.goodput):+.1f}", f"{found.rejected / max(1, found.accepted):.2%}",
        f"{median(says.rejected):.2%}", str(found.peak), f"{found.cpu:.0%}", f"{found.waited:.0%}",
        f"{os.getloadavg()[0]:.1f}", ": ".join(filter(None, [found.flaw, verdict])),
    )  # fmt: skip


def show(cells: tuple[str, ...]) -> None:
    widths = (18, 22, 7, 9, 7, 6, 8, 9, 4, 4, 6, 4, 0)
    lefts = (0, 1, len(cells) - 1)
    print(
        " ".join(
            cell.ljust(width) if n in lefts else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip(),
        flush=True,
    )


def announce(names: Sequence[str], clients: Sequence[str], together: int) -> None:
    """What is done, and how long it takes."""
    cores = os.cpu_count() or 1
    runs_s = len(clients) * sum(BY_NAME[name].horizon_s + STARTS_S for name in names) / together
    takes_s = runs_s + len(names) * SIMULATION_S / cores
    print(
        f"{len(names)} scenarios, {len(clients)} clients, {together} at a time: about {takes_s / 60:.0f} minutes.\n"
        f"Goodput and rejected per accepted, over HTTP and in the simulator (the median of {SEEDS} seeds; from-to:\n"
        f"all of them); points between the two; the client's CPU, and how long it or the server waited for a core,\n"
        f"of one core; the machine's load. It agrees within {NEAR:.0f} points of what lies between the seeds.\n",
        flush=True,
    )


def end(*_: object) -> NoReturn:
    """The processes end with this one; the threads that wait for them know of no signal."""
    Process.end_all()
    sys.exit(1)


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.admission.http", description=__doc__)
    options.add_argument(
        "--scenario", action="append", choices=list(BY_NAME), help="only this one; may be repeated"
    )
    options.add_argument("--client", action="append", choices=list(CLIENTS), help="only this one; likewise")
    options.add_argument("--seed", type=int, default=0, choices=range(SEEDS))
    options.add_argument("--together", type=int, default=2, help="runs at a time; each takes half a core")
    given = options.parse_args()
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    names = given.scenario or [scenario.name for scenario in SCALED]
    clients = given.client or list(CLIENTS)
    announce(names, clients, given.together)
    says = simulated(names)
    show(HEAD)
    with ThreadPoolExecutor(given.together) as pool:
        jobs = [
            pool.submit(line, BY_NAME[name], client, given.seed, says[name])
            for name in names
            for client in clients
        ]
        for job in jobs:
            show(job.result())


if __name__ == "__main__":
    main()
